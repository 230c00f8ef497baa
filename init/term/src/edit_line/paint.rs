//! The prompt on the screen: the line with what stands below it, and what
//! stays when it was sent.

use super::super::frame::{View, choice_rows, measure};
use super::super::layout::Layout;
use super::super::screen::{Row, Style};
use super::Prompt;
use super::secret::SecretLine;

impl Prompt {
    /// Brings the screen up to date. A line that was sent is left standing and
    /// the cursor goes below it; from then on the screen is the caller's.
    pub fn paint(&mut self, out: &mut Vec<u8>) {
        self.paint_sent(out);
        if self.clear_screen {
            self.clear_screen = false;
            out.extend_from_slice(b"\x1b[H\x1b[2J");
            self.painter.forget();
        }
        if self.ask {
            self.ask = false;
            out.extend_from_slice(self.query.ask());
        }
        if let Some(label) = self.secret.as_ref().and_then(SecretLine::label) {
            let mut row = Row::default();
            let columns = self.columns().saturating_sub(1);
            row.push_text(label, Style::Prompt, columns);
            let cursor = (0, row.width());
            self.painter.paint(vec![row], cursor, out);
        } else if self.is_open {
            let (rows, cursor) = self.open_frame();
            self.painter.paint(rows, cursor, out);
        } else if let Some(status) = &self.status {
            let row = self.status_row(status);
            self.painter.paint(vec![row], (0, 0), out);
        } else {
            self.painter.erase(out);
        }
    }

    /// Takes the prompt and the status off the screen; the cursor stands in
    /// column 0 where they began. [`Prompt::paint`] shows them again.
    pub fn hide(&mut self, out: &mut Vec<u8>) {
        self.paint_sent(out);
        self.painter.erase(out);
    }

    /// Prints lines of plain text above the prompt. Control characters are
    /// shown as signs. Ends with the prompt painted again.
    #[cfg(test)]
    pub(crate) fn print_above(&mut self, text: &str, out: &mut Vec<u8>) {
        self.hide(out);
        for line in text.lines() {
            for cluster in unicode_segmentation::UnicodeSegmentation::graphemes(line, true) {
                out.extend_from_slice(super::super::width::glyph(cluster).text.as_bytes());
            }
            out.extend_from_slice(b"\r\n");
        }
        self.paint(out);
    }

    pub(super) fn columns(&self) -> usize {
        usize::from(self.size.columns)
    }

    /// Leaves a line that was sent on the screen, whole and without hints.
    pub(super) fn paint_sent(&mut self, out: &mut Vec<u8>) {
        let Some(text) = self.sent.take() else {
            return;
        };
        let prompts = (self.look.prompt.as_str(), self.look.continuation.as_str());
        let mut layout = Layout::new(measure(prompts.0, prompts.1, self.columns()));
        let height = usize::from(self.size.rows);
        let cursor = text.len();
        let view = View {
            text: &text,
            cursor,
            prompts,
            height,
        };
        let (rows, cursor) = view.rows(&mut layout, &mut self.top);
        self.painter.paint(rows, cursor, out);
        self.painter.leave(out);
        self.top = 0;
        // The kept layout is of a text that is gone.
        self.editor.take_changed_from();
        self.layout = Layout::new(self.layout.measure());
    }

    fn open_frame(&mut self) -> (Vec<Row>, (usize, usize)) {
        let columns = self.columns();
        let mut below = choice_rows(&self.choices, self.editor.chosen(), columns);
        if let Some(status) = &self.status {
            below.push(self.status_row(status));
        }
        below.truncate(usize::from(self.size.rows).saturating_sub(1));
        let height = usize::from(self.size.rows).saturating_sub(below.len());
        let continuation = self.look.continuation.as_str();
        let (mut rows, cursor) = if let Some(search) = self.editor.search(&self.history) {
            let state = if search.failed { "no " } else { "" };
            let prompt = format!("({state}history: {}) ", search.query);
            let mut layout = Layout::new(measure(&prompt, continuation, columns));
            let view = View {
                text: search.text,
                cursor: search.cursor,
                prompts: (&prompt, continuation),
                height,
            };
            view.rows(&mut layout, &mut 0)
        } else {
            self.update_layout();
            let continuation = self.look.continuation.as_str();
            let view = View {
                text: self.editor.text(),
                cursor: self.editor.cursor(),
                prompts: (&self.look.prompt, continuation),
                height,
            };
            view.rows(&mut self.layout, &mut self.top)
        };
        if let [row] = rows.as_mut_slice()
            && self.editor.text().is_empty()
            && self.editor.search(&self.history).is_none()
            && self.look.colour
        {
            row.push_text(
                &self.look.placeholder,
                Style::Dim,
                columns.saturating_sub(1),
            );
        }
        rows.append(&mut below);
        (rows, cursor)
    }

    fn status_row(&self, status: &str) -> Row {
        let mut row = Row::default();
        row.push_text(status, Style::Dim, self.columns().saturating_sub(1));
        row
    }
}
