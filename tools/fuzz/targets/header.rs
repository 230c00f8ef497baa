//! The check of a model's header: whatever the bytes, it ends with a header that lies
//! within them or with one line.

#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::KvType;

fuzz_target!(|bytes: &[u8]| {
    let length = bytes.len() as u64;
    match gguf::check(bytes, length) {
        Err(error) => {
            let said = error.to_string();
            assert!(!said.contains(['\n', '\x1b']), "one line: {said:?}");
            assert!(said.ends_with(']'), "a code: {said:?}");
        }
        Ok(header) => {
            let data_end = header.data_bytes().0;
            assert!(data_end <= length, "weights beyond the file");
            let weights: u64 = header.tensors.iter().map(|tensor| tensor.bytes).sum();
            assert!(weights <= data_end, "weights over each other");
            let mut ends = header.ends.iter();
            assert!(ends.all(|end| end.alignment.is_power_of_two()));
            let wide = header.kv_bytes_per_token(KvType::F16);
            let narrow = header.kv_bytes_per_token(KvType::Q8_0);
            assert!((wide.0 == 0) == (narrow.0 == 0), "{wide} and {narrow}");
            // One byte less than it says it has is refused as cut.
            let cut = data_end - 1;
            let kept = &bytes[..usize::try_from(cut).expect("it is within the bytes")];
            let cut = gguf::check(kept, cut).expect_err("it is cut").to_string();
            assert!(cut.contains("[ZE-11]"), "{cut}");
        }
    }
});
