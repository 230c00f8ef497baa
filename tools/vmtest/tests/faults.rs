//! The engine dies in the middle of an answer: a line says so, another takes
//! its place, and the conversation goes on.

use std::ffi::OsStr;
use std::fs;

use rustix::process::Signal;
use vmtest::{
    ANSWER, BOOT, Chat, Disks, Fault, LOAD, MODEL_NAME, OrFail, PlainCommand, SOON, SYSTEM_PROMPT,
    TURN, Terminal, Vm, VmSpec, model, native_executable, wait_until,
};

const CAPITAL: &str = "What is the capital of France?";
/// What takes long to fulfil.
const ENDLESS: &str = "Write a long story about a lighthouse.";

/// Has the engine killed by `kill` while it answers.
fn survives(terminal: &Terminal, place: &str, cause: &str, kill: impl FnOnce()) {
    let first = terminal.ask(CAPITAL, LOAD + TURN);
    assert!(first.contains("Paris"), "{first}");
    terminal.type_line(ENDLESS);
    let _ = terminal.expect("lighthouse", TURN);
    let fault = Fault::begins(9, format!("the engine dies of {cause} {place}"));
    kill();
    let line = terminal.expect("is kept [", SOON);
    for words in ["the engine", cause, "restarted"] {
        assert!(line.contains(words), "{words:?} is missing: {line}");
    }
    let _ = terminal.expect(MODEL_NAME, LOAD);
    fault.told(
        &terminal.last_fault(),
        "another engine, with the conversation",
    );
    let _ = terminal.expect_prompt(SOON);
    // The new engine is given the whole conversation, and evaluates all of it.
    terminal.type_line("/template");
    let seen = terminal.expect(" tokens: [", SOON);
    let _ = terminal.expect_prompt(SOON);
    for words in [CAPITAL, "Paris", ENDLESS] {
        assert!(seen.contains(words), "{words:?} is missing: {seen}");
    }
    let (_, story) = seen.rsplit_once(ENDLESS).or_fail("find the story");
    assert!(story.contains("lighthouse"), "{story}");
    let _ = terminal.ask("/set max_tokens 4", SOON);
    let new_tokens = terminal.count_new_tokens("And in Italy?", TURN);
    assert!(new_tokens > 60, "{new_tokens} tokens were evaluated");
    let explanations = terminal.words().matches("the engine").count();
    assert_eq!(explanations, 1, "one line of explanation");
}

fn plain_command_survives(signal: Signal, cause: &str) {
    // One thread, as tests share the machine's processors with others.
    let parameters = ["--temp", "0", "--threads", "1", "--system", SYSTEM_PROMPT];
    let parameters = parameters.into_iter().map(OsStr::new);
    let arguments = parameters.chain([model().as_os_str()]);
    let mut command = PlainCommand::launch(&native_executable(), arguments);
    let _ = command.expect_prompt(BOOT);
    survives(&command, "in the plain command", cause, || {
        command.kill_engine(signal);
    });
    command.ctrl_d();
    assert!(command.wait_exit(SOON).success());
}

#[test]
fn the_plain_command_survives_an_engine_killed_by_sigkill() {
    plain_command_survives(Signal::KILL, "SIGKILL");
}

#[test]
fn the_plain_command_survives_an_engine_killed_by_sigsegv() {
    plain_command_survives(Signal::SEGV, "SIGSEGV");
}

#[test]
fn the_plain_command_survives_an_engine_killed_by_sigabrt() {
    plain_command_survives(Signal::ABORT, "SIGABRT");
}

/// A stopped process is the worst that a loop without end could be.
#[test]
fn an_engine_that_does_not_stop_takes_neither_the_line_nor_the_conversation() {
    let mut chat = Chat::start(&[], &[]);
    let _ = chat.ask(CAPITAL, TURN);
    chat.type_line(ENDLESS);
    let _ = chat.expect("lighthouse", TURN);
    let fault = Fault::begins(9, "the engine stands still, and Ctrl-C is pressed twice");
    chat.stop_engine();
    // Once asked, once replaced, with what was typed between in the line.
    chat.ctrl_c();
    let _ = chat.expect("Ctrl-C again replaces the engine", SOON);
    chat.type_keys("typed");
    let _ = chat.expect_line(">>> typed", 9);
    chat.type_keys("\x15");
    let _ = chat.expect_line(">>> Send a message (/help for help)", 4);
    chat.ctrl_c();
    let _ = chat.expect("the engine is replaced; another is started", SOON);
    let _ = chat.expect(MODEL_NAME, LOAD);
    fault.told(&chat.last_fault(), "another engine, with the conversation");
    chat.type_line("/template");
    let seen = chat.expect(" tokens: [", SOON);
    assert!(seen.contains("Paris"), "{seen}");
    let _ = chat.expect_prompt(SOON);

    // What is sent after the Ctrl-C is answered by the next engine, also when that
    // is found out without the user.
    chat.type_line(ENDLESS);
    let _ = chat.expect("lighthouse", TURN);
    let fault = Fault::begins(9, "the engine stands still, and Ctrl-C is pressed once");
    chat.stop_engine();
    chat.ctrl_c();
    let _ = chat.expect("Ctrl-C again replaces the engine", SOON);
    chat.type_line("/set max_tokens 4");
    let _ = chat.expect("gave no sign of life for 10 s", SOON);
    let _ = chat.expect(MODEL_NAME, LOAD);
    fault.told(
        &chat.last_fault(),
        "another engine answers what was sent meanwhile",
    );
    let _ = chat.ask(CAPITAL, TURN);

    // A Ctrl-D leaves at once, answer or not.
    let _ = chat.ask("/set max_tokens 4096", SOON);
    chat.type_line(ENDLESS);
    let _ = chat.expect("lighthouse", TURN);
    chat.stop_engine();
    chat.ctrl_d();
    assert!(chat.wait_exit(SOON).success());
}

/// Of an engine that has been asked for what is kept there is more to tell when it goes.
#[test]
fn what_is_sent_while_an_engine_is_replaced_is_answered_on_the_screen() {
    let folder = Disks::new();
    let session = folder.path("talk.session");
    let flags = ["--session", session.to_str().or_fail("spell the path")];
    let chat = Chat::start(&flags, &[]);
    // So long that it is worth keeping.
    let towns = (1..=160).map(|number| format!("Item {number} is a town in France. "));
    let _ = chat.ask(&(towns.collect::<String>() + CAPITAL), ANSWER);
    wait_until(
        || fs::metadata(&session).is_ok_and(|session| session.len() > 1 << 20),
        || "what is evaluated is not kept",
    );
    chat.type_line(ENDLESS);
    let _ = chat.expect("lighthouse", TURN);
    chat.stop_engine();
    chat.ctrl_c();
    let _ = chat.expect("Ctrl-C again replaces the engine", SOON);
    chat.type_line(CAPITAL);
    chat.ctrl_c();
    let _ = chat.expect("the engine is replaced; another is started", SOON);
    let _ = chat.expect("Paris", TURN);
    let _ = chat.expect_prompt(TURN);
    let _ = chat.ask("/stats", SOON);
}

#[test]
fn the_machine_survives_an_engine_that_jumps_to_nowhere() {
    let mut vm = Vm::at_prompt(&VmSpec::with_model(model()));
    survives(&vm, "in the machine", "SIGSEGV", || {
        vm.crash_running_process();
    });
    vm.ctrl_d();
    vm.expect_power_off(SOON);
}
