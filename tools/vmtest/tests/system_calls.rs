//! Row 12, of every path: each system call that a turn takes in PID 1's place fails once. It
//! is the plain command that is traced, which has the same code.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use vmtest::{Disks, Fault, OrFail, TinyModel, native_executable};

/// What the model says to everything.
const SAID: &str = "Here I am.\n";
/// The first call of `main`: what comes before is the runtime's.
const MAIN: &str = "getpid";
/// They cannot fail, or their failing is the runtime's: a hash's seed, memory's end.
const NEVER_FAIL: [&str; 5] = ["brk", "exit_group", "futex", "getrandom", "gettid"];
/// A signal may interrupt these (EINTR): they are made again, and the turn goes on.
const INTERRUPTED: [&str; 8] = [
    "flock", "openat", "poll", "ppoll", "pread64", "pwrite64", "read", "write",
];
/// So long a turn may take, traced on a busy machine.
const SECONDS: &str = "60";

struct Place {
    disks: Disks,
    arguments: Vec<String>,
}

impl Place {
    fn new() -> Self {
        let disks = Disks::new();
        let model = disks.tiny(&TinyModel::saying(&["Here", " I", " am", "."]));
        let attached = disks.holding("attached.txt", b"It is attached.");
        let session = disks.path("session");
        let words = |path: &Path| path.display().to_string();
        let arguments = vec![
            words(&native_executable()),
            "-p".to_owned(),
            "Go.".to_owned(),
            "--attach".to_owned(),
            words(&attached),
            "--session".to_owned(),
            words(&session),
            words(&model),
        ];
        Self { disks, arguments }
    }

    /// The turn in a new session, its calls traced; `fails`: which of them.
    fn turn(&self, fails: &[&str]) -> Output {
        let _ = fs::remove_file(self.disks.path("session"));
        Command::new("timeout")
            .args(["--kill-after=1", SECONDS, "strace", "-o"])
            .arg(self.disks.path("trace"))
            .args(fails)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .output()
            .or_fail("run strace")
    }

    /// How often the turn makes which call before `main`, and in all.
    fn calls(&self) -> HashMap<String, (usize, usize)> {
        let trace = fs::read_to_string(self.disks.path("trace")).or_fail("read the trace");
        let names = trace.lines().filter_map(|line| line.split_once('('));
        let mut calls = HashMap::new();
        let mut in_main = false;
        for (name, _) in names {
            in_main |= name == MAIN;
            let (before, all) = calls.entry(name.to_owned()).or_insert((0, 0));
            *before += usize::from(!in_main);
            *all += 1;
        }
        assert!(in_main, "{MAIN} is called");
        calls
    }
}

/// What is wrong with the end of a turn, a call of which failed.
fn fault_of(turn: &Output, may_fail: bool) -> Option<&'static str> {
    let (said, told) = (&turn.stdout, String::from_utf8_lossy(&turn.stderr));
    let last = told.trim_end().lines().last().unwrap_or_default();
    match turn.status.code() {
        Some(0) if *said == SAID.as_bytes() => None,
        Some(0) => Some("status 0 with another answer"),
        Some(1) if !may_fail => Some("it was no failure"),
        Some(1) if !SAID.as_bytes().starts_with(said) => Some("an answer that is none"),
        Some(1) if last.contains(" [ZE-") && last.ends_with(']') => None,
        Some(1) => Some("no line with a code"),
        _ => Some("it hangs or crashes"),
    }
}

#[test]
fn each_system_call_may_fail() {
    let place = Place::new();
    let whole = place.turn(&[]);
    assert_eq!(fault_of(&whole, false), None, "{whole:?}");
    let fault = Fault::begins(
        12,
        "each system call that a turn takes fails, one at a time",
    );
    let mut faults = Vec::new();
    for (name, (before, all)) in place.calls() {
        if NEVER_FAIL.contains(&name.as_str()) {
            continue;
        }
        for error in ["EIO", "EINTR"] {
            if error == "EINTR" && !INTERRUPTED.contains(&name.as_str()) {
                continue;
            }
            for at in before + 1..=all {
                let fails = format!("inject={name}:error={error}:when={at}");
                let turn = place.turn(&["-e", &fails]);
                if let Some(fault) = fault_of(&turn, error != "EINTR") {
                    let told = String::from_utf8_lossy(&turn.stderr);
                    faults.push(format!("{fails}: {fault}: {:?}: {told}", turn.status));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    fault.is_harmless("one line with a code and status 1, or the answer as ever");
}
