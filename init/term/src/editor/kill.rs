//! Kills and yanks, as in Emacs: kills in a row become one.

use std::ops::Range;

use super::{Editor, KILLS_MAX, Outcome, Passage};

impl Editor {
    pub(super) fn kill(&mut self, range: Range<usize>, joins: bool) -> Outcome {
        if range.is_empty() {
            return Outcome::Bell;
        }
        let killed = self.passage(&range);
        let last = if joins { self.kills.pop_front() } else { None };
        let last = last.unwrap_or_default();
        let (mut first, second) = if range.start < self.cursor {
            (killed, last)
        } else {
            (last, killed)
        };
        first.append(&second);
        self.keep_kill(first);
        let outcome = self.delete(range);
        self.killing = true;
        outcome
    }

    pub(super) fn keep_kill(&mut self, killed: Passage) {
        self.kills.push_front(killed);
        self.kills.truncate(KILLS_MAX);
        let mut bytes: usize = self.kills.iter().map(|kill| kill.text.len()).sum();
        // The newest is kept whatever its size: it is a part of the line.
        while bytes > self.limits.kill_bytes && self.kills.len() > 1 {
            let oldest = self.kills.pop_back().unwrap_or_default();
            bytes = bytes.saturating_sub(oldest.text.len());
        }
    }

    pub(super) fn kill_line_end(&mut self, joins: bool) -> Outcome {
        let end = self.line_end(self.cursor);
        let end = if end == self.cursor {
            self.after(end)
        } else {
            end
        };
        self.kill(self.cursor..end, joins)
    }

    pub(super) fn yank(&mut self, index: usize) -> Outcome {
        let Some(kill) = self.kills.get(index).cloned() else {
            return Outcome::Bell;
        };
        self.yank_over(self.cursor..self.cursor, &kill, index)
    }

    pub(super) fn yank_older(&mut self, yanked: Option<(Range<usize>, usize)>) -> Outcome {
        let Some((range, index)) = yanked else {
            return Outcome::Bell;
        };
        // After the oldest comes the newest.
        let older = index.saturating_add(1);
        let index = if older < self.kills.len() { older } else { 0 };
        let Some(kill) = self.kills.get(index).cloned() else {
            return Outcome::Bell;
        };
        self.yank_over(range, &kill, index)
    }

    fn yank_over(&mut self, range: Range<usize>, kill: &Passage, index: usize) -> Outcome {
        let start = range.start;
        let outcome = self.replace(range.clone(), &kill.text, false);
        self.yanked = match outcome {
            Outcome::Changed => {
                let by = |at: usize| at.saturating_add(start);
                let pasted = kill.pasted.iter().map(|r| by(r.start)..by(r.end));
                self.pasted.extend(pasted);
                self.pasted.sort_by_key(|r| r.start);
                Some((start..by(kill.text.len()), index))
            }
            // A line that is full has taken nothing, and what was there still is.
            _ => (!range.is_empty()).then_some((range, index)),
        };
        outcome
    }
}
