//! What cannot work says why in one line, with a remedy, and leaves a prompt;
//! asked for one answer, it says the same in the result and powers off.

use vmtest::{BOOT, Disks, Drive, Fault, LOAD, MODEL_NAME, SOON, TinyModel, Vm, VmSpec, model};

/// Boots `spec` twice: to a prompt, where one line must hold all of `words`,
/// and for one turn, whose result must hold them.
fn refuses(row: u32, what: &str, spec: &VmSpec, words: &[&str]) {
    let fault = Fault::begins(row, what);
    let vm = Vm::at_prompt(spec);
    let _ = vm.expect("zosia: ", LOAD);
    let _ = vm.expect_prompt(SOON);
    fault.told(
        &vm.last_fault(),
        "the prompt; with -p, the same in the result",
    );
    let help = vm.ask("/help", SOON);
    assert!(help.contains("/exit"), "{help}");
    let shown = vm.words();
    assert_eq!(
        shown.matches("zosia: ").count(),
        1,
        "one line, not several: {shown}"
    );
    for word in words {
        assert!(shown.contains(word), "{word:?} is missing: {shown}");
    }
    drop(vm);

    let mut vm = Vm::launch(&spec.clone().one_turn("What is the capital of France?"));
    let exit = vm.wait_exit(BOOT + LOAD);
    assert_eq!(exit.reason, "guest-shutdown");
    assert_eq!(exit.answer, "");
    let error = exit.error();
    for word in words {
        assert!(error.contains(word), "{word:?} is missing: {error}");
    }
}

fn model_bytes() -> u64 {
    std::fs::metadata(model()).map_or(0, |metadata| metadata.len())
}

#[test]
fn refuses_a_machine_without_a_disk() {
    refuses(
        1,
        "no disk is attached",
        &VmSpec::new(),
        &["no disk", "attach a .gguf file"],
    );
}

#[test]
fn refuses_an_empty_disk() {
    let disks = Disks::new();
    refuses(
        8,
        "a disk of zeroes",
        &VmSpec::with_model(disks.empty(4 << 20)),
        &["vda", "empty"],
    );
}

#[test]
fn refuses_a_file_that_is_not_gguf() {
    let disks = Disks::new();
    let text = "This is a letter, and not a model. ".repeat(400);
    let disk = disks.holding("letter.txt", text.as_bytes());
    refuses(
        8,
        "a disk with a text",
        &VmSpec::with_model(disk),
        &["vda", "GGUF"],
    );
}

#[test]
fn refuses_a_gguf_cut_at_ten_percent() {
    let disks = Disks::new();
    let disk = disks.cut(model(), model_bytes() / 10);
    refuses(
        6,
        "the last nine tenths of a model are missing",
        &VmSpec::with_model(disk),
        &["the file is cut", "download or copy it again"],
    );
}

#[test]
fn refuses_a_gguf_cut_at_fifty_percent() {
    let disks = Disks::new();
    let disk = disks.cut(model(), model_bytes() / 2);
    refuses(
        6,
        "the second half of a model is missing",
        &VmSpec::with_model(disk),
        &["the file is cut", "download or copy it again"],
    );
}

#[test]
fn refuses_a_gguf_one_byte_short() {
    let disks = Disks::new();
    let disk = disks.cut(model(), model_bytes() - 1);
    refuses(
        6,
        "the last byte of a model is missing",
        &VmSpec::with_model(disk),
        &["the file is cut", "download or copy it again"],
    );
}

#[test]
fn refuses_a_gguf_one_byte_short_on_a_file_system() {
    let disks = Disks::new();
    let cut = disks.cut(model(), model_bytes() - 1);
    let vm = Vm::at_prompt(&VmSpec::with_model(disks.gpt_erofs(&cut, "SmolLM2.gguf")));
    let _ = vm.expect("the file is cut", LOAD);
    let _ = vm.expect_prompt(SOON);
}

#[test]
fn refuses_an_unknown_architecture() {
    let disks = Disks::new();
    let disk = disks.of_unknown_architecture(model());
    refuses(
        8,
        "a model of an architecture that nobody knows",
        &VmSpec::with_model(disk),
        &["architecture", "zosia"],
    );
}

#[test]
fn refuses_a_model_larger_than_the_memory() {
    let spec = VmSpec::with_model(model()).memory_mib(192);
    refuses(
        11,
        "a model larger than the memory",
        &spec,
        &["MiB", "--mem"],
    );
}

fn refuses_a_failing_disk(what: &str, disk: Drive, words: &[&str]) {
    refuses(3, what, &VmSpec::new().disk(disk), words);
}

#[test]
fn refuses_a_disk_that_fails_at_its_beginning() {
    let disks = Disks::new();
    let disk = Drive::Failing(disks.tiny(&TinyModel::saying(&["Yes"])), 0);
    refuses_a_failing_disk("the first sector is bad", disk, &["vda", "check the disk"]);
}

#[test]
fn refuses_a_disk_that_fails_in_the_middle_and_names_the_place() {
    // In the middle of the weights, so that the header is good.
    let disk = Drive::Failing(model().to_owned(), model_bytes() / 2 / 512);
    let words = ["cannot be read at byte", "check the disk"];
    refuses_a_failing_disk("a sector in the middle is bad", disk, &words);
}

#[test]
fn refuses_a_disk_that_fails_at_its_end() {
    let disks = Disks::new();
    let file = disks.tiny(&TinyModel::saying(&["Yes"]));
    let sectors = std::fs::metadata(&file).map_or(0, |metadata| metadata.len().div_ceil(512));
    let disk = Drive::Failing(file, sectors - 1);
    refuses_a_failing_disk("the last sector is bad", disk, &["check the disk"]);
}

#[test]
fn a_bad_parameter_warns_and_names_the_default() {
    let fault = Fault::begins(16, "a parameter of no use");
    let vm = Vm::at_prompt(&VmSpec::with_model(model()).parameter("zosia.threads=x"));
    fault.told(&vm.last_fault(), "the prompt, with the default");
    let _ = vm.expect(MODEL_NAME, LOAD);
    let shown = vm.words();
    for words in ["zosia.threads=x", "using the default, auto"] {
        assert!(shown.contains(words), "{words} is missing: {shown}");
    }
}
