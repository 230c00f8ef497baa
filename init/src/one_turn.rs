//! One turn without a terminal: a prompt in, the answer alone out, and a line
//! of JSON with its counts where that is wanted.

use std::io::{self, Write};

use rustix::event::{PollFd, PollFlags, poll};
use serde::{Deserialize, Serialize};

use crate::session::{Session, Update};
use protocol::{Stop, TextKind, TurnStats};

/// The outcome of a turn. Field names are part of the interface: `--json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Outcome {
    /// Whether there is an answer, whole or cut by `max_tokens`.
    pub answered: bool,
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
        Self {
            error: Some(error),
            ..Self::default()
        }
    }
}

/// Counts and times of a turn, as `--json` gives them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Timings {
    /// From the engine's start to ready.
    pub load_ms: u64,
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

impl Timings {
    fn new(stats: TurnStats, load_ms: u64) -> Self {
        let decode_tokens_per_s = rate(stats.generated_tokens.saturating_sub(1), stats.decode_ms);
        Self {
            load_ms,
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

/// Tokens a second; 0 when there was no time to measure.
pub(crate) fn rate(tokens: u32, ms: f64) -> f64 {
    if ms > 0.0 {
        f64::from(tokens) * 1e3 / ms
    } else {
        0.0
    }
}

/// A line of a batch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchLine {
    /// The message.
    prompt: String,
    /// Instead of the configured system prompt.
    #[serde(default)]
    system: Option<String>,
    /// Instead of the configured longest answer.
    #[serde(default)]
    max_tokens: Option<u32>,
}

/// Asks `prompt` and writes the answer to `out` as it comes, with a line feed
/// at its end. Notices go to standard error.
///
/// # Errors
/// `out`'s. Everything else is in the [`Outcome`].
pub(crate) fn run(
    session: &mut Session,
    prompt: &str,
    out: &mut impl Write,
) -> io::Result<Outcome> {
    let mut outcome = Outcome::default();
    session.ask(prompt);
    loop {
        for update in session.updates() {
            match update {
                Update::Text(TextKind::Answer, text) => {
                    out.write_all(text.as_bytes())?;
                    out.flush()?;
                    outcome.text.push_str(&text);
                }
                Update::Text(TextKind::Reasoning, text) => outcome.reasoning.push_str(&text),
                Update::Notice(line) => warn(&line),
                Update::Done(stats) => {
                    if !outcome.text.ends_with('\n') {
                        out.write_all(b"\n")?;
                        out.flush()?;
                    }
                    let load_ms = session.info().map_or(0, |info| info.load_ms);
                    outcome.answered = matches!(stats.stop, Stop::EndOfTurn | Stop::MaxTokens);
                    outcome.stop = Some(stats.stop);
                    if stats.stop == Stop::ContextFull {
                        outcome.error = Some(
                            "the context is full before the answer ended; a larger zosia.ctx \
                             holds more"
                                .to_owned(),
                        );
                    }
                    outcome.timings = Some(Timings::new(stats, load_ms));
                    return Ok(outcome);
                }
                Update::Refused(error) | Update::TakenBack { error, .. } => {
                    outcome.error = Some(error);
                    return Ok(outcome);
                }
                Update::BrokenOff => {
                    outcome.error =
                        Some("the engine died in the middle of the answer; ask again".to_owned());
                    return Ok(outcome);
                }
                Update::Progress(_)
                | Update::Ready
                | Update::Prefill(..)
                | Update::Measured(_)
                | Update::Rendered { .. }
                | Update::Counted(_)
                | Update::NotRendered(_) => {}
            }
        }
        wait(session)?;
    }
}

/// Answers each line of `lines` in a conversation of its own and writes each
/// outcome to `results` as a line of JSON; a line that is no order gets an
/// outcome that says so. Returns whether all were answered.
///
/// # Errors
/// `results`'s.
pub(crate) fn run_batch(
    session: &mut Session,
    lines: &str,
    results: &mut impl Write,
) -> io::Result<bool> {
    let configured = session.config().clone();
    let mut all_answered = true;
    for (number, line) in lines
        .lines()
        .enumerate()
        .filter(|(_, l)| !l.trim().is_empty())
    {
        let outcome = match serde_json::from_str::<BatchLine>(line) {
            Ok(order) => {
                let config = session.config_mut();
                config.chat.system = order
                    .system
                    .unwrap_or_else(|| configured.chat.system.clone());
                config.sampling.max_tokens = order.max_tokens.or(configured.sampling.max_tokens);
                session.clear();
                run(session, &order.prompt, &mut io::sink())?
            }
            Err(e) => Outcome::failed(format!("line {}: {e}", number + 1)),
        };
        all_answered &= outcome.answered;
        write_outcome(results, &outcome)?;
    }
    Ok(all_answered)
}

/// Writes `outcome` as one line of JSON.
///
/// # Errors
/// `to`'s.
pub(crate) fn write_outcome(to: &mut impl Write, outcome: &Outcome) -> io::Result<()> {
    let mut line = serde_json::to_vec(outcome)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

/// Says something that is no part of the answer.
pub(crate) fn warn(line: &str) {
    // Standard error may be closed; there is nobody left to tell.
    let _ = writeln!(io::stderr(), "zosia: {line}");
}

/// Waits until the engine has something to tell.
///
/// # Errors
/// `poll`'s.
pub(crate) fn wait(session: &Session) -> io::Result<()> {
    let fds = session.poll_fds();
    let mut fds: Vec<PollFd<'_>> = fds
        .iter()
        .map(|fd| PollFd::new(fd, PollFlags::IN))
        .collect();
    if fds.is_empty() {
        return Ok(());
    }
    match poll(&mut fds, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
