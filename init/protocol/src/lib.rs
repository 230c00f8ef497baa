//! What PID 1 (or the plain command) and its engine have to say to each other:
//! parameters, and the messages over the two pipes. It knows no terminal, no
//! model and no system call.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

mod cmdline;
mod config;
mod frames;
mod help;
pub mod memory;
mod message;
mod pieces;
mod pipe;
mod table;
mod value;
mod workload;

pub use cmdline::{
    Batch, DISK_MAGIC, Invocation, Output, from_disk, from_flags, from_kernel_command_line,
};
pub use config::{ChatParams, Config, Mode, ScreenParams, Start};
pub use frames::{
    CTX_TOKENS_MAX, EngineParams, Event, KvType, Load, LogLevel, Measured, ModelInfo, Order,
    PARALLEL_MAX, PartFile, Progress, Request, Sampling, Size, Spoken, Stage, Stop, Switch,
    TextKind, TurnError, TurnStats,
};
pub use help::{help_text, reference_page};
pub use message::{Message, Role};
pub use pieces::{Piece, PieceInfo, PieceKey};
pub use pipe::{Decoder, TooLong, encode, receive, send};
pub use table::{Change, PARAMS, Param, When, find, nearest};
pub use workload::Workload;
