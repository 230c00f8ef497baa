//! How many tokens were evaluated at once. Kernels sum a pass of few tokens in another
//! order than a batch of many, which is faster: so whoever evaluates a conversation again,
//! and is to answer as if it had not, must cut it as it was cut.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Tokens at most whose results are those of each of them alone.
pub(crate) const PASS_TOKENS: usize = ggml::PASS_TOKENS;

/// Of each token, whether it was evaluated in a pass or in a batch. How many others were
/// in the same one does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Widths {
    /// Where runs end: one of passes, which may be empty, one of batches, and so on.
    ends: Vec<usize>,
}

impl Widths {
    /// Tokens.
    pub(crate) fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The next `count` tokens were evaluated at once.
    pub(crate) fn push(&mut self, count: usize) {
        self.push_run(count, count > PASS_TOKENS);
    }

    /// Goes on as `other` does, up to its token number `end`; as a batch where it does not.
    pub(crate) fn follow(&mut self, other: &Self, end: usize) {
        while let Some(run) = other.run(self.len()).filter(|_| self.len() < end) {
            self.push_run(run.end.min(end) - self.len(), run.is_wide);
        }
        self.push_run(end.saturating_sub(self.len()), true);
    }

    /// Only the first `count` tokens.
    pub(crate) fn truncate(&mut self, count: usize) {
        let kept = self.ends.iter().take_while(|end| **end < count).count();
        self.ends.truncate(kept + 1);
        if let Some(end) = self.ends.last_mut() {
            *end = count.min(*end);
        }
    }

    /// The run that has token number `at`. `None` if it is not known.
    pub(crate) fn run(&self, at: usize) -> Option<Run> {
        let index = self.ends.iter().position(|end| *end > at)?;
        let end = self.ends.get(index).copied()?;
        Some(Run {
            end,
            is_wide: index % 2 == 1,
        })
    }

    /// The runs of these tokens, in batches where it is not known. What is before and behind
    /// them makes no difference.
    pub(crate) fn runs(&self, tokens: Range<usize>) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut at = tokens.start;
        while at < tokens.end {
            let unknown = Run {
                end: tokens.end,
                is_wide: true,
            };
            let run = self.run(at).unwrap_or(unknown);
            at = run.end.min(tokens.end);
            match runs.last_mut() {
                Some(last) if last.is_wide == run.is_wide => last.end = at,
                _ => runs.push(Run { end: at, ..run }),
            }
        }
        runs
    }

    fn push_run(&mut self, count: usize, is_wide: bool) {
        let end = self.len() + count;
        if self.ends.is_empty() {
            self.ends.push(0);
        }
        // An even number of runs ends with one of batches.
        if self.ends.len().is_multiple_of(2) == is_wide {
            self.ends.pop();
        }
        self.ends.push(end);
    }
}

/// Tokens in a row that were evaluated alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Where it ends.
    pub end: usize,
    /// Whether in batches.
    pub is_wide: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(widths: &Widths) -> Vec<(usize, bool)> {
        let mut runs = Vec::new();
        let mut at = 0;
        while let Some(run) = widths.run(at) {
            at = run.end;
            runs.push((run.end, run.is_wide));
        }
        assert_eq!(at, widths.len());
        runs
    }

    #[test]
    fn tokens_are_in_runs_of_passes_and_of_batches() {
        let mut widths = Widths::default();
        for count in [20, 9, 1, 8, 3, 30] {
            widths.push(count);
        }
        assert_eq!(runs(&widths), [(29, true), (41, false), (71, true)]);
        let mut cut = widths.clone();
        cut.truncate(35);
        assert_eq!(runs(&cut), [(29, true), (35, false)]);
        cut.follow(&widths, 50);
        assert_eq!(runs(&cut), [(29, true), (41, false), (50, true)]);
        cut.follow(&widths, 71);
        assert_eq!(cut, widths);
        cut.truncate(41);
        cut.follow(&Widths::default(), 71);
        assert_eq!(cut, widths);
        cut.truncate(29);
        cut.push(1);
        assert_eq!(runs(&cut), [(29, true), (30, false)]);
        cut.truncate(0);
        assert_eq!(runs(&cut), []);
        cut.push(1);
        assert_eq!(runs(&cut), [(1, false)]);
    }
}
