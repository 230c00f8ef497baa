//! One answer: draw, show, evaluate, until something ends it.

use std::time::{Duration, Instant};

use super::context::DecodeError;
use super::interrupt::Interrupt;
use super::sequence::{Memory, Sequence};
use super::speculate::{Guesses, Speculator};
use super::speech::Show;
use super::utterance::Utterance;
use super::vocab::Token;
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
    /// What the draft model was good for.
    pub guesses: Guesses,
}

/// What an answer is made with.
pub(crate) struct Generation<'a, 'm, M> {
    /// Draws and shows.
    pub utterance: Utterance<'a, 'm>,
    /// Proposes tokens.
    pub speculator: &'a mut Speculator<M>,
    /// What the prompt has taken.
    pub prefill: Duration,
    /// Says when to stop.
    pub interrupt: &'a Interrupt,
}

impl<M: Memory> Generation<'_, '_, M> {
    /// Answers what `sequence` holds, whose logits are there. Whatever ends it,
    /// the sequence holds the prompt and a beginning of the answer.
    ///
    /// # Errors
    /// llama.cpp's, or the sampler's.
    pub(crate) fn run(
        mut self,
        sequence: &mut Sequence<M>,
        show: &mut Show<'_>,
    ) -> Result<Answer, TurnError> {
        let mut confirmed = sequence.tokens().len();
        let mut decode_calls = 0;
        self.speculator.begin(sequence.tokens(), self.prefill);
        let outcome = self.answer(sequence, &mut confirmed, &mut decode_calls, show);
        // What was proposed and not drawn is not part of the conversation.
        sequence.rewind(confirmed);
        let first_token = self.utterance.first_token().unwrap_or_else(Instant::now);
        let tokens = self.utterance.finish(show);
        Ok(Answer {
            stop: outcome?,
            tokens,
            first_token,
            decode_calls,
            guesses: self.speculator.guesses(),
        })
    }

    /// `confirmed` is how many of the sequence's tokens have been drawn; the
    /// rest were proposed, and their logits are there.
    fn answer(
        &mut self,
        sequence: &mut Sequence<M>,
        confirmed: &mut usize,
        decode_calls: &mut u32,
        show: &mut Show<'_>,
    ) -> Result<Stop, TurnError> {
        loop {
            if self.interrupt.is_requested() {
                return Ok(Stop::Cancelled);
            }
            let room = *confirmed < sequence.ctx_tokens();
            let logits = sequence.logits_after(*confirmed);
            let token = match self.utterance.draw(logits, room, show)? {
                Ok(token) => token,
                Err(stop) => return Ok(stop),
            };
            self.speculator.push(token);
            let proposed = sequence.tokens().get(*confirmed).copied();
            if let Some(proposed) = proposed {
                self.speculator.judged(proposed == token);
            }
            if proposed != Some(token) {
                sequence.rewind(*confirmed);
                *decode_calls += 1;
                match self.evaluate(sequence, token) {
                    Ok(()) => {}
                    Err(DecodeError::Interrupted) => return Ok(Stop::Cancelled),
                    Err(e) => return Err(TurnError::Evaluation(e.to_string())),
                }
            }
            *confirmed += 1;
        }
    }

    /// Evaluates `token`, and with it what may follow.
    fn evaluate(&mut self, sequence: &mut Sequence<M>, token: Token) -> Result<(), DecodeError> {
        let room = sequence.ctx_tokens() - sequence.tokens().len() - 1;
        let mut batch = self.speculator.propose(room)?;
        batch.insert(0, token);
        let started = Instant::now();
        sequence.extend(&batch, batch.len())?;
        self.speculator.timed(batch.len() - 1, started.elapsed());
        Ok(())
    }
}
