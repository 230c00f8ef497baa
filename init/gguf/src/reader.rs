//! Reading little-endian values in order, through a small window, never past
//! the end of the file nor past a sane length of header.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::GgufError;

/// Bytes read at a time: a header is read in some tens of calls.
const WINDOW_BYTES: usize = 256 << 10;
/// The longest header seen (a vocabulary of 262 144 tokens) has 16 MiB.
const HEADER_BYTES_MAX: u64 = 256 << 20;

/// Something that can be read at an offset.
pub trait ReadAt {
    /// Fills `buf` with the bytes at `offset`.
    ///
    /// # Errors
    /// The system's; `UnexpectedEof` when there are fewer bytes.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buf, offset)
    }
}

impl ReadAt for [u8] {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(buf.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

/// A position in a header.
pub(super) struct Reader<'a, S: ?Sized> {
    source: &'a S,
    end: u64,
    at: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl<'a, S: ReadAt + ?Sized> Reader<'a, S> {
    /// A reader at the start of a source of `end` bytes.
    pub(super) fn new(source: &'a S, end: u64) -> Self {
        Self {
            source,
            end,
            at: 0,
            window: Vec::new(),
            window_at: 0,
        }
    }

    /// Bytes from the file's start.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Refuses `bytes` more if the file or the sanest header has not as many.
    fn claim(&self, bytes: u64, what: &'static str) -> Result<u64, GgufError> {
        match self.at.checked_add(bytes) {
            Some(next) if next <= self.end.min(HEADER_BYTES_MAX) => Ok(next),
            Some(next) if next > self.end && bytes <= HEADER_BYTES_MAX => {
                Err(GgufError::CutHeader {
                    what,
                    at: self.at,
                    there: self.end,
                })
            }
            _ => Err(self.damaged(format!("{what} would take {bytes} bytes"))),
        }
    }

    /// Steps over `bytes`.
    pub(super) fn skip(&mut self, bytes: u64, what: &'static str) -> Result<(), GgufError> {
        self.at = self.claim(bytes, what)?;
        Ok(())
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], GgufError> {
        let mut out = [0; N];
        self.fill(&mut out, what)?;
        Ok(out)
    }

    /// The next bytes, as many as `out` holds.
    fn fill(&mut self, out: &mut [u8], what: &'static str) -> Result<(), GgufError> {
        let next = self.claim(out.len() as u64, what)?;
        let mut at = self.at;
        let mut rest = out;
        while !rest.is_empty() {
            let window = self.window_from(at)?;
            let count = window.len().min(rest.len());
            let (Some(from), Some((to, later))) =
                (window.get(..count), rest.split_at_mut_checked(count))
            else {
                break;
            };
            to.copy_from_slice(from);
            rest = later;
            at = at.saturating_add(count as u64);
        }
        self.at = next;
        Ok(())
    }

    /// Bytes in memory from `at` on, at least one; `at` is before the end.
    fn window_from(&mut self, at: u64) -> Result<&[u8], GgufError> {
        let inside = at
            .checked_sub(self.window_at)
            .is_some_and(|skip| skip < self.window.len() as u64);
        if !inside {
            let count = self.end.saturating_sub(at).min(WINDOW_BYTES as u64);
            self.window.resize(usize::try_from(count).unwrap_or(0), 0);
            self.window_at = at;
            let read = self.source.read_exact_at(&mut self.window, at);
            if let Err(source) = read {
                self.window.clear();
                return Err(GgufError::Read { at, source });
            }
        }
        let skip = usize::try_from(at.saturating_sub(self.window_at)).unwrap_or(usize::MAX);
        Ok(self.window.get(skip..).unwrap_or_default())
    }

    /// A 32-bit number.
    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// A 64-bit number.
    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A 64-bit number that is at most `max`.
    pub(super) fn count(&mut self, what: &'static str, max: u64) -> Result<u64, GgufError> {
        let at = self.at;
        let count = self.u64(what)?;
        if count > max {
            return Err(GgufError::Damaged {
                at,
                problem: format!("{what} is {count}, and at most {max} can be"),
            });
        }
        Ok(count)
    }

    /// A string's bytes: a 64-bit length, at most `max`, and as many bytes.
    pub(super) fn string(&mut self, what: &'static str, max: u64) -> Result<Vec<u8>, GgufError> {
        let length = self.string_length(what, max)?;
        // The bytes are claimed before they are allocated.
        self.claim(length, what)?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        self.fill(&mut bytes, what)?;
        Ok(bytes)
    }

    /// Steps over a string.
    pub(super) fn skip_string(&mut self, what: &'static str, max: u64) -> Result<(), GgufError> {
        let length = self.string_length(what, max)?;
        self.skip(length, what)
    }

    fn string_length(&mut self, what: &'static str, max: u64) -> Result<u64, GgufError> {
        let at = self.at;
        let length = self.u64(what)?;
        if length > max {
            return Err(GgufError::Damaged {
                at,
                problem: format!("{what} has {length} bytes, and at most {max} can be"),
            });
        }
        Ok(length)
    }

    /// Something is wrong here.
    pub(super) fn damaged(&self, problem: String) -> GgufError {
        GgufError::Damaged {
            at: self.at,
            problem,
        }
    }
}
