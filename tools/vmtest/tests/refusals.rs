//! What cannot work says why in one line, with a remedy, and leaves a prompt;
//! asked for one answer, it says the same in the result and powers off.

use vmtest::{BOOT, Disks, Drive, LOAD, MODEL_NAME, SOON, Vm, VmSpec, model};

/// Boots `spec` twice: to a prompt, where one line must hold all of `words`,
/// and for one turn, whose result must hold them.
fn refuses(spec: &VmSpec, words: &[&str]) {
    let vm = Vm::at_prompt(spec);
    let _ = vm.expect("zosia: ", LOAD);
    let _ = vm.expect_prompt(SOON);
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
    let [result] = &exit.results[..] else {
        panic!("one result: {:?}", exit.results);
    };
    assert_eq!(result["answered"], false, "{result}");
    let error = result["error"].as_str().unwrap_or_default();
    for word in words {
        assert!(error.contains(word), "{word:?} is missing: {error}");
    }
}

fn model_bytes() -> u64 {
    std::fs::metadata(model()).map_or(0, |metadata| metadata.len())
}

#[test]
fn refuses_a_machine_without_a_disk() {
    refuses(&VmSpec::new(), &["no disk", "attach a .gguf file"]);
}

#[test]
fn refuses_an_empty_disk() {
    let disks = Disks::new();
    refuses(&VmSpec::with_model(disks.empty(4 << 20)), &["vda", "empty"]);
}

#[test]
fn refuses_a_file_that_is_not_gguf() {
    let disks = Disks::new();
    let text = "This is a letter, and not a model. ".repeat(400);
    let disk = disks.holding("letter.txt", text.as_bytes());
    refuses(&VmSpec::with_model(disk), &["vda", "GGUF"]);
}

#[test]
fn refuses_a_gguf_cut_at_ten_percent() {
    let disks = Disks::new();
    let disk = disks.cut(model(), model_bytes() / 10);
    refuses(
        &VmSpec::with_model(disk),
        &["the file is cut", "download or copy it again"],
    );
}

#[test]
fn refuses_a_gguf_cut_at_fifty_percent() {
    let disks = Disks::new();
    let disk = disks.cut(model(), model_bytes() / 2);
    refuses(
        &VmSpec::with_model(disk),
        &["the file is cut", "download or copy it again"],
    );
}

#[test]
fn refuses_a_gguf_one_byte_short() {
    let disks = Disks::new();
    let disk = disks.cut(model(), model_bytes() - 1);
    refuses(
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
    refuses(&VmSpec::with_model(disk), &["architecture", "zosia"]);
}

#[test]
fn refuses_a_model_larger_than_the_memory() {
    let spec = VmSpec::with_model(model()).memory_mib(192);
    refuses(&spec, &["MiB", "--mem"]);
}

#[test]
fn refuses_a_disk_that_fails_and_names_the_place() {
    // In the middle of the weights, so that the header is good.
    let sector = model_bytes() / 2 / 512;
    let spec = VmSpec::new().disk(Drive::Failing(model().to_owned(), sector));
    refuses(&spec, &["cannot be read at byte", "check the disk"]);
}

#[test]
fn a_bad_parameter_warns_and_names_the_default() {
    let vm = Vm::at_prompt(&VmSpec::with_model(model()).parameter("zosia.threads=x"));
    let _ = vm.expect(MODEL_NAME, LOAD);
    let shown = vm.words();
    for words in ["zosia.threads=x", "using the default, auto"] {
        assert!(shown.contains(words), "{words} is missing: {shown}");
    }
}
