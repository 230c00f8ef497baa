//! A small model of the same vocabulary, which is asked what the big one will say. Its
//! context follows the conversation as the big one's does: the longest common prefix is
//! kept, and only what is new is evaluated.

use std::time::{Duration, Instant};

use super::WIDTH_MAX;
use crate::context::DecodeError;
use crate::sampler::{SampleError, Sampler};
use crate::sequence::{Memory, Sequence};
use crate::vocab::Token;
use protocol::Sampling;

/// Of the time that a turn has taken, this part may go into catching up: evaluating what
/// was said without the draft model.
const SHARE: u32 = 16;

/// A model beside the big one.
pub(crate) struct DraftModel<M> {
    sequence: Sequence<M>,
    sampler: Sampler<'static>,
    /// Tokens that both models know.
    vocab_tokens: usize,
    /// What may still go into catching up.
    allowance: Duration,
    /// It can be used.
    works: bool,
    /// Why not any more, until that is told.
    fault: Option<String>,
}

/// Why nothing is guessed.
pub(super) enum Failure {
    /// The turn is to end.
    Interrupted,
    /// It cannot be used any more.
    Fault,
}

impl<M: Memory> DraftModel<M> {
    /// Of its vocabulary, the big model has the first `vocab_tokens`, too.
    pub(crate) fn new(sequence: Sequence<M>, vocab_tokens: usize) -> Self {
        let greedy = Sampling {
            temp: 0.0,
            ..Sampling::default()
        };
        Self {
            sequence,
            sampler: Sampler::new(&greedy, &[]),
            vocab_tokens,
            allowance: Duration::ZERO,
            works: true,
            fault: None,
        }
    }

    /// A turn begins, whose prompt has taken `time`.
    pub(super) fn begin(&mut self, time: Duration) {
        self.allowance = time / SHARE;
    }

    /// The turn has taken `time` more.
    pub(super) fn earn(&mut self, time: Duration) {
        self.allowance += time / SHARE;
    }

    /// Tokens that it can guess after `held` others.
    pub(super) fn room(&self, held: usize) -> usize {
        if self.works {
            self.sequence.ctx_tokens().saturating_sub(held)
        } else {
            0
        }
    }

    /// Why it cannot be used any more, once.
    pub(super) fn take_fault(&mut self) -> Option<String> {
        self.fault.take()
    }

    /// Evaluates `tokens` but for the last few, batch by batch, if `is_bounded` as long as
    /// the allowance lasts. Returns whether that is done.
    pub(super) fn follow(&mut self, tokens: &[Token], is_bounded: bool) -> Result<bool, Failure> {
        self.sequence.rewind_to_common(tokens);
        let most = self.sequence.batch_tokens();
        while tokens.len() - self.sequence.tokens().len() > WIDTH_MAX {
            if is_bounded && self.allowance.is_zero() {
                return Ok(false);
            }
            let began = Instant::now();
            let evaluated = self.sequence.advance(tokens, &[], most, 0);
            self.check(evaluated)?;
            self.allowance = self.allowance.saturating_sub(began.elapsed());
        }
        Ok(true)
    }

    /// The `count` tokens that it finds most likely after `tokens`.
    pub(super) fn guess(&mut self, tokens: &[Token], count: usize) -> Result<Vec<Token>, Failure> {
        let evaluated = self.sequence.set(tokens, &[], &mut |_, _| {});
        self.check(evaluated)?;
        let mut guessed = Vec::with_capacity(count);
        loop {
            let logits = self.sequence.logits_after(self.sequence.tokens().len());
            let known = logits.and_then(|row| row.get_mut(..self.vocab_tokens));
            let token = self.sampler.sample(known.unwrap_or_default());
            guessed.push(self.check(token)?);
            if guessed.len() >= count {
                return Ok(guessed);
            }
            let evaluated = self.sequence.extend(&guessed[guessed.len() - 1..], 1);
            self.check(evaluated)?;
        }
    }

    /// What came of it. Only an interruption leaves it as it was.
    fn check<T>(&mut self, result: Result<T, impl Into<Error>>) -> Result<T, Failure> {
        result.map_err(|error| match error.into() {
            Error::Decode(DecodeError::Interrupted) => Failure::Interrupted,
            other => {
                self.works = false;
                self.fault = Some(other.to_string());
                Failure::Fault
            }
        })
    }
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Sample(#[from] SampleError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoints::Checkpoints;
    use crate::sequence::tests::Fake;

    #[test]
    fn catching_up_takes_a_share_of_the_time_and_goes_on_where_it_was() {
        let sequence = Sequence::new(Fake::that_rewinds(), Checkpoints::new(0));
        let mut draft = DraftModel::new(sequence, 4);
        let tokens: Vec<Token> = (1..=20).collect();
        let follow = |draft: &mut DraftModel<Fake>, is_bounded| {
            let done = draft.follow(&tokens, is_bounded).ok();
            (done, draft.sequence.tokens().len())
        };
        assert_eq!(follow(&mut draft, true), (Some(false), 0), "no time yet");
        draft.earn(Duration::from_nanos(u64::from(SHARE)));
        assert_eq!(
            follow(&mut draft, true),
            (Some(false), 4),
            "one batch of it"
        );
        assert_eq!(follow(&mut draft, false), (Some(true), 12));
        draft.begin(Duration::ZERO);
        assert_eq!(
            follow(&mut draft, true),
            (Some(true), 12),
            "a few are behind"
        );
        assert_eq!(draft.guess(&tokens, 3).ok(), Some(vec![0; 3]));
        assert_eq!(draft.sequence.tokens(), [&tokens[..], &[0, 0]].concat());
    }
}
