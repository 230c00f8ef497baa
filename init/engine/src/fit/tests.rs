//! What memory allows, for a model of 1000 MiB.

use super::*;
use gguf::Tensor;
use proptest::prelude::*;

const MIB: u64 = 1 << 20;

fn tensor(kind: sys::ggml_type, bytes: u64) -> Tensor {
    Tensor { kind, bytes }
}

/// Room for `available` bytes of everything, all of which may be private.
fn room(available: Option<u64>) -> Room {
    Room {
        available,
        private: u64::MAX,
    }
}

fn end(data_end: u64) -> gguf::End {
    gguf::End {
        data_end,
        alignment: 32,
    }
}

/// A model of 1000 MiB with 64 KiB of f16 KV cache a token.
pub(crate) fn header() -> Header {
    Header {
        arch: "llama".into(),
        name: None,
        context_length: Some(8192),
        block_count: Some(16),
        embedding_length: Some(1024),
        feed_forward_length: vec![4096],
        head_count: vec![8],
        head_count_kv: vec![],
        key_length: None,
        value_length: None,
        keys_alone: false,
        shared_kv_layers: 0,
        full_attention_interval: None,
        state_values: 0,
        vocab_tokens: 32_000,
        chat_template: gguf::ChatTemplate::Missing,
        ends: vec![end(1000 * MIB)],
        weights: 1,
        tensors: vec![tensor(sys::GGML_TYPE_Q4_0, 100 * MIB)],
    }
}

fn wishes() -> Wishes {
    Wishes {
        ctx_tokens: None,
        sequences: Some(1),
        kv: KvType::F16,
        repack: Switch::Auto,
        repacked: &[sys::GGML_TYPE_Q4_0],
        batch_tokens: 128,
        threads: 1,
    }
}

#[test]
fn the_default_context_is_4096_or_what_the_model_was_trained_for() {
    let got = plan(&header(), &wishes(), room(None)).unwrap();
    assert_eq!(got.ctx_tokens, 4096);
    assert_eq!(got.weights, Weights::Repacked);
    assert!(got.notices.is_empty());
    let short = Header {
        context_length: Some(2048),
        ..header()
    };
    assert_eq!(
        plan(&short, &wishes(), room(None)).unwrap().ctx_tokens,
        2048
    );
    let long = Wishes {
        ctx_tokens: Some(10_000),
        ..wishes()
    };
    let got = plan(&header(), &long, room(None)).unwrap();
    assert_eq!(got.ctx_tokens, 10_000);
    assert!(got.notices[0].contains("8192"), "{:?}", got.notices);
}

#[test]
fn as_many_sequences_as_fit_beside_the_first() {
    // One takes 256 MiB.
    let planned = |sequences, available| {
        let wishes = Wishes {
            sequences,
            ..wishes()
        };
        plan(&header(), &wishes, room(available)).unwrap()
    };
    assert_eq!(planned(None, None).sequences, 8);
    let one = planned(Some(1), Some(2000 * MIB));
    assert_eq!((one.sequences, one.notices.len()), (1, 0));
    // Half of what is left, if nobody asked for more.
    let some = planned(None, Some(2500 * MIB));
    assert!((2..4).contains(&some.sequences), "{some:?}");
    assert!(some.notices.is_empty());
    let asked = planned(Some(8), Some(2500 * MIB));
    assert!((4..6).contains(&asked.sequences), "{asked:?}");
    assert!(asked.notices[0].contains("instead of 8"), "{asked:?}");
    assert_eq!(planned(Some(8), Some(1400 * MIB)).sequences, 1);
}

#[test]
fn states_to_go_back_to_have_what_is_left_and_a_few_come_before_a_longer_context() {
    // A state of 16 MiB.
    let recurrent = Header {
        state_values: 1 << 18,
        ..header()
    };
    let planned = |available| {
        let got = plan(&recurrent, &wishes(), room(available)).unwrap();
        (got.ctx_tokens, got.checkpoint_bytes / MIB)
    };
    assert_eq!(planned(None), (4096, 256), "ample");
    let (ctx_tokens, mib) = planned(Some(1250 * MIB));
    assert!((512..2048).contains(&ctx_tokens), "{ctx_tokens}");
    assert!((64..80).contains(&mib), "{mib}");
    // The shortest context comes first.
    let least = plan(&header(), &wishes(), room(Some(1130 * MIB))).unwrap();
    assert!((512..1024).contains(&least.ctx_tokens), "{least:?}");
    assert_eq!(least.checkpoint_bytes, 0);
    let (ctx_tokens, mib) = planned(Some(1150 * MIB));
    assert_eq!((ctx_tokens, mib < 16), (512, true), "{mib}");
}

#[test]
fn states_to_take_tokens_back_by_have_half_of_what_is_left() {
    let recurrent = Header {
        state_values: 1 << 18,
        ..header()
    };
    let planned = |header: &Header, available| {
        let got = plan(header, &wishes(), room(available)).unwrap();
        (got.ctx_tokens, got.rollback_tokens)
    };
    // A state of 16 MiB.
    assert_eq!(planned(&recurrent, None), (4096, 7));
    assert_eq!(planned(&recurrent, Some(1600 * MIB)), (4096, 3));
    let (ctx_tokens, tokens) = planned(&recurrent, Some(1250 * MIB));
    assert_eq!((ctx_tokens < 4096, tokens), (true, 0));
    assert_eq!(planned(&header(), None), (4096, 0));
}

#[test]
fn a_second_model_has_what_is_left_beside_the_first() {
    let small = Header {
        ends: vec![end(100 * MIB)],
        ..header()
    };
    let beside = |room: Room| {
        let first = plan(&header(), &wishes(), room).unwrap();
        let left = left(&header(), &wishes(), &first, room);
        plan_beside(&small, first.ctx_tokens, KvType::F16, 64, left)
    };
    let second = beside(room(Some(4000 * MIB))).unwrap();
    assert_eq!((second.ctx_tokens, second.weights), (4096, Weights::Mapped));
    let told = beside(room(Some(1700 * MIB))).unwrap_err().to_string();
    assert!(told.contains("beside the model"), "{told}");
    // The file's pages are not private.
    let private = Room {
        available: Some(4000 * MIB),
        private: 1100 * MIB,
    };
    let first = plan(&header(), &wishes(), private).unwrap();
    assert_eq!(first.weights, Weights::Mapped);
    assert!(beside(private).is_ok());
    let tight = Room {
        private: 500 * MIB,
        ..private
    };
    assert!(beside(tight).is_err());
}

#[test]
fn a_context_that_does_not_fit_is_shortened_and_said_so() {
    let got = plan(&header(), &wishes(), room(Some(1250 * MIB))).unwrap();
    assert!(
        got.ctx_tokens >= 512 && got.ctx_tokens < 4096,
        "{}",
        got.ctx_tokens
    );
    assert_eq!(got.ctx_tokens % 256, 0);
    assert!(got.notices[0].contains("1250 MiB"), "{:?}", got.notices);
    assert!(got.notices[0].contains("--mem"), "{:?}", got.notices);
    let small = Wishes {
        kv: KvType::Q8_0,
        ..wishes()
    };
    let halved = plan(&header(), &small, room(Some(1250 * MIB))).unwrap();
    assert!(halved.ctx_tokens > got.ctx_tokens);
}

#[test]
fn a_model_that_does_not_fit_is_refused_with_the_numbers() {
    let error = plan(&header(), &wishes(), room(Some(700 * MIB))).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("700 MiB are there"), "{text}");
    assert!(text.contains("1000 for weights"), "{text}");
    assert!(text.contains("--mem 1536"), "{text}");
}

#[test]
fn repacking_gives_way_to_a_mapped_file_where_memory_is_short() {
    let mut tight = header();
    tight.tensors = vec![tensor(sys::GGML_TYPE_Q4_0, 200 * MIB)];
    let need = plan(&tight, &wishes(), room(Some(1500 * MIB))).unwrap();
    assert_eq!(need.weights, Weights::Mapped);
    let forced = Wishes {
        repack: Switch::On,
        ..wishes()
    };
    assert_eq!(
        plan(&tight, &forced, room(Some(1500 * MIB)))
            .unwrap()
            .weights,
        Weights::Repacked
    );
    let got = plan(&tight, &wishes(), room(Some(1700 * MIB))).unwrap();
    assert_eq!(got.weights, Weights::Repacked);
}

#[test]
fn weights_are_repacked_where_most_gain_by_it() {
    let mut mixed = header();
    mixed.tensors.push(tensor(sys::GGML_TYPE_Q6_K, 99 * MIB));
    let weights = |header: &Header| plan(header, &wishes(), room(None)).unwrap().weights;
    assert_eq!(weights(&mixed), Weights::Repacked);
    mixed.tensors.push(tensor(sys::GGML_TYPE_Q4_K, 2 * MIB));
    assert_eq!(weights(&mixed), Weights::Mapped);
}

#[test]
fn private_memory_has_a_ceiling_of_its_own() {
    // Everything fits the machine; the cache of 256 MiB does not fit the ceiling.
    let low = Room {
        available: Some(4000 * MIB),
        private: 232 * MIB,
    };
    let got = plan(&header(), &wishes(), low).unwrap();
    assert!((512..4096).contains(&got.ctx_tokens), "{got:?}");
    assert_eq!(got.weights, Weights::Mapped, "a thousand MiB of weights");
    let lower = Room {
        private: 80 * MIB,
        ..low
    };
    let error = plan(&header(), &wishes(), lower).unwrap_err().to_string();
    assert!(error.contains("1080 MiB are there"), "{error}");
}

#[test]
fn the_machine_that_is_suggested_is_large_enough() {
    for ctx_tokens in [512, 4096, 65_536, 4_194_304] {
        let long = Wishes {
            ctx_tokens: Some(ctx_tokens),
            ..wishes()
        };
        let error = plan(&header(), &long, room(Some(500 * MIB))).unwrap_err();
        let machine = error.suggested_mib * MIB;
        // What a kernel keeps for itself, measured: 2 percent and 64 MiB.
        let total = machine - machine / 50 - 64 * MIB;
        let room = Room {
            available: Some(total),
            private: Budget::of(Some(total)).engine_bytes,
        };
        let got = plan(&header(), &long, room).unwrap();
        assert_eq!(got.ctx_tokens, ctx_tokens, "{machine}");
    }
}

/// Where numbers break.
fn extreme() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(1 << 31),
        Just(1 << 63),
        Just(u64::MAX),
        any::<u64>(),
    ]
}

proptest! {
    #[test]
    fn no_numbers_of_a_header_make_it_panic(
        numbers in prop::collection::vec(extreme(), 13),
        lists in prop::collection::vec(prop::collection::vec(extreme(), 0..3), 3),
        tensors in prop::collection::vec(extreme(), 0..3),
        available in prop::option::of(extreme()),
        ctx_tokens in prop::option::of(any::<u32>()),
        q8_0 in any::<bool>(),
    ) {
        let header = Header {
            context_length: Some(numbers[0]),
            // As many layers are looked at one by one.
            block_count: Some(numbers[1].min(600)),
            embedding_length: Some(numbers[2]),
            feed_forward_length: lists[0].clone(),
            head_count: lists[1].clone(),
            head_count_kv: lists[2].clone(),
            key_length: Some(numbers[3]),
            value_length: Some(numbers[4]),
            shared_kv_layers: numbers[5],
            full_attention_interval: Some(numbers[11]),
            state_values: numbers[12],
            vocab_tokens: numbers[6],
            ends: vec![end(numbers[7]), end(numbers[8])],
            weights: numbers[9],
            tensors: tensors.iter().map(|bytes| tensor(sys::GGML_TYPE_Q4_0, *bytes)).collect(),
            ..header()
        };
        let wishes = Wishes {
            ctx_tokens,
            kv: if q8_0 { KvType::Q8_0 } else { KvType::F16 },
            ..wishes()
        };
        let room = Room { available, private: numbers[10] };
        match plan(&header, &wishes, room) {
            Ok(plan) => prop_assert!(plan.ctx_tokens > 0),
            Err(error) => prop_assert!(error.to_string().contains("--mem")),
        }
    }
}

#[test]
fn what_attends_to_a_token_is_counted_and_nothing_where_nothing_does() {
    let attended = 3 * 2 * 128 + 1024 * 4 * 8 / 512 + 64;
    let got = bytes_per_token(&header(), KvType::F16, 128);
    assert_eq!(got.0, (64 << 10) + attended);
    let recurrent = Header {
        head_count_kv: vec![0],
        ..header()
    };
    assert_eq!(bytes_per_token(&recurrent, KvType::F16, 128).0, 0);
}

#[test]
fn q8_0_is_advised_for_heads_that_its_blocks_fill() {
    let refused = |header: &Header| {
        let error = plan(header, &wishes(), room(Some(1000 * MIB))).unwrap_err();
        error.to_string().contains("q8_0")
    };
    let shorter = |header: &Header| {
        let plan = plan(header, &wishes(), room(Some(1200 * MIB))).unwrap();
        assert!(plan.notices[0].contains("instead of"), "{plan:?}");
        plan.notices[0].contains("q8_0")
    };
    // 1024 / 8.
    assert!(refused(&header()) && shorter(&header()));
    for (key, value) in [(80, 96), (96, 100)] {
        let odd = Header {
            key_length: Some(key),
            value_length: Some(value),
            ..header()
        };
        assert!(!refused(&odd) && !shorter(&odd), "{key} {value}");
    }
}
