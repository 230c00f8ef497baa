//! Where the cursor can go: between clusters, words and lines.

use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation};

use super::{Editor, Outcome};

impl Editor {
    pub(super) fn move_to(&mut self, at: usize) -> Outcome {
        if at == self.cursor {
            return Outcome::Bell;
        }
        self.cursor = at;
        Outcome::Changed
    }

    /// Sets the cursor, forward to the end of the cluster if it is inside one.
    pub(super) fn set_cursor(&mut self, at: usize) {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at = at.saturating_add(1);
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

    pub(super) fn before(&self, at: usize) -> usize {
        match GraphemeCursor::new(at, self.text.len(), true).prev_boundary(&self.text, 0) {
            Ok(Some(before)) => before,
            _ => 0,
        }
    }

    pub(super) fn after(&self, at: usize) -> usize {
        next_boundary(&self.text, at)
    }

    pub(super) fn line_start(&self, at: usize) -> usize {
        self.slice(..at)
            .rfind('\n')
            .map_or(0, |i| i.saturating_add(1))
    }

    pub(super) fn line_end(&self, at: usize) -> usize {
        let end = self
            .slice(at..)
            .find('\n')
            .map_or(self.text.len(), |i| at.saturating_add(i));
        // CR LF is one cluster: the cursor cannot stand inside it.
        if end > at && end < self.text.len() && self.slice(..end).ends_with('\r') {
            end.saturating_sub(1)
        } else {
            end
        }
    }

    pub(super) fn word_left(&self) -> usize {
        let before = self.slice(..self.cursor).graphemes(true).rev();
        let mut at = self.cursor;
        let mut in_word = false;
        for cluster in before {
            match (is_word(cluster), in_word) {
                (false, true) => break,
                (word, _) => in_word |= word,
            }
            at = at.saturating_sub(cluster.len());
        }
        at
    }

    pub(super) fn word_right(&self) -> usize {
        let mut at = self.cursor;
        let mut in_word = false;
        for cluster in self.slice(self.cursor..).graphemes(true) {
            match (is_word(cluster), in_word) {
                (false, true) => break,
                (word, _) => in_word |= word,
            }
            at = at.saturating_add(cluster.len());
        }
        at
    }

    pub(super) fn blank_word_left(&self) -> usize {
        let before = self.slice(..self.cursor);
        let word = before.trim_end_matches(char::is_whitespace);
        let start = word
            .char_indices()
            .rev()
            .find(|(_, c)| c.is_whitespace())
            .map_or(0, |(i, c)| i.saturating_add(c.len_utf8()));
        // A mark that combines with a space stays with it.
        match GraphemeCursor::new(start, self.text.len(), true).is_boundary(&self.text, 0) {
            Ok(true) => start,
            _ => self.before(start),
        }
    }
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
