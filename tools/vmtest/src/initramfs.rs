//! The archive inside the EFI file: cpio "newc", uncompressed, as the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst` describes it.

use std::io::Write as _;
use std::process::Command;

use tempfile::NamedTempFile;

use crate::OrFail;

/// The six digits before every member, and the length of a member's header.
const MAGIC: &[u8] = b"070701";
const HEADER_BYTES: usize = 110;
const LAST_MEMBER: &str = "TRAILER!!!";

/// A member of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path, without a leading slash.
    pub path: String,
    /// Its file mode, type bits included.
    pub mode: u32,
    /// Its contents.
    pub contents: Vec<u8>,
}

impl Entry {
    /// Whether it is a regular file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.mode & 0o170_000 == 0o100_000
    }
}

/// The members of the only archive inside `image`, which may hold anything else
/// around it: the kernel's own code has the magic digits in it, but no header.
#[must_use]
pub fn entries_in(image: &[u8]) -> Vec<Entry> {
    let mut starts = image.windows(MAGIC.len()).enumerate();
    let start = starts.find(|&(at, bytes)| bytes == MAGIC && header_at(image, at).is_some());
    let (mut at, _) = start.or_fail("find an uncompressed cpio archive");
    let base = at;
    let mut entries = Vec::new();
    loop {
        let [mode, bytes, name_bytes] = header_at(image, at).or_fail("read a cpio header");
        let name = at + HEADER_BYTES;
        let path = &image[name..name + name_bytes as usize - 1];
        let path = String::from_utf8_lossy(path).into_owned();
        if path == LAST_MEMBER {
            return entries;
        }
        let contents = base + (name + name_bytes as usize - base).next_multiple_of(4);
        let end = contents + bytes as usize;
        entries.push(Entry {
            path,
            mode,
            contents: image[contents..end].to_vec(),
        });
        at = base + (end - base).next_multiple_of(4);
    }
}

/// The kernel that is packed into a bzImage, as its setup header says
/// (`Documentation/arch/x86/boot.rst`); its length follows what LZ4 made.
#[must_use]
pub fn packed_kernel(image: &[u8]) -> Vec<u8> {
    let u32_at = |at: usize| {
        let bytes = image.get(at..at + 4).or_fail("read the setup header");
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize
    };
    let start = (usize::from(image[0x1f1]) + 1) * 512 + u32_at(0x248);
    let payload = &image[start..start + u32_at(0x24c) - 4];
    let mut packed = NamedTempFile::new().or_fail("make a file");
    packed.write_all(payload).or_fail("write a file");
    let unpacked = Command::new("lz4")
        .args(["-d", "-c"])
        .arg(packed.path())
        .output()
        .or_fail("start lz4");
    assert!(unpacked.status.success(), "lz4: {}", unpacked.status);
    unpacked.stdout
}

/// One member, as bytes of an archive.
fn member(path: &str, mode: u32, contents: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| u32::try_from(bytes).or_fail("count a member's bytes");
    let mut fields = [0_u32; 13];
    fields[1] = mode;
    fields[6] = length(contents.len());
    fields[11] = length(path.len() + 1);
    let mut bytes = MAGIC.to_vec();
    for field in fields {
        bytes.extend(format!("{field:08x}").bytes());
    }
    bytes.extend(path.bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(contents);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// An archive of one empty file, which takes the place of what the machine has there.
#[must_use]
pub fn empty_file(path: &str) -> Vec<u8> {
    let mut archive = member(path, 0o100_644, b"");
    archive.extend(member(LAST_MEMBER, 0, b""));
    archive
}

/// Mode, length of the contents and length of the name, if a header is there.
fn header_at(image: &[u8], at: usize) -> Option<[u32; 3]> {
    let header = image.get(at..at + HEADER_BYTES)?;
    if !header.starts_with(MAGIC) || !header.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let field = |index: usize| {
        let digits = &header[MAGIC.len() + 8 * index..][..8];
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    Some([field(1)?, field(6)?, field(11)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_archive_behind_other_bytes() {
        let mut image = b"the kernel compares with 070701 in its text ".to_vec();
        image.extend(member("dev", 0o040_755, b""));
        image.extend(member("init", 0o100_755, b"ELF!!"));
        image.extend(member(LAST_MEMBER, 0, b""));
        image.extend(b"more kernel");
        let entries = entries_in(&image);
        assert_eq!(entries.len(), 2);
        assert_eq!(
            (entries[0].path.as_str(), entries[0].is_file()),
            ("dev", false)
        );
        assert_eq!(
            (entries[1].path.as_str(), entries[1].is_file()),
            ("init", true)
        );
        assert_eq!(entries[1].contents, b"ELF!!");
    }
}
