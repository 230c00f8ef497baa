//! Texts that are attached to a conversation: how they travel on a disk, what the bytes
//! of a file say, and how a message holds them. Pure: it opens no file.

#![forbid(unsafe_code)]
// No byte of a stranger makes this panic: kept by the compiler, not by care.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::arithmetic_side_effects
    )
)]

mod archive;
mod decode;
mod form;

pub use archive::{ArchiveError, Entry, FILES_MAX, MAGIC, list};
pub use decode::{Decoded, decode, looks_like_text, utf8};
pub use form::{Document, compose, split};
