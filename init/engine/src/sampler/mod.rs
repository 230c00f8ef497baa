//! The next token out of the logits. In the order of llama.cpp's default chain:
//! repeat penalty, top-k, top-p, min-p, temperature, draw.
//!
//! It costs one pass over the vocabulary, for the maximum of each block; what is
//! wanted is then looked for in the blocks that can hold it. No list of all
//! candidates is built. A grammar is asked about the one token that was drawn,
//! and about all only if it refuses.

mod blocks;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use crate::grammar::{Candidate, Grammar};
use crate::guarded::Thrown;
use crate::vocab::Token;
use blocks::{BLOCK, block_max};
use protocol::Sampling;

/// The repeat penalty looks at this many of the latest tokens.
const PENALTY_TOKENS: usize = 64;

/// Without top-k, tokens this far below the best are left out, times the temperature
/// where that is above 1: their joint probability is below 10⁻¹¹ for any vocabulary
/// there is.
const NEGLIGIBLE_LOGIT: f32 = 40.0;

/// Draws tokens.
pub(crate) struct Sampler<'v> {
    temp: f32,
    top_p: f32,
    top_k: usize,
    min_p: f32,
    repeat_penalty: f32,
    recent: VecDeque<Token>,
    random: fastrand::Rng,
    grammar: Option<Grammar<'v>>,
    candidates: Vec<Candidate>,
    /// The largest logit of each block.
    maxima: Vec<f32>,
    /// The same in another order.
    ranked: Vec<f32>,
}

/// Why no token was drawn.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SampleError {
    /// No logit is a number.
    #[error("the model's output is not a number; its file may be damaged")]
    NotANumber,
    /// The grammar lets nothing follow.
    #[error("the grammar allows no further token")]
    GrammarDead,
    /// llama.cpp's own words.
    #[error(transparent)]
    Grammar(#[from] Thrown),
}

impl<'v> Sampler<'v> {
    /// A sampler for one answer. `recent` are the tokens before it.
    pub(crate) fn new(sampling: &Sampling, recent: &[Token]) -> Self {
        let random = match sampling.seed {
            Some(seed) => fastrand::Rng::with_seed(u64::from(seed)),
            None => fastrand::Rng::new(),
        };
        let skip = recent.len().saturating_sub(PENALTY_TOKENS);
        Self {
            temp: sampling.temp,
            top_p: sampling.top_p,
            top_k: sampling.top_k as usize,
            min_p: sampling.min_p,
            repeat_penalty: sampling.repeat_penalty,
            recent: recent.iter().skip(skip).copied().collect(),
            random,
            grammar: None,
            candidates: Vec::new(),
            maxima: Vec::new(),
            ranked: Vec::new(),
        }
    }

    /// What comes from now on is to obey `grammar`.
    pub(crate) fn obey(&mut self, grammar: Grammar<'v>) {
        self.grammar = Some(grammar);
    }

    /// The next token. Changes the logits of recent tokens in place.
    ///
    /// # Errors
    /// [`SampleError`].
    pub(crate) fn sample(&mut self, logits: &mut [f32]) -> Result<Token, SampleError> {
        self.penalise(logits);
        let token = if self.is_greedy() {
            self.best(logits).ok_or(SampleError::NotANumber)?
        } else {
            self.collect(logits)?;
            self.draw().ok_or(SampleError::NotANumber)?
        };
        if self.allows(token)? {
            return Ok(token);
        }
        self.collect_allowed(logits)?;
        if self.is_greedy() {
            let first = self.candidates.first().ok_or(SampleError::GrammarDead)?;
            return Ok(first.id);
        }
        if self.top_k > 0 {
            self.candidates.truncate(self.top_k);
        }
        self.draw().ok_or(SampleError::GrammarDead)
    }

    /// The answer goes on with `token`.
    ///
    /// # Errors
    /// [`SampleError::Grammar`].
    pub(crate) fn accept(&mut self, token: Token) -> Result<(), SampleError> {
        if self.recent.len() == PENALTY_TOKENS {
            self.recent.pop_front();
        }
        self.recent.push_back(token);
        if let Some(grammar) = &mut self.grammar {
            grammar.accept(token)?;
        }
        Ok(())
    }

    fn is_greedy(&self) -> bool {
        self.temp <= 0.0 || self.temp.is_nan()
    }

    fn allows(&mut self, token: Token) -> Result<bool, SampleError> {
        let Some(grammar) = &self.grammar else {
            return Ok(true);
        };
        let mut only = vec![candidate(token, 0.0)];
        grammar.retain_allowed(&mut only)?;
        Ok(!only.is_empty())
    }

    /// Divides the logits of recent tokens, each once however often it occurred.
    fn penalise(&self, logits: &mut [f32]) {
        #[expect(clippy::float_cmp, reason = "1 is a setting, not a result")]
        let off = self.repeat_penalty == 1.0
            || self.repeat_penalty <= 0.0
            || self.repeat_penalty.is_nan();
        if off {
            return;
        }
        for (at, token) in self.recent.iter().enumerate() {
            if self.recent.iter().take(at).any(|earlier| earlier == token) {
                continue;
            }
            let logit = usize::try_from(*token)
                .ok()
                .and_then(|at| logits.get_mut(at));
            if let Some(logit) = logit {
                if *logit > 0.0 {
                    *logit /= self.repeat_penalty;
                } else {
                    *logit *= self.repeat_penalty;
                }
            }
        }
    }

    /// Fills `maxima`; returns the largest. `None` if no logit is a number.
    fn scan(&mut self, logits: &[f32]) -> Option<f32> {
        self.maxima.clear();
        self.maxima.extend(logits.chunks(BLOCK).map(block_max));
        let max = block_max(&self.maxima);
        (max > f32::NEG_INFINITY).then_some(max)
    }

    /// The first of the largest logits. `None` if none is a number.
    #[expect(clippy::float_cmp, reason = "the maximum is one of them, bit for bit")]
    fn best(&mut self, logits: &[f32]) -> Option<Token> {
        let max = self.scan(logits)?;
        let block = self.maxima.iter().position(|m| *m == max)? * BLOCK;
        let at = logits.get(block..)?.iter().position(|l| *l == max)?;
        Token::try_from(block + at).ok()
    }

    /// Fills `candidates` with what top-k (or, without it, min-p or negligible
    /// probability) leaves, best first.
    fn collect(&mut self, logits: &[f32]) -> Result<(), SampleError> {
        self.candidates.clear();
        let keep = if self.top_k == 0 {
            logits.len()
        } else {
            self.top_k
        };
        let max = self.scan(logits).ok_or(SampleError::NotANumber)?;
        let mut floor = max - NEGLIGIBLE_LOGIT * self.temp.max(1.0);
        if self.min_p > 0.0 {
            // p / p_max ≥ min_p, said of logits. A hair lower, because `draw`
            // applies it to probabilities with their own rounding.
            floor = floor.max(max + self.min_p.ln() - 1e-3);
        }
        if (1..self.maxima.len()).contains(&keep) {
            // Each of the best `keep` blocks holds a logit as large as this.
            self.ranked.clone_from(&self.maxima);
            let (_, last, _) = self
                .ranked
                .select_nth_unstable_by(keep - 1, |a, b| b.total_cmp(a));
            floor = floor.max(*last);
        }
        // Twice what is kept, cut back whenever full: amortised one comparison
        // for each logit above the floor, which rises at every cut.
        let room = keep.saturating_mul(2).max(BLOCK);
        let blocks = logits.chunks(BLOCK).zip(&self.maxima);
        for (start, (block, block_max)) in (0..).step_by(BLOCK).zip(blocks) {
            if *block_max < floor {
                continue;
            }
            for (id, logit) in (start..).zip(block) {
                if *logit >= floor {
                    self.candidates.push(candidate(id, *logit));
                }
            }
            if self.candidates.len() >= room {
                cut(&mut self.candidates, keep);
                if let Some(last) = self.candidates.last() {
                    floor = floor.max(last.logit);
                }
            }
        }
        cut(&mut self.candidates, keep);
        sort(&mut self.candidates);
        Ok(())
    }

    /// Fills `candidates` with all that the grammar allows, best first.
    fn collect_allowed(&mut self, logits: &[f32]) -> Result<(), SampleError> {
        self.candidates.clear();
        self.candidates
            .extend((0..).zip(logits).map(|(id, logit)| candidate(id, *logit)));
        if let Some(grammar) = &self.grammar {
            grammar.retain_allowed(&mut self.candidates)?;
        }
        self.candidates
            .retain(|candidate| !candidate.logit.is_nan());
        if self.candidates.is_empty() {
            return Err(SampleError::GrammarDead);
        }
        sort(&mut self.candidates);
        Ok(())
    }

    /// Top-p, min-p, temperature, and a draw from what is left of `candidates`,
    /// which are sorted.
    fn draw(&mut self) -> Option<Token> {
        let max = self.candidates.first()?.logit;
        let sum = soften(&mut self.candidates, max, 1.0);
        // 1 is off: rounded, the sum is reached before the last.
        let wanted = if self.top_p < 1.0 {
            self.top_p * sum
        } else {
            f32::INFINITY
        };
        let mut mass = 0.0;
        let mut kept = 0;
        for (at, candidate) in self.candidates.iter().enumerate() {
            // Both let the best token through, whatever they are set to.
            if at > 0 && (mass >= wanted || candidate.p < self.min_p) {
                break;
            }
            mass += candidate.p;
            kept = at + 1;
        }
        self.candidates.truncate(kept);
        let sum = soften(&mut self.candidates, max, self.temp);
        let mut point = self.random.f32() * sum;
        for candidate in &self.candidates {
            point -= candidate.p;
            if point < 0.0 {
                return Some(candidate.id);
            }
        }
        // Rounding let the point pass the end.
        self.candidates.last().map(|candidate| candidate.id)
    }
}

/// Sets each `p` relative to the best one's; returns their sum.
fn soften(candidates: &mut [Candidate], max: f32, temp: f32) -> f32 {
    let mut sum = 0.0;
    for candidate in candidates {
        candidate.p = ((candidate.logit - max) / temp).exp();
        sum += candidate.p;
    }
    sum
}

fn candidate(id: Token, logit: f32) -> Candidate {
    Candidate { id, logit, p: 0.0 }
}

/// Leaves the `keep` best, the worst of them last.
fn cut(candidates: &mut Vec<Candidate>, keep: usize) {
    if keep == 0 || candidates.len() <= keep {
        return;
    }
    candidates.select_nth_unstable_by(keep - 1, by_rank);
    candidates.truncate(keep);
}

fn sort(candidates: &mut [Candidate]) {
    candidates.sort_unstable_by(by_rank);
}

/// Higher logits first; of equals, the lower id: the same order every time.
fn by_rank(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}
