//! A session that is open: what is in it, and what is written to it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use protocol::Message;

use crate::BLOCK_BYTES;
use crate::chats::{Chat, ChatId, Contents};
use crate::contexts::Key;
use crate::disk::Disk;
use crate::error::{Action, Error};
use crate::frame::{Header, PAYLOAD_BYTES_MAX, zeros};
use crate::record::{Record, Stamped};
use crate::seal::{Seal, await_chance, chance};
use crate::space::Extent;
use crate::superblock::{self, Head, Superblock};
use crate::walk::{self, Found};

/// What a disk that does not grow has left when it is full, so that conversations can be
/// deleted; no more than a sixteenth.
const KEPT_BACK_BYTES: u64 = 1 << 20;

/// A session that is open.
///
/// What changes it returns when the change stays whatever happens to the power. After an
/// error everything from before is still there and can be read, and what was tried can
/// be tried again.
pub struct Journal {
    pub(crate) disk: Box<dyn Disk>,
    pub(crate) seal: Seal,
    pub(crate) contents: Contents,
    pub(crate) head: Head,
    /// Space of pieces that are being written, by writer.
    pub(crate) reserved: BTreeMap<u64, Vec<Extent>>,
    /// Pieces that were written since a context was set.
    pub(crate) fresh: BTreeSet<Key>,
    /// How many bytes contexts may take.
    pub(crate) budget: u64,
    id: [u8; 16],
    writable: bool,
}

impl Journal {
    /// Makes a session on `disk`, which [`look`](crate::look) says is empty; with a
    /// passphrase, an encrypted one.
    ///
    /// # Errors
    /// It is not empty, or cannot be written to.
    pub fn create(mut disk: Box<dyn Disk>, passphrase: Option<&str>) -> Result<Self, Error> {
        if superblock::read(disk.as_ref())?.is_some() {
            return Err(Error::NoSession {
                what: "one already, not an empty disk",
            });
        }
        await_chance()?;
        let id = chance()?;
        let (seal, encryption) = match passphrase {
            None => (Seal::Plain, None),
            Some(passphrase) => {
                let (seal, encryption) = Seal::create(&id, passphrase)?;
                (seal, Some(encryption))
            }
        };
        superblock::write(disk.as_mut(), &Superblock { id, encryption })?;
        let mut journal = Self {
            disk,
            seal,
            contents: Contents::default(),
            head: Head::first(&id),
            reserved: BTreeMap::new(),
            fresh: BTreeSet::new(),
            budget: u64::MAX,
            id,
            writable: true,
        };
        // Without one, opening looks for records on the whole disk.
        let head = journal.head;
        head.write(journal.disk.as_mut(), &id, &journal.seal)?;
        journal.flush()?;
        Ok(journal)
    }

    /// Opens the session on `disk`, ends what a loss of power left undone, and says what
    /// was found. What is damaged is left as it is and told once.
    ///
    /// # Errors
    /// There is no session, the disk cannot be used, or the passphrase is wrong, missing
    /// or one too many.
    pub fn open(disk: Box<dyn Disk>, passphrase: Option<&str>) -> Result<(Self, Found), Error> {
        await_chance()?;
        let (mut journal, mut found, remains) = Self::read(disk, passphrase)?;
        journal.writable = true;
        if let Some(superblock) = superblock::read(journal.disk.as_ref())? {
            superblock::mend(journal.disk.as_mut(), &superblock)?;
        }
        unless_full(journal.wipe(journal.head.end, remains))?;
        if journal.contents.erasing.is_some() {
            found.erased = unless_full(journal.finish_erasing())?;
        }
        if !found.lost.is_empty() {
            let records = found.lost.clone();
            unless_full(journal.append(Record::Lost { records }))?;
        }
        Ok((journal, found))
    }

    /// Opens the session on `disk` for reading, and changes nothing.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_to_read(
        disk: Box<dyn Disk>,
        passphrase: Option<&str>,
    ) -> Result<(Self, Found), Error> {
        Self::read(disk, passphrase).map(|(journal, found, _)| (journal, found))
    }

    fn read(disk: Box<dyn Disk>, passphrase: Option<&str>) -> Result<(Self, Found, u64), Error> {
        let Some(Superblock { id, encryption }) = superblock::read(disk.as_ref())? else {
            return Err(Error::NoSession { what: "empty" });
        };
        let seal = match (&encryption, passphrase) {
            (None, None) => Seal::Plain,
            (None, Some(_)) => return Err(Error::NotEncrypted),
            (Some(_), None) => return Err(Error::NeedsPassphrase),
            (Some(encryption), Some(passphrase)) => Seal::open_key(&id, encryption, passphrase)?,
        };
        let walked = walk::walk(disk.as_ref(), &id, &seal)?;
        let journal = Self {
            disk,
            seal,
            contents: walked.contents,
            head: walked.head,
            reserved: BTreeMap::new(),
            fresh: BTreeSet::new(),
            budget: u64::MAX,
            id,
            writable: false,
        };
        Ok((journal, walked.found, walked.remains))
    }

    /// The conversations, in the order of their beginnings.
    #[must_use]
    pub fn chats(&self) -> &[Chat] {
        &self.contents.chats
    }

    /// One of them.
    #[must_use]
    pub fn chat(&self, id: ChatId) -> Option<&Chat> {
        self.contents.chat(id)
    }

    /// The conversation that was left, if there is one.
    #[must_use]
    pub fn current(&self) -> Option<&Chat> {
        self.contents.current.and_then(|id| self.chat(id))
    }

    /// Records that are lost, first and last of each range: those that were told when
    /// the session was opened, and before.
    #[must_use]
    pub fn lost(&self) -> &[(u64, u64)] {
        &self.contents.lost
    }

    /// The lines that were typed last, oldest first: at most 1000, of 256 KiB.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.contents.lines()
    }

    /// The messages of a conversation, without its system prompt: questions and answers
    /// in turn. Records that were found damaged at opening are left out.
    ///
    /// # Errors
    /// There is no such conversation, or the disk cannot be read.
    pub fn messages(&self, chat: ChatId) -> Result<Vec<Message>, Error> {
        let chat = self.chat(chat).ok_or(Error::NoChat)?;
        let mut messages = Vec::new();
        for turn in chat.turn_records() {
            let question = self.record(turn.question)?;
            let other = match turn.answer {
                same if same == turn.question => None,
                other => self.record(other)?,
            };
            let Some(Record::Turn {
                question,
                answer: first,
                ..
            }) = question
            else {
                continue;
            };
            messages.push(question);
            messages.push(match other {
                Some(Record::Answer { answer, .. }) => answer,
                _ => first,
            });
        }
        Ok(messages)
    }

    /// What record `number` says; `None` for one that is not there.
    fn record(&self, number: u64) -> Result<Option<Record>, Error> {
        let disk = self.disk.as_ref();
        let Some(&at) = self.contents.places.get(&number) else {
            return Ok(None);
        };
        if self.contents.unreadable.contains(&number) {
            return Ok(None);
        }
        let damaged = Error::Damaged { record: number };
        match Header::read(disk, at, &self.id)? {
            Some(header) if header.number == number => {
                let stamped = walk::read(disk, at, &header, &self.id, &self.seal)?;
                stamped.map(|s| Some(s.record)).ok_or(damaged)
            }
            _ => Err(damaged),
        }
    }

    /// Writes a record, and returns when it stays.
    pub(crate) fn append(&mut self, record: Record) -> Result<(), Error> {
        self.append_with_space(record, 0)
    }

    /// Writes a record with so many blocks after it that are for pieces.
    pub(crate) fn append_with_space(&mut self, record: Record, space: u32) -> Result<(), Error> {
        if !self.writable {
            return Err(Error::ReadOnly);
        }
        let stamped = Stamped {
            at: now(),
            salt: chance()?,
            record,
        };
        let kept_back = match stamped.record {
            Record::Erased {} => 0,
            // That it is erased has room, too.
            Record::Delete { .. } | Record::Lost { .. } => BLOCK_BYTES,
            _ => KEPT_BACK_BYTES,
        };
        let json = stamped.to_json().map_err(|_| Error::TooLong { bytes: 0 })?;
        let number = self.write_record(json, space, kept_back)?;
        self.contents.apply(number, stamped);
        Ok(())
    }

    /// Writes a record whose payload is `json`, and returns its number when it stays. On a
    /// disk that does not grow, `kept_back` bytes are free after it.
    pub(crate) fn write_record(
        &mut self,
        json: Vec<u8>,
        space: u32,
        kept_back: u64,
    ) -> Result<u64, Error> {
        let bytes = self.seal.stored_bytes(&json);
        if bytes > PAYLOAD_BYTES_MAX {
            return Err(Error::TooLong { bytes });
        }
        let number = self.head.count.saturating_add(1);
        let mut header =
            Header::new(number, bytes, space, self.head.check).ok_or(Error::TooLong { bytes })?;
        let payload = self.seal.close(&header.bound(&self.id), json)?;
        header.payload = crate::seal::hash(&[&payload]);
        let at = self.head.end;
        self.room_for(header.next(at), kept_back)?;
        header.write(self.disk.as_mut(), at, &self.id, &payload)?;
        if space > 0 {
            self.extend_to(header.next(at))?;
        }
        self.flush()?;
        self.head = Head {
            count: number,
            end: header.next(at),
            check: header.check(&self.id),
        };
        // The record stays without it: the head tells a loss of what has been flushed.
        let _ = self.head.write(self.disk.as_mut(), &self.id, &self.seal);
        self.contents.place(at, &header);
        Ok(number)
    }

    /// Whether the disk can be as large as `end`, and more.
    fn room_for(&self, end: u64, kept_back: u64) -> Result<(), Error> {
        let size = self.disk.size();
        let size = size.map_err(|e| Error::of(Action::Read, 0, e))?;
        let end = end.saturating_add(kept_back.min(size / 16));
        if self.disk.grows() || end <= size {
            Ok(())
        } else {
            Err(Error::Full { at: size })
        }
    }

    /// Makes a file as large as `end`, with a hole.
    fn extend_to(&mut self, end: u64) -> Result<(), Error> {
        let size = self.disk.size();
        if size.map_err(|e| Error::of(Action::Read, 0, e))? < end {
            self.write(end.saturating_sub(1), &[0])?;
        }
        Ok(())
    }

    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        self.disk
            .write_at(at, bytes)
            .map_err(|e| Error::of(Action::Write, at, e))
    }

    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        self.disk
            .flush()
            .map_err(|e| Error::of(Action::Flush, self.head.end, e))
    }

    /// Writes zeros from `from` to `to`.
    pub(crate) fn wipe(&mut self, mut from: u64, to: u64) -> Result<(), Error> {
        const MOST: u64 = 1 << 20;
        let length = to.saturating_sub(from).min(MOST);
        let mut block = zeros(usize::try_from(length).unwrap_or_default())?;
        while from < to {
            let length = to.saturating_sub(from).min(MOST);
            let block = block.get_mut(..usize::try_from(length).unwrap_or_default());
            let block = block.unwrap_or_default();
            // Space is mostly zeros already, which are read faster than written, and which a
            // sparse file does not store.
            let is_zero = self.disk.read_at(from, block).is_ok() && block.iter().all(|&b| b == 0);
            if !is_zero {
                block.fill(0);
                self.write(from, block)?;
            }
            from = from.saturating_add(length);
        }
        Ok(())
    }

    /// Where the record with this number is, and its header.
    pub(crate) fn header(&self, number: u64) -> Result<Option<(u64, Header)>, Error> {
        let Some(&at) = self.contents.places.get(&number) else {
            return Ok(None);
        };
        let header = Header::read(self.disk.as_ref(), at, &self.id)?;
        Ok(header.map(|header| (at, header)))
    }
}

impl Drop for Journal {
    /// The head of the last record stays as well.
    fn drop(&mut self) {
        if self.writable {
            // Nothing is lost without it.
            let _ = self.disk.flush();
        }
    }
}

/// Whether it is done: what a full disk has no room for is tried again at the next opening.
fn unless_full(done: Result<(), Error>) -> Result<bool, Error> {
    match done {
        Ok(()) => Ok(true),
        Err(Error::Full { .. }) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
