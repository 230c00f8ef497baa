//! The engine's one operation: *make the context equal this list of tokens*.
//!
//! The longest common prefix of what the context holds and what it should hold
//! is kept, the rest is rewound, and only what is new is evaluated. Follow-up
//! turns, `/undo`, `/regen`, drafts and recovery are all this. Memory that cannot
//! be cut goes back to a state that was kept ([`Checkpoints`]) and on from there.

use std::ops::Range;

use super::checkpoints::{Checkpoints, Reason};
use super::context::{Context, DecodeError};
use super::vocab::Token;
use super::widths::{PASS_TOKENS, Widths};

/// What a context does for a sequence: llama.cpp's, or a test's.
pub(crate) trait Memory {
    /// As [`Context::decode`].
    fn decode(&mut self, tokens: &[Token], start: usize, outputs: usize)
    -> Result<(), DecodeError>;
    /// As [`Context::truncate`].
    fn truncate(&mut self, start: usize) -> bool;
    /// As [`Context::clear`].
    fn clear(&mut self);
    /// As [`Context::held_tokens`].
    fn held_tokens(&self) -> usize;
    /// As [`Context::ctx_tokens`].
    fn ctx_tokens(&self) -> usize;
    /// As [`Context::batch_tokens`].
    fn batch_tokens(&self) -> usize;
    /// As [`Context::logits`].
    fn logits(&mut self, index: usize) -> Option<&mut [f32]>;
    /// As [`Context::state_bytes`].
    fn state_bytes(&mut self, positions: &Range<usize>) -> usize;
    /// As [`Context::state`].
    fn state(&mut self, positions: &Range<usize>) -> Option<Vec<u8>>;
    /// As [`Context::restore`].
    fn restore(&mut self, positions: &Range<usize>, state: &[u8]) -> bool;
    /// As [`Context::save`].
    fn save(&mut self, state: &mut Vec<u8>, bytes_max: usize) -> bool;
    /// As [`Context::load`].
    fn load(&mut self, end: usize, state: &[u8]) -> bool;
}

impl Memory for Context<'_> {
    fn decode(
        &mut self,
        tokens: &[Token],
        start: usize,
        outputs: usize,
    ) -> Result<(), DecodeError> {
        Context::decode(self, 0, tokens, start, outputs)
    }
    fn truncate(&mut self, start: usize) -> bool {
        Context::truncate(self, 0, start)
    }
    fn clear(&mut self) {
        Context::clear(self);
    }
    fn held_tokens(&self) -> usize {
        Context::held_tokens(self)
    }
    fn ctx_tokens(&self) -> usize {
        Context::ctx_tokens(self)
    }
    fn batch_tokens(&self) -> usize {
        Context::batch_tokens(self)
    }
    fn logits(&mut self, index: usize) -> Option<&mut [f32]> {
        Context::logits(self, index)
    }
    fn state_bytes(&mut self, positions: &Range<usize>) -> usize {
        Context::state_bytes(self, positions)
    }
    fn state(&mut self, positions: &Range<usize>) -> Option<Vec<u8>> {
        Context::state(self, positions)
    }
    fn restore(&mut self, positions: &Range<usize>, state: &[u8]) -> bool {
        Context::restore(self, positions, state)
    }
    fn save(&mut self, state: &mut Vec<u8>, bytes_max: usize) -> bool {
        Context::save(self, state, bytes_max)
    }
    fn load(&mut self, end: usize, state: &[u8]) -> bool {
        Context::load(self, end, state)
    }
}

/// A context and the tokens it holds. The two never disagree: what cannot be
/// made to agree is cleared.
pub(crate) struct Sequence<M> {
    memory: M,
    tokens: Vec<Token>,
    widths: Widths,
    /// What was evaluated before, and how.
    past: (Vec<Token>, Widths),
    /// How many tokens were held before the latest batch.
    batch_start: usize,
    checkpoints: Checkpoints,
}

/// So many tokens of a text are evaluated again at most, and so many of an answer, which
/// is mostly gone on with as it is.
const STEP: usize = 16;
const ANSWER_STEP: usize = 64;

impl<M: Memory> Sequence<M> {
    /// An empty sequence over a new context, which keeps `checkpoints`.
    pub(crate) fn new(memory: M, checkpoints: Checkpoints) -> Self {
        Self {
            memory,
            tokens: Vec::new(),
            widths: Widths::default(),
            past: Default::default(),
            batch_start: 0,
            checkpoints,
        }
    }

    /// Whether it matters where a conversation can go on otherwise.
    pub(crate) fn wants_borders(&self) -> bool {
        self.checkpoints.are_kept()
    }

    /// The tokens held.
    pub(crate) fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// How they were evaluated.
    pub(crate) fn widths(&self) -> &Widths {
        &self.widths
    }

    /// `tokens` are evaluated as they were before, until everything is forgotten.
    pub(crate) fn follow(&mut self, tokens: &[Token], widths: Widths) {
        self.past = (tokens.to_vec(), widths);
    }

    /// Tokens that the context holds at most.
    pub(crate) fn ctx_tokens(&self) -> usize {
        self.memory.ctx_tokens()
    }

    /// Tokens that are evaluated at once at most.
    pub(crate) fn batch_tokens(&self) -> usize {
        self.memory.batch_tokens()
    }

    /// Makes the context equal `target`, at least its last token evaluated
    /// again, so that its logits are there. `borders` are where it is likely to be
    /// corrected. `progress` is told how many of the new tokens are evaluated, and how
    /// many there are. Returns their number.
    ///
    /// # Errors
    /// [`DecodeError`]. What was evaluated up to then is kept: the sequence
    /// then holds a beginning of `target`, or nothing.
    pub(crate) fn set(
        &mut self,
        target: &[Token],
        borders: &[usize],
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<usize, DecodeError> {
        let common = common_prefix(&self.tokens, target);
        self.rewind(common.min(target.len().saturating_sub(1)));
        let new = target.get(self.tokens.len()..).unwrap_or(&[]);
        let start = self.tokens.len();
        while self.tokens.len() < target.len() {
            let done = self.tokens.len() - start;
            if done > 0 {
                progress(done, new.len());
            }
            self.advance(target, borders, self.memory.batch_tokens(), 1)?;
        }
        Ok(new.len())
    }

    /// Evaluates the next tokens of `target`, about `at_most`, up to the next of `borders`;
    /// with logits for the last `outputs` of it.
    ///
    /// # Errors
    /// As [`Self::extend`].
    pub(crate) fn advance(
        &mut self,
        target: &[Token],
        borders: &[usize],
        at_most: usize,
        outputs: usize,
    ) -> Result<(), DecodeError> {
        let start = self.tokens.len();
        let known = common_prefix(&self.past.0, target);
        let run = self.past.1.run(start).filter(|_| start < known);
        let end = run.map_or(target.len(), |run| run.end.min(known));
        let width = match run {
            Some(run) if !run.is_wide => PASS_TOKENS.min(at_most),
            _ => at_most.max(1),
        };
        let end = end.min(start + width).min(target.len());
        let ahead = borders.iter().filter(|border| **border > start);
        let end = ahead.fold(end, |end, border| end.min(*border));
        // A batch takes some of what follows with it, to be one, if that can be cut off.
        let least = run.filter(|run| run.is_wide && !self.checkpoints.are_kept());
        let least = least.map_or(0, |_| PASS_TOKENS + 1);
        let batch_end = end.max((start + least.min(at_most)).min(target.len()));
        let batch = target.get(start..batch_end).unwrap_or_default();
        let is_last = batch_end == target.len();
        self.decode(batch, if is_last { outputs } else { 0 })?;
        if !is_last {
            self.rewind(end);
        }
        if borders.contains(&end) {
            self.checkpoints.keep(&mut self.memory, end, Reason::Border);
        } else {
            self.pass(STEP);
        }
        Ok(())
    }

    /// Appends `tokens`, no more than a batch, with logits for the last
    /// `outputs` of them.
    ///
    /// # Errors
    /// [`DecodeError`]; none of them is then held, and perhaps not all that was.
    pub(crate) fn extend(&mut self, tokens: &[Token], outputs: usize) -> Result<(), DecodeError> {
        self.decode(tokens, outputs)?;
        self.pass(ANSWER_STEP);
        Ok(())
    }

    /// Keeps the state if the last one that was kept is `step` tokens back.
    fn pass(&mut self, step: usize) {
        let end = self.tokens.len();
        if end >= self.checkpoints.last_end() + step {
            self.checkpoints
                .keep(&mut self.memory, end, Reason::Passing);
        }
    }

    fn decode(&mut self, tokens: &[Token], outputs: usize) -> Result<(), DecodeError> {
        let result = self.memory.decode(tokens, self.tokens.len(), outputs);
        match result {
            Ok(()) => {
                self.batch_start = self.tokens.len();
                self.tokens.extend_from_slice(tokens);
                self.widths.push(tokens.len());
            }
            Err(_) if self.memory.held_tokens() != self.tokens.len() => {
                self.go_back(self.tokens.len());
            }
            Err(_) => {}
        }
        result
    }

    /// Keeps what is held of `target`'s beginning.
    pub(crate) fn rewind_to_common(&mut self, target: &[Token]) {
        self.rewind(common_prefix(&self.tokens, target));
    }

    /// Keeps the first `keep` tokens; memory that cannot be cut keeps as many of them as
    /// a checkpoint has.
    pub(crate) fn rewind(&mut self, keep: usize) {
        if keep >= self.tokens.len() {
            return;
        }
        if keep > 0 && self.memory.truncate(keep) {
            self.tokens.truncate(keep);
            self.widths.truncate(keep);
            self.checkpoints.forget_beyond(keep);
        } else {
            self.go_back(keep);
        }
    }

    /// Keeps as many of the first `keep` tokens as a checkpoint has.
    fn go_back(&mut self, keep: usize) {
        match self.checkpoints.restore(&mut self.memory, keep) {
            Some(end) => {
                self.tokens.truncate(end);
                self.widths.truncate(end);
                // There are no logits after any of them.
                self.batch_start = end;
            }
            None => self.forget(),
        }
    }

    /// The logits after the first `count` tokens, if the last of these was in
    /// the latest batch and its logits were asked for.
    pub(crate) fn logits_after(&mut self, count: usize) -> Option<&mut [f32]> {
        let index = count.checked_sub(self.batch_start + 1)?;
        self.memory.logits(index)
    }

    /// Length of [`Self::state`].
    pub(crate) fn state_bytes(&mut self, positions: &Range<usize>) -> usize {
        self.memory.state_bytes(positions)
    }

    /// What is evaluated at `positions`, as bytes. `None` if it is not, or cannot be had.
    pub(crate) fn state(&mut self, positions: &Range<usize>) -> Option<Vec<u8>> {
        let evaluated = positions.end <= self.tokens.len();
        evaluated.then(|| self.memory.state(positions)).flatten()
    }

    /// Appends `tokens` with the state that they had at these positions. `false` if it
    /// cannot be used: then nothing changed, or nothing is held any more.
    pub(crate) fn restore(&mut self, tokens: &[Token], state: &[u8]) -> bool {
        let positions = self.tokens.len()..self.tokens.len() + tokens.len();
        let fits = positions.end <= self.memory.ctx_tokens();
        let restored = fits && self.memory.restore(&positions, state);
        if restored {
            self.tokens.extend_from_slice(tokens);
            self.widths.follow(&self.past.1, positions.end);
            // There are no logits after any of them.
            self.batch_start = self.tokens.len();
            self.checkpoints
                .keep(&mut self.memory, positions.end, Reason::Border);
        }
        if self.memory.held_tokens() != self.tokens.len() {
            self.forget();
            return false;
        }
        restored
    }

    /// The context.
    pub(crate) fn memory(&self) -> &M {
        &self.memory
    }

    /// The context, for those who hold something else in it: this holds nothing then.
    pub(crate) fn lend(&mut self) -> &mut M {
        if !self.tokens.is_empty() {
            self.forget();
        }
        &mut self.memory
    }

    /// Forgets everything.
    pub(crate) fn forget(&mut self) {
        self.memory.clear();
        self.tokens.clear();
        self.checkpoints.forget_beyond(0);
        self.widths.truncate(0);
        self.past = Default::default();
    }
}

/// How many tokens `a` and `b` begin with in common.
pub(crate) fn common_prefix(a: &[Token], b: &[Token]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// A number of tokens: never more than a context holds.
pub(crate) fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

#[cfg(test)]
pub(crate) mod tests;
