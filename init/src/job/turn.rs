//! One turn without a terminal: a prompt in, the answer alone out, and a line
//! of JSON with its counts where that is wanted.

use std::io::{self, Write};
use std::time::Instant;

use serde::Serialize;
use serde_json::value::RawValue;
use texts::Document;

use super::kept::Kept;
use crate::host::{Host, warn};
use crate::peer::Peer;
use crate::session::{Evaluated, Reason, Session, Update, unseen_text};
use protocol::{Piece, Spoken, Stop, TextKind, TurnStats};

/// The answer had no end of its thinking.
const ONLY_THOUGHT: &str = "the model only thought and did not come to an answer";

/// The outcome of a turn. Field names are part of the interface: `--json`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Outcome {
    /// Whether there is an answer, whole or cut by `max_tokens`.
    pub answered: bool,
    /// In a batch, what the line was called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Box<RawValue>>,
    /// Why it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// What went wrong, one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The answer.
    pub text: String,
    /// What the model thought aloud before it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reasoning: String,
    /// Counts and times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
}

impl Outcome {
    /// No answer, for the reason given.
    pub(crate) fn failed(error: String) -> Self {
        Self::default().because(error)
    }

    /// The turn was answered, and is not in the session.
    pub(crate) fn not_kept(&mut self, why: &str) {
        self.answered = false;
        self.error = Some(format!("not kept: {why}"));
    }

    /// An answer of a batch.
    pub(crate) fn of(host: Host, spoken: Spoken, load_ms: u64) -> Self {
        let mut outcome = Self {
            text: spoken.text,
            reasoning: spoken.reasoning,
            ..Self::default()
        };
        outcome.end(host, spoken.stats, load_ms);
        outcome
    }

    fn because(mut self, error: String) -> Self {
        self.error = Some(error);
        self
    }

    fn end(&mut self, host: Host, stats: TurnStats, load_ms: u64) {
        let is_seen = !self.text.is_empty();
        self.answered = is_seen && matches!(stats.stop, Stop::EndOfTurn | Stop::MaxTokens);
        self.stop = Some(stats.stop);
        let why = match stats.stop {
            Stop::EndOfTurn | Stop::Cancelled if !is_seen && !self.reasoning.is_empty() => {
                Some(ONLY_THOUGHT)
            }
            Stop::EndOfTurn | Stop::Cancelled | Stop::MaxTokens if is_seen => None,
            stop => Some(unseen_text(stop)),
        };
        self.error = why.map(|why| host.words(why));
        self.timings = Some(Timings::new(stats, load_ms));
    }

    /// Writes it as one line of JSON.
    ///
    /// # Errors
    /// `to`'s.
    pub(crate) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        to.write_all(&line)?;
        to.flush()
    }
}

/// Counts and times of a turn, as `--json` gives them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Timings {
    /// From the engine's start to ready.
    pub load_ms: u64,
    /// Tokens of a conversation that goes on whose evaluation was kept.
    #[serde(skip_serializing_if = "is_none")]
    pub recalled_tokens: u32,
    /// From ready until they were in the context.
    #[serde(skip_serializing_if = "is_no_time")]
    pub recall_ms: f64,
    /// Tokens of the rendered prompt.
    pub prompt_tokens: u32,
    /// Of these, evaluated for this turn.
    pub evaluated_tokens: u32,
    /// Time for these.
    pub prefill_ms: f64,
    /// Tokens generated.
    pub generated_tokens: u32,
    /// Time for these after the first.
    pub decode_ms: f64,
    /// Rate of these.
    pub decode_tokens_per_s: f64,
    /// Passes through the model for these: fewer than tokens when some were
    /// guessed.
    pub decode_passes: u32,
    /// Token ids generated.
    pub tokens: Vec<i32>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_none(count: &u32) -> bool {
    *count == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_no_time(ms: &f64) -> bool {
    *ms == 0.0
}

impl Timings {
    fn new(stats: TurnStats, load_ms: u64) -> Self {
        let decode_tokens_per_s = stats.decode_tokens_per_s();
        Self {
            load_ms,
            recalled_tokens: 0,
            recall_ms: 0.0,
            prompt_tokens: stats.prompt_tokens,
            evaluated_tokens: stats.evaluated_tokens,
            prefill_ms: stats.prefill_ms,
            generated_tokens: stats.generated_tokens,
            decode_ms: stats.decode_ms,
            decode_tokens_per_s,
            decode_passes: stats.decode_calls,
            tokens: stats.tokens,
        }
    }
}

/// Asks `prompt`, after `documents`, and writes the answer to `out` as it comes, with a line feed
/// at its end. `kept` has what was evaluated of a conversation that goes on. Notices go to
/// standard error.
///
/// # Errors
/// `out`'s. Everything else is in the [`Outcome`].
pub(crate) fn run<P: Peer>(
    host: Host,
    session: &mut Session<P>,
    documents: &[Document],
    prompt: &str,
    out: &mut impl Write,
    mut kept: Option<&mut Kept>,
) -> io::Result<Outcome> {
    let mut outcome = Outcome::default();
    if prompt.trim().is_empty() {
        return Ok(outcome.because("the message is empty: nothing to answer".to_owned()));
    }
    session.ask(texts::compose(documents, prompt));
    let mut ready = Instant::now();
    let mut recalled = (0, 0.0);
    while let Some(update) = session.next() {
        match update {
            Update::Text(TextKind::Answer, text) => {
                out.write_all(text.as_bytes())?;
                out.flush()?;
                outcome.text.push_str(&text);
            }
            Update::Text(TextKind::Reasoning, text) => outcome.reasoning.push_str(&text),
            Update::Notice(line) => warn(&line),
            Update::Done(stats) => {
                if outcome.text.is_empty() {
                    // All that there is to show.
                    out.write_all(outcome.reasoning.as_bytes())?;
                }
                if !outcome.text.ends_with('\n') {
                    out.write_all(b"\n")?;
                    out.flush()?;
                }
                let load_ms = session.info().map_or(0, |info| info.load_ms);
                outcome.end(host, stats, load_ms);
                if let Some(timings) = &mut outcome.timings {
                    (timings.recalled_tokens, timings.recall_ms) = recalled;
                }
                return Ok(outcome);
            }
            Update::Refused {
                error,
                question: Some(_),
            } => return Ok(outcome.because(error)),
            Update::TakenBack { reason, .. } => {
                return Ok(outcome.because(match reason {
                    Reason::Cancelled => unseen_text(Stop::Cancelled).to_owned(),
                    Reason::NoEngine(why) | Reason::TooLong(why) | Reason::Failed(why) => why,
                }));
            }
            Update::BrokenOff => {
                let why = "the engine died in the middle of the answer; ask again [ZE-40]";
                return Ok(outcome.because(why.to_owned()));
            }
            Update::Ready => {
                ready = Instant::now();
                if let Some(kept) = &mut kept {
                    kept.name_contexts(session);
                }
            }
            Update::Evaluated(Evaluated::Wanted(key)) => {
                session.hand_piece(match &mut kept {
                    Some(kept) => kept.fetch(key),
                    None => Piece { key, bytes: None },
                });
            }
            Update::Evaluated(Evaluated::Recalled(tokens)) => {
                recalled = (tokens, ready.elapsed().as_secs_f64() * 1e3);
            }
            // The question is given back with the same reason.
            Update::Refused { question: None, .. }
            | Update::Progress(_)
            | Update::Prefill(..)
            | Update::Measured(_)
            | Update::Evaluated(_)
            | Update::Rendered { .. }
            | Update::Answered { .. }
            | Update::Counted(_)
            | Update::Sized(_)
            | Update::NotRendered(_) => {}
        }
    }
    // The session ends each question with one of the above.
    Ok(outcome.because("there is no engine to answer".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tests::stats;

    #[test]
    fn an_answer_that_shows_nothing_names_what_ended_it() {
        for (stop, reasoning, words) in [
            (Stop::EndOfTurn, "", "without saying anything"),
            (Stop::EndOfTurn, "Hm", "only thought"),
            (Stop::MaxTokens, "", "--max-tokens"),
            (Stop::MaxTokens, "Hm", "--max-tokens"),
            (Stop::ContextFull, "", "--ctx"),
            (Stop::ContextFull, "Hm", "--ctx"),
            (Stop::TooLong, "Hm", "[ZE-33]"),
            (Stop::Cancelled, "", "stopped"),
        ] {
            let spoken = Spoken {
                text: String::new(),
                reasoning: reasoning.to_owned(),
                stats: stats(stop),
            };
            let outcome = Outcome::of(Host::Command, spoken, 1);
            assert!(!outcome.answered);
            let error = outcome.error.unwrap();
            assert!(error.contains(words), "{stop:?} {reasoning:?}: {error}");
        }
    }
}
