//! Earlier lines: Up and Down, with the draft kept, and incremental search.

use super::super::history::History;
use super::super::keys::Key;
use super::{Editor, Outcome, Passage, Search};

impl Editor {
    pub(super) fn recall_before(&mut self, history: &History) -> Outcome {
        let index = self.recalled.unwrap_or(history.len());
        if index == 0 {
            return Outcome::Bell;
        }
        self.recall(index.saturating_sub(1), history)
    }

    pub(super) fn recall_after(&mut self, history: &History) -> Outcome {
        match self.recalled {
            None => Outcome::Bell,
            Some(index) => self.recall(index.saturating_add(1), history),
        }
    }

    /// Goes to the line at `index`, beyond the last to the draft, as it was left.
    fn recall(&mut self, index: usize, history: &History) -> Outcome {
        self.leave(history);
        self.recalled = Some(index).filter(|index| *index < history.len());
        let left = self.left.remove(&self.recalled);
        let line = left.or_else(|| sent(history, index)).unwrap_or_default();
        self.set_passage(line);
        Outcome::Changed
    }

    /// Keeps the draft, or a line that was edited. Where that is too much the oldest
    /// line is forgotten, and the draft is not.
    fn leave(&mut self, history: &History) {
        let line = self.take_passage();
        let before = self.recalled.and_then(|index| sent(history, index));
        if before.is_none_or(|before| before != line) {
            self.left.insert(self.recalled, line);
        }
        let mut bytes: usize = self.left.values().map(Passage::bytes).sum();
        while bytes > self.limits.undo_bytes
            && let Some((&oldest, line)) = self.left.range(Some(0)..).next()
        {
            bytes = bytes.saturating_sub(line.bytes());
            self.left.remove(&oldest);
        }
    }

    pub(super) fn start_search(&mut self) -> Outcome {
        self.search = Some(Search {
            query: String::new(),
            found: None,
            failed: false,
        });
        Outcome::Changed
    }

    /// `None` ends the search and lets the key act on what was found.
    pub(super) fn press_in_search(&mut self, key: &Key, history: &History) -> Option<Outcome> {
        let search = self.search.as_mut()?;
        let here = search.found.map_or(history.len(), |(index, _)| index);
        let found = match key {
            Key::Char(c) => {
                search.query.push(*c);
                history.find_before(&search.query, here.saturating_add(1))
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
            Key::Ctrl('r' | 'p') | Key::Up => history.find_before(&search.query, here),
            Key::Ctrl('s' | 'n') | Key::Down => {
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
            Key::Ignored | Key::Ctrl('q') => return Some(Outcome::None),
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

    pub(super) fn accept_search(&mut self, history: &History) {
        let found = self.search.take().and_then(|search| search.found);
        if let Some((index, at)) = found {
            // As it was found, whatever has been edited in it.
            self.leave(history);
            self.recalled = Some(index);
            self.set_passage(sent(history, index).unwrap_or_default());
            self.set_cursor(at);
        }
    }
}

/// The line at `index` as it was sent.
fn sent(history: &History, index: usize) -> Option<Passage> {
    let entry = history.get(index)?;
    Some(Passage::new(&entry.text, entry.literal))
}
