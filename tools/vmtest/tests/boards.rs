//! The same EFI file on every kind of processor and every set of devices, and as
//! a disk that boots by itself.

use std::process::{Command, Stdio};

use serde_json::Value;
use vmtest::{
    Architecture, BOOT, Board, COLS, Disks, Drive, LOAD, MODEL_NAME, OrFail, Processor, ROWS, SOON,
    SYSTEM_PROMPT, TINY_NAME, TURN, TinyModel, Vm, VmSpec, model, repository, static_executable,
};

const CAPITAL: &str = "What is the capital of France?";

/// What nobody wants to see before a prompt.
const NOISE: [&str; 4] = ["EFI stub", "Linux version", "Booting Linux", "[ 0."];

/// A disk of the test model and the EFI file; the emulated machine is slow with
/// more than one thread, and its terminal does not tell its size.
fn booting_disk(disks: &Disks) -> Drive {
    let size = [format!("zosia.cols={COLS}"), format!("zosia.rows={ROWS}")];
    let parameters = [&size[..], &["zosia.threads=1".to_owned()]].concat();
    Drive::File(disks.booting(model(), &parameters))
}

#[test]
fn a_disk_boots_by_itself_on_either_and_shows_nothing_of_the_kernel() {
    let disks = Disks::new();
    let disk = booting_disk(&disks);
    for board in [Board::Mmio, Board::Q35] {
        boots_from(&VmSpec::new().board(board).disk(disk.clone()));
    }
}

fn boots_from(machine: &VmSpec) {
    let mut vm = Vm::launch(&machine.clone().starts_from_disk());
    let shown = vm.expect(">>> ", BOOT);
    for noise in NOISE {
        assert!(!shown.contains(noise), "{noise:?} in {shown:?}");
    }
    let _ = vm.expect(MODEL_NAME, LOAD);
    let _ = vm.expect_prompt(SOON);
    vm.type_line("/exit");
    vm.expect_power_off(SOON);
}

/// A user's visit to a machine of this kind, and the same question for the same
/// program as a command on such a processor: the same answer, to the letter.
fn answers(processor: Processor, board: Board) {
    let spec = VmSpec::with_model(model());
    let mut vm = Vm::at_prompt(&spec.board(board).processor(processor));
    let _ = vm.expect(MODEL_NAME, LOAD);
    let level = format!("· {} ·", processor.level());
    let _ = vm.expect(&level, SOON);
    let _ = vm.expect_prompt(SOON);
    let answer = vm.ask(CAPITAL, TURN);
    assert!(answer.contains("Paris"), "{answer}");
    let saved: Value = serde_json::from_str(&vm.saved("answer.json")).or_fail("parse JSON");
    vm.ctrl_d();
    vm.expect_power_off(SOON);

    let plain = plain_command(processor)
        .args(["--temp", "0", "--threads", "1", "--system", SYSTEM_PROMPT])
        .args(["--prompt", CAPITAL])
        .arg(model())
        .stdin(Stdio::null())
        .output()
        .or_fail("start the plain command");
    let said = String::from_utf8_lossy(&plain.stderr);
    assert!(plain.status.success(), "{}: {said}", plain.status);
    let plain = String::from_utf8_lossy(&plain.stdout);
    assert_eq!(saved[2]["text"], plain.trim_end_matches('\n'));
}

/// The executable of the machine with such a processor, outside of a machine.
fn plain_command(processor: Processor) -> Command {
    match processor {
        Processor::CortexA72 | Processor::NeoverseN1 | Processor::Max => {
            let mut command = Command::new(repository().join("tools/vmtest/run-aarch64.sh"));
            command.arg(processor.name());
            command.arg(static_executable(Architecture::Aarch64));
            command
        }
        Processor::Nehalem | Processor::NehalemOf2008 | Processor::Haswell => {
            let mut command = Command::new(static_executable(Architecture::X86_64));
            command.args(["--cpu", processor.level()]);
            command
        }
    }
}

#[test]
fn answers_on_v80_with_virtio_over_mmio() {
    answers(Processor::CortexA72, Board::Mmio);
}

#[test]
fn answers_on_v82_with_virtio_on_pci_described_by_a_device_tree() {
    answers(Processor::NeoverseN1, Board::Pci);
}

#[test]
fn answers_on_v86_with_virtio_on_pci_described_by_acpi() {
    answers(Processor::Max, Board::PciAcpi);
}

#[test]
fn answers_on_x64_on_a_pc() {
    answers(Processor::Nehalem, Board::Q35);
}

/// A machine whose model costs nothing, at the prompt.
fn with_tiny_model(disks: &Disks, change: impl FnOnce(VmSpec) -> VmSpec) -> Vm {
    let model = disks.tiny(&TinyModel::saying(&["Here", " I", " am", "."]));
    let vm = Vm::at_prompt(&change(VmSpec::with_model(model)));
    let _ = vm.expect(TINY_NAME, LOAD);
    vm
}

/// What is behind devices and firmware is the same: a short visit shows that they work.
fn answers_and_ends(mut vm: Vm) {
    let _ = vm.expect_prompt(SOON);
    let answer = vm.ask("Are you there?", TURN);
    assert!(answer.contains("Here I am."), "{answer}");
    let saved = vm.saved("answer.json");
    assert!(saved.contains("Here I am."), "{saved}");
    vm.ctrl_d();
    vm.expect_power_off(SOON);
}

#[test]
fn a_pc_with_avx2_uses_it() {
    let disks = Disks::new();
    let haswell = |spec: VmSpec| spec.board(Board::Q35).processor(Processor::Haswell);
    let vm = with_tiny_model(&disks, haswell);
    let _ = vm.expect("· avx2 ·", SOON);
    answers_and_ends(vm);
}

#[test]
fn a_pc_needs_no_uefi_firmware() {
    let disks = Disks::new();
    answers_and_ends(with_tiny_model(&disks, |spec| {
        spec.board(Board::Q35).without_firmware()
    }));
}

#[test]
fn a_pc_without_acpi_and_pci_answers_and_ends() {
    let disks = Disks::new();
    answers_and_ends(with_tiny_model(&disks, |spec| spec.board(Board::Microvm)));
}
