//! A record's frame: the header says where the next record is and chains to the one
//! before; the payload begins in the next sector, so that it can be erased without
//! touching the header.

use crate::BLOCK_BYTES;
use crate::disk::Disk;
use crate::error::{Action, Error};
use crate::seal::{Hash, hash};

/// What is written whole or not at all.
pub(crate) const SECTOR_BYTES: usize = 512;
/// A block, as the length of what is in memory.
pub(crate) const BLOCK: usize = 4096;
/// Where the payload is within a record.
pub(crate) const PAYLOAD_AT: u64 = SECTOR_BYTES as u64;
/// The largest payload. A question and an answer are far smaller.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 64 << 20;
/// Where the digest of the header is.
const HEADER_BYTES: usize = 112;
const MAGIC: &[u8; 8] = b"zosiarec";

/// What stands before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// The number of the record, from 1.
    pub(crate) number: u64,
    /// Its blocks.
    pub(crate) blocks: u32,
    /// The blocks after it that belong to contexts.
    pub(crate) space: u32,
    /// The bytes of the payload as it is stored.
    pub(crate) bytes: u32,
    /// The check of the record before.
    pub(crate) before: Hash,
    /// The digest of the payload as it is stored.
    pub(crate) payload: Hash,
}

impl Header {
    /// The header for a payload of `bytes`, without its digest.
    pub(crate) fn new(number: u64, bytes: usize, space: u32, before: Hash) -> Option<Self> {
        let whole = PAYLOAD_AT.checked_add(bytes as u64)?;
        Some(Self {
            number,
            blocks: u32::try_from(whole.div_ceil(BLOCK_BYTES)).ok()?,
            space,
            bytes: u32::try_from(bytes).ok()?,
            before,
            payload: [0; 32],
        })
    }

    /// What a sealed payload is bound to: all but the payload's own digest.
    pub(crate) fn bound(&self, id: &[u8; 16]) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(id);
        out.extend(self.number.to_le_bytes());
        out.extend(self.blocks.to_le_bytes());
        out.extend(self.space.to_le_bytes());
        out.extend(self.bytes.to_le_bytes());
        out.extend([0; 4]);
        out.extend(self.before);
        out
    }

    fn to_bytes(self, id: &[u8; 16]) -> Vec<u8> {
        let mut out = self.bound(id);
        out.extend(self.payload);
        out
    }

    /// What the next record chains to.
    pub(crate) fn check(&self, id: &[u8; 16]) -> Hash {
        hash(&[&self.to_bytes(id)])
    }

    /// The header at the beginning of `sector`, if there is one of this session.
    pub(crate) fn parse(sector: &[u8], wanted: &[u8; 16]) -> Option<Self> {
        let digest = sector.get(HEADER_BYTES..)?.first_chunk::<32>()?;
        let (magic, rest) = sector.split_first_chunk::<8>()?;
        let (id, rest) = rest.split_first_chunk::<16>()?;
        if magic != MAGIC || id != wanted {
            return None;
        }
        let (number, rest) = rest.split_first_chunk()?;
        let (blocks, rest) = rest.split_first_chunk()?;
        let (space, rest) = rest.split_first_chunk()?;
        let (bytes, rest) = rest.split_first_chunk()?;
        let (before, rest) = rest.get(4..)?.split_first_chunk()?;
        let header = Self {
            number: u64::from_le_bytes(*number),
            blocks: u32::from_le_bytes(*blocks),
            space: u32::from_le_bytes(*space),
            bytes: u32::from_le_bytes(*bytes),
            before: *before,
            payload: *rest.first_chunk()?,
        };
        (header.check(id) == *digest && header.is_sound()).then_some(header)
    }

    /// The session that the header at the beginning of `sector` is of.
    pub(crate) fn id(sector: &[u8]) -> Option<[u8; 16]> {
        sector.strip_prefix(MAGIC)?.first_chunk().copied()
    }

    fn is_sound(&self) -> bool {
        let bytes = u64::from(self.bytes);
        let room = u64::from(self.blocks).saturating_mul(BLOCK_BYTES);
        bytes <= PAYLOAD_BYTES_MAX as u64
            && self.number > 0
            && room >= PAYLOAD_AT.saturating_add(bytes)
            && room < PAYLOAD_AT.saturating_add(bytes).saturating_add(BLOCK_BYTES)
    }

    /// Where the record that begins at `at` ends and the space after it begins.
    pub(crate) fn end(&self, at: u64) -> u64 {
        at.saturating_add(u64::from(self.blocks).saturating_mul(BLOCK_BYTES))
    }

    /// Where the record after the one at `at` is.
    pub(crate) fn next(&self, at: u64) -> u64 {
        self.end(at)
            .saturating_add(u64::from(self.space).saturating_mul(BLOCK_BYTES))
    }

    /// Reads the header at `at`.
    pub(crate) fn read(disk: &dyn Disk, at: u64, id: &[u8; 16]) -> Result<Option<Self>, Error> {
        let mut sector = [0; SECTOR_BYTES];
        disk.read_at(at, &mut sector)
            .map_err(|e| Error::of(Action::Read, at, e))?;
        Ok(Self::parse(&sector, id))
    }

    /// Reads the payload of the record at `at`; `None` if it is not what was written.
    pub(crate) fn read_payload(&self, disk: &dyn Disk, at: u64) -> Result<Option<Vec<u8>>, Error> {
        let at = at.saturating_add(PAYLOAD_AT);
        let mut payload = zeros(self.bytes as usize)?;
        let count = disk
            .read_at(at, &mut payload)
            .map_err(|e| Error::of(Action::Read, at, e))?;
        Ok((count == payload.len() && hash(&[&payload]) == self.payload).then_some(payload))
    }

    /// Writes the record at `at`: whole blocks, zeros after the payload.
    pub(crate) fn write(
        &self,
        disk: &mut dyn Disk,
        at: u64,
        id: &[u8; 16],
        payload: &[u8],
    ) -> Result<(), Error> {
        let whole = usize::try_from(self.end(0)).unwrap_or(usize::MAX);
        let mut out = Vec::new();
        out.try_reserve_exact(whole)
            .map_err(|_| Error::NoMemory { bytes: whole })?;
        out.extend(self.to_bytes(id));
        out.extend(self.check(id));
        out.resize(SECTOR_BYTES, 0);
        out.extend_from_slice(payload);
        out.resize(whole, 0);
        disk.write_at(at, &out)
            .map_err(|e| Error::of(Action::Write, at, e))
    }
}

/// The bytes of a payload that holds so many and fills its blocks.
pub(crate) fn padded_bytes(bytes: usize) -> usize {
    SECTOR_BYTES
        .saturating_add(bytes)
        .checked_next_multiple_of(BLOCK)
        .map_or(usize::MAX, |whole| whole.saturating_sub(SECTOR_BYTES))
}

/// `bytes` without the zeros at their end.
pub(crate) fn trim_zeros(mut bytes: &[u8]) -> &[u8] {
    while let [before @ .., 0] = bytes {
        bytes = before;
    }
    bytes
}

/// As many zeros, or the error that there is no memory.
pub(crate) fn zeros(bytes: usize) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    out.try_reserve_exact(bytes)
        .map_err(|_| Error::NoMemory { bytes })?;
    out.resize(bytes, 0);
    Ok(out)
}
