//! A disk of texts, as tools/run.sh writes it with nothing but a shell:
//!
//! ```text
//! zosia texts 1
//! text 8 14
//! notes.mdThese 14 byte
//! end
//! ```
//!
//! `text`, the lengths of the name and of the text in bytes, a line feed, the name, the
//! text; nothing parts it from the next one. What comes after `end` fills a sector.

use std::io::{self, ErrorKind, Read, Seek, SeekFrom};

/// What a disk of texts begins with.
pub const MAGIC: &[u8] = b"zosia texts 1\n";

/// More texts than this are not attached.
pub const FILES_MAX: usize = 1000;
/// The longest name, bytes: that of a path.
const NAME_BYTES_MAX: u64 = 4096;
/// `text`, two numbers of 20 digits, and what parts them.
const LINE_BYTES_MAX: usize = 48;

/// A text of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name, as the host has it but for what is no UTF-8.
    pub name: String,
    /// Where it begins, bytes from the begin of the disk.
    pub at: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Why a disk of texts cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The disk cannot be read.
    #[error("cannot be read")]
    Io(#[from] io::Error),
    /// It is not as it should be.
    #[error(
        "is not as tools/run.sh --attach writes a disk of texts: {what} at byte {at}; start again"
    )]
    Damaged {
        /// What was found.
        what: &'static str,
        /// Where.
        at: u64,
    },
}

/// The texts of the disk `from`, which has `bytes` bytes, in their order. Reads names
/// and lengths alone.
///
/// # Errors
/// [`ArchiveError`]: nothing of a disk that is not whole is used.
pub fn list(from: &mut (impl Read + Seek), bytes: u64) -> Result<Vec<Entry>, ArchiveError> {
    from.seek(SeekFrom::Start(0))?;
    let mut reader = Reader { from, at: 0, bytes };
    if reader.take(MAGIC.len())? != MAGIC {
        return Err(reader.damaged("another beginning"));
    }
    let mut entries = Vec::new();
    while let Some((name_bytes, text_bytes)) = reader.header()? {
        if entries.len() >= FILES_MAX {
            return Err(reader.damaged("too many texts"));
        }
        let name = reader.take(name_bytes)?;
        let entry = Entry {
            name: String::from_utf8_lossy(&name).into_owned(),
            at: reader.at,
            bytes: text_bytes,
        };
        reader.skip(text_bytes)?;
        entries.push(entry);
    }
    Ok(entries)
}

struct Reader<'f, F> {
    from: &'f mut F,
    at: u64,
    bytes: u64,
}

impl<F: Read + Seek> Reader<'_, F> {
    fn damaged(&self, what: &'static str) -> ArchiveError {
        ArchiveError::Damaged { what, at: self.at }
    }

    /// The lengths of the next name and text; `None`: there is none.
    fn header(&mut self) -> Result<Option<(usize, u64)>, ArchiveError> {
        let mut line = Vec::new();
        loop {
            match self.take(1)?.first() {
                Some(b'\n') => break,
                Some(byte) if line.len() < LINE_BYTES_MAX => line.push(*byte),
                _ => return Err(self.damaged("no header of a text")),
            }
        }
        if line == b"end" {
            return Ok(None);
        }
        let lengths = parse(&line).ok_or_else(|| self.damaged("no header of a text"))?;
        let (name_bytes, text_bytes) = lengths;
        let name_bytes = Some(name_bytes)
            .filter(|bytes| (1..=NAME_BYTES_MAX).contains(bytes))
            .and_then(|bytes| usize::try_from(bytes).ok())
            .ok_or_else(|| self.damaged("a name of impossible length"))?;
        Ok(Some((name_bytes, text_bytes)))
    }

    fn take(&mut self, bytes: usize) -> Result<Vec<u8>, ArchiveError> {
        let mut taken = vec![0; bytes];
        match self.from.read_exact(&mut taken) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Err(self.damaged("its end")),
            Err(e) => return Err(e.into()),
        }
        self.at = self
            .at
            .saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        Ok(taken)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), ArchiveError> {
        let end = self.at.checked_add(bytes).filter(|end| *end <= self.bytes);
        self.at = end.ok_or_else(|| self.damaged("a text beyond the end"))?;
        self.from.seek(SeekFrom::Start(self.at))?;
        Ok(())
    }
}

fn parse(line: &[u8]) -> Option<(u64, u64)> {
    let line = str::from_utf8(line).ok()?;
    let (name, text) = line.strip_prefix("text ")?.split_once(' ')?;
    let number = |digits: &str| {
        let only_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
        only_digits.then(|| digits.parse().ok()).flatten()
    };
    Some((number(name)?, number(text)?))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn list_in(disk: &[u8]) -> Result<Vec<Entry>, String> {
        let bytes = u64::try_from(disk.len()).unwrap();
        list(&mut Cursor::new(disk), bytes).map_err(|e| e.to_string())
    }

    #[test]
    fn names_and_places_are_listed_whatever_the_texts_hold() {
        let disk = b"zosia texts 1\ntext 3 6\na\n\xffb\nend\ntext 7 0\n-x .\"mdend\n\0\0\0";
        let entry = |name: &str, at, bytes| {
            let name = name.to_owned();
            Entry { name, at, bytes }
        };
        let expected = [entry("a\n\u{fffd}", 26, 6), entry("-x .\"md", 48, 0)];
        assert_eq!(list_in(disk).unwrap(), expected);
        assert_eq!(list_in(b"zosia texts 1\nend\n"), Ok(Vec::new()));
    }

    #[test]
    fn a_disk_that_is_not_whole_is_refused_with_the_place() {
        let whole = b"zosia texts 1\ntext 1 3\nabcdend\n";
        assert!(list_in(whole).is_ok());
        for end in 0..whole.len() {
            let error = list_in(&whole[..end]).unwrap_err();
            assert!(error.contains(" at byte "), "{end}: {error}");
        }
        for (disk, what) in [
            (&b"zosia texts 2\nend\n"[..], "another beginning at byte 14"),
            (b"zosia texts 1\ntext 0 1\na", "a name of impossible length"),
            (
                b"zosia texts 1\ntext 4097 1\na",
                "a name of impossible length",
            ),
            (
                b"zosia texts 1\ntext 1 18446744073709551615\na",
                "a text beyond the end",
            ),
            (
                b"zosia texts 1\ntext 1 18446744073709551616\na",
                "no header of a text",
            ),
            (
                b"zosia texts 1\ntext 1 +3\nabcdend\n",
                "no header of a text",
            ),
            (
                b"zosia texts 1\ntext 1  3\nabcdend\n",
                "no header of a text",
            ),
            (b"zosia texts 1\nmodel 1 3\nabcd\n", "no header of a text"),
            (
                &[&b"zosia texts 1\n"[..], &[b'1'; 100]].concat(),
                "no header of a text",
            ),
        ] {
            let error = list_in(disk).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn there_are_as_many_texts_as_can_be_and_no_more() {
        let texts = |count| {
            let mut disk = MAGIC.to_vec();
            for _ in 0..count {
                disk.extend_from_slice(b"text 1 0\na");
            }
            disk.extend_from_slice(b"end\n");
            list_in(&disk)
        };
        assert_eq!(texts(FILES_MAX).unwrap().len(), FILES_MAX);
        assert!(texts(FILES_MAX + 1).unwrap_err().contains("too many texts"));
    }
}
