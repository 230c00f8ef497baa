//! The prompt as a whole: bytes from the terminal in, actions and paint out.
//! It composes the key decoder, the editor, the history, the layout and the
//! painter, and keeps what is typed while an answer streams for later.

use std::collections::VecDeque;
use std::time::Duration;

use super::editor::{Completer, Editor, Outcome, Submission};
use super::frame::{View, choice_rows, measure};
use super::history::History;
use super::keys::{Decoder, Key, Pending};
use super::layout::Layout;
use super::limits::Limits;
use super::screen::{Painter, Row, Style};
use super::size::{Size, SizeQuery};

/// After this pause an Escape was the key and not the start of a sequence.
const KEY_PAUSE: Duration = Duration::from_millis(100);
/// After this pause no more comes of a mark, which a serial line or a distant
/// terminal may send in pieces up to a second apart.
const MARK_PAUSE: Duration = Duration::from_millis(1500);
/// After this pause a paste without an end mark has ended: the line lost it.
const PASTE_PAUSE: Duration = Duration::from_secs(5);
/// What a key that waits counts for, pasted text aside.
const KEY_BYTES: usize = 64;

/// What stands before the text, and whether colours may be used.
#[derive(Debug, Clone)]
pub struct Look {
    /// Before the first line.
    pub prompt: String,
    /// Before each further line.
    pub continuation: String,
    /// Dimmed after the prompt while nothing is typed; only with colours, for
    /// without them it would look like text.
    pub placeholder: String,
    /// Whether SGR sequences may be used.
    pub colour: bool,
}

impl Default for Look {
    fn default() -> Self {
        Look {
            prompt: ">>> ".to_owned(),
            continuation: "... ".to_owned(),
            placeholder: String::new(),
            colour: true,
        }
    }
}

/// What the user wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A text was sent; the prompt is closed until [`Prompt::open`].
    Submit(Submission),
    /// Ctrl-C while the prompt is closed: end the answer.
    Stop,
    /// Ctrl-O: fold or unfold what the model thinks.
    Fold,
    /// Ctrl-C on an empty line: say how to leave.
    Interrupted,
    /// Ctrl-D on an empty line, or while the prompt is closed and nothing has been
    /// typed ahead: leave.
    Eof,
    /// Something to tell, as through [`Prompt::print_above`].
    Notice(String),
    /// The terminal is of this size now; the prompt has been told.
    Resized(Size),
}

/// The edit line at the bottom of the terminal.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Prompt {
    look: Look,
    size: Size,
    query: SizeQuery,
    decoder: Decoder,
    limits: Limits,
    keys: VecDeque<Key>,
    /// The size of `keys`, as far as they came while the prompt was closed.
    waiting_bytes: usize,
    actions: VecDeque<Action>,
    editor: Editor,
    history: History,
    layout: Layout,
    painter: Painter,
    is_open: bool,
    ask: bool,
    sent: Option<String>,
    clear_screen: bool,
    status: Option<String>,
    choices: Vec<String>,
    top: usize,
}

impl Prompt {
    /// A closed prompt. With a `size` the terminal is never asked for it.
    #[must_use]
    pub fn new(size: Option<Size>, look: Look, limits: Limits) -> Self {
        let query = match size {
            Some(_) => SizeQuery::fixed(),
            None => SizeQuery::default(),
        };
        let size = size.unwrap_or(Size::FALLBACK).clamped();
        let columns = usize::from(size.columns);
        let painter = Painter::new(columns, look.colour);
        Prompt {
            layout: Layout::new(measure(&look.prompt, &look.continuation, columns)),
            painter,
            look,
            size,
            query,
            decoder: Decoder::new(limits.paste_bytes),
            limits,
            keys: VecDeque::new(),
            waiting_bytes: 0,
            actions: VecDeque::new(),
            editor: Editor::new(limits),
            history: History::default(),
            is_open: false,
            ask: false,
            sent: None,
            clear_screen: false,
            status: None,
            choices: Vec::new(),
            top: 0,
        }
    }

    // Input.

    /// Takes bytes read from the terminal. Then call [`Prompt::next_action`]
    /// until it gives none, and [`Prompt::paint`].
    pub fn feed(&mut self, bytes: &[u8]) {
        let mut keys = VecDeque::new();
        self.decoder.feed(bytes, &mut keys);
        self.take_keys(keys);
    }

    /// How long to wait for more bytes before [`Prompt::flush`]; `None` when
    /// nothing is unfinished.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.decoder.pending().map(|pending| match pending {
            Pending::Key => KEY_PAUSE,
            Pending::Mark => MARK_PAUSE,
            Pending::Paste => PASTE_PAUSE,
        })
    }

    /// Ends what is unfinished after [`Prompt::timeout`] has passed in silence.
    pub fn flush(&mut self) {
        let mut keys = VecDeque::new();
        self.decoder.flush(&mut keys);
        self.take_keys(keys);
    }

    fn take_keys(&mut self, keys: VecDeque<Key>) {
        for key in keys {
            match key {
                Key::CursorReport { row, column } => {
                    if let Some(size) = self.query.answer(row, column)
                        && size != self.size
                    {
                        self.actions.push_back(Action::Resized(size));
                    }
                }
                Key::Ctrl('c') if !self.is_open => self.actions.push_back(Action::Stop),
                Key::Ctrl('o') if !self.is_open => self.actions.push_back(Action::Fold),
                Key::Ctrl('d') if !self.is_open && self.keys.is_empty() => {
                    self.actions.push_back(Action::Eof);
                }
                Key::PasteProblem(problem) => {
                    let notice = Action::Notice(problem.to_string());
                    self.actions.push_back(notice);
                }
                Key::Ignored => {}
                key => self.keep_key(key),
            }
        }
    }

    fn keep_key(&mut self, key: Key) {
        if self.is_open {
            return self.keys.push_back(key);
        }
        let was_full = self.waiting_bytes > self.limits.waiting_bytes;
        self.waiting_bytes = self.waiting_bytes.saturating_add(KEY_BYTES);
        if let Key::Paste(text) = &key {
            self.waiting_bytes = self.waiting_bytes.saturating_add(text.len());
        }
        if self.waiting_bytes <= self.limits.waiting_bytes {
            self.keys.push_back(key);
        } else if !was_full {
            let notice = format!(
                "more than {} MiB were typed ahead: the rest is not taken",
                self.limits.waiting_bytes >> 20
            );
            self.actions.push_back(Action::Notice(notice));
        }
    }

    /// The next thing to do. Keys wait while the prompt is closed, but for those that
    /// are not of the line: Ctrl-C, Ctrl-O, and a Ctrl-D after nothing.
    pub fn next_action(&mut self, completer: &Completer<'_>) -> Option<Action> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Some(action);
            }
            if !self.is_open {
                return None;
            }
            let key = self.keys.pop_front()?;
            match self.press(key, completer) {
                None => {}
                action => return action,
            }
        }
    }

    fn press(&mut self, key: Key, completer: &Completer<'_>) -> Option<Action> {
        self.choices.clear();
        if key == Key::Ctrl('o') {
            return Some(Action::Fold);
        }
        let outcome = match self.row_motion(&key) {
            Some((at, goal)) => self.editor.move_to_row(at, goal),
            None => self.editor.press(key, &self.history, completer),
        };
        match outcome {
            Outcome::None | Outcome::Bell | Outcome::Changed | Outcome::Cleared => None,
            Outcome::Full => Some(Action::Notice(format!(
                "the line holds {} MiB: what would make it longer is not taken",
                self.limits.text_bytes >> 20
            ))),
            Outcome::Choices(choices) => {
                self.choices = choices;
                None
            }
            Outcome::Redraw => {
                self.clear_screen = true;
                self.ask = true;
                None
            }
            Outcome::Submit(submission) => {
                let typed = submission.typed.as_ref().unwrap_or(&submission.text);
                self.history
                    .add(typed, submission.literal && submission.typed.is_none());
                self.sent = Some(typed.clone());
                self.is_open = false;
                // What was typed before its Ctrl-C is dropped by no one; the
                // Ctrl-C itself now means the answer.
                let stops = self.keys.iter().filter(|k| **k == Key::Ctrl('c')).count();
                if stops > 0 {
                    self.keys.retain(|key| *key != Key::Ctrl('c'));
                    self.actions.push_back(Action::Stop);
                }
                Some(Action::Submit(submission))
            }
            Outcome::Interrupted => Some(Action::Interrupted),
            Outcome::Eof => Some(Action::Eof),
        }
    }

    /// Where Up or Down go in a text of several rows, lines or not: a byte, and
    /// the column that they aim at. `None` from the first and the last row,
    /// where they go through the history.
    fn row_motion(&mut self, key: &Key) -> Option<(usize, usize)> {
        let up = match key {
            Key::Up | Key::Ctrl('p') => true,
            Key::Down | Key::Ctrl('n') => false,
            _ => return None,
        };
        if self.editor.search(&self.history).is_some() {
            return None;
        }
        self.update_layout();
        let (text, cursor) = (self.editor.text(), self.editor.cursor());
        let (row, column) = self.layout.locate(text, cursor);
        let goal = self.editor.goal().unwrap_or(column);
        let target = if up {
            row.checked_sub(1)?
        } else {
            row.saturating_add(1)
        };
        let at = self.layout.offset_at(text, target, goal)?;
        Some((at, goal))
    }

    /// The layout follows the text and the width.
    fn update_layout(&mut self) {
        let changed = self.editor.take_changed_from();
        let measure = measure(&self.look.prompt, &self.look.continuation, self.columns());
        if self.layout.measure() != measure {
            self.layout = Layout::new(measure);
        } else if let Some(from) = changed {
            self.layout.forget_from(from);
        }
    }

    // State.

    /// Opens the prompt for a line and asks the terminal for its size. Keys
    /// that came meanwhile are taken by the next [`Prompt::next_action`].
    pub fn open(&mut self) {
        self.is_open = true;
        self.waiting_bytes = 0;
        self.ask = true;
        self.top = 0;
    }

    /// Closes the prompt without a line, as before leaving. What is typed
    /// stays for the next [`Prompt::open`], off the screen.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        self.paint_sent(out);
        self.is_open = false;
        self.hide(out);
    }

    /// Whether keys edit; else they wait.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// The text as it stands, for evaluating it ahead.
    #[must_use]
    pub fn text(&self) -> &str {
        self.editor.text()
    }

    /// Puts a text into the editor, as `/edit` does. `literal` for one that is
    /// a message whatever it begins with.
    pub fn set_text(&mut self, text: &str, literal: bool) {
        self.editor.set_text(text, literal);
    }

    /// Adds a line to the history; sent lines are there already.
    #[cfg(test)]
    pub fn history_add(&mut self, text: &str, literal: bool) {
        self.history.add(text, literal);
    }

    /// Shows one quiet line below the edit line, or alone while the prompt is
    /// closed; `None` removes it. Painted by the next [`Prompt::paint`].
    pub fn set_status(&mut self, status: Option<String>) {
        self.status = status;
    }

    /// The size painted for.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// Sets the size, as after [`Action::Resized`] or SIGWINCH.
    pub fn set_size(&mut self, size: Size, out: &mut Vec<u8>) {
        let size = size.clamped();
        if size != self.size {
            self.hide(out);
            self.size = size;
            self.painter.set_columns(self.columns());
        }
    }

    /// Sets whether attributes may be used.
    pub fn set_colour(&mut self, colour: bool) {
        self.look.colour = colour;
        self.painter.set_colour(colour);
    }

    /// Asks for the size again at each [`Prompt::open`] (`false`: a size was
    /// given).
    pub fn set_asking(&mut self, asking: bool) {
        self.query = if asking {
            SizeQuery::default()
        } else {
            SizeQuery::fixed()
        };
    }

    #[cfg(test)]
    pub(super) fn editor(&self) -> &Editor {
        &self.editor
    }

    /// Whether nothing is shown but the text and the status.
    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        self.choices.is_empty() && self.editor.search(&self.history).is_none()
    }

    // Output.

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
        if self.is_open {
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
    pub fn print_above(&mut self, text: &str, out: &mut Vec<u8>) {
        self.hide(out);
        for line in text.lines() {
            for cluster in unicode_segmentation::UnicodeSegmentation::graphemes(line, true) {
                out.extend_from_slice(super::width::glyph(cluster).text.as_bytes());
            }
            out.extend_from_slice(b"\r\n");
        }
        self.paint(out);
    }

    fn columns(&self) -> usize {
        usize::from(self.size.columns)
    }

    /// Leaves a line that was sent on the screen, whole and without hints.
    fn paint_sent(&mut self, out: &mut Vec<u8>) {
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
