//! The prompt as a whole: bytes from the terminal in, actions and paint out.
//! It composes the key decoder, the editor, the history, the layout and the
//! painter, and keeps what is typed while an answer streams for later.

use std::collections::VecDeque;
use std::time::Duration;

mod paint;
mod secret;
mod waiting;

use super::editor::{Completer, Editor, Outcome, Submission};
use super::frame::measure;
use super::history::History;
use super::keys::{Decoder, Key, Pending};
use super::layout::Layout;
use super::limits::Limits;
use super::screen::Painter;
use super::size::{Size, SizeQuery};
pub use secret::Secret;
use secret::{Pressed, SecretLine};
use waiting::Waiting;

/// After this pause an Escape was the key and not the start of a sequence.
const KEY_PAUSE: Duration = Duration::from_millis(100);
/// After this pause no more comes of a mark, which a serial line or a distant
/// terminal may send in pieces up to a second apart; and a paste has stalled.
const MARK_PAUSE: Duration = Duration::from_millis(1500);
/// After this pause a paste without an end mark has ended: the line lost it.
const PASTE_PAUSE: Duration = Duration::from_secs(5);

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
    /// Ctrl-Z: to the shell, if there is one.
    Suspend,
    /// Ctrl-C on an empty line: say how to leave.
    Interrupted,
    /// Ctrl-D on an empty line, or while the prompt is closed and nothing has been
    /// typed ahead: leave.
    Eof,
    /// Something to tell, as through [`Prompt::print_above`].
    Notice(String),
    /// The answer to [`Prompt::ask_secret`]; `None`: Ctrl-C or Ctrl-D.
    Secret(Option<Secret>),
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
    /// Keys until the prompt is open, or until their turn comes.
    waiting: Waiting,
    /// What the line had no room for and has not been told.
    refused_bytes: usize,
    actions: VecDeque<Action>,
    editor: Editor,
    history: History,
    layout: Layout,
    painter: Painter,
    is_open: bool,
    ask: bool,
    sent: Option<String>,
    secret: Option<SecretLine>,
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
            waiting: Waiting::default(),
            refused_bytes: 0,
            actions: VecDeque::new(),
            editor: Editor::new(limits),
            history: History::new(limits.history_bytes),
            is_open: false,
            ask: false,
            sent: None,
            secret: None,
            clear_screen: false,
            status: None,
            choices: Vec::new(),
            top: 0,
        }
    }

    /// Takes bytes read from the terminal. Then call [`Prompt::next_action`]
    /// until it gives none, and [`Prompt::paint`].
    pub fn feed(&mut self, bytes: &[u8]) {
        let mut keys = VecDeque::new();
        self.decoder.feed(bytes, &mut keys);
        self.take_keys(keys);
    }

    /// How long after the last byte to call [`Prompt::flush`]; `None` when
    /// nothing is unfinished.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        if self.refused_bytes > 0 || self.waiting.refused_bytes() > 0 {
            return Some(KEY_PAUSE);
        }
        self.decoder.pending().map(|pending| match pending {
            Pending::Key => KEY_PAUSE,
            Pending::Mark | Pending::Paste => MARK_PAUSE,
            Pending::StalledPaste => PASTE_PAUSE,
        })
    }

    /// Ends what is unfinished after [`Prompt::timeout`] has passed in silence.
    pub fn flush(&mut self) {
        // What was too much is told while a mark or a paste may still go on.
        if self.tell_refused() && self.decoder.pending() != Some(Pending::Key) {
            return;
        }
        let mut keys = VecDeque::new();
        self.decoder.flush(&mut keys);
        self.take_keys(keys);
    }

    /// Tells in one line each what was too much for the line and for what
    /// waits, now that it is over; whether there was any.
    fn tell_refused(&mut self) -> bool {
        let line = (
            std::mem::take(&mut self.refused_bytes),
            self.limits.text_bytes,
        );
        let ahead = (self.waiting.take_refused(), self.limits.waiting_bytes);
        for ((bytes, most), what) in [(line, "for the line"), (ahead, "typed ahead")] {
            if bytes > 0 {
                self.actions.push_back(Action::Notice(format!(
                    "{bytes} bytes {what} were not taken: {most} bytes is the most"
                )));
            }
        }
        line.0 > 0 || ahead.0 > 0
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
                // What is above a closed line is the answer's, and stays.
                Key::Ctrl('l') => {
                    self.clear_screen = self.is_open;
                    self.ask = true;
                }
                Key::Ctrl('z') => self.actions.push_back(Action::Suspend),
                Key::Ctrl('c') if !self.is_open && self.secret.is_none() => {
                    self.waiting.push(key, usize::MAX);
                    self.take_stop();
                }
                Key::Ctrl('o') if !self.is_open && self.secret.is_none() => {
                    self.actions.push_back(Action::Fold);
                }
                Key::Ctrl('d')
                    if !self.is_open && self.secret.is_none() && self.waiting.is_empty() =>
                {
                    self.actions.push_back(Action::Eof);
                }
                key if self.secret.is_some() => {
                    if let Some(line) = &mut self.secret {
                        let pressed = line.press(key);
                        self.on_secret(pressed);
                    }
                }
                Key::PasteProblem(problem) => {
                    let notice = Action::Notice(problem.to_string());
                    self.actions.push_back(notice);
                }
                Key::Ignored => {}
                // An open prompt takes its keys at once: a read bounds them.
                key if self.is_open => self.waiting.push(key, usize::MAX),
                key => self.waiting.push(key, self.limits.waiting_bytes),
            }
        }
    }

    /// A Ctrl-C that waits while the prompt is closed means the answer, and
    /// lines typed ahead that would each become a message.
    fn take_stop(&mut self) {
        let Some(lines) = self.waiting.take_stop() else {
            return;
        };
        self.actions.push_back(Action::Stop);
        if lines > 0 {
            let notice = format!("{lines} lines typed ahead were discarded");
            self.actions.push_back(Action::Notice(notice));
        }
    }

    /// The next thing to do. Keys wait while the prompt is closed, but for those that
    /// are not of the line: Ctrl-C, Ctrl-L, Ctrl-O, Ctrl-Z, and a Ctrl-D after nothing.
    pub fn next_action(&mut self, completer: &Completer<'_>) -> Option<Action> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Some(action);
            }
            if !self.is_open {
                return None;
            }
            let key = self.waiting.pop()?;
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
        // A text of which a part was not taken is not sent before that is told.
        if key == Key::Enter && self.refused_bytes > 0 {
            self.refused_bytes = self.refused_bytes.saturating_add(1);
            return None;
        }
        let outcome = match self.row_motion(&key) {
            Some((at, goal)) => self.editor.move_to_row(at, goal),
            None => self.editor.press(key, &self.history, completer),
        };
        match outcome {
            Outcome::None | Outcome::Bell | Outcome::Changed | Outcome::Cleared => None,
            Outcome::Full { refused_bytes } => {
                self.refused_bytes = self.refused_bytes.saturating_add(refused_bytes);
                None
            }
            Outcome::Choices(choices) => {
                self.choices = choices;
                None
            }
            Outcome::Submit(submission) => {
                let typed = submission.typed.as_ref().unwrap_or(&submission.text);
                self.history
                    .add(typed, submission.literal && submission.typed.is_none());
                self.sent = Some(typed.clone());
                self.is_open = false;
                self.clear_screen = false;
                self.take_stop();
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

    /// Opens the prompt for a line and asks the terminal for its size. Keys
    /// that came meanwhile are taken by the next [`Prompt::next_action`].
    pub fn open(&mut self) {
        self.is_open = true;
        self.tell_refused();
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

    /// Whether something has been typed that was not sent, in the line or ahead of it.
    #[must_use]
    pub fn has_typed(&self) -> bool {
        !self.editor.text().is_empty() || !self.waiting.is_empty()
    }

    /// Puts a text into the editor, as `/edit` does. `literal` for one that is
    /// a message whatever it begins with.
    pub fn set_text(&mut self, text: &str, literal: bool) {
        self.editor.set_text(text, literal);
    }

    /// Asks for a word that is not shown as it is typed, in the place of the edit
    /// line: [`Action::Secret`] brings it. What has been typed before counts, and what is
    /// typed then waits for another question, until [`Prompt::end_secrets`].
    pub fn ask_secret(&mut self, label: impl Into<String>) {
        let waiting = &mut self.waiting;
        let line = self
            .secret
            .get_or_insert_with(|| SecretLine::after(std::iter::from_fn(|| waiting.pop())));
        let pressed = line.ask(label.into());
        self.on_secret(pressed);
    }

    /// Nothing secret is asked for any more, and what was typed for it is forgotten.
    pub fn end_secrets(&mut self) {
        self.secret = None;
    }

    fn on_secret(&mut self, pressed: Pressed) {
        self.actions.push_back(Action::Secret(match pressed {
            Pressed::More => return,
            Pressed::Done(typed) => Some(typed),
            Pressed::GivenUp => None,
        }));
    }

    /// Adds a line to the history, as of an earlier day; sent lines are there already.
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
}
