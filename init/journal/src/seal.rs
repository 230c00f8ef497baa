//! How payloads, heads and pieces are kept: as they are, or encrypted with
//! XChaCha20-Poly1305 by a key that is on the disk under the passphrase's.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use twox_hash::XxHash3_64;
use zeroize::{Zeroize as _, Zeroizing};

use crate::error::Error;
use crate::frame::padded_bytes;

/// A digest.
pub(crate) type Hash = [u8; 32];
/// What a key is.
type KeyBytes = Zeroizing<[u8; 32]>;

const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
/// A nonce and a tag: what encrypting adds.
pub(crate) const PROOF_BYTES: usize = NONCE_BYTES + TAG_BYTES;

/// Argon2id in the memory that the smallest machine's PID 1 has.
const MEMORY_KIB: u32 = 32 << 10;
const PASSES: u32 = 4;
/// A superblock that asks for more is damaged, or somebody's who wants us to hang.
const MEMORY_KIB_MAX: u32 = 1 << 20;
const WORK_KIB_MAX: u64 = 4 << 20;

/// The SHA-256 of `parts`, one after the other.
pub(crate) fn hash(parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// How long the system may take for its first random numbers.
const CHANCE_MAX: Duration = Duration::from_secs(10);

/// Returns when the system has random numbers. One that has just booted makes the first
/// of its own irregularity while they are waited for, or, without an instruction for
/// them, perhaps never.
///
/// # Errors
/// It has none for ten seconds; a thread is left behind that waits for them.
pub(crate) fn await_chance() -> Result<(), Error> {
    let (say, heard) = mpsc::channel();
    let ask = move || {
        // Nobody may be listening any more.
        let _ = say.send(getrandom::fill(&mut [0]).is_ok());
    };
    let started = thread::Builder::new().spawn(ask);
    match started.is_ok().then(|| heard.recv_timeout(CHANCE_MAX)) {
        Some(Ok(true)) => Ok(()),
        _ => Err(Error::NoChance),
    }
}

/// Bytes of chance.
pub(crate) fn chance<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| Error::NoChance)?;
    Ok(bytes)
}

/// How the key of an encrypted session is had from the passphrase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Encryption {
    /// Argon2id's parameters; it has one lane.
    memory_kib: u32,
    passes: u32,
    #[serde(with = "hex::serde")]
    salt: [u8; 16],
    /// The session's key, encrypted by what Argon2id makes of the passphrase: nonce,
    /// key, tag, in hexadecimal.
    key: String,
}

/// How things are kept.
pub(crate) enum Seal {
    /// As they are.
    Plain,
    /// Encrypted.
    Cipher(Box<XChaCha20Poly1305>),
}

impl Seal {
    /// A new key for session `id`, and how it is had from the passphrase again.
    pub(crate) fn create(id: &[u8; 16], passphrase: &str) -> Result<(Self, Encryption), Error> {
        let mut encryption = Encryption {
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            salt: chance()?,
            key: String::new(),
        };
        let key = Zeroizing::new(chance()?);
        let mut sealed = key.to_vec();
        let outer = cipher(&encryption.derive(passphrase)?);
        let proof = encrypt(&outer, id, &mut sealed)?;
        let (nonce, tag) = proof.split_at_checked(NONCE_BYTES).unwrap_or_default();
        encryption.key = hex::encode([nonce, &sealed, tag].concat());
        Ok((Self::Cipher(Box::new(cipher(&key))), encryption))
    }

    /// The key of session `id`.
    pub(crate) fn open_key(
        id: &[u8; 16],
        encryption: &Encryption,
        passphrase: &str,
    ) -> Result<Self, Error> {
        let sealed = hex::decode(&encryption.key).map_err(|_| Error::WrongPassphrase)?;
        let outer = cipher(&encryption.derive(passphrase)?);
        let mut key = Zeroizing::new([0; 32]);
        let opened = sealed.split_first_chunk().and_then(|(nonce, rest)| {
            let (sealed, tag) = rest.split_first_chunk()?;
            *key = *sealed;
            decrypt(&outer, id, nonce, key.as_mut_slice(), tag.try_into().ok()?)
        });
        opened.ok_or(Error::WrongPassphrase)?;
        Ok(Self::Cipher(Box::new(cipher(&key))))
    }

    /// The length of the payload that `json` becomes.
    pub(crate) fn stored_bytes(&self, json: &[u8]) -> usize {
        match self {
            Self::Plain => json.len(),
            Self::Cipher(_) => padded_bytes(json.len().saturating_add(PROOF_BYTES)),
        }
    }

    /// The payload that `json` becomes, bound to the header: nonce, text, tag. Spaces
    /// fill its blocks, so that its length tells nothing else.
    pub(crate) fn close(&self, bound: &[u8], mut json: Vec<u8>) -> Result<Vec<u8>, Error> {
        let Self::Cipher(cipher) = self else {
            return Ok(json);
        };
        let stored = self.stored_bytes(&json);
        json.resize(stored.saturating_sub(PROOF_BYTES), b' ');
        let proof = encrypt(cipher, bound, &mut json)?;
        let (nonce, tag) = proof.split_at_checked(NONCE_BYTES).unwrap_or_default();
        Ok([nonce, &json, tag].concat())
    }

    /// The JSON that `payload` was; `None` if it is another one's or has changed.
    pub(crate) fn open(&self, bound: &[u8], mut payload: Vec<u8>) -> Option<Vec<u8>> {
        let Self::Cipher(cipher) = self else {
            return Some(payload);
        };
        let (nonce, rest) = payload.split_first_chunk_mut()?;
        let (text, tag) = rest.split_last_chunk_mut()?;
        decrypt(cipher, bound, nonce, text, tag)?;
        Some(text.to_vec())
    }

    /// What proves that whoever wrote `bound` had the key; zeros without one.
    pub(crate) fn prove(&self, bound: &[u8]) -> Result<[u8; PROOF_BYTES], Error> {
        match self {
            Self::Plain => Ok([0; PROOF_BYTES]),
            Self::Cipher(cipher) => encrypt(cipher, bound, &mut []),
        }
    }

    /// Whether `proof` is one of `bound`.
    pub(crate) fn is_proof(&self, bound: &[u8], proof: &[u8; PROOF_BYTES]) -> bool {
        match self {
            Self::Plain => true,
            Self::Cipher(cipher) => open_proof(cipher, bound, proof, &mut []).is_some(),
        }
    }

    /// Makes `part` what is stored of a piece, and returns what it is checked by.
    pub(crate) fn close_part(&self, id: &PartId, part: &mut [u8]) -> Result<String, Error> {
        match self {
            Self::Plain => Ok(checksum(part)),
            Self::Cipher(cipher) => encrypt(cipher, &id.bound(), part).map(hex::encode),
        }
    }

    /// Makes `part` what it was; `false` if it is another one or has changed.
    pub(crate) fn open_part(&self, id: &PartId, check: &str, part: &mut [u8]) -> bool {
        match self {
            Self::Plain => checksum(part) == check,
            Self::Cipher(cipher) => {
                let mut proof = [0; PROOF_BYTES];
                hex::decode_to_slice(check, &mut proof).is_ok()
                    && open_proof(cipher, &id.bound(), &proof, part).is_some()
            }
        }
    }
}

/// Which part of which piece it is.
pub(crate) struct PartId {
    /// The piece's key.
    pub(crate) key: [u8; 32],
    /// Which part, from 0.
    pub(crate) index: u64,
}

impl PartId {
    fn bound(&self) -> Vec<u8> {
        [b"zosiaprt", &self.key[..], &self.index.to_le_bytes()].concat()
    }
}

fn checksum(part: &[u8]) -> String {
    format!("{:016x}", XxHash3_64::oneshot(part))
}

impl Encryption {
    /// The key that encrypts the session's.
    fn derive(&self, passphrase: &str) -> Result<KeyBytes, Error> {
        let damaged = |_| Error::Damaged { record: 0 };
        let work = u64::from(self.memory_kib).saturating_mul(self.passes.into());
        if self.memory_kib > MEMORY_KIB_MAX || work > WORK_KIB_MAX {
            return Err(Error::Damaged { record: 0 });
        }
        let params = Params::new(self.memory_kib, self.passes, 1, Some(32)).map_err(damaged)?;
        let count = params.block_count();
        let mut memory = Vec::new();
        memory
            .try_reserve_exact(count)
            .map_err(|_| Error::NoMemory {
                bytes: count.saturating_mul(Block::SIZE),
            })?;
        memory.resize(count, Block::default());
        let mut key = Zeroizing::new([0; 32]);
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let derived = argon2.hash_password_into_with_memory(
            passphrase.as_bytes(),
            &self.salt,
            key.as_mut_slice(),
            &mut memory,
        );
        memory.zeroize();
        derived.map_err(damaged)?;
        Ok(key)
    }
}

fn cipher(key: &KeyBytes) -> XChaCha20Poly1305 {
    let bytes: &[u8; 32] = key;
    XChaCha20Poly1305::new(bytes.into())
}

/// Encrypts `text` in place; returns its nonce and tag.
fn encrypt(
    cipher: &XChaCha20Poly1305,
    bound: &[u8],
    text: &mut [u8],
) -> Result<[u8; PROOF_BYTES], Error> {
    let nonce: [u8; NONCE_BYTES] = chance()?;
    let bytes = text.len();
    let tag = cipher
        .encrypt_inout_detached(&nonce.into(), bound, text.into())
        .map_err(|_| Error::TooLong { bytes })?;
    let mut proof = [0; PROOF_BYTES];
    for (into, byte) in proof.iter_mut().zip(nonce.iter().chain(&tag)) {
        *into = *byte;
    }
    Ok(proof)
}

fn open_proof(
    cipher: &XChaCha20Poly1305,
    bound: &[u8],
    proof: &[u8; PROOF_BYTES],
    text: &mut [u8],
) -> Option<()> {
    let (nonce, tag) = proof.split_first_chunk()?;
    decrypt(cipher, bound, nonce, text, tag.try_into().ok()?)
}

/// Decrypts `text` in place; `None` if it is not what was encrypted.
fn decrypt(
    cipher: &XChaCha20Poly1305,
    bound: &[u8],
    nonce: &[u8; NONCE_BYTES],
    text: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> Option<()> {
    cipher
        .decrypt_inout_detached(nonce.into(), bound, text.into(), tag.into())
        .ok()
}
