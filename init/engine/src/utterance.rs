//! An answer as it comes: tokens are drawn from logits and shown until something ends
//! it. Who evaluates them is not its concern.

use std::time::Instant;

use super::prompter::Prompter;
use super::sampler::{SampleError, Sampler};
use super::speech::{Show, Speech};
use super::vocab::Token;
use chat::Splitter;
use protocol::{Stop, TurnError};

/// An answer so far.
pub(crate) struct Utterance<'a, 'm> {
    sampler: Sampler<'a>,
    speech: Speech<'a, 'm>,
    max_tokens: usize,
    /// The longest text, and how long it is, bytes.
    bytes_max: u64,
    bytes: u64,
    /// Without the one that ended it.
    tokens: Vec<Token>,
    first_token: Option<Instant>,
}

impl<'a, 'm> Utterance<'a, 'm> {
    /// Nothing said yet. What is said, of at most `max_tokens` and about `bytes_max`
    /// bytes, is told apart by `splitter`.
    pub(crate) fn new(
        prompter: &'a Prompter<'m>,
        splitter: Splitter,
        sampler: Sampler<'a>,
        max_tokens: Option<u32>,
        bytes_max: u64,
    ) -> Self {
        Self {
            sampler,
            speech: Speech::new(prompter, splitter),
            max_tokens: max_tokens.map_or(usize::MAX, |max| max as usize),
            bytes_max,
            bytes: 0,
            tokens: Vec::new(),
            first_token: None,
        }
    }

    /// When the first token was there.
    pub(crate) fn first_token(&self) -> Option<Instant> {
        self.first_token
    }

    /// Draws the next token from `logits`, those after all tokens so far, and shows
    /// what it adds. Returns it, to be evaluated if there is `room` for it, or why the
    /// answer has ended.
    ///
    /// # Errors
    /// The sampler's.
    pub(crate) fn draw(
        &mut self,
        logits: Option<&mut [f32]>,
        room: bool,
        show: &mut Show<'_>,
    ) -> Result<Result<Token, Stop>, TurnError> {
        if self.tokens.len() >= self.max_tokens {
            return Ok(Err(Stop::MaxTokens));
        }
        let evaluation = |e: SampleError| TurnError::Evaluation(e.to_string());
        let logits = logits.ok_or(SampleError::NotANumber).map_err(evaluation)?;
        let token = self.sampler.sample(logits).map_err(evaluation)?;
        self.first_token.get_or_insert_with(Instant::now);
        if self.speech.hears_end(token)? {
            return Ok(Err(Stop::EndOfTurn));
        }
        self.sampler.accept(token).map_err(evaluation)?;
        self.tokens.push(token);
        let bytes = &mut self.bytes;
        let has_ended = self.speech.say(&mut |kind, text| {
            *bytes += text.len() as u64;
            show(kind, text);
        });
        Ok(if has_ended {
            Err(Stop::EndOfTurn)
        } else if self.bytes > self.bytes_max {
            Err(Stop::TooLong)
        } else if !room {
            Err(Stop::ContextFull)
        } else if self.tokens.len() == self.max_tokens {
            Err(Stop::MaxTokens)
        } else {
            Ok(token)
        })
    }

    /// Shows what was held back. Returns the tokens.
    pub(crate) fn finish(mut self, show: &mut Show<'_>) -> Vec<Token> {
        self.speech.finish(show);
        self.tokens
    }
}
