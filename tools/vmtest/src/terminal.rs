//! The user at the terminal: a screen that is looked at, keys that are typed.
//!
//! What arrives is kept three times: as bytes (the log), as words (printed
//! characters with runs of white space made one space, so that a wrapped line
//! still matches), and as a screen. Like a real terminal it answers the
//! question where the cursor is.

use std::env;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::{OrFail, SOON};

/// Columns of the screen.
pub const COLS: u16 = 100;
/// Rows of the screen.
pub const ROWS: u16 = 40;
/// Rows kept above the screen, for the log.
const SCROLLBACK_ROWS: usize = 2000;
/// The guest's prompt; empty, it has the cursor behind it, and may have a hint
/// behind the cursor.
const PROMPT: &str = ">>> ";

/// The screen at one moment.
pub struct Picture {
    /// Its rows, without the spaces at their ends.
    pub rows: Vec<String>,
    /// Row and column of the cursor.
    pub cursor: (usize, usize),
    screen: vt100::Screen,
}

/// How a cell looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one attribute")]
pub struct Attributes {
    /// Bold.
    pub bold: bool,
    /// Dim.
    pub dim: bool,
    /// Italic.
    pub italic: bool,
    /// In a colour of its own.
    pub coloured: bool,
}

impl Picture {
    /// The rows, one line each.
    #[must_use]
    pub fn text(&self) -> String {
        self.rows.join("\n").trim_end().to_owned()
    }

    /// The row that the cursor is in.
    #[must_use]
    pub fn cursor_row(&self) -> &str {
        &self.rows[self.cursor.0]
    }

    /// How the last place of `words` (ASCII, within one row) looks.
    #[must_use]
    pub fn attributes_of(&self, words: &str) -> Option<Attributes> {
        let mut rows = self.rows.iter().enumerate().rev();
        let (row, text) = rows.find(|(_, text)| text.contains(words))?;
        let column = text[..text.find(words)?].chars().count();
        let place = |cells: usize| u16::try_from(cells).ok();
        let cell = self.screen.cell(place(row)?, place(column)?)?;
        Some(Attributes {
            bold: cell.bold(),
            dim: cell.dim(),
            italic: cell.italic(),
            coloured: cell.fgcolor() != vt100::Color::Default,
        })
    }
}

/// A terminal with something running in it.
pub struct Terminal {
    shared: Arc<Shared>,
    keyboard: Keyboard,
    started: Instant,
    /// Everything before this was expected, or typed over, already: an offset
    /// into the words.
    seen: Mutex<usize>,
    /// Whether an empty prompt has a hint behind it.
    hints: AtomicBool,
}

type Keyboard = Arc<Mutex<Box<dyn Write + Send>>>;

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    log: Vec<u8>,
    words: Words,
    screen: vt100::Parser<CursorReports>,
    closed: bool,
}

impl Terminal {
    /// A terminal that shows what `output` brings and types into `keyboard`.
    #[must_use]
    pub fn new(output: impl Read + Send + 'static, keyboard: impl Write + Send + 'static) -> Self {
        Self::of_size((COLS, ROWS), true, output, keyboard)
    }

    /// A terminal of so many columns and rows, which answers what it is asked,
    /// or does not.
    #[must_use]
    pub fn of_size(
        (columns, rows): (u16, u16),
        answers: bool,
        mut output: impl Read + Send + 'static,
        keyboard: impl Write + Send + 'static,
    ) -> Self {
        let keyboard: Keyboard = Arc::new(Mutex::new(Box::new(keyboard)));
        let reports = CursorReports {
            keyboard: answers.then(|| Arc::clone(&keyboard)),
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                log: Vec::new(),
                words: Words::default(),
                screen: vt100::Parser::new_with_callbacks(
                    cells(rows),
                    cells(columns),
                    SCROLLBACK_ROWS,
                    reports,
                ),
                closed: false,
            }),
            changed: Condvar::new(),
        });
        // For a person who wants to look on: `tail -f` shows the terminal live.
        let mut mirror = env::var_os("ZOSIA_TEST_LOG")
            .map(|path| File::create(path).or_fail("create ZOSIA_TEST_LOG"));
        let shown = Arc::clone(&shared);
        thread::spawn(move || {
            let mut parser = vte::Parser::new();
            let mut buffer = [0; 4096];
            // The end of a pty is an error (EIO), that of a socket is zero bytes.
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                let bytes = &buffer[..count];
                if let Some(mirror) = &mut mirror {
                    // A full disk must not fail the test.
                    let _ = mirror.write_all(bytes);
                }
                let mut state = shown.lock();
                state.log.extend_from_slice(bytes);
                parser.advance(&mut state.words, bytes);
                state.screen.process(bytes);
                drop(state);
                shown.changed.notify_all();
            }
            shown.lock().closed = true;
            shown.changed.notify_all();
        });
        Self {
            shared,
            keyboard,
            started: Instant::now(),
            seen: Mutex::new(0),
            hints: AtomicBool::new(true),
        }
    }

    /// Waits until `words` appear among what was shown since the last wait, and
    /// returns everything up to their end. White space in both counts as one
    /// space.
    #[track_caller]
    pub fn expect(&self, words: &str, within: Duration) -> String {
        self.expect_any(&[words], within)
    }

    /// As [`Terminal::expect`], for whichever of `alternatives` comes first.
    #[track_caller]
    pub fn expect_any(&self, alternatives: &[&str], within: Duration) -> String {
        let from = *self.seen();
        let found = self.wait(&format!("the words {alternatives:?}"), within, |state| {
            let fresh = &state.words.text[from..];
            alternatives
                .iter()
                .filter_map(|words| fresh.find(words).map(|at| from + at + words.len()))
                .min()
        });
        *self.seen() = found;
        self.shared.lock().words.text[from..found].to_owned()
    }

    /// Without colours there is no hint behind an empty prompt.
    pub fn set_hints(&self, hints: bool) {
        self.hints.store(hints, Ordering::Relaxed);
    }

    /// Waits for an empty prompt, and returns what was shown since the last
    /// wait. What tells it from the first bytes of a message that is shown
    /// again is the hint behind it, from which the cursor has come back.
    #[track_caller]
    pub fn expect_prompt(&self, within: Duration) -> String {
        let from = *self.seen();
        let end = self.wait("an empty prompt", within, |state| {
            let screen = state.screen.screen();
            let (row, column) = screen.cursor_position();
            let line = screen.rows(0, u16::MAX).nth(usize::from(row))?;
            let behind = line.strip_prefix(PROMPT.trim_end())?.trim();
            let at_prompt = usize::from(column) == PROMPT.len()
                && !(behind.is_empty() && self.hints.load(Ordering::Relaxed));
            at_prompt.then_some(state.words.text.len())
        });
        *self.seen() = end;
        self.shared.lock().words.text[from..end].to_owned()
    }

    /// Types `line` as a user does: sees it on the screen, then presses Enter.
    #[track_caller]
    pub fn type_line(&self, line: &str) {
        self.type_keys(line);
        let tail: String = line
            .split_whitespace()
            .next_back()
            .unwrap_or_default()
            .to_owned();
        self.wait(&format!("the echo of {line:?}"), SOON, |state| {
            let screen = state.screen.screen();
            let (row, _) = screen.cursor_position();
            let shown = screen.rows(0, u16::MAX).nth(usize::from(row))?;
            shown.trim_end().ends_with(&tail).then_some(())
        });
        let row_breaks = self.shared.lock().words.line_feeds;
        *self.seen() = self.shared.lock().words.text.len();
        self.type_keys("\r");
        self.wait("a new line after Enter", SOON, |state| {
            (state.words.line_feeds > row_breaks).then_some(())
        });
    }

    /// Types `line`, waits for the next prompt, and returns what was shown
    /// between the two.
    #[track_caller]
    pub fn ask(&self, line: &str, within: Duration) -> String {
        self.type_line(line);
        let shown = self.expect_prompt(within);
        shown
            .trim_end()
            .trim_end_matches(PROMPT.trim_end())
            .trim()
            .to_owned()
    }

    /// Types `line` and returns how many tokens of the prompt the engine had to
    /// evaluate for its answer: the rest it still held.
    #[track_caller]
    pub fn count_new_tokens(&self, line: &str, within: Duration) -> u32 {
        let shown = self.ask(line, within);
        let count = shown.rsplit_once("prompt ").and_then(|(_, rest)| {
            let (count, _) = rest.split_once(" new")?;
            count.parse().ok()
        });
        count.or_fail(format_args!("find the count of tokens in {shown:?}"))
    }

    /// Sends `keys` as they are.
    #[track_caller]
    pub fn type_keys(&self, keys: &str) {
        self.type_bytes(keys.as_bytes());
    }

    /// Sends what need not be text.
    #[track_caller]
    pub fn type_bytes(&self, bytes: &[u8]) {
        let mut keyboard = self.keyboard.lock().unwrap_or_else(PoisonError::into_inner);
        let typed = keyboard.write_all(bytes).and_then(|()| keyboard.flush());
        typed.or_fail(format_args!("type {}", bytes.escape_ascii()));
    }

    /// Presses Ctrl-C.
    pub fn ctrl_c(&self) {
        self.type_keys("\x03");
    }

    /// Presses Ctrl-D.
    pub fn ctrl_d(&self) {
        self.type_keys("\x04");
    }

    /// Pastes `text` as a terminal does that was asked to bracket pastes.
    pub fn paste(&self, text: &str) {
        let is_asked = self.shared.lock().screen.screen().bracketed_paste();
        assert!(is_asked, "nobody asked for bracketed paste");
        self.type_keys(&["\x1b[200~", &text.replace('\n', "\r"), "\x1b[201~"].concat());
    }

    /// The rows of the screen, without the spaces at their ends.
    #[must_use]
    pub fn screen(&self) -> Vec<String> {
        self.picture().rows
    }

    /// The screen as it is now.
    #[must_use]
    pub fn picture(&self) -> Picture {
        picture(&self.shared.lock())
    }

    /// Waits until the screen is as `is_so` wants it.
    #[track_caller]
    pub fn expect_screen(
        &self,
        what: &str,
        within: Duration,
        is_so: impl Fn(&Picture) -> bool,
    ) -> Picture {
        self.wait(what, within, |state| {
            let picture = picture(state);
            is_so(&picture).then_some(picture)
        })
    }

    /// Waits until the cursor's row is `row`, with the cursor at `column`.
    #[track_caller]
    pub fn expect_line(&self, row: &str, column: usize) -> Picture {
        let what = format!("the row {row:?} with the cursor in column {column}");
        self.expect_screen(&what, SOON, |screen| {
            screen.cursor_row() == row && screen.cursor.1 == column
        })
    }

    /// The window gets another size. Who runs in it is not told.
    pub fn set_size(&self, columns: u16, rows: u16) {
        let mut state = self.shared.lock();
        let screen = state.screen.screen_mut();
        screen.set_size(cells(rows), cells(columns));
    }

    /// Something else writes on the screen.
    pub fn scribble(&self, bytes: &[u8]) {
        self.shared.lock().screen.process(bytes);
    }

    /// Everything printed so far, runs of white space as one space.
    #[must_use]
    pub fn words(&self) -> String {
        self.shared.lock().words.text.clone()
    }

    /// The last line that told of a fault, without what names the program: the one
    /// that ends with a code.
    #[track_caller]
    #[must_use]
    pub fn last_fault(&self) -> String {
        let mut text = String::new();
        vte::Parser::new().advance(&mut Lines(&mut text), &self.bytes());
        let rows = text.lines().map(str::trim_end);
        let rows: Vec<&str> = rows.filter(|row| !row.is_empty()).collect();
        let ends = |row: &&str| row.contains("[ZE-") && row.ends_with(']');
        let end = rows.iter().rposition(ends);
        let end = end.or_fail(format_args!("find a line with a code in {text}"));
        let width = |text: &str| text.chars().filter(|c| *c != STYLE).count();
        // A row goes on in the next one if it looks like it, and that one's first word had
        // no room in it.
        let goes_on = |row: &str, next: &str| {
            let word = next.split(' ').next().unwrap_or_default();
            row.starts_with(STYLE) == next.starts_with(STYLE)
                && width(row) + 1 + width(word) > usize::from(COLS)
        };
        let mut begin = end;
        while begin > 0 && goes_on(rows[begin - 1], rows[begin]) {
            begin -= 1;
        }
        let line = rows[begin..=end].join(" ").replace(STYLE, "");
        let begin = ["zosia: ", ".sh: "].map(|name| line.rfind(name).map(|at| at + name.len()));
        let begin = begin.into_iter().flatten().max().unwrap_or_default();
        line[begin..].to_owned()
    }

    /// Every byte that arrived so far.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.shared.lock().log.clone()
    }

    /// Waits until nothing is connected to the terminal any more.
    #[track_caller]
    pub fn expect_end(&self, within: Duration) {
        let deadline = Instant::now() + within;
        let mut state = self.shared.lock();
        while !state.closed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(state);
                self.fail(&format!("no end within {within:?}"));
            }
            state = self.shared.wait(state, left);
        }
    }

    /// Waits until `look` finds something.
    #[track_caller]
    fn wait<T>(&self, what: &str, within: Duration, look: impl Fn(&State) -> Option<T>) -> T {
        let deadline = Instant::now() + within;
        let mut state = self.shared.lock();
        loop {
            if let Some(found) = look(&state) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let reason = if state.words.text.contains("Kernel panic") {
                "the guest's kernel panicked".to_owned()
            } else if state.closed {
                "the other end hung up".to_owned()
            } else if left.is_zero() {
                format!("not within {within:?}")
            } else {
                state = self.shared.wait(state, left);
                continue;
            };
            drop(state);
            self.fail(&format!("waiting for {what}: {reason}"));
        }
    }

    #[track_caller]
    fn fail(&self, reason: &str) -> ! {
        panic!(
            "{reason}, {:.1} s after the start",
            self.started.elapsed().as_secs_f32()
        );
    }

    /// The log as text in which escapes are visible, and the screen.
    #[must_use]
    pub fn dump(&self) -> String {
        let mut dump = String::from("──── log ────\n");
        for line in String::from_utf8_lossy(&self.bytes()).split('\n') {
            let line = line
                .trim_end_matches('\r')
                .replace('\x1b', "␛")
                .replace('\r', "␍");
            let _ = writeln!(dump, "{line}");
        }
        dump.push_str("──── screen ────\n");
        let screen = self.screen();
        let used = screen
            .iter()
            .rposition(|row| !row.is_empty())
            .map_or(0, |last| last + 1);
        for row in &screen[..used] {
            let _ = writeln!(dump, "│{row}");
        }
        dump.push_str("────────────────\n");
        dump
    }

    fn seen(&self) -> MutexGuard<'_, usize> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cells(count: u16) -> NonZeroU16 {
    NonZeroU16::new(count).or_fail("a screen's size")
}

fn picture(state: &State) -> Picture {
    let screen = state.screen.screen();
    let rows = screen.rows(0, u16::MAX);
    let (row, column) = screen.cursor_position();
    Picture {
        rows: rows.map(|row| row.trim_end().to_owned()).collect(),
        cursor: (row.into(), column.into()),
        screen: screen.clone(),
    }
}

impl Drop for Terminal {
    /// A failing test shows what its terminal showed, whatever made it fail.
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.dump());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, left: Duration) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout(state, left);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// What was printed, without the control sequences between.
#[derive(Default)]
struct Words {
    text: String,
    line_feeds: usize,
}

impl vte::Perform for Words {
    fn print(&mut self, character: char) {
        if character != ' ' {
            self.text.push(character);
        } else if !self.text.ends_with(' ') {
            self.text.push(' ');
        }
    }

    fn execute(&mut self, control: u8) {
        self.line_feeds += usize::from(control == b'\n');
        if matches!(control, b'\n' | b'\r' | b'\t') {
            self.print(' ');
        }
    }
}

/// The same by lines: whatever moves the cursor to a line's beginning ends one.
/// Where letters begin to look otherwise, there is a [`STYLE`].
struct Lines<'t>(&'t mut String);

const STYLE: char = '\u{2}';

impl vte::Perform for Lines<'_> {
    fn print(&mut self, character: char) {
        self.0.push(character);
    }

    fn execute(&mut self, control: u8) {
        if matches!(control, b'\n' | b'\r') {
            self.0.push('\n');
        }
    }

    fn csi_dispatch(&mut self, parameters: &vte::Params, _: &[u8], _: bool, command: char) {
        if command == 'm' && parameters.iter().any(|parameter| parameter != [0]) {
            self.0.push(STYLE);
        }
    }
}

/// Answers "where is the cursor?" (`CSI 6 n`) as a terminal does.
struct CursorReports {
    /// `None`: it does not answer.
    keyboard: Option<Keyboard>,
}

impl vt100::Callbacks for CursorReports {
    fn unhandled_csi(
        &mut self,
        screen: &mut vt100::Screen,
        intermediate: Option<u8>,
        _: Option<u8>,
        parameters: &[&[u16]],
        command: char,
    ) {
        if (intermediate, command) == (None, 'n') && parameters == [[6].as_slice()] {
            let (row, column) = screen.cursor_position();
            let report = format!("\x1b[{};{}R", row + 1, column + 1);
            let Some(keyboard) = &self.keyboard else {
                return;
            };
            let mut keyboard = keyboard.lock().unwrap_or_else(PoisonError::into_inner);
            // A guest that is gone needs no answer.
            let _ = keyboard.write_all(report.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Cursor, sink};
    use std::sync::mpsc;

    fn showing(output: &'static [u8]) -> Terminal {
        let terminal = Terminal::new(Cursor::new(output), sink());
        terminal.expect_end(SOON);
        terminal
    }

    #[test]
    fn words_match_across_a_wrapped_line_and_colours() {
        let terminal = showing(b"The capital of\r\n\x1b[1mFrance\x1b[0m is Paris.");
        assert_eq!(terminal.expect("of France", SOON), "The capital of France");
        assert_eq!(terminal.expect("Paris", SOON), " is Paris");
    }

    #[test]
    fn a_fault_is_told_apart_from_an_answer_that_fills_its_row() {
        let row = "x".repeat(usize::from(COLS));
        let told = format!(
            "{row}\r\n\x1b[2mthe engine died and is {row}\x1b[0m\r\n\x1b[2mback [ZE-40]\x1b[0m"
        );
        let terminal = Terminal::new(Cursor::new(told), sink());
        terminal.expect_end(SOON);
        let fault = format!("the engine died and is {row} back [ZE-40]");
        assert_eq!(terminal.last_fault(), fault);
    }

    #[test]
    fn a_prompt_is_an_empty_line_with_the_cursor_behind_it() {
        let hinting = b"ready\r\n>>> \x1b7a hint\x1b8";
        assert_eq!(showing(hinting).expect_prompt(SOON), "ready >>> a hint");
    }

    #[test]
    #[should_panic(expected = "the other end hung up")]
    fn a_prompt_with_text_is_not_empty() {
        showing(b">>> hello").expect_prompt(SOON);
    }

    #[test]
    #[should_panic(expected = "the other end hung up")]
    fn the_first_bytes_of_a_message_that_is_shown_again_are_no_prompt() {
        showing(b"going on\r\n>>> ").expect_prompt(SOON);
    }

    #[test]
    #[should_panic(expected = "panicked")]
    fn a_kernel_panic_ends_the_wait() {
        showing(b"Kernel panic - not syncing").expect(">>>", SOON);
    }

    #[test]
    fn the_screen_shows_what_was_overwritten() {
        let terminal = showing(b"reading 10 %\rreading 90 %\r\x1b[Kready");
        assert_eq!(terminal.screen()[0], "ready");
    }

    #[test]
    fn the_cursor_is_reported_like_a_terminal_does() {
        struct Sent(mpsc::Sender<Vec<u8>>);
        impl Write for Sent {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                let _ = self.0.send(bytes.to_vec());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (typed, received) = mpsc::channel();
        let _terminal = Terminal::new(Cursor::new(b"\x1b[999;999H\x1b[6n"), Sent(typed));
        let expected = format!("\x1b[{ROWS};{COLS}R");
        assert_eq!(received.recv_timeout(SOON).unwrap(), expected.into_bytes());
    }
}
