//! What memory allows: decided before llama.cpp allocates any, because a guest
//! that runs out of it loses the engine in the middle of an answer.

use std::fs;

use llama_cpp_sys_2 as sys;

use super::model::Weights;
use gguf::Header;
use protocol::memory::{meminfo_bytes, mib};
use protocol::{KvType, Switch};

/// A context shorter than this is no conversation.
const CTX_TOKENS_MIN: u32 = 512;

/// Context lengths are rounded down to whole steps of this.
const CTX_STEP: u32 = 256;

/// What llama.cpp needs besides weights and KV cache for any model: graphs,
/// vocabulary, stacks.
const BASE_BYTES: u64 = 48 << 20;

/// Memory left alone: the kernel's own watermarks, PID 1, what arrives on pipes.
const RESERVE_BYTES: u64 = 32 << 20;

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
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Context length in tokens.
    pub ctx_tokens: u32,
    /// Bytes of the KV cache.
    pub kv_bytes: u64,
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

/// Decides on context and weights for `available` bytes; `None`: not known,
/// everything fits.
///
/// # Errors
/// [`TooLarge`] when not even the shortest context fits.
pub(crate) fn plan(
    header: &Header,
    wishes: &Wishes,
    available: Option<u64>,
) -> Result<Plan, TooLarge> {
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
    let model = header.data_end;
    let work = work_bytes(header, wishes.batch_tokens);
    let need = |ctx: u32| model + per_token.saturating_mul(u64::from(ctx)) + work + RESERVE_BYTES;
    let there = available.unwrap_or(u64::MAX);
    let mut ctx_tokens = wanted;
    if need(wanted) > there {
        let left = there.saturating_sub(model + work + RESERVE_BYTES);
        let holds = left.checked_div(per_token).unwrap_or(0);
        let holds = u32::try_from(holds).unwrap_or(u32::MAX) / CTX_STEP * CTX_STEP;
        let least = CTX_TOKENS_MIN.min(wanted);
        if holds < least {
            return Err(TooLarge {
                need_mib: mib(need(least)),
                model_mib: mib(model),
                kv_mib: mib(per_token * u64::from(least)),
                ctx_tokens: least,
                there_mib: there >> 20,
                suggested_mib: suggest(need(wanted)),
                f16: wishes.kv == KvType::F16,
            });
        }
        ctx_tokens = holds;
        notices.push(format!(
            "the context is {ctx_tokens} tokens instead of {wanted}: {wanted} need {} MiB of \
             memory and {} MiB are there; run.sh --mem {} gives enough{}",
            mib(need(wanted)),
            there >> 20,
            suggest(need(wanted)),
            if wishes.kv == KvType::F16 {
                ", zosia.kv=q8_0 halves the need"
            } else {
                ""
            },
        ));
    }
    // Repacked weights are in memory of their own; the file's pages are given
    // back. So it needs no more in the end, but room to work while loading.
    let repack_fits = need(ctx_tokens).saturating_add(largest_tensor(header)) <= there;
    let weights = match wishes.repack {
        Switch::On => Weights::Repacked,
        Switch::Auto if repack_fits && repack_pays(header, wishes.repacked) => Weights::Repacked,
        Switch::Auto | Switch::Off => Weights::Mapped,
    };
    Ok(Plan {
        ctx_tokens,
        kv_bytes: per_token.saturating_mul(u64::from(ctx_tokens)),
        weights,
        notices,
    })
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
fn work_bytes(header: &Header, batch_tokens: u32) -> u64 {
    let widest = header
        .feed_forward_length
        .iter()
        .copied()
        .max()
        .unwrap_or(0)
        .max(header.embedding_length.unwrap_or(0));
    let activations = widest
        .saturating_mul(u64::from(batch_tokens))
        .saturating_mul(4 * 4);
    let logits = header.vocab_tokens.saturating_mul(4 * 2);
    // The vocabulary's texts, maps and caches: about 200 bytes a token.
    let vocab = header.vocab_tokens.saturating_mul(200);
    BASE_BYTES + activations + logits + vocab
}

fn largest_tensor(header: &Header) -> u64 {
    header
        .tensors
        .iter()
        .map(|tensor| tensor.bytes)
        .max()
        .unwrap_or(0)
}

/// Whether most of the weights are of types that a layout of their own makes faster.
fn repack_pays(header: &Header, repacked: &[sys::ggml_type]) -> bool {
    let bytes = |gain: bool| -> u64 {
        let tensors = header.tensors.iter();
        let which = tensors.filter(|tensor| repacked.contains(&tensor.kind) == gain);
        which.map(|tensor| tensor.bytes).sum()
    };
    bytes(true) > bytes(false)
}

/// A guest's RAM for `need` bytes available: the kernel takes a share, and
/// round numbers are easier to type.
fn suggest(need: u64) -> u64 {
    let with_kernel = need + need / 32 + (96 << 20);
    mib(with_kernel).next_multiple_of(256)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gguf::Tensor;

    const MIB: u64 = 1 << 20;

    fn tensor(name: &str, kind: sys::ggml_type, bytes: u64) -> Tensor {
        Tensor {
            name: name.into(),
            kind,
            offset: 0,
            bytes,
        }
    }

    /// A model of 1000 MiB with 64 KiB of f16 KV cache a token.
    fn header() -> Header {
        Header {
            version: 3,
            arch: "llama".into(),
            name: None,
            file_type: None,
            context_length: Some(8192),
            block_count: Some(16),
            embedding_length: Some(1024),
            feed_forward_length: vec![4096],
            head_count: vec![8],
            head_count_kv: vec![],
            key_length: None,
            value_length: None,
            shared_kv_layers: 0,
            sliding_window: None,
            vocab_tokens: 32_000,
            chat_template: None,
            data_offset: 4096,
            data_end: 1000 * MIB,
            weights: 1,
            tensors: vec![tensor(
                "blk.0.ffn_up.weight",
                sys::GGML_TYPE_Q4_0,
                100 * MIB,
            )],
        }
    }

    fn wishes() -> Wishes {
        Wishes {
            ctx_tokens: None,
            kv: KvType::F16,
            repack: Switch::Auto,
            repacked: &[sys::GGML_TYPE_Q4_0],
            batch_tokens: 128,
        }
    }

    #[test]
    fn the_default_context_is_4096_or_what_the_model_was_trained_for() {
        let got = plan(&header(), &wishes(), None).unwrap();
        assert_eq!((got.ctx_tokens, got.kv_bytes), (4096, 256 * MIB));
        assert_eq!(got.weights, Weights::Repacked);
        assert!(got.notices.is_empty());
        let short = Header {
            context_length: Some(2048),
            ..header()
        };
        assert_eq!(plan(&short, &wishes(), None).unwrap().ctx_tokens, 2048);
        let long = Wishes {
            ctx_tokens: Some(10_000),
            ..wishes()
        };
        let got = plan(&header(), &long, None).unwrap();
        assert_eq!(got.ctx_tokens, 10_000);
        assert!(got.notices[0].contains("8192"), "{:?}", got.notices);
    }

    #[test]
    fn a_context_that_does_not_fit_is_shortened_and_said_so() {
        let got = plan(&header(), &wishes(), Some(1250 * MIB)).unwrap();
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
        let halved = plan(&header(), &small, Some(1250 * MIB)).unwrap();
        assert!(halved.ctx_tokens > got.ctx_tokens);
    }

    #[test]
    fn a_model_that_does_not_fit_is_refused_with_the_numbers() {
        let error = plan(&header(), &wishes(), Some(700 * MIB)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("700 MiB are there"), "{text}");
        assert!(text.contains("1000 for weights"), "{text}");
        assert!(text.contains("--mem 1536"), "{text}");
    }

    #[test]
    fn repacking_gives_way_to_a_mapped_file_where_memory_is_short() {
        let mut tight = header();
        tight.tensors = vec![tensor("output.weight", sys::GGML_TYPE_Q4_0, 200 * MIB)];
        let need = plan(&tight, &wishes(), Some(1500 * MIB)).unwrap();
        assert_eq!(need.weights, Weights::Mapped);
        let forced = Wishes {
            repack: Switch::On,
            ..wishes()
        };
        assert_eq!(
            plan(&tight, &forced, Some(1500 * MIB)).unwrap().weights,
            Weights::Repacked
        );
        let got = plan(&tight, &wishes(), Some(1700 * MIB)).unwrap();
        assert_eq!(got.weights, Weights::Repacked);
    }

    #[test]
    fn weights_are_repacked_where_most_gain_by_it() {
        let mut mixed = header();
        mixed
            .tensors
            .push(tensor("token_embd.weight", sys::GGML_TYPE_Q6_K, 99 * MIB));
        let weights = |header: &Header| plan(header, &wishes(), None).unwrap().weights;
        assert_eq!(weights(&mixed), Weights::Repacked);
        mixed
            .tensors
            .push(tensor("output.weight", sys::GGML_TYPE_Q4_K, 2 * MIB));
        assert_eq!(weights(&mixed), Weights::Mapped);
    }
}
