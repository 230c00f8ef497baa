//! The machine with a good model: it boots, it answers, it can be stopped, it
//! goes away.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use vmtest::{
    BOOT, Disks, Drive, LOAD, MODEL_NAME, OrFail, SOON, SYSTEM_PROMPT, TURN, Vm, VmSpec, model,
    repository, static_executable,
};

const CAPITAL: &str = "What is the capital of France?";
/// What takes long to fulfil.
const ENDLESS: &str = "Write a long story about a lighthouse.";

#[test]
fn boots_to_prompt_and_powers_off_with_ctrl_d() {
    let mut vm = Vm::at_prompt(&VmSpec::with_model(model()));
    let _ = vm.expect(MODEL_NAME, LOAD);
    let _ = vm.expect_prompt(SOON);
    let help = vm.ask("/help", SOON);
    assert!(help.contains("/exit"), "{help}");
    vm.ctrl_d();
    vm.expect_power_off(SOON);
}

#[test]
fn the_prompt_is_there_before_the_model_is_read() {
    let slow = Drive::Slow(model().to_owned(), 20_000_000);
    let mut vm = Vm::launch(&VmSpec::new().disk(slow));
    let before = vm.expect_any(&[">>> ", MODEL_NAME], BOOT);
    assert!(before.ends_with(">>> "), "{before}");
    let progress = vm.expect("MB/s", LOAD);
    assert!(progress.contains("reading the model"), "{progress}");
    assert!(progress.contains('%'), "{progress}");
    let _ = vm.expect(MODEL_NAME, LOAD);
    let _ = vm.expect_prompt(SOON);
    // The line that showed the progress has made way.
    assert!(
        !vm.screen().iter().any(|row| row.contains("MB/s")),
        "{:#?}",
        vm.screen()
    );
    vm.type_line("/exit");
    vm.expect_power_off(SOON);
}

fn answers_paris(disk: impl Into<PathBuf>) {
    let vm = Vm::at_prompt(&VmSpec::with_model(disk));
    let answer = vm.ask(CAPITAL, LOAD + TURN);
    assert!(answer.contains("Paris"), "{answer}");
}

#[test]
fn answers_paris_from_a_gpt_disk_with_an_erofs_partition() {
    let disks = Disks::new();
    answers_paris(disks.gpt_erofs(model(), "SmolLM2.gguf"));
}

#[test]
fn answers_paris_from_an_ext4_file_system() {
    let disks = Disks::new();
    answers_paris(disks.ext4(model()));
}

#[test]
fn three_turns_from_a_raw_gguf_refer_to_one_another() {
    let vm = Vm::at_prompt(&VmSpec::with_model(model()));
    let first = vm.ask(CAPITAL, LOAD + TURN);
    assert!(first.contains("Paris"), "{first}");
    let second = vm.ask("And of Italy?", TURN);
    assert!(second.contains("Rome"), "{second}");
    let third = vm.ask("Which was the first country I asked about?", TURN);
    assert!(third.contains("France"), "{third}");
}

#[test]
fn ctrl_c_ends_the_turn_and_keeps_the_session() {
    let vm = Vm::at_prompt(&VmSpec::with_model(model()));
    let first = vm.ask(CAPITAL, LOAD + TURN);
    assert!(first.contains("Paris"), "{first}");
    vm.type_line(ENDLESS);
    let _ = vm.expect("lighthouse", TURN);
    vm.ctrl_c();
    let end = vm.expect_prompt(SOON);
    assert!(end.contains("stopped"), "{end}");
    // The model sees both turns, and only what is new is evaluated.
    vm.type_line("/template");
    let seen = vm.expect(" tokens: [", SOON);
    let _ = vm.expect_prompt(SOON);
    for words in [CAPITAL, "Paris", ENDLESS] {
        assert!(seen.contains(words), "{words:?} is missing: {seen}");
    }
    let (_, story) = seen.rsplit_once(ENDLESS).or_fail("find the story");
    assert!(story.contains("lighthouse"), "{story}");
    let _ = vm.ask("/set max_tokens 4", SOON);
    let new_tokens = vm.count_new_tokens("And in Italy?", TURN);
    assert!(new_tokens < 25, "{new_tokens} tokens were evaluated");
}

#[test]
fn the_greedy_text_is_the_plain_commands_token_for_token() {
    let parameters = ["--temp", "0", "--max-tokens", "24", "--threads", "1"];
    let parameters = [parameters.as_slice(), &["--system", SYSTEM_PROMPT]].concat();
    let spec = VmSpec::with_model(model()).parameter("zosia.max_tokens=24");
    let spec = spec.one_turn(CAPITAL);
    let mut vm = Vm::launch(&spec);
    let machine = vm.wait_exit(BOOT + LOAD + TURN);
    assert_eq!(machine.result["answered"], true, "{}", machine.result);
    assert_eq!(machine.reason, "guest-shutdown");

    let plain = Command::new(repository().join("tools/vmtest/run-aarch64.sh"))
        .arg("cortex-a72")
        .arg(static_executable())
        .args(parameters)
        .args(["--prompt", CAPITAL])
        .arg(model())
        .stdin(Stdio::null())
        .output()
        .or_fail("start run-aarch64.sh");
    let said = String::from_utf8_lossy(&plain.stderr);
    assert!(plain.status.success(), "{}: {said}", plain.status);
    assert!(machine.answer.contains("Paris"), "{}", machine.answer);
    assert_eq!(machine.answer, String::from_utf8_lossy(&plain.stdout));
}
