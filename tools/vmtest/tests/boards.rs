//! The same EFI file on other machines than the one that `tools/run.sh` starts:
//! a disk that boots by itself.

use vmtest::{BOOT, COLS, Disks, Drive, LOAD, MODEL_NAME, ROWS, SOON, Vm, VmSpec, model};

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
