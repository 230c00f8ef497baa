//! The line editor: a state and a key give the next state and an [`Outcome`].
//! It knows nothing of terminals, widths or time. The cursor always stands
//! between two grapheme clusters, so that what looks like one character moves
//! and goes as one.
//!
//! Text that was pasted is remembered as such: it never submits, never
//! completes, and a message that begins with it is never a command.

use std::collections::VecDeque;
use std::ops::Range;

use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation};

use super::history::History;
use super::keys::Key;

/// The longest text that can be edited: the longest paste, twice.
pub(crate) const TEXT_BYTES_MAX: usize = 16 << 20;

const UNDO_MAX: usize = 2000;
const KILLS_MAX: usize = 16;
const BLOCK: &str = "\"\"\"";

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
    /// Ctrl-L: paint everything anew.
    Redraw,
    /// The key could do nothing.
    Bell,
    /// Tab found several ways to go on; shown until the next key.
    Choices(Vec<String>),
}

/// A text that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Submission {
    /// The message, without the marks of a `"""` block.
    pub(crate) text: String,
    /// Whether it is a message whatever it begins with: pasted, or a block.
    pub(crate) literal: bool,
    /// As it was edited, where that differs from `text`: for the history.
    pub(crate) typed: Option<String>,
}

/// What Tab can put in place of the text from `start` to the cursor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Completion {
    /// Where what is completed begins, in bytes.
    pub(crate) start: usize,
    /// Whole replacements; a trailing space belongs to them.
    pub(crate) candidates: Vec<String>,
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

/// The state of one edit line.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Editor {
    text: String,
    cursor: usize,
    /// The ranges of `text` that were pasted; sorted, apart from one another.
    pasted: Vec<Range<usize>>,
    undo: VecDeque<Edit>,
    kills: VecDeque<String>,
    killing: bool,
    yanked: Option<(Range<usize>, usize)>,
    goal: Option<usize>,
    recalled: Option<usize>,
    draft: Option<(String, Vec<Range<usize>>)>,
    search: Option<Search>,
    cycle: Option<Cycle>,
    changed_from: Option<usize>,
}

impl Editor {
    /// The text as it stands.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The cursor, in bytes.
    pub(crate) fn cursor(&self) -> usize {
        self.cursor
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
        text.clone_into(&mut self.text);
        self.cursor = self.text.len();
        self.pasted.clear();
        if literal && !self.text.is_empty() {
            self.pasted.push(0..self.text.len());
        }
        self.undo.clear();
        self.changed_from = Some(0);
        self.killing = false;
        self.yanked = None;
        self.goal = None;
        self.cycle = None;
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
        let goal = self.goal.take();
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
            Key::Up | Key::Ctrl('p') => self.up(goal, history),
            Key::Down | Key::Ctrl('n') => self.down(goal, history),
            Key::PageUp => self.recall_before(history),
            Key::PageDown => self.recall_after(history),
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
            Key::Alt('c') => self.recase(capitalize),
            Key::Ctrl('_') => self.undo(),
            Key::Ctrl('c') => self.interrupt(),
            Key::Ctrl('l') => Outcome::Redraw,
            // Ctrl-Z, Ctrl-S and Ctrl-Q do no harm; nor does what is unknown.
            _ => Outcome::None,
        }
    }

    // Edits: everything that changes the text passes `replace`.

    fn replace(&mut self, range: Range<usize>, new: &str, is_paste: bool) -> Outcome {
        if range.is_empty() && new.is_empty() {
            return Outcome::Bell;
        }
        if self.text.len() - range.len() + new.len() > TEXT_BYTES_MAX {
            return Outcome::Bell;
        }
        self.remember(&range, new.len());
        self.text.replace_range(range.clone(), new);
        self.shift_pasted(&range, new.len(), is_paste);
        self.note_change(range.start);
        self.set_cursor(range.start + new.len());
        Outcome::Changed
    }

    fn remember(&mut self, range: &Range<usize>, inserted: usize) {
        if let Some(last) = self.undo.back_mut() {
            // Characters typed in a row are undone in one go, word by word.
            let joins = range.is_empty()
                && last.removed.is_empty()
                && inserted <= 4
                && last.inserted < 64
                && last.at + last.inserted == range.start
                && last.pasted == self.pasted
                && !self.text[..range.start].ends_with(char::is_whitespace);
            if joins {
                last.inserted += inserted;
                return;
            }
        }
        self.undo.push_back(Edit {
            at: range.start,
            removed: self.text[range.clone()].to_owned(),
            inserted,
            cursor: self.cursor,
            pasted: self.pasted.clone(),
        });
        if self.undo.len() > UNDO_MAX {
            self.undo.pop_front();
        }
    }

    fn undo(&mut self) -> Outcome {
        let Some(edit) = self.undo.pop_back() else {
            return Outcome::Bell;
        };
        self.text
            .replace_range(edit.at..edit.at + edit.inserted, &edit.removed);
        self.pasted = edit.pasted;
        self.note_change(edit.at);
        self.set_cursor(edit.cursor);
        Outcome::Changed
    }

    fn shift_pasted(&mut self, range: &Range<usize>, inserted: usize, is_paste: bool) {
        if self.pasted.is_empty() && !is_paste {
            return;
        }
        let mut shifted: Vec<Range<usize>> = Vec::with_capacity(self.pasted.len() + 2);
        for old in &self.pasted {
            let left = old.start..old.end.min(range.start);
            let right = old.start.max(range.end)..old.end;
            if left.start < left.end {
                shifted.push(left);
            }
            if right.start < right.end {
                let by = |at: usize| at - range.len() + inserted;
                shifted.push(by(right.start)..by(right.end));
            }
        }
        if is_paste && inserted > 0 {
            shifted.push(range.start..range.start + inserted);
            shifted.sort_by_key(|r| r.start);
        }
        self.pasted.clear();
        for next in shifted {
            match self.pasted.last_mut() {
                Some(last) if last.end >= next.start && is_paste => last.end = next.end,
                _ => self.pasted.push(next),
            }
        }
    }

    fn note_change(&mut self, at: usize) {
        self.changed_from = Some(self.changed_from.map_or(at, |from| from.min(at)));
    }

    fn insert(&mut self, new: &str, is_paste: bool) -> Outcome {
        self.replace(self.cursor..self.cursor, new, is_paste)
    }

    fn delete(&mut self, range: Range<usize>) -> Outcome {
        self.replace(range, "", false)
    }

    fn transpose(&mut self) -> Outcome {
        let middle = if self.cursor == self.line_end(self.cursor) {
            self.before(self.cursor)
        } else {
            self.cursor
        };
        let (start, end) = (self.before(middle), self.after(middle));
        if start < self.line_start(self.cursor) || start == middle || middle == end {
            return Outcome::Bell;
        }
        let swapped = [&self.text[middle..end], &self.text[start..middle]].concat();
        self.replace(start..end, &swapped, false)
    }

    fn recase(&mut self, case: impl Fn(&str) -> String) -> Outcome {
        let range = self.cursor..self.word_right();
        let new = case(&self.text[range.clone()]);
        self.replace(range, &new, false)
    }

    // Kills.

    fn kill(&mut self, range: Range<usize>, joins: bool) -> Outcome {
        if range.is_empty() {
            return Outcome::Bell;
        }
        let killed = self.text[range.clone()].to_owned();
        match self.kills.front_mut() {
            Some(last) if joins && range.start < self.cursor => last.insert_str(0, &killed),
            Some(last) if joins => last.push_str(&killed),
            _ => self.keep_kill(killed),
        }
        let outcome = self.delete(range);
        self.killing = true;
        outcome
    }

    fn keep_kill(&mut self, killed: String) {
        self.kills.push_front(killed);
        self.kills.truncate(KILLS_MAX);
    }

    fn kill_line_end(&mut self, joins: bool) -> Outcome {
        let end = self.line_end(self.cursor);
        let end = if end == self.cursor {
            self.after(end)
        } else {
            end
        };
        self.kill(self.cursor..end, joins)
    }

    fn yank(&mut self, index: usize) -> Outcome {
        let Some(kill) = self.kills.get(index).cloned() else {
            return Outcome::Bell;
        };
        let start = self.cursor;
        let outcome = self.insert(&kill, false);
        self.yanked = Some((start..start + kill.len(), index));
        outcome
    }

    fn yank_older(&mut self, yanked: Option<(Range<usize>, usize)>) -> Outcome {
        let Some((range, index)) = yanked else {
            return Outcome::Bell;
        };
        let index = (index + 1) % self.kills.len().max(1);
        let Some(kill) = self.kills.get(index).cloned() else {
            return Outcome::Bell;
        };
        let start = range.start;
        let outcome = self.replace(range, &kill, false);
        self.yanked = Some((start..start + kill.len(), index));
        outcome
    }

    // Movement.

    fn move_to(&mut self, at: usize) -> Outcome {
        if at == self.cursor {
            return Outcome::Bell;
        }
        self.cursor = at;
        Outcome::Changed
    }

    /// Sets the cursor, forward to the end of the cluster if it is inside one.
    fn set_cursor(&mut self, at: usize) {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at += 1;
        }
        let inside = !matches!(
            GraphemeCursor::new(at, self.text.len(), true).is_boundary(&self.text, 0),
            Ok(true)
        );
        self.cursor = if inside {
            next_boundary(&self.text, at)
        } else {
            at
        };
    }

    fn before(&self, at: usize) -> usize {
        match GraphemeCursor::new(at, self.text.len(), true).prev_boundary(&self.text, 0) {
            Ok(Some(before)) => before,
            _ => 0,
        }
    }

    fn after(&self, at: usize) -> usize {
        next_boundary(&self.text, at)
    }

    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |i| i + 1)
    }

    fn line_end(&self, at: usize) -> usize {
        let end = self.text[at..]
            .find('\n')
            .map_or(self.text.len(), |i| at + i);
        // CR LF is one cluster: the cursor cannot stand inside it.
        if end > at && end < self.text.len() && self.text[..end].ends_with('\r') {
            end - 1
        } else {
            end
        }
    }

    fn word_left(&self) -> usize {
        let before = self.text[..self.cursor].graphemes(true).rev();
        let mut at = self.cursor;
        let mut in_word = false;
        for cluster in before {
            match (is_word(cluster), in_word) {
                (false, true) => break,
                (word, _) => in_word |= word,
            }
            at -= cluster.len();
        }
        at
    }

    fn word_right(&self) -> usize {
        let mut at = self.cursor;
        let mut in_word = false;
        for cluster in self.text[self.cursor..].graphemes(true) {
            match (is_word(cluster), in_word) {
                (false, true) => break,
                (word, _) => in_word |= word,
            }
            at += cluster.len();
        }
        at
    }

    fn blank_word_left(&self) -> usize {
        let before = &self.text[..self.cursor];
        let word = before.trim_end_matches(char::is_whitespace);
        let start = word
            .char_indices()
            .rev()
            .find(|(_, c)| c.is_whitespace())
            .map_or(0, |(i, c)| i + c.len_utf8());
        // A mark that combines with a space stays with it.
        match GraphemeCursor::new(start, self.text.len(), true).is_boundary(&self.text, 0) {
            Ok(true) => start,
            _ => self.before(start),
        }
    }

    fn up(&mut self, goal: Option<usize>, history: &History) -> Outcome {
        let start = self.line_start(self.cursor);
        if start == 0 {
            return self.recall_before(history);
        }
        let goal = goal.unwrap_or_else(|| self.text[start..self.cursor].graphemes(true).count());
        self.goal = Some(goal);
        self.cursor = self.at_column(self.line_start(start - 1), goal);
        Outcome::Changed
    }

    fn down(&mut self, goal: Option<usize>, history: &History) -> Outcome {
        let Some(end) = self.text[self.cursor..].find('\n') else {
            return self.recall_after(history);
        };
        let next = self.cursor + end + 1;
        let goal = goal.unwrap_or_else(|| {
            let start = self.line_start(self.cursor);
            self.text[start..self.cursor].graphemes(true).count()
        });
        self.goal = Some(goal);
        self.cursor = self.at_column(next, goal);
        Outcome::Changed
    }

    fn at_column(&self, line_start: usize, column: usize) -> usize {
        let line = &self.text[line_start..self.line_end(line_start)];
        line.grapheme_indices(true)
            .nth(column)
            .map_or(line_start + line.len(), |(i, _)| line_start + i)
    }

    // History.

    fn recall_before(&mut self, history: &History) -> Outcome {
        let index = self.recalled.unwrap_or(history.len());
        if index == 0 {
            return Outcome::Bell;
        }
        self.recall(index - 1, history)
    }

    fn recall_after(&mut self, history: &History) -> Outcome {
        match self.recalled {
            None => Outcome::Bell,
            Some(index) => self.recall(index + 1, history),
        }
    }

    fn recall(&mut self, index: usize, history: &History) -> Outcome {
        if self.recalled.is_none() {
            self.draft = Some((self.text.clone(), self.pasted.clone()));
        }
        if let Some(entry) = history.get(index) {
            self.set_text(&entry.text, entry.literal);
            self.recalled = Some(index);
        } else {
            let (text, pasted) = self.draft.take().unwrap_or_default();
            self.set_text(&text, false);
            self.pasted = pasted;
            self.recalled = None;
        }
        Outcome::Changed
    }

    fn start_search(&mut self) -> Outcome {
        self.search = Some(Search {
            query: String::new(),
            found: None,
            failed: false,
        });
        Outcome::Changed
    }

    /// `None` ends the search and lets the key act on what was found.
    fn press_in_search(&mut self, key: &Key, history: &History) -> Option<Outcome> {
        let search = self.search.as_mut()?;
        let here = search.found.map_or(history.len(), |(index, _)| index);
        let found = match key {
            Key::Char(c) => {
                search.query.push(*c);
                history.find_before(&search.query, here + 1)
            }
            Key::Backspace => {
                search.query.pop();
                if search.query.is_empty() {
                    search.found = None;
                    search.failed = false;
                    return Some(Outcome::Changed);
                }
                history.find_before(&search.query, history.len())
            }
            Key::Ctrl('r') | Key::Up | Key::Ctrl('p') => history.find_before(&search.query, here),
            Key::Ctrl('s') | Key::Down | Key::Ctrl('n') => {
                history.find_from(&search.query, here.saturating_add(1))
            }
            Key::Ctrl('c' | 'g') => {
                self.search = None;
                return Some(Outcome::Changed);
            }
            Key::Esc => {
                self.accept_search(history);
                return Some(Outcome::Changed);
            }
            Key::Ignored | Key::Ctrl('q' | 'z') => return Some(Outcome::None),
            _ => return None,
        };
        search.failed = found.is_none() && !search.query.is_empty();
        if found.is_some() && !search.query.is_empty() {
            search.found = found;
        }
        Some(if search.failed {
            Outcome::Bell
        } else {
            Outcome::Changed
        })
    }

    fn accept_search(&mut self, history: &History) {
        let found = self.search.take().and_then(|search| search.found);
        if let Some((index, at)) = found {
            self.recall(index, history);
            self.set_cursor(at);
        }
    }

    // Completion.

    fn complete(
        &mut self,
        cycle: Option<Cycle>,
        forward: bool,
        completer: &Completer<'_>,
    ) -> Outcome {
        if let Some(mut cycle) = cycle {
            let count = cycle.candidates.len();
            let chosen = match (cycle.chosen, forward) {
                (None, true) => 0,
                (None, false) => count - 1,
                (Some(i), true) => (i + 1) % count,
                (Some(i), false) => (i + count - 1) % count,
            };
            cycle.chosen = Some(chosen);
            let candidate = cycle.candidates[chosen].clone();
            let choices = cycle.candidates.clone();
            self.replace(cycle.start..self.cursor, &candidate, false);
            self.cycle = Some(cycle);
            return Outcome::Choices(choices);
        }
        if !forward || self.is_pasted(0) {
            return Outcome::Bell;
        }
        let Completion { start, candidates } = completer(&self.text[..self.cursor]);
        if start > self.cursor || !self.text.is_char_boundary(start) {
            return Outcome::Bell;
        }
        match candidates.as_slice() {
            [] => Outcome::Bell,
            [only] => {
                let only = only.clone();
                self.replace(start..self.cursor, &only, false)
            }
            _ => {
                let common = common_prefix(&candidates);
                if common.len() > self.cursor - start {
                    let common = common.to_owned();
                    self.replace(start..self.cursor, &common, false);
                }
                self.cycle = Some(Cycle {
                    start,
                    candidates: candidates.clone(),
                    chosen: None,
                });
                Outcome::Choices(candidates)
            }
        }
    }

    // Sending.

    fn is_pasted(&self, at: usize) -> bool {
        self.pasted.iter().any(|range| range.contains(&at))
    }

    fn interrupt(&mut self) -> Outcome {
        if self.text.is_empty() {
            return Outcome::Interrupted;
        }
        let text = std::mem::take(&mut self.text);
        self.keep_kill(text);
        self.clear();
        Outcome::Cleared
    }

    fn clear(&mut self) {
        self.set_text("", false);
        self.recalled = None;
        self.draft = None;
    }

    fn enter(&mut self) -> Outcome {
        let end = self.text.len();
        if self.text.trim().is_empty() {
            return Outcome::None;
        }
        match self.block() {
            Block::Open => return self.insert("\n", false),
            Block::Closed(inner) => {
                let text = trim_block(&self.text[inner]).to_owned();
                let typed = Some(std::mem::take(&mut self.text));
                self.clear();
                return Outcome::Submit(Submission {
                    text,
                    literal: true,
                    typed,
                });
            }
            Block::None => {}
        }
        let slashes = end - self.text.trim_end_matches('\\').len();
        if slashes % 2 == 1 && !self.is_pasted(end - 1) {
            return self.replace(end - 1..end, "\n", false);
        }
        let first = self.text.find(|c: char| !c.is_whitespace()).unwrap_or(0);
        let literal = self.is_pasted(first);
        let text = std::mem::take(&mut self.text);
        self.clear();
        Outcome::Submit(Submission {
            text,
            literal,
            typed: None,
        })
    }

    fn block(&self) -> Block {
        let start = self.text.len() - self.text.trim_start().len();
        let end = self.text.trim_end().len();
        if !self.text[start..].starts_with(BLOCK) || self.is_pasted(start) {
            return Block::None;
        }
        let inner = start + BLOCK.len()..end.saturating_sub(BLOCK.len());
        let closed = inner.start <= inner.end
            && self.text[..end].ends_with(BLOCK)
            && !self.is_pasted(end - 1);
        if closed {
            Block::Closed(inner)
        } else {
            Block::Open
        }
    }
}

/// An incremental search as it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SearchView<'a> {
    /// What is looked for.
    pub(crate) query: &'a str,
    /// Whether nothing more was found.
    pub(crate) failed: bool,
    /// The line found last.
    pub(crate) text: &'a str,
    /// Where in it.
    pub(crate) cursor: usize,
}

enum Block {
    None,
    Open,
    Closed(Range<usize>),
}

fn trim_block(inner: &str) -> &str {
    let inner = inner.strip_prefix('\n').unwrap_or(inner);
    inner.strip_suffix('\n').unwrap_or(inner)
}

fn next_boundary(text: &str, at: usize) -> usize {
    match GraphemeCursor::new(at, text.len(), true).next_boundary(text, 0) {
        Ok(Some(after)) => after,
        _ => text.len(),
    }
}

fn is_word(cluster: &str) -> bool {
    cluster.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

fn capitalize(text: &str) -> String {
    let mut first = true;
    text.chars()
        .flat_map(|c| {
            let upper = first && c.is_alphanumeric();
            first &= !upper;
            let cased: Vec<char> = if upper {
                c.to_uppercase().collect()
            } else {
                c.to_lowercase().collect()
            };
            cased
        })
        .collect()
}

fn common_prefix(candidates: &[String]) -> &str {
    let Some((first, rest)) = candidates.split_first() else {
        return "";
    };
    let mut length = first.len();
    for other in rest {
        let same = first
            .char_indices()
            .zip(other.chars())
            .find(|((_, a), b)| a != b)
            .map_or(first.len().min(other.len()), |((i, _), _)| i);
        length = length.min(same);
    }
    &first[..length]
}
