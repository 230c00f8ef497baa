//! A disk in memory that remembers every write, so that tests can cut the power
//! wherever they like.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::disk::Disk;
use crate::error::Error;
use crate::journal::Journal;

/// What is written whole or not at all.
pub const SECTOR_BYTES: usize = 512;

/// What was done to the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Bytes were written.
    Write {
        /// Where.
        at: u64,
        /// Which.
        bytes: Vec<u8>,
    },
    /// Everything before stays.
    Flush,
}

/// A disk in memory; its clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    bytes: Vec<u8>,
    operations: Vec<Operation>,
    /// The size of one that does not grow.
    fixed: Option<u64>,
    /// How many more operations succeed, and how the next ones fail.
    failing: Option<(usize, io::ErrorKind)>,
    /// How many bytes were read.
    read_bytes: usize,
}

impl Memory {
    /// A disk with these bytes that grows.
    #[must_use]
    pub fn holding(bytes: Vec<u8>) -> Self {
        let inner = Inner {
            bytes,
            ..Inner::default()
        };
        Self(Arc::new(Mutex::new(inner)))
    }

    /// A disk of zeros of this size.
    #[must_use]
    pub fn fixed(size: usize) -> Self {
        let memory = Self::holding(vec![0; size]);
        memory.inner().fixed = Some(size as u64);
        memory
    }

    /// After `count` more writes and flushes, all fail with an error of this kind.
    pub fn fail_after(&self, count: usize, kind: io::ErrorKind) {
        self.inner().failing = Some((count, kind));
    }

    /// Nothing fails any more.
    pub fn mend(&self) {
        self.inner().failing = None;
    }

    /// What is on it.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.inner().bytes.clone()
    }

    /// How many bytes were read.
    #[must_use]
    pub fn read_bytes(&self) -> usize {
        self.inner().read_bytes
    }

    /// Everything that was done.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation> {
        self.inner().operations.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A session whose records have these payloads, whatever they say.
///
/// # Errors
/// They are too long.
pub fn session(payloads: &[&[u8]]) -> Result<Memory, Error> {
    let disk = Memory::default();
    let mut journal = Journal::create(Box::new(disk.clone()), None)?;
    for payload in payloads {
        journal.write_record(payload.to_vec(), 1, 0)?;
    }
    Ok(disk)
}

impl Inner {
    fn check(&mut self) -> io::Result<()> {
        match &mut self.failing {
            Some((0, kind)) => Err((*kind).into()),
            Some((left, _)) => {
                *left = left.saturating_sub(1);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// Writes `bytes` at `at` into `disk`, which grows.
pub fn write(disk: &mut Vec<u8>, at: u64, bytes: &[u8]) {
    let from = usize::try_from(at).unwrap_or(usize::MAX);
    let to = from.saturating_add(bytes.len());
    if disk.len() < to {
        disk.resize(to, 0);
    }
    if let Some(place) = disk.get_mut(from..to) {
        place.copy_from_slice(bytes);
    }
}

impl Disk for Memory {
    fn size(&self) -> io::Result<u64> {
        Ok(self.inner().bytes.len() as u64)
    }

    fn grows(&self) -> bool {
        self.inner().fixed.is_none()
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut inner = self.inner();
        let from = usize::try_from(at).unwrap_or(usize::MAX);
        let there = inner.bytes.get(from..).unwrap_or_default();
        let count = there.len().min(buffer.len());
        for (into, byte) in buffer.iter_mut().zip(there) {
            *into = *byte;
        }
        inner.read_bytes = inner.read_bytes.saturating_add(count);
        Ok(count)
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.inner();
        inner.check()?;
        let end = at.saturating_add(bytes.len() as u64);
        if inner.fixed.is_some_and(|size| end > size) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        write(&mut inner.bytes, at, bytes);
        inner.operations.push(Operation::Write {
            at,
            bytes: bytes.to_vec(),
        });
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut inner = self.inner();
        inner.check()?;
        inner.operations.push(Operation::Flush);
        Ok(())
    }
}
