//! The first blocks of a session: what it is, in two copies, and how many records it
//! has, in two that are written in turn.

use serde::{Deserialize, Serialize};

use crate::BLOCK_BYTES;
use crate::disk::Disk;
use crate::error::{Action, Error};
use crate::frame::{Header, SECTOR_BYTES, trim_zeros, zeros};
use crate::seal::{Encryption, Hash, PROOF_BYTES, Seal, hash};
use crate::walk;

/// The version of the format that is written, and the newest that is read.
pub(crate) const VERSION: u32 = 1;
/// Where the first record is.
pub(crate) const LOG_START: u64 = 4 * BLOCK_BYTES;

const MAGIC: &[u8; 8] = b"zosiases";
const HEAD_MAGIC: &[u8; 8] = b"zosiahed";
/// What a head says, without its proof and digest.
const HEAD_BYTES: usize = 72;
const COPIES: [u64; 2] = [0, 3 * BLOCK_BYTES];
const HEADS: [u64; 2] = [BLOCK_BYTES, 2 * BLOCK_BYTES];
/// What must be zeros for a session to be made: file systems, swap, volumes and images of
/// disks have their signatures in it, some of them behind a beginning of zeros.
const BLANK_BYTES: usize = 128 << 10;

/// What a disk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing, or the beginning of a session whose making was cut off.
    Empty,
    /// A session that anybody can read.
    Plain,
    /// A session that needs its passphrase.
    Encrypted,
}

/// Looks what `disk` holds.
///
/// # Errors
/// It cannot be read, is something else, or is a session of a newer format.
pub fn look(disk: &dyn Disk) -> Result<State, Error> {
    Ok(match read(disk)? {
        None => State::Empty,
        Some(Superblock {
            encryption: None, ..
        }) => State::Plain,
        Some(_) => State::Encrypted,
    })
}

/// What a session says of itself, for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Superblock {
    /// Told apart from any other session by this.
    #[serde(with = "hex::serde")]
    pub(crate) id: [u8; 16],
    /// How an encrypted one is opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) encryption: Option<Encryption>,
}

impl Superblock {
    /// As it is on the disk, in one sector: magic, version, length, JSON, and their
    /// SHA-256.
    fn to_sector(&self) -> Option<Vec<u8>> {
        let json = serde_json::to_vec(self).ok()?;
        let mut sector = MAGIC.to_vec();
        sector.extend(VERSION.to_le_bytes());
        sector.extend(u32::try_from(json.len()).ok()?.to_le_bytes());
        sector.extend(json);
        let digest = hash(&[&sector]);
        sector.extend(digest);
        (sector.len() <= SECTOR_BYTES).then(|| {
            sector.resize(SECTOR_BYTES, 0);
            sector
        })
    }
}

/// A version, or the superblock of one that is understood.
fn parse(sector: &[u8]) -> Option<Result<Superblock, u32>> {
    let (magic, rest) = sector.split_first_chunk()?;
    let (version, rest) = rest.split_first_chunk()?;
    if magic != MAGIC {
        return None;
    }
    match u32::from_le_bytes(*version) {
        VERSION => {}
        version => return Some(Err(version)),
    }
    let (length, rest) = rest.split_first_chunk()?;
    let bytes = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (json, rest) = rest.split_at_checked(bytes)?;
    let (digest, _) = rest.split_first_chunk::<32>()?;
    let whole = hash(&[magic, version, length, json]) == *digest;
    whole
        .then(|| serde_json::from_slice(json).ok())
        .flatten()
        .map(Ok)
}

/// The superblock of the session on `disk`; `None` if there is none yet.
pub(crate) fn read(disk: &dyn Disk) -> Result<Option<Superblock>, Error> {
    let sectors = [read_sector(disk, COPIES[0])?, read_sector(disk, COPIES[1])?];
    let mut newer = None;
    for sector in &sectors {
        match parse(sector) {
            Some(Ok(superblock)) => return Ok(Some(superblock)),
            Some(Err(version)) => newer = newer.max(Some(version)),
            None => {}
        }
    }
    if let Some(version) = newer {
        return Err(Error::Newer { version });
    }
    if is_blank(disk)? {
        return Ok(None);
    }
    let what = match Header::id(&read_sector(disk, LOG_START)?) {
        Some(_) => {
            "what is left of one: both copies of its superblock are damaged, which \
             zosia-disk session repair mends unless it was encrypted"
        }
        None => "something else",
    };
    Err(Error::NoSession { what })
}

/// Whether nothing is on `disk`, or no more than the beginning of a superblock: nothing
/// else is written before both copies are there.
fn is_blank(disk: &dyn Disk) -> Result<bool, Error> {
    let mut beginning = zeros(BLANK_BYTES)?;
    disk.read_at(0, &mut beginning)
        .map_err(|e| Error::of(Action::Read, 0, e))?;
    let places = (0..).step_by(SECTOR_BYTES);
    let mut sectors = beginning.chunks(SECTOR_BYTES).zip(places);
    Ok(sectors.all(|(sector, at)| {
        let begun = trim_zeros(sector);
        begun.is_empty()
            || COPIES.contains(&at) && (begun.starts_with(MAGIC) || MAGIC.starts_with(begun))
    }))
}

/// Makes the superblock of a session again, both copies of which are damaged, from its
/// records.
///
/// # Errors
/// They are not, no record can be read, or the session was encrypted: its key is lost then.
pub fn rebuild(disk: &mut dyn Disk) -> Result<(), Error> {
    match read(disk) {
        Err(Error::NoSession { .. }) => {}
        Err(e) => return Err(e),
        Ok(_) => return Ok(()),
    }
    let sector = read_sector(disk, LOG_START)?;
    let id = Header::id(&sector).ok_or(Error::NoSession {
        what: "something else",
    })?;
    // The first ones may be erased.
    let contents = walk::walk(disk, &id, &Seal::Plain)?.contents;
    if contents.places.len() == contents.unreadable.len() {
        return Err(Error::NoSession {
            what: "what is left of one: its key was in the superblock",
        });
    }
    let encryption = None;
    write(disk, &Superblock { id, encryption })
}

/// Writes a copy that is not the other one again.
pub(crate) fn mend(disk: &mut dyn Disk, superblock: &Superblock) -> Result<(), Error> {
    for at in COPIES {
        match parse(&read_sector(disk, at)?) {
            Some(Ok(copy)) if copy == *superblock => {}
            _ => return write(disk, superblock),
        }
    }
    Ok(())
}

/// Writes both copies, each flushed before the next.
pub(crate) fn write(disk: &mut dyn Disk, superblock: &Superblock) -> Result<(), Error> {
    let sector = superblock.to_sector().ok_or(Error::TooLong {
        bytes: SECTOR_BYTES,
    })?;
    for at in COPIES {
        disk.write_at(at, &sector)
            .map_err(|e| Error::of(Action::Write, at, e))?;
        disk.flush().map_err(|e| Error::of(Action::Flush, at, e))?;
    }
    Ok(())
}

/// How far the log goes. It is written after the record that it counts is flushed, and
/// is flushed with the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// The number of the last record, 0 without any.
    pub(crate) count: u64,
    /// Where the next one goes.
    pub(crate) end: u64,
    /// What the next one chains to.
    pub(crate) check: Hash,
}

impl Head {
    /// That of a session without records.
    pub(crate) fn first(id: &[u8; 16]) -> Self {
        Self {
            count: 0,
            end: LOG_START,
            check: hash(&[id]),
        }
    }

    /// Writes it where the one before the last was.
    pub(crate) fn write(
        &self,
        disk: &mut dyn Disk,
        id: &[u8; 16],
        seal: &Seal,
    ) -> Result<(), Error> {
        let mut sector = HEAD_MAGIC.to_vec();
        sector.extend(id);
        sector.extend(self.count.to_le_bytes());
        sector.extend(self.end.to_le_bytes());
        sector.extend(self.check);
        let proof = seal.prove(&sector)?;
        sector.extend(proof);
        let digest = hash(&[&sector]);
        sector.extend(digest);
        sector.resize(SECTOR_BYTES, 0);
        let at = if self.count.is_multiple_of(2) {
            HEADS[0]
        } else {
            HEADS[1]
        };
        disk.write_at(at, &sector)
            .map_err(|e| Error::of(Action::Write, at, e))
    }

    /// The newer one that is whole.
    pub(crate) fn read(disk: &dyn Disk, id: &[u8; 16], seal: &Seal) -> Result<Option<Self>, Error> {
        let [a, b] = [read_sector(disk, HEADS[0])?, read_sector(disk, HEADS[1])?];
        let heads = [Self::parse(&a, id, seal), Self::parse(&b, id, seal)];
        Ok(heads.into_iter().flatten().max_by_key(|head| head.count))
    }

    fn parse(sector: &[u8], wanted: &[u8; 16], seal: &Seal) -> Option<Self> {
        let (bound, rest) = sector.split_at_checked(HEAD_BYTES)?;
        let (proof, rest) = rest.split_first_chunk::<PROOF_BYTES>()?;
        let whole = hash(&[bound, proof]) == *rest.first_chunk()?;
        let (magic, rest) = bound.split_first_chunk::<8>()?;
        let (id, rest) = rest.split_first_chunk::<16>()?;
        if !whole || magic != HEAD_MAGIC || id != wanted || !seal.is_proof(bound, proof) {
            return None;
        }
        let (count, rest) = rest.split_first_chunk()?;
        let (end, rest) = rest.split_first_chunk()?;
        Some(Self {
            count: u64::from_le_bytes(*count),
            end: u64::from_le_bytes(*end),
            check: *rest.first_chunk()?,
        })
    }
}

/// A sector; zeros where the disk ends before.
fn read_sector(disk: &dyn Disk, at: u64) -> Result<[u8; SECTOR_BYTES], Error> {
    let mut sector = [0; SECTOR_BYTES];
    disk.read_at(at, &mut sector)
        .map_err(|e| Error::of(Action::Read, at, e))?;
    Ok(sector)
}
