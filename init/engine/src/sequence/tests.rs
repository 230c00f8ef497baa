//! Sequences over a memory that counts.

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
    /// Take no state back.
    pub refuses: bool,
    /// States that were had.
    pub saved: usize,
    row: [f32; 4],
    outputs: (usize, usize),
}

impl Fake {
    /// Of every length.
    pub(crate) const STATE_BYTES: usize = 32 * size_of::<Token>();

    pub(crate) fn that_rewinds() -> Self {
        Self {
            rewinds: true,
            ..Self::default()
        }
    }
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
    fn save(&mut self, state: &mut Vec<u8>, bytes_max: usize) -> bool {
        // All states have the same length.
        state.clear();
        state.extend(self.held.iter().flat_map(|token| token.to_le_bytes()));
        state.resize(Self::STATE_BYTES, 0);
        self.saved += 1;
        state.len() <= bytes_max
    }
    fn load(&mut self, end: usize, state: &[u8]) -> bool {
        let (tokens, _) = state.as_chunks();
        let tokens = tokens[..end].iter().copied().map(Token::from_le_bytes);
        self.held = tokens.collect();
        !self.refuses
    }
}

fn sequence(rewinds: bool) -> Sequence<Fake> {
    sequence_with(rewinds, Checkpoints::new(0))
}

fn sequence_with(rewinds: bool, checkpoints: Checkpoints) -> Sequence<Fake> {
    let memory = Fake {
        rewinds,
        ..Fake::default()
    };
    Sequence::new(memory, checkpoints)
}

fn set(sequence: &mut Sequence<Fake>, target: &[Token]) -> usize {
    set_with(sequence, target, &[])
}

fn set_with(sequence: &mut Sequence<Fake>, target: &[Token], borders: &[usize]) -> usize {
    let evaluated = sequence.set(target, borders, &mut |_, _| {}).unwrap();
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

/// Room for as many states of the fake's.
fn checkpoints(count: usize) -> Checkpoints {
    Checkpoints::new(count * Fake::STATE_BYTES)
}

#[test]
fn memory_that_cannot_rewind_goes_back_to_a_border_and_on_from_there() {
    let mut sequence = sequence_with(false, checkpoints(8));
    let asked: Vec<Token> = (0..12).collect();
    assert_eq!(set_with(&mut sequence, &asked, &[6, 11]), 12);
    assert_eq!(set(&mut sequence, &asked), 1, "asked again");
    let answered: Vec<Token> = (0..20).collect();
    assert_eq!(set_with(&mut sequence, &answered, &[16, 19]), 8);
    let edited: Vec<Token> = (0..6).chain(30..36).collect();
    assert_eq!(
        set_with(&mut sequence, &edited, &[6, 11]),
        6,
        "two borders back"
    );
    assert_eq!(set(&mut sequence, &answered[..11]), 5);
    assert_eq!(set(&mut sequence, &[0, 1, 30]), 3, "before all borders");
    assert_eq!(
        set(&mut sequence, &asked),
        12,
        "what was kept is of other tokens"
    );
}

#[test]
fn a_state_that_is_refused_is_as_none() {
    let mut sequence = sequence_with(false, checkpoints(8));
    let asked: Vec<Token> = (0..12).collect();
    set_with(&mut sequence, &asked, &[6]);
    sequence.memory.refuses = true;
    assert_eq!(set(&mut sequence, &asked[..8]), 8);
}

#[test]
fn an_interruption_that_spoils_the_state_costs_what_came_after_the_last_one_kept() {
    let mut sequence = sequence_with(false, checkpoints(8));
    let target: Vec<Token> = (0..30).collect();
    sequence.memory.fail_at = Some((24, 24));
    assert!(sequence.set(&target, &[20], &mut |_, _| {}).is_err());
    assert_eq!(sequence.tokens(), &target[..20]);
    assert_eq!(sequence.memory.held, target[..20]);
    sequence.memory.fail_at = None;
    assert_eq!(set(&mut sequence, &target), 10);
}

#[test]
fn states_are_kept_on_the_way_and_no_more_than_there_is_room_for() {
    let mut sequence = sequence_with(false, checkpoints(4));
    let long: Vec<Token> = (0..32).collect();
    set(&mut sequence, &long);
    assert_eq!(sequence.memory.saved, 2, "each 16 tokens");
    assert_eq!(
        set(&mut sequence, &long[..31]),
        31,
        "but of one there is room"
    );
    let mut none = sequence_with(false, Checkpoints::new(Fake::STATE_BYTES - 1));
    set_with(&mut none, &long, &[6]);
    assert_eq!(set(&mut none, &long[..31]), 31);
}

#[test]
fn an_interrupted_set_keeps_what_was_evaluated() {
    let mut sequence = sequence(true);
    sequence.memory.fail_at = Some((8, 0));
    let target: Vec<Token> = (0..12).collect();
    let mut told = Vec::new();
    let result = sequence.set(&target, &[], &mut |done, total| told.push((done, total)));
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
        before.set(&target[..end], &[], &mut |_, _| {}).unwrap();
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
        drafted.advance(&target[..29], &[], 10, 0).unwrap();
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
    assert!(sequence.set(&target, &[], &mut |_, _| {}).is_err());
    assert!(sequence.tokens().is_empty());
    sequence.memory.fail_at = None;
    assert_eq!(set(&mut sequence, &target), 12);
}
