//! What PID 1 (or the plain command) and its engine have to say to each other:
//! parameters, and the messages over the two pipes. It knows no terminal, no
//! model and no system call.

#![forbid(unsafe_code)]

mod cmdline;
mod config;
mod frames;
pub mod memory;
mod message;
mod table;
mod workload;

pub use cmdline::{Invocation, Output, from_flags, from_kernel_command_line};
pub use config::{Config, LogLevel, Mode};
pub use frames::{
    Decoder, EngineParams, Event, KvType, Measured, ModelInfo, Progress, Request, Sampling, Stage,
    Stop, Switch, TextKind, TurnError, TurnStats, receive, send,
};
pub use message::{Message, Role};
pub use table::{PARAMS, Param, When, find, help_text, nearest, reference_page};
pub use workload::Workload;
