//! Rows of the fault matrix that no other test has: faults of disks, of the host, of
//! PID 1, and of the engine's process.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use vmtest::{
    ANSWER, Architecture, BOOT, Board, Disks, Drive, Fault, LOAD, OrFail, PlainCommand, SOON,
    TINY_NAME, TURN, TinyModel, Vm, VmSpec, command, empty_file, native_executable, repository,
    run_plain,
};

fn tiny() -> TinyModel {
    TinyModel::saying(&["Here", " I", " am", "."])
}

#[test]
fn a_disk_that_is_pulled_out_is_told_and_used_again_when_it_is_back() {
    let disks = Disks::new();
    let file = disks.tiny(&tiny());
    let mut vm = Vm::at_prompt(&VmSpec::new().with_slot());
    let _ = vm.expect("[ZE-20]", LOAD);
    let _ = vm.expect_prompt(SOON);
    vm.plug_in(&file);
    while !vm.ask("/model", SOON).contains("vda") {}
    vm.type_line("/model vda");
    let _ = vm.expect(TINY_NAME, LOAD);
    let answer = vm.ask("Hello?", TURN);
    assert!(answer.contains("Here I am."), "{answer}");

    let fault = Fault::begins(4, "the disk is pulled out while the model is in memory");
    vm.pull_out();
    while !vm.ask("/model", SOON).contains("[ZE-20]") {}
    let answer = vm.ask("And now?", TURN);
    assert!(answer.contains("Here I am."), "{answer}");
    fault.is_harmless("the model goes on answering from memory");

    let fault = Fault::begins(
        4,
        "the model is to be loaded from a disk that was pulled out",
    );
    vm.type_line("/set ctx 512");
    let _ = vm.expect("[ZE-23]", LOAD);
    let _ = vm.expect_prompt(SOON);
    fault.told(&vm.last_fault(), "the prompt; the conversation is kept");

    vm.plug_in(&file);
    while !vm.ask("/model", SOON).contains("vda") {}
    vm.type_line("/model vda");
    let _ = vm.expect(TINY_NAME, LOAD);
    vm.type_line("/template");
    let kept = vm.expect(" tokens: [", SOON);
    assert!(kept.contains("And now?"), "{kept}");
    let _ = vm.expect_prompt(SOON);
    vm.ctrl_d();
    vm.expect_power_off(SOON);
}

#[test]
fn a_disk_that_does_not_answer_keeps_nobody_from_the_prompt() {
    let disks = Disks::new();
    let file = disks.tiny(&tiny());
    let spec = VmSpec::new().disk(Drive::File(file.clone())).with_slot();
    let mut vm = Vm::at_prompt(&spec);
    let _ = vm.expect(TINY_NAME, LOAD);

    let fault = Fault::begins(5, "a disk that is plugged in does not answer");
    vm.plug_in_stalled(&file);
    loop {
        vm.type_line("/model");
        // Until it is there, the others are listed.
        let seen = vm.expect_any(&["looking at the disks", "MiB vda"], SOON);
        if seen.contains("looking") {
            break;
        }
        let _ = vm.expect_prompt(SOON);
    }
    let _ = vm.expect("[ZE-23]", SOON);
    fault.told(&vm.last_fault(), "Ctrl-C gives the command up; the prompt");
    vm.ctrl_c();
    let _ = vm.expect("the disks were not looked at", SOON);
    let _ = vm.expect_prompt(SOON);
    let answer = vm.ask("Hello?", TURN);
    assert!(answer.contains("Here I am."), "{answer}");

    vm.set_stalled(false);
    while !vm.ask("/model", SOON).contains("MiB vdb") {}

    let fault = Fault::begins(5, "a disk stops answering, and its model is asked for");
    vm.set_stalled(true);
    vm.type_line("/model vdb");
    let _ = vm.expect("looking at vdb", SOON);
    vm.ctrl_c();
    let _ = vm.expect("the model in use stays", SOON);
    let _ = vm.expect_prompt(SOON);
    let answer = vm.ask("And now?", TURN);
    assert!(answer.contains("Here I am."), "{answer}");
    fault.is_harmless("Ctrl-C gives the command up; the model in use goes on");
}

#[test]
fn an_engine_that_dies_again_and_again_is_not_started_for_ever() {
    let disks = Disks::new();
    let file = disks.tiny(&tiny().without_end());
    // An answer that comes to the context's end before it is seen here has not died.
    let arguments = [OsStr::new("--ctx"), OsStr::new("131072"), file.as_os_str()];
    let mut command = PlainCommand::launch(&native_executable(), arguments);
    let _ = command.expect(TINY_NAME, LOAD);
    let _ = command.expect_prompt(SOON);
    let dies_of = |signal, name: &str| {
        command.type_line("Go.");
        let _ = command.expect("Here I am.Here", ANSWER);
        let fault = Fault::begins(9, format!("the engine dies of {name} while it answers"));
        command.kill_engine(signal);
        fault
    };
    let told = |command: &PlainCommand, fault: Fault| {
        let _ = command.expect("[ZE-40]", SOON);
        // Dimmed, so that nobody takes it for the model's words.
        let shown = String::from_utf8_lossy(&command.bytes()).into_owned();
        assert!(shown.contains("\x1b[2mthe engine was killed"), "{shown:?}");
        fault.told(
            &command.last_fault(),
            "another engine; the conversation is kept",
        );
        let _ = command.expect(TINY_NAME, LOAD);
        // However long it is by now.
        let undone = command.ask("/undo", SOON);
        assert!(undone.contains("taken back: Go."), "{undone}");
    };
    let fault = dies_of(Signal::ILL, "SIGILL");
    told(&command, fault);
    let fault = dies_of(Signal::BUS, "SIGBUS");
    told(&command, fault);
    let _ = dies_of(Signal::FPE, "SIGFPE");
    let fault = Fault::begins(20, "the engine dies three times in a row");
    let _ = command.expect("[ZE-42]", SOON);
    fault.told(
        &command.last_fault(),
        "the prompt; /model loads the model again",
    );
    let _ = command.expect_prompt(SOON);

    let left = command.children();
    assert!(left.is_empty(), "{left:?}");
    Fault::begins(18, "engines that died").is_harmless("each is waited for: no zombies");
    command.type_line("/model tiny");
    let _ = command.expect(TINY_NAME, LOAD);
    command.ctrl_d();
    assert!(command.wait_exit(SOON).success());
}

/// The status of one turn with `file`, and the lines on standard error.
fn one_turn(file: &Path, flags: &[&str]) -> (Option<i32>, String) {
    let flags = [&["-p", "Hello?", "--max-tokens", "2"], flags].concat();
    let arguments = flags.iter().map(OsStr::new).chain([file.as_os_str()]);
    let done = run_plain(arguments, ANSWER);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    (done.status.code(), said)
}

#[test]
fn flipped_bits_are_told_or_harmless() {
    let disks = Disks::new();
    let good = tiny().file();
    let fault = Fault::begins(
        7,
        "a bit of the weights is flipped, and the SHA-256 is known",
    );
    let mut bytes = good.clone();
    let last = bytes.last_mut().or_fail("find the last byte");
    *last ^= 0x40;
    let disk = disks.holding("flipped.gguf", &bytes);
    let known = "0".repeat(64);
    let (status, said) = one_turn(&disk, &["--sha256", &known]);
    assert_eq!(status, Some(1), "{said}");
    fault.told(said.trim_end().trim_start_matches("zosia: "), "status 1");
    let (status, said) = one_turn(&disk, &[]);
    assert_eq!(status, Some(0), "{said}");

    // The names of tensors are near the header's end.
    let fault = Fault::begins(7, "bits of header, vocabulary and tensor table are flipped");
    let name = good.windows(7).rposition(|bytes| bytes == b".weight");
    let header = name.or_fail("find the last tensor") + 48;
    for at in (0..header).step_by(header / 400) {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        let disk = disks.holding("flipped.gguf", &bytes);
        let (status, said) = one_turn(&disk, &[]);
        assert!(
            matches!(status, Some(0 | 1)),
            "byte {at}: {status:?}: {said}"
        );
        assert!(said.lines().count() <= 1, "byte {at}: {said}");
        assert!(
            status == Some(0) || said.trim_end().ends_with(']'),
            "byte {at}: {said}"
        );
    }
    fault.is_harmless("one line with a code and status 1, or an answer");
}

#[test]
fn an_order_that_cannot_be_read_ends_in_a_result() {
    for (what, order) in [
        ("is not an order", &b"what is this?\nHello?"[..]),
        ("is longer than may be", b"18446744073709551615\nHello?"),
        ("is UTF-16", b"4\n\xff\xfe\xfd\xfc"),
        ("stops in the middle", b"10\nHello?"),
    ] {
        let fault = Fault::begins(12, format!("what the host sends for -p {what}"));
        let mut vm = Vm::launch(&VmSpec::new().order(order));
        let exit = vm.wait_exit(BOOT + LOAD);
        assert_eq!(exit.reason, "guest-shutdown");
        fault.told(exit.error(), "a result with the error; power-off");
    }
}

#[test]
fn a_machine_that_cannot_be_set_up_says_why_and_powers_off() {
    let disks = Disks::new();
    for place in ["proc", "sys"] {
        let fault = Fault::begins(12, format!("the host puts a file in the place of /{place}"));
        let archive = disks.holding(place, &empty_file(place));
        let mut vm = Vm::launch(&VmSpec::new().without_firmware().initrd(archive));
        let told = vm.expect("[ZE-50]", BOOT);
        vm.expect_power_off(SOON);
        let (_, line) = told.split_once("zosia: ").or_fail("find PID 1's line");
        fault.told(line.trim_end(), "power-off");
    }
}

#[test]
fn a_machine_without_its_console_takes_the_one_that_there_is() {
    let fault = Fault::begins(12, "the console that is asked for does not exist");
    let mut vm = Vm::at_prompt(&VmSpec::new().parameter("console=ttyS9"));
    fault.is_harmless("the prompt, on the console that there is");
    vm.ctrl_d();
    vm.expect_power_off(SOON);
}

#[test]
fn a_kernel_that_panics_ends_run_sh_with_the_consoles_tail() {
    let disks = Disks::new();
    let file = disks.tiny(&tiny());
    let arguments = [
        Architecture::under_test().flag(),
        file.as_os_str(),
        "--append".as_ref(),
        "rdinit=/none".as_ref(),
    ];
    let fault = Fault::begins(13, "the guest's kernel panics");
    let done = Command::new(repository().join("tools/run.sh"))
        .args(arguments)
        .args(["-p", "Hello?"])
        .stdin(Stdio::null())
        .output()
        .or_fail("run tools/run.sh");
    assert_eq!(done.status.code(), Some(5));
    let shown = String::from_utf8_lossy(&done.stderr);
    assert!(shown.contains("Kernel panic"), "{shown}");
    let line = shown.lines().last().unwrap_or_default();
    let line = line.trim_start_matches("run.sh: ");
    fault.told(line, "status 5, below the end of the console");
}

#[test]
fn a_writable_disk_is_never_written() {
    let disks = Disks::new();
    let raw = disks.tiny(&tiny());
    let ext4 = disks.ext4(&raw);
    // A journal that waits for its replay tempts the kernel to write.
    let _ = command(
        "debugfs",
        &[
            "-w",
            "-R",
            "feature +needs_recovery",
            &ext4.to_string_lossy(),
        ],
    );
    let before = [&raw, &ext4].map(|disk| fs::read(disk).or_fail("read a disk"));
    let fault = Fault::begins(17, "disks are attached writable, one with a dirty journal");
    let spec = VmSpec::new()
        .disk(Drive::Writable(raw.clone()))
        .disk(Drive::Writable(ext4.clone()))
        .parameter("zosia.model=vdb");
    let mut vm = Vm::at_prompt(&spec);
    let answer = vm.ask("Hello?", LOAD + TURN);
    assert!(answer.contains("Here I am."), "{answer}");
    vm.ctrl_d();
    vm.expect_power_off(SOON);
    let after = [&raw, &ext4].map(|disk| fs::read(disk).or_fail("read a disk"));
    assert!(before == after, "a disk was written");
    fault.is_harmless("they stay as they are, byte for byte");
}

#[test]
fn a_machine_that_is_stopped_in_an_answer_goes_on() {
    let disks = Disks::new();
    let mut vm = Vm::at_prompt(&VmSpec::with_model(disks.tiny(&tiny().without_end())));
    vm.type_line("Go.");
    let _ = vm.expect("Here I am.", LOAD + TURN);
    let fault = Fault::begins(19, "the machine is stopped in the middle of an answer");
    vm.stop_and_continue();
    let _ = vm.expect("Here I am.", TURN);
    fault.is_harmless("the answer goes on");
    vm.ctrl_c();
    let _ = vm.expect_prompt(SOON);
    vm.ctrl_d();
    vm.expect_power_off(SOON);
}

/// Presses the power button of a machine in the middle of an answer.
fn is_switched_off(board: Board, what: &str) {
    let disks = Disks::new();
    let endless = disks.tiny(&tiny().without_end());
    let mut vm = Vm::at_prompt(&VmSpec::with_model(endless).board(board));
    vm.type_line("Go.");
    let _ = vm.expect("Here I am.", LOAD + TURN);
    let fault = Fault::begins(14, format!("system_powerdown, {what}"));
    vm.press_power_button();
    vm.expect_power_off(SOON);
    fault.is_harmless("the prompt is left as by Ctrl-D; power-off");
}

#[test]
fn the_power_button_that_a_device_tree_describes_ends_the_machine() {
    is_switched_off(Board::Mmio, "a button of the device tree");
}

#[test]
fn the_power_button_that_acpi_describes_ends_the_machine() {
    is_switched_off(Board::PciAcpi, "a button of ACPI");
}

#[test]
fn the_power_button_of_a_pc_ends_the_machine() {
    is_switched_off(Board::Q35, "a button of a PC");
}

#[test]
fn the_power_button_ends_an_answer_without_a_prompt() {
    let disks = Disks::new();
    let endless = disks.tiny(&tiny().without_end());
    let mut vm = Vm::launch(&VmSpec::with_model(endless).one_turn("Go."));
    vm.expect_answer(BOOT + LOAD + TURN);
    let fault = Fault::begins(14, "system_powerdown with -p");
    vm.press_power_button();
    let exit = vm.wait_exit(SOON);
    assert_eq!(exit.reason, "guest-shutdown");
    assert!(exit.results.is_empty(), "{:?}", exit.results);
    fault.is_harmless("power-off; there is no result");
}

/// Bytes that look random, the same in each run.
fn noise(bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(1);
    // Without what leaves, sends or clears the line.
    std::iter::repeat_with(|| random.u8(..))
        .filter(|byte| !b"\x03\x04\r".contains(byte))
        .take(bytes)
        .collect()
}

#[test]
fn noise_on_the_terminal_leaves_a_prompt() {
    let disks = Disks::new();
    let file = disks.tiny(&tiny());
    let mut command = PlainCommand::launch(&native_executable(), [&file]);
    let _ = command.expect(TINY_NAME, LOAD);
    let _ = command.expect_prompt(SOON);
    let fault = Fault::begins(15, "1 MB of random bytes is typed");
    command.type_bytes(&noise(1_000_000));
    // Ctrl-G ends a search that was begun, Ctrl-C a line.
    command.type_keys("\x07\x03");
    command.type_line("/help");
    let _ = command.expect("/regen", ANSWER);
    let _ = command.expect_prompt(SOON);
    fault.is_harmless("the prompt");
    command.ctrl_d();
    assert!(command.wait_exit(SOON).success());
}

#[test]
fn a_command_line_longer_than_the_kernels_is_told() {
    let disks = Disks::new();
    let file = disks.tiny(&tiny());
    let long = format!("zosia.system={}", "x".repeat(4096));
    let arguments = [
        Architecture::under_test().flag(),
        file.as_os_str(),
        "--append".as_ref(),
        OsStr::new(&long),
    ];
    let fault = Fault::begins(16, "a kernel command line of more than 4 kB");
    let mut command = PlainCommand::launch(&repository().join("tools/run.sh"), arguments);
    let status = command.wait_exit(BOOT + LOAD);
    fault.told(&command.last_fault(), "status 2");
    assert_eq!(status.code(), Some(2));

    // Whoever starts the machine in another way is told by it. (Where there is
    // firmware, by the kernel's EFI stub: it takes whole words away.)
    let fault = Fault::begins(16, "the same, without run.sh");
    let spec = VmSpec::with_model(&file).parameter(&long);
    let mut vm = Vm::launch(&spec.without_firmware());
    let _ = vm.expect("[ZE-53]", BOOT);
    fault.told(&vm.last_fault(), "the prompt");
    let _ = vm.expect_prompt(LOAD);
    vm.ctrl_d();
    vm.expect_power_off(SOON);
}
