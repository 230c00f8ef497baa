//! Texts that are attached: a disk of them, what the bytes of a file say, and a message
//! that holds them. Whatever the bytes, each text lies within its disk, and a message is
//! the same when it has come apart and is put together again.

#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use texts::{Document, compose, decode, list, split};

fn assert_comes_apart(message: &str) {
    let (documents, line) = split(message);
    assert_eq!(compose(&documents, line), message);
}

fuzz_target!(|bytes: &[u8]| {
    let length = bytes.len() as u64;
    match list(&mut Cursor::new(bytes), length) {
        Ok(entries) => {
            let mut end = 0;
            for entry in &entries {
                assert!(entry.at > end, "over another");
                end = entry.at.checked_add(entry.bytes).expect("it is a place");
                assert!(end <= length, "beyond the disk");
            }
        }
        Err(error) => {
            let said = error.to_string();
            assert!(!said.contains(['\n', '\x1b']), "one line: {said:?}");
        }
    }
    assert_comes_apart(&String::from_utf8_lossy(bytes));
    match decode(bytes.to_vec()) {
        Ok(decoded) => {
            assert!(!decoded.text.contains('\0'));
            let text = decoded.text;
            let message = compose(
                &[Document {
                    name: "a".to_owned(),
                    text,
                }],
                "",
            );
            assert_eq!(split(&message).0.len(), 1, "no text ends its own fence");
            assert_comes_apart(&message);
        }
        Err(why) => assert!(!why.contains('\n')),
    }
});
