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
//! | [`prompt`] | these together: [`Prompt`] |
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
//!     tty.write_all(&out)?; out.clear();
//!     poll(tty, …, prompt.timeout());
//!     if readable { prompt.feed(&buf[..tty.read(&mut buf)?]) } else { prompt.flush() }
//! }
//! ```
//!
//! [`Action::Submit`] closes the prompt: the painted line stays, the cursor
//! goes below it, the answer is written through [`Markdown`], and keys wait,
//! all but Ctrl-C ([`Action::Stop`]), until [`Prompt::open`].

#![forbid(unsafe_code)]

mod editor;
mod frame;
mod history;
mod keys;
mod layout;
mod markdown;
mod prompt;
mod screen;
mod size;
mod tty;
mod width;
mod wrap;

#[cfg(test)]
mod tests;

pub use editor::Completion;
pub use markdown::{Markdown, Rendering};
pub use prompt::{Action, Look, Prompt};
pub use size::Size;
pub use tty::Tty;
pub use wrap::wrap;

/// `text` without what moves a terminal's cursor or changes its state.
#[must_use]
pub fn sanitize(text: &str) -> String {
    let shown = |c: char| {
        if c.is_control() && !matches!(c, '\n' | '\t') {
            '\u{fffd}'
        } else {
            c
        }
    };
    text.chars().map(shown).collect()
}

/// How much the line editor may hold, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// One paste.
    pub paste_bytes: usize,
    /// What can be taken back.
    pub undo_bytes: usize,
    /// What is typed while the prompt is closed.
    pub waiting_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            paste_bytes: 16 << 20,
            undo_bytes: 32 << 20,
            waiting_bytes: 16 << 20,
        }
    }
}
