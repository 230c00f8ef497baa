//! Reads the model into the page cache before llama.cpp maps it: so that there
//! is progress to show, and so that a disk which cannot be read says where.
//! llama.cpp maps with `MAP_POPULATE`, which tells of no progress and, on a
//! persistent read error, never returns.

#![expect(unsafe_code, reason = "maps the file")]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use memmap2::{Advice, Mmap};
use rustix::io::{ReadWriteFlags, preadv2};
use sha2::{Digest as _, Sha256};

use super::interrupt::Interrupt;

/// Read at once: small enough for progress at the pace of a slow disk, large
/// enough that the system calls do not count.
const WINDOW_BYTES: usize = 8 << 20;

/// Smaller, for hashing: what was just read is still in the processor's cache.
const HASH_WINDOW_BYTES: usize = 1 << 20;

/// Often enough to notice a file that is being read for the first time or has
/// been evicted, seldom enough to cost milliseconds with gigabytes.
const PROBE_BYTES: usize = 1 << 20;

/// When a window fails, it is read again in these steps to find the place.
const PAGE_BYTES: usize = 4096;

/// Progress is told this often.
const INTERVAL: Duration = Duration::from_millis(100);

/// The rate is that of this long a time, or a little more.
const RATE_WINDOW: Duration = Duration::from_secs(1);

/// Why reading ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WarmError {
    /// The disk does not give what it should.
    #[error(
        "the model cannot be read at byte {offset}: {source}; \
         check the disk or copy the file again [ZE-23]"
    )]
    Read {
        /// Where.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The file is another.
    #[error(
        "the model's SHA-256 is {got} and should be {expected}; \
         the file is damaged or not the one meant: download it again [ZE-13]"
    )]
    Hash {
        /// What it should be.
        expected: String,
        /// What it is.
        got: String,
    },
    /// The other side is gone or has asked to stop.
    #[error("loading was interrupted")]
    Interrupted,
}

/// Reads `file` up to `bytes`. `progress` is told bytes done and bytes a
/// second, at most ten times a second.
///
/// # Errors
/// [`WarmError`].
pub(crate) fn warm(
    file: &File,
    bytes: u64,
    interrupt: &Interrupt,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), WarmError> {
    // A device is read, not mapped: its metadata has no length, and a fault on
    // a sector that cannot be read may be tried again for ever.
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return read_through(file, bytes, interrupt, progress, &mut |_, _| {});
    }
    if !interrupt.is_requested() && is_cached(file, bytes) {
        return Ok(());
    }
    // SAFETY: memmap2 asks that the file be not changed or cut while it is
    // mapped. No byte of the map is ever looked at: it only names the pages to
    // the kernel, which reports those that are gone as an error.
    let Ok(map) = (unsafe { Mmap::map(file) }) else {
        return read_through(file, bytes, interrupt, progress, &mut |_, _| {});
    };
    let mut meter = Meter::new(progress);
    let length = map.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
    let mut offset = 0;
    while offset < length {
        if interrupt.is_requested() {
            return Err(WarmError::Interrupted);
        }
        let window = WINDOW_BYTES.min(length - offset);
        if map
            .advise_range(Advice::PopulateRead, offset, window)
            .is_err()
        {
            // A kernel older than 5.14 does not know the advice; a disk that
            // cannot be read fails here too, and there.
            let from = offset as u64;
            return read_on(file, from, bytes, interrupt, &mut meter, &mut |_, _| {});
        }
        offset += window;
        meter.reached(offset as u64);
    }
    Ok(())
}

/// Whether `file`'s first `bytes` seem to be in the page cache: then there is
/// nothing to wait for, and mapping them twice would only cost time. Asked of a
/// byte in every [`PROBE_BYTES`], by reads that may not wait for a disk:
/// `cachestat` tells it only who may write the file. `false` also where the
/// kernel or the file system cannot tell.
fn is_cached(file: &File, bytes: u64) -> bool {
    let mut byte = [0];
    (0..bytes).step_by(PROBE_BYTES).all(|offset| {
        let mut buffers = [io::IoSliceMut::new(&mut byte)];
        preadv2(file, &mut buffers, offset, ReadWriteFlags::NOWAIT) == Ok(1)
    })
}

/// Reads `file` up to `bytes`, and compares its SHA-256 with `expected`. The
/// file may end at any of `ends` instead of at `bytes`: a device is longer than
/// the file on it.
///
/// # Errors
/// [`WarmError`].
pub(crate) fn warm_and_hash(
    file: &File,
    bytes: u64,
    ends: &[u64],
    expected: &str,
    interrupt: &Interrupt,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), WarmError> {
    let mut hash = Sha256::new();
    let mut hashes = Vec::new();
    let mut take = |offset: u64, data: &[u8]| {
        let mut from = 0;
        for end in ends {
            let at = end
                .checked_sub(offset)
                .and_then(|at| usize::try_from(at).ok());
            if let Some(part) = at.and_then(|at| data.get(from..at)) {
                hash.update(part);
                from += part.len();
                hashes.push(hex::encode(hash.clone().finalize()));
            }
        }
        hash.update(data.get(from..).unwrap_or(&[]));
    };
    read_through(file, bytes, interrupt, progress, &mut take)?;
    hashes.push(hex::encode(hash.finalize()));
    if hashes.iter().any(|got| got.eq_ignore_ascii_case(expected)) {
        return Ok(());
    }
    Err(WarmError::Hash {
        expected: expected.to_owned(),
        got: hashes.first().cloned().unwrap_or_default(),
    })
}

fn read_through(
    file: &File,
    bytes: u64,
    interrupt: &Interrupt,
    progress: &mut dyn FnMut(u64, u64),
    take: &mut dyn FnMut(u64, &[u8]),
) -> Result<(), WarmError> {
    read_on(file, 0, bytes, interrupt, &mut Meter::new(progress), take)
}

/// Reads from `offset` on, window by window, and hands each to `take`.
fn read_on(
    file: &File,
    mut offset: u64,
    bytes: u64,
    interrupt: &Interrupt,
    meter: &mut Meter<'_>,
    take: &mut dyn FnMut(u64, &[u8]),
) -> Result<(), WarmError> {
    let mut buffer = vec![0; HASH_WINDOW_BYTES];
    while offset < bytes {
        if interrupt.is_requested() {
            return Err(WarmError::Interrupted);
        }
        let left = usize::try_from(bytes - offset).unwrap_or(usize::MAX);
        let length = HASH_WINDOW_BYTES.min(left);
        let window = buffer.get_mut(..length).unwrap_or_default();
        match file.read_at(window, offset) {
            Ok(0) => {
                let source = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Err(WarmError::Read { offset, source });
            }
            Ok(count) => {
                take(offset, window.get(..count).unwrap_or_default());
                offset += count as u64;
                meter.reached(offset);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(locate(file, offset, window, source)),
        }
    }
    Ok(())
}

/// The first page of a window that cannot be read.
fn locate(file: &File, start: u64, window: &mut [u8], source: io::Error) -> WarmError {
    let mut offset = start;
    for page in window.chunks_mut(PAGE_BYTES) {
        if let Err(source) = file.read_exact_at(page, offset) {
            return WarmError::Read { offset, source };
        }
        offset += page.len() as u64;
    }
    // It was readable the second time; the first error stands.
    WarmError::Read {
        offset: start,
        source,
    }
}

/// Tells of progress at intervals, with the latest rate.
pub(crate) struct Meter<'a> {
    progress: &'a mut dyn FnMut(u64, u64),
    told: Instant,
    /// Where the rate is measured from.
    mark: (Instant, u64),
    /// Where it will be measured from next.
    next_mark: (Instant, u64),
}

impl<'a> Meter<'a> {
    /// Nothing done yet.
    pub(crate) fn new(progress: &'a mut dyn FnMut(u64, u64)) -> Self {
        let now = Instant::now();
        Self {
            progress,
            told: now,
            mark: (now, 0),
            next_mark: (now, 0),
        }
    }

    /// `bytes` are done.
    pub(crate) fn reached(&mut self, bytes: u64) {
        let now = Instant::now();
        if now - self.told < INTERVAL {
            return;
        }
        self.told = now;
        if now - self.next_mark.0 > RATE_WINDOW {
            self.mark = self.next_mark;
            self.next_mark = (now, bytes);
        }
        let millis = u64::try_from((now - self.mark.0).as_millis()).unwrap_or(u64::MAX);
        let rate = (bytes - self.mark.1)
            .saturating_mul(1000)
            .checked_div(millis);
        (self.progress)(bytes, rate.unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file_of(content: &[u8]) -> File {
        let path = std::env::temp_dir().join(format!(
            "zosia-warm-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all(content).unwrap();
        file
    }

    fn busy() -> Interrupt {
        let interrupt = Interrupt::new();
        let number = interrupt.number_next();
        interrupt.begin(number);
        interrupt
    }

    /// SHA-256 of "abc", FIPS 180-4.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn the_hash_may_end_before_the_device_does() {
        let file = file_of(b"abc\0\0\0\0\0");
        let check = |ends: &[u64], expected: &str| {
            warm_and_hash(&file, 8, ends, expected, &busy(), &mut |_, _| {})
        };
        check(&[3], ABC).unwrap();
        check(&[2, 3], &ABC.to_uppercase()).unwrap();
        let error = check(&[2], ABC).unwrap_err();
        assert!(matches!(error, WarmError::Hash { .. }), "{error}");
        warm_and_hash(&file, 3, &[], ABC, &busy(), &mut |_, _| {}).unwrap();
    }

    #[test]
    fn a_file_that_ends_early_is_named_with_the_place() {
        let file = file_of(&[7; 5000]);
        let error = warm_and_hash(&file, 9000, &[], ABC, &busy(), &mut |_, _| {}).unwrap_err();
        assert!(
            matches!(error, WarmError::Read { offset: 5000, .. }),
            "{error}"
        );
        warm(&file, 5000, &busy(), &mut |_, _| {}).unwrap();
    }

    #[test]
    fn a_file_just_written_is_cached_and_one_that_ends_early_is_not() {
        let content = vec![7; 3 * PROBE_BYTES];
        let file = file_of(&content);
        assert!(is_cached(&file, content.len() as u64));
        assert!(!is_cached(&file, content.len() as u64 + 1));
    }

    #[test]
    fn an_interrupt_ends_it() {
        let file = file_of(&[7; 5000]);
        let interrupt = busy();
        interrupt.cancel();
        let result = warm(&file, 5000, &interrupt, &mut |_, _| {});
        assert!(matches!(result, Err(WarmError::Interrupted)));
    }
}
