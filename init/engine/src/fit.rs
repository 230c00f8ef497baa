//! What memory allows: decided before llama.cpp allocates any, because a guest
//! that runs out of it loses the engine in the middle of an answer.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use std::fs;
use std::num::Saturating;

use llama_cpp_sys_2 as sys;

use super::model::Weights;
use gguf::{Bytes, Header};
use protocol::memory::{Budget, meminfo_bytes};
use protocol::{CTX_TOKENS_MAX, KvType, Switch};

/// A context shorter than this is no conversation.
const CTX_TOKENS_MIN: u32 = 512;

/// The step of context lengths that are not asked for, tokens.
const CTX_STEP: u32 = 256;

/// What llama.cpp needs besides weights and KV cache for any model: graphs,
/// vocabulary, stacks.
const BASE_BYTES: Bytes = Saturating(48 << 20);

/// What llama.cpp reserves and does not touch, beside a stack for each thread: for
/// splitting graphs among more devices than there are.
const UNTOUCHED_BYTES: Bytes = Saturating(24 << 20);

/// The reserved stack of a thread, glibc's default.
const STACK_BYTES: Bytes = Saturating(8 << 20);

/// Memory left alone: the kernel's own watermarks, what arrives on pipes.
const RESERVE_BYTES: Bytes = Saturating(32 << 20);

/// The memory that there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// For everything, the file's pages in the cache included; `None`: not known.
    pub available: Option<u64>,
    /// For the engine's private memory, what is reserved and never touched included:
    /// what is beyond it cannot be had.
    pub private: u64,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wishes {
    /// Context length in tokens; `None`: the default.
    pub ctx_tokens: Option<u32>,
    /// Type of the KV cache.
    pub kv: KvType,
    /// Repacked weights.
    pub repack: Switch,
    /// With [`Switch::Auto`]: types of weights that the processor level multiplies
    /// faster so.
    pub repacked: &'static [sys::ggml_type],
    /// Tokens evaluated at once.
    pub batch_tokens: u32,
    /// Threads that compute, of all pools.
    pub threads: u32,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Context length in tokens.
    pub ctx_tokens: u32,
    /// The longest that could be asked for.
    pub ctx_max_tokens: u32,
    /// How the weights are loaded.
    pub weights: Weights,
    /// What the user should know about it.
    pub notices: Vec<String>,
}

/// The model does not fit.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the model needs {need_mib} MiB of memory ({model_mib} for weights, {kv_mib} for a context \
     of {ctx_tokens} tokens, the rest to work in) and {there_mib} MiB are there; \
     give the machine more with run.sh --mem {suggested_mib}{}",
    if *.f16 { ", or try zosia.kv=q8_0" } else { "" }
)]
pub(crate) struct TooLarge {
    need_mib: u64,
    model_mib: u64,
    kv_mib: u64,
    ctx_tokens: u32,
    there_mib: u64,
    suggested_mib: u64,
    f16: bool,
}

/// Decides on context and weights for the memory in `room`.
///
/// # Errors
/// [`TooLarge`] when not even the shortest context fits.
pub(crate) fn plan(header: &Header, wishes: &Wishes, room: Room) -> Result<Plan, TooLarge> {
    let trained = header.context_length.and_then(|n| u32::try_from(n).ok());
    let trained = trained.filter(|n| *n > 0).unwrap_or(u32::MAX);
    let wanted = wishes
        .ctx_tokens
        .unwrap_or_else(|| trained.min(4096))
        .max(1);
    let mut notices = Vec::new();
    if wishes.ctx_tokens.is_some() && wanted > trained {
        notices.push(format!(
            "zosia.ctx={wanted} is more than the {trained} tokens this model was trained for; \
             it may lose the thread beyond them"
        ));
    }
    let per_token = header.kv_bytes_per_token(wishes.kv);
    let model = Saturating(header.data_end);
    let work = work_bytes(header, wishes.batch_tokens);
    let kv = |ctx: u32| per_token * Saturating(ctx.into());
    let need = |ctx: u32| model + kv(ctx) + work + RESERVE_BYTES;
    let stacks = STACK_BYTES * Saturating(wishes.threads.into());
    let suggested_mib = suggest(need(wanted), kv(wanted) + work + UNTOUCHED_BYTES + stacks);
    let private = Saturating(room.private) - UNTOUCHED_BYTES - stacks;
    let available = Saturating(room.available.unwrap_or(u64::MAX));
    // The file's pages are not private: beside them there is room for `private`.
    let there = available.min(model + private + RESERVE_BYTES);
    let left = there - (model + work + RESERVE_BYTES);
    let holds = left.0.checked_div(per_token.0).unwrap_or(u64::MAX);
    let holds = whole_steps(u32::try_from(holds).unwrap_or(u32::MAX));
    let mut ctx_tokens = wanted;
    if need(wanted) > there {
        let least = CTX_TOKENS_MIN.min(wanted);
        if holds < least || need(least) > there {
            return Err(TooLarge {
                need_mib: mib(need(least)),
                model_mib: mib(model),
                kv_mib: mib(kv(least)),
                ctx_tokens: least,
                there_mib: whole_mib(there),
                suggested_mib,
                f16: wishes.kv == KvType::F16,
            });
        }
        ctx_tokens = holds;
        notices.push(format!(
            "the context is {ctx_tokens} tokens instead of {wanted}: {wanted} need {} MiB of \
             memory and {} MiB are there; run.sh --mem {suggested_mib} gives enough{}",
            mib(need(wanted)),
            whole_mib(there),
            if wishes.kv == KvType::F16 {
                ", zosia.kv=q8_0 halves the need"
            } else {
                ""
            },
        ));
    }
    // Repacked weights are in private memory; the file's pages are given back. So
    // it needs no more in the end, but room to work while loading.
    let repack_fits = need(ctx_tokens) + largest_tensor(header) <= available
        && model + kv(ctx_tokens) + work <= private;
    let weights = match wishes.repack {
        Switch::On => Weights::Repacked,
        Switch::Auto if repack_fits && repack_pays(header, wishes.repacked) => Weights::Repacked,
        Switch::Auto | Switch::Off => Weights::Mapped,
    };
    Ok(Plan {
        ctx_tokens,
        ctx_max_tokens: holds
            .min(trained)
            .clamp(ctx_tokens, CTX_TOKENS_MAX.max(ctx_tokens)),
        weights,
        notices,
    })
}

/// Context lengths are rounded down to whole steps of [`CTX_STEP`].
fn whole_steps(tokens: u32) -> u32 {
    tokens.saturating_sub(tokens.checked_rem(CTX_STEP).unwrap_or(0))
}

/// Memory that can be had without swapping or reclaiming anything in use.
pub(crate) fn available_bytes() -> Option<u64> {
    meminfo_bytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")
}

/// Anonymous memory of this process, bytes: now, or its peak if the kernel
/// tells only that.
pub(crate) fn anonymous_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    meminfo_bytes(&status, "RssAnon:").unwrap_or(0)
}

/// What the graph of one batch needs, roughly: activations of the widest
/// operations, the attention's scores, one row of logits.
fn work_bytes(header: &Header, batch_tokens: u32) -> Bytes {
    let widest = header
        .feed_forward_length
        .iter()
        .copied()
        .max()
        .unwrap_or(0)
        .max(header.embedding_length.unwrap_or(0));
    let vocab_tokens = Saturating(header.vocab_tokens);
    let activations = Saturating(widest) * Saturating(batch_tokens.into()) * Saturating(4 * 4);
    let logits = vocab_tokens * Saturating(4 * 2);
    // The vocabulary's texts, maps and caches: about 200 bytes a token.
    let vocab = vocab_tokens * Saturating(200);
    BASE_BYTES + activations + logits + vocab
}

fn largest_tensor(header: &Header) -> Bytes {
    let bytes = header.tensors.iter().map(|tensor| tensor.bytes);
    Saturating(bytes.max().unwrap_or(0))
}

/// Whether most of the weights are of types that a layout of their own makes faster.
fn repack_pays(header: &Header, repacked: &[sys::ggml_type]) -> bool {
    let bytes = |gain: bool| {
        let tensors = header.tensors.iter();
        let which = tensors.filter(|tensor| repacked.contains(&tensor.kind) == gain);
        which.fold(Saturating(0), |sum, tensor| sum + Saturating(tensor.bytes))
    };
    bytes(true) > bytes(false)
}

/// A guest's RAM, MiB, for `need` bytes, of which `private` are the engine's own: the
/// kernel and PID 1 take a share, and round numbers are easier to type.
fn suggest(need: Bytes, private: Bytes) -> u64 {
    let need = need.max(Saturating(Budget::machine_for(private.0)));
    let share = Saturating(need.0.div_ceil(32));
    let whole = mib(need + share + Saturating(96 << 20));
    whole.checked_next_multiple_of(256).unwrap_or(whole)
}

/// Rounded up.
fn mib(bytes: Bytes) -> u64 {
    protocol::memory::mib(bytes.0)
}

/// Rounded down.
fn whole_mib(bytes: Bytes) -> u64 {
    bytes.0 >> 20
}

#[cfg(test)]
pub(crate) mod tests {
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
            shared_kv_layers: 0,
            vocab_tokens: 32_000,
            chat_template: None,
            data_end: 1000 * MIB,
            alignment: 32,
            weights: 1,
            tensors: vec![tensor(sys::GGML_TYPE_Q4_0, 100 * MIB)],
        }
    }

    fn wishes() -> Wishes {
        Wishes {
            ctx_tokens: None,
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
            numbers in prop::collection::vec(extreme(), 11),
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
                vocab_tokens: numbers[6],
                data_end: numbers[7],
                alignment: numbers[8],
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
}
