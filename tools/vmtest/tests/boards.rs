//! The same EFI file on every kind of processor and every set of devices, and as
//! a disk that boots by itself.

use std::process::{Command, Stdio};

use serde_json::Value;
use vmtest::{
    BOOT, Board, COLS, Disks, Drive, LOAD, MODEL_NAME, OrFail, Processor, ROWS, SOON,
    SYSTEM_PROMPT, TURN, Vm, VmSpec, model, repository, static_executable,
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
fn a_disk_that_boots_by_itself_shows_nothing_of_the_kernel() {
    let disks = Disks::new();
    let disk = booting_disk(&disks);
    let mut vm = Vm::launch(&VmSpec::new().disk(disk).starts_from_disk());
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
    let mut vm = Vm::at_prompt(&spec.processor(processor).board(board));
    let _ = vm.expect(MODEL_NAME, LOAD);
    let level = format!("· {} ·", processor.level());
    let _ = vm.expect(&level, SOON);
    let _ = vm.expect_prompt(SOON);
    let answer = vm.ask(CAPITAL, TURN);
    assert!(answer.contains("Paris"), "{answer}");
    let saved: Value = serde_json::from_str(&vm.saved("answer.json")).or_fail("parse JSON");
    vm.ctrl_d();
    vm.expect_power_off(SOON);

    let plain = Command::new(repository().join("tools/vmtest/run-aarch64.sh"))
        .arg(processor.name())
        .arg(static_executable())
        .args(["--temp", "0", "--threads", "1", "--system", SYSTEM_PROMPT])
        .args(["--prompt", CAPITAL])
        .arg(model())
        .stdin(Stdio::null())
        .output()
        .or_fail("start run-aarch64.sh");
    let said = String::from_utf8_lossy(&plain.stderr);
    assert!(plain.status.success(), "{}: {said}", plain.status);
    let plain = String::from_utf8_lossy(&plain.stdout);
    assert_eq!(saved[2]["text"], plain.trim_end_matches('\n'));
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
