//! Lines of the prompt's own: said above the edit line, between answers.

use super::Repl;
use term::wrap;

impl Repl {
    /// One quiet line, dimmed where colours are.
    pub(super) fn quiet(&mut self, line: &str) {
        self.lines(line, "\x1b[2m");
    }

    /// Something to know.
    pub(super) fn tell(&mut self, text: &str) {
        self.lines(text, "");
    }

    /// Something went wrong.
    pub(super) fn complain(&mut self, error: &str) {
        self.lines(&format!("zosia: {error}"), "\x1b[31m");
    }

    /// Something to know, in the lines that it has.
    pub(super) fn verbatim(&mut self, text: &str) {
        let rows = text.lines().flat_map(|line| wrap(line, usize::MAX));
        self.rows(rows, "");
    }

    fn lines(&mut self, text: &str, look: &str) {
        let columns = usize::from(self.prompt.size().columns);
        let rows = text.lines().flat_map(|line| wrap(line, columns));
        self.rows(rows, look);
    }

    fn rows(&mut self, rows: impl Iterator<Item = String>, look: &str) {
        self.prompt.hide(&mut self.out);
        if let Some(answer) = &mut self.answer {
            answer.interrupt(&mut self.out);
        }
        let (look, plain) = if self.colour && !look.is_empty() {
            (look, "\x1b[0m")
        } else {
            ("", "")
        };
        for row in rows {
            for piece in [look, &row, plain, "\r\n"] {
                self.out.extend_from_slice(piece.as_bytes());
            }
        }
    }
}
