//! Work that may be broken off: the interrupt flag, and copying that heeds it.

use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest as _, Sha256};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Bytes read, hashed and written at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// The grain of holes: a block of zeros this long is not written.
const HOLE_BYTES: usize = 4096;

/// Remembers the signal that asked the program to stop.
pub(crate) struct Interrupt(Arc<AtomicUsize>);

impl Interrupt {
    /// Watches for SIGINT, SIGTERM and SIGHUP from now on.
    pub(crate) fn watch() -> std::io::Result<Self> {
        let flag = Arc::new(AtomicUsize::new(0));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let number = usize::try_from(signal).unwrap_or(usize::MAX);
            signal_hook::flag::register_usize(signal, Arc::clone(&flag), number)?;
        }
        Ok(Self(flag))
    }

    /// The signal that arrived, if one did.
    pub(crate) fn signal(&self) -> Option<u8> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            signal => u8::try_from(signal).ok(),
        }
    }

    /// An error once a signal has arrived.
    pub(crate) fn check(&self) -> Result<()> {
        match self.signal() {
            Some(signal) => bail!("interrupted by signal {signal}; nothing was left behind"),
            None => Ok(()),
        }
    }

    #[cfg(test)]
    pub(crate) fn never() -> Self {
        Self(Arc::new(AtomicUsize::new(0)))
    }

    #[cfg(test)]
    pub(crate) fn raised(signal: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(signal)))
    }
}

/// A bar on standard error for `bytes` of work; invisible when that is no terminal.
pub(crate) fn progress_bar(bytes: u64, verb: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(bytes).with_message(verb);
    if let Ok(style) =
        ProgressStyle::with_template("{msg} {bar:30} {percent:>3} %  {bytes_per_sec}  {eta} left")
    {
        bar.set_style(style);
    }
    bar
}

/// Copies `bytes` from `source` to `target` at `offset`, leaving holes for zeros,
/// and returns their SHA-256. `target` must read as zeros there before.
pub(crate) fn copy_sparse(
    source: &mut impl Read,
    target: &mut (impl Write + Seek),
    offset: u64,
    bytes: u64,
    bar: &ProgressBar,
    interrupt: &Interrupt,
) -> Result<[u8; 32]> {
    let mut position = offset;
    hash_chunks(source, bytes, bar, interrupt, |chunk| {
        for block in chunk.chunks(HOLE_BYTES) {
            if block.iter().any(|&byte| byte != 0) {
                target.seek(SeekFrom::Start(position))?;
                target.write_all(block)?;
            }
            position += block.len() as u64;
        }
        Ok(())
    })
}

/// The SHA-256 of the next `bytes` of `source`.
pub(crate) fn hash(
    source: &mut impl Read,
    bytes: u64,
    bar: &ProgressBar,
    interrupt: &Interrupt,
) -> Result<[u8; 32]> {
    hash_chunks(source, bytes, bar, interrupt, |_| Ok(()))
}

fn hash_chunks(
    source: &mut impl Read,
    bytes: u64,
    bar: &ProgressBar,
    interrupt: &Interrupt,
    mut visit: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> Result<[u8; 32]> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut hasher = Sha256::new();
    let mut left = bytes;
    while left > 0 {
        interrupt.check()?;
        let length = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        let chunk = &mut buffer[..length];
        source
            .read_exact(chunk)
            .with_context(|| format!("cannot read the last {left} of {bytes} bytes"))?;
        hasher.update(&*chunk);
        visit(chunk).context("cannot write")?;
        bar.inc(length as u64);
        left -= length as u64;
    }
    Ok(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn copies_and_hashes_in_one_pass() {
        let mut bytes = vec![0; 3 * CHUNK_BYTES + 17];
        bytes[5] = 1;
        bytes[2 * CHUNK_BYTES + 4096] = 2;
        *bytes.last_mut().unwrap() = 3;
        let mut target = Cursor::new(vec![0; bytes.len() + 8192]);
        let bar = ProgressBar::hidden();
        let digest = copy_sparse(
            &mut bytes.as_slice(),
            &mut target,
            8192,
            bytes.len() as u64,
            &bar,
            &Interrupt::never(),
        )
        .unwrap();
        assert_eq!(&target.get_ref()[8192..], &bytes);
        assert_eq!(digest, <[u8; 32]>::from(Sha256::digest(&bytes)));
        assert_eq!(bar.position(), bytes.len() as u64);
    }

    #[test]
    fn stops_when_interrupted_or_when_the_source_ends() {
        let bar = ProgressBar::hidden();
        let zeros = vec![0; 4096];
        let error = hash(&mut zeros.as_slice(), 4096, &bar, &Interrupt::raised(15)).unwrap_err();
        assert!(error.to_string().contains("signal 15"), "{error}");
        let error = hash(&mut zeros.as_slice(), 4097, &bar, &Interrupt::never()).unwrap_err();
        assert!(error.to_string().contains("last 4097"), "{error}");
    }
}
