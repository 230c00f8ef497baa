//! Many turns in one process and in one boot, of every kind and in no order: memory stays
//! where it was, and what is answered afterwards is what a fresh one answers.

use std::time::Duration;
use std::{env, fs};

use rustix::process::Pid;
use vmtest::{ANSWER, Chat, Disks, OrFail, SOON, Shape, TURN, Terminal, Vm, VmSpec};

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

/// Two questions to an empty conversation.
fn ask_two(chat: &Terminal, within: Duration) {
    let _ = chat.ask("/clear", SOON);
    for question in &QUESTIONS[..2] {
        let _ = chat.ask(question, within);
    }
}

/// Turns of every kind, in no order, and the same ones in each run; `settle` is called
/// after a quarter of them.
fn chat_on(chat: &Terminal, within: Duration, mut settle: impl FnMut()) {
    let mut random = fastrand::Rng::with_seed(1);
    let mut full = 0;
    let turns = turns();
    for turn in 0..turns {
        let question = QUESTIONS[turn as usize % QUESTIONS.len()];
        let said = match random.u32(..8) {
            0 => chat.ask("/undo", SOON),
            1 => chat.ask("/regen", within),
            2 => {
                let _ = chat.ask("/set max_tokens 4096", SOON);
                chat.type_line(ENDLESS);
                for _ in 0..random.u32(..4) {
                    let _ = chat.expect_any(&["a", "e", "full", "ZE-"], within);
                }
                chat.ctrl_c();
                let mut said = chat.expect_any(&["stopped", "full", "ZE-", "leaves"], within);
                // What had not begun to be answered is in the line again.
                chat.type_keys("\x05\x15");
                said += &chat.expect_prompt(SOON);
                let _ = chat.ask("/set max_tokens 8", SOON);
                said
            }
            _ => chat.ask(question, within),
        };
        if said.contains("ZE-32") || said.contains("full") {
            full += 1;
            let _ = chat.ask("/clear", SOON);
        }
        if turn == turns / 4 {
            settle();
        }
    }
    assert!(full > 0, "no context was full");
    eprintln!("{full} contexts were full");
}

#[test]
fn many_turns_leave_nothing_behind() {
    let chat = || Chat::start(&["--max-tokens", "8", "--ctx", "512"], &[]);
    let two_turns = |chat: &Chat| {
        ask_two(chat, ANSWER);
        chat.saved("two-turns.json")
    };
    let long = chat();
    let engine = long.engine().or_fail("find the engine");
    let memory = || [engine, long.pid()].map(anonymous_kib);
    let mut settled = None;
    chat_on(&long, ANSWER, || settled = Some(memory()));
    assert_eq!(long.engine(), Some(engine), "another engine");
    let (settled, now) = (settled.or_fail("measure"), memory());
    eprintln!("KiB: {settled:?} {now:?}");
    for (settled, now) in settled.into_iter().zip(now) {
        assert!(now < settled + 4096, "from {settled} to {now} KiB");
    }
    let after = two_turns(&long);
    drop(long);
    assert_eq!(after, two_turns(&chat()));
}

/// Memory of the machine that is not in use, in MiB.
fn available_mib(vm: &Vm) -> u32 {
    let stats = vm.ask("/stats", SOON);
    let before = stats.split_once(" MiB available").map(|(before, _)| before);
    let number = before.and_then(|before| before.rsplit(' ').next()?.parse().ok());
    number.or_fail(format_args!("find the memory in {stats:?}"))
}

/// Of a model that keeps states to go back to.
#[test]
fn many_turns_in_one_boot_leave_nothing_behind() {
    let disks = Disks::new();
    let model = disks.holding("model.gguf", &Shape::Qwen35.file().bytes());
    let spec = VmSpec::with_model(model)
        .parameter("zosia.max_tokens=8")
        .parameter("zosia.ctx=512");
    let two_turns = |vm: &Vm| {
        ask_two(vm, TURN);
        vm.saved("two-turns.json")
    };
    let long = Vm::at_prompt(&spec);
    let mut settled = None;
    chat_on(&long, TURN, || settled = Some(available_mib(&long)));
    let (settled, now) = (settled.or_fail("measure"), available_mib(&long));
    eprintln!("MiB available: {settled} {now}");
    // The heap grows once for the fullest context, whenever that comes.
    assert!(now + 16 > settled, "from {settled} to {now} MiB");
    let after = two_turns(&long);
    drop(long);
    assert_eq!(after, two_turns(&Vm::at_prompt(&spec)));
}
