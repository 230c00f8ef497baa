//! Terminal, pipe and file, at standard input and standard output in all nine ways; and
//! outputs that take nothing. A chat needs a terminal at both; all else is one turn, whose
//! answer goes where standard output goes, alone.

use std::fs;
use std::path::{Path, PathBuf};

use vmtest::{
    ANSWER, Disks, Fault, LOAD, OrFail, PlainCommand, SOON, TINY_NAME, TinyModel, native_executable,
};

/// What the model says to everything.
const SAID: &str = "Here I am.\n";

struct Place {
    disks: Disks,
    /// The command, without what is redirected.
    command: String,
}

impl Place {
    fn new() -> Self {
        let disks = Disks::new();
        let model = disks.tiny(&TinyModel::saying(&["Here", " I", " am", "."]));
        let _ = disks.holding("in", b"Go.");
        let program = native_executable();
        let command = format!("{} {}", program.display(), model.display());
        Self { disks, command }
    }

    /// A shell at a terminal that runs this with the command in the place of `{}`, in
    /// the folder, and says its status.
    fn shell(&self, script: &str) -> PlainCommand {
        let script = script.replace("{}", &self.command);
        let script = format!(
            "cd {}; {script}; echo \"status $?\"",
            self.disks.path("").display()
        );
        PlainCommand::launch(Path::new("/bin/bash"), ["-c", &script])
    }

    fn written(&self) -> String {
        let path: PathBuf = self.disks.path("out");
        fs::read_to_string(path).or_fail("read what was written")
    }
}

#[test]
fn a_terminal_at_both_is_a_chat() {
    let place = Place::new();
    let mut shell = place.shell("{}");
    let _ = shell.expect(TINY_NAME, LOAD);
    let _ = shell.expect_prompt(SOON);
    for _ in 0..2 {
        let answer = shell.ask("Go.", ANSWER);
        assert!(answer.contains("Here I am."), "{answer}");
    }
    shell.ctrl_d();
    let _ = shell.expect("status 0", SOON);
    assert!(shell.wait_exit(SOON).success());
}

#[test]
fn what_is_typed_for_a_pipe_or_a_file_is_one_turn() {
    let place = Place::new();
    for output in ["| cat >out", ">out"] {
        let mut shell = place.shell(&format!("{{}} {output}"));
        let _ = shell.expect("Ctrl-D on a line of its own ends it", LOAD);
        shell.type_keys("Go.\n");
        let _ = shell.expect("Go.", SOON);
        shell.ctrl_d();
        let shown = shell.expect("status 0", LOAD + ANSWER);
        assert!(shell.wait_exit(SOON).success());
        assert!(!shown.contains("Here"), "{output}: {shown}");
        assert_eq!(place.written(), SAID, "{output}");
    }
}

#[test]
fn what_comes_from_a_pipe_or_a_file_is_one_turn() {
    let place = Place::new();
    for input in ["printf Go. | {}", "{} <in"] {
        for output in ["", "| cat >out", ">out"] {
            let mut shell = place.shell(&format!("{input} {output}"));
            let shown = shell.expect("status 0", LOAD + ANSWER);
            assert!(shell.wait_exit(SOON).success());
            if output.is_empty() {
                assert_eq!(shown, "Here I am. status 0", "{input}");
            } else {
                assert_eq!(shown, "status 0", "{input} {output}");
                assert_eq!(place.written(), SAID, "{input} {output}");
            }
        }
    }
}

#[test]
fn an_output_that_takes_nothing_is_told() {
    let place = Place::new();
    for (what, script) in [
        ("standard output is closed", "{} -p Go. >&-"),
        ("standard output is full", "{} -p Go. >/dev/full"),
        (
            "standard output is closed for a batch",
            "echo '{\"prompt\":\"Go.\"}' | {} --batch - >&-",
        ),
        ("standard input is closed", "{} <&-"),
        ("standard input is /dev/null", "{} </dev/null"),
    ] {
        let fault = Fault::begins(21, what);
        let mut shell = place.shell(script);
        let _ = shell.expect("status 1", LOAD + ANSWER);
        assert!(shell.wait_exit(SOON).success());
        fault.told(&shell.last_fault(), "status 1");
    }
    let fault = Fault::begins(21, "whoever read the answers has ended");
    let nobody_reads = "mkfifo pipe; exec 3<>pipe; exec 4>pipe; exec 3<&-";
    let mut shell = place.shell(&format!("{nobody_reads}; {{}} -p Go. >&4"));
    let _ = shell.expect("status 1", LOAD + ANSWER);
    assert!(shell.wait_exit(SOON).success());
    fault.told(&shell.last_fault(), "status 1");
    // Standard error takes nothing: there is nowhere to tell.
    for script in ["{} -p Go. 2>&- >out", "{} -p Go. 2>/dev/full >out"] {
        let mut shell = place.shell(script);
        let _ = shell.expect("status 0", LOAD + ANSWER);
        assert!(shell.wait_exit(SOON).success());
        assert_eq!(place.written(), SAID, "{script}");
    }
}
