//! Emphasis and code inside a line, decided by the character on each side of
//! a marker: what could be arithmetic or an identifier stays as it is.

use super::Markdown;

impl Markdown {
    pub(super) fn take_text(&mut self, c: char, out: &mut Vec<u8>) {
        // Without colours a marker is the only sign of what it marks.
        if !self.colour {
            self.take_literal(c, out);
            return;
        }
        if let Some((mark, count)) = self.run {
            if c == mark {
                self.run = Some((mark, count.saturating_add(1)));
                return;
            }
            self.end_run(Some(c), out);
        }
        if std::mem::take(&mut self.backslash) {
            if !"`*_#~|<>!+-".contains(c) {
                self.take_literal('\\', out);
            }
            self.take_literal(c, out);
            return;
        }
        match c {
            '`' => self.run = Some((c, 1)),
            '*' | '_' if self.code_ticks.is_none() => self.run = Some((c, 1)),
            '\\' if self.code_ticks.is_none() => self.backslash = true,
            _ => self.take_literal(c, out),
        }
    }

    /// Decides what a run of markers was, by the character after it.
    pub(super) fn end_run(&mut self, next: Option<char>, out: &mut Vec<u8>) {
        if next.is_none() && std::mem::take(&mut self.backslash) {
            self.take_literal('\\', out);
        }
        let Some((mark, mut count)) = self.run.take() else {
            return;
        };
        if mark == '`' {
            match self.code_ticks {
                None if next.is_some() => self.code_ticks = Some(count),
                Some(ticks) if ticks == count => self.code_ticks = None,
                _ => self.take_literals(mark, count, out),
            }
            self.last = mark;
            return;
        }
        let inner = |c: char| c.is_alphanumeric() && (mark == '_' || c.is_ascii());
        let closes = !self.last.is_whitespace() && (mark == '*' || !next.is_some_and(inner));
        let opens = next.is_some_and(|c| !c.is_whitespace()) && !inner(self.last);
        if closes && count >= 2 && self.bold == Some(mark) {
            self.bold = None;
            count = count.saturating_sub(2);
        }
        if closes && count >= 1 && self.italic == Some(mark) {
            self.italic = None;
            count = count.saturating_sub(1);
        }
        match count {
            1 if opens && self.italic.is_none() => self.italic = Some(mark),
            2 if opens && self.bold.is_none() => self.bold = Some(mark),
            3 if opens && self.bold.is_none() && self.italic.is_none() => {
                self.bold = Some(mark);
                self.italic = Some(mark);
            }
            _ => self.take_literals(mark, count, out),
        }
    }

    pub(super) fn take_literals(&mut self, c: char, count: usize, out: &mut Vec<u8>) {
        for _ in 0..count {
            self.take_literal(c, out);
        }
    }
}
