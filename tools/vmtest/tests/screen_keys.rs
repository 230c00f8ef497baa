//! The line at the bottom of the screen: keys, pastes, widths, sizes. The plain
//! command runs the machine's code, and starts in a second.

use vmtest::{ANSWER, Chat, Fault, OrFail, PlainCommand, SOON, Seat, grammar_of};

/// What the empty line says.
const HINT: &str = ">>> Send a message (/help for help)";

fn seat(columns: u16, rows: u16) -> Seat {
    Seat {
        size: (columns, rows),
        ..Seat::default()
    }
}

#[test]
fn keys_edit_the_line_on_the_screen() {
    let chat = Chat::start(&[], &[]);
    for (keys, row, column) in [
        ("one two", ">>> one two", 11),
        ("one two\x1b[D\x1b[D\x7f", ">>> one wo", 8),
        ("one two\x01X\x05Y", ">>> Xone twoY", 13),
        ("one two\x1b[HX\x1b[FY", ">>> Xone twoY", 13),
        ("one two\x02\x02\x06X", ">>> one twXo", 11),
        ("one two\x1bbX", ">>> one Xtwo", 9),
        ("one two\x1b[1;5D\x1b[1;5DX", ">>> Xone two", 5),
        ("one two\x01\x1bfX", ">>> oneX two", 8),
        ("one two\x01\x04\x1b[3~", ">>> e two", 4),
        ("one two\x17", ">>> one", 8),
        ("one two\x1b\x7f", ">>> one", 8),
        ("one two\x01\x1bd", ">>>  two", 4),
        ("one two\x1bb\x0b", ">>> one", 8),
        ("one two\x1bb\x15", ">>> two", 4),
        ("one two\x17\x01\x19", ">>> twoone", 7),
        ("a b\x17\x01\x0b\x19\x1by", ">>> b", 5),
        ("ab\x14", ">>> ba", 6),
        ("hello there\x1f", ">>> hello", 10),
        ("ab cd\x01\x1bu\x1bc", ">>> AB Cd", 9),
        // What some terminals take for themselves does no harm.
        ("a\x1a\x13\x11b", ">>> ab", 6),
        ("\x1b[99;5~\x1bOPx", ">>> x", 5),
    ] {
        chat.type_keys(keys);
        let _ = chat.expect_line(row, column);
        // With text in the line, Ctrl-C clears it.
        chat.ctrl_c();
        let _ = chat.expect_line(HINT, 4);
    }
}

#[test]
fn wide_characters_and_clusters_move_and_go_as_one() {
    let chat = Chat::start_at(seat(20, 10), &[], &[]);
    for (keys, column) in [
        ("漢字", 8),
        ("漢字\x1b[D", 6),
        ("漢字\x1b[D\x7f", 4),
        ("e\u{301}a\x1b[D", 5),
        ("ae\u{301}\x7f", 5),
        ("👨‍👩‍👧a", 7),
        ("👨‍👩‍👧a\x1b[D\x7f", 4),
        ("👍🏽\x1b[D", 4),
        ("🇩🇪🇫🇷\x7f", 6),
    ] {
        chat.type_keys(keys);
        let what = format!("the cursor in column {column} after {keys:?}");
        let _ = chat.expect_screen(&what, SOON, |screen| {
            screen.cursor.1 == column && screen.cursor_row().starts_with(">>>")
        });
        chat.ctrl_c();
        let _ = chat.expect_screen("an empty line", SOON, |screen| {
            screen.cursor.1 == 4 && screen.cursor_row().contains("Send a")
        });
    }
    // A wide character that does not fit a row's last cell begins the next row.
    chat.type_keys("0123456789abcde漢x");
    let screen = chat.expect_line("漢x", 3);
    assert_eq!(screen.rows[screen.cursor.0 - 1], ">>> 0123456789abcde");
}

#[test]
fn a_long_line_wraps_and_up_and_down_move_by_rows() {
    let chat = Chat::start_at(seat(20, 12), &[], &[]);
    let _ = chat.ask("/show temp", SOON);
    chat.type_keys("0123456789abcdefghijklmnopqrstuvwxyzABCDEF");
    let screen = chat.expect_line("ABCDEF", 6);
    let top = screen.cursor.0 - 2;
    assert_eq!(
        screen.rows[top..=screen.cursor.0],
        [">>> 0123456789abcdef", "ghijklmnopqrstuvwxyz", "ABCDEF"]
    );
    chat.type_keys("\x1b[A");
    let _ = chat.expect_line("ghijklmnopqrstuvwxyz", 6);
    chat.type_keys("\x1b[A");
    let _ = chat.expect_line(">>> 0123456789abcdef", 6);
    chat.type_keys("-\x1b[B");
    let _ = chat.expect_line("fghijklmnopqrstuvwxy", 7);
    // Only from the first row it is the history, and the text comes back.
    chat.type_keys("\x1b[A\x1b[A");
    let _ = chat.expect_line(">>> /show temp", 14);
    chat.type_keys("\x1b[B");
    let _ = chat.expect_line("zABCDEF", 7);
}

#[test]
fn history_comes_back_and_is_searched() {
    let chat = Chat::start(&[], &[]);
    for line in ["/show temp", "/show top_k", "/show seed"] {
        let _ = chat.ask(line, SOON);
    }
    chat.type_keys("draft\x1b[A");
    let _ = chat.expect_line(">>> /show seed", 14);
    chat.type_keys("\x1b[A\x10");
    let _ = chat.expect_line(">>> /show temp", 14);
    chat.type_keys("\x1b[B\x0e\x1b[B");
    let _ = chat.expect_line(">>> draft", 9);
    chat.type_keys("\x12te");
    let _ = chat.expect_line("(history: te) /show temp", 20);
    chat.type_keys("x");
    let _ = chat.expect_line("(no history: tex) /show temp", 24);
    // Given up, the draft is there again; taken, the line can be sent.
    chat.type_keys("\x07");
    let _ = chat.expect_line(">>> draft", 9);
    chat.type_keys("\x12op\x1b[F");
    let _ = chat.expect_line(">>> /show top_k", 15);
    chat.type_keys("\r");
    let _ = chat.expect("top_k 40", SOON);
    let _ = chat.expect_prompt(SOON);
}

#[test]
fn tab_completes_commands_names_and_values() {
    let chat = Chat::start(&[], &[]);
    for (keys, row) in [
        ("/he\t", ">>> /help"),
        ("/c\t", ">>> /c"),
        ("/c\t\t", ">>> /clear"),
        ("/c\t\t\t", ">>> /context"),
        ("/c\t\t\t\x1b[Z", ">>> /clear"),
        ("/set max\t", ">>> /set max_tokens"),
        ("/set format j\t", ">>> /set format json"),
        ("/model mod\t", ">>> /model model.gguf"),
        ("no command /he\t", ">>> no command /he"),
    ] {
        chat.type_keys(keys);
        let screen = chat.expect_screen(row, SOON, |screen| screen.cursor_row() == row);
        let below = &screen.rows[screen.cursor.0 + 1];
        let offers = keys.starts_with("/c");
        assert_eq!(below.starts_with("/clear  "), offers, "{keys:?}: {below}");
        chat.ctrl_c();
        let screen = chat.expect_line(HINT, 4);
        // What was offered has made way.
        assert_eq!(screen.rows[screen.cursor.0 + 1..].concat(), "");
    }
}

#[test]
fn a_message_of_several_lines_is_typed_in_four_ways() {
    let chat = Chat::start(&["--grammar", "yes"], &[("yes.gbnf", &grammar_of("yes"))]);
    for keys in [
        "one\x1b\rtwo",
        "one\x0atwo",
        "one\\\rtwo",
        "\"\"\"\rone\rtwo\r\"\"\"",
    ] {
        chat.type_keys(keys);
        let quotes = keys.starts_with('"');
        let last = if quotes { "... \"\"\"" } else { "... two" };
        let screen = chat.expect_line(last, 7);
        let above = screen.cursor.0 - 1 - usize::from(quotes);
        assert!(screen.rows[above].ends_with(" one"), "{}", screen.text());
        chat.type_keys("\r");
        let _ = chat.expect("· context ", ANSWER);
        let _ = chat.expect_prompt(SOON);
        let saved = chat.saved("lines.json");
        let saved: serde_json::Value = serde_json::from_str(&saved).or_fail("parse JSON");
        assert_eq!(saved[1]["text"], "one\ntwo", "{keys:?}");
        let _ = chat.ask("/clear", SOON);
    }
}

#[test]
fn what_is_pasted_is_one_message_and_never_a_command() {
    let mut chat = Chat::start(&["--grammar", "yes"], &[("yes.gbnf", &grammar_of("yes"))]);
    let pasted = "/exit\n\ttabs, \u{1b}[31mescapes\u{7f} and 漢字\n\n/help  \n";
    chat.paste(pasted);
    let screen = chat.expect_line("...", 4);
    assert!(
        screen
            .text()
            .contains(">>> /exit\n...     tabs, ␛[31mescapes␡")
    );
    chat.type_keys("\r");
    let _ = chat.expect("yes", ANSWER);
    let _ = chat.expect_prompt(SOON);
    assert!(!chat.words().contains("this list"), "a command ran");
    let saved: serde_json::Value = serde_json::from_str(&chat.saved("paste.json")).unwrap();
    assert_eq!(saved[1]["text"], pasted);
    // Typed, it is a command.
    chat.type_line("/exit");
    assert!(chat.wait_exit(SOON).success());
}

#[test]
fn a_mebibyte_is_pasted_byte_exact() {
    let chat = Chat::start(&[], &[]);
    let mut text = "0123456789 abcdef 漢字 \"quoted\" \\ \t end\n".repeat(1 << 15);
    text.truncate(
        (0..=1 << 20)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap(),
    );
    text.truncate(text.trim_end().len());
    chat.type_keys("/system ");
    chat.paste(&text);
    let tail = text
        .lines()
        .next_back()
        .unwrap()
        .trim_end()
        .replace('\t', "    ");
    let _ = chat.expect_screen("the end of the paste", SOON, |screen| {
        screen.cursor_row() == format!("... {tail}")
    });
    chat.type_keys("\r");
    let _ = chat.expect("the system prompt is set", SOON);
    let _ = chat.expect_prompt(SOON);
    let saved: serde_json::Value = serde_json::from_str(&chat.saved("long.json")).unwrap();
    assert!(saved[0]["text"] == text, "the text was changed on its way");
    // As a message it is refused with its length, and comes back whole.
    let _ = chat.ask("/system none", SOON);
    let fault = Fault::begins(15, "1 MiB is pasted and sent");
    chat.paste(&text);
    chat.type_keys("\r");
    let refusal = chat.expect("/set ctx N", ANSWER);
    assert!(refusal.contains("and the context holds 4096"), "{refusal}");
    fault.told(
        &chat.last_fault(),
        "the message, whole, until there is room for it",
    );
    let _ = chat.expect_prompt(SOON);
    chat.type_keys("/edit\r");
    let _ = chat.expect_screen("the message in the line", SOON, |screen| {
        screen.cursor_row() == format!("... {tail}")
    });
}

#[test]
fn each_key_of_a_long_line_is_echoed_in_few_bytes() {
    let chat = Chat::start_at(seat(80, 24), &["--draft", "off"], &[]);
    chat.paste(&"lorem ipsum dolor ".repeat(560));
    let _ = chat.expect_screen("the paste", SOON, |screen| screen.cursor.0 == 23);
    for key in ('a'..='z').cycle().take(60) {
        let before = (chat.picture().cursor, chat.bytes().len());
        chat.type_keys(&key.to_string());
        let _ = chat.expect_screen("the echo", SOON, |screen| screen.cursor != before.0);
        let sent = chat.bytes().len() - before.1;
        // A letter, and where it scrolls a row.
        assert!(sent < 200, "{key:?}: {sent} bytes");
    }
}

#[test]
fn a_window_that_is_resized_heals_at_once() {
    let chat = Chat::start_at(seat(60, 20), &[], &[]);
    let words = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJ";
    chat.type_keys(words);
    let _ = chat.expect_line(&format!(">>> {words}"), 50);
    chat.resize(30, 20);
    let _ = chat.expect_screen("two rows", SOON, |screen| {
        let row = screen.cursor.0;
        row > 0
            && screen.rows[row] == "qrstuvwxyzABCDEFGHIJ"
            && screen.rows[row - 1] == ">>> 0123456789abcdefghijklmnop"
    });
    chat.resize(70, 20);
    chat.type_keys("!");
    let _ = chat.expect_line(&format!(">>> {words}!"), 51);
    // Answers and texts wrap at the new width.
    chat.ctrl_c();
    chat.resize(44, 100);
    let help = chat.ask("/help", SOON);
    assert!(help.contains("this list"));
    let screen = chat.picture();
    assert!(
        screen
            .rows
            .iter()
            .any(|row| row == "  /context           what fills the context,"),
        "{}",
        screen.text()
    );
    assert!(
        screen
            .rows
            .iter()
            .any(|row| row == "                     by message"),
        "{}",
        screen.text()
    );
}

#[test]
fn a_terminal_without_a_size_is_asked_at_each_prompt() {
    let serial = |answers| Seat {
        size: (50, 20),
        size_is_known: false,
        answers,
        ..Seat::default()
    };
    let chat = Chat::start_at(serial(true), &[], &[]);
    let words = "0123456789".repeat(6);
    chat.type_keys(&words);
    let _ = chat.expect_line("67890123456789", 14);
    chat.ctrl_c();
    // Nobody tells that it was resized: it is asked when the next line begins,
    // and when it is drawn again.
    chat.set_size(40, 20);
    let _ = chat.ask("/show temp", SOON);
    chat.type_keys(&words);
    let _ = chat.expect_line("678901234567890123456789", 24);
    chat.set_size(45, 20);
    chat.type_keys("\x0c");
    let screen = chat.expect_line("1234567890123456789", 19);
    assert_eq!(screen.cursor.0, 1, "{}", screen.text());
    drop(chat);

    // Nobody answers: 80 columns.
    let seat = Seat {
        size: (100, 20),
        ..serial(false)
    };
    let chat = Chat::start_at(seat, &[], &[]);
    chat.type_keys(&"0123456789".repeat(8));
    let screen = chat.expect_line("6789", 4);
    assert_eq!(screen.rows[screen.cursor.0 - 1].len(), 80);
    chat.ctrl_c();

    // The size that is given counts until it is given otherwise.
    let _ = chat.ask("/set rows 20", SOON);
    let _ = chat.ask("/set cols 30", SOON);
    chat.type_keys(&"0123456789".repeat(3));
    let screen = chat.expect_line("6789", 4);
    assert_eq!(screen.rows[screen.cursor.0 - 1].len(), 30);
}

#[test]
fn ctrl_c_says_how_to_leave_ctrl_l_redraws_and_ctrl_d_leaves() {
    let mut chat = Chat::start(&[], &[]);
    chat.ctrl_c();
    let _ = chat.expect("Ctrl-D or /exit leaves", SOON);
    let _ = chat.expect_prompt(SOON);
    chat.type_keys("some words");
    let _ = chat.expect_line(">>> some words", 14);
    chat.scribble(b"\x1b[3;10Hscribble\x1b[20;5Hscrabble\x1b[8;8H");
    assert!(chat.picture().text().contains("scrabble"));
    chat.type_keys("\x0c");
    let screen = chat.expect_line(">>> some words", 14);
    assert_eq!(screen.text(), ">>> some words");
    // With text in the line Ctrl-D deletes, and does not leave.
    chat.ctrl_d();
    chat.type_keys("\x01\x04");
    let _ = chat.expect_line(">>> ome words", 4);
    chat.ctrl_c();
    let _ = chat.expect_line(HINT, 4);
    chat.ctrl_d();
    assert!(chat.wait_exit(SOON).success());
    // The terminal is as it was: pastes are not bracketed any more.
    assert!(chat.bytes().ends_with(b"\x1b[?2004l"));
}

#[test]
fn keys_typed_before_the_model_is_ready_or_while_it_answers_are_kept() {
    let folder = vmtest::Disks::new();
    let model = folder.link_beside(vmtest::model(), &[]);
    let arguments = ["--temp", "0", "--threads", "1"].map(std::ffi::OsStr::new);
    let command = PlainCommand::launch(
        &vmtest::native_executable(),
        arguments.into_iter().chain([model.as_os_str()]),
    );
    // At once, before anything was shown.
    command.type_keys("/set max_tokens 3\rHello!\r/show max_tokens\rnext");
    let _ = command.expect("max_tokens is 3", SOON);
    let _ = command.expect("cut at max_tokens", ANSWER);
    let _ = command.expect("Longest answer", SOON);
    let screen = command.expect_line(">>> next", 8);
    for line in [
        ">>> /set max_tokens 3",
        ">>> Hello!",
        ">>> /show max_tokens",
    ] {
        assert!(
            screen.rows.iter().any(|row| row == line),
            "{}",
            screen.text()
        );
    }
}

#[test]
fn a_size_is_given_at_the_start_or_by_one_of_its_parameters() {
    // Who starts a machine says how large its window is then: the terminal itself is asked
    // later, and knows better.
    let serial = Seat {
        size: (50, 20),
        size_is_known: false,
        ..Seat::default()
    };
    let chat = Chat::start_at(serial, &["--cols", "30", "--rows", "10"], &[]);
    let words = "0123456789".repeat(4);
    let row = format!(">>> {words}");
    let _ = chat.ask("/show temp", SOON);
    chat.type_line("/set color off");
    let _ = chat.expect("color is off", SOON);
    chat.set_hints(false);
    let _ = chat.expect_prompt(SOON);
    chat.type_keys(&words);
    let _ = chat.expect_line(&row, row.len());
    drop(chat);

    let chat = Chat::start_at(seat(50, 20), &["--cols", "30"], &[]);
    chat.type_keys(&words);
    let _ = chat.expect_line("67890123456789", 14);
    chat.ctrl_c();
    let _ = chat.ask("/set cols 25", SOON);
    chat.type_keys(&words);
    let _ = chat.expect_line("1234567890123456789", 19);
    chat.ctrl_c();
    let _ = chat.ask("/set cols auto", SOON);
    chat.type_keys(&words);
    let _ = chat.expect_line(&row, row.len());
}
