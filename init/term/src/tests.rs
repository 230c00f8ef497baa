//! The parts together: bytes in, and what an emulated terminal then shows.

use std::time::Duration;

use proptest::prelude::*;
use unicode_segmentation::UnicodeSegmentation;

use super::editor::{Editor, Outcome};
use super::history::History;
use super::keys::Key;
use super::width::glyph;
use super::{Action, Completion, Limits, Look, Markdown, Prompt, Rendering, Size};

fn no_completion(_: &str) -> Completion {
    Completion::default()
}

fn commands(before: &str) -> Completion {
    let all = ["/clear ", "/context ", "/exit ", "/help "];
    let candidates = all.iter().filter(|c| c.starts_with(before));
    Completion {
        start: 0,
        candidates: candidates.map(|c| (*c).to_owned()).collect(),
    }
}

/// A prompt on an emulated terminal.
#[derive(Clone)]
struct Bench {
    prompt: Prompt,
    actions: Vec<Action>,
}

struct Screen(vt100::Parser);

impl Screen {
    fn new(size: Size) -> Self {
        Screen(vt100::Parser::new(size.rows, size.columns, 100))
    }

    fn process(&mut self, bytes: &[u8]) {
        // The emulator takes U+FFFD in its input for an error of its own.
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        self.0.process(text.replace('\u{fffd}', "?").as_bytes());
    }

    fn rows(&self) -> Vec<String> {
        let columns = self.0.screen().size().1;
        let rows = self.0.screen().rows(0, columns);
        rows.map(|row| row.trim_end().to_owned()).collect()
    }

    fn cursor(&self) -> (usize, usize) {
        let (row, column) = self.0.screen().cursor_position();
        (row.into(), column.into())
    }
}

impl Bench {
    fn new(columns: u16, rows: u16) -> Self {
        let look = Look {
            colour: false,
            ..Look::default()
        };
        let mut prompt = Prompt::new(Some(Size { columns, rows }), look, Limits::default());
        prompt.open();
        Bench {
            prompt,
            actions: Vec::new(),
        }
    }

    fn feed(&mut self, bytes: &[u8]) -> &mut Self {
        self.prompt.feed(bytes);
        while let Some(action) = self.prompt.next_action(&commands) {
            self.actions.push(action);
        }
        self
    }

    fn paint(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.prompt.paint(&mut out);
        out
    }

    /// What a terminal shows that has seen nothing before.
    fn fresh(&self) -> Screen {
        let mut prompt = self.prompt.clone();
        let (mut before, mut out) = (Vec::new(), Vec::new());
        prompt.hide(&mut before);
        prompt.paint(&mut out);
        let mut screen = Screen::new(prompt.size());
        screen.process(&out);
        screen
    }

    fn sent(&self) -> Vec<(&str, bool)> {
        let sent = self.actions.iter().filter_map(|action| match action {
            Action::Submit(s) => Some((s.text.as_str(), s.literal)),
            _ => None,
        });
        sent.collect()
    }
}

/// The text after `bytes`, with `|` for the cursor.
fn edited(bytes: &str) -> String {
    let mut bench = Bench::new(80, 24);
    bench.prompt.history_add("first line", false);
    bench.prompt.history_add("second\nline", false);
    bench.feed(bytes.as_bytes());
    let editor = bench.prompt.editor();
    let mut text = editor.text().to_owned();
    text.insert(editor.cursor(), '|');
    text
}

#[test]
fn keys_edit() {
    for (bytes, text) in [
        ("abc", "abc|"),
        ("abc\x02\x02x", "ax|bc"),
        ("abc\x1b[D\x7f", "a|c"),
        ("abc\x01\x04", "|bc"),
        ("abc\x01\x1b[3~", "|bc"),
        ("abc\x1b[Hx\x1b[Fy", "xabcy|"),
        ("one two\x1bb", "one |two"),
        ("one two\x1bb\x1bb\x1bf", "one| two"),
        ("one two\x17", "one |"),
        ("one /two\x1b\x7f", "one /|"),
        ("one two\x01\x1bd", "| two"),
        ("one two\x1bb\x0b", "one |"),
        ("one two\x1bb\x15", "|two"),
        ("one two\x17\x17\x19!", "one two!|"),
        ("one two\x1bb\x0b\x19\x19", "one twotwo|"),
        ("a b\x17\x01\x0b\x19\x1by", "b|"),
        ("ab\x14", "ba|"),
        ("ab cd\x01\x1bu\x1bc", "AB Cd|"),
        ("hello there\x1f", "hello |"),
        ("hello\x15\x1f", "hello|"),
        ("a\nb\x1b\rc", "a\nb\nc|"),
        ("one\ntwo\x1b[Ax", "onex|\ntwo"),
        ("o\nlong\x1b[A\x1b[Bx", "o\nlongx|"),
        ("long\no\nlong\x1b[A\x02\x1b[Ax", "x|long\no\nlong"),
        ("one\ntwo\x01\x7f", "one|two"),
        ("one\ntwo\x1b[1;5Hx", "x|one\ntwo"),
        ("e\u{301}👨‍👩‍👧漢\x7f\x7f", "e\u{301}|"),
        ("👍🏽x\x02\x02y", "y|👍🏽x"),
        ("draft\x1b[A", "second\nline|"),
        ("draft\x10\x10\x10", "first line|"),
        ("draft\x10\x10\x10\x0e\x0e\x0e", "draft|"),
        ("draft\x10!\x1b[5~?\x1b[6~\x1b[6~", "draft|"),
        ("draft\x10!\x1b[5~?\x1b[6~", "second\nline!|"),
        (
            "\x1b[A!\x1b[6~\x1b[5~\x1b[5~?\x1b[6~\x1b[5~",
            "first line?|",
        ),
        ("\x1b[A!\x12fir\x05\x1b[B", "second\nline!|"),
        // What a search shows is what it takes; the edited line is not lost.
        ("\x1b[5~!\x12sec\x05", "second|\nline"),
        ("\x1b[5~!\x12sec\x05\x1b[5~\x1b[6~", "second\nline!|"),
        // Nor is a change back to what was sent.
        ("\x1b[5~!\x1b[5~\x1b[6~\x7f\x1b[5~\x1b[6~", "second\nline|"),
        ("\x1b[5~!\x1b[5~\x03\x1b[5~", "second\nline|"),
        ("draft\x12fir", "draft|"),
        ("draft\x12fir\x05", "first line|"),
        ("draft\x12line\x12\x1b[C", "first l|ine"),
        ("draft\x12fir\x07x", "draftx|"),
        ("draft\x03x", "x|"),
        ("draft\x03\x19", "draft|"),
        ("a\x1a\x13\x11b", "ab|"),
        ("/e\t", "/exit |"),
        ("/c\t", "/c|"),
        ("/c\t\t\t", "/context |"),
        ("/c\t\x1b[Z", "/context |"),
        ("/c\t\tx", "/clear x|"),
        ("\x1b[200~/e\x1b[201~\t", "/e|"),
        ("a\x1b[200~b\rc\x1b[201~d", "ab\ncd|"),
    ] {
        assert_eq!(edited(bytes), text, "{bytes:?}");
    }
}

#[test]
fn a_paste_that_comes_piece_by_piece_is_text_and_no_command() {
    let mut bench = Bench::new(80, 24);
    let pieces = [
        "\x1b", "[20", "0~", "/exit\r", "two\r", "\x1b", "[2", "01", "~",
    ];
    // As the caller does it where a second passes between two pieces.
    for piece in pieces {
        bench.feed(piece.as_bytes());
        let second = Duration::from_secs(1);
        while bench.prompt.timeout().is_some_and(|pause| pause < second) {
            bench.prompt.flush();
        }
    }
    assert_eq!(bench.prompt.timeout(), None);
    assert!(bench.feed(b"").sent().is_empty());
    assert_eq!(bench.prompt.text(), "/exit\ntwo\n");
}

#[test]
fn lines_are_sent() {
    for (bytes, sent) in [
        ("hi\r", vec![("hi", false)]),
        ("\r  \r", vec![]),
        ("a\nb\r", vec![("a\nb", false)]),
        ("a\\\rb\r", vec![("a\nb", false)]),
        ("a\\\\\r", vec![("a\\\\", false)]),
        ("\"\"\"\ra\r\rb\r\"\"\"\r", vec![("a\n\nb", true)]),
        ("\"\"\"a\"\"\"\r", vec![("a", true)]),
        ("\"\"\"\r", vec![]),
        ("/exit\r", vec![("/exit", false)]),
        ("\x1b[200~/exit\r\x1b[201~\r", vec![("/exit\n", true)]),
        ("\x1b[200~/exit\r\x1b[201~", vec![]),
        (" \x1b[200~/exit\x1b[201~\r", vec![(" /exit", true)]),
        (
            "/system \x1b[200~x\ry\x1b[201~\r",
            vec![("/system x\ny", false)],
        ),
        ("\x1b[200~a\\\x1b[201~\r", vec![("a\\", true)]),
        ("\x1b[200~\"\"\"\x1b[201~\r", vec![("\"\"\"", true)]),
        (
            "x\x1b[200~/exit\x1b[201~\x01\x1b[3~\r",
            vec![("/exit", true)],
        ),
    ] {
        let mut bench = Bench::new(80, 24);
        bench.feed(bytes.as_bytes());
        assert_eq!(bench.sent(), sent, "{bytes:?}");
    }
}

#[test]
fn a_recalled_paste_is_still_no_command() {
    let mut bench = Bench::new(80, 24);
    bench.feed(b"\x1b[200~/exit\x1b[201~\r");
    bench.prompt.open();
    bench.feed(b"\x1b[A\r");
    assert_eq!(bench.sent(), [("/exit", true), ("/exit", true)]);
}

#[test]
fn a_killed_or_changed_paste_is_still_no_command() {
    for (keys, sent) in [
        ("\x03\x19", ("/exit", true)),
        ("\x15\x19", ("/exit", true)),
        ("\x1b\x7f\x17\x19", ("/exit", true)),
        ("\x01\x0b\x19\x19\x1by", ("/exit/exit", true)),
        ("x\x15a\x19\x01\x04", ("/exitx", true)),
        ("\x01/system \x15\x19", ("/system /exit", false)),
        ("\x01/help \x03\x19\x05\x1b\x7f\x08", ("/help ", false)),
        ("\x15\x19\x1f\x19", ("/exit", true)),
        ("\x01\x1b[C\x14\x02\x14", ("/exit", true)),
        ("\x01\x1bl", ("/exit", true)),
    ] {
        let mut bench = Bench::new(80, 24);
        let bytes = ["\x1b[200~/exit\x1b[201~", keys, "\r"].concat();
        bench.feed(bytes.as_bytes());
        assert_eq!(bench.sent(), [sent], "{keys:?}");
    }
}

#[test]
fn what_is_typed_while_an_answer_streams_waits() {
    let mut bench = Bench::new(80, 24);
    bench.feed(b"one\rtwo\rthr").feed(b"ee\x03");
    assert_eq!(bench.sent(), [("one", false)]);
    assert_eq!(bench.actions.last(), Some(&Action::Stop));
    bench.prompt.open();
    bench.feed(b"");
    assert_eq!(bench.sent(), [("one", false), ("two", false)]);
    bench.prompt.open();
    bench.feed(b"!\r");
    assert_eq!(bench.sent()[2], ("three!", false));
}

#[test]
fn control_keys_on_an_empty_line() {
    let mut bench = Bench::new(80, 24);
    bench.feed(b"\x03\x1a\x13\x11x\x03\x03\x04");
    let expected = [
        Action::Suspend,
        Action::Interrupted,
        Action::Interrupted,
        Action::Eof,
    ];
    assert_eq!(bench.actions, expected);
}

#[test]
fn the_terminal_is_asked_for_its_size() {
    let mut prompt = Prompt::new(None, Look::default(), Limits::default());
    let mut out = Vec::new();
    prompt.open();
    prompt.paint(&mut out);
    assert!(out.starts_with(super::size::QUERY));
    prompt.feed(b"x\x1b[50;132R");
    let size = Size {
        columns: 132,
        rows: 50,
    };
    let action = prompt.next_action(&no_completion);
    assert_eq!(action, Some(Action::Resized(size)));
    prompt.set_size(size, &mut out);
    assert_eq!(prompt.next_action(&no_completion), None);
    assert_eq!(prompt.text(), "x");
    prompt.feed(b"\x1b[50;99R");
    assert_eq!(prompt.next_action(&no_completion), None);
}

#[test]
fn the_screen_is_cleared_only_while_the_line_is_open() {
    let mut prompt = Prompt::new(None, Look::default(), Limits::default());
    let mut painted = |bytes: &[u8], opens| {
        let mut out = Vec::new();
        if opens {
            prompt.open();
        }
        prompt.feed(bytes);
        while prompt.next_action(&no_completion).is_some() {}
        prompt.paint(&mut out);
        let out = String::from_utf8(out).unwrap();
        let query = String::from_utf8(super::size::QUERY.to_vec()).unwrap();
        (out.contains("\x1b[2J"), out.contains(&query))
    };
    assert_eq!(painted(b"", true), (false, true));
    assert_eq!(painted(b"\x0c", false), (true, true));
    // The answer is not wiped, neither now nor when it has ended.
    assert_eq!(painted(b"\x0chi\r\x0c", false), (false, true));
    assert_eq!(painted(b"\x0c", false), (false, true));
    assert_eq!(painted(b"", false), (false, false));
    assert_eq!(painted(b"", true), (false, true));
}

#[test]
fn a_key_at_the_end_costs_one_byte() {
    let mut bench = Bench::new(80, 24);
    bench.feed(b"hello").paint();
    assert_eq!(bench.feed(b"!").paint(), b"!");
    let paint = bench.feed("é".as_bytes()).paint();
    assert_eq!(paint, "é\x1b[12G".as_bytes(), "no terminal is trusted");
    assert_eq!(bench.feed(b"\x7f").paint(), b"\x08\x1b[K");
    assert_eq!(bench.feed(b"\x02").paint(), b"\x08");
    assert_eq!(bench.feed(b"\x02x").paint(), b"\x08xo!\x08\x08");
    assert!(bench.paint().is_empty());
}

#[test]
fn the_screen_shows_what_was_sent_and_the_answer_below() {
    let mut bench = Bench::new(20, 6);
    let mut screen = Screen::new(bench.prompt.size());
    bench.prompt.set_status(Some("loading".to_owned()));
    screen.process(&bench.feed(b"hello\nworld").paint());
    let rows = [">>> hello", "... world", "loading", "", "", ""];
    assert_eq!(screen.rows(), rows);
    screen.process(&bench.feed(b"\r").paint());
    assert_eq!(screen.rows(), rows);
    assert_eq!(screen.cursor(), (2, 0));
    let mut out = Vec::new();
    bench.prompt.hide(&mut out);
    screen.process(&out);
    screen.process(b"Hi!\r\n");
    bench.prompt.set_status(None);
    bench.prompt.open();
    screen.process(&bench.feed(b"").paint());
    let rows = [">>> hello", "... world", "Hi!", ">>>", "", ""];
    assert_eq!(screen.rows(), rows);
    let mut out = Vec::new();
    bench.feed(b"ab\x02").paint();
    bench.prompt.print_above("note\n\x1b[2J", &mut out);
    let mut prompt = Vec::new();
    bench.prompt.hide(&mut prompt);
    bench.prompt.paint(&mut prompt);
    screen.process(&out);
    let rows = [">>> hello", "... world", "Hi!", "note", "␛[2J", ">>> ab"];
    assert_eq!(screen.rows(), rows);
    assert_eq!(screen.cursor(), (5, 5));
}

#[test]
fn choices_are_listed_below() {
    let mut bench = Bench::new(30, 6);
    let mut screen = Screen::new(bench.prompt.size());
    screen.process(&bench.feed(b"/c\t").paint());
    assert_eq!(screen.rows()[..3], [">>> /c", "/clear    /context", ""]);
    screen.process(&bench.feed(b"\t").paint());
    assert_eq!(screen.rows()[0], ">>> /clear");
    screen.process(&bench.feed(b"x").paint());
    assert_eq!(screen.rows()[..2], [">>> /clear x", ""]);
}

#[test]
fn a_history_search_is_shown() {
    let mut bench = Bench::new(40, 6);
    bench.prompt.history_add("tell me a story", false);
    let mut screen = Screen::new(bench.prompt.size());
    screen.process(&bench.feed(b"\x12sto").paint());
    assert_eq!(screen.rows()[0], "(history: sto) tell me a story");
    assert_eq!(screen.cursor(), (0, 25));
    screen.process(&bench.feed(b"x").paint());
    assert_eq!(screen.rows()[0], "(no history: stox) tell me a story");
    assert_eq!(bench.feed(b"\x7f\r").sent(), [("tell me a story", false)]);
}

#[test]
fn a_history_search_hides_what_the_empty_line_suggests() {
    let look = Look {
        placeholder: "Send a message".to_owned(),
        ..Look::default()
    };
    let mut bench = Bench::new(60, 6);
    bench.prompt = Prompt::new(Some(bench.prompt.size()), look, Limits::default());
    bench.prompt.open();
    bench.prompt.history_add("tell me a story", false);
    let mut screen = Screen::new(bench.prompt.size());
    for (keys, row) in [
        ("", ">>> Send a message"),
        ("\x12", "(history: )"),
        ("sto", "(history: sto) tell me a story"),
        ("\x07", ">>> Send a message"),
    ] {
        screen.process(&bench.feed(keys.as_bytes()).paint());
        assert_eq!(screen.rows()[0], row);
    }
}

/// A whole screen in colour, and what moves the cursor about in it: what is not
/// shown is not sent.
const SCREEN_BYTES: usize = 80 * 24 * 4;

#[test]
fn of_ten_thousand_characters_a_key_sends_a_screen_at_most() {
    let mut bench = Bench::new(80, 24);
    bench
        .feed("lorem ipsum 漢字 ".repeat(700).as_bytes())
        .paint();
    assert!(bench.prompt.text().chars().count() > 10_000);
    for key in [
        "x", "\x7f", "\x02", "\x01", "y", "\x05", "\x1bb", "\x17", "\x1b[A",
    ] {
        let sent = bench.feed(key.as_bytes()).paint().len();
        assert!(sent <= SCREEN_BYTES, "{key:?} sends {sent} bytes");
    }
}

#[test]
fn a_mebibyte_is_pasted_and_edited_and_sent_whole() {
    let mut text = "0123456789 abcdef 漢字\n".repeat(1 << 15);
    text.truncate(1 << 20);
    for text in [text.clone(), text.replace('\n', " ")] {
        let mut bench = Bench::new(80, 24);
        let bytes = ["\x1b[200~", &text, "\x1b[201~"].concat();
        let reads = bytes.as_bytes().chunks(4096);
        let painted: usize = reads.map(|read| bench.feed(read).paint().len()).sum();
        assert!(painted <= SCREEN_BYTES, "the paste sends {painted} bytes");
        for key in ["x", "\x7f", "\x02", "y", "\x7f", "\x1bb", "\x1bf", "\x1b[C"] {
            let sent = bench.feed(key.as_bytes()).paint().len();
            assert!(sent <= SCREEN_BYTES, "{key:?} sends {sent} bytes");
        }
        bench.feed(b"\r").paint();
        assert!(bench.sent() == [(text.as_str(), true)]);
    }
}

impl Bench {
    fn notices(&mut self) -> Vec<String> {
        let actions = std::mem::take(&mut self.actions);
        let notices = actions.into_iter().filter_map(|action| match action {
            Action::Notice(notice) => Some(notice),
            _ => None,
        });
        notices.collect()
    }

    fn with_limits(limits: Limits) -> Self {
        let mut bench = Bench::new(80, 24);
        bench.prompt = Prompt::new(Some(bench.prompt.size()), Look::default(), limits);
        bench.prompt.open();
        bench
    }
}

fn paste_of(bytes: usize) -> Vec<u8> {
    format!("\x1b[200~{}\x1b[201~", "x".repeat(bytes)).into_bytes()
}

const SMALL: Limits = Limits {
    paste_bytes: 100,
    text_bytes: 150,
    undo_bytes: 600,
    kill_bytes: 100,
    history_bytes: 100,
    waiting_bytes: 300,
};

#[test]
fn what_is_too_much_is_said_in_one_line_with_its_size_and_the_limit() {
    // Pasted, typed in one go, typed in pieces: a line is said when it is over.
    let mut bench = Bench::with_limits(SMALL);
    bench.feed(&paste_of(101));
    assert_eq!(bench.prompt.text(), "");
    let told = ["the paste of 101 bytes was not taken: 100 bytes is the most"];
    assert_eq!(bench.notices(), told);

    bench
        .feed(&paste_of(100))
        .feed(&b"y".repeat(60))
        .feed(b"zz");
    assert_eq!(bench.prompt.text().len(), 150);
    assert!(bench.notices().is_empty(), "it may go on");
    assert!(bench.prompt.timeout().is_some());
    // An Enter in the same go does not send what is cut.
    bench.feed(b"\r");
    assert!(bench.prompt.is_open() && bench.sent().is_empty());
    bench.prompt.flush();
    bench.feed(b"");
    let told = ["13 bytes for the line were not taken: 150 bytes is the most"];
    assert_eq!(bench.notices(), told);
    assert_eq!(bench.prompt.timeout(), None);
    bench.feed(b"\r");
    assert_eq!(bench.sent().len(), 1);

    // Typed ahead while the prompt is closed.
    bench.notices();
    bench.feed(&b"a".repeat(200)).feed(&b"b".repeat(200));
    assert!(bench.notices().is_empty());
    bench.prompt.flush();
    bench.feed(b"");
    let notices = bench.notices();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(notices[0].ends_with("bytes typed ahead were not taken: 300 bytes is the most"));
    bench.feed(&paste_of(90));
    bench.prompt.open();
    bench.feed(b"");
    let told = "90 bytes typed ahead were not taken: 300 bytes is the most";
    assert_eq!(bench.notices(), [told]);
}

#[test]
fn what_is_typed_ahead_takes_little_more_than_its_length() {
    let mut bench = Bench::new(80, 24);
    bench.feed(b"go\r").feed(&b"x".repeat(12 << 20));
    bench.prompt.open();
    bench.feed(b"");
    assert_eq!(bench.prompt.text().len(), 12 << 20);
    assert!(bench.notices().is_empty());
}

#[test]
fn lines_that_wait_are_counted_until_they_are_taken() {
    let mut bench = Bench::with_limits(SMALL);
    bench.feed(b"go\r");
    for _ in 0..20 {
        bench.feed(&b"line\r".repeat(20));
        bench.prompt.open();
        bench.feed(b"");
    }
    let taken = bench.sent().len();
    bench.prompt.open();
    while bench.prompt.next_action(&commands).is_some() {
        bench.prompt.open();
    }
    assert!(taken < 30, "{taken}");
    assert!(bench.notices().len() > 10);
}

#[test]
fn ctrl_c_discards_lines_typed_ahead_all_at_once() {
    let mut bench = Bench::new(80, 24);
    bench.feed(b"go\r");
    bench.actions.clear();
    bench.feed(&b"a line\r".repeat(40_000)).feed(b"begun\x03");
    let notice = Action::Notice("40000 lines typed ahead were discarded".to_owned());
    assert_eq!(bench.actions, [Action::Stop, notice.clone()]);
    bench.prompt.open();
    bench.feed(b"");
    assert_eq!((bench.prompt.text(), bench.sent().len()), ("", 0));

    // Also where they came with the line that closed the prompt.
    bench.actions.clear();
    bench.feed(&[&b"a line\r".repeat(40_001)[..], b"\x03kept"].concat());
    assert_eq!(bench.sent().len(), 1);
    assert_eq!(bench.actions[1..], [Action::Stop, notice]);
    bench.prompt.open();
    bench.feed(b"");
    assert_eq!(bench.prompt.text(), "kept");
}

#[test]
fn ctrl_c_keeps_the_one_message_typed_ahead() {
    let mut bench = Bench::new(80, 24);
    bench.feed(b"go\r").feed(b"next\rand on\x03");
    assert!(bench.notices().is_empty());
    bench.prompt.open();
    bench.feed(b"");
    assert_eq!(bench.sent(), [("next", false)]);
    bench.prompt.open();
    bench.feed(b"");
    assert_eq!(bench.prompt.text(), "and on");
}

#[test]
fn what_was_cut_and_sent_is_bounded() {
    let mut bench = Bench::with_limits(SMALL);
    for letter in ["a", "b", "c"] {
        let line = letter.repeat(60);
        bench.feed(line.as_bytes()).feed(b"\x15\x02");
        bench.feed(line.as_bytes()).feed(b"\r");
        bench.prompt.open();
    }
    // Of three lines of 60 bytes each the last one is kept.
    bench.feed(b"\x19\x1by");
    assert_eq!(bench.prompt.text(), "c".repeat(60));
    bench.feed(b"\x15\x1b[A\x1b[A\x1b[A");
    assert_eq!(bench.prompt.text(), "c".repeat(60));
}

#[test]
fn edited_lines_are_kept_within_bounds_and_the_draft_always() {
    let mut bench = Bench::with_limits(SMALL);
    for line in ["line 0", "line 1", "line 2", "line 3"] {
        bench.prompt.history_add(line, false);
    }
    let edit = "y".repeat(100);
    bench.feed(edit.as_bytes());
    for _ in 0..4 {
        bench.feed(b"\x1b[5~").feed(edit.as_bytes());
    }
    for line in ["line 1", "line 2", "line 3"] {
        bench.feed(b"\x1b[6~");
        let is_kept = line != "line 1";
        let shown = [line, if is_kept { &edit } else { "" }].concat();
        assert_eq!(bench.prompt.text(), shown);
    }
    bench.feed(b"\x1b[6~");
    assert_eq!(bench.prompt.text(), edit);
}

/// A source of numbers that a seed repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    /// What one read may bring: noise, letters, and what means something.
    fn bytes(&mut self) -> Vec<u8> {
        const PIECES: [&str; 30] = [
            "\x1b[200~",
            "\x1b[201~",
            "\x1b[A",
            "\x1b[B",
            "\x1b[D",
            "\x1b[24;80R",
            "\x1b[1;5",
            "\x12",
            "\x19",
            "\x1by",
            "\x0f",
            "\x0c",
            "\r",
            "\n",
            "```",
            "**",
            "> - ",
            "| ",
            "漢字",
            "👨‍👩‍👧",
            "🇩",
            "\u{301}",
            "/c\t\t",
            "\"\"\"",
            "<think>",
            "\x1b]0;t\x07",
            "\u{9b}2J",
            "\u{202e}",
            "1. ",
            "\t",
        ];
        let mut bytes = Vec::new();
        for _ in 0..=self.below(8) {
            let length = self.below(8);
            match self.below(3) {
                0 => bytes.extend_from_slice(PIECES[self.below(PIECES.len())].as_bytes()),
                1 => bytes.extend((0..length).map(|_| u8::try_from(self.below(256)).unwrap())),
                _ => bytes.extend((0..length).map(|_| u8::try_from(32 + self.below(95)).unwrap())),
            }
        }
        bytes
    }

    fn size(&mut self) -> Size {
        Size {
            columns: u16::try_from(16 + self.below(90)).unwrap(),
            rows: u16::try_from(2 + self.below(40)).unwrap(),
        }
    }
}

/// What a renderer may send: printable text, line ends, looks.
fn check_rendered(out: &[u8]) {
    let text = String::from_utf8(out.to_vec()).unwrap();
    for sequence in text.split('\x1b').skip(1) {
        let looks = sequence
            .strip_prefix('[')
            .and_then(|rest| rest.split_once('m'));
        let is_look =
            looks.is_some_and(|(codes, _)| codes.bytes().all(|b| b.is_ascii_digit() || b == b';'));
        assert!(is_look, "{sequence:?} in {text:?}");
    }
    let steers = |c: char| c.is_control() && !"\r\n\t\x1b".contains(c);
    assert!(!text.contains(steers), "{text:?}");
}

/// A session of a prompt and a renderer under 8 KiB of random bytes: nothing
/// panics, the screen always shows what a fresh one would, and nothing that a
/// model says steers the terminal.
fn fuzz(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut bench = Bench::new(80, 24);
    let mut markdown = Markdown::new(80, true, Rendering::Markdown);
    let mut screen = Screen::new(bench.prompt.size());
    let mut sent = Vec::new();
    let mut left: usize = 8 << 10;
    while left > 0 {
        let read = random.bytes();
        left = left.saturating_sub(read.len());
        bench.prompt.feed(&read);
        let mut out = bench.feed(b"").paint();
        screen.process(&out);
        sent.extend_from_slice(&out);
        if bench.prompt.is_open() && random.below(16) == 0 {
            if let Err(difference) = check_screen(&bench, &screen, None) {
                panic!(
                    "{difference}\nscreen: {:#?}\nfresh: {:#?}\nsince it was right: {:?}",
                    screen.rows(),
                    bench.fresh().rows(),
                    String::from_utf8_lossy(&sent)
                );
            }
            sent.clear();
        }
        out.clear();
        markdown.push(&String::from_utf8_lossy(&read), &mut out);
        match random.below(40) {
            0 => markdown.finish(&mut out),
            1 => markdown.set_dimmed(random.below(2) == 0, &mut out),
            2 => markdown.set_columns(random.below(200)),
            _ => {}
        }
        check_rendered(&out);
        out.clear();
        match random.below(40) {
            0 => bench.prompt.flush(),
            1 => bench.prompt.set_text("", false),
            2 => {
                let size = random.size();
                if size != bench.prompt.size() {
                    bench.prompt.set_size(size, &mut out);
                    screen = Screen::new(size);
                }
            }
            3 => bench.prompt.hide(&mut out),
            4 | 5 => bench
                .prompt
                .set_status((random.below(2) == 0).then(|| "status 漢字".to_owned())),
            _ => bench.prompt.open(),
        }
        screen.process(&out);
        sent.extend_from_slice(&out);
        bench.actions.clear();
        // Yanked kills double and double again: keep the run about keys.
        if bench.prompt.text().len() > 1 << 14 {
            bench = Bench::new(80, 24);
            screen = Screen::new(bench.prompt.size());
        }
    }
}

/// Runs sessions from `seed` on until `is_over`; a failure names its seed.
fn fuzz_from(seed: u64, is_over: impl Fn(u64) -> bool) -> u64 {
    let mut sessions = 0;
    while !is_over(sessions) {
        let seed = seed + sessions;
        let ended = std::panic::catch_unwind(|| fuzz(seed));
        assert!(ended.is_ok(), "ZOSIA_FUZZ_SEED={seed} repeats it");
        sessions += 1;
    }
    sessions
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn random_bytes_break_neither_prompt_nor_renderer() {
    match number_from("ZOSIA_FUZZ_SEED") {
        Some(seed) => fuzz(seed),
        None => assert_eq!(fuzz_from(0, |sessions| sessions == 12), 12),
    }
}

#[test]
fn a_character_of_disputed_width_shifts_nothing() {
    let mut bench = Bench::new(40, 4);
    let mut screen = Screen::new(bench.prompt.size());
    for key in ["a", "\u{17d8}", "\x02", "x", "y"] {
        screen.process(&bench.feed(key.as_bytes()).paint());
    }
    assert_eq!(screen.rows()[0], ">>> axy\u{17d8}");
}

// The editor against a plain string.

/// A naive editor: a string, an index, and everything found again each time.
struct Model {
    text: String,
    cursor: usize,
}

impl Model {
    fn boundaries(&self) -> Vec<usize> {
        let starts = self.text.grapheme_indices(true).map(|(i, _)| i);
        starts.chain([self.text.len()]).collect()
    }

    fn before(&self) -> usize {
        let before = self.boundaries().into_iter().filter(|b| *b < self.cursor);
        before.max().unwrap_or(0)
    }

    fn after(&self) -> usize {
        let after = self.boundaries().into_iter().filter(|b| *b > self.cursor);
        after.min().unwrap_or(self.text.len())
    }

    fn replace(&mut self, from: usize, to: usize, new: &str) {
        self.text = [&self.text[..from], new, &self.text[to..]].concat();
        let at = from + new.len();
        let snapped = self.boundaries().into_iter().filter(|b| *b >= at).min();
        self.cursor = snapped.unwrap_or(self.text.len());
    }

    fn press(&mut self, key: &Key) {
        let at = self.cursor;
        match key {
            Key::Char(c) => self.replace(at, at, &c.to_string()),
            Key::Newline => self.replace(at, at, "\n"),
            Key::Paste(text) => self.replace(at, at, text),
            Key::Backspace => self.replace(self.before(), at, ""),
            Key::Delete => self.replace(at, self.after(), ""),
            Key::Left => self.cursor = self.before(),
            Key::Right => self.cursor = self.after(),
            Key::TextStart => self.cursor = 0,
            Key::TextEnd => self.cursor = self.text.len(),
            _ => unreachable!("the strategy gives no other"),
        }
    }
}

fn character() -> impl Strategy<Value = char> {
    prop_oneof![
        4 => prop::char::range(' ', '~'),
        1 => prop::sample::select("é漢字한👍👨👩👧🇩🇪🏽❤🏴क्ष\u{301}\u{200d}\u{fe0f}\u{1100}\u{1161}".chars().collect::<Vec<_>>()),
        1 => any::<char>().prop_filter("keys send no control characters", |c| !c.is_control()),
    ]
}

fn pasted() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        character().prop_map(String::from),
        prop::sample::select(vec![
            "\n",
            "\r\n",
            "\t",
            "\x1b",
            "\r",
            "👨‍👩‍👧",
            "long words here "
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

fn editing_key() -> impl Strategy<Value = Key> {
    prop_oneof![
        8 => character().prop_map(Key::Char),
        1 => Just(Key::Newline),
        1 => pasted().prop_map(Key::Paste),
        8 => prop::sample::select(vec![Key::Backspace, Key::Delete, Key::Left, Key::Right, Key::TextStart, Key::TextEnd]),
    ]
}

#[derive(Debug, Clone)]
enum Step {
    Bytes(String),
    Status(Option<String>),
    Above(String),
    Hide,
}

fn step() -> impl Strategy<Value = Step> {
    let keys = [
        "\x7f",
        "\x1b[3~",
        "\x1b[D",
        "\x1b[C",
        "\x1b[A",
        "\x1b[B",
        "\x01",
        "\x05",
        "\x15",
        "\x0b",
        "\x17",
        "\x19",
        "\x1bb",
        "\x1bf",
        "\n",
        "\x0c",
        "\t",
        "\x12",
        "\x1f",
        "\x14",
        "\r",
        "/c",
        "\x03",
        "漢字",
        "👨‍👩‍👧",
        "e\u{301}",
        "some more words ",
    ];
    prop_oneof![
        8 => character().prop_map(|c| Step::Bytes(c.to_string())),
        8 => prop::sample::select(keys.to_vec()).prop_map(|k| Step::Bytes(k.into())),
        1 => pasted().prop_map(|p| Step::Bytes(["\x1b[200~", &p, "\x1b[201~"].concat())),
        1 => prop::option::of("[a-z ]{0,50}").prop_map(Step::Status),
        1 => "[a-z]{1,12}".prop_map(Step::Above),
        1 => Just(Step::Hide),
    ]
}

/// The rows of an open prompt with `text` and the cursor in them, the long way.
fn naive_rows(text: &str, at: usize, columns: usize) -> (Vec<String>, (usize, usize)) {
    let mut rows = vec![">>> ".to_owned()];
    let mut column = 4;
    let mut cursor = None;
    let newline = |rows: &mut Vec<String>, start: &str| {
        rows.push(start.to_owned());
        start.len()
    };
    for (i, cluster) in text.grapheme_indices(true).chain([(text.len(), "")]) {
        let room = match cluster {
            "" | "\n" => 1,
            "\r\n" => 2,
            _ => glyph(cluster).room,
        };
        if column + room > columns {
            column = newline(&mut rows, "");
        }
        if i == at {
            cursor = Some((rows.len() - 1, column));
        }
        match cluster {
            "" => {}
            "\n" => column = newline(&mut rows, "... "),
            "\r\n" => {
                rows.last_mut().unwrap().push('␍');
                column = newline(&mut rows, "... ");
            }
            _ => {
                rows.last_mut().unwrap().push_str(&glyph(cluster).text);
                column += glyph(cluster).width;
            }
        }
    }
    let rows = rows
        .iter()
        .map(|row| row.trim_end().replace('\u{fffd}', "?"));
    let rows = rows.collect();
    (rows, cursor.unwrap())
}

fn check_screen(bench: &Bench, screen: &Screen, above: Option<&str>) -> Result<(), TestCaseError> {
    let fresh = bench.fresh();
    let (row, column) = screen.cursor();
    let (fresh_row, fresh_column) = fresh.cursor();
    prop_assert_eq!(column, fresh_column);
    prop_assert!(row >= fresh_row);
    let top = row - fresh_row;
    let (rows, fresh_rows) = (screen.rows(), fresh.rows());
    prop_assert_eq!(&rows[top..], &fresh_rows[..rows.len() - top]);
    if let (Some(above), true) = (above, top > 0) {
        prop_assert_eq!(&rows[top - 1], above);
    }
    Ok(())
}

/// The painted rows against [`naive_rows`], where glyphs are what they seem.
fn check_naive(bench: &Bench, status: Option<&String>) -> Result<(), TestCaseError> {
    let editor = bench.prompt.editor();
    let text = editor.text();
    let plain = |c| glyph(c).exact && glyph(c).room <= bench.prompt.size().columns.into();
    if !bench.prompt.is_at_rest() || !text.graphemes(true).all(plain) {
        return Ok(());
    }
    let columns = bench.prompt.size().columns.into();
    let (naive, cursor) = naive_rows(text, editor.cursor(), columns);
    let fresh = bench.fresh();
    prop_assert_eq!(fresh.cursor().1, cursor.1);
    let top = cursor.0 - fresh.cursor().0;
    let height = usize::from(bench.prompt.size().rows) - usize::from(status.is_some());
    let shown = naive.len().min(top + height);
    prop_assert_eq!(&fresh.rows()[..shown - top], &naive[top..shown]);
    prop_assert!(shown - top == height.min(naive.len()), "the window is full");
    Ok(())
}

fn cases() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn editing_is_editing_a_plain_string(keys in prop::collection::vec(editing_key(), 0..60)) {
        let history = History::new(1 << 20);
        let mut editor = Editor::default();
        let mut model = Model { text: String::new(), cursor: 0 };
        for key in keys {
            model.press(&key);
            let _ = editor.press(key, &history, &no_completion);
            prop_assert_eq!(editor.text(), &model.text);
            prop_assert_eq!(editor.cursor(), model.cursor);
        }
        // And all of it can be undone.
        while editor.press(Key::Ctrl('_'), &history, &no_completion) == Outcome::Changed {}
        prop_assert_eq!(editor.text(), "");
    }

    #[test]
    fn the_screen_shows_what_a_fresh_one_would(
        columns in 16u16..40, rows in 2u16..9,
        steps in prop::collection::vec((step(), any::<bool>()), 0..80),
    ) {
        let mut bench = Bench::new(columns, rows);
        bench.prompt.history_add("an earlier line\nof two lines, one of them long", false);
        let mut screen = Screen::new(bench.prompt.size());
        let mut above: Option<String> = None;
        let mut status = None;
        for (step, paint) in steps {
            let mut out = Vec::new();
            match step {
                Step::Bytes(bytes) => {
                    let clears = bytes == "\x0c";
                    bench.feed(bytes.as_bytes());
                    if clears || !bench.prompt.is_open() {
                        above = None;
                    }
                }
                Step::Status(text) => {
                    status.clone_from(&text);
                    bench.prompt.set_status(text);
                }
                Step::Above(text) => {
                    bench.prompt.print_above(&text, &mut out);
                    above = Some(text);
                }
                Step::Hide => bench.prompt.hide(&mut out),
            }
            if paint || !bench.prompt.is_open() {
                bench.prompt.paint(&mut out);
                screen.process(&out);
                check_screen(&bench, &screen, above.as_deref())?;
                if bench.prompt.is_open() {
                    check_naive(&bench, status.as_ref())?;
                } else {
                    bench.prompt.open();
                }
            } else {
                screen.process(&out);
            }
        }
    }

    #[test]
    fn no_bytes_break_the_prompt(
        reads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..40),
    ) {
        let mut bench = Bench::new(20, 5);
        for read in reads {
            bench.feed(&read).paint();
            bench.prompt.flush();
            bench.prompt.open();
        }
    }
}

#[test]
fn what_can_be_taken_back_is_bounded_in_bytes() {
    let limits = Limits {
        undo_bytes: 200 << 10,
        ..Limits::default()
    };
    let mut editor = Editor::new(limits);
    let mut press = |key| editor.press(key, &History::new(1 << 20), &no_completion);
    for _ in 0..3 {
        press(Key::Paste("y".repeat(80 << 10)));
        press(Key::Ctrl('u'));
    }
    // Three removals of 80 KiB are more than is kept: the oldest and the paste
    // before it are forgotten, which leaves two pairs.
    let undone = (0..6)
        .filter(|_| press(Key::Ctrl('_')) == Outcome::Changed)
        .count();
    assert_eq!(undone, 4);
}

#[test]
fn many_small_pastes_cost_no_more_than_one() {
    let mut editor = Editor::new(Limits::default());
    let history = History::new(1 << 20);
    for _ in 0..2000 {
        for key in [Key::Char('t'), Key::Paste("p".to_owned())] {
            editor.press(key, &history, &no_completion);
        }
    }
    assert!(editor.pasted_ranges() < 300);
    editor.press(Key::TextStart, &history, &no_completion);
    editor.press(Key::Delete, &history, &no_completion);
    let outcome = editor.press(Key::Enter, &history, &no_completion);
    assert!(matches!(outcome, Outcome::Submit(sent) if sent.literal));
}

#[test]
fn a_yank_that_the_line_does_not_hold_replaces_nothing() {
    let limits = Limits {
        text_bytes: 20,
        ..Limits::default()
    };
    let mut editor = Editor::new(limits);
    let history = History::new(1 << 20);
    for text in ["short", "a longer one here"] {
        editor.press(Key::Paste(text.to_owned()), &history, &no_completion);
        editor.press(Key::Ctrl('u'), &history, &no_completion);
        // Another key between, so that the next kill is one of its own.
        editor.press(Key::Left, &history, &no_completion);
    }
    editor.press(
        Key::Paste("0123456789".to_owned()),
        &history,
        &no_completion,
    );
    for key in [Key::Ctrl('y'), Key::Alt('y'), Key::Alt('y'), Key::Alt('y')] {
        editor.press(key, &history, &no_completion);
        assert!(editor.text().starts_with("0123456789"), "{}", editor.text());
        assert!(editor.text().len() <= 20, "{}", editor.text());
    }
}

#[test]
fn a_secret_is_typed_and_never_shown() {
    let mut bench = Bench::new(40, 10);
    bench.prompt.ask_secret("passphrase: ");
    bench.feed(b"hunter3\x7f2 x\x1b[D\x0f");
    let painted = String::from_utf8(bench.paint()).unwrap();
    assert!(painted.contains("passphrase: "), "{painted:?}");
    for shown in ["hunter", "h", "x\x1b"] {
        assert!(
            !painted.replace("passphrase", "").contains(shown),
            "{painted:?}"
        );
    }
    // Typed fast, the second one does not come into the line, either.
    bench.feed(b"\rhunter2 x\rhunter");
    bench.prompt.ask_secret("again: ");
    bench.feed(b"");
    bench.prompt.end_secrets();
    bench.feed(b"hello\r");
    let [
        Action::Secret(Some(one)),
        Action::Secret(Some(two)),
        Action::Submit(sent),
    ] = &bench.actions[..]
    else {
        panic!("{:?}", bench.actions)
    };
    assert_eq!((one.text(), sent.text.as_str()), ("hunter2 x", "hello"));
    assert_eq!(one, two);
    assert!(!format!("{one:?}").contains("hunter"));
    let mut bench = Bench::new(40, 10);
    bench.prompt.ask_secret("passphrase: ");
    bench.feed(b"abc\x04\x15\x1b[A\x04");
    assert_eq!(bench.actions, [Action::Secret(None)]);
    bench.prompt.end_secrets();
    // Nor is what is typed before the question a message.
    bench.prompt.close(&mut Vec::new());
    bench.feed(b"hunter2\r");
    bench.prompt.ask_secret("passphrase: ");
    bench.feed(b"");
    assert!(
        matches!(&bench.actions[1..], [Action::Secret(Some(word))] if word.text() == "hunter2")
    );
    bench.prompt.end_secrets();
    bench.prompt.open();
    bench.feed(b"");
    assert_eq!(bench.actions.len(), 2);
    // Nothing of it is in the history.
    bench.feed(b"\x1b[A");
    assert_eq!(bench.prompt.editor().text(), "");
}
