//! An answer as it appears on the screen.

use std::time::Instant;

use protocol::TextKind;
use term::{Markdown, Rendering, Size};

/// Shows an answer piece by piece. What the model thinks before it is shown
/// dimmed, or folded into one line.
pub(crate) struct AnswerView {
    markdown: Markdown,
    folded: bool,
    thought: String,
    thinking_since: Option<Instant>,
    last: Option<TextKind>,
    begun: bool,
}

impl AnswerView {
    /// A view that has shown nothing.
    pub(crate) fn new(size: Size, colour: bool, raw: bool, folded: bool) -> Self {
        let rendering = if raw {
            Rendering::Plain
        } else {
            Rendering::Markdown
        };
        let mut markdown = Markdown::new(usize::from(size.columns), colour, rendering);
        markdown.set_rows(usize::from(size.rows));
        Self {
            markdown,
            folded,
            thought: String::new(),
            thinking_since: None,
            last: None,
            begun: false,
        }
    }

    /// Whether anything has been shown.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Whether the model thinks and nothing of it is shown.
    pub(crate) fn is_folded(&self) -> bool {
        self.folded && self.last == Some(TextKind::Reasoning)
    }

    /// The size has changed.
    pub(crate) fn set_size(&mut self, size: Size) {
        self.markdown.set_columns(usize::from(size.columns));
        self.markdown.set_rows(usize::from(size.rows));
    }

    /// Shows the next piece.
    pub(crate) fn push(&mut self, kind: TextKind, text: &str, out: &mut Vec<u8>) {
        if self.last != Some(kind) {
            self.turn_to(kind, out);
        }
        if kind == TextKind::Reasoning {
            self.thought.push_str(text);
        }
        if kind == TextKind::Answer || !self.folded {
            self.begun = true;
            self.markdown.push(text, out);
        }
    }

    /// Folds or unfolds the thinking. What was thought so far appears when it
    /// is unfolded; what stands on the screen already stays.
    pub(crate) fn set_folded(&mut self, folded: bool, out: &mut Vec<u8>) {
        if self.folded == folded {
            return;
        }
        self.folded = folded;
        if self.last == Some(TextKind::Reasoning) {
            if folded {
                self.end_part(out);
            } else {
                self.begun = true;
                self.markdown.push(&self.thought, out);
            }
        }
    }

    /// Something else is about to be shown: it begins on a line of its own, and
    /// the answer goes on after it as what it was.
    pub(crate) fn interrupt(&mut self, out: &mut Vec<u8>) {
        if self.begun {
            self.markdown.interrupt(out);
        }
    }

    /// Shows what was held back and ends the line.
    pub(crate) fn finish(mut self, out: &mut Vec<u8>) {
        self.end_thinking(out);
        self.end_part(out);
        self.markdown.set_dimmed(false, out);
    }

    /// What comes next is another text.
    fn end_part(&mut self, out: &mut Vec<u8>) {
        if self.begun {
            self.markdown.finish(out);
            self.begun = false;
        }
    }

    fn turn_to(&mut self, kind: TextKind, out: &mut Vec<u8>) {
        self.end_thinking(out);
        self.end_part(out);
        let is_thinking = kind == TextKind::Reasoning;
        self.markdown.set_dimmed(is_thinking, out);
        if is_thinking {
            self.thought.clear();
            self.thinking_since = Some(Instant::now());
        }
        self.last = Some(kind);
    }

    /// Where the thinking is folded, one line stands for it.
    fn end_thinking(&mut self, out: &mut Vec<u8>) {
        let Some(since) = self.thinking_since.take() else {
            return;
        };
        if self.folded {
            self.end_part(out);
            let line = format!(
                "thought for {:.1} s; Ctrl-O or /think shows it\n",
                since.elapsed().as_secs_f32()
            );
            self.markdown.push(&line, out);
            self.markdown.finish(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(folded: bool, steps: &[(&str, Option<bool>)]) -> String {
        let mut view = AnswerView::new(
            Size {
                columns: 60,
                rows: 24,
            },
            true,
            false,
            folded,
        );
        let mut out = Vec::new();
        for &(text, fold) in steps {
            if let Some(folded) = fold {
                view.set_folded(folded, &mut out);
            }
            let (kind, text) = match text.strip_prefix('~') {
                Some(thought) => (TextKind::Reasoning, thought),
                None => (TextKind::Answer, text),
            };
            view.push(kind, text, &mut out);
        }
        view.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn thinking_is_dimmed_and_the_answer_is_not() {
        assert_eq!(
            shown(false, &[("~Hm, ", None), ("~so.", None), ("Yes.", None)]),
            "\x1b[0;2mHm,\x1b[0;2m so.\x1b[m\r\nYes.\r\n".replace("\x1b[0;2m so", " so")
        );
    }

    #[test]
    fn folded_thinking_is_one_line() {
        let line = "\x1b[0;2mthought for 0.0 s; Ctrl-O or /think shows it\x1b[m\r\n";
        let shown = shown(true, &[("~Hm, ", None), ("~so.", None), ("Yes.", None)]);
        assert_eq!(shown, format!("{line}Yes.\r\n"));
    }

    #[test]
    fn an_answer_after_folded_thinking_begins_anew() {
        let table = "| a | b |\n|---|---|\n| 1 | 2 |\n";
        let alone = shown(true, &[(table, None)]);
        let after = shown(true, &[("~Hm.", None), (table, None)]);
        assert!(after.ends_with(&alone), "{after:?} {alone:?}");
    }

    #[test]
    fn thinking_unfolds_with_what_was_thought_before() {
        let unfolded = shown(
            true,
            &[("~Hm, ", None), ("~so.", Some(false)), ("Yes.", None)],
        );
        assert_eq!(unfolded, "\x1b[0;2mHm, so.\x1b[m\r\nYes.\r\n");
        let folded = shown(
            false,
            &[("~Hm, ", None), ("~so.", Some(true)), ("Yes.", None)],
        );
        assert!(
            folded.starts_with("\x1b[0;2mHm,\x1b[m\r\n\x1b[0;2mthought for"),
            "{folded:?}"
        );
        assert!(!folded.contains("so."), "{folded:?}");
    }
}
