//! The prompt in the machine, over its serial line: what a pseudo-terminal of
//! the host cannot show. One boot for many points, for each takes half a minute.

use vmtest::{
    BOOT, Disks, Drive, LOAD, MODEL_NAME, OrFail, SOON, TURN, Vm, VmSpec, grammar_of, model,
};

/// What takes long to fulfil.
const ENDLESS: &str = "Write a long story about a lighthouse.";

fn saved(vm: &Vm, name: &str) -> serde_json::Value {
    serde_json::from_str(&vm.saved(name)).or_fail("parse JSON")
}

#[test]
fn keys_pastes_and_sizes_on_the_serial_line() {
    // No model: nothing but the line. And a terminal that is asked.
    let vm = Vm::launch(&VmSpec::new().parameter("zosia.cols=auto"));
    let _ = vm.expect_prompt(BOOT);
    let _ = vm.expect("zosia: ", LOAD);
    let _ = vm.expect_prompt(SOON);
    for (keys, row, column) in [
        ("one two\x1bb\x0b", ">>> one", 8),
        ("one two\x01X\x05Y", ">>> Xone twoY", 13),
        ("漢字e\u{301}\x1b[D\x7f", ">>> 漢e\u{301}", 6),
        ("/set max\t", ">>> /set max_tokens", 19),
        ("a\x1a\x13\x11b", ">>> ab", 6),
    ] {
        vm.type_keys(keys);
        let _ = vm.expect_line(row, column);
        vm.ctrl_c();
        let _ = vm.expect_prompt(SOON);
    }
    for line in ["/show temp", "/show seed"] {
        let _ = vm.ask(line, SOON);
    }
    vm.type_keys("draft\x1b[A\x1b[A");
    let _ = vm.expect_line(">>> /show temp", 14);
    vm.type_keys("\x1b[B\x1b[B\x12se");
    let _ = vm.expect_line("(history: se) /show seed", 20);
    vm.type_keys("\x07\x03");
    let _ = vm.expect_prompt(SOON);
    vm.ctrl_c();
    let _ = vm.expect("Ctrl-D or /exit leaves", SOON);
    let _ = vm.expect_prompt(SOON);

    // The window becomes narrow: nobody tells, the next line heals.
    vm.set_size(50, 30);
    let _ = vm.ask("/show temp", SOON);
    vm.type_keys(&"0123456789".repeat(6));
    let screen = vm.expect_line("67890123456789", 14);
    assert_eq!(screen.rows[screen.cursor.0 - 1].len(), 50);
    vm.scribble(b"\x1b[3;10Hscribble\x1b[20;5H");
    vm.type_keys("\x0c");
    let screen = vm.expect_line("67890123456789", 14);
    assert_eq!(screen.cursor.0, 1, "{}", screen.text());
    vm.ctrl_c();
    let _ = vm.expect_prompt(SOON);

    // A mebibyte over the serial line, and back through the port: every byte.
    let mut text = "0123456789 abcdef 漢字 \"quoted\" \\ \t end\n".repeat(1 << 15);
    let end = (0..=1 << 20).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.or_fail("find the end"));
    text.truncate(text.trim_end().len());
    vm.type_keys("/system ");
    vm.paste(&text);
    let tail = text.lines().next_back().or_fail("find the end");
    let tail = format!("... {}", tail.replace('\t', "    ").trim_end());
    let _ = vm.expect_screen("the end of the paste", LOAD, |screen| {
        screen.cursor_row() == tail
    });
    vm.type_keys("\r");
    let _ = vm.expect("the system prompt is set", SOON);
    let _ = vm.expect_prompt(SOON);
    let arrived = saved(&vm, "mebibyte.json");
    assert!(
        arrived[0]["text"] == text,
        "the text was changed on its way"
    );
}

#[test]
fn answers_grammars_and_a_full_context_in_the_machine() {
    let disks = Disks::new();
    // Few tokens, for they cost most here.
    let short = grammar_of("**ok**\x1b[2J");
    let disk = disks.ext4_with(model(), &[("short.gbnf", &short)]);
    let mut vm = Vm::at_prompt(&VmSpec::with_model(disk).parameter("zosia.ctx=256"));
    let _ = vm.expect(MODEL_NAME, LOAD);
    let _ = vm.expect_prompt(SOON);

    // Ctrl-C in the middle keeps what was said.
    vm.type_line(ENDLESS);
    let _ = vm.expect_any(&["lighthouse", "Lighthouse"], TURN);
    vm.ctrl_c();
    let _ = vm.expect("stopped · ", SOON);
    let _ = vm.expect_prompt(SOON);
    let messages = saved(&vm, "stopped.json");
    assert_eq!(messages[1]["text"], ENDLESS);
    let said = messages[2]["text"].as_str().or_fail("find the answer");
    assert!(said.to_lowercase().contains("lighthouse"), "{said}");

    // A grammar from the model's disk; Markdown; an escape sequence as a sign.
    let _ = vm.ask("/clear", SOON);
    let _ = vm.ask("/set grammar short", SOON);
    let _ = vm.ask("One.", TURN);
    let screen = vm.picture();
    let row = screen.rows.iter().find(|row| row.starts_with("ok"));
    assert_eq!(row.map(String::as_str), Some("ok␛[2J"), "{}", screen.text());
    let look = screen.attributes_of("ok␛[2J").or_fail("find the answer");
    assert!(look.bold, "{look:?}");

    // A message that does not fit is asked about, and nothing is lost.
    let long = "one two three four ".repeat(80);
    vm.paste(long.trim());
    vm.type_keys("\r");
    let refusal = vm.expect("it back into the line.", LOAD);
    for words in [
        "and the context holds 256",
        "The message is not sent yet",
        "/drop",
        "/undo",
        "/clear",
        "/edit",
    ] {
        assert!(refusal.contains(words), "{words} is missing: {refusal}");
    }
    let _ = vm.expect_prompt(SOON);
    vm.type_line("/drop");
    let _ = vm.expect("forgotten: One.", SOON);
    let _ = vm.expect("it is too long even alone", SOON);
    let _ = vm.expect_prompt(SOON);
    vm.type_keys("/edit\r");
    let _ = vm.expect_screen("the message in the line", SOON, |screen| {
        screen.cursor_row().ends_with("two three four")
    });
    vm.ctrl_c();
    let _ = vm.expect_prompt(SOON);

    // JSON, into a file of the host.
    for line in [
        "/set grammar none",
        "/set format json",
        "/set max_tokens 8",
        "/clear",
    ] {
        let _ = vm.ask(line, SOON);
    }
    let _ = vm.ask("Give me a short list of two colors.", TURN);
    let messages = saved(&vm, "list.json");
    let json = messages[2]["text"].as_str().or_fail("find the answer");
    let value: Result<serde_json::Value, _> = serde_json::from_str(json);
    let is_begun = json.trim_start().starts_with(['{', '[', '"']);
    assert!(value.is_ok() || is_begun, "{json}");

    // The whole boot: the firmware's part is the counter's, not the kernel's.
    vm.type_line("/time");
    let table = vm.expect("first token", SOON);
    let _ = vm.expect_prompt(SOON);
    let mut before = 0.0;
    for step in [
        "firmware",
        "kernel",
        "prompt",
        "disks",
        "ready",
        "first token",
    ] {
        let (line, _) = table
            .split_once(step)
            .or_fail(format_args!("find {step} in {table}"));
        // … AT s + TOOK s STEP
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().rev().nth(4).or_fail("find the time");
        let at: f64 = at.parse().or_fail("read the time");
        assert!(at > before, "{step}: {table}");
        before = at;
    }
    vm.type_line("/exit");
    vm.expect_power_off(SOON);
}

#[test]
fn a_disk_without_a_file_system_has_no_grammars_and_says_so() {
    let vm = Vm::at_prompt(&VmSpec::new().disk(Drive::File(model().to_owned())));
    let _ = vm.expect(MODEL_NAME, LOAD);
    let _ = vm.expect_prompt(SOON);
    let said = vm.ask("/set grammar short", SOON);
    assert!(
        said.contains("zosia: grammar ") && said.contains("short.gbnf"),
        "{said}"
    );
}
