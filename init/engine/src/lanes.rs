//! Answers side by side: a lane is one of the context's sequences and the answer that
//! is made in it. A pass takes the next token of each, so that the weights are read
//! once for all of them; a lane whose answer has ended takes the next question.
//!
//! An answer depends on its own conversation alone. Each sequence is attended to by
//! itself, columns of a pass are summed each like one alone, and a prompt is evaluated
//! in pieces that its own tokens set: first what all conversations with its system
//! prompt begin with, which stays in the lane or is copied to others, then the rest.

use std::time::Instant;

use super::beginning::Beginning;
use super::context::{Context, DecodeError, Step};
use super::grammar::Grammar;
use super::prompter::{Prompt, Prompter};
use super::sampler::Sampler;
use super::sequence::count;
use super::utterance::Utterance;
use super::vocab::Token;
use chat::Next;
use protocol::{Event, Order, PARALLEL_MAX, Spoken, Stop, TextKind, TurnError, TurnStats};

/// Copying a sequence takes about as long as evaluating one in so many of the tokens that
/// it has room for: a shorter beginning is evaluated again.
const COPY_PAYS: usize = 128;

// Of more, each would be summed in another order than one alone.
const _: () = assert!(PARALLEL_MAX as usize <= ggml::PASS_TOKENS);

/// Where events go.
pub(crate) type Tell<'a> = dyn FnMut(Event) + 'a;

/// All lanes of a context.
pub(crate) struct Lanes<'s, 'm> {
    prompter: &'s Prompter<'m>,
    all: Vec<Lane<'s, 'm>>,
    beginning: Beginning,
}

/// A sequence.
struct Lane<'s, 'm> {
    held: Vec<Token>,
    answer: Option<Answer<'s, 'm>>,
}

/// An answer under way.
struct Answer<'s, 'm> {
    id: u64,
    utterance: Utterance<'s, 'm>,
    /// Drawn, and not evaluated yet.
    next: Token,
    said: Said,
    started: Instant,
    prompt_tokens: usize,
    /// Of these, what other conversations begin with, too.
    shared_tokens: usize,
    evaluated_tokens: usize,
    passes: u32,
}

impl<'s, 'm> Lanes<'s, 'm> {
    /// As many as the context has `sequences`.
    pub(crate) fn new(prompter: &'s Prompter<'m>, sequences: usize) -> Self {
        let free = || Lane {
            held: Vec::new(),
            answer: None,
        };
        Self {
            prompter,
            all: (0..sequences).map(|_| free()).collect(),
            beginning: Beginning::default(),
        }
    }

    /// Whether no answer is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.all.iter().all(|lane| lane.answer.is_none())
    }

    /// Whether another answer can begin.
    pub(crate) fn has_room(&self) -> bool {
        self.all.iter().any(|lane| lane.answer.is_none())
    }

    /// The context holds nothing of theirs any more. Whether it held anything.
    pub(crate) fn forget(&mut self) -> bool {
        let held = self.all.iter().any(|lane| !lane.held.is_empty());
        for lane in &mut self.all {
            lane.held.clear();
        }
        held
    }

    /// Begins an answer, if there is room: its prompt is evaluated and its first token
    /// drawn. `tell` hears of one that has ended already.
    pub(crate) fn begin(&mut self, context: &mut Context<'m>, order: &Order, tell: &mut Tell<'_>) {
        let id = order.id;
        if let Err(error) = self.try_begin(context, order, tell) {
            let result = Err(error);
            tell(Event::Answered { id, result });
        }
    }

    fn try_begin(
        &mut self,
        context: &mut Context<'m>,
        order: &Order,
        tell: &mut Tell<'_>,
    ) -> Result<(), TurnError> {
        let started = Instant::now();
        let prompter = self.prompter;
        let Prompt { tokens, splitter } = prompter.prompt(&order.messages, Next::Answer)?;
        prompter.room().refuse_beyond(tokens.len(), true)?;
        let grammar = order.grammar.as_deref();
        let grammar = grammar.map(|source| Grammar::parse(prompter.vocab(), source));
        let grammar = grammar.transpose().map_err(TurnError::Grammar)?;
        let shared = self
            .beginning
            .shared(prompter, &order.messages, order.common_bytes, &tokens);
        let Some(at) = self.choose(context, tokens.get(..shared).unwrap_or_default()) else {
            let why = "more answers at once than there is room for";
            return Err(TurnError::Evaluation(why.to_owned()));
        };
        let sampler = Sampler::new(&order.sampling, &tokens);
        let (max_tokens, bytes_max) = (order.sampling.max_tokens, prompter.room().answer_bytes);
        let utterance = Utterance::new(prompter, splitter, sampler, grammar, max_tokens, bytes_max);
        let mut answer = Answer {
            id: order.id,
            utterance,
            next: 0,
            said: Said::default(),
            started,
            prompt_tokens: tokens.len(),
            shared_tokens: shared,
            evaluated_tokens: 0,
            passes: 0,
        };
        let Some(lane) = self.all.get_mut(at) else {
            return Ok(());
        };
        let kept = lane.held.len();
        let last = match lane.evaluate(context, at, &tokens, shared) {
            Ok(last) => last,
            Err(DecodeError::Interrupted) => {
                tell(answer.end(Stop::Cancelled, 0));
                lane.rewind(context, at, 0);
                return Ok(());
            }
            Err(e) => {
                lane.rewind(context, at, 0);
                return Err(TurnError::Evaluation(e.to_string()));
            }
        };
        answer.evaluated_tokens = tokens.len() - kept;
        lane.answer = Some(answer);
        lane.hear(context, at, last, tell);
        Ok(())
    }

    /// A free lane that holds `shared` or nothing.
    fn choose(&mut self, context: &mut Context<'m>, shared: &[Token]) -> Option<usize> {
        let free = |lane: &Lane<'_, '_>| lane.answer.is_none();
        let holds = |lane: &Lane<'_, '_>| lane.held.starts_with(shared);
        let ready = self.all.iter().position(|lane| free(lane) && holds(lane));
        let at = ready.or_else(|| self.all.iter().position(free))?;
        let from = self.all.iter().position(holds).filter(|from| *from != at);
        let lane = self.all.get_mut(at)?;
        match (ready, from) {
            (Some(_), _) => lane.rewind(context, at, shared.len()),
            (None, Some(from)) if shared.len() * COPY_PAYS > context.ctx_tokens() => {
                context.copy(from, at);
                lane.held = shared.to_vec();
                if !context.truncate(at, shared.len()) {
                    lane.rewind(context, at, 0);
                }
            }
            (None, _) => lane.rewind(context, at, 0),
        }
        Some(at)
    }

    /// Evaluates the next token of every answer, and draws another. `tell` hears of
    /// those that have ended.
    pub(crate) fn pass(&mut self, context: &mut Context<'m>, tell: &mut Tell<'_>) {
        let at_work = |lane: &Lane<'_, '_>| lane.answer.is_some();
        let first = self.all.iter().position(at_work).unwrap_or(0);
        let end = self.all.iter().rposition(at_work).map_or(0, |at| at + 1);
        // Sequences of one pass have no gap between them: a lane without an answer
        // takes part with a token of no meaning.
        let steps = self.all.iter().enumerate().take(end).skip(first);
        let steps = steps.map(|(sequence, lane)| Step {
            token: lane.answer.as_ref().map_or(0, |answer| answer.next),
            sequence,
            position: lane.held.len(),
            output: lane.answer.is_some(),
        });
        if let Err(e) = context.evaluate(steps) {
            return self.abandon(context, &e, tell);
        }
        let lanes = self.all.iter_mut().enumerate().take(end).skip(first);
        for (row, (at, lane)) in lanes.enumerate() {
            match &mut lane.answer {
                Some(answer) => {
                    answer.passes += 1;
                    lane.held.push(answer.next);
                    lane.hear(context, at, row, tell);
                }
                None => {
                    context.truncate(at, lane.held.len());
                }
            }
        }
    }

    /// Ends all answers, for the reason that evaluation gave.
    pub(crate) fn abandon(
        &mut self,
        context: &mut Context<'m>,
        error: &DecodeError,
        tell: &mut Tell<'_>,
    ) {
        context.clear();
        for lane in &mut self.all {
            if let Some(answer) = lane.answer.take() {
                tell(match error {
                    DecodeError::Interrupted => answer.end(Stop::Cancelled, lane.held.len()),
                    e => answer.fail(TurnError::Evaluation(e.to_string())),
                });
            }
            lane.held.clear();
        }
    }
}

impl<'m> Lane<'_, 'm> {
    /// Evaluates what of `tokens` is not held yet, the first `shared` of them apart.
    /// Returns which row the logits of the last are.
    fn evaluate(
        &mut self,
        context: &mut Context<'m>,
        sequence: usize,
        tokens: &[Token],
        shared: usize,
    ) -> Result<usize, DecodeError> {
        let mut last = 0;
        for end in [shared, tokens.len()] {
            while let Some(new) = tokens
                .get(self.held.len()..end)
                .filter(|new| !new.is_empty())
            {
                let batch = new.get(..context.batch_tokens()).unwrap_or(new);
                let outputs = usize::from(self.held.len() + batch.len() == tokens.len());
                context.decode(sequence, batch, self.held.len(), outputs)?;
                self.held.extend_from_slice(batch);
                last = batch.len() - 1;
            }
        }
        Ok(last)
    }

    /// Draws from the logits of `row`, and ends the answer if that ends it.
    fn hear(
        &mut self,
        context: &mut Context<'m>,
        sequence: usize,
        row: usize,
        tell: &mut Tell<'_>,
    ) {
        let Some(mut answer) = self.answer.take() else {
            return;
        };
        let room = self.held.len() < context.ctx_tokens();
        let shared = answer.shared_tokens;
        let said = &mut answer.said;
        let drawn = answer
            .utterance
            .draw(context.logits(row), room, &mut |kind, text| {
                said.push(kind, text);
            });
        tell(match drawn {
            Ok(Ok(token)) => {
                answer.next = token;
                self.answer = Some(answer);
                return;
            }
            Ok(Err(stop)) => answer.end(stop, self.held.len()),
            Err(error) => answer.fail(error),
        });
        self.rewind(context, sequence, shared);
    }

    /// Keeps the first `keep` tokens; memory that cannot rewind keeps none.
    fn rewind(&mut self, context: &mut Context<'m>, sequence: usize, keep: usize) {
        if keep >= self.held.len() {
            return;
        }
        if keep > 0 && context.truncate(sequence, keep) {
            self.held.truncate(keep);
            return;
        }
        context.truncate(sequence, 0);
        self.held.clear();
    }
}

impl Answer<'_, '_> {
    fn end(mut self, stop: Stop, ctx_used_tokens: usize) -> Event {
        let first_token = self.utterance.first_token().unwrap_or_else(Instant::now);
        let said = &mut self.said;
        let tokens = self
            .utterance
            .finish(&mut |kind, text| said.push(kind, text));
        let stats = TurnStats {
            stop,
            prompt_tokens: count(self.prompt_tokens),
            evaluated_tokens: count(self.evaluated_tokens),
            prefill_ms: (first_token - self.started).as_secs_f64() * 1e3,
            generated_tokens: count(tokens.len()),
            decode_ms: first_token.elapsed().as_secs_f64() * 1e3,
            decode_calls: self.passes,
            guessed_tokens: 0,
            taken_tokens: 0,
            ctx_used_tokens: count(ctx_used_tokens),
            tokens,
        };
        Event::Answered {
            id: self.id,
            result: Ok(Box::new(self.said.with(stats))),
        }
    }

    fn fail(self, error: TurnError) -> Event {
        Event::Answered {
            id: self.id,
            result: Err(error),
        }
    }
}

/// What an answer has said so far.
#[derive(Default)]
pub(crate) struct Said {
    text: String,
    reasoning: String,
}

impl Said {
    /// It goes on with `text`.
    pub(crate) fn push(&mut self, kind: TextKind, text: &str) {
        match kind {
            TextKind::Answer => self.text.push_str(text),
            TextKind::Reasoning => self.reasoning.push_str(text),
        }
    }

    /// The whole answer.
    pub(crate) fn with(self, stats: TurnStats) -> Spoken {
        Spoken {
            text: self.text,
            reasoning: self.reasoning,
            stats,
        }
    }
}
