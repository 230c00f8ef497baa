//! Several tokens a pass where the answer repeats what is in the context:
//! quoted code, an edited text, a list of names.
//!
//! Where the context agrees longest with its end, what followed there is proposed,
//! evaluated together with the last token, and kept as far as the sampler draws the
//! same. Every token is still drawn from the model's own logits after exactly the
//! tokens before it: the distribution is the same with and without, and greedy answers
//! are the same text.

use std::time::Duration;

use super::vocab::Token;
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

/// Before any was seen, for each of [`AGREEMENTS`].
const ACCEPTANCE: [Acceptance; AGREEMENTS.len()] = [
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
];
const LATER: f64 = 0.85;

/// How much of the way back to [`ACCEPTANCE`] each chance passed over leads: after a
/// hundred or so, it is tried again.
const FORGIVENESS: f64 = 0.01;

/// How likely what is proposed is drawn: where a text is quoted, what comes after a
/// first token that was right is surer.
#[derive(Debug, Clone, Copy)]
struct Acceptance {
    /// The first token.
    first: f64,
    /// Another, if all before it were.
    later: f64,
}

/// Proposes what comes next, as long as it pays.
pub(crate) struct Speculator {
    mode: Switch,
    tokens: Vec<Token>,
    /// For each of [`AGREEMENTS`].
    acceptance: [Acceptance; AGREEMENTS.len()],
    /// Which of them what was proposed last comes from.
    class: usize,
    /// Whether the first of those proposed last was judged.
    began: bool,
    /// Running mean of a pass's seconds, for each of [`WIDTHS`].
    seconds: [Option<f64>; WIDTHS.len()],
}

impl Speculator {
    /// Knows nothing of times or texts yet.
    pub(crate) fn new(mode: Switch) -> Self {
        Self {
            mode,
            tokens: Vec::new(),
            acceptance: ACCEPTANCE,
            class: 0,
            began: false,
            seconds: [None; WIDTHS.len()],
        }
    }

    /// A turn begins with these tokens. What was measured stays known.
    pub(crate) fn begin(&mut self, tokens: &[Token]) {
        self.tokens.clear();
        self.tokens.extend_from_slice(tokens);
    }

    /// `token` has been drawn.
    pub(crate) fn push(&mut self, token: Token) {
        self.tokens.push(token);
    }

    /// What may follow, at most `room` tokens: none, three or seven.
    pub(crate) fn propose(&mut self, room: usize) -> Vec<Token> {
        self.began = false;
        if self.mode == Switch::Off {
            return Vec::new();
        }
        let (length, end) = self.longest_agreement();
        let Some(class) = AGREEMENTS.iter().rposition(|least| *least <= length) else {
            return Vec::new();
        };
        let continuation = &self.tokens[end..];
        let most = continuation.len().min(room) + 1;
        let width = self.best_width(most, self.acceptance[class]);
        let proposed = continuation.iter().take(width - 1).copied().collect();
        self.class = class;
        if width == 1 && most >= WIDTHS[1] {
            let (now, new) = (&mut self.acceptance[class], ACCEPTANCE[class]);
            now.first += FORGIVENESS * (new.first - now.first);
            now.later += FORGIVENESS * (new.later - now.later);
        }
        proposed
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
        let at = WIDTHS.iter().position(|width| *width == proposed + 1);
        if let Some(mean) = at.and_then(|at| self.seconds.get_mut(at)) {
            let new = time.as_secs_f64();
            *mean = Some(mean.map_or(new, |old| old + NEW * (new - old)));
        }
    }

    /// The next of the tokens proposed last was drawn, or another in its place.
    pub(crate) fn judged(&mut self, accepted: bool) {
        let Acceptance { first, later } = &mut self.acceptance[self.class];
        let acceptance = if self.began { later } else { first };
        *acceptance += NEW * (f64::from(u8::from(accepted)) - *acceptance);
        self.began = true;
    }

    /// The width, no more than `most`, with the most tokens a second.
    fn best_width(&self, most: usize, acceptance: Acceptance) -> usize {
        let possible = WIDTHS
            .iter()
            .zip(&self.seconds)
            .filter(|(width, _)| **width <= most);
        match self.mode {
            Switch::Off => 1,
            Switch::On => possible.map(|(width, _)| *width).max().unwrap_or(1),
            Switch::Auto => {
                let mut best = (1, 0.0);
                for (width, seconds) in possible {
                    let Some(seconds) = seconds else {
                        // Never measured: this is how to find out.
                        return *width;
                    };
                    let rate = acceptance.expected_tokens(*width) / seconds;
                    if rate > best.1 {
                        best = (*width, rate);
                    }
                }
                best.0
            }
        }
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
mod tests {
    use super::*;

    fn knowing(mode: Switch, tokens: &[Token]) -> Speculator {
        let mut speculator = Speculator::new(mode);
        speculator.begin(tokens);
        speculator
    }

    #[test]
    fn what_followed_the_last_tokens_is_proposed() {
        let text = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1, 2, 3];
        let mut speculator = knowing(Switch::On, &text);
        assert_eq!(speculator.propose(100), [4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(speculator.propose(6), [4, 5, 6], "in fours");
        assert!(speculator.propose(2).is_empty(), "no room");
        speculator.push(99);
        assert!(speculator.propose(100).is_empty(), "new text");
        assert!(knowing(Switch::Off, &text).propose(100).is_empty());
    }

    #[test]
    fn the_latest_occurrence_counts() {
        let text = [1, 2, 3, 4, 4, 4, 1, 2, 3, 5, 5, 5, 1, 2, 3];
        assert_eq!(knowing(Switch::On, &text).propose(3), [5, 5, 5]);
    }

    #[test]
    fn the_longest_agreement_counts_more_than_the_latest() {
        let text = [1, 2, 3, 4, 4, 4, 2, 3, 5, 5, 5, 1, 2, 3];
        assert_eq!(knowing(Switch::On, &text).propose(3), [4, 4, 4]);
        let one = [3, 4, 4, 4, 1, 3];
        assert_eq!(knowing(Switch::On, &one).propose(3), [4, 4, 4]);
    }

    #[test]
    fn what_is_right_after_one_token_is_learnt_apart_from_what_is_after_many() {
        let quoted: Vec<Token> = (0..40).chain(0..9).collect();
        let chance: Vec<Token> = (0..40).chain([50, 9]).collect();
        let mut speculator = knowing(Switch::Auto, &quoted);
        for (width, proposed) in WIDTHS.into_iter().zip([0, 3, 7]) {
            speculator.timed(proposed, Duration::from_millis(width as u64 / 4 + 1));
        }
        for _ in 0..60 {
            speculator.begin(&chance);
            if !speculator.propose(100).is_empty() {
                speculator.judged(false);
            }
        }
        assert!(speculator.propose(100).is_empty());
        speculator.begin(&quoted);
        assert_eq!(speculator.propose(100).len(), 7);
    }

    #[test]
    fn a_text_that_is_too_short_proposes_nothing() {
        assert!(knowing(Switch::On, &[1, 1]).propose(9).is_empty());
        assert!(knowing(Switch::On, &[]).propose(9).is_empty());
    }

    #[test]
    fn what_is_sure_once_it_began_is_proposed_though_half_of_it_never_begins() {
        let text: Vec<Token> = (0..40).chain(0..3).collect();
        let mut speculator = knowing(Switch::Auto, &text);
        for pass in 0..60 {
            let proposed = speculator.propose(100).len();
            // Eight cost as much as three.
            speculator.timed(
                proposed,
                Duration::from_millis([1, 2, 3][proposed.div_ceil(4)]),
            );
            for _ in 0..if pass % 2 == 0 {
                proposed
            } else {
                proposed.min(1)
            } {
                speculator.judged(pass % 2 == 0);
            }
        }
        assert_eq!(speculator.propose(100).len(), 7, "4.5 tokens for 3");
    }

    #[test]
    fn it_stops_where_it_does_not_pay_and_tries_again_later() {
        let text: Vec<Token> = (0..40).chain(0..4).collect();
        let mut speculator = knowing(Switch::Auto, &text);
        let pass = |speculator: &mut Speculator, accepted: bool| {
            let proposed = speculator.propose(100).len();
            // Each token more costs half of the first.
            let time = Duration::from_micros(1000 + 500 * proposed as u64);
            speculator.timed(proposed, time);
            for at in 0..proposed {
                speculator.judged(accepted);
                if !accepted && at == 0 {
                    break;
                }
            }
            proposed
        };
        speculator.timed(0, Duration::from_millis(1));
        let first: Vec<_> = (0..30).map(|_| pass(&mut speculator, true)).collect();
        assert_eq!(first.last(), Some(&7), "{first:?}");
        let wrong: Vec<_> = (0..400).map(|_| pass(&mut speculator, false)).collect();
        let tried = wrong.iter().filter(|proposed| **proposed > 0).count();
        assert!(tried < 60, "{tried}: {wrong:?}");
        assert!(
            wrong[100..].iter().any(|proposed| *proposed > 0),
            "never again"
        );
    }
}
