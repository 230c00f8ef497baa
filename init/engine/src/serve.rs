//! What each request does with the loaded model.

mod kept;

use std::collections::VecDeque;
use std::io::Write;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use super::beginning::Beginning;
use super::borders::borders;
use super::context::{Context, DecodeError};
use super::generate::{Answer, Generation};
use super::grammar::Grammar;
use super::interrupt::Interrupt;
use super::lanes::{Lanes, Said};
use super::measure::Work;
use super::prompter::{Prompt, Prompter};
use super::sampler::Sampler;
use super::sequence::{Sequence, count};
use super::speculate::Speculator;
use super::spelling::Answers;
use super::text;
use super::utterance::Utterance;
use super::vocab::Token;
use super::wire::{Numbered, Outbox};
use chat::{Message, Next};
pub(crate) use kept::Keeping;
use kept::Listed;
use protocol::{Event, Order, Request, Role, Sampling, Size, Stop, TextKind, TurnError, TurnStats};

/// Tokens of a draft evaluated at once: a few tenths of a second on a slow
/// machine, and a multiple of what the kernels take together.
const DRAFT_BATCH_TOKENS: usize = 16;

/// The longest text of one event: it is shown at once, and held by the other side.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// A loaded model at work.
pub(crate) struct Server<'s, 'm, W> {
    prompter: &'s Prompter<'m>,
    sequence: Sequence<Context<'m>>,
    answers: Answers,
    speculator: Speculator<Context<'m>>,
    keeping: Keeping<'m>,
    /// The latest list of pieces.
    listed: Option<Listed>,
    requests: &'s Receiver<Numbered>,
    /// What was asked while something else was waited for.
    waiting: VecDeque<Numbered>,
    lanes: Lanes<'s, 'm>,
    beginning: Beginning,
    interrupt: &'s Interrupt,
    outbox: &'s mut Outbox<W>,
}

impl<'s, 'm, W: Write> Server<'s, 'm, W> {
    /// Nothing said yet.
    pub(crate) fn new(
        prompter: &'s Prompter<'m>,
        sequence: Sequence<Context<'m>>,
        speculator: Speculator<Context<'m>>,
        keeping: Keeping<'m>,
        requests: &'s Receiver<Numbered>,
        interrupt: &'s Interrupt,
        outbox: &'s mut Outbox<W>,
    ) -> Self {
        let sequences = sequence.memory().sequences();
        Self {
            lanes: Lanes::new(prompter, sequences),
            beginning: Beginning::default(),
            prompter,
            sequence,
            answers: Answers::default(),
            speculator,
            keeping,
            listed: None,
            requests,
            waiting: VecDeque::new(),
            interrupt,
            outbox,
        }
    }

    /// Does what is asked, until nothing is any more.
    pub(crate) fn run(&mut self) {
        while let Some(numbered) = self
            .waiting
            .pop_front()
            .or_else(|| self.requests.recv().ok())
        {
            self.serve(numbered);
        }
    }

    /// Does what is asked, and tells of it.
    fn serve(&mut self, numbered: Numbered) {
        if matches!(numbered.request, Request::Answer(_)) && self.sequence.memory().sequences() > 1
        {
            self.serve_side_by_side(numbered);
            self.interrupt.end();
            return;
        }
        if self.lanes.forget() {
            self.sequence.forget();
        }
        self.serve_alone(numbered);
    }

    /// Makes answers until none is under way and none is asked for. What else is asked
    /// waits for those under way.
    fn serve_side_by_side(&mut self, first: Numbered) {
        let context = self.sequence.lend();
        let outbox = &mut *self.outbox;
        let mut tell = |event| outbox.send(&event);
        self.waiting.push_front(first);
        loop {
            if self.interrupt.is_requested() {
                let cancelled = DecodeError::Interrupted;
                self.lanes.abandon(context, &cancelled, &mut tell);
            }
            while self.lanes.has_room() {
                let next = self.waiting.pop_front();
                let Some(numbered) = next.or_else(|| self.requests.try_recv().ok()) else {
                    break;
                };
                let Request::Answer(order) = &numbered.request else {
                    self.waiting.push_front(numbered);
                    break;
                };
                self.interrupt.begin(numbered.number);
                self.lanes.begin(context, order, &mut tell);
            }
            if self.lanes.is_idle() {
                return;
            }
            self.lanes.pass(context, &mut tell);
        }
    }

    fn serve_alone(&mut self, Numbered { number, request }: Numbered) {
        match request {
            Request::Turn {
                messages,
                sampling,
                grammar,
            } => {
                self.interrupt.begin(number);
                let event = match self.answer(&messages, &sampling, grammar.as_deref(), None) {
                    Ok(stats) => Event::TurnDone(stats),
                    Err(e) => Event::TurnFailed(e),
                };
                self.interrupt.end();
                self.outbox.send(&event);
            }
            Request::Answer(order) => {
                self.interrupt.begin(number);
                let mut said = Said::default();
                let Order {
                    id,
                    messages,
                    common_bytes,
                    sampling,
                    grammar,
                } = *order;
                let batch = Some((common_bytes, &mut said));
                let answer = self.answer(&messages, &sampling, grammar.as_deref(), batch);
                let result = answer.map(|stats| Box::new(said.with(stats)));
                self.interrupt.end();
                self.outbox.send(&Event::Answered { id, result });
            }
            Request::Draft { messages } => {
                self.interrupt.begin(number);
                let tokens = self.draft(&messages).map_or(0, count);
                self.interrupt.end();
                self.outbox.send(&Event::Drafted { tokens });
            }
            Request::Render { messages } => {
                let event = match self.prompter.show(&messages) {
                    Ok((text, tokens)) => Event::Rendered { text, tokens },
                    Err(e) => Event::NotRendered(e),
                };
                self.outbox.send(&event);
            }
            Request::Count { messages } => {
                let event = match self.count(&messages) {
                    Ok(counts) => Event::Counted(counts),
                    Err(e) => Event::NotRendered(e),
                };
                self.outbox.send(&event);
            }
            Request::Size { messages } => {
                let size = self.size(&messages);
                self.outbox.send(&Event::Sized(size));
            }
            Request::Measure {
                prefill_tokens,
                decode_tokens,
                depth_tokens,
                sampling,
            } => {
                self.interrupt.begin(number);
                let vocab = self.prompter.vocab();
                let mut sampler = Sampler::new(&sampling, &[]);
                let work = Work {
                    prefill: prefill_tokens as usize,
                    decode: decode_tokens as usize,
                    depth: depth_tokens as usize,
                };
                let room = self.prompter.room();
                let measured = room
                    .refuse_beyond(work.tokens(), true)
                    .and_then(|()| work.measure(&mut self.sequence, vocab.len(), &mut sampler));
                self.interrupt.end();
                self.outbox.send(&match measured {
                    Ok(measured) => Event::Measured(measured),
                    Err(e) => Event::TurnFailed(e),
                });
            }
            Request::ListPieces { messages } => {
                let pieces = self.list_pieces(&messages);
                self.outbox.send(&Event::Pieces(pieces));
            }
            Request::GivePiece(key) => {
                let piece = self.give_piece(key);
                self.outbox.send(&Event::Piece(piece));
            }
            Request::Recall { messages } => {
                self.interrupt.begin(number);
                let tokens = self.recall(&messages);
                self.interrupt.end();
                self.outbox.send(&Event::Recalled { tokens });
            }
            // The reader thread keeps cancellations to itself, a model is loaded once,
            // and a piece that is no longer waited for comes too late.
            Request::Cancel | Request::Load(_) | Request::Piece(_) => {}
        }
    }

    /// The tokens up to the end of each message that is not the system prompt.
    fn count(&self, messages: &[Message]) -> Result<Vec<u32>, TurnError> {
        let ends = messages.iter().enumerate();
        ends.filter(|(_, message)| message.role != Role::System)
            .map(|(index, _)| {
                let until = messages.get(..=index).unwrap_or_default();
                self.prompter
                    .show(until)
                    .map(|(_, tokens)| count(tokens.len()))
            })
            .collect()
    }

    fn size(&self, messages: &[Message]) -> Size {
        let last = messages.last().map_or("", |message| &message.text);
        let room = self.prompter.room();
        let prompt = self.prompter.prompt(messages, Next::Answer);
        let taken = prompt.and_then(|prompt| room.refuse_beyond(prompt.tokens.len(), true));
        Size {
            message_tokens: self.prompter.count_text(last).map(count),
            refused: taken.err(),
        }
    }

    /// Answers as text comes, or, as one of a `batch` whose last messages begin with as
    /// many bytes in common, in one piece.
    fn answer(
        &mut self,
        messages: &[Message],
        sampling: &Sampling,
        grammar: Option<&str>,
        mut batch: Option<(usize, &mut Said)>,
    ) -> Result<TurnStats, TurnError> {
        let started = Instant::now();
        let prompter = self.prompter;
        let Prompt { tokens, splitter } = prompter.prompt(messages, Next::Answer)?;
        let common_bytes = batch.as_ref().map(|(common_bytes, _)| *common_bytes);
        let shared = common_bytes.map(|common_bytes| {
            self.beginning
                .shared(prompter, messages, common_bytes, &tokens)
        });
        let target = match shared {
            None => self.splice(&tokens),
            Some(_) => tokens.clone(),
        };
        prompter.room().refuse_beyond(target.len(), true)?;
        let grammar = grammar.map(|source| Grammar::parse(prompter.vocab(), source));
        let grammar = grammar.transpose().map_err(TurnError::Grammar)?;
        let borders = match shared {
            None => self.borders(messages, Next::Answer, &tokens, &target),
            Some(_) => Vec::new(),
        };
        let evaluated = match self.evaluate(&target, shared, &borders) {
            Ok(evaluated) => evaluated,
            Err(DecodeError::Interrupted) => return Ok(self.cancelled(&target, started)),
            Err(e) => return Err(TurnError::Evaluation(e.to_string())),
        };
        let sampler = Sampler::new(sampling, &target);
        let generation = Generation {
            utterance: Utterance::new(
                prompter,
                splitter,
                sampler,
                grammar,
                sampling.max_tokens,
                prompter.room().answer_bytes,
            ),
            speculator: &mut self.speculator,
            prefill: started.elapsed(),
            interrupt: self.interrupt,
        };
        let outbox = &mut *self.outbox;
        let answer = generation.run(&mut self.sequence, &mut |kind, text| match &mut batch {
            None => say(outbox, kind, text),
            Some((_, said)) => said.push(kind, text),
        });
        if let Some(why) = self.speculator.take_fault() {
            let line = format!("the draft model is not used any more: {why} [ZE-19]");
            self.outbox.send(&Event::Notice(line));
        }
        let answer = answer?;
        if batch.is_none() {
            self.answers
                .remember(prompter.vocab(), &target, &answer.tokens);
        }
        Ok(self.stats(&target, evaluated, answer, started))
    }

    /// The prompt with the model's own tokens for its own answers.
    fn splice(&mut self, canonical: &[Token]) -> Vec<Token> {
        self.answers.splice(self.prompter.vocab(), canonical)
    }

    /// Where `target` is likely to be corrected, which is made of `canonical`, the tokens
    /// of `messages`: behind the last answer that was put in place, they are the same.
    fn borders(
        &self,
        messages: &[Message],
        next: Next,
        canonical: &[Token],
        target: &[Token],
    ) -> Vec<usize> {
        if !self.sequence.wants_borders() {
            return Vec::new();
        }
        let borders = borders(self.prompter, messages, next, canonical).into_iter();
        let behind = borders.map(|border| canonical.len() - border);
        behind
            .map(|behind| target.len().saturating_sub(behind))
            .collect()
    }

    /// Evaluates what of `target` is new, which is likely to be corrected at `borders`;
    /// the first `shared` tokens are a piece of their own, which is kept or evaluated as a
    /// whole.
    fn evaluate(
        &mut self,
        target: &[Token],
        shared: Option<usize>,
        borders: &[usize],
    ) -> Result<usize, DecodeError> {
        let outbox = &mut *self.outbox;
        let mut progress = |done, total| {
            outbox.send_sometimes(&Event::Prefill {
                done: count(done),
                total: count(total),
            });
        };
        let mut evaluated = 0;
        if let Some(shared) = shared.and_then(|shared| target.get(..shared)) {
            let held = self.sequence.tokens().starts_with(shared);
            self.sequence.rewind(if held { shared.len() } else { 0 });
            if self.sequence.tokens().len() != shared.len() {
                self.sequence.forget();
                let end = [shared.len()];
                evaluated = self.sequence.set(shared, &end, &mut progress)?;
            }
        }
        evaluated += self.sequence.set(target, borders, &mut progress)?;
        Ok(evaluated)
    }

    /// Evaluates what is known of the next turn, until anything else is asked. Returns
    /// how much of it is evaluated. What goes wrong will go wrong again in the turn, and
    /// be told there.
    ///
    /// A batch under way is finished: what was typed before is mostly still
    /// true after the next key, so its tokens are rarely lost work, and a small
    /// batch is soon done.
    fn draft(&mut self, messages: &[Message]) -> Option<usize> {
        if self.interrupt.is_superseded() {
            return None;
        }
        let prompt = self.prompter.prompt(messages, Next::Typing).ok()?;
        let target = self.splice(&prompt.tokens);
        // The last token may yet grow: what is typed next can join it.
        let (_, certain) = target.split_last()?;
        // It is only a guess: it must not cost the room of an answer.
        if certain.len() >= self.sequence.ctx_tokens() {
            return None;
        }
        let borders = self.borders(messages, Next::Typing, &prompt.tokens, &target);
        self.sequence.rewind_to_common(certain);
        while self.sequence.tokens().len() < certain.len() {
            let evaluated = self
                .sequence
                .advance(certain, &borders, DRAFT_BATCH_TOKENS, 0);
            if evaluated.is_err() || self.interrupt.is_superseded() {
                break;
            }
        }
        Some(self.sequence.tokens().len())
    }

    fn cancelled(&self, target: &[Token], started: Instant) -> TurnStats {
        TurnStats {
            stop: Stop::Cancelled,
            prompt_tokens: count(target.len()),
            evaluated_tokens: 0,
            prefill_ms: started.elapsed().as_secs_f64() * 1e3,
            generated_tokens: 0,
            decode_ms: 0.0,
            decode_calls: 0,
            guessed_tokens: 0,
            taken_tokens: 0,
            ctx_used_tokens: count(self.sequence.tokens().len()),
            tokens: Vec::new(),
        }
    }

    fn stats(
        &self,
        target: &[Token],
        evaluated: usize,
        answer: Answer,
        started: Instant,
    ) -> TurnStats {
        TurnStats {
            stop: answer.stop,
            prompt_tokens: count(target.len()),
            evaluated_tokens: count(evaluated),
            prefill_ms: (answer.first_token - started).as_secs_f64() * 1e3,
            generated_tokens: count(answer.tokens.len()),
            decode_ms: answer.first_token.elapsed().as_secs_f64() * 1e3,
            decode_calls: answer.decode_calls,
            guessed_tokens: answer.guesses.guessed,
            taken_tokens: answer.guesses.taken,
            ctx_used_tokens: count(self.sequence.tokens().len()),
            tokens: answer.tokens,
        }
    }
}

/// A token's text can be megabytes long: no event is.
fn say(outbox: &mut Outbox<impl Write>, kind: TextKind, text: &str) {
    for piece in text::pieces(text, TEXT_BYTES_MAX) {
        outbox.send(&Event::Text {
            kind,
            text: piece.to_owned(),
        });
    }
}
