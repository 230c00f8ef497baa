//! An answer as it appears on the screen.

use crate::protocol::TextKind;
use crate::term::{Markdown, Rendering};

/// Shows an answer piece by piece.
pub(crate) struct AnswerView {
    markdown: Markdown,
    shows_reasoning: bool,
    last: Option<TextKind>,
    begun: bool,
}

impl AnswerView {
    /// A view that has shown nothing.
    pub(crate) fn new(columns: u16, colour: bool, raw: bool, shows_reasoning: bool) -> Self {
        let rendering = if raw {
            Rendering::Plain
        } else {
            Rendering::Markdown
        };
        Self {
            markdown: Markdown::new(usize::from(columns), colour, rendering),
            shows_reasoning,
            last: None,
            begun: false,
        }
    }

    /// Whether anything has been shown.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    /// The width has changed.
    pub(crate) fn set_columns(&mut self, columns: u16) {
        self.markdown.set_columns(usize::from(columns));
    }

    /// Shows the next piece.
    pub(crate) fn push(&mut self, kind: TextKind, text: &str, out: &mut Vec<u8>) {
        if self.last != Some(kind) {
            self.turn_to(kind, out);
        }
        self.begun = true;
        if kind == TextKind::Answer || self.shows_reasoning {
            self.markdown.push(text, out);
        }
    }

    /// Something else is about to be shown: it begins on a line of its own.
    pub(crate) fn interrupt(&mut self, out: &mut Vec<u8>) {
        if self.begun {
            self.markdown.finish(out);
            self.begun = false;
        }
    }

    /// Shows what was held back and ends the line.
    pub(crate) fn finish(mut self, out: &mut Vec<u8>) {
        self.interrupt(out);
        self.markdown.set_dimmed(false, out);
    }

    fn turn_to(&mut self, kind: TextKind, out: &mut Vec<u8>) {
        match kind {
            TextKind::Reasoning if self.shows_reasoning => self.markdown.set_dimmed(true, out),
            TextKind::Reasoning => out.extend_from_slice(b"(thinking; /think shows it)\r\n"),
            TextKind::Answer => {
                self.interrupt(out);
                self.markdown.set_dimmed(false, out);
            }
        }
        self.last = Some(kind);
    }
}
