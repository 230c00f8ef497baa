//! What evaluating and generating cost, apart from everything around them.

#![expect(unsafe_code, reason = "page faults are counted by getrusage(2)")]

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

use linux_raw_sys::general::rusage;

use super::sampler::Sampler;
use super::sequence::{Memory, Sequence};
use super::vocab::Token;
use protocol::{Measured, TurnError};

/// What is evaluated and generated, each after `depth` tokens that are not measured.
#[derive(Clone, Copy)]
pub(super) struct Work {
    /// Evaluated in batches.
    pub(super) prefill: usize,
    /// Generated one by one.
    pub(super) decode: usize,
    /// In the context before.
    pub(super) depth: usize,
}

impl Work {
    /// The most that the context must hold.
    pub(super) fn tokens(self) -> usize {
        let new = self.prefill.max(self.decode);
        self.depth.saturating_add(new)
    }

    /// Does it. The tokens evaluated are the same every time, spread over a
    /// vocabulary of `vocab_tokens`.
    ///
    /// # Errors
    /// llama.cpp's.
    pub(super) fn measure<M: Memory>(
        self,
        sequence: &mut Sequence<M>,
        vocab_tokens: usize,
        sampler: &mut Sampler<'_>,
    ) -> Result<Measured, TurnError> {
        let evaluation = |e: super::context::DecodeError| TurnError::Evaluation(e.to_string());
        let tokens = spread_tokens(vocab_tokens, self.depth + self.prefill.max(1));
        let before = tokens.get(..self.depth).unwrap_or_default();
        if self.depth > 0 {
            sequence
                .set(before, &[], &mut |_, _| {})
                .map_err(evaluation)?;
        }

        sequence.rewind(self.depth);
        let began = Instant::now();
        if self.prefill > 0 {
            sequence
                .set(&tokens, &[], &mut |_, _| {})
                .map_err(evaluation)?;
        }
        let prefill = began.elapsed();

        // Memory that cannot rewind has kept nothing.
        sequence.rewind(self.depth);
        if sequence.tokens().len() < self.depth {
            sequence
                .set(before, &[], &mut |_, _| {})
                .map_err(evaluation)?;
        }
        let mut next = tokens.get(self.depth).copied().unwrap_or(0);
        let mut sampling = Duration::ZERO;
        let faults = minor_faults();
        let began = Instant::now();
        for count in 1..=self.decode {
            sequence.extend(&[next], 1).map_err(evaluation)?;
            let drawing = Instant::now();
            let logits = sequence.logits_after(self.depth + count);
            next = sampler
                .sample(logits.unwrap_or_default())
                .and_then(|next| sampler.accept(next).map(|()| next))
                .map_err(|e| TurnError::Evaluation(e.to_string()))?;
            sampling += drawing.elapsed();
        }
        let decode = began.elapsed();
        Ok(Measured {
            prefill_ns: nanoseconds(prefill),
            decode_ns: nanoseconds(decode),
            sample_ns: nanoseconds(sampling),
            decode_page_faults: minor_faults().saturating_sub(faults),
        })
    }
}

/// `count` token ids without a pattern: steps of the golden ratio.
fn spread_tokens(vocab_tokens: usize, count: usize) -> Vec<Token> {
    let vocab = vocab_tokens.max(1) as u64;
    (1..=count as u64)
        .map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32)
        .map(|spread| Token::try_from((spread * vocab) >> 32).unwrap_or(0))
        .collect()
}

unsafe extern "C" {
    /// `getrusage(2)`.
    fn getrusage(who: c_int, usage: *mut rusage) -> c_int;
}

/// Pages of this process that came without reading a disk, so far.
fn minor_faults() -> u64 {
    let mut usage = MaybeUninit::<rusage>::zeroed();
    let own = 0;
    // SAFETY: getrusage(2): `usage` has room for what is written; 0 is `RUSAGE_SELF`.
    unsafe { getrusage(own, usage.as_mut_ptr()) };
    // SAFETY: zeros are a value of it, too: it is numbers.
    let usage = unsafe { usage.assume_init() };
    u64::try_from(usage.ru_minflt).unwrap_or(0)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_in_the_vocabulary_and_differ() {
        let tokens = spread_tokens(1000, 200);
        assert!(tokens.iter().all(|t| (0..1000).contains(t)));
        let mut distinct = tokens.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert!(distinct.len() > 180, "{distinct:?}");
        assert_eq!(spread_tokens(1000, 200), tokens);
    }

    #[test]
    fn faults_are_counted() {
        let before = minor_faults();
        // New pages: what an allocator gives may have been touched already.
        let mut memory = memmap2::MmapMut::map_anon(8 << 20).unwrap();
        memory.fill(1);
        assert!(minor_faults() > before);
    }
}
