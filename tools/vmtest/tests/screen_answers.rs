//! What the screen makes of an answer. Grammars make the small model say what
//! a test wants to see.

use vmtest::{ANSWER, Attributes, Chat, OrFail, SOON, Seat, grammar_of};

const ENDLESS: &str = "Write a long story about a lighthouse.";
const PLAIN: Attributes = Attributes {
    bold: false,
    dim: false,
    italic: false,
    coloured: false,
};

fn narrow() -> Seat {
    Seat {
        size: (40, 30),
        ..Seat::default()
    }
}

/// The rows between the line that was sent and the status after the answer.
fn answer_rows(chat: &Chat, sent: &str) -> Vec<String> {
    chat.type_line(sent);
    let _ = chat.expect("· context ", ANSWER);
    let _ = chat.expect_prompt(SOON);
    let rows = chat.screen();
    let begin = rows.iter().rposition(|row| *row == format!(">>> {sent}"));
    let begin = begin.or_fail("find the line that was sent") + 1;
    let end = rows.iter().rposition(|row| row.contains(" · prompt "));
    rows[begin..end.or_fail("find the status")].to_vec()
}

const MARKDOWN: &str = "# A heading\n\
    Words that are **very bold** or *slanted* or `code_here` wrap at the width.\n\
    - an item that is long enough to need a second row\n\
    - [ ] *not* __done__\n\
    1. first\n\
    > quoted\n\
    \n\
    ```rust\n    let x = a * b * c;  // *verbatim*\n```\n\
    | a | b |\n|---|---|\n| 1 | 2 |\n\
    2 * 3 * 4 and snake_case_name";

#[test]
fn markdown_is_rendered_and_wrapped() {
    let grammar = grammar_of(MARKDOWN);
    let chat = Chat::start_at(narrow(), &["--grammar", "md"], &[("md.gbnf", &grammar)]);
    assert_eq!(
        answer_rows(&chat, "Go."),
        [
            "A heading",
            "Words that are very bold or slanted or",
            "code_here wrap at the width.",
            "• an item that is long enough to need a",
            "  second row",
            "• [ ] not done",
            "1. first",
            "│ quoted",
            "",
            "```rust",
            "    let x = a * b * c;  // *verbatim*",
            "```",
            "a │ b",
            "──┼──",
            "1 │ 2",
            "2 * 3 * 4 and snake_case_name",
        ]
    );
    let screen = chat.picture();
    let bold = Attributes {
        bold: true,
        ..PLAIN
    };
    let dim = Attributes { dim: true, ..PLAIN };
    let italic = Attributes {
        italic: true,
        ..PLAIN
    };
    let coloured = Attributes {
        coloured: true,
        ..PLAIN
    };
    for (words, attributes) in [
        ("A heading", bold),
        ("Words", PLAIN),
        ("very bold", bold),
        ("slanted", italic),
        ("code_here", coloured),
        ("wrap", PLAIN),
        ("not", italic),
        ("done", bold),
        ("```rust", dim),
        ("let x", PLAIN),
        ("tokens, ", dim),
    ] {
        assert_eq!(screen.attributes_of(words), Some(attributes), "{words}");
    }

    // As it comes: the same bytes, no attributes.
    let _ = chat.ask("/set raw on", SOON);
    let rows = answer_rows(&chat, "Raw.");
    assert_eq!(rows[0], "# A heading");
    assert_eq!(rows[1], "Words that are **very bold** or *slanted");
    assert_eq!(rows[2], "* or `code_here` wrap at the width.");
    assert_eq!(chat.picture().attributes_of("very bold"), Some(PLAIN));
}

#[test]
fn without_colours_there_are_no_attributes_at_all() {
    let grammar = grammar_of(MARKDOWN);
    let files = [("md.gbnf", grammar.as_str())];
    let dumb = Seat {
        term: "dumb".to_owned(),
        ..narrow()
    };
    for (seat, flags) in [
        (dumb, &["--grammar", "md"][..]),
        (narrow(), &["--grammar", "md", "--color", "off"]),
    ] {
        let chat = Chat::start_at(seat, flags, &files);
        let rows = answer_rows(&chat, "Go.");
        assert_eq!(rows[0], "# A heading");
        assert!(rows[1].contains("**very bold**"), "{rows:#?}");
        let _ = chat.ask("/xyzzy", SOON);
        let bytes = String::from_utf8_lossy(&chat.bytes()).into_owned();
        let attributes = bytes.split("\x1b[").skip(1).filter(|sequence| {
            let end = sequence.find(|c: char| c.is_ascii_alphabetic());
            end.is_some_and(|end| sequence[end..].starts_with('m'))
        });
        assert_eq!(attributes.count(), 0, "{bytes:?}");
    }
    // And at run time.
    let chat = Chat::start_at(narrow(), &["--color", "off"], &[]);
    chat.set_hints(true);
    let _ = chat.ask("/set color on", SOON);
    let _ = chat.ask("/show temp", SOON);
    let hint = chat.picture().attributes_of("Send a message");
    assert_eq!(hint.map(|look| look.dim), Some(true));
    chat.set_hints(false);
    let _ = chat.ask("/set color off", SOON);
    assert_eq!(chat.picture().cursor_row(), ">>>");
}

#[test]
fn nothing_that_a_model_says_steers_the_terminal() {
    let hostile =
        "a\x1b[2Jb\x1b]0;title\x07c\u{9b}31md\x0e\x7f\r\u{202e}e\x08\x08\x08f\x1b[6n\x1bcg";
    let grammar = grammar_of(hostile);
    let shown = "a␛[2Jb␛]0;title␇c<9B>31md␎␡␍<202E>e␈␈␈f␛[6n␛cg";
    for raw in ["off", "on"] {
        let chat = Chat::start(
            &["--grammar", "hostile", "--raw", raw],
            &[("hostile.gbnf", &grammar)],
        );
        assert_eq!(answer_rows(&chat, "Go."), [shown], "raw {raw}");
        let bytes = chat.bytes();
        for harmful in [
            &b"\x1b[2J"[..],
            b"\x1b]0",
            b"\x07",
            b"\xc2\x9b",
            b"\x0e",
            b"\x1b[6n",
            b"\x1bc",
            "\u{202e}".as_bytes(),
        ] {
            let reaches = bytes.windows(harmful.len()).any(|bytes| bytes == harmful);
            assert!(!reaches, "{harmful:?} reached the terminal");
        }
        // Nor when it is shown again.
        chat.type_line("/template");
        let _ = chat.expect("a␛[2Jb", SOON);
    }
}

const THINKING: &str = "<think>\nFirst this,\nthen that.\n</think>\n\nThe answer is 42.";

#[test]
fn thinking_is_dimmed_folds_and_unfolds() {
    let grammar = grammar_of(THINKING);
    let chat = Chat::start(&["--grammar", "think"], &[("think.gbnf", &grammar)]);
    let rows = answer_rows(&chat, "Dimmed.");
    assert_eq!(rows, ["First this,", "then that.", "The answer is 42."]);
    let screen = chat.picture();
    let dim = Attributes { dim: true, ..PLAIN };
    assert_eq!(screen.attributes_of("then that."), Some(dim));
    assert_eq!(screen.attributes_of("The answer is 42."), Some(PLAIN));

    let _ = chat.ask("/set reasoning off", SOON);
    let rows = answer_rows(&chat, "Folded.");
    assert_eq!(rows.len(), 2, "{rows:#?}");
    assert!(rows[0].starts_with("thought for "), "{rows:#?}");
    assert_eq!(rows[1], "The answer is 42.");
    // Unfolded, by the command and by the key.
    for keys in ["/think\r", "\x0f"] {
        let _ = chat.ask("/set reasoning off", SOON);
        chat.type_keys(keys);
        let shown = chat.expect("First this, then that. ", SOON);
        assert!(!shown.contains("42"), "{shown}");
        let _ = chat.expect_prompt(SOON);
    }
    // It is kept, and told from the answer, in what is saved.
    let saved: serde_json::Value =
        serde_json::from_str(&chat.saved("thought.json")).or_fail("parse JSON");
    assert_eq!(saved[4]["text"], "The answer is 42.");
    assert_eq!(saved[4]["reasoning"], "First this,\nthen that.");
}

#[test]
fn thinking_unfolds_while_it_goes_on() {
    let thought = "On and on it goes. ".repeat(30);
    let grammar = grammar_of(&format!("<think>\n{thought}\n</think>\n\nDone."));
    let chat = Chat::start(
        &["--grammar", "think", "--reasoning", "off"],
        &[("think.gbnf", &grammar)],
    );
    chat.type_line("Go.");
    let _ = chat.expect("thinking; Ctrl-O shows it", ANSWER);
    assert!(!chat.words().contains("it goes"));
    chat.type_keys("\x0f");
    let _ = chat.expect("On and on it goes. On and on", SOON);
    let _ = chat.expect("Done.", ANSWER);
    let _ = chat.expect_prompt(SOON);
    // The line that stood for it has made way.
    assert!(!chat.picture().text().contains("Ctrl-O"));
    let shown = chat.screen().join(" ");
    assert_eq!(shown.matches("it goes.").count(), 30, "{shown}");
}

#[test]
fn ctrl_c_stops_an_answer_within_a_token_and_keeps_what_was_said() {
    let chat = Chat::start(&[], &[]);
    chat.type_line(ENDLESS);
    let _ = chat.expect("lighthouse", ANSWER);
    chat.ctrl_c();
    let at_stop = chat.words().len();
    let end = chat.expect("stopped · ", SOON);
    let status = chat.expect("context ", SOON);
    let _ = chat.expect_prompt(SOON);
    assert!(status.contains("/s · prompt "), "{status}");
    // One token, and the word that was held for wrapping.
    let words = chat.words();
    let after = words[at_stop..].split("stopped").next().unwrap_or_default();
    assert!(after.split_whitespace().count() <= 3, "{after:?}: {end}");
    let saved: serde_json::Value =
        serde_json::from_str(&chat.saved("stopped.json")).or_fail("parse JSON");
    let answer = saved[2]["text"].as_str().or_fail("find the answer");
    assert!(answer.contains("lighthouse"), "{answer}");

    // And what was stopped can be asked for again, and stopped again.
    chat.type_line("/regen");
    let _ = chat.expect("lighthouse", ANSWER);
    chat.ctrl_c();
    let _ = chat.expect("stopped · ", SOON);
}

#[test]
fn a_status_follows_each_turn() {
    let chat = Chat::start(&["--max-tokens", "8"], &[]);
    let said = chat.ask(ENDLESS, ANSWER);
    for words in [
        "cut at max_tokens · 8 tokens, ",
        "/s · prompt ",
        " new, ",
        " · context ",
        " %",
    ] {
        assert!(said.contains(words), "{words:?} is missing: {said}");
    }
    let stats = chat.ask("/stats", SOON);
    assert!(stats.contains("answer of 8 tokens in "), "{stats}");
    assert!(stats.contains("prompt of "), "{stats}");
}

#[test]
fn answers_obey_json_and_grammars_from_the_models_folder() {
    let chat = Chat::start(
        &["--max-tokens", "200"],
        &[
            ("colour.gbnf", "root ::= \"red\" | \"green\" | \"blue\"\n"),
            ("broken.gbnf", "root ::= missing\n"),
        ],
    );
    let _ = chat.ask("/set grammar colour", SOON);
    let rows = answer_rows(&chat, "What is the capital of France?");
    assert!(
        ["red", "green", "blue"].contains(&rows[0].as_str()),
        "{rows:#?}"
    );
    let missing = chat.ask("/set grammar nowhere", SOON);
    assert!(
        missing.contains("zosia: grammar ") && missing.contains("nowhere.gbnf"),
        "{missing}"
    );
    assert!(chat.ask("/show grammar", SOON).contains("colour"));
    let _ = chat.ask("/set grammar broken", SOON);
    chat.type_line("Hello?");
    let _ = chat.expect("zosia: the grammar is not valid GBNF", SOON);
    let _ = chat.expect_line(">>> Hello?", 10);
    chat.ctrl_c();
    let _ = chat.ask("/set grammar none", SOON);
    let _ = chat.ask("/set format json", SOON);
    let _ = chat.ask("/clear", SOON);
    let _ = chat.ask("Describe a person by name and age.", ANSWER);
    let saved: serde_json::Value =
        serde_json::from_str(&chat.saved("json.json")).or_fail("parse JSON");
    let answer = saved[2]["text"].as_str().or_fail("find the answer");
    let value: Result<serde_json::Value, _> = serde_json::from_str(answer);
    assert!(value.is_ok(), "{answer}");
}

/// A context of 256 tokens, and messages of about thirty with their answers.
fn small() -> Chat {
    let grammar = grammar_of("A short answer it is, and no more than that.");
    Chat::start(
        &["--ctx", "256", "--grammar", "short"],
        &[("short.gbnf", &grammar)],
    )
}

/// Fills the context until a message does not fit; the number of it.
fn fill(chat: &Chat) -> usize {
    let mut warned = false;
    for turn in 1..20 {
        let said = chat.ask(&format!("Message {turn}: please say something."), ANSWER);
        let percent = said
            .rsplit_once("· context ")
            .map(|(_, rest)| rest.split(' ').next());
        if let Some(Some(percent)) = percent {
            let percent: u32 = percent.parse().or_fail("read the percentage");
            assert_eq!(
                said.contains("% full; /drop forgets"),
                percent >= 80,
                "{said}"
            );
            warned |= percent >= 80;
        }
        if said.contains("The message is not sent") {
            assert!(warned, "nothing warned");
            assert!(said.contains("and the context holds 256"), "{said}");
            for way in ["/drop", "/undo", "/clear", "/edit"] {
                assert!(said.contains(way), "{way} is missing: {said}");
            }
            return turn;
        }
    }
    panic!("the context never filled");
}

fn users(chat: &Chat) -> Vec<String> {
    let saved = chat.saved("users.json");
    let saved: serde_json::Value = serde_json::from_str(&saved).or_fail("parse JSON");
    let messages = saved.as_array().or_fail("find the messages");
    let of_user = messages.iter().filter(|m| m["role"] == "user");
    let number = |m: &serde_json::Value| Some(m["text"].as_str()?.split(':').next()?.to_owned());
    of_user.filter_map(number).collect()
}

#[test]
fn a_full_context_asks_what_to_forget() {
    let chat = small();
    let last = fill(&chat);
    let all: Vec<String> = (1..=last).map(|n| format!("Message {n}")).collect();
    // Nothing was cut, and nothing was sent.
    assert_eq!(users(&chat), all[..last - 1]);
    let said = chat.ask("/drop", ANSWER);
    assert!(said.contains("forgotten: Message 1"), "{said}");
    assert!(said.contains("A short answer"), "{said}");
    assert_eq!(users(&chat), all[1..]);

    // The others ways.
    for (way, left) in [("/undo", last - 1), ("/clear", 1)] {
        let chat = small();
        let _ = fill(&chat);
        let said = chat.ask(way, ANSWER);
        assert!(said.contains("A short answer"), "{way}: {said}");
        let users = users(&chat);
        assert_eq!(users.len(), left, "{way}");
        assert_eq!(users[left - 1], all[last - 1], "{way}");
    }
}

#[test]
fn a_message_that_does_not_fit_can_be_edited_or_given_a_larger_context() {
    let chat = small();
    let last = fill(&chat);
    chat.type_keys("/edit\r");
    let row = format!(">>> Message {last}: please say something.");
    let _ = chat.expect_line(&row, row.len());
    chat.type_keys("\r");
    let _ = chat.expect("The message is not sent yet", ANSWER);
    let _ = chat.expect_prompt(SOON);
    chat.type_line("/set ctx 512");
    let _ = chat.expect("A short answer", ANSWER);
    let _ = chat.expect_prompt(SOON);
    assert_eq!(users(&chat).len(), last);

    // One that is too long alone is dropped for nothing.
    let _ = chat.ask("/clear", SOON);
    chat.paste(&"word ".repeat(2000));
    chat.type_keys("\r");
    let _ = chat.expect("it is too long even alone", ANSWER);
    let _ = chat.expect_prompt(SOON);
    // It waits, and what is answered meanwhile can be answered again.
    for line in ["Short?", "/regen"] {
        let said = chat.ask(line, ANSWER);
        assert!(said.contains("A short answer"), "{line}: {said}");
    }
    chat.type_keys("/edit\r");
    let _ = chat.expect_screen("the message in the line", SOON, |screen| {
        screen.cursor.0 == 39 && screen.rows[0].contains("word word")
    });
    chat.ctrl_c();
}

#[test]
fn a_second_message_that_does_not_fit_does_not_replace_the_first() {
    let chat = small();
    let last = fill(&chat);
    chat.type_line("Another that does not fit: please say something.");
    let waiting = format!("Another message waits for room already: \"Message {last}");
    let _ = chat.expect(&waiting, ANSWER);
    let row = ">>> Another that does not fit: please say something.";
    let _ = chat.expect_line(row, row.len());
    chat.ctrl_c();
    let _ = chat.expect_prompt(SOON);
    let said = chat.ask("/drop", ANSWER);
    assert!(said.contains("A short answer"), "{said}");
    assert_eq!(users(&chat).last(), Some(&format!("Message {last}")));
}

#[test]
fn an_answer_that_fills_the_context_says_so() {
    let chat = Chat::start(&["--ctx", "256"], &[]);
    let said = chat.ask(ENDLESS, ANSWER);
    assert!(said.contains("cut: the context is full"), "{said}");
    assert!(said.contains("% full; /drop forgets"), "{said}");
    let _ = chat.ask("/drop", SOON);
    let said = chat.ask("What is the capital of France?", ANSWER);
    assert!(said.contains("Paris"), "{said}");
}

#[test]
fn typing_while_an_answer_streams_is_shown_when_it_ends() {
    let chat = Chat::start(&["--max-tokens", "30"], &[]);
    chat.type_line(ENDLESS);
    chat.type_keys("typed ahead");
    // Some words of the answer.
    let screen = chat.expect_screen("an answer that streams", ANSWER, |screen| {
        let words: usize = screen.rows.iter().map(|row| row.split(' ').count()).sum();
        words > ENDLESS.split(' ').count() + 40
    });
    assert!(!screen.text().contains("typed ahead"));
    let screen = chat.expect_line(">>> typed ahead", 15);
    assert!(screen.rows[screen.cursor.0 - 1].contains("cut at max_tokens"));
}
