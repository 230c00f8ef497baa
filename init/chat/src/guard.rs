//! Text that people and models wrote can never become a control token.
//!
//! A chat template joins its own control tokens and other people's text into
//! one string, which the tokenizer then has to take apart again. So that it
//! takes apart only what the template wrote, every character of a message
//! with which a control token could begin or end is replaced, one for one, by
//! a stand-in from private use plane 16 before rendering. Whatever the
//! template does to the text (trim, split, slice, reverse, join), a stand-in
//! stays one and no control token contains one. After rendering, control
//! tokens are searched for among the stand-ins, and only then are these turned
//! back.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Distance from a UTF-16 code unit to its stand-in.
const PLANE_16: u32 = 0x10_0000;
/// Where the text being typed ends; see [`super::Next::Typing`].
pub(super) const CURSOR: char = '\u{FDD1}';

/// A token that the tokenizer finds by its text before anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Its exact text, as in the vocabulary.
    pub text: String,
    /// Type control or unknown; else user-defined, which llama.cpp finds even
    /// when it is told not to parse special tokens.
    pub control: bool,
    /// White space before it belongs to it.
    pub lstrip: bool,
    /// White space after it belongs to it.
    pub rstrip: bool,
}

/// A piece of a rendered conversation, for the tokenizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Exactly one token: the one with this text.
    Control(String),
    /// Text without control tokens, whatever it looks like. Two in a row must
    /// be tokenized apart.
    Plain(String),
}

/// Knows the marks of a vocabulary and keeps messages' text clear of them.
#[derive(Debug)]
pub(super) struct Guard {
    /// Longest first, as llama.cpp looks for them.
    marks: Vec<Mark>,
    /// Indices into `marks` by first byte, longest first.
    by_first_byte: HashMap<u8, Vec<usize>>,
    /// Characters that get a stand-in wherever they are.
    edges: Vec<char>,
    /// Texts of marks without such a character: only a whole occurrence gets one.
    words: Vec<String>,
    /// Texts of the marks that are not of type control.
    found_anyway: Vec<String>,
}

impl Guard {
    /// A guard against `marks`; those without text are ignored.
    pub(super) fn new(mut marks: Vec<Mark>) -> Self {
        marks.retain(|mark| !mark.text.is_empty());
        // Stable: equal lengths stay in the vocabulary's order.
        marks.sort_by_key(|mark| std::cmp::Reverse(mark.text.len()));
        marks.dedup_by(|a, b| a.text == b.text);
        let mut by_first_byte: HashMap<u8, Vec<usize>> = HashMap::new();
        let mut edges = Vec::new();
        let mut words = Vec::new();
        for (index, mark) in marks.iter().enumerate() {
            let first = mark.text.bytes().next().unwrap_or_default();
            by_first_byte.entry(first).or_default().push(index);
            let mut symbols = mark.text.chars().filter(|&c| is_edge(c));
            if let Some(first) = symbols.next() {
                edges.push(first);
                edges.extend(symbols.next_back());
            } else {
                words.push(mark.text.clone());
            }
        }
        edges.sort_unstable();
        edges.dedup();
        let found_anyway = marks.iter().filter(|mark| !mark.control);
        let found_anyway = found_anyway.map(|mark| mark.text.clone()).collect();
        Self {
            marks,
            by_first_byte,
            edges,
            words,
            found_anyway,
        }
    }

    /// The marks, longest first.
    pub(super) fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// `text` with stand-ins: contains no mark, and forms none with what a
    /// template puts before or after it.
    pub(super) fn protect(&self, text: &str) -> String {
        let starts = self.word_starts(text);
        let mut out = String::with_capacity(text.len().saturating_add(16));
        for (position, c) in text.char_indices() {
            let reserved = u32::from(c) >= PLANE_16 || c == CURSOR;
            if reserved || self.edges.binary_search(&c).is_ok() || starts.contains(&position) {
                out.extend(stand_in(c));
            } else {
                out.push(c);
            }
        }
        out
    }

    /// Where `text` holds a mark that has no edge to be known by.
    fn word_starts(&self, text: &str) -> BTreeSet<usize> {
        let mut starts = BTreeSet::new();
        for word in &self.words {
            let mut rest = text;
            while let Some(at) = rest.find(word.as_str()) {
                let found = rest.get(at..).unwrap_or_default();
                starts.insert(text.len().saturating_sub(found.len()));
                // Occurrences may overlap: go on after the first character.
                let mut chars = found.chars();
                chars.next();
                rest = chars.as_str();
            }
        }
        starts
    }

    /// Takes a rendered string apart: the marks that the template wrote, and
    /// the text between, without stand-ins. As `tokenizer_st_partition` of
    /// llama.cpp: longest marks first, each from left to right.
    pub(super) fn segments(&self, rendered: &str) -> Vec<Segment> {
        let mut segments = Vec::new();
        let mut from = 0_usize;
        let mut rstrip = false;
        for (start, index) in self.find_marks(rendered) {
            let Some(mark) = self.marks.get(index) else {
                continue;
            };
            let mut plain = rendered.get(from..start).unwrap_or_default();
            if rstrip {
                plain = plain.trim_start_matches(is_c_space);
            }
            if mark.lstrip {
                plain = plain.trim_end_matches(is_c_space);
            }
            self.push_plain(&mut segments, plain);
            segments.push(Segment::Control(mark.text.clone()));
            from = start.saturating_add(mark.text.len());
            rstrip = mark.rstrip;
        }
        let mut plain = rendered.get(from..).unwrap_or_default();
        if rstrip {
            plain = plain.trim_start_matches(is_c_space);
        }
        self.push_plain(&mut segments, plain);
        segments
    }

    /// Where which mark stands, from left to right, none overlapping.
    fn find_marks(&self, rendered: &str) -> Vec<(usize, usize)> {
        let bytes = rendered.as_bytes();
        let mut found = Vec::new();
        for (position, byte) in bytes.iter().enumerate() {
            let rest = bytes.get(position..).unwrap_or_default();
            for &index in self.by_first_byte.get(byte).into_iter().flatten() {
                let mark = self.marks.get(index);
                if mark.is_some_and(|mark| rest.starts_with(mark.text.as_bytes())) {
                    found.push((index, position));
                }
            }
        }
        // `marks` is sorted by length: the longest mark first, leftmost first.
        found.sort_unstable();
        let mut taken = BTreeMap::new();
        for (index, start) in found {
            let length = self.marks.get(index).map_or(0, |mark| mark.text.len());
            let end = start.saturating_add(length);
            let before = taken.range(..end).next_back();
            if before.is_none_or(|(_, &(_, before_end))| before_end <= start) {
                taken.insert(start, (index, end));
            }
        }
        taken
            .into_iter()
            .map(|(start, (index, _))| (start, index))
            .collect()
    }

    /// Adds `text` without stand-ins, cut inside whatever looks like a mark
    /// that llama.cpp would find although it is told not to.
    fn push_plain(&self, segments: &mut Vec<Segment>, text: &str) {
        let text = restore(text);
        let mut begun = String::new();
        for (position, c) in text.char_indices() {
            let rest = text.get(position..).unwrap_or_default();
            begun.push(c);
            if rest.len() > c.len_utf8() && self.is_found_anyway(rest) {
                segments.push(Segment::Plain(std::mem::take(&mut begun)));
            }
        }
        if !begun.is_empty() {
            segments.push(Segment::Plain(begun));
        }
    }

    /// Whether `text` begins with a user-defined mark.
    fn is_found_anyway(&self, text: &str) -> bool {
        self.found_anyway.iter().any(|mark| text.starts_with(mark))
    }
}

/// A rendered conversation: what the template wrote and, kept apart from it,
/// what it took from the messages.
#[derive(Debug)]
pub struct Rendered<'a> {
    guard: &'a Guard,
    guarded: String,
}

impl<'a> Rendered<'a> {
    /// What a template made of messages that `guard` protected.
    pub(super) fn new(guard: &'a Guard, guarded: String) -> Self {
        Self { guard, guarded }
    }

    /// The text as the model sees it.
    #[must_use]
    pub fn text(&self) -> String {
        restore(&self.guarded)
    }

    /// Whether the messages held anything that might be taken for part of a
    /// control token. If not, [`Rendered::text`] can be tokenized in one go,
    /// control tokens parsed, and gives the same tokens as the segments.
    #[must_use]
    pub fn has_guards(&self) -> bool {
        self.guarded.chars().any(|c| u32::from(c) >= PLANE_16)
    }

    /// The text for the tokenizer, in order. White space that belongs to a
    /// control token is left out.
    #[must_use]
    pub fn segments(&self) -> Vec<Segment> {
        self.guard.segments(&self.guarded)
    }

    /// The text with stand-ins in it.
    pub(super) fn guarded(&self) -> &str {
        &self.guarded
    }
}

/// Whether a mark is known by `c`, wherever it stands: letters, digits and
/// white space are too common and mean something to templates.
fn is_edge(c: char) -> bool {
    !c.is_alphanumeric() && !c.is_whitespace()
}

/// White space as C's `isspace` has it, which llama.cpp uses here.
fn is_c_space(c: char) -> bool {
    matches!(c, '\t'..='\r' | ' ')
}

/// The stand-ins of `c`: its UTF-16 code units, moved to plane 16. Characters
/// of the basic plane have one; surrogates stand for nothing else there.
fn stand_in(c: char) -> impl Iterator<Item = char> {
    let mut units = [0; 2];
    let length = c.encode_utf16(&mut units).len();
    units
        .into_iter()
        .take(length)
        .filter_map(|unit| char::from_u32(PLANE_16 + u32::from(unit)))
}

/// Turns stand-ins back. Those that a template tore apart become U+FFFD.
pub(super) fn restore(guarded: &str) -> String {
    let mut units: Vec<u16> = Vec::new();
    let mut out = String::with_capacity(guarded.len());
    let flush = |units: &mut Vec<u16>, out: &mut String| {
        let restored = char::decode_utf16(units.drain(..));
        out.extend(restored.map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)));
    };
    for c in guarded.chars() {
        if let Some(Ok(unit)) = u32::from(c).checked_sub(PLANE_16).map(u16::try_from) {
            units.push(unit);
        } else {
            flush(&mut units, &mut out);
            out.push(c);
        }
    }
    flush(&mut units, &mut out);
    out
}

#[cfg(test)]
mod tests;
