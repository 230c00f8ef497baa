//! The engine dies in the middle of an answer: a line says so, another takes
//! its place, and the conversation goes on.

use std::iter;

use rustix::process::Signal;
use vmtest::{
    BOOT, LOAD, PlainCommand, SOON, TURN, Terminal, Vm, VmSpec, model, native_executable,
};

/// A question whose answer goes on long enough to be interrupted.
const ENDLESS: &str = "Count from one to one thousand in words.";

/// Has the engine killed by `kill` while it answers.
fn survives(terminal: &Terminal, cause: &str, kill: impl FnOnce()) {
    let first = terminal.ask(
        "My name is Zebulon. What is the capital of France?",
        LOAD + TURN,
    );
    assert!(first.contains("Paris"), "{first}");
    terminal.type_line(ENDLESS);
    let _ = terminal.expect("two", TURN);
    kill();
    let line = terminal.expect("is kept", SOON);
    for words in ["the engine", cause, "restarted"] {
        assert!(line.contains(words), "{words} is missing: {line}");
    }
    let _ = terminal.expect_prompt(LOAD);
    let last = terminal.ask("What is my name?", LOAD + TURN);
    assert!(last.contains("Zebulon"), "{last}");
    let explanations = terminal.words().matches("the engine").count();
    assert_eq!(explanations, 1, "one line of explanation");
}

fn plain_command_survives(signal: Signal, cause: &str) {
    let arguments = ["--temp", "0"].iter().map(AsRef::as_ref);
    let arguments = arguments.chain(iter::once(model().as_os_str()));
    let mut command = PlainCommand::launch(&native_executable(), arguments);
    let _ = command.expect_prompt(BOOT);
    survives(&command, cause, || command.signal_engine(signal));
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

#[test]
fn the_machine_survives_an_engine_that_jumps_to_nowhere() {
    let mut vm = Vm::at_prompt(&VmSpec::with_model(model()));
    survives(&vm, "SIGSEGV", || vm.crash_running_process());
    vm.ctrl_d();
    vm.expect_power_off(SOON);
}
