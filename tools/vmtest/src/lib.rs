//! The test harness: boots the shipped image in QEMU through UEFI firmware, or
//! starts the plain command on a pseudo-terminal, and behaves like the user at
//! the terminal: types keys, waits for words, looks at the screen.
//!
//! A harness fails by panicking: every wait has a deadline, and what the
//! terminal showed until then is printed with the reason. Nothing in here knows
//! the guest from inside; faults come from outside too (a bad disk, a signal, a
//! debugger at QEMU's port), so that what is tested is what is shipped.

#![allow(
    clippy::missing_panics_doc,
    reason = "every function here panics when the guest is not as a test needs it"
)]

mod architecture;
mod board;
mod chat;
mod disks;
mod drive;
mod fail;
mod fault;
mod gdb;
mod gguf_file;
mod gpt_oss;
mod initramfs;
mod plain;
mod qmp;
mod shapes;
mod shipped;
mod spec;
mod terminal;
mod tiny_model;
mod turn;
mod vm;
mod words;

pub use architecture::Architecture;
pub use board::{Board, Processor};
pub use chat::{Chat, grammar_of};
pub use disks::Disks;
pub use drive::Drive;
pub use fail::{OrFail, wait_until};
pub use fault::Fault;
pub use gguf_file::{GgufFile, TensorEntry};
pub use gpt_oss::GptOss;
pub use initramfs::{Entry, empty_file, entries_in, packed_kernel};
pub use plain::{PlainCommand, Seat, expect_stopped, run_plain};
pub use shapes::Shape;
pub use shipped::{
    command, disk_tool, efi_file, model, native_executable, repository, static_executable,
};
pub use spec::VmSpec;
pub use terminal::{Attributes, COLS, Picture, ROWS, Terminal};
pub use tiny_model::{TINY_NAME, TinyModel};
pub use vm::{Exit, Vm};

use std::time::Duration;

/// From power-on to the prompt. A quiet machine needs three seconds.
pub const BOOT: Duration = Duration::from_secs(90);
/// From a model's first byte to its being ready.
pub const LOAD: Duration = Duration::from_secs(120);
/// A short answer. A quiet machine needs ten seconds under TCG.
pub const TURN: Duration = Duration::from_secs(480);
/// An answer of the plain command. A quiet machine needs a second.
pub const ANSWER: Duration = Duration::from_secs(90);
/// Whatever is answered at once.
pub const SOON: Duration = Duration::from_secs(30);

/// The system prompt of every test: the small model is near to many a tie, and
/// with this one it gives the same answers at every level of ggml-cpu. With the
/// one in its own template it answers in French, and without end.
pub const SYSTEM_PROMPT: &str = "You are a helpful AI assistant.";

/// What the status line says once the model can answer: its `general.name`.
pub const MODEL_NAME: &str = "Smollm2 135M";
