//! What was sent before, for Up, Down and Ctrl-R. Kept in memory only: that of
//! earlier days comes from a session's disk, where there is one.

use std::collections::VecDeque;

const ENTRIES_MAX: usize = 1000;

/// One earlier line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As it was edited.
    pub text: String,
    /// Whether it was a message whatever it begins with (see
    /// [`super::editor::Submission`]).
    pub literal: bool,
}

/// Earlier lines, oldest first.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct History {
    entries: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
}

impl History {
    /// Nothing yet, and never more than `bytes_max` bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Adds a line, unless it is blank or the same as the newest.
    pub(crate) fn add(&mut self, text: &str, literal: bool) {
        let blank = text.trim().is_empty();
        let is_last = |last: &Entry| (last.text.as_str(), last.literal) == (text, literal);
        let same = self.entries.back().is_some_and(is_last);
        if blank || same || text.len() > self.bytes_max {
            return;
        }
        self.bytes = self.bytes.saturating_add(text.len());
        self.entries.push_back(Entry {
            text: text.to_owned(),
            literal,
        });
        while self.entries.len() > ENTRIES_MAX || self.bytes > self.bytes_max {
            if let Some(oldest) = self.entries.pop_front() {
                self.bytes = self.bytes.saturating_sub(oldest.text.len());
            }
        }
    }

    /// The number of lines.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The line at `index`, counted from the oldest.
    pub(crate) fn get(&self, index: usize) -> Option<&Entry> {
        self.entries.get(index)
    }

    /// The newest line before `end` that contains `needle`: its index and where.
    pub(crate) fn find_before(&self, needle: &str, end: usize) -> Option<(usize, usize)> {
        (0..end.min(self.len()))
            .rev()
            .find_map(|i| Some((i, self.entries.get(i)?.text.rfind(needle)?)))
    }

    /// The oldest line from `start` on that contains `needle`.
    pub(crate) fn find_from(&self, needle: &str, start: usize) -> Option<(usize, usize)> {
        (start..self.len()).find_map(|i| Some((i, self.entries.get(i)?.text.rfind(needle)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_and_skips_repeats_and_blanks() {
        let mut history = History::new(1 << 20);
        for line in ["one", "two", "two", " ", "one"] {
            history.add(line, false);
        }
        let lines: Vec<_> = (0..history.len())
            .map(|i| &history.entries[i].text)
            .collect();
        assert_eq!(lines, ["one", "two", "one"]);
        assert_eq!(history.find_before("one", 2), Some((0, 0)));
        assert_eq!(history.find_from("o", 1), Some((1, 2)));
    }

    #[test]
    fn a_command_and_the_same_text_as_a_message_are_two() {
        let mut history = History::new(1 << 20);
        for literal in [false, true, true, false] {
            history.add("/exit", literal);
        }
        let literal: Vec<_> = history.entries.iter().map(|line| line.literal).collect();
        assert_eq!(literal, [false, true, false]);
    }

    #[test]
    fn forgets_the_oldest() {
        let mut history = History::new(1 << 20);
        for i in 0..ENTRIES_MAX + 5 {
            history.add(&i.to_string(), false);
        }
        assert_eq!(history.len(), ENTRIES_MAX);
        assert_eq!(history.get(0).unwrap().text, "5");
    }
}
