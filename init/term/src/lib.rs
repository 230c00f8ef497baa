//! The terminal: keys, the line editor, painting, Markdown. No threads and no
//! waiting: the caller polls the terminal, reads, and feeds what it read.
//! Everything but [`tty`] is pure: bytes and state in, bytes and actions out.
//!
//! | module | concern |
//! |---|---|
//! | [`tty`] | owns the terminal: raw mode, reads, writes, restore |
//! | [`keys`] | bytes to keys; bracketed paste |
//! | [`editor`], [`history`] | (state, key) to edit |
//! | [`width`], [`layout`], [`frame`] | clusters to cells, texts to rows |
//! | [`screen`] | rows over rows, in few bytes |
//! | [`edit_line`] | these together: [`Prompt`] |
//! | [`limits`], [`mod@sanitize`] | how much is taken; text of strangers, made harmless |
//! | [`size`] | asks a serial line how large the terminal is |
//! | [`markdown`] | an answer while it streams: [`Markdown`] |
//! | [`mod@wrap`] | a line of our own to rows: [`wrap()`] |
//!
//! The caller's loop:
//!
//! ```text
//! prompt.open();
//! loop {
//!     while let Some(action) = prompt.next_action(&completer) { … }
//!     prompt.paint(&mut out);            // before anything else is printed
//!     tty.write_patiently(&out)?; out.clear();
//!     poll(tty, …, prompt.timeout());
//!     if readable { prompt.feed(&buf[..tty.read(&mut buf)?]) } else { prompt.flush() }
//! }
//! ```
//!
//! [`Action::Submit`] closes the prompt: the painted line stays, the cursor
//! goes below it, the answer is written through [`Markdown`], and keys wait,
//! all but Ctrl-C ([`Action::Stop`]), until [`Prompt::open`].

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::arithmetic_side_effects
    )
)]

mod edit_line;
mod editor;
mod frame;
mod history;
mod keys;
mod layout;
mod limits;
mod markdown;
mod sanitize;
mod screen;
mod size;
mod tty;
mod width;
mod wrap;

#[cfg(test)]
mod tests;

pub use edit_line::{Action, Look, Prompt, Secret};
pub use editor::{Completion, Submission};
pub use limits::Limits;
pub use markdown::{Markdown, Rendering};
pub use sanitize::sanitize;
pub use size::Size;
pub use tty::Tty;
pub use wrap::wrap;
