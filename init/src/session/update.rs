//! What a session tells its faces.

use super::Evaluated;
use crate::host::Host;
use protocol::{Measured, Progress, Size, Spoken, Stop, TextKind, TurnError, TurnStats};

/// What the face should show.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Update {
    /// Loading goes on.
    Progress(Progress),
    /// The model can answer.
    Ready,
    /// No answers until another model, or other parameters, are chosen.
    Refused {
        /// Why, and what to do.
        error: String,
        /// The question that waited; it is not in the transcript any more.
        question: Option<String>,
    },
    /// One line to know.
    Notice(String),
    /// The prompt's new tokens are being evaluated: so many of so many.
    Prefill(u32, u32),
    /// A piece of the answer.
    Text(TextKind, String),
    /// The answer is whole, and in the transcript.
    Done(TurnStats),
    /// The answer ended because the engine died; what was said is kept.
    BrokenOff,
    /// The question is not answered.
    TakenBack {
        /// Why.
        reason: Reason,
        /// What the user had said, which is out of the transcript; `None`: the answer that
        /// it had is in there again.
        question: Option<String>,
    },
    /// The tokens of the conversation up to the end of each message.
    Counted(Vec<u32>),
    /// What [`Session::size`] and [`Session::size_next`] asked for.
    Sized(Size),
    /// The transcript could not be rendered, for the reason given.
    NotRendered(String),
    /// The transcript as the model sees it.
    Rendered {
        /// Text.
        text: String,
        /// Token ids.
        tokens: Vec<i32>,
    },
    /// What has become of an order.
    Answered {
        /// Which.
        id: u64,
        /// The answer, or why there is none.
        result: Result<Box<Spoken>, TurnError>,
    },
    /// What [`Session::measure`] asked for.
    Measured(Measured),
    /// Of what is evaluated, given away and taken back.
    Evaluated(Evaluated),
}

impl Update {
    /// The same, naming parameters as they are given at `host`.
    pub(super) fn in_words_of(mut self, host: Host) -> Self {
        match &mut self {
            Self::Notice(text)
            | Self::NotRendered(text)
            | Self::Refused { error: text, .. }
            | Self::TakenBack {
                reason: Reason::NoEngine(text) | Reason::TooLong(text) | Reason::Failed(text),
                ..
            } => *text = host.words(text),
            _ => {}
        }
        self
    }
}

/// Why a question was taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The user stopped it before a word was said.
    Cancelled,
    /// There is no engine to ask, for the reason given.
    NoEngine(String),
    /// It would fit if the conversation were shorter.
    TooLong(String),
    /// The turn failed.
    Failed(String),
}

/// What a session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No model was chosen.
    Idle,
    /// A model is being loaded.
    Loading,
    /// It waits for a question.
    Ready,
    /// It answers.
    Answering,
    /// The model was refused, or its engine died too often.
    Gone,
}

/// Why there is nothing of an answer to be seen that ended for this reason, in one line.
pub(crate) fn unseen_text(stop: Stop) -> &'static str {
    match stop {
        Stop::EndOfTurn => {
            "the model ended its answer without saying anything; rephrase the message"
        }
        Stop::Cancelled => "the answer was stopped before it began",
        Stop::MaxTokens => {
            "the answer was cut at max_tokens before anything of it could be seen; a larger \
             zosia.max_tokens holds more"
        }
        Stop::ContextFull => CONTEXT_FULL,
        Stop::TooLong => TOO_LONG,
    }
}

/// [`Stop::ContextFull`] and [`Stop::TooLong`], as an error.
pub(crate) const CONTEXT_FULL: &str =
    "the context is full before the answer ended; a larger zosia.ctx holds more [ZE-32]";
pub(crate) const TOO_LONG: &str = "the answer was cut: it is longer than this machine keeps of \
     one; more memory (run.sh --mem) keeps more [ZE-33]";

/// Why an answer ended, in words for the user; `None` if it just ended.
pub(crate) fn stop_text(stop: Stop) -> Option<&'static str> {
    match stop {
        Stop::EndOfTurn => None,
        Stop::Cancelled => Some("stopped"),
        Stop::MaxTokens => Some("cut at max_tokens"),
        Stop::ContextFull => Some("cut: the context is full"),
        Stop::TooLong => Some("cut: longer than this machine keeps"),
    }
}
