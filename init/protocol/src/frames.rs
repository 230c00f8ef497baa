//! The messages between PID 1 (or the plain command) and its engine child, and
//! their framing: a little-endian `u32` of length, then that many bytes of
//! postcard. The engine keeps no conversation: every turn carries the whole
//! transcript, so an engine that died is replaced by starting another.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::message::Message;

/// No message is longer: 1 MiB pasted into a long conversation fits many times.
const FRAME_BYTES_MAX: u32 = 256 << 20;

/// From the supervisor to the engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Check, read and load the model. Sent once, first; answered by
    /// [`Event::Progress`] … and [`Event::Ready`] or [`Event::Refused`].
    Load(EngineParams),
    /// Answer the last message of `messages`. Answered by [`Event::Prefill`],
    /// [`Event::Text`] … and [`Event::TurnDone`] or [`Event::TurnFailed`].
    Turn {
        /// The transcript, oldest first; the last message is the user's.
        messages: Vec<Message>,
        /// How to draw tokens.
        sampling: Sampling,
    },
    /// Evaluate what is already known of the next turn: `messages` as rendered
    /// up to the end of the last one's text. Answered by nothing; any later
    /// request ends it.
    Draft {
        /// The transcript; the last message is what has been typed so far.
        messages: Vec<Message>,
    },
    /// End the turn or the draft under way, within one token. Ignored when idle.
    Cancel,
    /// Render `messages` with the chat template and tokenize the text; answered
    /// by [`Event::Rendered`] or [`Event::TurnFailed`].
    Render {
        /// The transcript to render.
        messages: Vec<Message>,
    },
    /// Evaluate and generate that many tokens of no meaning, each in an empty
    /// context and without speculation; answered by [`Event::Measured`] or
    /// [`Event::TurnFailed`].
    Measure {
        /// Tokens evaluated in batches.
        prefill_tokens: u32,
        /// Tokens generated one by one.
        decode_tokens: u32,
        /// How they are drawn.
        sampling: Sampling,
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
    /// The transcript as the model sees it.
    Rendered {
        /// The rendered text.
        text: String,
        /// Its tokens.
        tokens: Vec<i32>,
    },
    /// What [`Request::Measure`] cost.
    Measured(Measured),
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

/// What the engine needs before it can load: the same for the engine's whole life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EngineParams {
    /// A GGUF file, or a device or partition that begins with one.
    pub path: PathBuf,
    /// Its length in bytes; a device may be longer than the model on it.
    pub bytes: u64,
    /// Expected SHA-256 of the model's file, hexadecimal.
    pub sha256: Option<String>,
    /// Threads for decoding; `None`: every processor.
    pub threads: Option<u32>,
    /// Threads for prefill; `None`: as `threads`.
    pub batch_threads: Option<u32>,
    /// How eagerly idle workers poll, 0 (sleep) to 100.
    pub poll: u32,
    /// Context length in tokens; `None`: 4096 or what the model was trained
    /// for, whichever is less.
    pub ctx_tokens: Option<u32>,
    /// Type of the KV cache.
    pub kv: KvType,
    /// Whether weights are copied into the layout the kernels like best.
    pub repack: Switch,
    /// Whether n-gram speculation may be used.
    pub speculate: Switch,
    /// ggml-cpu level by name (`v82`); `None`: the best the processor runs.
    pub cpu: Option<String>,
    /// llama.cpp's own log goes to standard error too.
    pub log_engine: bool,
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
    /// GBNF grammar that the answer must obey.
    pub grammar: Option<String>,
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
    /// Rate of late.
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
    /// Bytes of the model's file.
    pub file_bytes: u64,
    /// Number of weights.
    pub parameters: u64,
    /// Context length in use, tokens.
    pub ctx_tokens: u32,
    /// Context length the model was trained for, tokens.
    pub ctx_train_tokens: u32,
    /// Bytes of the KV cache.
    pub kv_bytes: u64,
    /// ggml-cpu level in use.
    pub cpu: String,
    /// Weights repacked.
    pub repacked: bool,
    /// Threads for decoding.
    pub threads: u32,
    /// Threads for prefill.
    pub batch_threads: u32,
    /// Where the chat template came from: "the model", or what is used instead.
    pub template: String,
    /// From exec to ready.
    pub load_ms: u64,
    /// Peak anonymous memory so far, bytes.
    pub anonymous_bytes: u64,
    /// How long the machine had run when the kernel's clock began, if known.
    pub before_kernel_ms: Option<u64>,
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
    /// Tokens in the context now.
    pub ctx_used_tokens: u32,
    /// Token ids generated, for tests and `/stats`.
    pub tokens: Vec<i32>,
}

/// Why a turn was not made or finished.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum TurnError {
    /// The rendered prompt leaves no room for an answer.
    #[error(
        "the conversation needs {need_tokens} tokens and the context holds {ctx_tokens}; \
         zosia.ctx={} makes it larger",
        need_tokens.next_power_of_two()
    )]
    ContextFull {
        /// Tokens of the rendered prompt, and one for the answer.
        need_tokens: u32,
        /// Tokens the context holds.
        ctx_tokens: u32,
    },
    /// The chat template failed.
    #[error("the model's chat template failed: {0}")]
    Template(String),
    /// The grammar cannot be parsed.
    #[error("the grammar is not valid GBNF: {0}")]
    Grammar(String),
    /// llama.cpp returned an error.
    #[error("evaluation failed: {0}")]
    Evaluation(String),
}

/// Writes one message and flushes.
///
/// # Errors
/// The pipe's; `BrokenPipe` when the other side is gone.
pub fn send<T: Serialize>(to: &mut impl Write, message: &T) -> io::Result<()> {
    let body = postcard::to_allocvec(message).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(body.len() + 4);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&body);
    to.write_all(&frame)?;
    to.flush()
}

/// Reads one message, blocking.
///
/// # Errors
/// The pipe's; `UnexpectedEof` when the other side is gone; `InvalidData` for
/// bytes that are no message.
pub fn receive<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = checked_length(length)?;
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    decode(&body)
}

/// Cuts messages out of bytes as they arrive from a pipe that must not block.
#[derive(Debug, Default)]
pub struct Decoder {
    pending: Vec<u8>,
    start: usize,
}

impl Decoder {
    /// Takes bytes as they came.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.pending.drain(..self.start);
            self.start = 0;
        }
        self.pending.extend_from_slice(bytes);
    }

    /// The next whole message, if there is one.
    ///
    /// # Errors
    /// `InvalidData` for bytes that are no message.
    pub fn next_message<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let bytes = self.pending.get(self.start..).unwrap_or_default();
        let Some((head, rest)) = bytes.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = checked_length(*head)?;
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let message = decode(body)?;
        self.start += 4 + length;
        Ok(Some(message))
    }
}

fn checked_length(head: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_le_bytes(head);
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a message of {length} bytes"),
        ));
    }
    usize::try_from(length).map_err(io::Error::other)
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    postcard::from_bytes(body).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Role;

    #[test]
    fn messages_survive_any_splitting_of_the_bytes() {
        let sent = [
            Request::Cancel,
            Request::Render {
                messages: vec![Message::new(Role::User, "żółć 👋🏽")],
            },
            Request::Cancel,
        ];
        let mut wire = Vec::new();
        for message in &sent {
            send(&mut wire, message).unwrap();
        }
        for chunk in 1..wire.len() {
            let mut decoder = Decoder::default();
            let mut got: Vec<Request> = Vec::new();
            for bytes in wire.chunks(chunk) {
                decoder.push(bytes);
                while let Some(message) = decoder.next_message().unwrap() {
                    got.push(message);
                }
            }
            assert_eq!(got, sent, "chunks of {chunk}");
        }
    }

    #[test]
    fn a_hostile_length_is_an_error_and_not_an_allocation() {
        let mut decoder = Decoder::default();
        decoder.push(&[0xff; 8]);
        assert!(decoder.next_message::<Event>().is_err());
        assert!(receive::<Event>(&mut &[0xff; 8][..]).is_err());
    }
}
