//! The commands, as they are typed and as the screen shows what they do.

use std::fs;

use vmtest::{
    ANSWER, Chat, Disks, LOAD, MODEL_NAME, OrFail, PlainCommand, SOON, grammar_of, model,
    native_executable,
};

const CAPITAL: &str = "What is the capital of France?";

fn saved(chat: &Chat, name: &str) -> serde_json::Value {
    serde_json::from_str(&chat.saved(name)).or_fail("parse JSON")
}

#[test]
fn a_conversation_is_taken_back_edited_answered_again_and_forgotten() {
    let chat = Chat::start(&["--max-tokens", "12"], &[]);
    let first = chat.ask(CAPITAL, ANSWER);
    assert!(first.contains("Paris"), "{first}");
    let again = chat.ask("/regen", ANSWER);
    assert!(again.contains("Paris"), "{again}");
    assert_eq!(saved(&chat, "one.json").as_array().map(Vec::len), Some(3));

    chat.type_keys("/edit\r");
    let _ = chat.expect_line(&format!(">>> {CAPITAL}"), 4 + CAPITAL.len());
    chat.type_keys(&"\x7f".repeat("France?".len()));
    chat.type_keys("Italy?\r");
    let _ = chat.expect("Rome", ANSWER);
    let _ = chat.expect_prompt(SOON);
    let edited = saved(&chat, "two.json");
    assert_eq!(edited[1]["text"], "What is the capital of Italy?");
    assert_eq!(edited.as_array().map(Vec::len), Some(3));

    let undone = chat.ask("/undo", SOON);
    assert!(
        undone.contains("taken back: What is the capital of Italy?"),
        "{undone}"
    );
    let nothing = chat.ask("/undo", SOON);
    assert!(
        nothing.contains("zosia: there is no message to take back"),
        "{nothing}"
    );
    let nothing = chat.ask("/regen", SOON);
    assert!(
        nothing.contains("zosia: there is no message to answer"),
        "{nothing}"
    );
    let _ = chat.ask(CAPITAL, ANSWER);
    let cleared = chat.ask("/clear", SOON);
    assert!(
        cleared.contains("the conversation is forgotten"),
        "{cleared}"
    );
    assert!(chat.ask("/context", SOON).contains("the context is empty"));
}

#[test]
fn what_has_to_do_with_no_grammar_is_set_although_the_grammar_is_gone() {
    let chat = Chat::start(&["--grammar", "yes"], &[("yes.gbnf", "root ::= \"yes\"\n")]);
    fs::remove_file(chat.folder().path("yes.gbnf")).or_fail("remove the grammar");
    let said = chat.ask("/set temp 0.5", SOON);
    assert!(said.contains("temp is 0.5"), "{said}");
    let said = chat.ask("/set format json", SOON);
    assert!(said.contains("[ZE-17]"), "{said}");
}

#[test]
fn system_set_and_show_change_the_next_turn() {
    let chat = Chat::start(&["--max-tokens", "4"], &[]);
    let _ = chat.ask("/system You are a pirate.", SOON);
    assert!(chat.ask("/system", SOON).contains("You are a pirate."));
    let _ = chat.ask("Hello.", ANSWER);
    chat.type_line("/template");
    let _ = chat.expect("<|im_start|>system You are a pirate.<|im_end|>", SOON);
    let _ = chat.expect(" tokens: [", SOON);
    let _ = chat.expect_prompt(SOON);
    let _ = chat.ask("/system none", SOON);
    assert!(
        chat.ask("/system", SOON)
            .contains("there is no system prompt")
    );

    assert!(chat.ask("/set temp 0.3", SOON).contains("temp is 0.3"));
    assert!(
        chat.ask("/show temp", SOON)
            .contains("temp 0.3 Temperature")
    );
    let all = chat.ask("/show", SOON);
    for name in ["threads", "temp", "top_p", "grammar", "cols", "log"] {
        assert!(
            all.contains(&format!(" {name} ")),
            "{name} is missing: {all}"
        );
    }
    // One that needs the model to be loaded again does that, and says when.
    chat.type_line("/set ctx 512");
    let _ = chat.expect("context 512 tokens", LOAD);
    let _ = chat.expect_prompt(SOON);
}

#[test]
fn what_is_wrong_says_what_would_be_right() {
    let chat = Chat::start(&[], &[]);
    for (line, words) in [
        ("/hlep", "/hlep: no such command; did you mean /help?"),
        (
            "/contex",
            "/contex: no such command; did you mean /context?",
        ),
        ("/xyzzy", "/xyzzy: no such command; /help lists them"),
        ("/set tmep 1", "tmep: no such parameter; did you mean temp?"),
        ("/set temp hot", "temp hot: expected a number from 0 to 5"),
        ("/set format xml", "format xml: expected text or json"),
        ("/set model x", "model can only be given at the start"),
        ("/show tmep", "tmep: no such parameter; did you mean temp?"),
        (
            "/save ../x",
            "a name has no / and does not begin with a dot",
        ),
        ("/save", "/save needs a name"),
        (
            "/exit now",
            "/exit takes no operand; // sends a line that begins with /",
        ),
        ("/think", "the last answer came without reasoning"),
        ("/model nowhere", "nowhere"),
    ] {
        let said = chat.ask(line, SOON);
        assert!(
            said.contains("zosia: ") && said.contains(words),
            "{line}: {said}"
        );
    }
}

#[test]
fn two_slashes_send_one_and_markup_that_is_typed_stays_text() {
    let chat = Chat::start(&["--grammar", "yes"], &[("yes.gbnf", &grammar_of("yes"))]);
    let _ = chat.ask("//help me<|im_end|>", ANSWER);
    let messages = saved(&chat, "slash.json");
    assert_eq!(messages[1]["text"], "/help me<|im_end|>");
    chat.type_line("/template");
    let seen = chat.expect(" tokens: [", SOON);
    let ids = chat.expect("]", SOON);
    assert!(seen.contains("/help me<|im_end|><|im_end|>"), "{seen}");
    let ids: Vec<u32> = ids
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|id| id.parse().ok())
        .collect();
    // <|im_start|> is 1, <|im_end|> is 2: the system's, the user's and the
    // answer's, and not one for what was typed.
    assert_eq!(ids.iter().filter(|id| **id == 2).count(), 3, "{ids:?}");
    let _ = chat.expect_prompt(SOON);
}

#[test]
fn the_context_is_shown_by_message() {
    let chat = Chat::start(&["--grammar", "yes"], &[("yes.gbnf", &grammar_of("yes"))]);
    let _ = chat.ask(CAPITAL, ANSWER);
    let _ = chat.ask("And of Italy?", ANSWER);
    chat.type_line("/context");
    let table = chat.expect(" of 4096 tokens", SOON);
    let _ = chat.expect_prompt(SOON);
    let rows = [
        "system and user What is the",
        "assistant yes",
        "user And of",
        "assistant yes",
    ];
    let mut rest = table.as_str();
    for row in rows {
        let (_, after) = rest
            .split_once(row)
            .or_fail(format_args!("find {row:?} in {table}"));
        rest = after;
    }
}

#[test]
fn a_conversation_is_saved_as_markdown() {
    let chat = Chat::start(&["--max-tokens", "12"], &[]);
    let _ = chat.ask(CAPITAL, ANSWER);
    let _ = chat.ask("/save talk", SOON);
    let path = chat.folder().path("transcripts").join("talk.md");
    let text = std::fs::read_to_string(path).or_fail("read what was saved");
    assert!(
        text.contains(&format!(
            "## user\n\n{CAPITAL}\n\n## assistant\n\nThe capital"
        )),
        "{text}"
    );
}

#[test]
fn the_timeline_has_every_step_of_the_commands_own_start() {
    let chat = Chat::start(&["--max-tokens", "2"], &[]);
    let _ = chat.ask("Hello.", ANSWER);
    let _ = chat.ask("/time", SOON);
    let rows = chat.screen();
    let begin = rows
        .iter()
        .position(|row| row == ">>> /time")
        .or_fail("find /time")
        + 1;
    let steps: Vec<(f64, &str)> = rows[begin..begin + 4]
        .iter()
        .map(|row| {
            let at = row.split_whitespace().next().unwrap_or_default();
            let (_, step) = row.rsplit_once("s  ").or_fail("find the step");
            (at.parse().or_fail("read the time"), step)
        })
        .collect();
    let names: Vec<&str> = steps.iter().map(|(_, name)| *name).collect();
    assert_eq!(names, ["prompt", "disks", "ready", "first token"]);
    assert!(steps.is_sorted_by(|a, b| a.0 <= b.0), "{steps:?}");
    // It counts from the command's start, not from the host's.
    assert!(steps[0].0 < 10.0 && steps[3].0 < 300.0, "{steps:?}");
}

#[test]
fn models_are_listed_and_changed() {
    let folder = Disks::new();
    for name in ["one.gguf", "two.gguf"] {
        std::fs::copy(model(), folder.path(name)).or_fail("copy the model");
    }
    let directory = folder.path("");
    let flags = ["--threads", "1"].map(std::ffi::OsStr::new);
    let arguments = flags.into_iter().chain([directory.as_os_str()]);
    let command = PlainCommand::launch(&native_executable(), arguments);
    let _ = command.expect("there are several models; /model NAME loads one:", SOON);
    let _ = command.expect_prompt(SOON);
    command.type_line("Hello?");
    let _ = command.expect("zosia: there is no model yet", SOON);
    let _ = command.expect_line(">>> Hello?", 10);
    command.ctrl_c();
    command.type_keys("/model t\t\r");
    let _ = command.expect(MODEL_NAME, LOAD);
    let _ = command.expect_prompt(SOON);
    let list = command.ask("/model", SOON);
    assert!(
        list.contains("one.gguf ") && list.contains("* two.gguf "),
        "{list}"
    );
    command.type_line("/model one.gguf");
    let _ = command.expect(MODEL_NAME, LOAD);
    let _ = command.expect_prompt(SOON);
    let list = command.ask("/model", SOON);
    assert!(
        list.contains("* one.gguf ") && list.contains("two.gguf "),
        "{list}"
    );
}

#[test]
fn every_way_of_leaving_leaves() {
    for line in ["/exit", "/bye", "/quit", "/poweroff"] {
        let mut chat = Chat::start(&[], &[]);
        chat.type_line(line);
        assert!(chat.wait_exit(SOON).success(), "{line}");
    }
}
