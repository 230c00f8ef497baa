//! Evaluated contexts: pieces of up to hundreds of MiB, each known by what it depends
//! on, written and read in parts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::BLOCK_BYTES;
use crate::chats::{ChatId, Held};
use crate::error::{Action, Error};
use crate::frame::zeros;
use crate::journal::Journal;
use crate::record::{Piece, Record};
use crate::seal::PartId;
use crate::space::{self, Extent};

/// What is written and read at a time: each part is checked by itself.
const PART_BYTES: usize = 1 << 20;
/// The extents of a piece at most: what is scattered more takes new space.
const EXTENTS_MAX: usize = 64;

/// Everything that a piece depends on, as a digest: the model, how it is evaluated, and
/// all tokens up to the piece's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(#[serde(with = "hex::serde")] pub [u8; 32]);

/// A piece that is in the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PieceInfo {
    /// What it depends on.
    pub key: Key,
    /// How long it is.
    pub bytes: u64,
    /// How many parts it is read in: all of 1 MiB but the last.
    pub parts: usize,
}

/// A piece that is being written. Its space is free again when the journal is told to
/// [`abandon`](Journal::abandon_piece) it, or is opened the next time.
#[derive(Debug)]
#[must_use]
pub struct PieceWriter {
    piece: Piece,
    /// What is not yet a part.
    buffer: Vec<u8>,
    /// How many bytes were given.
    given: u64,
    number: u64,
}

impl Journal {
    /// How many bytes evaluated contexts may take on the disk from now on; at most half
    /// of a disk that does not grow. Without it there is no other limit.
    pub fn set_budget(&mut self, bytes: u64) {
        self.budget = bytes;
    }

    /// The piece that depends on `key`, if it is in the session.
    #[must_use]
    pub fn piece(&self, key: &Key) -> Option<PieceInfo> {
        self.held(key).map(|held| PieceInfo {
            key: *key,
            bytes: held.piece.bytes,
            parts: held.piece.checks.len(),
        })
    }

    /// Reads one part of a piece, from 0. It is what was written, or an error.
    ///
    /// # Errors
    /// [`Error::NoPiece`] where it has changed or is not there; the disk cannot be read.
    pub fn read_part(&self, key: &Key, part: usize) -> Result<Vec<u8>, Error> {
        let piece = &self.held(key).ok_or(Error::NoPiece)?.piece;
        let check = piece.checks.get(part).ok_or(Error::NoPiece)?;
        let from = (part as u64).saturating_mul(PART_BYTES as u64);
        let length = piece.bytes.saturating_sub(from).min(PART_BYTES as u64);
        let mut bytes = zeros(usize::try_from(length).unwrap_or_default())?;
        let mut rest = bytes.as_mut_slice();
        for (at, length) in space::parts(&piece.extents, from, length) {
            let length = usize::try_from(length).map_err(|_| Error::NoPiece)?;
            let (into, later) = rest.split_at_mut_checked(length).ok_or(Error::NoPiece)?;
            self.disk
                .read_at(at, into)
                .map_err(|e| Error::of(Action::Read, at, e))?;
            rest = later;
        }
        let id = PartId {
            key: key.0,
            index: part as u64,
        };
        if rest.is_empty() && self.seal.open_part(&id, check, &mut bytes) {
            Ok(bytes)
        } else {
            Err(Error::NoPiece)
        }
    }

    /// Begins to write a piece of `bytes`; other things may be written meanwhile. Where
    /// the budget is spent, pieces are dropped that are of the least use, none of the
    /// current conversation's context and none that were written since a context was set.
    ///
    /// # Errors
    /// [`Error::Full`] if there is no room for it; the disk cannot be written to.
    pub fn begin_piece(&mut self, key: Key, bytes: u64) -> Result<PieceWriter, Error> {
        let blocks = bytes.div_ceil(BLOCK_BYTES).max(1);
        self.make_room(blocks)?;
        let mut free = self.free_space();
        free.truncate(EXTENTS_MAX);
        let (mut extents, missing) = space::take(&free, blocks);
        if missing > 0 {
            extents.push(self.new_space(missing)?);
        }
        let number = self.reserved.last_key_value();
        let number = number.map_or(0, |(last, _)| last.saturating_add(1));
        self.reserved.insert(number, extents.clone());
        Ok(PieceWriter {
            piece: Piece {
                key,
                bytes,
                extents,
                checks: Vec::new(),
            },
            buffer: Vec::new(),
            given: 0,
            number,
        })
    }

    /// Writes the next `bytes` of a piece, of any length.
    ///
    /// # Errors
    /// They are more than was said, or the disk cannot be written to. The piece can only
    /// be abandoned then.
    pub fn write_piece(&mut self, writer: &mut PieceWriter, mut bytes: &[u8]) -> Result<(), Error> {
        writer.given = writer.given.saturating_add(bytes.len() as u64);
        if writer.given > writer.piece.bytes {
            return Err(Error::TooLong { bytes: bytes.len() });
        }
        while !bytes.is_empty() {
            let room = PART_BYTES.saturating_sub(writer.buffer.len());
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            writer.buffer.extend_from_slice(now);
            bytes = later;
            if writer.buffer.len() == PART_BYTES {
                self.write_part(writer)?;
            }
        }
        Ok(())
    }

    /// The piece is whole: returns when it stays.
    ///
    /// # Errors
    /// It is shorter than was said, or the disk cannot be written to.
    pub fn finish_piece(&mut self, mut writer: PieceWriter) -> Result<(), Error> {
        let number = writer.number;
        let finished = self.finish(&mut writer);
        self.reserved.remove(&number);
        finished
    }

    fn finish(&mut self, writer: &mut PieceWriter) -> Result<(), Error> {
        if writer.given != writer.piece.bytes {
            return Err(Error::NoPiece);
        }
        if !writer.buffer.is_empty() {
            self.write_part(writer)?;
        }
        self.flush()?;
        self.append(Record::Piece(writer.piece.clone()))?;
        self.fresh.insert(writer.piece.key);
        Ok(())
    }

    /// The piece is not finished; its space is free again.
    #[expect(clippy::needless_pass_by_value, reason = "it is of no use afterwards")]
    pub fn abandon_piece(&mut self, writer: PieceWriter) {
        self.reserved.remove(&writer.number);
    }

    /// These pieces, in order, are the evaluated context of a conversation. Those that
    /// are not in the session are left out.
    ///
    /// # Errors
    /// There is no such conversation; the disk cannot be written to.
    pub fn set_context(&mut self, chat: ChatId, keys: &[Key]) -> Result<(), Error> {
        self.chat(chat).ok_or(Error::NoChat)?;
        let there = |key: &&Key| self.held(key).is_some();
        let keys = keys.iter().filter(there).copied().collect();
        self.append(Record::Context { chat, keys })?;
        self.fresh.clear();
        Ok(())
    }

    /// Drops pieces; their space is free again.
    ///
    /// # Errors
    /// The disk cannot be written to.
    pub fn drop_pieces(&mut self, keys: &[Key]) -> Result<(), Error> {
        let keys = keys.to_vec();
        self.append(Record::Drop { keys })
    }

    fn held(&self, key: &Key) -> Option<&Held> {
        self.contents.pieces.get(key)
    }

    fn write_part(&mut self, writer: &mut PieceWriter) -> Result<(), Error> {
        let index = writer.piece.checks.len() as u64;
        let id = PartId {
            key: writer.piece.key.0,
            index,
        };
        let check = self.seal.close_part(&id, &mut writer.buffer)?;
        let from = index.saturating_mul(PART_BYTES as u64);
        let mut rest = writer.buffer.as_slice();
        for (at, length) in space::parts(&writer.piece.extents, from, rest.len() as u64) {
            let length = usize::try_from(length).unwrap_or(rest.len());
            let (now, later) = rest.split_at_checked(length).ok_or(Error::NoPiece)?;
            self.write(at, now)?;
            rest = later;
        }
        writer.piece.checks.push(check);
        writer.buffer.clear();
        Ok(())
    }

    /// The space that nobody uses.
    pub(crate) fn free_space(&self) -> Vec<Extent> {
        let pieces = self.contents.pieces.values();
        let used = pieces.flat_map(|held| held.piece.extents.iter().copied());
        let reserved = self.reserved.values().flatten().copied();
        space::without(&self.contents.space, used.chain(reserved))
    }

    /// New space at the end of the log.
    fn new_space(&mut self, blocks: u64) -> Result<Extent, Error> {
        let count = u32::try_from(blocks).map_err(|_| Error::Full { at: self.head.end })?;
        self.append_with_space(Record::Space {}, count)?;
        let block = (self.head.end / BLOCK_BYTES).saturating_sub(blocks);
        Ok(Extent { block, blocks })
    }

    /// Drops pieces until `blocks` more are within the budget.
    fn make_room(&mut self, blocks: u64) -> Result<(), Error> {
        let budget = self.budget_blocks()?;
        let mut spent = blocks.saturating_add(self.spent_blocks());
        if spent <= budget {
            return Ok(());
        }
        let mut dropped = Vec::new();
        let mut idle = self.idle_pieces();
        while spent > budget {
            let held = idle.pop().ok_or(Error::Full { at: self.head.end })?;
            spent = spent.saturating_sub(space::blocks(&held.piece.extents));
            dropped.push(held.piece.key);
        }
        self.drop_pieces(&dropped)
    }

    fn budget_blocks(&self) -> Result<u64, Error> {
        let size = self.disk.size();
        let size = size.map_err(|e| Error::of(Action::Read, 0, e))?;
        let most = if self.disk.grows() {
            u64::MAX
        } else {
            size / 2
        };
        Ok(self.budget.min(most) / BLOCK_BYTES)
    }

    fn spent_blocks(&self) -> u64 {
        let pieces = self.contents.pieces.values();
        let used = pieces.map(|held| space::blocks(&held.piece.extents));
        let reserved = self.reserved.values().map(|extents| space::blocks(extents));
        used.chain(reserved).fold(0, u64::saturating_add)
    }

    /// The pieces that are not of the current context, nor of the one that is being
    /// written; the one to be dropped first is the last: the longest unused, and of a
    /// context its end.
    fn idle_pieces(&self) -> Vec<&Held> {
        let current = self.current().map_or(&[][..], |chat| chat.context());
        let kept: BTreeSet<_> = current.iter().chain(&self.fresh).collect();
        let pieces = self.contents.pieces.values();
        let mut idle: Vec<_> = pieces
            .filter(|held| !kept.contains(&held.piece.key))
            .collect();
        let mut positions = BTreeMap::new();
        for chat in self.chats() {
            for (position, key) in chat.context().iter().enumerate() {
                positions.entry(key).or_insert(position);
            }
        }
        idle.sort_by_cached_key(|held| {
            let position = positions.get(&held.piece.key).copied();
            (Reverse(held.used), position, held.record)
        });
        idle
    }
}
