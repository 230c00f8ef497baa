//! How payloads and pieces are kept.

use sha2::{Digest as _, Sha256};
use twox_hash::XxHash3_64;

use crate::error::Error;

/// A digest.
pub(crate) type Hash = [u8; 32];

/// The SHA-256 of `parts`, one after the other.
pub(crate) fn hash(parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// How payloads are kept.
pub(crate) enum Seal {
    /// As they are.
    Plain,
}

#[expect(clippy::unnecessary_wraps, reason = "a cipher can fail")]
impl Seal {
    /// The length of the payload that `json` becomes.
    pub(crate) fn stored_bytes(&self, json: &[u8]) -> usize {
        match self {
            Self::Plain => json.len(),
        }
    }

    /// The payload that `json` becomes, bound to the header.
    pub(crate) fn close(&self, _bound: &[u8], json: Vec<u8>) -> Result<Vec<u8>, Error> {
        match self {
            Self::Plain => Ok(json),
        }
    }

    /// The JSON that `payload` was; `None` if it is another one's or has changed.
    pub(crate) fn open(&self, _bound: &[u8], payload: Vec<u8>) -> Option<Vec<u8>> {
        match self {
            Self::Plain => Some(payload),
        }
    }

    /// Makes `part` of a piece what is stored, and returns what it is checked by.
    pub(crate) fn close_part(&self, _bound: &PartId, part: &mut [u8]) -> Result<String, Error> {
        match self {
            Self::Plain => Ok(checksum(part)),
        }
    }

    /// Makes `part` what it was; `false` if it is another one or has changed.
    pub(crate) fn open_part(&self, _bound: &PartId, check: &str, part: &mut [u8]) -> bool {
        match self {
            Self::Plain => checksum(part) == check,
        }
    }
}

/// Which part of which piece it is.
#[expect(dead_code, reason = "a cipher binds a part to its place")]
pub(crate) struct PartId {
    /// The piece's key.
    pub(crate) key: [u8; 32],
    /// Which part, from 0.
    pub(crate) index: u64,
}

fn checksum(part: &[u8]) -> String {
    format!("{:016x}", XxHash3_64::oneshot(part))
}

/// Bytes of chance.
pub(crate) fn chance<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| Error::NoChance)?;
    Ok(bytes)
}
