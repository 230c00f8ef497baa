//! The terminal as the chat sees it: an edit line at the bottom, answers and
//! lines of zosia's own above it, and everything that is to be written gathered
//! until the next flush.

use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use protocol::{ScreenParams, Switch, TextKind};
use term::{Action, Completion, Limits, Look, Prompt, Size, Tty, wrap};

use super::answer_view::AnswerView;
use crate::host::Host;

/// While more than this waits for a slow terminal, answers wait as well: keys do not,
/// and what they do should be seen soon.
const BEHIND_BYTES_MAX: usize = 8 << 10;

/// A terminal, its edit line and what is being shown.
pub(super) struct Screen {
    host: Host,
    tty: Tty,
    editor: Prompt,
    colour: bool,
    /// Columns and rows as the parameters have them.
    given: (Option<u16>, Option<u16>),
    /// Of those what is so whatever the terminal says.
    fixed: (Option<u16>, Option<u16>),
    answer: Option<AnswerView>,
    /// What the line stays closed for, until that has happened.
    held: Option<String>,
    out: Vec<u8>,
}

impl Screen {
    /// Takes the terminal. The edit line is closed.
    ///
    /// # Errors
    /// The terminal's.
    pub(super) fn new(host: Host, tty: Tty, params: &ScreenParams, limits: Limits) -> Self {
        let given = (params.cols, params.rows);
        let known = tty.size();
        let columns = given.0.or(known.map(|size| size.columns));
        let rows = given.1.or(known.map(|size| size.rows));
        let size = columns
            .zip(rows)
            .map(|(columns, rows)| Size { columns, rows });
        let colour = has_colour(params.color, host);
        let look = Look {
            placeholder: "Send a message (/help for help)".to_owned(),
            colour,
            ..Look::default()
        };
        let mut editor = Prompt::new(size, look, limits);
        // A size from the host is right at the start only: a window that is
        // resized heals at the next prompt. The kernel's own is always right.
        editor.set_asking(known.is_none());
        Self {
            host,
            tty,
            editor,
            colour,
            given,
            fixed: if known.is_some() { given } else { (None, None) },
            answer: None,
            held: None,
            out: Vec::new(),
        }
    }

    /// Colours and size as the parameters now say.
    pub(super) fn set_up(&mut self, params: &ScreenParams) {
        self.colour = has_colour(params.color, self.host);
        self.editor.set_colour(self.colour);
        let given = (params.cols, params.rows);
        if given.0 != self.given.0 {
            self.fixed.0 = given.0;
        }
        if given.1 != self.given.1 {
            self.fixed.1 = given.1;
        }
        if given == self.given {
            return;
        }
        self.given = given;
        let known = self.tty.size();
        let is_fixed = self.fixed.0.is_some() && self.fixed.1.is_some();
        self.editor.set_asking(known.is_none() && !is_fixed);
        self.resize(known.unwrap_or(self.editor.size()));
    }

    /// The window has changed: the kernel knows its size.
    pub(super) fn follow_window(&mut self) {
        if let Some(size) = self.tty.size() {
            self.resize(size);
        }
    }

    /// The terminal is of this size now.
    pub(super) fn resize(&mut self, size: Size) {
        let size = Size {
            columns: self.fixed.0.unwrap_or(size.columns),
            rows: self.fixed.1.unwrap_or(size.rows),
        };
        self.editor.set_size(size, &mut self.out);
        if let Some(answer) = &mut self.answer {
            answer.set_size(size);
        }
    }

    /// What to poll for keys.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.tty.as_fd()
    }

    /// How long keys may be waited for before [`Screen::flush_keys`].
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.editor.timeout()
    }

    /// Reads keys; `false` when the terminal has hung up.
    ///
    /// # Errors
    /// The terminal's.
    pub(super) fn read(&mut self) -> io::Result<bool> {
        let mut bytes = vec![0; 64 << 10];
        let n = self.tty.read(&mut bytes)?;
        self.editor.feed(bytes.get(..n).unwrap_or_default());
        Ok(n > 0)
    }

    /// No more bytes came in time: what was begun is taken as it is.
    pub(super) fn flush_keys(&mut self) {
        self.editor.flush();
    }

    /// What the user wants next.
    pub(super) fn next_action(&mut self, complete: &dyn Fn(&str) -> Completion) -> Option<Action> {
        self.editor.next_action(complete)
    }

    /// Paints the edit line, and writes what the terminal takes.
    ///
    /// # Errors
    /// The terminal's.
    pub(super) fn paint(&mut self) -> io::Result<()> {
        self.editor.paint(&mut self.out);
        if !self.out.is_empty() {
            let written = self.tty.write(&self.out)?;
            self.out.drain(..written);
        }
        Ok(())
    }

    /// Whether the terminal has not taken all yet.
    pub(super) fn is_behind(&self) -> bool {
        !self.out.is_empty()
    }

    /// Whether so little waits for the terminal that there may be more to show.
    pub(super) fn has_room(&self) -> bool {
        self.out.len() <= BEHIND_BYTES_MAX
    }

    /// Leaves the terminal to others, with all that has been said on it, as far as it
    /// takes that.
    ///
    /// # Errors
    /// The terminal's.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        self.hide();
        if let Some(answer) = &mut self.answer {
            answer.interrupt(&mut self.out);
        }
        let written = self.tty.write_patiently(&self.out)?;
        self.out.drain(..written);
        self.tty.suspend()
    }

    /// Takes it back; the next [`Screen::paint`] shows the edit line again.
    ///
    /// # Errors
    /// The terminal's.
    pub(super) fn resume(&mut self) -> io::Result<()> {
        self.tty.resume()
    }

    /// Takes the edit line away and writes everything, `last` at the end, as far as the
    /// terminal takes it.
    ///
    /// # Errors
    /// The terminal's.
    pub(super) fn close(mut self, last: Option<&str>) -> io::Result<()> {
        self.editor.close(&mut self.out);
        if let Some(line) = last {
            self.quiet(line);
        }
        self.tty.write_patiently(&self.out).map(drop)
    }

    /// What stands in the edit line.
    pub(super) fn text(&self) -> &str {
        self.editor.text()
    }

    /// Whether something has been typed that was not sent, in the line or ahead of it.
    pub(super) fn has_typed(&self) -> bool {
        self.editor.has_typed()
    }

    /// Puts `text` into the edit line, the cursor at its end.
    pub(super) fn set_text(&mut self, text: &str) {
        self.editor.set_text(text, true);
    }

    /// Whether something can be typed and sent.
    pub(super) fn is_open(&self) -> bool {
        self.editor.is_open()
    }

    /// Opens the edit line although the answer has not ended yet: it is to end, and
    /// `status` says so.
    pub(super) fn open_early(&mut self, status: &str) {
        self.hide();
        if let Some(answer) = &mut self.answer {
            answer.interrupt(&mut self.out);
        }
        self.editor.set_status(Some(status.to_owned()));
        self.editor.open();
    }

    /// Closes the edit line; what is typed in it stays for the next time.
    pub(super) fn close_line(&mut self) {
        self.editor.close(&mut self.out);
    }

    /// Opens the edit line, unless an answer is being shown.
    pub(super) fn open(&mut self) {
        if self.answer.is_none() && self.held.is_none() && !self.editor.is_open() {
            self.editor.open();
        }
    }

    /// Closes the edit line until [`Screen::release`]; `status` says what for.
    pub(super) fn hold(&mut self, status: &str) {
        self.held = Some(status.to_owned());
        self.close_line();
        self.set_status(None);
    }

    /// Opens the edit line again.
    pub(super) fn release(&mut self) {
        self.held = None;
        self.set_status(None);
        self.open();
    }

    /// Asks for a word that is not shown: [`Action::Secret`].
    pub(super) fn ask_secret(&mut self, label: &str) {
        self.editor.ask_secret(label);
    }

    /// Nothing secret is asked for any more.
    pub(super) fn end_secrets(&mut self) {
        self.editor.end_secrets();
    }

    /// Lines of earlier days, the oldest first, for Up and Ctrl-R.
    pub(super) fn remember(&mut self, lines: &[String]) {
        for line in lines {
            self.editor.history_add(line, false);
        }
    }

    /// A message of an earlier day as it was sent, of more than so many lines the
    /// first.
    pub(super) fn sent_before(&mut self, text: &str, most: usize) {
        let mut shown = String::new();
        for (index, line) in text.lines().take(most).enumerate() {
            let prompt = if index == 0 { ">>> " } else { "... " };
            shown.push_str(prompt);
            shown.push_str(line);
            shown.push('\n');
        }
        let more = text.lines().count().saturating_sub(most);
        if more > 0 {
            // Writing to a String cannot fail.
            let _ = writeln!(shown, "... ({more} more lines)");
        }
        self.verbatim(&shown);
    }

    /// The edit line stands as it is, and what follows goes below it.
    pub(super) fn hide(&mut self) {
        self.editor.hide(&mut self.out);
    }

    /// One line below the answer that says what goes on, or else what is waited for.
    pub(super) fn set_status(&mut self, status: Option<String>) {
        self.editor.set_status(status.or_else(|| self.held.clone()));
    }

    /// Whether an answer is awaited or shown.
    pub(super) fn is_answering(&self) -> bool {
        self.answer.is_some()
    }

    /// Whether something of the answer is on the screen.
    pub(super) fn has_answer_begun(&self) -> bool {
        self.answer.as_ref().is_some_and(AnswerView::has_begun)
    }

    /// The edit line makes way for an answer.
    pub(super) fn begin_answer(&mut self, params: &ScreenParams) {
        let size = self.editor.size();
        let folded = !params.reasoning;
        self.answer = Some(AnswerView::new(size, self.colour, params.raw, folded));
    }

    /// Shows a piece of the answer.
    pub(super) fn push(&mut self, kind: TextKind, text: &str) {
        self.set_status(None);
        self.hide();
        if let Some(answer) = &mut self.answer {
            answer.push(kind, text, &mut self.out);
            if self.editor.is_open() {
                answer.interrupt(&mut self.out);
            }
        }
        self.show_thinking();
    }

    /// Folds or unfolds what the model thinks.
    pub(super) fn set_folded(&mut self, folded: bool) {
        self.hide();
        if let Some(answer) = &mut self.answer {
            answer.set_folded(folded, &mut self.out);
        }
        self.show_thinking();
    }

    /// One line says that something goes on which is not shown.
    fn show_thinking(&mut self) {
        let folded = self.answer.as_ref().is_some_and(AnswerView::is_folded);
        self.set_status(folded.then(|| "thinking; Ctrl-O shows it".to_owned()));
    }

    /// The answer is over: what was held back of it is shown.
    pub(super) fn end_answer(&mut self) {
        self.set_status(None);
        self.hide();
        if let Some(answer) = self.answer.take() {
            answer.finish(&mut self.out);
        }
    }

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
        let columns = usize::from(self.editor.size().columns);
        let rows = text.lines().flat_map(|line| wrap(line, columns));
        self.rows(rows, look);
    }

    fn rows(&mut self, rows: impl Iterator<Item = String>, look: &str) {
        self.hide();
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

/// Whether attributes may be used. The machine cannot know what terminal the
/// host has: there, `zosia.color=off` is for one that is dumb.
fn has_colour(wanted: Switch, host: Host) -> bool {
    match wanted {
        Switch::On => true,
        Switch::Off => false,
        Switch::Auto => {
            host.is_machine()
                || std::env::var_os("NO_COLOR").is_none()
                    && std::env::var("TERM").is_ok_and(|term| term != "dumb")
        }
    }
}
