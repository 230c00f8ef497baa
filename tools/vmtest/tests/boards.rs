//! The same EFI file on other machines than the one that `tools/run.sh` starts:
//! a disk that boots by itself, and Apple's set of devices.

use vmtest::{
    BOOT, Board, COLS, Disks, Drive, LOAD, MODEL_NAME, ROWS, SOON, TURN, Vm, VmSpec, model,
};

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

fn answers_at_a_virtio_console(board: Board) {
    let spec = VmSpec::with_model(model()).board(board);
    let mut vm = Vm::at_prompt(&spec);
    let answer = vm.ask("What is the capital of France?", LOAD + TURN);
    assert!(answer.contains("Paris"), "{answer}");
    vm.ctrl_d();
    vm.expect_power_off(SOON);
}

#[test]
fn answers_at_a_virtio_console_on_pci_described_by_a_device_tree() {
    answers_at_a_virtio_console(Board::Pci);
}

#[test]
fn answers_at_a_virtio_console_on_pci_described_by_acpi() {
    answers_at_a_virtio_console(Board::PciAcpi);
}
