//! Files damaged in every way: refused or accepted, and never a panic.

use super::super::*;
use super::writer::{Writer, check_bytes, small, text};
use proptest::prelude::*;

/// Whatever is accepted lies inside the file.
fn assert_inside(header: &Header, bytes: usize) {
    assert!(header.data_bytes().0 <= bytes as u64);
    let weights: u64 = header.tensors.iter().map(|tensor| tensor.bytes).sum();
    assert!(weights <= header.data_bytes().0);
    let _ = header.kv_bytes_per_token(KvType::F16);
    let _ = header.kv_bytes_per_token(KvType::Q8_0);
}

#[test]
fn no_flipped_bit_makes_it_panic() {
    let mut file = small().file();
    let mut refusals = 0;
    for at in 0..small().header().len() {
        for bit in 0..8 {
            file[at] ^= 1 << bit;
            match check_bytes(&file) {
                Ok(header) => assert_inside(&header, file.len()),
                Err(_) => refusals += 1,
            }
            file[at] ^= 1 << bit;
        }
    }
    assert!(refusals > 1000, "{refusals}");
}

#[test]
fn no_extreme_number_makes_it_panic() {
    let original = small().file();
    let extremes = [
        0,
        1,
        0x7f,
        0xff,
        0xffff,
        1 << 31,
        u64::from(u32::MAX),
        1 << 62,
        i64::MAX as u64,
        1 << 63,
        u64::MAX - 31,
        u64::MAX,
    ];
    for at in 0..small().header().len() {
        for width in [4, 8] {
            for extreme in extremes {
                let mut file = original.clone();
                let value = extreme.to_le_bytes();
                let end = (at + width).min(file.len());
                file[at..end].copy_from_slice(&value[..end - at]);
                if let Ok(header) = check_bytes(&file) {
                    assert_inside(&header, file.len());
                }
            }
        }
    }
}

#[test]
fn no_random_damage_makes_it_panic() {
    let original = small().file();
    let header_bytes = small().header().len() as u64;
    // xorshift64, the same numbers every time.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for _ in 0..20_000 {
        let mut file = original.clone();
        for _ in 0..=random(4) {
            let at = usize::try_from(random(header_bytes)).unwrap();
            file[at] = u8::try_from(random(256)).unwrap();
        }
        if random(8) == 0 {
            file.truncate(usize::try_from(random(header_bytes)).unwrap());
        }
        if let Ok(header) = check_bytes(&file) {
            assert_inside(&header, file.len());
        }
    }
}

/// Keys whose numbers a header gives, after the architecture's name.
const NUMBERS: [&str; 22] = [
    "context_length",
    "block_count",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.shared_kv_layers",
    "attention.sliding_window",
    "rope.dimension_count",
    "vocab_size",
    "nextn_predict_layers",
    "full_attention_interval",
    "ssm.state_size",
    "wkv.head_size",
    "shortconv.l_cache",
    "expert_count",
    "expert_used_count",
    "expert_group_count",
    "expert_group_used_count",
    "unknown",
];

/// Where numbers break.
fn extreme() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(512),
        Just(1 << 31),
        Just(1 << 63),
        Just(u64::MAX),
        any::<u64>(),
    ]
}

proptest! {
    #[test]
    fn no_numbers_of_a_shape_make_it_panic(
        alignment in extreme(),
        values in prop::collection::vec(prop::option::of((extreme(), any::<bool>())), NUMBERS.len()),
    ) {
        let mut writer = Writer::empty().text("general.architecture", "a");
        if alignment != 1 {
            writer = writer.key("general.alignment", 10, &alignment.to_le_bytes());
        }
        for (key, value) in NUMBERS.iter().zip(values) {
            let key = format!("a.{key}");
            writer = match value {
                None => writer,
                Some((value, false)) => writer.key(&key, 10, &value.to_le_bytes()),
                Some((value, true)) => {
                    writer.array(&key, 10, 2, &[value.to_le_bytes(), [1, 0, 0, 0, 0, 0, 0, 0]].concat())
                }
            };
        }
        let file = writer
            .array("tokenizer.ggml.tokens", 8, 1, &text("a"))
            .tensor("t", &[1], 0, 4)
            .file();
        match check_bytes(&file) {
            Ok(header) => assert_inside(&header, file.len()),
            Err(error) => assert!(!error.to_string().contains('\n')),
        }
    }
}
