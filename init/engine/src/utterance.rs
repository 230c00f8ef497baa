//! An answer as it comes: tokens are drawn from logits and shown until something ends
//! it. Who evaluates them is not its concern.

use std::time::Instant;

use super::grammar::Grammar;
use super::prompter::Prompter;
use super::sampler::{SampleError, Sampler};
use super::speech::{Show, Speech};
use super::vocab::Token;
use chat::Splitter;
use protocol::{Stop, TextKind, TurnError};

/// An answer so far.
pub(crate) struct Utterance<'a, 'm> {
    sampler: Sampler<'a>,
    /// What the answer must obey, as long as what the model reasons before is not at its end.
    waiting: Option<Grammar<'a>>,
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
    /// bytes, is told apart by `splitter`. The answer obeys `grammar`. What is reasoned
    /// before need not, where the prompt has begun it already: a grammar that does not
    /// have the marker of its end could not let it end.
    pub(crate) fn new(
        prompter: &'a Prompter<'m>,
        splitter: Splitter,
        mut sampler: Sampler<'a>,
        grammar: Option<Grammar<'a>>,
        max_tokens: Option<u32>,
        bytes_max: u64,
    ) -> Self {
        let mut waiting = grammar;
        let free =
            |grammar: &Grammar<'_>| splitter.awaits().is_some_and(|end| !grammar.spells(end));
        if let Some(grammar) = waiting.take_if(|grammar| !free(grammar)) {
            sampler.obey(grammar);
        }
        Self {
            sampler,
            waiting,
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
        let (bytes, waits) = (&mut self.bytes, self.waiting.is_some());
        let has_ended = self.speech.say(&mut |kind, text| {
            // Behind the marker in one token with it: the grammar does not know of it.
            if waits && kind == TextKind::Answer {
                return;
            }
            *bytes += text.len() as u64;
            show(kind, text);
        });
        if self.speech.awaits().is_none()
            && let Some(grammar) = self.waiting.take()
        {
            self.sampler.obey(grammar);
        }
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
