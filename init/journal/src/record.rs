//! What a record says: JSON, so that a session can be read without zosia.

use std::collections::BTreeMap;

use protocol::Message;
use serde::de::value::EnumAccessDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer as _, EnumAccess, Error as _, IntoDeserializer as _,
    VariantAccess, Visitor,
};
use serde::{Deserialize, Serialize};
use serde_json::{Error, Map, Value};

use crate::chats::{ChatId, Model};
use crate::contexts::Key;
use crate::space::Extent;

/// A record's payload.
#[derive(Debug, Clone)]
pub(crate) struct Stamped {
    /// When it was written, in seconds since 1970 by the clock of whoever wrote it.
    pub(crate) at: u64,
    /// Bytes of chance: an erased text cannot be guessed and compared with its digest.
    pub(crate) salt: [u8; 16],
    /// What it says.
    pub(crate) record: Record,
}

impl Stamped {
    /// One object: `at`, `salt`, `kind`, and what that kind has.
    pub(crate) fn to_json(&self) -> Result<Vec<u8>, Error> {
        let mut object = Map::new();
        object.insert("at".to_owned(), self.at.into());
        object.insert("salt".to_owned(), hex::encode(self.salt).into());
        if let Value::Object(record) = serde_json::to_value(&self.record)? {
            for (kind, fields) in record {
                object.insert("kind".to_owned(), kind.into());
                if let Value::Object(fields) = fields {
                    object.extend(fields);
                }
            }
        }
        serde_json::to_vec(&object)
    }

    /// What [`to_json`](Self::to_json) wrote. Whatever else is in it takes no memory, as it
    /// does where serde looks for a tag in what it has read.
    pub(crate) fn of_json(json: &[u8]) -> Result<Self, Error> {
        let Stamp { at, salt, kind } = serde_json::from_slice(json)?;
        let tagged = Tagged { kind: &kind, json };
        let record = Record::deserialize(EnumAccessDeserializer::new(tagged))?;
        Ok(Self { at, salt, record })
    }
}

/// What every payload has.
#[derive(Deserialize)]
struct Stamp {
    at: u64,
    #[serde(with = "hex::serde")]
    salt: [u8; 16],
    kind: String,
}

/// A payload as an enum: its kind is the variant, and the whole object has its fields.
struct Tagged<'a> {
    kind: &'a str,
    json: &'a [u8],
}

impl<'de> EnumAccess<'de> for Tagged<'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let variant = seed.deserialize(self.kind.into_deserializer())?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for Tagged<'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Err(Error::custom("a record is an object"))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(&mut serde_json::Deserializer::from_slice(self.json))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("a record is an object"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        serde_json::Deserializer::from_slice(self.json).deserialize_struct("", fields, visitor)
    }
}

/// What happened. Turns are named by the numbers of their records, so that what a
/// record means does not depend on records that are erased or lost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
