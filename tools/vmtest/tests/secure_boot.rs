//! Secure Boot with a key of one's own, as docs/security.md describes it: what the key
//! has signed boots, and nothing else.

use std::fs;
use std::path::Path;

use vmtest::{
    Architecture, BOOT, COLS, Disks, Drive, LOAD, OrFail, ROWS, SOON, TINY_NAME, TURN, TinyModel,
    Vm, VmSpec, command, efi_file,
};

/// What the firmware says of an EFI file that it does not start.
const DENIED: &str = "Access Denied";

fn signed(disks: &Disks) -> Vec<u8> {
    let [key, signed] = ["key", "signed.efi"].map(|name| disks.path(name));
    let [key, signed] = [key.to_string_lossy(), signed.to_string_lossy()];
    let [encrypted, certificate] = Architecture::under_test().snakeoil();
    let open = [
        "rsa",
        "-in",
        encrypted,
        "-passin",
        "pass:snakeoil",
        "-out",
        &key,
    ];
    let _ = command("openssl", &open);
    let efi = efi_file(Architecture::under_test());
    let efi = efi.to_string_lossy();
    let sign = [
        "--key",
        &key,
        "--cert",
        certificate,
        "--output",
        &signed,
        &efi,
    ];
    let _ = command("sbsign", &sign);
    fs::read(&*signed).or_fail("read what was signed")
}

fn machine_with(disks: &Disks, efi: &Path) -> VmSpec {
    let model = disks.tiny(&TinyModel::saying(&["Here", " I", " am", "."]));
    let size = [format!("zosia.cols={COLS}"), format!("zosia.rows={ROWS}")];
    let disk = disks.booting_with(&[efi.to_owned()], &model, &size);
    let spec = VmSpec::new().disk(Drive::File(disk));
    spec.starts_signed_from_disk()
}

#[test]
fn what_the_key_has_signed_boots() {
    let disks = Disks::new();
    let efi = disks.holding("signed.efi", &signed(&disks));
    let mut vm = Vm::at_prompt(&machine_with(&disks, &efi));
    let _ = vm.expect(TINY_NAME, LOAD);
    let _ = vm.expect_prompt(SOON);
    let answer = vm.ask("Are you there?", TURN);
    assert!(answer.contains("Here I am."), "{answer}");
    vm.ctrl_d();
    vm.expect_power_off(SOON);
}

#[test]
fn what_was_altered_or_never_signed_does_not_boot() {
    let disks = Disks::new();
    let mut altered = signed(&disks);
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    let altered = disks.holding("altered.efi", &altered);
    for efi in [altered, efi_file(Architecture::under_test())] {
        let vm = Vm::launch(&machine_with(&disks, &efi));
        let shown = vm.expect_any(&[DENIED, ">>> "], BOOT);
        assert!(shown.ends_with(DENIED), "{}: {shown}", efi.display());
    }
}
