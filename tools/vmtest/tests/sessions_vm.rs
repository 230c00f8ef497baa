//! Sessions in the machine: a disk of their own, which may fail or be missing, and power
//! that may go at any moment.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use vmtest::{
    Architecture, BOOT, Board, Disks, Drive, Fault, LOAD, MODEL_NAME, OrFail, Processor, SOON,
    TURN, TinyModel, Vm, VmSpec, model,
};

/// An empty file of the length that tools/run.sh gives it.
fn session(disks: &Disks) -> PathBuf {
    sized(disks, 8 << 30)
}

fn sized(disks: &Disks, bytes: u64) -> PathBuf {
    let path = disks.path("talk.session");
    let file = File::create(&path).or_fail("create a session");
    file.set_len(bytes).or_fail("size a session");
    path
}

fn spec(model: &Path, session: Drive) -> VmSpec {
    VmSpec::with_model(model)
        .disk(session)
        .parameter("zosia.session=on")
}

fn tiny(disks: &Disks) -> PathBuf {
    disks.tiny(&TinyModel::saying(&["yes"]))
}

/// A machine whose session is open and whose [`tiny`] model is ready, whichever was first;
/// and what it has shown.
fn ready(spec: &VmSpec) -> (Vm, String) {
    let vm = Vm::launch(spec);
    let mut shown = vm.expect_prompt(BOOT);
    if !shown.contains("Tiny") {
        shown += &vm.expect("Tiny", LOAD);
        let _ = vm.expect_prompt(SOON);
    }
    (vm, shown)
}

/// The session's line, of all that was told.
fn line_in(told: &str) -> String {
    let line = told.rsplit("zosia: ").next().or_fail("find the line");
    let end = line.find(']').or_fail("find its code");
    line[..=end].to_owned()
}

#[test]
fn the_machine_is_switched_off_and_goes_on() {
    let disks = Disks::new();
    let session = session(&disks);
    let mut first = Vm::at_prompt(&spec(model(), Drive::Session(session.clone())));
    let _ = first.expect(MODEL_NAME, LOAD);
    let _ = first.expect_prompt(SOON);
    let answer = first.ask("What is the capital of France?", TURN);
    assert!(answer.contains("Paris"), "{answer}");
    first.ctrl_d();
    first.expect_power_off(SOON);
    drop(first);

    // On a machine of another kind: it is the disk that counts.
    let board = match Architecture::under_test() {
        Architecture::Aarch64 => Board::Q35,
        Architecture::X86_64 => Board::PciAcpi,
    };
    let second = spec(model(), Drive::Session(session)).board(board);
    let second = Vm::launch(&second);
    let told = second.expect_prompt(BOOT);
    for words in [
        "going on with",
        ">>> What is the capital of France?",
        "Paris",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    // Without what was said the question would mean nothing.
    let answer = second.ask("And of Italy?", TURN);
    assert!(answer.contains("Rome"), "{answer}");
}

#[test]
fn a_pc_without_random_numbers_says_so_and_waits_for_none() {
    let disks = Disks::new();
    let machine = spec(&tiny(&disks), Drive::Session(session(&disks)));
    let machine = machine
        .board(Board::Q35)
        .processor(Processor::NehalemOf2008);
    let mut vm = Vm::launch(&machine);
    let _ = vm.expect("gives no random numbers", BOOT);
    vm.expect_power_off(SOON);
}

#[test]
fn a_turn_is_kept_whenever_the_power_goes() {
    kill_often(5, 3);
}

#[test]
#[ignore = "takes most of an hour"]
fn a_turn_is_kept_whenever_the_power_goes_500_times() {
    // What is evaluated again grows with the conversation.
    for seed in 0..20 {
        kill_often(seed, 25);
    }
}

/// QEMU is killed at a moment that chance chooses within a turn.
fn kill_often(seed: u64, times: usize) {
    let fault = Fault::begins(23, "SIGKILL to QEMU in the middle of a turn that is kept");
    let disks = Disks::new();
    let (model, session) = (tiny(&disks), session(&disks));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut turns = 0;
    for round in 0..=times {
        let spec = spec(&model, Drive::Session(session.clone()))
            .parameter("zosia.ctx=65536")
            .without_firmware();
        let (vm, shown) = ready(&spec);
        let count = |turns: usize| {
            let s = if turns == 1 { "" } else { "s" };
            format!("\", {turns} turn{s}, of 20")
        };
        // The turn under way may be there, too.
        let more = shown.contains(&count(turns + 1));
        let known = turns == 0 && shown.contains("a new session") || shown.contains(&count(turns));
        assert!(more || known, "round {round}, {turns} turns: {shown}");
        turns += usize::from(more);
        assert!(vm.ask("Kept?", TURN).contains("yes"));
        turns += 1;
        vm.type_line("Cut?");
        std::thread::sleep(std::time::Duration::from_millis(random.u64(..300)));
        // Dropping it kills QEMU.
    }
    fault.is_harmless("every turn whose counts were shown is there");
}

#[test]
fn an_error_of_the_disk_is_told_and_the_turn_is_kept_when_it_is_over() {
    let disks = Disks::new();
    let model = tiny(&disks);
    let fault = Fault::begins(23, "the host's disk takes a record not at once");
    let session = session(&disks);
    // The first record's block, behind what tells what the file is.
    let drive = Drive::FailingSession(session.clone(), 4 * 8);
    let (mut vm, _) = ready(&spec(&model, drive));
    vm.type_line("Are you there?");
    let told = vm.expect("[ZE-70]", TURN);
    let _ = vm.expect("saving goes on: everything is on the disk", SOON);
    assert!(vm.ask("And now?", TURN).contains("yes"));
    vm.ctrl_d();
    vm.expect_power_off(SOON);
    drop(vm);
    let vm = Vm::launch(&spec(&model, Drive::Session(session)));
    let shown = vm.expect_prompt(BOOT);
    assert!(shown.contains("\"Are you there?\", 2 turns"), "{shown}");
    fault.told(
        &line_in(&told),
        "the conversation goes on; it is tried again, and kept",
    );
}

#[test]
fn a_full_disk_is_told_and_nothing_earlier_is_lost() {
    let disks = Disks::new();
    let model = tiny(&disks);
    let fault = Fault::begins(23, "the session's disk is full");
    let session = sized(&disks, 96 << 10);
    let (mut vm, _) = ready(&spec(&model, Drive::Session(session.clone())));
    let mut turns = 0;
    let told = loop {
        let told = vm.ask("Another?", TURN);
        assert!(told.contains("yes"), "{told}");
        if told.contains("[ZE-71]") {
            break told;
        }
        turns += 1;
        assert!(turns < 100, "it is never full");
    };
    // It goes on in memory.
    assert!(vm.ask("Still?", TURN).contains("yes"));
    vm.ctrl_d();
    vm.expect_power_off(BOOT);
    drop(vm);
    let vm = Vm::launch(&spec(&model, Drive::Session(session)));
    let shown = vm.expect_prompt(BOOT);
    assert!(
        shown.contains(&format!("\"Another?\", {turns} turns")),
        "{turns}: {shown}"
    );
    fault.told(
        &line_in(&told),
        "the conversation goes on in memory; what was kept stays",
    );
}

#[test]
fn a_session_that_is_missing_or_cannot_be_written_is_told() {
    let disks = Disks::new();
    let model = tiny(&disks);
    let fault = Fault::begins(23, "zosia.session=on without its disk");
    let mut vm = Vm::launch(&VmSpec::with_model(&model).parameter("zosia.session=on"));
    let told = vm.expect("[ZE-70]", BOOT);
    vm.expect_power_off(SOON);
    fault.told(&line_in(&told), "the machine powers off");

    // One turn, whose result says why.
    let spec = VmSpec::with_model(&model).parameter("zosia.session=on");
    let mut vm = Vm::launch(&spec.one_turn("Hello?"));
    let exit = vm.wait_exit(BOOT);
    assert!(exit.error().contains("[ZE-70]"), "{}", exit.error());
}

#[test]
fn a_session_that_is_read_only_is_told_and_left_as_it_is() {
    let disks = Disks::new();
    let model = tiny(&disks);
    let fault = Fault::begins(23, "the session's disk is read-only");
    let session = sized(&disks, 1 << 20);
    let drive = Drive::ReadOnlySession(session.clone());
    let mut vm = Vm::launch(&spec(&model, drive));
    let told = vm.expect("[ZE-72]", BOOT);
    vm.expect_power_off(SOON);
    assert!(told.contains("read-only"), "{told}");
    let is_zero = |byte: &u8| *byte == 0;
    let kept = std::fs::read(session).or_fail("read the session");
    assert!(kept.iter().all(is_zero));
    fault.told(
        &line_in(&told),
        "the machine powers off; nothing is written",
    );
}

#[test]
fn one_turn_in_the_machine_goes_on_with_the_conversation() {
    let disks = Disks::new();
    let (model, session) = (tiny(&disks), session(&disks));
    for _ in 0..2 {
        let spec = spec(&model, Drive::Session(session.clone()));
        let exit = Vm::launch(&spec.one_turn("Hello?")).wait_exit(TURN);
        assert_eq!(exit.answer, "yes\n");
    }
    let vm = Vm::launch(&spec(&model, Drive::Session(session)));
    let shown = vm.expect_prompt(BOOT);
    assert!(shown.contains("\"Hello?\", 2 turns"), "{shown}");
}

/// Which of `words` stand in the machine's memory.
fn in_memory<'a>(vm: &mut Vm, words: &[&'a str]) -> Vec<&'a str> {
    let memory = vm.memory();
    let is_there = |word: &&&str| {
        let mut grep = Command::new("grep");
        grep.args(["-qaF", word]).arg(&memory);
        grep.status().or_fail("run grep").success()
    };
    words.iter().filter(is_there).copied().collect()
}

#[test]
fn a_machine_that_is_off_has_nothing_in_its_memory() {
    const WORDS: [&str; 2] = ["xyzzy plugh 0451", "the owl flies at noon"];
    let disks = Disks::new();
    let (model, session) = (tiny(&disks), session(&disks));
    let spec = spec(&model, Drive::Session(session))
        .parameter("zosia.encrypt=on")
        .parameter("init_on_free=1")
        .memory_mib(512)
        .keeps_memory();
    let mut vm = Vm::launch(&spec);
    for label in ["new passphrase", "the same again"] {
        let _ = vm.expect(label, BOOT);
        vm.type_keys(&format!("{}\r", WORDS[0]));
    }
    let _ = vm.expect("a new session", LOAD);
    let _ = vm.expect_prompt(LOAD);
    assert!(vm.ask(WORDS[1], TURN).contains("yes"));
    // So it is found where it is.
    assert_eq!(in_memory(&mut vm, &WORDS), WORDS);
    vm.ctrl_d();
    vm.expect_off();
    assert_eq!(in_memory(&mut vm, &WORDS), [""; 0]);
}

#[test]
fn an_encrypted_session_is_opened_at_the_prompt() {
    let disks = Disks::new();
    let (model, session) = (tiny(&disks), session(&disks));
    let encrypted = spec(&model, Drive::Session(session.clone())).parameter("zosia.encrypt=on");
    let mut vm = Vm::launch(&encrypted);
    let _ = vm.expect("new passphrase: ", BOOT);
    vm.type_keys("xyzzy plugh\r");
    let _ = vm.expect("the same again", SOON);
    vm.type_keys("xyzzy plugh\r");
    let _ = vm.expect("a new session", LOAD);
    let _ = vm.expect_prompt(LOAD);
    assert!(vm.ask("Whisper.", TURN).contains("yes"));
    vm.ctrl_d();
    vm.expect_power_off(BOOT);
    drop(vm);
    // Of the eight gigabytes nearly all are a hole.
    let mut kept = vec![0; 1 << 20];
    let mut file = File::open(&session).or_fail("open the session");
    file.read_exact(&mut kept).or_fail("read the session");
    assert!(!kept.windows(7).any(|w| w == b"Whisper"));
    let vm = Vm::launch(&spec(&model, Drive::Session(session)));
    let _ = vm.expect("passphrase: ", BOOT);
    vm.type_keys("xyzzy plugh\r");
    let told = vm.expect(">>> Whisper.", LOAD);
    assert!(told.contains("going on with"), "{told}");
}
