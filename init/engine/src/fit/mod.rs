//! What memory allows: decided before llama.cpp allocates any, because a guest
//! that runs out of it loses the engine in the middle of an answer.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

#[cfg(test)]
pub(crate) mod tests;

use std::fs;
use std::num::Saturating;

use llama_cpp_sys_2 as sys;

use crate::model::Weights;
use gguf::{Bytes, Header};
use protocol::memory::{Budget, meminfo_bytes};
use protocol::{CTX_TOKENS_MAX, KvType, PARALLEL_MAX, Switch};

/// A shorter context does not hold a conversation.
const CTX_TOKENS_MIN: u32 = 512;

/// The step of context lengths that are not asked for, tokens.
const CTX_STEP: u32 = 256;

/// What llama.cpp needs besides weights and KV cache for any model: graphs,
/// vocabulary, stacks.
const BASE_BYTES: Bytes = Saturating(48 << 20);

/// What llama.cpp reserves and does not touch, beside a stack for each thread: for
/// splitting graphs among more devices than there are.
const UNTOUCHED_BYTES: Bytes = Saturating(24 << 20);

/// Tokens that a thread attends to at once: `PART` in ggml/kernels/attention.cpp.
const PART_TOKENS: u64 = 512;

/// What llama.cpp's table of a context has of each token: its position, its sequences.
const TABLE_BYTES: Bytes = Saturating(64);

/// The reserved stack of a thread, glibc's default.
const STACK_BYTES: Bytes = Saturating(8 << 20);

/// Recurrent states to go back to: as many come before a longer context, and as many, or so
/// much, are the most where memory is ample.
const CHECKPOINTS_LEAST: u64 = 4;
const CHECKPOINTS_AMPLE: u64 = 16;
const CHECKPOINT_BYTES_AMPLE: Bytes = Saturating(64 << 20);

/// Tokens that a recurrent state is taken back by, for passes of eight or of four.
const ROLLBACK_TOKENS: [u32; 2] = [7, 3];

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
    /// Sequences of that length side by side; `None`: as many as there is ample room for.
    pub sequences: Option<u32>,
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
    /// Sequences of that length.
    pub sequences: u32,
    /// Type of the KV cache.
    pub kv: KvType,
    /// Memory for recurrent states to go back to.
    pub checkpoint_bytes: u64,
    /// Tokens at the end of a pass that a recurrent state can be taken back by: as many more
    /// states are held.
    pub rollback_tokens: u32,
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
     give the machine more memory (run.sh --mem {suggested_mib}){} [ZE-30]",
    if *.halves { ", or try zosia.kv=q8_0" } else { "" }
)]
pub(crate) struct TooLarge {
    need_mib: u64,
    model_mib: u64,
    kv_mib: u64,
    ctx_tokens: u32,
    there_mib: u64,
    suggested_mib: u64,
    /// Another type of the KV cache takes about half as much.
    halves: bool,
}

/// There is no room for a second model.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it needs {need_mib} MiB of memory beside the model and {there_mib} MiB are left; give the \
     machine more memory (run.sh --mem) or set a smaller zosia.ctx [ZE-19]"
)]
pub(crate) struct TooLargeBeside {
    need_mib: u64,
    there_mib: u64,
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
    let kv_type = header.kv_type(wishes.kv);
    let mut notices = unwise(wishes, trained, kv_type);
    let halves = kv_type == KvType::F16 && header.kv_type(KvType::Q8_0) == KvType::Q8_0;
    let per_token = bytes_per_token(header, kv_type, wishes.batch_tokens);
    let model = header.data_bytes();
    let state = header.state_bytes();
    let mut work = work_bytes(header, wishes.batch_tokens) + state;
    let kv = |ctx: u32| per_token * Saturating(ctx.into());
    let stacks = STACK_BYTES * Saturating(wishes.threads.into());
    let checkpoints = state * Saturating(CHECKPOINTS_LEAST);
    let private = kv(wanted) + work + checkpoints;
    let suggested_mib = suggest(
        model + private + RESERVE_BYTES,
        private + UNTOUCHED_BYTES + stacks,
    );
    let private = Saturating(room.private) - UNTOUCHED_BYTES - stacks;
    let available = Saturating(room.available.unwrap_or(u64::MAX));
    // The file's pages are not private: beside them there is room for `private`.
    let there = available.min(model + private + RESERVE_BYTES);
    let least = CTX_TOKENS_MIN.min(wanted);
    let checkpoints = checkpoints.min(there - (model + kv(least) + work + RESERVE_BYTES));
    work += checkpoints;
    let need = |ctx: u32| model + kv(ctx) + work + RESERVE_BYTES;
    let left = there - (model + work + RESERVE_BYTES);
    let holds = left.0.checked_div(per_token.0).unwrap_or(u64::MAX);
    let holds = whole_steps(u32::try_from(holds).unwrap_or(u32::MAX));
    let mut ctx_tokens = wanted;
    if need(wanted) > there {
        if holds < least || need(least) > there {
            return Err(TooLarge {
                need_mib: mib(need(least)),
                model_mib: mib(model),
                kv_mib: mib(kv(least)),
                ctx_tokens: least,
                there_mib: whole_mib(there),
                suggested_mib,
                halves,
            });
        }
        ctx_tokens = holds;
        notices.push(format!(
            "the context is {ctx_tokens} tokens instead of {wanted}: {wanted} need {} MiB of \
             memory and {} MiB are there; more memory (run.sh --mem {suggested_mib}) holds them{}",
            mib(need(wanted)),
            whole_mib(there),
            if halves {
                ", zosia.kv=q8_0 halves the need"
            } else {
                ""
            },
        ));
    }
    // Those that nobody asked for take no more than half of what is left.
    let beside = there - need(ctx_tokens);
    let half = Saturating(beside.0 >> 1);
    let ample = (state * Saturating(CHECKPOINTS_AMPLE)).max(CHECKPOINT_BYTES_AMPLE);
    let checkpoints = match state {
        Saturating(0) => state,
        _ => (checkpoints + half).min(ample),
    };
    let rollback_tokens = rollback_tokens(state, half);
    let beside = match wishes.sequences {
        Some(_) => beside,
        None => half,
    };
    let sequences = count_sequences(wishes.sequences, kv(ctx_tokens), beside);
    if let Some(wanted) = wishes.sequences.filter(|wanted| *wanted > sequences) {
        notices.push(format!(
            "{sequences} prompts side by side instead of {wanted}: each has a context of \
             {ctx_tokens} tokens, which takes {} MiB; a smaller zosia.ctx or more memory (run.sh \
             --mem) holds more",
            mib(kv(ctx_tokens))
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
        sequences,
        kv: kv_type,
        checkpoint_bytes: checkpoints.0,
        rollback_tokens,
        weights,
        notices,
    })
}

/// What is wished for and is not good for this model, or not possible, a line each.
fn unwise(wishes: &Wishes, trained: u32, kv_type: KvType) -> Vec<String> {
    let longer = wishes.ctx_tokens.filter(|wanted| *wanted > trained);
    let longer = longer.map(|wanted| {
        format!(
            "zosia.ctx={wanted} is more than the {trained} tokens this model was trained for; \
             it may lose the thread beyond them"
        )
    });
    let blocks = (kv_type != wishes.kv).then(|| {
        "zosia.kv=q8_0 takes heads of a multiple of 32 values, which this model does not have; \
         its KV cache is f16"
            .to_owned()
    });
    longer.into_iter().chain(blocks).collect()
}

/// Tokens that a recurrent `state` can be taken back by where there is so much `room`.
fn rollback_tokens(state: Bytes, room: Bytes) -> u32 {
    let fits = |tokens: &u32| state.0 > 0 && state * Saturating((*tokens).into()) <= room;
    ROLLBACK_TOKENS.into_iter().find(fits).unwrap_or(0)
}

/// Sequences of `kv` bytes each: one, and as many of those that are wanted as fit beside it.
fn count_sequences(wanted: Option<u32>, kv: Bytes, beside: Bytes) -> u32 {
    let hold = beside.0.checked_div(kv.0).unwrap_or(u64::MAX);
    let hold = u32::try_from(hold).unwrap_or(u32::MAX).saturating_add(1);
    hold.min(wanted.unwrap_or(PARALLEL_MAX)).max(1)
}

/// What is left of `room` beside what is planned for it.
pub(crate) fn left(header: &Header, wishes: &Wishes, plan: &Plan, room: Room) -> Room {
    let per_token = bytes_per_token(header, plan.kv, wishes.batch_tokens);
    let kv = per_token * Saturating(plan.ctx_tokens.into()) * Saturating(plan.sequences.into());
    let states = u64::from(plan.rollback_tokens).saturating_add(1);
    let work = work_bytes(header, wishes.batch_tokens) + header.state_bytes() * Saturating(states);
    let own = kv + work + Saturating(plan.checkpoint_bytes);
    let all = own + header.data_bytes() + RESERVE_BYTES;
    let stacks = STACK_BYTES * Saturating(wishes.threads.into());
    let private = own + UNTOUCHED_BYTES + stacks;
    let private = match plan.weights {
        Weights::Mapped => private,
        Weights::Repacked => private + header.data_bytes(),
    };
    Room {
        available: room.available.map(|there| (Saturating(there) - all).0),
        private: (Saturating(room.private) - private).0,
    }
}

/// Decides on a second model, of whose conversations nothing is kept, with a context of
/// `ctx_tokens` in what the first has `left`.
///
/// # Errors
/// [`TooLargeBeside`].
pub(crate) fn plan_beside(
    header: &Header,
    ctx_tokens: u32,
    kv: KvType,
    batch_tokens: u32,
    left: Room,
) -> Result<Plan, TooLargeBeside> {
    let kv_type = header.kv_type(kv);
    let kv = bytes_per_token(header, kv_type, batch_tokens) * Saturating(ctx_tokens.into());
    let own = kv + work_bytes(header, batch_tokens);
    let fits = |need: Bytes, there: Bytes| {
        let (need_mib, there_mib) = (mib(need), whole_mib(there));
        let too_large = TooLargeBeside {
            need_mib,
            there_mib,
        };
        if need > there { Err(too_large) } else { Ok(()) }
    };
    let available = Saturating(left.available.unwrap_or(u64::MAX));
    fits(own + header.data_bytes(), available)?;
    fits(own + UNTOUCHED_BYTES, Saturating(left.private))?;
    Ok(Plan {
        ctx_tokens,
        ctx_max_tokens: ctx_tokens,
        sequences: 1,
        kv: kv_type,
        checkpoint_bytes: 0,
        rollback_tokens: 0,
        weights: Weights::Mapped,
        notices: Vec::new(),
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

/// What grows with each token of the context: its keys and values, and what attends to
/// them. Nothing where no layer does.
fn bytes_per_token(header: &Header, kv: KvType, batch_tokens: u32) -> Bytes {
    let held = header.kv_bytes_per_token(kv);
    if held.0 == 0 {
        return held;
    }
    // A mask of 16-bit floats for a batch, one for layers with sliding windows, and the copy
    // of one that threads compute from.
    let masks: Bytes = Saturating(u64::from(batch_tokens)) * Saturating(3 * 2);
    // What a pass found in each part of the context, in 32-bit floats.
    let found = header.attended_values() * Saturating(4) * Saturating(ggml::PASS_TOKENS as u64);
    held + masks + Saturating(found.0.div_ceil(PART_TOKENS)) + TABLE_BYTES
}

/// What the graph of one batch needs, roughly: activations of the widest
/// operations, one row of logits.
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
