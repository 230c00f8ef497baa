//! Kills and yanks, as in Emacs: kills in a row become one.

use std::ops::Range;

use super::{Editor, KILLS_MAX, Outcome};

impl Editor {
    pub(super) fn kill(&mut self, range: Range<usize>, joins: bool) -> Outcome {
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

    pub(super) fn keep_kill(&mut self, killed: String) {
        self.kills.push_front(killed);
        self.kills.truncate(KILLS_MAX);
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
        let start = self.cursor;
        let outcome = self.insert(&kill, false);
        // A line that is full has taken nothing that could be replaced.
        self.yanked =
            (outcome == Outcome::Changed).then(|| (start..start.saturating_add(kill.len()), index));
        outcome
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
        let start = range.start;
        let outcome = self.replace(range.clone(), &kill, false);
        self.yanked = Some(match outcome {
            Outcome::Changed => (start..start.saturating_add(kill.len()), index),
            // What was there still is.
            _ => (range, index),
        });
        outcome
    }
}
