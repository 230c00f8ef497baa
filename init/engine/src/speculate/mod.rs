//! Several tokens a pass where it can be guessed what comes: where the answer repeats
//! what is in the context (quoted code, an edited text, a list of names), or a small
//! model beside the big one is mostly of its opinion.
//!
//! What is proposed (what followed where the context agrees longest with its end, or what
//! the draft model would say) is evaluated together with the last token, and kept as far as
//! the sampler draws the same. Every token is still drawn from the model's own logits after
//! exactly the tokens before it: the distribution is the same with and without, and greedy
//! answers are the same text.

mod draft_model;

use std::time::{Duration, Instant};

use super::context::DecodeError;
use super::sequence::Memory;
use super::vocab::Token;
pub(crate) use draft_model::DraftModel;
use draft_model::Failure;
use protocol::Switch;

/// An agreement of so many tokens is as good as a longer one.
const AGREEMENT_MAX: usize = 16;

/// Agreements are told apart by their length, from so many tokens on: the longer, the
/// less it is chance.
const AGREEMENTS: [usize; 3] = [1, 2, 4];

/// Tokens of a pass: the last token and what is proposed after it. The kernels
/// take four at a time; three cost as much.
const WIDTHS: [usize; 3] = [1, 4, 8];

/// The widest pass; `build.rs` has it too.
pub(crate) const WIDTH_MAX: usize = ggml::PASS_TOKENS;

/// Weight of the latest observation in running means.
const NEW: f64 = 0.1;

/// The place of the draft model behind [`AGREEMENTS`], which are what proposals come from.
const DRAFT: usize = AGREEMENTS.len();

/// Before any was seen, for each of [`AGREEMENTS`], and for the draft model.
const ACCEPTANCE: [Acceptance; AGREEMENTS.len() + 1] = [
    Acceptance {
        first: 0.3,
        later: LATER,
    },
    Acceptance {
        first: 0.5,
        later: LATER,
    },
    Acceptance {
        first: 0.8,
        later: LATER,
    },
    Acceptance {
        first: 0.6,
        later: LATER,
    },
];
const LATER: f64 = 0.85;

/// How much of the way back to [`ACCEPTANCE`] each chance passed over leads: after a
/// hundred or so, it is tried again. The draft model has a chance in every pass, and what it
/// takes is forgotten as slowly.
const FORGIVENESS: f64 = 0.01;
const DRAFT_FORGIVENESS: f64 = 0.0025;

/// How likely what is proposed is drawn: where a text is quoted, what comes after a
/// first token that was right is surer.
#[derive(Debug, Clone, Copy)]
struct Acceptance {
    /// The first token.
    first: f64,
    /// Another, if all before it were.
    later: f64,
}

/// What can be proposed.
#[derive(Debug, Clone, Copy)]
struct Chance {
    /// Which of [`AGREEMENTS`] it comes from, or [`DRAFT`].
    class: usize,
    /// The widest pass there is something for.
    most: usize,
}

/// How many tokens were proposed and drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Guesses {
    /// Proposed by the draft model.
    pub guessed: u32,
    /// Of these, drawn.
    pub taken: u32,
}

/// Proposes what comes next, as long as it pays.
pub(crate) struct Speculator<M> {
    mode: Switch,
    /// Tokens that can be proposed at once at most.
    most: usize,
    tokens: Vec<Token>,
    /// For each of [`AGREEMENTS`], and for the draft model.
    acceptance: [Acceptance; ACCEPTANCE.len()],
    /// Which of them what was proposed last comes from.
    class: usize,
    /// Whether the first of those proposed last was judged.
    began: bool,
    /// Running mean of a pass's seconds, for each of [`WIDTHS`].
    seconds: [Option<f64>; WIDTHS.len()],
    draft: Option<DraftModel<M>>,
    /// Running mean of the seconds that the draft model takes for such a pass.
    draft_seconds: [Option<f64>; WIDTHS.len()],
    guesses: Guesses,
}

impl<M: Memory> Speculator<M> {
    /// Knows nothing of times or texts yet. Of what is proposed, `most` tokens at once can be
    /// taken back.
    pub(crate) fn new(mode: Switch, most: usize, draft: Option<DraftModel<M>>) -> Self {
        Self {
            mode,
            most,
            tokens: Vec::new(),
            acceptance: ACCEPTANCE,
            class: 0,
            began: false,
            seconds: [None; WIDTHS.len()],
            draft,
            draft_seconds: [None; WIDTHS.len()],
            guesses: Guesses::default(),
        }
    }

    /// A turn begins with these tokens, which have taken `time`. What was measured stays
    /// known.
    pub(crate) fn begin(&mut self, tokens: &[Token], time: Duration) {
        self.tokens.clear();
        self.tokens.extend_from_slice(tokens);
        self.guesses = Guesses::default();
        if let Some(draft) = &mut self.draft {
            draft.begin(time);
        }
    }

    /// What has become of the draft model's proposals in this turn.
    pub(crate) fn guesses(&self) -> Guesses {
        self.guesses
    }

    /// Why the draft model is not used any more, once.
    pub(crate) fn take_fault(&mut self) -> Option<String> {
        self.draft.as_mut()?.take_fault()
    }

    /// `token` has been drawn.
    pub(crate) fn push(&mut self, token: Token) {
        self.tokens.push(token);
    }

    /// What may follow, at most `room` tokens: none, three or seven.
    ///
    /// # Errors
    /// [`DecodeError::Interrupted`].
    pub(crate) fn propose(&mut self, room: usize) -> Result<Vec<Token>, DecodeError> {
        self.began = false;
        if self.mode == Switch::Off {
            return Ok(Vec::new());
        }
        let room = room.min(self.most);
        let (length, end) = self.longest_agreement();
        let class = AGREEMENTS.iter().rposition(|least| *least <= length);
        let text = class.map(|class| Chance {
            class,
            most: (self.tokens.len() - end).min(room) + 1,
        });
        let draft = self.draft.as_ref().map(|draft| Chance {
            class: DRAFT,
            most: draft.room(self.tokens.len()).min(room) + 1,
        });
        let (mut class, mut width) = self.choose([text, draft]);
        if class == DRAFT && width > 1 {
            match self.guess(width - 1) {
                Ok(Some(guessed)) => return Ok(guessed),
                Err(Failure::Interrupted) => return Err(DecodeError::Interrupted),
                Ok(None) | Err(Failure::Fault) => (class, width) = self.choose([text, None]),
            }
        }
        self.class = class;
        Ok(self.tokens[end..].iter().take(width - 1).copied().collect())
    }

    /// What the draft model would say next, `count` tokens. `None`: it has to catch up.
    fn guess(&mut self, count: usize) -> Result<Option<Vec<Token>>, Failure> {
        let Some(draft) = &mut self.draft else {
            return Ok(None);
        };
        let is_bounded = self.mode == Switch::Auto;
        if !draft.follow(&self.tokens, is_bounded)? {
            return Ok(None);
        }
        let began = Instant::now();
        let guessed = draft.guess(&self.tokens, count)?;
        self.class = DRAFT;
        self.guesses.guessed += u32::try_from(guessed.len()).unwrap_or(0);
        observe(&mut self.draft_seconds, count, began.elapsed());
        Ok(Some(guessed))
    }

    /// Where the next pass's tokens come from and its width. What is passed over is forgiven
    /// a little.
    fn choose(&mut self, chances: [Option<Chance>; 2]) -> (usize, usize) {
        let chosen = self.best(chances);
        for Chance { class, most } in chances.into_iter().flatten() {
            let is_passed_over = chosen.1 == 1 || chosen.0 != class;
            if most < WIDTHS[1] || !is_passed_over {
                continue;
            }
            let mut forgiveness = FORGIVENESS;
            if class == DRAFT {
                forgiveness = DRAFT_FORGIVENESS;
                for seconds in self.draft_seconds.iter_mut().flatten() {
                    *seconds -= forgiveness * *seconds;
                }
            }
            let (now, new) = (&mut self.acceptance[class], ACCEPTANCE[class]);
            now.first += forgiveness * (new.first - now.first);
            now.later += forgiveness * (new.later - now.later);
        }
        chosen
    }

    /// How many tokens, at most [`AGREEMENT_MAX`], are the same as the last ones, and where
    /// they end: of the longest such, the latest. Looks at all tokens: some microseconds of
    /// a pass that takes milliseconds.
    fn longest_agreement(&self) -> (usize, usize) {
        let mut best = (0, 0);
        let Some((last, before)) = self.tokens.split_last() else {
            return best;
        };
        for (at, token) in before.iter().enumerate().rev() {
            if token != last {
                continue;
            }
            let pairs = before[..at].iter().rev().zip(before.iter().rev());
            let same = pairs.take(AGREEMENT_MAX - 1).take_while(|(a, b)| a == b);
            let length = same.count() + 1;
            if length > best.0 {
                best = (length, at + 1);
            }
            if length == AGREEMENT_MAX {
                break;
            }
        }
        best
    }

    /// A pass of one token and `proposed` more took `time`.
    pub(crate) fn timed(&mut self, proposed: usize, time: Duration) {
        observe(&mut self.seconds, proposed, time);
        if let Some(draft) = &mut self.draft {
            draft.earn(time);
        }
    }

    /// The next of the tokens proposed last was drawn, or another in its place.
    pub(crate) fn judged(&mut self, accepted: bool) {
        let Acceptance { first, later } = &mut self.acceptance[self.class];
        let acceptance = if self.began { later } else { first };
        *acceptance += NEW * (f64::from(u8::from(accepted)) - *acceptance);
        self.began = true;
        if self.class == DRAFT {
            self.guesses.taken += u32::from(accepted);
        }
    }

    /// The class and the width with the most tokens a second.
    fn best(&self, chances: [Option<Chance>; 2]) -> (usize, usize) {
        let mut best = (0, 1, 0.0);
        for Chance { class, most } in chances.into_iter().flatten() {
            let possible = WIDTHS.into_iter().enumerate();
            for (at, width) in possible.filter(|(_, width)| *width <= most) {
                if self.mode == Switch::On {
                    if width > best.1 {
                        best = (class, width, 0.0);
                    }
                    continue;
                }
                let Some(seconds) = self.seconds_for(class, at) else {
                    // Never measured: this is how to find out.
                    return (class, width);
                };
                let rate = self.acceptance[class].expected_tokens(width) / seconds;
                if rate > best.2 {
                    best = (class, width, rate);
                }
            }
        }
        (best.0, best.1)
    }

    /// What a pass takes of the width at this place of [`WIDTHS`], and what is proposed in
    /// it, if both are known.
    fn seconds_for(&self, class: usize, at: usize) -> Option<f64> {
        let proposing = match (class, at) {
            (DRAFT, 1..) => self.draft_seconds[at]?,
            _ => 0.0,
        };
        Some(self.seconds[at]? + proposing)
    }
}

/// What `proposed` tokens, or a pass of one more, took is part of the running means.
fn observe(means: &mut [Option<f64>; WIDTHS.len()], proposed: usize, time: Duration) {
    let at = WIDTHS.iter().position(|width| *width == proposed + 1);
    if let Some(mean) = at.and_then(|at| means.get_mut(at)) {
        let new = time.as_secs_f64();
        *mean = Some(mean.map_or(new, |old| old + NEW * (new - old)));
    }
}

impl Acceptance {
    /// Tokens that a pass of `width` gives on average: the one that is drawn in
    /// any case, and each proposed one if all before it were right.
    fn expected_tokens(self, width: usize) -> f64 {
        let mut chance = self.first;
        let mut tokens = 1.0;
        for _ in 1..width {
            tokens += chance;
            chance *= self.later;
        }
        tokens
    }
}

#[cfg(test)]
mod tests;
