//! What `zosia.mode=bench` measures.

use std::fmt;

use crate::frames::CTX_TOKENS_MAX;

/// What is measured: `zosia.bench=P,D,N[,T]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// Tokens evaluated in batches.
    pub prefill_tokens: u32,
    /// Tokens generated one by one.
    pub decode_tokens: u32,
    /// How often, after a short first run that is not counted. 0: only load.
    pub runs: u32,
    /// Tokens that the context holds before each of the two.
    pub depth_tokens: u32,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            prefill_tokens: 128,
            decode_tokens: 128,
            runs: 5,
            depth_tokens: 0,
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            prefill_tokens,
            decode_tokens,
            runs,
            depth_tokens,
        } = self;
        write!(f, "{prefill_tokens},{decode_tokens},{runs}")?;
        if *depth_tokens > 0 {
            write!(f, ",{depth_tokens}")?;
        }
        Ok(())
    }
}

/// More runs than this say nothing new, and their figures must be held.
const RUNS_MAX: u32 = 1000;

impl Workload {
    /// Parses what [`fmt::Display`] writes.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let numbers: Option<Vec<u32>> = text.split(',').map(|n| n.parse().ok()).collect();
        let (prefill_tokens, decode_tokens, runs, depth_tokens) = match numbers.as_deref() {
            Some(&[prefill, decode, runs]) => (prefill, decode, runs, 0),
            Some(&[prefill, decode, runs, depth]) => (prefill, decode, runs, depth),
            _ => return Err(expected()),
        };
        let tokens = prefill_tokens.max(decode_tokens).max(depth_tokens);
        if tokens > CTX_TOKENS_MAX || runs > RUNS_MAX {
            return Err(expected());
        }
        Ok(Self {
            prefill_tokens,
            decode_tokens,
            runs,
            depth_tokens,
        })
    }
}

fn expected() -> String {
    format!(
        "expected three or four numbers: tokens to evaluate and tokens to generate, each at most \
         {CTX_TOKENS_MAX}, runs, at most {RUNS_MAX}, and tokens that the context holds before"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_reads_what_it_writes() {
        let workload = Workload {
            prefill_tokens: 512,
            decode_tokens: 0,
            runs: 3,
            depth_tokens: 0,
        };
        let deep = Workload {
            depth_tokens: 3072,
            ..workload
        };
        for workload in [workload, deep] {
            assert_eq!(Workload::parse(&workload.to_string()), Ok(workload));
        }
        for wrong in [
            "",
            "1,2",
            "1,2,3,4,5",
            "1,x,3",
            "-1,2,3",
            "1, 2,3",
            "1,1,4294967295",
            "4294967295,1,1",
            "1,1,1,4294967295",
        ] {
            assert!(Workload::parse(wrong).is_err(), "{wrong}");
        }
    }
}
