//! How a session ends, or is interrupted, from outside: the user's terminal is as it
//! was, and nothing runs on.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use vmtest::{
    Architecture, BOOT, Disks, Fault, LOAD, OrFail, PlainCommand, SOON, TURN, TinyModel,
    expect_stopped, model, native_executable, repository, wait_until,
};

/// A chat of the plain command at its prompt, the model loaded.
fn chat(folder: &Disks) -> PlainCommand {
    let file = folder.holding("tiny.gguf", &TinyModel::saying(&["yes"]).file());
    let command = PlainCommand::launch(&native_executable(), [file.as_os_str()]);
    let _ = command.expect_prompt(BOOT);
    assert!(command.ask("Say it.", LOAD).contains("yes"));
    assert!(!command.is_sane(), "the prompt edits its line");
    command
}

#[test]
fn a_signal_ends_the_command_and_its_engine_and_leaves_a_sane_terminal() {
    for (signal, name) in [
        (Signal::TERM, "SIGTERM"),
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
    ] {
        let fault = Fault::begins(21, format!("{name} to the plain command"));
        let folder = Disks::new();
        let mut command = chat(&folder);
        let engine = command.engine().or_fail("find the engine");
        command.signal(signal);
        let status = command.wait_end(SOON);
        assert_eq!(status.signal(), Some(signal.as_raw()), "{status}");
        assert!(command.is_sane(), "after {signal:?}");
        expect_gone(engine);
        fault.is_harmless("the terminal is as it was; no process stays");
    }
}

#[test]
fn the_command_is_suspended_and_goes_on() {
    let fault = Fault::begins(21, "SIGTSTP and SIGCONT to the plain command");
    let folder = Disks::new();
    let command = chat(&folder);
    for signal in [Signal::TSTP, Signal::STOP] {
        command.signal(signal);
        expect_stopped(command.pid());
        // A stop that no process can prepare for leaves the terminal as it is.
        assert_eq!(command.is_sane(), signal == Signal::TSTP);
        command.signal(Signal::CONT);
        command.expect_raw();
        assert!(command.ask("Say it.", TURN).contains("yes"));
    }
    fault.is_harmless("the terminal is the shell's meanwhile; then the prompt");
}

#[test]
fn ctrl_z_is_the_shell_s_and_fg_comes_back_to_the_same_line() {
    let fault = Fault::begins(21, "Ctrl-Z at the plain command, then fg");
    let folder = Disks::new();
    let file = folder.holding("tiny.gguf", &TinyModel::saying(&["yes"]).file());
    let script = "\"$@\"; echo 'the shell'; read line; fg";
    let program = native_executable();
    let shell = ["-mc".as_ref(), script.as_ref(), "sh".as_ref()];
    let arguments = [program.as_os_str(), file.as_os_str()];
    let mut command =
        PlainCommand::launch(Path::new("/bin/sh"), shell.into_iter().chain(arguments));
    let _ = command.expect_prompt(BOOT);
    assert!(command.ask("Say it.", LOAD).contains("yes"));
    command.type_keys("Say it ");
    let _ = command.expect("Say it ", SOON);
    command.type_bytes(b"\x1a");
    let _ = command.expect("the shell", SOON);
    assert!(command.is_sane());
    command.type_line("");
    command.expect_raw();
    assert!(command.ask("again.", TURN).contains("yes"));
    assert!(command.words().contains("Say it again."));
    command.ctrl_d();
    assert_eq!(command.wait_exit(SOON).code(), Some(0));
    assert!(command.is_sane());
    fault.is_harmless("the terminal is the shell's meanwhile; then the same line");
}

#[test]
fn ctrl_z_stops_nothing_that_no_shell_would_continue() {
    let folder = Disks::new();
    let command = chat(&folder);
    command.type_bytes(b"\x1a");
    assert!(command.ask("Say it.", TURN).contains("yes"));
}

#[test]
fn an_engine_that_was_stopped_goes_on() {
    let folder = Disks::new();
    let command = chat(&folder);
    let engine = command.engine().or_fail("find the engine");
    command.stop_engine();
    expect_stopped(engine);
    kill_process(engine, Signal::CONT).or_fail("continue the engine");
    assert!(command.ask("Say it.", TURN).contains("yes"));
    assert_eq!(command.engine(), Some(engine));
}

#[test]
fn lines_typed_ahead_are_discarded_by_one_ctrl_c() {
    let folder = Disks::new();
    let command = chat(&folder);
    let fault = Fault::begins(22, "40,000 lines typed ahead");
    command.stop_engine();
    command.type_line("go");
    command.type_bytes("a line\r".repeat(40_000).as_bytes());
    command.ctrl_c();
    let _ = command.expect("lines typed ahead were discarded", SOON);
    fault.is_harmless("Ctrl-C discards all of them, and says so");
}

/// A shell at a terminal that runs tools/run.sh and then looks at what it left.
fn run_sh(folder: &Disks) -> PlainCommand {
    let script = "export TMPDIR=$1; \"$2\" \"$3\" \"$4\"; echo \"status $?\"; \
                  grep flags /proc/self/fdinfo/0; printf 'over\\n'; cat";
    let run = repository().join("tools/run.sh");
    let command = PlainCommand::launch(
        Path::new("/bin/sh"),
        [
            "-c".as_ref(),
            script.as_ref(),
            "sh".as_ref(),
            folder.path("").as_os_str(),
            run.as_os_str(),
            Architecture::under_test().flag(),
            model().as_os_str(),
        ],
    );
    let _ = command.expect_prompt(BOOT);
    assert!(!command.is_sane(), "QEMU passes keys on");
    command
}

/// The terminal is as it was, its opening is one that waits, and neither QEMU nor
/// the session's directory is left.
fn expect_nothing_left(command: &PlainCommand, status: &str, qemu: Pid, folder: &Disks) {
    let told = command.expect("over", SOON);
    assert!(told.contains(status), "{told}");
    let flags = told.split("flags:").nth(1).or_fail("find the flags");
    let flags = flags.split_whitespace().next().or_fail("read the flags");
    let flags = u32::from_str_radix(flags, 8).or_fail("read the flags");
    assert_eq!(flags & rustix::fs::OFlags::NONBLOCK.bits(), 0, "{told}");
    expect_gone(qemu);
    let is_empty = || fs::read_dir(folder.path("")).or_fail("look").count() == 0;
    wait_until(|| command.is_sane() && is_empty(), || command.dump());
}

/// The process below `parent` whose name begins so.
fn below(parent: Pid, name: &str) -> Pid {
    let children = format!("/proc/{0}/task/{0}/children", parent.as_raw_nonzero());
    let children = fs::read_to_string(children).or_fail("list children");
    let mut children = children.split_whitespace();
    let found = children.find_map(|pid| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        comm.starts_with(name).then(|| pid.parse().ok())?
    });
    Pid::from_raw(found.or_fail(format_args!("find {name}"))).or_fail("a number of a process")
}

fn expect_gone(process: Pid) {
    let path = format!("/proc/{}/comm", process.as_raw_nonzero());
    wait_until(
        || !Path::new(&path).exists(),
        || format!("process {process:?} is left"),
    );
}

#[test]
fn run_sh_is_suspended_and_what_kills_it_leaves_nothing() {
    for (signal, name) in [
        (Signal::KILL, "SIGKILL"),
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::TERM, "SIGTERM"),
    ] {
        let fault = Fault::begins(21, format!("SIGTSTP, SIGCONT and {name} to run.sh"));
        let folder = Disks::new();
        let command = run_sh(&folder);
        let run = below(command.pid(), "run.sh");
        let qemu = below(run, "qemu");
        kill_process(run, Signal::TSTP).or_fail("suspend run.sh");
        expect_stopped(run);
        assert!(command.is_sane());
        kill_process(run, Signal::CONT).or_fail("continue run.sh");
        command.expect_raw();
        command.type_line("/show temp");
        let _ = command.expect("Temperature:", SOON);
        kill_process(run, signal).or_fail("kill run.sh");
        let status = format!("status {}", 128 + signal.as_raw());
        expect_nothing_left(&command, &status, qemu, &folder);
        fault.is_harmless("QEMU ends; terminal and scratch directory are in order");
    }
}

#[test]
fn a_machine_that_ends_leaves_nothing() {
    for (row, what, signal, status) in [
        (21, "SIGKILL to QEMU", Some(Signal::KILL), "status 6"),
        (14, "SIGTERM to QEMU", Some(Signal::TERM), "status 6"),
        (14, "Ctrl-D", None, "status 0"),
    ] {
        let fault = Fault::begins(row, what);
        let folder = Disks::new();
        let command = run_sh(&folder);
        let qemu = below(below(command.pid(), "run.sh"), "qemu");
        match signal {
            Some(signal) => kill_process(qemu, signal).or_fail("signal QEMU"),
            None => command.ctrl_d(),
        }
        expect_nothing_left(&command, status, qemu, &folder);
        fault.is_harmless("terminal and scratch directory are in order");
    }
}
