//! The engine's one operation: *make the context equal this list of tokens*.
//!
//! The longest common prefix of what the context holds and what it should hold
//! is kept, the rest is rewound, and only what is new is evaluated. Follow-up
//! turns, `/undo`, `/regen`, drafts and recovery are all this.

use std::ops::Range;

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
}

impl<M: Memory> Sequence<M> {
    /// An empty sequence over a new context.
    pub(crate) fn new(memory: M) -> Self {
        Self {
            memory,
            tokens: Vec::new(),
            widths: Widths::default(),
            past: Default::default(),
            batch_start: 0,
        }
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

    /// Makes the context equal `target`, at least its last token evaluated
    /// again, so that its logits are there. `progress` is told how many of the
    /// new tokens are evaluated, and how many there are. Returns their number.
    ///
    /// # Errors
    /// [`DecodeError`]. What was evaluated up to then is kept: the sequence
    /// then holds a beginning of `target`, or nothing.
    pub(crate) fn set(
        &mut self,
        target: &[Token],
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
            self.advance(target, self.memory.batch_tokens(), 1)?;
        }
        Ok(new.len())
    }

    /// Evaluates the next tokens of `target`, about `at_most`; with logits for the last
    /// `outputs` of it.
    ///
    /// # Errors
    /// As [`Self::extend`].
    pub(crate) fn advance(
        &mut self,
        target: &[Token],
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
        // A batch takes some of what follows with it, to be one.
        let least = run.filter(|run| run.is_wide).map_or(0, |_| PASS_TOKENS + 1);
        let batch_end = end.max((start + least.min(at_most)).min(target.len()));
        let batch = target.get(start..batch_end).unwrap_or_default();
        let is_last = batch_end == target.len();
        self.extend(batch, if is_last { outputs } else { 0 })?;
        if !is_last {
            self.rewind(end);
        }
        Ok(())
    }

    /// Appends `tokens`, no more than a batch, with logits for the last
    /// `outputs` of them.
    ///
    /// # Errors
    /// [`DecodeError`]; none of them is then held.
    pub(crate) fn extend(&mut self, tokens: &[Token], outputs: usize) -> Result<(), DecodeError> {
        let result = self.memory.decode(tokens, self.tokens.len(), outputs);
        match result {
            Ok(()) => {
                self.batch_start = self.tokens.len();
                self.tokens.extend_from_slice(tokens);
                self.widths.push(tokens.len());
            }
            Err(_) if self.memory.held_tokens() != self.tokens.len() => self.forget(),
            Err(_) => {}
        }
        result
    }

    /// Keeps what is held of `target`'s beginning.
    pub(crate) fn rewind_to_common(&mut self, target: &[Token]) {
        self.rewind(common_prefix(&self.tokens, target));
    }

    /// Keeps the first `keep` tokens; memory that cannot rewind keeps none.
    pub(crate) fn rewind(&mut self, keep: usize) {
        if keep >= self.tokens.len() {
            return;
        }
        if keep > 0 && self.memory.truncate(keep) {
            self.tokens.truncate(keep);
            self.widths.truncate(keep);
        } else {
            self.forget();
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
pub(crate) mod tests {
    use super::*;

    /// A memory of 32 tokens in batches of 4, or of 16, that counts what it evaluates.
    #[derive(Default)]
    pub(crate) struct Fake {
        pub held: Vec<Token>,
        pub evaluated: usize,
        pub rewinds: bool,
        pub is_wide: bool,
        /// Fail when a batch begins here, and lose that many tokens more.
        pub fail_at: Option<(usize, usize)>,
        /// Take this many positions fewer than are to be restored.
        pub lose: usize,
        row: [f32; 4],
        outputs: (usize, usize),
    }

    impl Memory for Fake {
        fn decode(
            &mut self,
            tokens: &[Token],
            start: usize,
            outputs: usize,
        ) -> Result<(), DecodeError> {
            assert_eq!(start, self.held.len(), "positions have no gap");
            assert!(tokens.len() <= self.batch_tokens());
            if let Some((at, lose)) = self.fail_at.filter(|(at, _)| *at == start) {
                self.held.truncate(at - lose);
                return Err(DecodeError::Interrupted);
            }
            self.held.extend_from_slice(tokens);
            self.evaluated += tokens.len();
            self.outputs = (tokens.len() - outputs, tokens.len());
            Ok(())
        }
        fn truncate(&mut self, start: usize) -> bool {
            if self.rewinds {
                self.held.truncate(start);
            }
            self.rewinds
        }
        fn clear(&mut self) {
            self.held.clear();
        }
        fn held_tokens(&self) -> usize {
            self.held.len()
        }
        fn ctx_tokens(&self) -> usize {
            32
        }
        fn batch_tokens(&self) -> usize {
            if self.is_wide { 16 } else { 4 }
        }
        fn logits(&mut self, index: usize) -> Option<&mut [f32]> {
            (self.outputs.0..self.outputs.1)
                .contains(&index)
                .then_some(&mut self.row[..])
        }
        fn state_bytes(&mut self, positions: &Range<usize>) -> usize {
            positions.len() * size_of::<Token>()
        }
        fn state(&mut self, positions: &Range<usize>) -> Option<Vec<u8>> {
            let held = self.held.get(positions.clone())?;
            Some(held.iter().flat_map(|token| token.to_le_bytes()).collect())
        }
        fn restore(&mut self, positions: &Range<usize>, state: &[u8]) -> bool {
            assert_eq!(positions.start, self.held.len(), "positions have no gap");
            let (tokens, rest) = state.as_chunks();
            if rest.is_empty() && tokens.len() == positions.len() {
                let kept = tokens.len() - self.lose;
                let tokens = tokens[..kept].iter().copied().map(Token::from_le_bytes);
                self.held.extend(tokens);
                return true;
            }
            false
        }
    }

    fn sequence(rewinds: bool) -> Sequence<Fake> {
        Sequence::new(Fake {
            rewinds,
            ..Fake::default()
        })
    }

    fn set(sequence: &mut Sequence<Fake>, target: &[Token]) -> usize {
        let evaluated = sequence.set(target, &mut |_, _| {}).unwrap();
        assert_eq!(sequence.tokens(), target);
        assert_eq!(sequence.memory.held, target);
        assert!(
            sequence.logits_after(target.len()).is_some(),
            "logits after every set"
        );
        evaluated
    }

    #[test]
    fn only_what_is_new_is_evaluated() {
        let mut sequence = sequence(true);
        assert_eq!(set(&mut sequence, &[1, 2, 3, 4, 5, 6]), 6);
        assert_eq!(set(&mut sequence, &[1, 2, 3, 4, 5, 6, 7]), 1, "appended");
        assert_eq!(set(&mut sequence, &[1, 2, 9]), 1, "rewound and changed");
        assert_eq!(set(&mut sequence, &[1, 2]), 1, "shorter: its last again");
        assert_eq!(set(&mut sequence, &[1, 2]), 1, "equal: its last again");
        assert_eq!(set(&mut sequence, &[8]), 1, "nothing in common");
    }

    #[test]
    fn memory_that_cannot_rewind_starts_again() {
        let mut sequence = sequence(false);
        assert_eq!(set(&mut sequence, &[1, 2, 3, 4, 5]), 5);
        assert_eq!(
            set(&mut sequence, &[1, 2, 3, 4, 5, 6]),
            1,
            "appending is not rewinding"
        );
        assert_eq!(set(&mut sequence, &[1, 2, 3]), 3);
    }

    #[test]
    fn an_interrupted_set_keeps_what_was_evaluated() {
        let mut sequence = sequence(true);
        sequence.memory.fail_at = Some((8, 0));
        let target: Vec<Token> = (0..12).collect();
        let mut told = Vec::new();
        let result = sequence.set(&target, &mut |done, total| told.push((done, total)));
        assert!(matches!(result, Err(DecodeError::Interrupted)));
        assert_eq!(sequence.tokens(), &target[..8]);
        assert_eq!(told, [(4, 12), (8, 12)]);
        sequence.memory.fail_at = None;
        assert_eq!(set(&mut sequence, &target), 4);
    }

    #[test]
    fn what_was_evaluated_is_put_back_and_not_evaluated() {
        let mut before = sequence(true);
        let target: Vec<Token> = (0..12).collect();
        set(&mut before, &target);
        let pieces = [0..4, 4..8].map(|range| (before.state(&range).unwrap(), range));
        assert_eq!(before.state(&(8..13)), None, "not evaluated");

        let mut sequence = sequence(true);
        for (state, range) in &pieces {
            assert!(sequence.restore(&target[range.clone()], state));
            assert!(sequence.logits_after(range.end).is_none());
        }
        assert_eq!(set(&mut sequence, &target), 4);
        assert!(
            !sequence.restore(&target[..3], &pieces[0].0),
            "another length"
        );
        assert_eq!(sequence.tokens(), target, "and nothing is lost");
        let much: Vec<Token> = (0..21).collect();
        assert!(
            !sequence.restore(&much, &[0; 84]),
            "more than there is room"
        );
        sequence.memory.lose = 1;
        assert!(!sequence.restore(&target[..4], &pieces[0].0));
        assert!(sequence.tokens().is_empty(), "the two never disagree");
    }

    #[test]
    fn what_was_evaluated_before_is_evaluated_as_it_was() {
        let target: Vec<Token> = (0..30).collect();
        let evaluate = |past: Option<&Sequence<Fake>>| {
            let mut sequence = sequence(true);
            sequence.memory.is_wide = true;
            if let Some(past) = past {
                sequence.follow(past.tokens(), past.widths().clone());
            }
            sequence
        };
        let mut before = evaluate(None);
        for (end, keep) in [(12, 4), (6, 6), (16, 16), (19, 18), (20, 20), (29, 29)] {
            before.set(&target[..end], &mut |_, _| {}).unwrap();
            before.rewind(keep);
        }
        // Of the first batch few are left.
        let runs: Vec<bool> = (0..29)
            .map(|at| before.widths().run(at).unwrap().is_wide)
            .collect();
        let wide = [0..4, 6..16, 20..29].into_iter().flatten();
        assert!(wide.eq((0..29).filter(|at| runs[*at])));

        let mut after = evaluate(Some(&before));
        assert_eq!(set(&mut after, &target), 30);
        after.rewind(29);
        assert_eq!(after.widths(), before.widths());
        let mut drafted = evaluate(Some(&before));
        while drafted.tokens().len() < 29 {
            drafted.advance(&target[..29], 10, 0).unwrap();
        }
        assert_eq!(drafted.widths(), before.widths());

        let state = before.state(&(0..8)).unwrap();
        let mut restored = evaluate(Some(&before));
        assert!(restored.restore(&target[..8], &state));
        assert_eq!(set(&mut restored, &target), 22);
        restored.rewind(29);
        assert_eq!(restored.widths(), before.widths());
    }

    #[test]
    fn memory_that_lost_more_than_the_batch_is_cleared() {
        let mut sequence = sequence(true);
        sequence.memory.fail_at = Some((8, 3));
        let target: Vec<Token> = (0..12).collect();
        assert!(sequence.set(&target, &mut |_, _| {}).is_err());
        assert!(sequence.tokens().is_empty());
        sequence.memory.fail_at = None;
        assert_eq!(set(&mut sequence, &target), 12);
    }
}
