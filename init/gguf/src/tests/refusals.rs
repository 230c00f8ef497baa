//! Each refusal, and what it says.

use super::super::*;
use super::writer::{Writer, check_bytes, refused, small, text};

#[test]
fn a_cut_file_is_told_with_both_lengths() {
    let file = small().file();
    let whole = file.len();
    for there in [whole - 1, whole / 2 + 400, whole - 600] {
        let error = check_bytes(&file[..there]).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "the file is cut: {there} of {whole} bytes are there; download or copy it again [ZE-11]"
            )
        );
    }
    // A device is longer by the rest of its last sector.
    let mut device = file.clone();
    device.resize(whole.next_multiple_of(512), 0);
    assert_eq!(check_bytes(&device).unwrap().data_bytes().0, whole as u64);
}

#[test]
fn every_header_that_is_cut_is_refused_as_cut() {
    let file = small().file();
    let header_bytes = small().header().len();
    for there in 4..header_bytes {
        match check_bytes(&file[..there]) {
            Err(GgufError::CutHeader { at, there: end, .. }) => {
                assert!(at <= there as u64 && end == there as u64);
            }
            other => panic!("cut at {there}: {other:?}"),
        }
    }
    for there in header_bytes..file.len() {
        let cut = check_bytes(&file[..there]);
        assert!(
            matches!(cut, Err(GgufError::Cut { .. })),
            "{there}: {cut:?}"
        );
    }
    assert!(check_bytes(&[]).is_err());
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table, one entry a refusal")]
fn each_refusal_names_what_is_wrong() {
    let long_name = "n".repeat(64);
    let table: &[(Writer, &str)] = &[
        (
            Writer {
                version: 1,
                ..small()
            },
            "has version 1; zosia reads versions 2 and 3",
        ),
        (
            Writer {
                version: 4,
                ..small()
            },
            "needs a newer zosia",
        ),
        (
            Writer {
                version: 3_u32.swap_bytes(),
                ..small()
            },
            "big-endian",
        ),
        (
            Writer {
                tensor_count: u64::MAX,
                ..small()
            },
            "the number of tensors is 18446744073709551615",
        ),
        (
            Writer {
                key_count: 5000,
                ..small()
            },
            "the number of metadata keys is 5000",
        ),
        (
            Writer {
                tensor_count: 0,
                ..small()
            },
            "a header without weights",
        ),
        (small().text("general.type", "adapter"), "an adapter (LoRA)"),
        (
            small().u32("toy.block_count", 2),
            "\"toy.block_count\" is wrong: it is there twice",
        ),
        (small().key("x", 13, &[]), "13 is not a type of value"),
        (small().key("", 0, &[1]), "a key is empty"),
        (small().array("x", 9, 1, &[0; 16]), "arrays of arrays"),
        (
            small().array("x", 0, 1 << 40, &[]),
            "an array's length is 1099511627776",
        ),
        (
            small().array("x", 0, 1 << 20, &[]),
            "the file is cut inside its header",
        ),
        (
            small().key("x", 8, &(1_u64 << 60).to_le_bytes()),
            "a metadata value has 1152921504606846976 bytes",
        ),
        (
            small().u32("general.alignment", 48),
            "48 is not a power of two",
        ),
        (
            small().u32("general.alignment", 0),
            "0 is not a power of two",
        ),
        (
            small().text("general.alignment", "32"),
            "it is not an unsigned number",
        ),
        (
            small().u32("tokenizer.ggml.merges", 1),
            "\"tokenizer.ggml.merges\" is wrong: it is not an array of texts",
        ),
        (
            small().tensor(&long_name, &[1], 0, 4),
            "a tensor's name has 64 bytes",
        ),
        (small().tensor("", &[1], 0, 4), "a tensor's name is empty"),
        (
            small().tensor("a\x1bb", &[1], 0, 4),
            "a tensor's name is empty or not text",
        ),
        (
            small().tensor("output_norm.weight", &[1], 0, 4),
            "\"output_norm.weight\" is wrong: it is there twice",
        ),
        (small().tensor("t", &[1; 5], 0, 4), "it has 5 dimensions"),
        (
            small().tensor("t", &[4, 0], 0, 0),
            "its dimension 1 is zero",
        ),
        (
            small().tensor("t", &[1 << 32, 1 << 31], 0, 0),
            "too many weights",
        ),
        (
            small().tensor("t", &[u64::MAX, 2, 2], 0, 0),
            "too many weights",
        ),
        (small().tensor("t", &[1 << 62], 28, 0), "too many weights"),
        (
            small().tensor("t", &[32], 4, 18),
            "\"t\" is of type 4, a quantization that llama.cpp does not read",
        ),
        (
            small().tensor("t", &[32], 31, 18),
            "\"t\" is of type 31, a quantization that llama.cpp does not read",
        ),
        (
            small().tensor("t", &[32], 139, 18),
            "use another one of the model, such as Q4_K_M",
        ),
        (
            small().tensor("t", &[32], 400, 18),
            "its type 400 is unknown",
        ),
        (
            small().tensor("t", &[32, 8], 12, 144),
            "rows of 32 weights are not whole q4_K blocks (256)",
        ),
        (
            small().tensor("t", &[32, 2], 26, 256),
            "nothing is multiplied with weights of its type",
        ),
        (
            small().tensor("t", &[32, 2], 9, 72),
            "nothing is multiplied with weights of its type",
        ),
        (
            small().tensor("t", &[32], 8, 34),
            "its values must be of type f32",
        ),
        (
            small().tensor("blk.0.attn_q_norm.weight", &[32, 2], 1, 128),
            "its values must be of type f32",
        ),
        (
            small().tensor_at("t", &[1], 0, 1 << 20),
            "it is said to begin at 1048576, and the one before ends at 640",
        ),
        (
            small().tensor_at("t", &[1], 0, 7),
            "it begins at 7, which is not a multiple of 32",
        ),
        (
            small().tensor_at("t", &[1], 0, 0),
            "it is said to begin at 0",
        ),
        (
            Writer::empty().tensor("t", &[1], 0, 4),
            "\"general.architecture\" is wrong: it is missing",
        ),
        (
            Writer::empty()
                .text("general.architecture", "a b")
                .tensor("t", &[1], 0, 4),
            "is not a name",
        ),
        (
            Writer::empty()
                .text("general.architecture", "clip")
                .tensor("t", &[1], 0, 4),
            "projector",
        ),
        (
            Writer::empty()
                .text("general.architecture", "a")
                .array("tokenizer.ggml.tokens", 8, 1, &text("a"))
                .array("tokenizer.ggml.scores", 6, 2, &[0; 8])
                .tensor("t", &[1], 0, 4),
            "it has 2 items for 1 tokens",
        ),
        (
            Writer::empty()
                .text("general.architecture", "a")
                .array("tokenizer.ggml.scores", 0, 0, &[])
                .tensor("t", &[1], 0, 4),
            "not 32-bit floats",
        ),
    ];
    for (writer, expected) in table {
        let error = refused(writer);
        assert!(error.contains(expected), "{expected:?} not in {error:?}");
        assert!(error.contains("; ") && !error.contains('\n'), "{error:?}");
    }
    let error = check_bytes(b"<!DOCTYPE html>").unwrap_err().to_string();
    assert!(error.contains("begins with \"<!DO\", not with \"GGUF\""));
}

/// A model of architecture `a` with these numbers.
fn numbers(values: &[(&str, u64)]) -> Writer {
    numbers_of("a", values)
}

/// A model of this architecture with these numbers.
fn numbers_of(arch: &str, values: &[(&str, u64)]) -> Writer {
    let writer = Writer::empty().text("general.architecture", arch);
    let with = |writer: Writer, (key, value): &(&str, u64)| {
        let key = format!("{arch}.{key}");
        match u32::try_from(*value) {
            Ok(value) => writer.u32(&key, value),
            Err(_) => writer.key(&key, 10, &value.to_le_bytes()),
        }
    };
    values.iter().fold(writer, with).tensor("t", &[1], 0, 4)
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table, one entry a refusal")]
fn numbers_that_llama_cpp_aborts_on_are_refused_with_their_key() {
    let table: &[(&[(&str, u64)], &str)] = &[
        (
            &[("block_count", 0)],
            "\"a.block_count\" is wrong: 0 is not from 1 to 512",
        ),
        (&[("block_count", 513)], "513 is not from 1 to 512"),
        (
            &[("attention.key_length", 1 << 63)],
            "9223372036854775808 is not from 1 to 16777216",
        ),
        (
            &[("attention.head_count_kv", u64::MAX)],
            "\"a.attention.head_count_kv\" is wrong",
        ),
        (
            &[("embedding_length", 1 << 63)],
            "\"a.embedding_length\" is wrong",
        ),
        (
            &[("feed_forward_length", 1 << 63)],
            "\"a.feed_forward_length\" is wrong",
        ),
        (
            &[("context_length", 1 << 31)],
            "2147483648 is not from 0 to 2147483647",
        ),
        (
            &[("attention.key_length", 31)],
            "\"a.attention.key_length\" is wrong: 31 is an odd number",
        ),
        (
            &[("embedding_length", 64), ("attention.head_count", 64)],
            "it leaves each head 1 values, an odd number",
        ),
        (
            &[("block_count", 2), ("nextn_predict_layers", 3)],
            "it is more than there are layers",
        ),
        (
            &[("expert_used_count", 1)],
            "it is more than there are experts",
        ),
        (&[("expert_count", 8)], "no expert is used"),
        (
            &[
                ("expert_count", 8),
                ("expert_used_count", 2),
                ("expert_group_count", 3),
            ],
            "it does not divide the experts",
        ),
        (
            &[
                ("expert_count", 8),
                ("expert_used_count", 2),
                ("expert_group_count", 8),
            ],
            "it is as many as there are experts",
        ),
        (
            &[
                ("expert_count", 8),
                ("expert_used_count", 2),
                ("expert_group_count", 4),
            ],
            "it is none of the groups, or all of them",
        ),
    ];
    for (values, expected) in table {
        let error = refused(&numbers(values));
        assert!(error.contains(expected), "{expected:?} not in {error:?}");
    }
    let experts = [
        ("block_count", 2),
        ("nextn_predict_layers", 1),
        ("expert_count", 8),
        ("expert_used_count", 2),
        ("expert_group_count", 4),
        ("expert_group_used_count", 2),
    ];
    check_bytes(&numbers(&experts).file()).unwrap();
    // Of these two llama.cpp takes one expert for none.
    for arch in ["hunyuan-dense", "hunyuan_vl"] {
        check_bytes(&numbers_of(arch, &[("expert_count", 1)]).file()).unwrap();
        let error = refused(&numbers_of(arch, &[("expert_count", 2)]));
        assert!(error.contains("no expert is used"), "{error}");
    }
    let error = refused(&numbers(&[("expert_count", 1)]));
    assert!(error.contains("no expert is used"), "{error}");
    let shared = [("block_count", 8), ("attention.shared_kv_layers", 7)];
    check_bytes(&numbers(&shared).file()).unwrap();
    let error = refused(&numbers_of("gemma4", &shared));
    assert!(error.contains("fewer than two layers"), "{error}");
    for (epsilon, good) in [
        (-1.0_f32, false),
        (f32::NAN, false),
        (0.0, true),
        (1e-5, true),
    ] {
        let key = "a.attention.layer_norm_rms_epsilon";
        let writer = numbers(&[]).key(key, 6, &epsilon.to_le_bytes());
        assert_eq!(check_bytes(&writer.file()).is_ok(), good, "{epsilon}");
    }
    let error = refused(&numbers(&[]).text("a.rope.scaling.type", "spiral"));
    assert!(
        error.contains("it is not one of none, linear, yarn"),
        "{error}"
    );
    for alignment in [1, 8, 16, 1 << 30] {
        let error = refused(&numbers(&[]).u32("general.alignment", alignment));
        assert!(
            error.contains("is not a power of two from 32 to"),
            "{error}"
        );
    }
}

/// A model of architecture `a` with these tokens.
fn tokens(model: &str, texts: &[&str]) -> Writer {
    let items: Vec<u8> = texts.iter().flat_map(|token| text(token)).collect();
    numbers(&[]).text("tokenizer.ggml.model", model).array(
        "tokenizer.ggml.tokens",
        8,
        texts.len() as u64,
        &items,
    )
}

#[test]
fn vocabularies_that_llama_cpp_aborts_on_are_refused() {
    for texts in [["a", "a"], ["a", "a\0b"], ["", "[EMPTY_0]"]] {
        let error = refused(&tokens("gpt2", &texts));
        assert!(error.contains("two tokens have the same text"), "{error}");
    }
    check_bytes(&tokens("gpt2", &["a", "b", "", ""]).file()).unwrap();
    let error = refused(&tokens("none", &["a"]));
    assert!(error.contains("it names no tokenizer"), "{error}");
    let bytes: Vec<String> = (0..=255_u8).map(|byte| format!("<0x{byte:02X}>")).collect();
    let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
    check_bytes(&tokens("llama", &bytes).file()).unwrap();
    let error = refused(&tokens("llama", &bytes[..255]));
    assert!(
        error.contains("tokens for single bytes are missing"),
        "{error}"
    );
    let escaped: Vec<String> = (0..=255_u8)
        .map(|byte| match byte {
            b'\n' => "\\n".to_owned(),
            b'\\' => "\\\\".to_owned(),
            b' '..=b'~' => char::from(byte).to_string(),
            other => format!("\\x{other:02x}"),
        })
        .collect();
    let mut escaped: Vec<&str> = escaped.iter().map(String::as_str).collect();
    check_bytes(&tokens("rwkv", &escaped).file()).unwrap();
    escaped[65] = "AB";
    let error = refused(&tokens("rwkv", &escaped));
    assert!(error.contains("for single bytes are missing"), "{error}");
    for (model, word, expected) in [
        ("gpt2", "<0x-1>", "is of a single byte, and its text is not"),
        ("gpt2", "<0xZZ>", "is of a single byte, and its text is not"),
        ("gpt2", "x", "is of a single byte, and its text is not"),
        ("bert", "<0x0a>", "is of a single byte, which bert has not"),
    ] {
        let types = [1_i32, 6].map(i32::to_le_bytes).concat();
        let writer = tokens(model, &["a", word]);
        let error = refused(&writer.array("tokenizer.ggml.token_type", 5, 2, &types));
        assert!(error.contains(expected), "{word}: {error}");
    }
    let many = numbers(&[]).array("tokenizer.ggml.tokens", 8, 1 << 23, &[]);
    let error = refused(&many);
    assert!(error.contains("a vocabulary of 8388608 tokens"), "{error}");
}
