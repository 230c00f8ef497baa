//! The machine with a good model: it boots, it answers, it can be stopped, it
//! goes away.

use std::path::PathBuf;

use vmtest::{
    BOOT, Disks, Drive, Fault, GgufFile, LOAD, MODEL_NAME, OrFail, SOON, TINY_NAME, TURN,
    TinyModel, Vm, VmSpec, model,
};

const CAPITAL: &str = "What is the capital of France?";
/// What takes long to fulfil.
const ENDLESS: &str = "Write a long story about a lighthouse.";

#[test]
fn the_prompt_is_there_before_the_model_is_read() {
    let fault = Fault::begins(5, "a disk that gives 4 MB a second");
    let slow = Drive::Slow(model().to_owned(), 4_000_000);
    let mut vm = Vm::launch(&VmSpec::new().disk(slow));
    let before = vm.expect_any(&[">>> ", MODEL_NAME], BOOT);
    assert!(before.ends_with(">>> "), "{before}");
    let progress = vm.expect("MB/s", LOAD);
    assert!(progress.contains("reading the model"), "{progress}");
    assert!(progress.contains('%'), "{progress}");
    vm.type_keys("still here");
    let _ = vm.expect("still here", SOON);
    let later = vm.expect("MB/s", SOON);
    assert!(later.contains('%'), "{later}");
    vm.ctrl_c();
    let _ = vm.expect(MODEL_NAME, LOAD);
    let _ = vm.expect_prompt(SOON);
    fault.is_harmless("how far the reading is, on one line; keys echo");
    // The line that showed the progress has made way.
    assert!(
        !vm.screen().iter().any(|row| row.contains("MB/s")),
        "{:#?}",
        vm.screen()
    );
    vm.type_line("/exit");
    vm.expect_power_off(SOON);
}

fn answers_from(disk: impl Into<PathBuf>) {
    let vm = Vm::at_prompt(&VmSpec::with_model(disk));
    let answer = vm.ask("Are you there?", LOAD + TURN);
    assert!(answer.contains("Here I am."), "{answer}");
}

fn tiny(disks: &Disks) -> PathBuf {
    disks.tiny(&TinyModel::saying(&["Here", " I", " am", "."]))
}

#[test]
fn answers_from_a_gpt_disk_with_an_erofs_partition() {
    let disks = Disks::new();
    answers_from(disks.gpt_erofs(&tiny(&disks), "Tiny.gguf"));
}

#[test]
fn answers_from_parts_on_disks_in_any_order() {
    let disks = Disks::new();
    let model = TinyModel::saying(&["Here", " I", " am", "."]).gguf();
    let part = |number: usize| {
        let bytes = model.split(3)[number].bytes();
        Drive::File(disks.holding(&format!("part {number}"), &bytes))
    };
    let two = VmSpec::new().disk(part(2)).disk(part(0));
    let mut vm = Vm::launch(&two.clone().one_turn("Are you there?"));
    let exit = vm.wait_exit(BOOT + LOAD);
    let error = exit.error();
    assert!(
        error.contains("of a model in 3 parts, part 2 is missing"),
        "{error}"
    );
    let vm = Vm::at_prompt(&two.disk(part(1)));
    let answer = vm.ask("Are you there?", LOAD + TURN);
    assert!(answer.contains("Here I am."), "{answer}");
}

#[test]
fn a_draft_model_on_a_second_disk_guesses_and_the_other_answers() {
    let disks = Disks::new();
    let big = TinyModel::saying(&["Here", " I", " am", "."]).gguf();
    let small = big.clone().text("general.name", "Small");
    let disk = |name: &str, model: &GgufFile| disks.holding(name, &model.bytes());
    let spec = VmSpec::new()
        .disk(Drive::File(disk("big", &big)))
        .disk(Drive::Draft(disk("small", &small)))
        .parameter("zosia.draft_model=zosia-draft")
        .parameter("zosia.spec=on");
    let vm = Vm::at_prompt(&spec);
    let answer = vm.ask("Are you there?", LOAD + TURN);
    assert!(answer.contains("Here I am."), "{answer}");
    let stats = vm.ask("/stats", SOON);
    assert!(stats.contains("draft model llama"), "{stats}");
    assert!(stats.contains("tokens of the draft model, "), "{stats}");
    assert!(stats.contains(TINY_NAME), "{stats}");
}

#[test]
fn answers_from_an_ext4_file_system() {
    let disks = Disks::new();
    answers_from(disks.ext4(&tiny(&disks)));
}

#[test]
fn turns_refer_to_one_another_and_ctrl_c_keeps_what_was_said() {
    let vm = Vm::at_prompt(&VmSpec::with_model(model()));
    let first = vm.ask(CAPITAL, LOAD + TURN);
    assert!(first.contains("Paris"), "{first}");
    let second = vm.ask("And of Italy?", TURN);
    assert!(second.contains("Rome"), "{second}");
    let third = vm.ask("Which was the first country I asked about?", TURN);
    assert!(third.contains("France"), "{third}");

    vm.type_line(ENDLESS);
    let _ = vm.expect("lighthouse", TURN);
    vm.ctrl_c();
    let end = vm.expect_prompt(SOON);
    assert!(end.contains("stopped"), "{end}");
    // The model sees every turn, and only what is new is evaluated.
    vm.type_line("/template");
    let seen = vm.expect(" tokens: [", SOON);
    let _ = vm.expect_prompt(SOON);
    for words in [CAPITAL, "Paris", "Rome", ENDLESS] {
        assert!(seen.contains(words), "{words:?} is missing: {seen}");
    }
    let (_, story) = seen.rsplit_once(ENDLESS).or_fail("find the story");
    assert!(story.contains("lighthouse"), "{story}");
    let _ = vm.ask("/set max_tokens 4", SOON);
    let new_tokens = vm.count_new_tokens("And in Italy?", TURN);
    assert!(new_tokens < 25, "{new_tokens} tokens were evaluated");
}
