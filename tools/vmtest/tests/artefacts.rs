//! What is shipped is what the architecture promises: one static executable,
//! one regular file in the initramfs, no unsafe code in PID 1.

use std::fs;
use std::path::Path;

use serde_json::Value;
use vmtest::{
    Architecture, OrFail, command, efi_file, entries_in, packed_kernel, static_executable,
};

#[test]
fn the_executable_asks_for_no_interpreter_and_no_library() {
    for (architecture, machine) in [
        (Architecture::Aarch64, "AArch64"),
        (Architecture::X86_64, "X86-64"),
    ] {
        let file = static_executable(architecture);
        let headers = command("readelf", &["-hlW", &file.to_string_lossy()]);
        assert!(headers.contains(machine), "{headers}");
        assert!(!headers.contains("INTERP"), "{headers}");
        let dynamic = command("readelf", &["-dW", &file.to_string_lossy()]);
        assert!(!dynamic.contains("NEEDED"), "{dynamic}");
    }
}

#[test]
fn the_executable_names_no_directory_that_it_was_built_in() {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    let checkout = checkout.or_fail("find the checkout").display().to_string();
    for architecture in Architecture::ALL {
        let file = static_executable(architecture);
        let built = fs::read(&file).or_fail("read the executable");
        for place in [&checkout, "/.cargo/registry"] {
            let finds = built.windows(place.len()).any(|at| at == place.as_bytes());
            assert!(!finds, "{place} in {}", file.display());
        }
    }
}

#[test]
fn the_executable_has_kernels_with_dot_products() {
    for (architecture, instructions) in [
        (Architecture::Aarch64, &["sdot", "smmla"][..]),
        (Architecture::X86_64, &["vpmaddubsw", "vpdpbusd"]),
    ] {
        let file = static_executable(architecture);
        let objdump = format!("{}-linux-gnu-objdump", architecture.name());
        let code = command(
            &objdump,
            &["-d", "--no-show-raw-insn", &file.to_string_lossy()],
        );
        for instruction in instructions {
            let found = code.contains(&format!("\t{instruction} "))
                || code.contains(&format!("\t{instruction}\t"));
            assert!(found, "no {instruction} in {}", file.display());
        }
    }
}

#[test]
fn the_initramfs_holds_the_executable_and_no_other_file() {
    for architecture in Architecture::ALL {
        let mut image = fs::read(efi_file(architecture)).or_fail("read the EFI file");
        if architecture == Architecture::X86_64 {
            image = packed_kernel(&image);
        }
        let entries = entries_in(&image);
        let files: Vec<_> = entries.iter().filter(|entry| entry.is_file()).collect();
        let [init] = files[..] else {
            panic!("one file: {:?}", files.iter().map(|f| &f.path));
        };
        assert_eq!(init.path, "init");
        let built = fs::read(static_executable(architecture)).or_fail("read the executable");
        assert!(
            init.contents == built,
            "the initramfs holds another build than out/ does"
        );
    }
}

#[test]
fn the_bill_of_materials_is_that_of_these_artefacts() {
    for architecture in Architecture::ALL {
        check_bill(architecture);
    }
}

fn check_bill(architecture: Architecture) {
    let executable = static_executable(architecture);
    let listed = command("readelf", &["-SW", &executable.to_string_lossy()]);
    assert!(listed.contains(" .dep-v0 "), "{listed}");
    let bill = fs::read_to_string(architecture.artefact("zosia", ".cdx.json"));
    let bill: Value = serde_json::from_str(&bill.or_fail("read the bill of materials"))
        .or_fail("read the bill of materials as JSON");
    let parts = bill["components"].as_array().or_fail("find the components");
    let part = |name: &str| {
        let part = parts.iter().find(|part| part["name"] == name);
        part.or_fail(format_args!("find {name}"))
    };
    for (described, file) in [
        (&bill["metadata"]["component"], efi_file(architecture)),
        (part("init"), executable),
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
