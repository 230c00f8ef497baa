//! One answer: sample, show, evaluate, until something ends it.

use std::time::Instant;

use super::context::DecodeError;
use super::interrupt::Interrupt;
use super::prompt::Prompter;
use super::sampler::{SampleError, Sampler};
use super::sequence::{Memory, Sequence};
use super::speculate::Speculator;
use super::text::Utf8;
use super::vocab::Token;
use chat::Splitter;
use protocol::{Stop, TextKind, TurnError};

/// Where the answer's text goes.
pub(crate) type Show<'a> = dyn FnMut(TextKind, &str) + 'a;

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
            if self.prompter.ends_answer(token) {
                return Ok(Stop::EndOfTurn);
            }
            if self.interrupt.is_requested() {
                return Ok(Stop::Cancelled);
            }
            self.sampler.accept(token);
            self.speculator.push(token);
            answer.tokens.push(token);
            if speech.say(token, show) {
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

/// Tokens on their way to the user: whole characters, reasoning apart from the
/// answer, and an end that is text and no token kept back.
struct Speech<'a, 'm> {
    prompter: &'a Prompter<'m>,
    utf8: Utf8,
    splitter: Splitter,
    bytes: Vec<u8>,
    /// Text that may be the beginning of the end.
    held_back: String,
    begun: bool,
}

impl<'a, 'm> Speech<'a, 'm> {
    fn new(prompter: &'a Prompter<'m>, splitter: Splitter) -> Self {
        Self {
            prompter,
            utf8: Utf8::default(),
            splitter,
            bytes: Vec::new(),
            held_back: String::new(),
            begun: false,
        }
    }

    /// Shows what `token` adds. `true` when the text that ends an answer came.
    fn say(&mut self, token: Token, show: &mut Show<'_>) -> bool {
        self.bytes.clear();
        self.prompter.push_shown(token, &mut self.bytes);
        let mut text = self.utf8.push(&self.bytes);
        if !self.begun && !text.is_empty() {
            self.begun = true;
            if self.prompter.has_leading_space() && text.starts_with(' ') {
                text.remove(0);
            }
        }
        let Some(end) = self.prompter.end_text() else {
            self.splitter
                .push(&text, &mut |kind, text| show(kind, text));
            return false;
        };
        self.held_back.push_str(&text);
        let (certain, ended) = before_end(&self.held_back, end);
        let rest = self.held_back.split_off(certain);
        let text = std::mem::replace(&mut self.held_back, rest);
        if ended {
            self.held_back.clear();
        }
        self.splitter
            .push(&text, &mut |kind, text| show(kind, text));
        ended
    }

    fn finish(&mut self, show: &mut Show<'_>) {
        let mut text = std::mem::take(&mut self.held_back);
        text.push_str(&self.utf8.finish());
        self.splitter
            .push(&text, &mut |kind, text| show(kind, text));
        self.splitter.finish(&mut |kind, text| show(kind, text));
    }
}

/// How many bytes of `text` are certainly before `end`, and whether `end` came.
fn before_end(text: &str, end: &str) -> (usize, bool) {
    if let Some(at) = text.find(end) {
        return (at, true);
    }
    let held = (1..end.len().min(text.len() + 1))
        .rev()
        .find(|&length| end.is_char_boundary(length) && text.ends_with(&end[..length]));
    (text.len() - held.unwrap_or(0), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_is_text_is_never_shown_in_part() {
        let end = "<|im_end|>";
        assert_eq!(before_end("Paris", end), (5, false));
        assert_eq!(before_end("Paris<", end), (5, false));
        assert_eq!(before_end("Paris<|im_", end), (5, false));
        assert_eq!(before_end("Paris<|im_end|>", end), (5, true));
        assert_eq!(before_end("a < b", end), (5, false));
        assert_eq!(before_end("<<|im", end), (1, false));
        assert_eq!(before_end("", end), (0, false));
    }
}
