//! What a record says: JSON, so that a session can be read without zosia.

use std::collections::BTreeMap;

use protocol::Message;
use serde::{Deserialize, Serialize};

use crate::chats::{ChatId, Model};
use crate::contexts::Key;
use crate::space::Extent;

/// A record's payload.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stamped {
    /// When it was written, in seconds since 1970 by the clock of whoever wrote it.
    pub(crate) at: u64,
    /// Bytes of chance: an erased text cannot be guessed and compared with its digest.
    #[serde(with = "hex::serde")]
    pub(crate) salt: [u8; 16],
    /// What it says.
    #[serde(flatten)]
    pub(crate) record: Record,
}

/// What happened. Turns are named by the numbers of their records, so that what a
/// record means does not depend on records that are erased or lost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Record {
    /// A conversation begins, and is the current one.
    Begin { chat: ChatId },
    /// A question and its answer.
    Turn {
        chat: ChatId,
        question: Message,
        answer: Message,
        tokens: u64,
    },
    /// Another answer to the question of record `turn`.
    Answer {
        chat: ChatId,
        turn: u64,
        answer: Message,
        tokens: u64,
    },
    /// Turns that are taken back, or forgotten.
    Forget { chat: ChatId, turns: Vec<u64> },
    /// The system prompt from now on.
    System { chat: ChatId, text: String },
    /// A parameter from now on; none is its default.
    Set {
        chat: ChatId,
        name: String,
        value: Option<String>,
    },
    /// The model from now on.
    Model { chat: ChatId, model: Model },
    /// The conversation's title; none is its first words.
    Rename { chat: ChatId, title: Option<String> },
    /// A conversation begins with what another one has, and is the current one.
    Fork(Fork),
    /// The current conversation.
    Switch { chat: ChatId },
    /// A conversation is deleted: the payloads of these records are to be erased, and
    /// all space of contexts that no other conversation uses.
    Delete { chat: ChatId, erased: Vec<u64> },
    /// What the last `delete` erases is erased.
    Erased {},
    /// A line that was typed.
    Line { chat: Option<ChatId>, text: String },
    /// Space for pieces of contexts follows this record.
    Space {},
    /// A piece of an evaluated context is whole and on the disk.
    Piece(Piece),
    /// Pieces that are no more; their space is free.
    Drop { keys: Vec<Key> },
    /// The pieces that are the evaluated context of a conversation, in order.
    Context { chat: ChatId, keys: Vec<Key> },
    /// Records, first and last of each range, that could not be read; it has been told.
    Lost { records: Vec<(u64, u64)> },
}

/// What a conversation has that begins with another one's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fork {
    /// The new one.
    pub(crate) chat: ChatId,
    /// The other one.
    pub(crate) from: ChatId,
    /// The turns they share.
    pub(crate) turns: Vec<Turn>,
    pub(crate) tokens: u64,
    pub(crate) system: String,
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) model: Option<Model>,
    pub(crate) context: Vec<Key>,
}

/// A question and its answer, by the records that hold them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Turn {
    /// The record of the question, which names the turn.
    pub(crate) question: u64,
    /// The record of the answer, the same if it is the first one.
    pub(crate) answer: u64,
}

/// Where a piece is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    /// What it depends on.
    pub(crate) key: Key,
    /// How long it is.
    pub(crate) bytes: u64,
    /// Where its bytes are, in order.
    pub(crate) extents: Vec<Extent>,
    /// What each part of it is checked by, in hexadecimal.
    pub(crate) checks: Vec<String>,
}
