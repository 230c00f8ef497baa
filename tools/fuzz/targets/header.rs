//! The check of a model's header: whatever the file holds, it is refused in one line or
//! described within the file's bounds.

#![no_main]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

/// A file in memory that has no name any more.
static FILE: LazyLock<File> = LazyLock::new(|| {
    let path = format!("/dev/shm/zosia-fuzz-{}", std::process::id());
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).open(&path);
    let file = file.expect("a file in memory");
    std::fs::remove_file(&path).expect("to take its name away");
    file
});

fuzz_target!(|bytes: &[u8]| {
    let length = bytes.len() as u64;
    FILE.set_len(length).expect("to set its length");
    FILE.write_all_at(bytes, 0).expect("to write it");
    match gguf::check(&FILE, length) {
        Ok(header) => assert!(header.data_end <= length),
        Err(refused) => assert!(!refused.to_string().contains('\n'), "{refused}"),
    }
});
