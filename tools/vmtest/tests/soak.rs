//! Many turns in one process, of every kind and in no order: memory stays where it
//! was, and what is answered afterwards is what a fresh process answers.

use std::{env, fs};

use rustix::process::Pid;
use vmtest::{ANSWER, Chat, OrFail, SOON};

/// Of each kind, some in this many; 500 take 40 seconds on a quiet machine.
fn turns() -> u32 {
    let told = env::var("ZOSIA_SOAK_TURNS").ok();
    told.map_or(60, |n| n.parse().or_fail("read ZOSIA_SOAK_TURNS"))
}

const QUESTIONS: [&str; 4] = [
    "What is the capital of France?",
    "Name a colour.",
    "How many legs has a spider?",
    "Say hello in Spanish.",
];

/// What takes long to fulfil.
const ENDLESS: &str = "Write a long story about a lighthouse.";

/// Memory of the process that is not a file's, in KiB.
fn anonymous_kib(process: Pid) -> u64 {
    let path = format!("/proc/{}/status", process.as_raw_nonzero());
    let status = fs::read_to_string(path).or_fail("read a process's status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kib.or_fail("find the process's anonymous memory")
}

fn chat() -> Chat {
    Chat::start(&["--max-tokens", "8", "--ctx", "512"], &[])
}

/// Two turns of an empty conversation, as `/save` has them.
fn two_turns(chat: &Chat) -> String {
    let _ = chat.ask("/clear", SOON);
    for question in &QUESTIONS[..2] {
        let _ = chat.ask(question, ANSWER);
    }
    chat.saved("two-turns.json")
}

#[test]
fn many_turns_leave_nothing_behind() {
    let chat = chat();
    let engine = chat.engine().or_fail("find the engine");
    let command = chat.pid();
    // In no order, and the same in each run.
    let mut random = fastrand::Rng::with_seed(1);
    let mut settled = None;
    let mut full = 0;
    let turns = turns();
    for turn in 0..turns {
        let question = QUESTIONS[turn as usize % QUESTIONS.len()];
        let said = match random.u32(..8) {
            0 => chat.ask("/undo", SOON),
            1 => chat.ask("/regen", ANSWER),
            2 => {
                let _ = chat.ask("/set max_tokens 4096", SOON);
                chat.type_line(ENDLESS);
                for _ in 0..random.u32(..4) {
                    let _ = chat.expect_any(&["a", "e", "full", "ZE-"], ANSWER);
                }
                chat.ctrl_c();
                let _ = chat.expect_any(&["stopped", "full", "ZE-", "leaves"], ANSWER);
                // What had not begun to be answered is in the line again.
                chat.type_keys("\x05\x15");
                let _ = chat.expect_prompt(SOON);
                chat.ask("/set max_tokens 8", SOON)
            }
            _ => chat.ask(question, ANSWER),
        };
        if said.contains("ZE-32") || said.contains("full") {
            full += 1;
            let _ = chat.ask("/clear", SOON);
        }
        if turn == turns / 4 {
            settled = Some([engine, command].map(anonymous_kib));
        }
    }
    assert!(full > 0, "no context was full");
    assert_eq!(chat.engine(), Some(engine), "another engine");
    let settled = settled.or_fail("measure");
    let now = [engine, command].map(anonymous_kib);
    eprintln!("KiB: {settled:?} {now:?}, {full} contexts were full");
    for (settled, now) in settled.into_iter().zip(now) {
        assert!(now < settled + 4096, "from {settled} to {now} KiB");
    }
    let after = two_turns(&chat);
    drop(chat);
    assert_eq!(after, two_turns(&self::chat()));
}
