//! Whatever a host, a user or a model's file asks for ends in one line and a
//! status, in the machine as in the plain command: never in a panic, a loop
//! without end or a machine that stays on.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use vmtest::{
    ANSWER, Architecture, BOOT, Chat, Disks, Drive, Fault, LOAD, OrFail, PlainCommand, SOON,
    TINY_NAME, TURN, TinyModel, Vm, VmSpec, native_executable, repository, run_plain,
};

const LINES: [&str; 3] = [
    r#"{"prompt": "One?"}"#,
    r#"{"prompt": "Two?"}"#,
    r#"{"prompt": "Three?"}"#,
];

/// What would clear a screen, set a title and colours, ask for an answer.
const HOSTILE: [&str; 4] = ["a\x1b[2J", "b\x1b]0;title\x07", "c\u{9b}31m", "d\x1b[6n"];

fn tiny() -> TinyModel {
    TinyModel::saying(&["Yes", "."])
}

/// The same token twice, on which llama.cpp would abort.
fn ambiguous() -> TinyModel {
    TinyModel::saying(&["Yes", "Yes"])
}

/// A token of 15 MB, again and again.
fn talkative() -> TinyModel {
    TinyModel::saying(&["0123456789abcde".repeat(1 << 20).as_str()]).without_end()
}

/// The last words of a machine that answers without a terminal.
fn results_of(spec: &VmSpec) -> Vec<Value> {
    let mut vm = Vm::launch(spec);
    let exit = vm.wait_exit(BOOT + LOAD + TURN);
    assert_eq!(exit.reason, "guest-shutdown");
    exit.results
}

/// No answer, and the reason.
#[track_caller]
fn error_of(result: &Value) -> &str {
    assert_eq!(result["answered"], false, "{result}");
    let error = result["error"].as_str().unwrap_or_default();
    assert!(!error.is_empty(), "{result}");
    error
}

fn batch_file(disks: &Disks) -> PathBuf {
    disks.holding("batch.jsonl", LINES.join("\n").as_bytes())
}

fn refused_in_the_machine(disk: PathBuf) {
    let results = results_of(&VmSpec::with_model(disk).batch(&LINES));
    assert_eq!(results.len(), LINES.len(), "{results:?}");
    for result in &results {
        let _ = error_of(result);
    }
}

/// The lines that the plain command writes on both streams.
fn refused_by_the_command(disks: &Disks, model: &Path) -> (String, String) {
    let batch = batch_file(disks);
    let arguments = [OsStr::new("--batch"), batch.as_os_str(), model.as_os_str()];
    let done = run_plain(arguments, LOAD);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(1), "{said}");
    (String::from_utf8_lossy(&done.stdout).into_owned(), said)
}

#[track_caller]
fn one_error_a_line(results: &str) {
    assert_eq!(results.lines().count(), LINES.len(), "{results}");
    for line in results.lines() {
        let result: Value = serde_json::from_str(line).or_fail("read a result as JSON");
        let _ = error_of(&result);
    }
}

#[test]
fn every_line_of_a_batch_for_a_refused_model_has_its_result() {
    let disks = Disks::new();
    let disk = disks.holding("letter.gguf", b"GGUF, says this letter of some length.");
    let (results, said) = refused_by_the_command(&disks, &disk);
    one_error_a_line(&results);
    // Once when it is known, and once at the end.
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(said.contains("0 of 3 prompts were answered"), "{said}");
    refused_in_the_machine(disk);
}

#[test]
fn every_line_of_a_batch_has_its_result_when_its_vocabulary_is_refused() {
    let disks = Disks::new();
    let disk = disks.tiny(&ambiguous());
    let (results, said) = refused_by_the_command(&disks, &disk);
    one_error_a_line(&results);
    assert!(said.contains("two tokens have the same text"), "{said}");
    refused_in_the_machine(disk);
}

#[test]
fn a_measurement_without_end_is_refused_or_bounded() {
    let disks = Disks::new();
    let disk = disks.tiny(&tiny());
    let arguments = ["--mode", "bench", "--bench", "1,1,4294967295"].map(OsStr::new);
    let done = run_plain(arguments.into_iter().chain([disk.as_os_str()]), LOAD);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.code().is_some(), "{}: {said}", done.status);
    assert!(said.contains("4294967295"), "{said}");

    let spec = VmSpec::with_model(disk)
        .parameter("zosia.mode=bench")
        .parameter("zosia.bench=1,1,4294967295");
    let mut vm = Vm::launch(&spec);
    let _ = vm.expect("4294967295", BOOT);
    vm.expect_power_off(LOAD + TURN);
}

#[test]
fn a_prompt_as_long_as_may_be_leaves_a_small_machine_alive() {
    let disks = Disks::new();
    let prompt = "word ".repeat(62_000_000 / 5);
    let spec = VmSpec::with_model(disks.tiny(&tiny())).memory_mib(512);
    let fault = Fault::begins(10, "a prompt of 62 MB in 512 MiB");
    let results = results_of(&spec.one_turn(&prompt));
    let [result] = &results[..] else {
        panic!("one result: {results:?}");
    };
    let error = error_of(result);
    assert!(
        error.contains("62000000") || error.contains("MiB"),
        "{error}"
    );
    assert!(!error.contains("killed by"), "{error}");
    fault.told(error, "a result with the error; power-off");
}

#[test]
fn a_model_of_endless_words_leaves_a_small_machine_alive() {
    let disks = Disks::new();
    let disk = disks.tiny(&talkative());
    let spec = VmSpec::with_model(&disk).memory_mib(512);
    let fault = Fault::begins(10, "an answer of words of 15 MB in 512 MiB");
    let results = results_of(&spec.clone().one_turn("Hello?"));
    assert_eq!(results.len(), 1, "{results:?}");
    fault.told(error_of(&results[0]), "a result with the error; power-off");
    let results = results_of(&spec.batch(&LINES));
    assert_eq!(results.len(), LINES.len(), "{results:?}");
    for result in &results {
        let _ = error_of(result);
    }
}

#[test]
fn a_header_of_absurd_sizes_is_refused_once() {
    let disks = Disks::new();
    for key in [
        "llama.attention.key_length",
        "llama.attention.value_length",
        "llama.attention.head_count_kv",
        "llama.embedding_length",
        "llama.feed_forward_length",
        "llama.context_length",
    ] {
        let disk = disks.tiny(&tiny().number(key, 1 << 63));
        let done = run_plain(
            [OsStr::new("-p"), OsStr::new("Hello?"), disk.as_os_str()],
            LOAD,
        );
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(matches!(done.status.code(), Some(0 | 1)), "{key}: {said}");
        assert!(said.lines().count() <= 1, "{key}: {said}");
        assert!(!said.contains("panicked"), "{key}: {said}");
    }
}

#[test]
fn a_command_line_that_is_not_utf8_boots_to_the_prompt() {
    let disks = Disks::new();
    let fault = Fault::begins(16, "a kernel command line that is not UTF-8");
    let spec = VmSpec::with_model(disks.tiny(&tiny()))
        .without_firmware()
        .parameter(OsStr::from_bytes(b"zosia.seed=\xff\xfe"))
        .parameter(OsStr::from_bytes(b"other=\x80"));
    let mut vm = Vm::at_prompt(&spec);
    let answer = vm.ask("Hello?", LOAD + TURN);
    assert!(answer.contains("Yes."), "{answer}");
    fault.told(&vm.last_fault(), "the prompt, with the default");
    vm.ctrl_d();
    vm.expect_power_off(SOON);
}

/// None of what would steer a terminal has reached this one.
#[track_caller]
fn steers_nothing(bytes: &[u8]) {
    for harmful in [&b"\x1b[2J"[..], b"\x1b]0", b"\x07", b"\xc2\x9b", b"\x1b[6n"] {
        let reaches = bytes.windows(harmful.len()).any(|bytes| bytes == harmful);
        assert!(!reaches, "{harmful:?} reached the terminal");
    }
}

#[test]
fn one_turn_at_a_terminal_steers_nothing_and_into_a_pipe_is_as_it_came() {
    let disks = Disks::new();
    let disk = disks.tiny(&TinyModel::saying(&HOSTILE));
    let arguments = [OsStr::new("-p"), OsStr::new("Go."), disk.as_os_str()];
    let mut command = PlainCommand::launch(&native_executable(), arguments);
    assert!(command.wait_exit(ANSWER).success());
    assert!(command.words().contains("␛[2J"), "{}", command.words());
    steers_nothing(&command.bytes());

    let piped = run_plain(arguments, ANSWER);
    let text = [HOSTILE.concat().as_str(), "\n"].concat();
    assert_eq!(String::from_utf8_lossy(&piped.stdout), text);

    // The machine's console, and the host's terminal, are terminals too.
    let mut vm = Vm::launch(&VmSpec::with_model(&disk).parameter("zosia.prompt=Go."));
    let _ = vm.expect("␛[2J", BOOT + LOAD + TURN);
    vm.expect_power_off(SOON);
    let bytes = vm.bytes();
    let begin = bytes.windows(3).position(|at| at == "␛".as_bytes());
    steers_nothing(&bytes[begin.or_fail("find the answer") - 1..]);

    let script = repository().join("tools/run.sh");
    let mut command = PlainCommand::launch(
        &script,
        [
            Architecture::under_test().flag(),
            disk.as_os_str(),
            arguments[0],
            arguments[1],
        ],
    );
    assert!(command.wait_exit(BOOT + LOAD + TURN).success());
    steers_nothing(&command.bytes());
}

#[test]
fn ctrl_c_before_the_first_word_gives_the_message_back() {
    let chat = Chat::start(&["--draft", "off"], &[]);
    let message = "word ".repeat(3000) + "and the last.";
    chat.paste(&message);
    chat.type_keys("\r");
    // Whatever shows how far the prompt has been read.
    let _ = chat.expect(" %", ANSWER);
    chat.ctrl_c();
    let _ = chat.expect_screen("the message in the line", SOON, |screen| {
        screen.cursor_row().ends_with("the last.")
    });
    chat.ctrl_c();
    let saved: Value = serde_json::from_str(&chat.saved("taken-back.json")).or_fail("parse JSON");
    assert_eq!(saved.as_array().map(Vec::len), Some(1), "{saved}");
}

#[test]
fn a_message_typed_ahead_is_not_glued_to_one_that_comes_back() {
    let chat = Chat::start(&["--draft", "off"], &[]);
    chat.paste(&("word ".repeat(3000) + "and the last."));
    chat.type_keys("\r");
    let _ = chat.expect(" %", ANSWER);
    chat.type_keys("Say hello.\r");
    chat.ctrl_c();
    let _ = chat.expect("not answered, Up finds it: word word", SOON);
    let _ = chat.expect_prompt(ANSWER);
    let saved: Value = serde_json::from_str(&chat.saved("ahead.json")).or_fail("parse JSON");
    assert_eq!(saved[1]["text"], "Say hello.", "{saved}");
    assert_eq!(saved.as_array().map(Vec::len), Some(3), "{saved}");
    chat.type_keys("\x1b[A\x1b[A\x1b[A");
    let _ = chat.expect_screen("the message in the line", SOON, |screen| {
        screen.cursor_row().ends_with("the last.")
    });
}

#[test]
fn a_directory_is_tested_like_a_file() {
    let disks = Disks::new();
    let file = disks.tiny(&tiny());
    for path in [&file, &disks.path("")] {
        let arguments = ["--mode", "selftest"].map(OsStr::new);
        let done = run_plain(arguments.into_iter().chain([path.as_os_str()]), LOAD);
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success(), "{}: {said}", path.display());
        assert!(said.contains(TINY_NAME), "{}: {said}", path.display());
        assert!(
            said.contains("an engine ends when it tries openat,"),
            "{said}"
        );
    }
}

/// Its vocabulary has no tokens for `ChatML`.
#[test]
fn a_template_that_cannot_be_used_is_told_and_plain_text_takes_its_place() {
    let disks = Disks::new();
    let model = TinyModel::saying(&[" Paris", ".", "\nUser:", " And what is"]).without_end();
    let disk = disks.tiny(&model.number("tokenizer.chat_template", 5));
    let why = "the model's own is a number, not text";
    let instead = format!("plain text, User: and Assistant: ({why}, and no tokens for ChatML's");
    let arguments = [OsStr::new("-p"), OsStr::new("Hello?"), disk.as_os_str()];
    let done = run_plain(arguments, ANSWER);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    assert!(
        said.contains(&format!("the chat template is {instead}")),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(String::from_utf8_lossy(&done.stdout), "Paris.\n");
    for (mode, told) in [
        ("diag", format!("no usable chat template: {why}")),
        ("selftest", format!("selftest: chat template: {instead}")),
    ] {
        let arguments = [OsStr::new("--mode"), OsStr::new(mode), disk.as_os_str()];
        let done = run_plain(arguments, ANSWER);
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(
            done.status.success() && said.contains(&told),
            "{mode}: {said}"
        );
    }
}

#[test]
fn a_context_of_another_length_than_was_asked_for_is_told() {
    let disks = Disks::new();
    let disk = disks.tiny(&tiny());
    let asked = ["-p", "Hello?", "--ctx", "128"].map(OsStr::new);
    let done = run_plain(asked.into_iter().chain([disk.as_os_str()]), ANSWER);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    assert!(
        said.contains("the context is 256 tokens: 128 are rounded up"),
        "{said}"
    );
}

/// Firmware and the kernel's command line know bytes; run.sh spells the others out.
#[test]
fn parameters_that_are_not_ascii_pass_the_firmware() {
    let disks = Disks::new();
    let disk = disks.tiny(&tiny());
    let append = [
        OsStr::new("--append"),
        OsStr::new("zosia.system=Grüße,世界"),
    ];
    let arguments = [Architecture::under_test().flag(), disk.as_os_str()];
    let arguments = arguments.into_iter().chain(append);
    let mut command = PlainCommand::launch(&repository().join("tools/run.sh"), arguments);
    let _ = command.expect_prompt(BOOT + LOAD);
    let said = command.ask("/show system", SOON);
    assert!(said.contains("Grüße,世界"), "{said}");
    command.ctrl_d();
    assert!(command.wait_exit(SOON).success());
}

/// What a model that has taken over its engine could try, tried from its place.
#[test]
fn the_machine_shows_that_an_engine_can_do_nothing_but_compute() {
    let disks = Disks::new();
    let spec = VmSpec::with_model(disks.tiny(&tiny())).parameter("zosia.mode=selftest");
    let mut vm = Vm::launch(&spec);
    let _ = vm.expect("selftest: an engine ends when it tries openat,", LOAD);
    let _ = vm.expect("selftest: PID 1 can make no socket of any family", LOAD);
    let _ = vm.expect("selftest: passed", LOAD);
    vm.expect_power_off(SOON);
}

#[test]
fn of_several_models_neither_the_machine_nor_the_command_takes_one_by_itself() {
    let disks = Disks::new();
    let files = ["one.gguf", "two.gguf"].map(|name| disks.holding(name, &tiny().file()));
    let directory = disks.path("");
    let done = run_plain(
        [
            OsStr::new("-p"),
            OsStr::new("Hello?"),
            directory.as_os_str(),
        ],
        LOAD,
    );
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    for words in ["several models", "one.gguf", "two.gguf"] {
        assert!(said.contains(words), "{words:?} is missing: {said}");
    }

    let [one, two] = files.map(Drive::File);
    let spec = VmSpec::new().disk(one).disk(two).one_turn("Hello?");
    let results = results_of(&spec);
    let [result] = &results[..] else {
        panic!("one result: {results:?}");
    };
    let error = error_of(result);
    for words in ["several models", "vda", "vdb"] {
        assert!(error.contains(words), "{words:?} is missing: {error}");
    }
}

#[test]
fn a_disk_that_is_plugged_in_later_is_found() {
    let disks = Disks::new();
    let mut vm = Vm::at_prompt(&VmSpec::new().with_slot());
    let _ = vm.expect("zosia: ", LOAD);
    let _ = vm.expect_prompt(SOON);
    let fault = Fault::begins(2, "a disk that is plugged in after the prompt was there");
    vm.plug_in(&disks.tiny(&tiny()));
    // The kernel looks at a slot when the slot says that something is in it.
    while !vm.ask("/model", SOON).contains("vda") {}
    vm.type_line("/model vda");
    let _ = vm.expect(TINY_NAME, LOAD);
    fault.is_harmless("/model lists it and loads it");
    let _ = vm.expect_prompt(SOON);
    vm.ctrl_d();
    vm.expect_power_off(SOON);
}
