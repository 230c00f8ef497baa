//! The messages between PID 1 (or the plain command) and its engine child. The
//! engine keeps no conversation: every turn carries the whole transcript, so an
//! engine that died is replaced by starting another.

use std::iter;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::memory::{Budget, mib};
use crate::message::Message;
use crate::pieces::{Piece, PieceInfo, PieceKey};

/// From the supervisor to the engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Check, read and load the model. Sent once, first; answered by
    /// [`Event::Progress`] … and [`Event::Ready`] or [`Event::Refused`].
    Load(Box<Load>),
    /// Answer the last message of `messages`. Answered by [`Event::Prefill`],
    /// [`Event::Text`] … and [`Event::TurnDone`] or [`Event::TurnFailed`].
    Turn {
        /// The transcript, oldest first; the last message is the user's.
        messages: Vec<Message>,
        /// How to draw tokens.
        sampling: Sampling,
        /// GBNF grammar that the answer must obey.
        grammar: Option<String>,
    },
    /// Answer the last message of `messages` beside others of which the same is asked:
    /// a line of a batch. Answered by [`Event::Answered`], in any order.
    Answer(Box<Order>),
    /// Evaluate what is already known of the next turn: `messages` as rendered
    /// up to the end of the last one's text. Answered by [`Event::Drafted`]; any
    /// later request ends it.
    Draft {
        /// The transcript; the last message is what has been typed so far.
        messages: Vec<Message>,
    },
    /// End the turn or the draft under way, within one token. Ignored when idle.
    Cancel,
    /// Render `messages` with the chat template and tokenize the text; answered
    /// by [`Event::Rendered`] or [`Event::NotRendered`].
    Render {
        /// The transcript to render.
        messages: Vec<Message>,
    },
    /// Count the tokens of every beginning of `messages` that ends with one of
    /// the user or the model; answered by [`Event::Counted`] or
    /// [`Event::NotRendered`].
    Count {
        /// The transcript to count.
        messages: Vec<Message>,
    },
    /// Evaluate and generate that many tokens of no meaning, each in a context
    /// of `depth_tokens` and without speculation; answered by [`Event::Measured`] or
    /// [`Event::TurnFailed`].
    Measure {
        /// Tokens evaluated in batches.
        prefill_tokens: u32,
        /// Tokens generated one by one.
        decode_tokens: u32,
        /// Tokens that the context holds before.
        depth_tokens: u32,
        /// How they are drawn.
        sampling: Sampling,
    },
    /// Tell which pieces there are of what is evaluated of `messages`; answered by
    /// [`Event::Pieces`].
    ListPieces {
        /// The transcript.
        messages: Vec<Message>,
    },
    /// Give a piece of the latest list; answered by [`Event::Piece`].
    GivePiece(PieceKey),
    /// Take back what there is in pieces of `messages`, so that the next turn need not
    /// evaluate it. Answered by [`Event::Wanted`] … and [`Event::Recalled`]. A turn or a
    /// draft that goes on from `messages` waits for it, anything else ends it.
    Recall {
        /// The transcript.
        messages: Vec<Message>,
    },
    /// The answer to [`Event::Wanted`]. Passed over where it was not asked for.
    Piece(Piece),
    /// Size the last of `messages`, and see whether a turn of all would be taken;
    /// answered by [`Event::Sized`].
    Size {
        /// The transcript; the last message is to be asked.
        messages: Vec<Message>,
    },
}

/// From the engine to the supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// How far loading is; at most ten a second.
    Progress(Progress),
    /// The model can be talked to.
    Ready(Box<ModelInfo>),
    /// The model cannot be used. One or two lines: what is wrong, where, what
    /// to do. The engine ends after it.
    Refused {
        /// The line to show.
        error: String,
    },
    /// Something the user should know, one line, no remedy needed.
    Notice(String),
    /// How many of the turn's new tokens have been evaluated.
    Prefill {
        /// Tokens evaluated so far.
        done: u32,
        /// Tokens to evaluate.
        total: u32,
    },
    /// The next piece of the answer: whole UTF-8 characters.
    Text {
        /// What the piece is part of.
        kind: TextKind,
        /// The piece, never empty.
        text: String,
    },
    /// The turn ended, for `stats.stop`'s reason.
    TurnDone(TurnStats),
    /// The turn could not be made or finished. The engine is as it was before.
    TurnFailed(TurnError),
    /// What has become of a [`Request::Answer`].
    Answered {
        /// Which, as [`Order::id`] has it.
        id: u64,
        /// The answer, or why there is none.
        result: Result<Box<Spoken>, TurnError>,
    },
    /// The transcript as the model sees it.
    Rendered {
        /// The rendered text.
        text: String,
        /// Its tokens.
        tokens: Vec<i32>,
    },
    /// For each message of [`Request::Count`], the system prompt left out, the
    /// tokens of the transcript up to its end.
    Counted(Vec<u32>),
    /// What [`Request::Render`] or [`Request::Count`] asked for cannot be had.
    NotRendered(TurnError),
    /// [`Request::Draft`] has been evaluated, or was ended.
    Drafted {
        /// Tokens of the next prompt that are evaluated.
        tokens: u32,
    },
    /// What [`Request::Measure`] cost.
    Measured(Measured),
    /// In the order in which they are worth keeping: each needs those before it.
    Pieces(Vec<PieceInfo>),
    /// What [`Request::GivePiece`] asked for.
    Piece(Piece),
    /// A piece is wanted back: [`Request::Piece`].
    Wanted(PieceKey),
    /// [`Request::Recall`] has ended.
    Recalled {
        /// Tokens of the conversation that are in the context now.
        tokens: u32,
    },
    /// Work goes on that there is nothing to say of yet: once a second at most.
    Working,
    /// What [`Request::Size`] asked for.
    Sized(Size),
}

/// How large a message is that has not been asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Tokens of its text by itself; `None`: more than the context holds, uncounted.
    pub message_tokens: Option<u32>,
    /// Why a turn with it would be refused, if it would.
    pub refused: Option<TurnError>,
}

/// A conversation to be answered beside others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// Names it in [`Event::Answered`].
    pub id: u64,
    /// The transcript, oldest first; the last message is the user's.
    pub messages: Vec<Message>,
    /// Bytes that the last message of all others begins with, too.
    pub common_bytes: usize,
    /// How to draw tokens.
    pub sampling: Sampling,
    /// GBNF grammar that the answer must obey.
    pub grammar: Option<String>,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spoken {
    /// The answer itself.
    pub text: String,
    /// What the model thought aloud before it.
    pub reasoning: String,
    /// Counts and times.
    pub stats: TurnStats,
}

/// The cost of [`Request::Measure`], on the engine's monotonic clock. Under an
/// emulator that counts instructions as time, one nanosecond is one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// For all tokens of the prefill.
    pub prefill_ns: u64,
    /// For all tokens generated, drawing included.
    pub decode_ns: u64,
    /// Of these, for drawing.
    pub sample_ns: u64,
    /// Pages that were faulted in while generating.
    pub decode_page_faults: u64,
}

/// What the engine loads, and the memory it may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// A GGUF file, or a device or partition that begins with one.
    pub path: PathBuf,
    /// Its length in bytes; a device may be longer than the model on it.
    pub bytes: u64,
    /// Of a model in several parts, the others in their order.
    pub rest: Vec<PartFile>,
    /// Expected SHA-256 of the model's file, hexadecimal; of each part's, commas between.
    pub sha256: Option<String>,
    /// The model that guesses ahead, if one is asked for: its files in their order, or why
    /// there is none.
    pub draft: Option<Result<Vec<PartFile>, String>>,
    /// How to run it.
    pub params: EngineParams,
    /// What the engine may take.
    pub budget: Budget,
}

impl Load {
    /// All files of the model in their order, each with its length in bytes.
    pub fn files(&self) -> impl Iterator<Item = (&Path, u64)> {
        let rest = self
            .rest
            .iter()
            .map(|part| (part.path.as_path(), part.bytes));
        iter::once((self.path.as_path(), self.bytes)).chain(rest)
    }

    /// All files of the model that guesses ahead; none if there is none.
    #[must_use]
    pub fn draft_files(&self) -> &[PartFile] {
        match &self.draft {
            Some(Ok(files)) => files,
            Some(Err(_)) | None => &[],
        }
    }
}

/// A model's file, or one of its parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartFile {
    /// A file, a device or a partition.
    pub path: PathBuf,
    /// Its length in bytes; a device may be longer than the part on it.
    pub bytes: u64,
}

/// The longest context that can be asked for, tokens.
pub const CTX_TOKENS_MAX: u32 = 4_194_304;

/// The most conversations side by side: the kernels take as many columns of a pass.
pub const PARALLEL_MAX: u32 = 8;

/// How the engine runs its model: the same for the engine's whole life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineParams {
    /// Threads for decoding; `None`: what gives the most.
    pub threads: Option<u32>,
    /// Threads for prefill; `None`: as `threads`.
    pub batch_threads: Option<u32>,
    /// How eagerly idle workers poll, 0 (sleep) to 100.
    pub poll: u32,
    /// Context length in tokens; `None`: 4096 or what the model was trained
    /// for, whichever is less.
    pub ctx_tokens: Option<u32>,
    /// Conversations of a batch that are answered side by side; `None`: as many as
    /// memory allows and pays.
    pub parallel: Option<u32>,
    /// Type of the KV cache.
    pub kv: KvType,
    /// Whether weights are copied into the layout the kernels like best.
    pub repack: Switch,
    /// Whether tokens may be guessed ahead.
    pub speculate: Switch,
    /// ggml-cpu level by name (`v82`); `None`: the best the processor runs.
    pub cpu: Option<String>,
    /// How much is told; with [`LogLevel::Debug`] llama.cpp's own log goes to
    /// standard error too.
    pub log: LogLevel,
}

impl Default for EngineParams {
    fn default() -> Self {
        Self {
            threads: None,
            batch_threads: None,
            poll: 50,
            ctx_tokens: None,
            parallel: None,
            kv: KvType::F16,
            repack: Switch::Auto,
            speculate: Switch::Auto,
            cpu: None,
            log: LogLevel::Warn,
        }
    }
}

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LogLevel {
    /// What went wrong.
    Error,
    /// What was odd.
    Warn,
    /// What was done.
    Info,
    /// The kernel's and llama.cpp's messages too.
    Debug,
}

/// The element type of the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KvType {
    /// 16-bit floats.
    F16,
    /// 8.5 bits a value; about half the memory.
    Q8_0,
}

/// On, off, or decided by the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Switch {
    /// The engine decides by measurement or by the memory there is.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// How the next token is drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Temperature; 0 is greedy.
    pub temp: f32,
    /// Nucleus: 1 is off.
    pub top_p: f32,
    /// The k most probable; 0 is off.
    pub top_k: u32,
    /// Least probability, relative to the most probable; 0 is off.
    pub min_p: f32,
    /// Penalty on the last 64 tokens; 1 is off.
    pub repeat_penalty: f32,
    /// Seed; `None`: from the system's random source.
    pub seed: Option<u32>,
    /// Longest answer in tokens; `None`: as long as the context holds.
    pub max_tokens: Option<u32>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temp: 0.7,
            top_p: 0.95,
            top_k: 40,
            min_p: 0.05,
            repeat_penalty: 1.0,
            seed: None,
            max_tokens: None,
        }
    }
}

/// What loading is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Reading the file into memory.
    Reading,
    /// llama.cpp builds its model (and repacks weights).
    Preparing,
}

/// A step of loading.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Bytes done.
    pub done_bytes: u64,
    /// Bytes to do.
    pub total_bytes: u64,
    /// Current rate.
    pub bytes_per_s: u64,
}

/// A loaded model and how it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// `general.name`, else the file's name.
    pub name: String,
    /// `general.architecture`.
    pub arch: String,
    /// llama.cpp's description: `phi3 3B Q4_K - Medium`.
    pub description: String,
    /// The same of the model that guesses ahead, if there is one.
    pub draft: Option<String>,
    /// Bytes of the model's file.
    pub file_bytes: u64,
    /// Number of weights.
    pub parameters: u64,
    /// Context length in use, tokens.
    pub ctx_tokens: u32,
    /// Context length the model was trained for, tokens.
    pub ctx_train_tokens: u32,
    /// Conversations that are answered side by side, each in a context of its own.
    pub parallel: u32,
    /// Bytes of the KV cache, of all of them.
    pub kv_bytes: u64,
    /// Bytes of states to go back to, at most; `None`: a context can be cut anywhere.
    pub checkpoint_bytes: Option<u64>,
    /// Whether what is evaluated can be kept by a session.
    pub is_kept: bool,
    /// ggml-cpu level in use.
    pub cpu: String,
    /// Weights repacked.
    pub repacked: bool,
    /// Threads for decoding.
    pub threads: u32,
    /// Threads for prefill.
    pub batch_threads: u32,
    /// Where the chat template came from: [`ModelInfo::OWN_TEMPLATE`], or what is used
    /// instead and why.
    pub template: String,
    /// From exec to ready.
    pub load_ms: u64,
    /// Anonymous memory of the engine, bytes. Its parent looks.
    pub anonymous_bytes: u64,
    /// What the engine could not give up, in one line; `None` in the machine.
    pub unconfined: Option<String>,
    /// How long the machine had run when the kernel's clock began, if known.
    pub before_kernel_ms: Option<u64>,
}

impl ModelInfo {
    /// The [`ModelInfo::template`] of a model that is spoken to with its own.
    pub const OWN_TEMPLATE: &str = "the model";

    /// A line that tells which template is used in the place of the model's own.
    #[must_use]
    pub fn other_template(&self) -> Option<String> {
        let told = || format!("the chat template is {}", self.template);
        (self.template != Self::OWN_TEMPLATE).then(told)
    }
}

/// What a piece of text is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TextKind {
    /// The model thinks aloud.
    Reasoning,
    /// The answer itself.
    Answer,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// The model said that it is done.
    EndOfTurn,
    /// [`Request::Cancel`].
    Cancelled,
    /// [`Sampling::max_tokens`].
    MaxTokens,
    /// The context holds no further token.
    ContextFull,
    /// The answer was longer than this machine keeps of one.
    TooLong,
}

/// Counts and times of one turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnStats {
    /// Why the answer ended.
    pub stop: Stop,
    /// Tokens of the rendered prompt.
    pub prompt_tokens: u32,
    /// Of these, tokens that had to be evaluated.
    pub evaluated_tokens: u32,
    /// Time for these, and with it to the first token.
    pub prefill_ms: f64,
    /// Tokens generated.
    pub generated_tokens: u32,
    /// Time for these after the first.
    pub decode_ms: f64,
    /// Calls of `llama_decode` while generating.
    pub decode_calls: u32,
    /// Tokens that the model that guesses ahead has guessed.
    pub guessed_tokens: u32,
    /// Of these, tokens that were drawn.
    pub taken_tokens: u32,
    /// Tokens in the context now.
    pub ctx_used_tokens: u32,
    /// Token ids generated, for tests and `/stats`.
    pub tokens: Vec<i32>,
}

impl TurnStats {
    /// Tokens of the prompt evaluated in a second.
    #[must_use]
    pub fn prefill_tokens_per_s(&self) -> f64 {
        rate(self.evaluated_tokens, self.prefill_ms)
    }

    /// Tokens generated in a second: the time of the first is the prompt's.
    #[must_use]
    pub fn decode_tokens_per_s(&self) -> f64 {
        rate(self.generated_tokens.saturating_sub(1), self.decode_ms)
    }
}

/// A count in a second; 0 when there was no time to measure.
fn rate(count: u32, ms: f64) -> f64 {
    if ms > 0.0 {
        f64::from(count) * 1e3 / ms
    } else {
        0.0
    }
}

/// Why a turn was not made or finished.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum TurnError {
    /// The rendered prompt leaves no room for an answer.
    #[error(
        "the conversation needs {}{need_tokens} tokens and the context holds {ctx_tokens}; {} [ZE-32]",
        if *.counted { "" } else { "more than " },
        larger_context(*.need_tokens, *.ctx_max_tokens, *.counted)
    )]
    ContextFull {
        /// Tokens of the rendered prompt, and one for the answer.
        need_tokens: u32,
        /// They were counted; else the text is so long that it takes as many with
        /// the longest token there is.
        counted: bool,
        /// Tokens the context holds.
        ctx_tokens: u32,
        /// The most that a context can be given with this model in this memory.
        ctx_max_tokens: u32,
    },
    /// The conversation, or what was made of it, is larger than this machine holds.
    #[error(
        "the conversation takes {} MiB and this machine holds {} MiB of it; shorten it, or give \
         the machine more memory (run.sh --mem) [ZE-33]",
        mib(*bytes),
        limit >> 20
    )]
    TooLong {
        /// What it takes.
        bytes: u64,
        /// The most.
        limit: u64,
    },
    /// The chat template failed.
    #[error("the model's chat template failed: {0} [ZE-16]")]
    Template(String),
    /// The grammar cannot be parsed.
    #[error("the grammar is not valid GBNF: {0} [ZE-17]")]
    Grammar(String),
    /// llama.cpp returned an error.
    #[error("evaluation failed: {0} [ZE-18]")]
    Evaluation(String),
}

/// How a context that holds `need_tokens` is had, if it can be.
fn larger_context(need_tokens: u32, ctx_max_tokens: u32, counted: bool) -> String {
    let ctx_tokens = need_tokens
        .checked_next_power_of_two()
        .unwrap_or(u32::MAX)
        .min(ctx_max_tokens);
    if counted && ctx_tokens >= need_tokens {
        format!("zosia.ctx={ctx_tokens} makes it larger")
    } else {
        format!("shorten it: {ctx_max_tokens} are the most for this model in this memory")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_context_that_can_be_had_is_suggested() {
        let told = |need_tokens, ctx_max_tokens, counted| {
            let full = TurnError::ContextFull {
                need_tokens,
                counted,
                ctx_tokens: 4096,
                ctx_max_tokens,
            };
            let text = full.to_string();
            let remedy = text.split_once("; ").unwrap().1;
            remedy.strip_suffix(" [ZE-32]").unwrap().to_owned()
        };
        assert_eq!(told(5000, 32_768, true), "zosia.ctx=8192 makes it larger");
        assert_eq!(told(7000, 7500, true), "zosia.ctx=7500 makes it larger");
        let most = crate::CTX_TOKENS_MAX;
        let shorten = "shorten it: 4194304 are the most for this model in this memory";
        assert_eq!(told(9_000_000, most, true), shorten);
        assert_eq!(told(u32::MAX, most, true), shorten);
        assert_eq!(told(5000, most, false), shorten);
    }
}
