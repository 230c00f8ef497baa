//! Small files made here, damaged in every way, and a real one if
//! `ZOSIA_TEST_MODEL` names it.

mod damage;
mod greedy;
mod parts;
mod refusals;
mod writer;

use std::fs::File;
use std::io;

use super::*;
use writer::{Writer, check_bytes, small, small_without_template, text};

#[test]
fn tells_what_is_there_in_the_place_of_a_chat_template() {
    let told = |writer: Writer| {
        check_bytes(&writer.file())
            .unwrap()
            .chat_template
            .text()
            .map(str::to_owned)
    };
    let other = small_without_template;
    let key = "tokenizer.chat_template";
    let number = Err("the model's own is a number, not text".to_owned());
    assert_eq!(told(other()), Err("the model has none".to_owned()));
    assert_eq!(told(other().u32(key, 5)), number);
    assert_eq!(told(other().key(key, 5, &(-5_i32).to_le_bytes())), number);
    assert_eq!(told(other().key(key, 12, &1e4_f64.to_le_bytes())), number);
    assert_eq!(
        told(other().key(key, 7, &[1])),
        Err("the model's own is true or false, not text".to_owned())
    );
    let array = Err("the model's own is an array, not text".to_owned());
    assert_eq!(
        told(other().array(key, 8, 1, &text("{{ messages }}"))),
        array
    );
    assert_eq!(told(other().array(key, 4, 0, &[])), array);
    for empty in ["", " \n"] {
        assert_eq!(
            told(other().text(key, empty)),
            Err("the model's own is empty".to_owned())
        );
    }
}

#[test]
fn tells_what_the_header_says() {
    let file = small().file();
    let header = check_bytes(&file).unwrap();
    assert_eq!(header.arch, "toy");
    assert_eq!(header.name.as_deref(), Some("A \u{fffd}[31mtoy"));
    assert_eq!(header.context_length, Some(4096));
    assert_eq!(header.head_count, [4, 4]);
    assert_eq!(header.head_count_kv, [2, 0]);
    assert_eq!(header.vocab_tokens, 3);
    assert_eq!(header.chat_template.text(), Ok("{{ messages }}"));
    assert_eq!(header.weights, 768 + 128 + 7);
    assert_eq!(header.data_bytes().0, file.len() as u64);
    assert_eq!(header.ends[0].alignment, 32);
    let tensors: Vec<(u32, u64)> = header.tensors.iter().map(|t| (t.kind, t.bytes)).collect();
    assert_eq!(tensors, [(12, 432), (8, 136), (0, 28)]);
    let version_2 = Writer {
        version: 2,
        ..small()
    };
    assert_eq!(check_bytes(&version_2.file()).unwrap(), header);
}

#[test]
fn kv_bytes_follow_the_heads_of_each_layer() {
    let header = check_bytes(&small().file()).unwrap();
    // One layer of two has a cache: 2 heads of 64 / 4 values, keys and values.
    assert_eq!(header.kv_bytes_per_token(KvType::F16).0, 2 * (2 * 16) * 2);
    assert_eq!(header.kv_bytes_per_token(KvType::Q8_0).0, 2 * 34);
    // Phi-3.5: 32 layers of 32 heads of 96 values: 384 KiB a token.
    let phi = Header {
        block_count: Some(32),
        embedding_length: Some(3072),
        head_count: vec![32],
        head_count_kv: vec![32],
        ..header.clone()
    };
    assert_eq!(phi.kv_bytes_per_token(KvType::F16).0, 384 << 10);
    // Heads wider than the stream divided by their number; layers that share.
    let wide = Header {
        head_count_kv: vec![1],
        key_length: Some(256),
        value_length: Some(128),
        shared_kv_layers: 12,
        ..phi.clone()
    };
    assert_eq!(wide.kv_bytes_per_token(KvType::F16).0, 20 * (256 + 128) * 2);
    // Of four layers one attends.
    let some = Header {
        full_attention_interval: Some(4),
        ..phi.clone()
    };
    assert_eq!(some.kv_bytes_per_token(KvType::F16).0, 96 << 10);
    // Without head_count_kv every head has its own.
    let own = Header {
        head_count_kv: vec![],
        ..phi
    };
    assert_eq!(own.kv_bytes_per_token(KvType::F16).0, 384 << 10);
    let hostile = Header {
        block_count: Some(2048),
        head_count_kv: vec![u64::MAX],
        key_length: Some(u64::MAX),
        ..header
    };
    assert_eq!(hostile.kv_bytes_per_token(KvType::F16).0, u64::MAX);
    assert_eq!(hostile.kv_bytes_per_token(KvType::Q8_0).0, u64::MAX);
}

#[test]
fn kv_bytes_are_those_that_llama_cpp_takes_for_the_architecture() {
    let kv = |arch: &str, numbers: &[(&str, u32)], flags: &[&str]| {
        let shape = [
            ("embedding_length", 64),
            ("attention.head_count", 4),
            ("attention.head_count_kv", 1),
            ("attention.key_length", 32),
            ("attention.value_length", 16),
        ];
        let mut writer = Writer::empty().text("general.architecture", arch);
        for (key, value) in shape.iter().chain(numbers) {
            writer = writer.u32(&format!("{arch}.{key}"), *value);
        }
        for key in flags {
            writer = writer.array(&format!("{arch}.{key}"), 7, 8, &[0; 8]);
        }
        let file = writer.tensor("t", &[1], 0, 4).file();
        let header = check_bytes(&file).unwrap();
        header.kv_bytes_per_token(KvType::F16).0
    };
    let layer = (32 + 16) * 2;
    let (layers, shared) = (("block_count", 8), ("attention.shared_kv_layers", 3));
    assert_eq!(kv("gemma4", &[layers, shared], &[]), 5 * layer);
    assert_eq!(kv("llama", &[layers, shared], &[]), 8 * layer);
    assert_eq!(kv("gemma3n", &[layers, shared], &[]), 8 * layer);
    assert_eq!(kv("gemma3n", &[("block_count", 30)], &[]), 20 * layer);
    let interval = ("full_attention_interval", 4);
    let recurrent = "attention.recurrent_layers";
    assert_eq!(kv("qwen3next", &[layers, interval], &[]), 2 * layer);
    assert_eq!(kv("llama", &[layers, interval], &[]), 8 * layer);
    assert_eq!(kv("qwen35", &[layers, interval], &[recurrent]), 8 * layer);
    let mla = |of_values| {
        let of_keys = ("attention.key_length_mla", 24);
        [layers, of_keys, ("attention.value_length_mla", of_values)]
    };
    assert_eq!(kv("deepseek2", &mla(8), &[]), 8 * 32 * 2);
    assert_eq!(kv("deepseek2", &mla(0), &[]), 8 * layer);
    assert_eq!(kv("llama", &mla(8), &[]), 8 * layer);
}

#[test]
fn recurrent_states_are_as_large_as_llama_cpp_makes_them() {
    let state = |numbers: &[(&str, u32)]| {
        let number = |writer: writer::Writer, (key, value): &(&str, u32)| {
            writer.u32(&format!("toy.{key}"), *value)
        };
        let file = numbers.iter().fold(small(), number).file();
        check_bytes(&file).unwrap().state_bytes().0
    };
    // The stream is 64 values wide, of two layers.
    assert_eq!(state(&[]), 0);
    let mamba = [
        ("ssm.conv_kernel", 4),
        ("ssm.inner_size", 128),
        ("ssm.state_size", 16),
        ("ssm.group_count", 2),
    ];
    assert_eq!(state(&mamba), 2 * 4 * (3 * (128 + 2 * 2 * 16) + 128 * 16));
    assert_eq!(state(&[("shortconv.l_cache", 3)]), 2 * 4 * 2 * 64);
    assert_eq!(state(&[("wkv.head_size", 32)]), 2 * 4 * 64 * 34);
    let most = u32::MAX;
    let hostile = [("ssm.inner_size", most), ("ssm.state_size", most)];
    assert_eq!(state(&hostile), u64::MAX);
}

#[test]
fn an_alignment_that_is_no_default_is_obeyed() {
    let mut writer = small();
    writer.tensors.clear();
    (writer.tensor_count, writer.data_bytes, writer.alignment) = (0, 0, 128);
    let writer = writer
        .u32("general.alignment", 128)
        .tensor("a", &[1], 0, 4)
        .tensor("b", &[1], 0, 4);
    let header = check_bytes(&writer.file()).unwrap();
    assert_eq!(header.ends[0].alignment, 128);
    assert_eq!(header.data_bytes().0 % 128, 4);
}

#[test]
fn a_failing_disk_is_told_with_its_offset() {
    struct Failing(Vec<u8>);
    impl ReadAt for Failing {
        fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
            if offset >= 256 << 10 {
                return Err(io::Error::from_raw_os_error(5));
            }
            self.0.read_exact_at(buf, offset)
        }
    }
    let file = small().text("x", &"x".repeat(300 << 10)).file();
    let error = check(&Failing(file.clone()), file.len() as u64).unwrap_err();
    match error {
        GgufError::Read { at, source } => {
            assert!(at >= 256 << 10 && source.raw_os_error() == Some(5));
        }
        other => panic!("{other}"),
    }
}

#[test]
#[ignore = "needs a model: tools/test.sh unit"]
fn a_real_model_is_accepted_and_refused_when_cut() {
    let path = std::env::var_os("ZOSIA_TEST_MODEL").expect("ZOSIA_TEST_MODEL names a model");
    let file = File::open(path).unwrap();
    let bytes = file.metadata().unwrap().len();
    let header = check(&file, bytes).unwrap();
    assert!(header.data_bytes().0 <= bytes && bytes - header.data_bytes().0 < 4096);
    assert!(header.vocab_tokens > 1000 && header.kv_bytes_per_token(KvType::F16).0 > 0);
    for there in [bytes / 10, bytes / 2, header.data_bytes().0 - 1] {
        let cut = check(&file, there).unwrap_err().to_string();
        let expected = format!(
            "the file is cut: {there} of {} bytes",
            header.data_bytes().0
        );
        assert!(cut.starts_with(&expected), "{cut}");
    }
}
