//! What changes the text. Everything passes [`Editor::replace`], so that undo,
//! the pasted ranges and the layout hear of it.

use std::ops::Range;

use super::{Edit, Editor, Outcome, PASTED_MAX, Passage};

impl Editor {
    pub(super) fn replace(&mut self, range: Range<usize>, new: &str, is_paste: bool) -> Outcome {
        let is_nothing = range.is_empty() && new.is_empty();
        if is_nothing || self.text.get(range.clone()).is_none() {
            return Outcome::Bell;
        }
        let kept = self.text.len().saturating_sub(range.len());
        if kept.saturating_add(new.len()) > self.limits.text_bytes {
            return Outcome::Full {
                refused_bytes: new.len(),
            };
        }
        self.remember(&range, new.len());
        self.text.replace_range(range.clone(), new);
        self.shift_pasted(&range, new.len(), is_paste);
        self.note_change(range.start);
        self.set_cursor(range.start.saturating_add(new.len()));
        Outcome::Changed
    }

    pub(super) fn remember(&mut self, range: &Range<usize>, inserted: usize) {
        let follows_blank = self.slice(..range.start).ends_with(char::is_whitespace);
        if let Some(last) = self.undo.back_mut() {
            // Characters typed in a row are undone in one go, word by word.
            let joins = range.is_empty()
                && last.removed.is_empty()
                && inserted <= 4
                && last.inserted < 64
                && last.at.saturating_add(last.inserted) == range.start
                && last.pasted == self.pasted
                && !follows_blank;
            if joins {
                last.inserted = last.inserted.saturating_add(inserted);
                return;
            }
        }
        let edit = Edit {
            at: range.start,
            removed: self.slice(range.clone()).to_owned(),
            inserted,
            cursor: self.cursor,
            pasted: self.pasted.clone(),
        };
        self.undo_bytes = self.undo_bytes.saturating_add(edit.bytes());
        self.undo.push_back(edit);
        while self.undo_bytes > self.limits.undo_bytes {
            let Some(oldest) = self.undo.pop_front() else {
                return;
            };
            self.undo_bytes = self.undo_bytes.saturating_sub(oldest.bytes());
        }
    }

    pub(super) fn undo(&mut self) -> Outcome {
        let Some(edit) = self.undo.pop_back() else {
            return Outcome::Bell;
        };
        self.undo_bytes = self.undo_bytes.saturating_sub(edit.bytes());
        let range = edit.at..edit.at.saturating_add(edit.inserted);
        if self.text.get(range.clone()).is_none() {
            return Outcome::Bell;
        }
        self.text.replace_range(range, &edit.removed);
        self.pasted = edit.pasted;
        self.note_change(edit.at);
        self.set_cursor(edit.cursor);
        Outcome::Changed
    }

    pub(super) fn shift_pasted(&mut self, range: &Range<usize>, inserted: usize, is_paste: bool) {
        if self.pasted.is_empty() && !is_paste {
            return;
        }
        let mut shifted: Vec<Range<usize>> =
            Vec::with_capacity(self.pasted.len().saturating_add(2));
        for old in &self.pasted {
            let left = old.start..old.end.min(range.start);
            let right = old.start.max(range.end)..old.end;
            if left.start < left.end {
                shifted.push(left);
            }
            if right.start < right.end {
                let by = |at: usize| at.saturating_sub(range.len()).saturating_add(inserted);
                shifted.push(by(right.start)..by(right.end));
            }
        }
        if is_paste && inserted > 0 {
            shifted.push(range.start..range.start.saturating_add(inserted));
            shifted.sort_by_key(|r| r.start);
        }
        self.pasted.clear();
        for next in shifted {
            match self.pasted.last_mut() {
                Some(last) if last.end >= next.start && is_paste => last.end = next.end,
                _ => self.pasted.push(next),
            }
        }
        if let [first, .., last] = self.pasted.as_slice()
            && self.pasted.len() > PASTED_MAX
        {
            let all = first.start..last.end;
            self.pasted.clear();
            self.pasted.push(all);
        }
    }

    /// What stands at `range`.
    pub(super) fn passage(&self, range: &Range<usize>) -> Passage {
        let by = |at: usize| at.clamp(range.start, range.end).saturating_sub(range.start);
        let pasted = self.pasted.iter().map(|r| by(r.start)..by(r.end));
        Passage {
            text: self.slice(range.clone()).to_owned(),
            pasted: pasted.filter(|r| !r.is_empty()).collect(),
        }
    }

    /// All of the text, which is to be set then.
    pub(super) fn take_passage(&mut self) -> Passage {
        Passage {
            text: std::mem::take(&mut self.text),
            pasted: std::mem::take(&mut self.pasted),
        }
    }

    /// Whether any of `range` was pasted.
    fn has_pasted(&self, range: &Range<usize>) -> bool {
        let mut pasted = self.pasted.iter();
        pasted.any(|r| r.start < range.end && range.start < r.end)
    }

    pub(super) fn note_change(&mut self, at: usize) {
        self.changed_from = Some(self.changed_from.map_or(at, |from| from.min(at)));
    }

    pub(super) fn insert(&mut self, new: &str, is_paste: bool) -> Outcome {
        self.replace(self.cursor..self.cursor, new, is_paste)
    }

    pub(super) fn delete(&mut self, range: Range<usize>) -> Outcome {
        self.replace(range, "", false)
    }

    pub(super) fn transpose(&mut self) -> Outcome {
        let middle = if self.cursor == self.line_end(self.cursor) {
            self.before(self.cursor)
        } else {
            self.cursor
        };
        let (start, end) = (self.before(middle), self.after(middle));
        if start < self.line_start(self.cursor) || start == middle || middle == end {
            return Outcome::Bell;
        }
        let swapped = [self.slice(middle..end), self.slice(start..middle)].concat();
        let is_paste = self.has_pasted(&(start..end));
        self.replace(start..end, &swapped, is_paste)
    }

    pub(super) fn recase(&mut self, case: impl Fn(&str) -> String) -> Outcome {
        let range = self.cursor..self.word_right();
        let new = case(self.slice(range.clone()));
        let is_paste = self.has_pasted(&range);
        self.replace(range, &new, is_paste)
    }
}

pub(super) fn capitalize(text: &str) -> String {
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
