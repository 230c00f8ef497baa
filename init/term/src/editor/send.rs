//! Enter and Ctrl-C: when a text is complete, and what it then is.

use std::ops::Range;

use super::{Editor, Outcome, Submission};

const BLOCK: &str = "\"\"\"";

impl Editor {
    pub(super) fn is_pasted(&self, at: usize) -> bool {
        self.pasted.iter().any(|range| range.contains(&at))
    }

    pub(super) fn interrupt(&mut self) -> Outcome {
        if self.text.is_empty() {
            return Outcome::Interrupted;
        }
        let cleared = self.take_passage();
        self.keep_kill(cleared);
        self.clear();
        Outcome::Cleared
    }

    pub(super) fn clear(&mut self) {
        self.left.clear();
        self.set_text("", false);
        self.recalled = None;
    }

    pub(super) fn enter(&mut self) -> Outcome {
        let end = self.text.len();
        if self.text.trim().is_empty() {
            return Outcome::None;
        }
        match self.block() {
            Block::Open => return self.insert("\n", false),
            Block::Closed(inner) => {
                let text = trim_block(self.slice(inner)).to_owned();
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
        let slashes = end.saturating_sub(self.text.trim_end_matches('\\').len());
        if slashes % 2 == 1 && !self.is_pasted(end.saturating_sub(1)) {
            return self.replace(end.saturating_sub(1)..end, "\n", false);
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

    pub(super) fn block(&self) -> Block {
        let start = self.text.len().saturating_sub(self.text.trim_start().len());
        let end = self.text.trim_end().len();
        if !self.slice(start..).starts_with(BLOCK) || self.is_pasted(start) {
            return Block::None;
        }
        let inner = start.saturating_add(BLOCK.len())..end.saturating_sub(BLOCK.len());
        let closed = inner.start <= inner.end
            && self.slice(..end).ends_with(BLOCK)
            && !self.is_pasted(end.saturating_sub(1));
        if closed {
            Block::Closed(inner)
        } else {
            Block::Open
        }
    }
}

pub(super) enum Block {
    None,
    Open,
    Closed(Range<usize>),
}

fn trim_block(inner: &str) -> &str {
    let inner = inner.strip_prefix('\n').unwrap_or(inner);
    inner.strip_suffix('\n').unwrap_or(inner)
}
