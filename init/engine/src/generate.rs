//! One answer: sample, show, evaluate, until something ends it.

use std::time::Instant;

use super::context::DecodeError;
use super::interrupt::Interrupt;
use super::prompter::Prompter;
use super::sampler::{SampleError, Sampler};
use super::sequence::{Memory, Sequence};
use super::speculate::Speculator;
use super::speech::{Show, Speech};
use super::vocab::Token;
use chat::Splitter;
use protocol::{Stop, TurnError};

/// An answer, ended.
pub(crate) struct Answer {
    /// Why it ended.
    pub stop: Stop,
    /// Its tokens, without the one that ended it.
    pub tokens: Vec<Token>,
    /// When the first token was there.
    pub first_token: Instant,
    /// Calls of `llama_decode`.
    pub decode_calls: u32,
}

/// What an answer is made with.
pub(crate) struct Generation<'a, 'm> {
    /// Template and vocabulary.
    pub prompter: &'a Prompter<'m>,
    /// Draws the tokens.
    pub sampler: Sampler<'a>,
    /// Proposes tokens.
    pub speculator: &'a mut Speculator,
    /// Longest answer in tokens.
    pub max_tokens: usize,
    /// Says when to stop.
    pub interrupt: &'a Interrupt,
}

impl Generation<'_, '_> {
    /// Answers what `sequence` holds, whose logits are there. Whatever ends it,
    /// the sequence holds the prompt and a beginning of the answer.
    ///
    /// # Errors
    /// llama.cpp's, or the sampler's.
    pub(crate) fn run<M: Memory>(
        mut self,
        sequence: &mut Sequence<M>,
        splitter: Splitter,
        show: &mut Show<'_>,
    ) -> Result<Answer, TurnError> {
        let mut speech = Speech::new(self.prompter, splitter);
        let mut answer = Answer {
            stop: Stop::Cancelled,
            tokens: Vec::new(),
            first_token: Instant::now(),
            decode_calls: 0,
        };
        let mut confirmed = sequence.tokens().len();
        self.speculator.begin(sequence.tokens());
        let outcome = self.answer(sequence, &mut confirmed, &mut speech, &mut answer, show);
        // What was proposed and not drawn is not part of the conversation.
        sequence.rewind(confirmed);
        speech.finish(show);
        answer.stop = outcome?;
        Ok(answer)
    }

    /// `confirmed` is how many of the sequence's tokens have been drawn; the
    /// rest were proposed, and their logits are there.
    fn answer<M: Memory>(
        &mut self,
        sequence: &mut Sequence<M>,
        confirmed: &mut usize,
        speech: &mut Speech<'_, '_>,
        answer: &mut Answer,
        show: &mut Show<'_>,
    ) -> Result<Stop, TurnError> {
        while answer.tokens.len() < self.max_tokens {
            let token = self.sample(sequence, *confirmed)?;
            if answer.tokens.is_empty() {
                answer.first_token = Instant::now();
            }
            if speech.hears_end(token)? {
                return Ok(Stop::EndOfTurn);
            }
            if self.interrupt.is_requested() {
                return Ok(Stop::Cancelled);
            }
            let accepted = self.sampler.accept(token);
            accepted.map_err(|e| TurnError::Evaluation(e.to_string()))?;
            self.speculator.push(token);
            answer.tokens.push(token);
            if speech.say(show) {
                return Ok(Stop::EndOfTurn);
            }
            if *confirmed >= sequence.ctx_tokens() {
                return Ok(Stop::ContextFull);
            }
            if answer.tokens.len() == self.max_tokens {
                break;
            }
            let proposed = sequence.tokens().get(*confirmed).copied();
            if let Some(proposed) = proposed {
                self.speculator.judged(proposed == token);
            }
            if proposed != Some(token) {
                sequence.rewind(*confirmed);
                answer.decode_calls += 1;
                match self.evaluate(sequence, token) {
                    Ok(()) => {}
                    Err(DecodeError::Interrupted) => return Ok(Stop::Cancelled),
                    Err(e) => return Err(TurnError::Evaluation(e.to_string())),
                }
            }
            *confirmed += 1;
        }
        Ok(Stop::MaxTokens)
    }

    /// Evaluates `token`, and with it what may follow.
    fn evaluate<M: Memory>(
        &mut self,
        sequence: &mut Sequence<M>,
        token: Token,
    ) -> Result<(), DecodeError> {
        let room = sequence.ctx_tokens() - sequence.tokens().len() - 1;
        let mut batch = self.speculator.propose(room);
        batch.insert(0, token);
        let started = Instant::now();
        sequence.extend(&batch, batch.len())?;
        self.speculator.timed(batch.len() - 1, started.elapsed());
        Ok(())
    }

    /// Draws the token after the first `confirmed` of the sequence.
    fn sample<M: Memory>(
        &mut self,
        sequence: &mut Sequence<M>,
        confirmed: usize,
    ) -> Result<Token, TurnError> {
        let drawn = match sequence.logits_after(confirmed) {
            Some(logits) => self.sampler.sample(logits),
            None => Err(SampleError::NotANumber),
        };
        drawn.map_err(|e| TurnError::Evaluation(e.to_string()))
    }
}
