//! What is shipped is what the architecture promises: one static executable,
//! one regular file in the initramfs, no unsafe code in PID 1.

use std::fs;

use serde_json::Value;
use vmtest::{OrFail, command, efi_file, entries_in, repository, static_executable};

fn objdump(arguments: &[&str]) -> String {
    let file = static_executable();
    let file = file.to_string_lossy();
    command("aarch64-linux-gnu-objdump", &[arguments, &[&file]].concat())
}

#[test]
fn the_executable_asks_for_no_interpreter_and_no_library() {
    let file = static_executable();
    let headers = command("readelf", &["-hlW", &file.to_string_lossy()]);
    assert!(headers.contains("AArch64"), "{headers}");
    assert!(!headers.contains("INTERP"), "{headers}");
    let dynamic = command("readelf", &["-dW", &file.to_string_lossy()]);
    assert!(!dynamic.contains("NEEDED"), "{dynamic}");
}

#[test]
fn the_executable_has_kernels_with_dot_products() {
    let code = objdump(&["-d", "--no-show-raw-insn"]);
    for instruction in ["sdot", "smmla"] {
        let pattern = format!("\t{instruction}\t");
        assert!(
            code.contains(&pattern),
            "no {instruction} in the executable"
        );
    }
}

#[test]
fn the_initramfs_holds_the_executable_and_no_other_file() {
    let image = fs::read(efi_file()).or_fail("read the EFI file");
    let entries = entries_in(&image);
    let files: Vec<&str> = entries
        .iter()
        .filter(|entry| entry.is_file())
        .map(|entry| entry.path.as_str())
        .collect();
    assert_eq!(files, ["init"]);
    let init = entries
        .iter()
        .find(|entry| entry.is_file())
        .or_fail("find init");
    let built = fs::read(static_executable()).or_fail("read the executable");
    assert!(
        init.contents == built,
        "the initramfs holds another build than out/init"
    );
}

#[test]
fn the_bill_of_materials_is_that_of_these_artefacts() {
    let listed = command("readelf", &["-SW", &static_executable().to_string_lossy()]);
    assert!(listed.contains(" .dep-v0 "), "{listed}");
    let bill = fs::read_to_string(repository().join("out/zosia.cdx.json"));
    let bill: Value = serde_json::from_str(&bill.or_fail("read the bill of materials"))
        .or_fail("read the bill of materials as JSON");
    let parts = bill["components"].as_array().or_fail("find the components");
    let part = |name: &str| {
        let part = parts.iter().find(|part| part["name"] == name);
        part.or_fail(format_args!("find {name}"))
    };
    for (described, file) in [
        (&bill["metadata"]["component"], efi_file()),
        (part("init"), static_executable()),
    ] {
        let sum = command("sha256sum", &[&file.to_string_lossy()]);
        let sum = sum.split(' ').next().or_fail("read a checksum");
        assert_eq!(described["hashes"][0]["content"], sum, "{}", file.display());
    }
    assert_eq!(part("llama-cpp-sys-2")["scope"], "required");
    assert_eq!(part("bindgen")["scope"], "excluded");
    for name in ["linux", "glibc", "libstdc++", "ggml (in llama.cpp)"] {
        let version = part(name)["version"].as_str().unwrap_or_default();
        assert!(version.contains('.'), "{name}: {version:?}");
    }
}
