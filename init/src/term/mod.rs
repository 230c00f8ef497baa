//! The terminal: keys, the line editor, painting, Markdown. No threads and no
//! waiting: the caller polls the terminal, reads, and feeds what it read.
//! Everything but [`tty`] is pure: bytes and state in, bytes and actions out.

mod editor;
mod history;
mod keys;
mod layout;
mod markdown;
mod prompt;
mod screen;
mod size;
mod tty;
mod width;

#[cfg(test)]
mod tests;

pub(crate) use editor::{Completion, Submission};
pub(crate) use markdown::{Markdown, Rendering};
pub(crate) use prompt::{Action, Look, Prompt};
pub(crate) use size::Size;
pub(crate) use tty::Tty;
