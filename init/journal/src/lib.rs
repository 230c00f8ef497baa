//! Conversations that last: the format of a session's disk, which docs/sessions.md
//! describes. A [`Journal`] is an append-only log of records, each flushed before the
//! call that writes it returns, and a store of evaluated contexts beside it. A loss of
//! power at any byte loses at most what was being written.
//!
//! Every call may wait for the disk. It knows no terminal, no engine and no parameter's
//! meaning.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

mod changes;
mod chats;
mod contexts;
mod disk;
mod erase;
mod error;
mod frame;
mod journal;
mod record;
pub mod rehearsal;
mod seal;
mod space;
mod superblock;
mod transcript;
mod walk;

pub use chats::{Chat, ChatId, Model};
pub use contexts::{Key, PieceInfo, PieceWriter};
pub use disk::{Disk, FileDisk};
pub use error::Error;
pub use journal::Journal;
pub use superblock::{State, look, rebuild};
pub use transcript::{json, markdown, role_name};
pub use walk::Found;

/// The unit of space: records and pieces begin at multiples of it.
pub const BLOCK_BYTES: u64 = 4096;
