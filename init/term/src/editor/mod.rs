//! The line editor: a state and a key give the next state and an [`Outcome`].
//! It knows nothing of terminals, widths or time. The cursor always stands
//! between two grapheme clusters, so that what looks like one character moves
//! and goes as one.
//!
//! Text that was pasted is remembered as such: it never submits, never
//! completes, and a message that begins with it is never a command.

mod change;
mod complete;
mod kill;
mod motion;
mod recall;
mod send;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::slice::SliceIndex;

use super::history::History;
use super::keys::Key;
use super::limits::Limits;

const KILLS_MAX: usize = 16;
/// Where more ranges than these were pasted, all between the first and the last
/// counts as pasted.
const PASTED_MAX: usize = 256;

/// What a key did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing.
    None,
    /// Text, cursor or search changed: paint.
    Changed,
    /// The text was sent; the editor is empty.
    Submit(Submission),
    /// Ctrl-C on an empty line.
    Interrupted,
    /// Ctrl-C cleared the line.
    Cleared,
    /// Ctrl-D on an empty line.
    Eof,
    /// The key could do nothing.
    Bell,
    /// The text would have become longer than the line holds.
    Full {
        /// What was not taken.
        refused_bytes: usize,
    },
    /// Tab found several ways to go on; shown until the next key.
    Choices(Vec<String>),
}

/// A text that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// The message, without the marks of a `"""` block.
    pub text: String,
    /// Whether it is a message whatever it begins with: pasted, or a block.
    pub literal: bool,
    /// As it was edited, where that differs from `text`: for the history.
    pub typed: Option<String>,
}

/// What Tab can put in place of the text from `start` to the cursor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Completion {
    /// Where what is completed begins, in bytes.
    pub start: usize,
    /// Whole replacements; a trailing space belongs to them.
    pub candidates: Vec<String>,
}

/// Gives the completions of the text before the cursor.
pub(crate) type Completer<'a> = dyn Fn(&str) -> Completion + 'a;

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Edit {
    at: usize,
    removed: String,
    inserted: usize,
    cursor: usize,
    pasted: Vec<Range<usize>>,
}

impl Edit {
    /// The memory that it takes.
    fn bytes(&self) -> usize {
        let pasted = size_of_val(self.pasted.as_slice());
        size_of::<Self>()
            .saturating_add(self.removed.len())
            .saturating_add(pasted)
    }
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Search {
    query: String,
    found: Option<(usize, usize)>,
    failed: bool,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Cycle {
    start: usize,
    candidates: Vec<String>,
    chosen: Option<usize>,
}

/// A text, and which ranges of it were pasted: sorted, apart from one another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Passage {
    text: String,
    pasted: Vec<Range<usize>>,
}

impl Passage {
    fn new(text: &str, literal: bool) -> Self {
        let pasted = Some(0..text.len()).filter(|all| literal && !all.is_empty());
        Passage {
            text: text.to_owned(),
            pasted: pasted.into_iter().collect(),
        }
    }

    /// The memory that it takes.
    fn bytes(&self) -> usize {
        let pasted = size_of_val(self.pasted.as_slice());
        size_of::<Self>()
            .saturating_add(self.text.len())
            .saturating_add(pasted)
    }

    fn append(&mut self, other: &Passage) {
        let by = self.text.len();
        let moved = other.pasted.iter();
        let moved = moved.map(|r| r.start.saturating_add(by)..r.end.saturating_add(by));
        self.pasted.extend(moved);
        self.text.push_str(&other.text);
    }
}

/// The state of one edit line.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Editor {
    text: String,
    cursor: usize,
    /// The ranges of `text` that were pasted; sorted, apart from one another.
    pasted: Vec<Range<usize>>,
    limits: Limits,
    undo: VecDeque<Edit>,
    /// The memory that `undo` and `left` take.
    undo_bytes: usize,
    kills: VecDeque<Passage>,
    killing: bool,
    yanked: Option<(Range<usize>, usize)>,
    goal: Option<usize>,
    recalled: Option<usize>,
    /// Lines that were left for others with their edits, by where in the history
    /// they stand; the draft does not.
    left: BTreeMap<Option<usize>, Passage>,
    search: Option<Search>,
    cycle: Option<Cycle>,
    changed_from: Option<usize>,
}

impl Editor {
    /// An empty line that holds what `limits` say.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// The text as it stands.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The part of the text at `range`; nothing of what is not there.
    fn slice(&self, range: impl SliceIndex<str, Output = str>) -> &str {
        self.text.get(range).unwrap_or_default()
    }

    /// The cursor, in bytes.
    pub(crate) fn cursor(&self) -> usize {
        self.cursor
    }

    #[cfg(test)]
    pub(crate) fn pasted_ranges(&self) -> usize {
        self.pasted.len()
    }

    /// The first byte that changed since the last call.
    pub(crate) fn take_changed_from(&mut self) -> Option<usize> {
        self.changed_from.take()
    }

    /// The incremental search under way: its query, whether it failed, and the
    /// line it found with the cursor in it.
    pub(crate) fn search<'a>(&'a self, history: &'a History) -> Option<SearchView<'a>> {
        let search = self.search.as_ref()?;
        let found = search.found.and_then(|(index, at)| {
            let entry = history.get(index)?;
            Some((entry.text.as_str(), at))
        });
        let (text, cursor) = found.unwrap_or((&self.text, self.cursor));
        Some(SearchView {
            query: &search.query,
            failed: search.failed,
            text,
            cursor,
        })
    }

    /// Which completion stands in the text, of those that were offered.
    pub(crate) fn chosen(&self) -> Option<usize> {
        self.cycle.as_ref()?.chosen
    }

    /// Replaces the text, as for editing an earlier message. The cursor goes to
    /// its end.
    pub(crate) fn set_text(&mut self, text: &str, literal: bool) {
        self.set_passage(Passage::new(text, literal));
    }

    fn set_passage(&mut self, Passage { text, pasted }: Passage) {
        self.text = text;
        self.pasted = pasted;
        self.cursor = self.text.len();
        self.undo.clear();
        self.undo_bytes = self.left.values().map(Passage::bytes).sum();
        self.changed_from = Some(0);
        self.killing = false;
        self.yanked = None;
        self.goal = None;
        self.cycle = None;
    }

    /// The column that Up and Down in a row aim at.
    pub(crate) fn goal(&self) -> Option<usize> {
        self.goal
    }

    /// Moves the cursor to byte `at`, in a row above or below, which the caller
    /// has found. `goal` is the column that was aimed at.
    pub(crate) fn move_to_row(&mut self, at: usize, goal: usize) -> Outcome {
        self.killing = false;
        self.yanked = None;
        self.cycle = None;
        self.set_cursor(at);
        self.goal = Some(goal);
        Outcome::Changed
    }

    /// Takes one key.
    pub(crate) fn press(
        &mut self,
        key: Key,
        history: &History,
        completer: &Completer<'_>,
    ) -> Outcome {
        if self.search.is_some() {
            match self.press_in_search(&key, history) {
                Some(outcome) => return outcome,
                None => self.accept_search(history),
            }
        }
        let killing = std::mem::take(&mut self.killing);
        let yanked = self.yanked.take();
        self.goal = None;
        let cycle = self.cycle.take();
        match key {
            Key::Char(c) => self.insert(c.encode_utf8(&mut [0; 4]), false),
            Key::Newline => self.insert("\n", false),
            Key::Paste(text) => self.insert(&text, true),
            Key::Enter => self.enter(),
            Key::Tab => self.complete(cycle, true, completer),
            Key::BackTab => self.complete(cycle, false, completer),
            Key::Backspace => self.delete(self.before(self.cursor)..self.cursor),
            Key::Ctrl('d') if self.text.is_empty() => Outcome::Eof,
            Key::Delete | Key::Ctrl('d') => self.delete(self.cursor..self.after(self.cursor)),
            Key::Left | Key::Ctrl('b') => self.move_to(self.before(self.cursor)),
            Key::Right | Key::Ctrl('f') => self.move_to(self.after(self.cursor)),
            Key::WordLeft | Key::Alt('b') => self.move_to(self.word_left()),
            Key::WordRight | Key::Alt('f') => self.move_to(self.word_right()),
            Key::Home | Key::Ctrl('a') => self.move_to(self.line_start(self.cursor)),
            Key::End | Key::Ctrl('e') => self.move_to(self.line_end(self.cursor)),
            Key::TextStart | Key::Alt('<') => self.move_to(0),
            Key::TextEnd | Key::Alt('>') => self.move_to(self.text.len()),
            Key::Up | Key::PageUp | Key::Ctrl('p') => self.recall_before(history),
            Key::Down | Key::PageDown | Key::Ctrl('n') => self.recall_after(history),
            Key::Ctrl('r') => self.start_search(),
            Key::Ctrl('u') => self.kill(self.line_start(self.cursor)..self.cursor, killing),
            Key::Ctrl('k') => self.kill_line_end(killing),
            Key::Ctrl('w') => self.kill(self.blank_word_left()..self.cursor, killing),
            Key::EraseWord => self.kill(self.word_left()..self.cursor, killing),
            Key::DeleteWord | Key::Alt('d') => self.kill(self.cursor..self.word_right(), killing),
            Key::Ctrl('y') => self.yank(0),
            Key::Alt('y') => self.yank_older(yanked),
            Key::Ctrl('t') => self.transpose(),
            Key::Alt('u') => self.recase(str::to_uppercase),
            Key::Alt('l') => self.recase(str::to_lowercase),
            Key::Alt('c') => self.recase(change::capitalize),
            Key::Ctrl('_') => self.undo(),
            Key::Ctrl('c') => self.interrupt(),
            // Ctrl-S and Ctrl-Q do no harm; nor does what is unknown.
            _ => Outcome::None,
        }
    }
}

/// An incremental search as it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SearchView<'a> {
    /// What is looked for.
    pub query: &'a str,
    /// Whether nothing more was found.
    pub failed: bool,
    /// The line found last.
    pub text: &'a str,
    /// Where in it.
    pub cursor: usize,
}
