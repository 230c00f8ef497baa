//! Words, wrapped at the width, and the bytes of their looks.

use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation};
use unicode_width::UnicodeWidthChar;

use super::super::width::glyph;
use super::{Look, Markdown};

/// Punctuation that does not begin a row.
const NO_ROW_START: &str = "、。，．！？；：）」』】〕〉》”’…";

impl Markdown {
    pub(super) fn take_literal(&mut self, c: char, out: &mut Vec<u8>) {
        self.last = c;
        if c == ' ' || c == '\t' {
            self.flush_word(out);
            self.spaces = self.spaces.saturating_add(1);
            return;
        }
        if self.may_break_before(c) || self.word.len() > self.columns.saturating_mul(4) {
            self.flush_word(out);
        }
        let look = self.look();
        if self.looks.last().is_none_or(|(_, last)| *last != look) {
            self.looks.push((self.word.len(), look));
        }
        self.word.push(c);
    }

    /// Whether a row may end between the word so far and `c`: around wide
    /// characters, outside of clusters.
    pub(super) fn may_break_before(&self, c: char) -> bool {
        let Some(before) = self.word.chars().next_back() else {
            return false;
        };
        let wide = |c: char| c.width() == Some(2);
        if !(wide(c) || wide(before)) || NO_ROW_START.contains(c) || !is_wordlike(c) {
            return false;
        }
        // The last characters decide; emoji sequences and flags are short.
        let tail_start = self.word.char_indices().rev().take(12).last();
        let mut tail = self.word[tail_start.map_or(0, |(i, _)| i)..].to_owned();
        let boundary = tail.len();
        tail.push(c);
        matches!(
            GraphemeCursor::new(boundary, tail.len(), true).is_boundary(&tail, 0),
            Ok(true)
        )
    }

    pub(super) fn flush_word(&mut self, out: &mut Vec<u8>) {
        if self.word.is_empty() {
            return;
        }
        let word = std::mem::take(&mut self.word);
        let looks = std::mem::take(&mut self.looks);
        let width: usize = word.graphemes(true).map(|c| glyph(c).room).sum();
        if self
            .column
            .saturating_add(self.spaces)
            .saturating_add(width)
            > self.columns
            && self.column > self.hang
        {
            self.wrap_row(out);
        } else {
            let spaces = self
                .spaces
                .min(self.columns.saturating_sub(self.column.min(self.columns)));
            let base = self.base();
            self.put_look(base, out);
            out.extend(std::iter::repeat_n(b' ', spaces));
            self.column = self.column.saturating_add(spaces);
        }
        self.spaces = 0;
        let mut looks = looks.into_iter().peekable();
        for (i, cluster) in word.grapheme_indices(true) {
            while let Some((_, look)) = looks.next_if(|(start, _)| *start <= i) {
                self.put_look(look, out);
            }
            let room = glyph(cluster).room;
            if self.column.saturating_add(room) > self.columns && self.column > self.hang {
                let look = self.shown;
                self.wrap_row(out);
                self.put_look(look, out);
            }
            out.extend_from_slice(cluster.as_bytes());
            self.column = self.column.saturating_add(room);
        }
    }

    pub(super) fn wrap_row(&mut self, out: &mut Vec<u8>) {
        self.break_row(out);
        let bar = self.bar();
        for _ in 0..self.bars {
            self.put_text(bar, Look::DIM, out);
        }
        let blanks = self.hang.saturating_sub(self.column);
        self.put_text(&" ".repeat(blanks), self.base(), out);
        self.spaces = 0;
    }

    pub(super) fn base(&self) -> Look {
        Look {
            dim: self.dimmed,
            ..Look::default()
        }
    }

    pub(super) fn look(&self) -> Look {
        Look {
            bold: self.bold.is_some() || self.heading,
            italic: self.italic.is_some(),
            code: self.code_ticks.is_some(),
            dim: self.dimmed,
        }
    }

    /// Writes a text at once, without wrapping.
    pub(super) fn put_text(&mut self, text: &str, look: Look, out: &mut Vec<u8>) {
        for c in text.chars() {
            self.put_verbatim(c, look, out);
        }
    }

    pub(super) fn put_verbatim(&mut self, c: char, look: Look, out: &mut Vec<u8>) {
        self.put_look(look, out);
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        self.column = match c {
            // To the next multiple of eight.
            '\t' => self.column.saturating_add(1).next_multiple_of(8),
            _ => self.column.saturating_add(c.width().unwrap_or(0)),
        };
    }

    pub(super) fn put_look(&mut self, look: Look, out: &mut Vec<u8>) {
        if !self.colour || look == self.shown {
            return;
        }
        self.shown = look;
        if look == Look::default() {
            out.extend_from_slice(b"\x1b[m");
            return;
        }
        out.extend_from_slice(b"\x1b[0");
        for (on, code) in [
            (look.bold, ";1"),
            (look.dim, ";2"),
            (look.italic, ";3"),
            (look.code, ";36"),
        ] {
            if on {
                out.extend_from_slice(code.as_bytes());
            }
        }
        out.push(b'm');
    }
}

fn is_wordlike(c: char) -> bool {
    // Marks and joiners belong to what stands before them.
    c.width().is_some_and(|w| w > 0)
}
