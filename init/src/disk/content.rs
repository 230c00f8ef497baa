//! What a device or a file holds, told from its first bytes.

use crate::mounts::FileSystem;

/// Bytes to look at: enough for the descriptors of an ISO image and of btrfs.
pub(super) const PREFIX_BYTES: usize = 72 << 10;

/// What the first bytes look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// A model.
    Gguf,
    /// A file system that may hold models.
    FileSystem(FileSystem),
    /// Texts that the host attached.
    Texts,
    /// The ESP of a disk that boots by itself, or some other FAT.
    Fat,
    /// A partition table.
    PartitionTable,
    /// Nothing but zeroes.
    Empty,
    /// Something that is recognised and of no use: what it is, and the remedy.
    Foreign(&'static str, &'static str),
    /// Something else.
    Unknown,
}

impl Content {
    /// Why something called `shown` is no model.
    pub(super) fn refusal(self, shown: &str) -> String {
        match self {
            Self::Empty => {
                format!("{shown} is empty (zeroes); write or attach a .gguf file [ZE-10]")
            }
            Self::PartitionTable => format!(
                "{shown} has a partition table without a partition that can be used; \
                 make a GPT partition with the model in it [ZE-10]"
            ),
            Self::Fat => format!(
                "{shown} has a FAT file system, which is not read; \
                 attach the .gguf file itself as a disk, or use EROFS or ext4 [ZE-10]"
            ),
            Self::Foreign(what, remedy) => {
                format!("{shown} is not a GGUF file but {what}; {remedy} [ZE-10]")
            }
            Self::Gguf | Self::FileSystem(_) | Self::Texts | Self::Unknown => format!(
                "{shown} is not a GGUF file nor a file system with one; give the .gguf file of a model [ZE-10]"
            ),
        }
    }
}

/// A signature: where, which bytes, what it is, what to do about it.
type Signature = (usize, &'static [u8], &'static str, &'static str);

const CONVERT: &str = "convert it to GGUF, or download the model's .gguf file";
const ATTACH_RAW: &str = "attach it in its own format, or convert it to a raw image";
const UNPACK: &str = "unpack it first";
const OTHER_FS: &str = "attach the .gguf file itself as a disk, or use EROFS or ext4";

const FOREIGN: [Signature; 22] = [
    (0, b"QFI\xfb", "a qcow2 disk image", ATTACH_RAW),
    (0, b"conectix", "a VHD disk image", ATTACH_RAW),
    (0, b"vhdxfile", "a VHDX disk image", ATTACH_RAW),
    (0, b"KDMV", "a VMDK disk image", ATTACH_RAW),
    (0x40, b"\x7f\x10\xda\xbe", "a VDI disk image", ATTACH_RAW),
    (
        0,
        b"PK\x03\x04",
        "a zip archive (PyTorch weights, perhaps)",
        CONVERT,
    ),
    (0, b"\x1f\x8b", "gzip-compressed", UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "zstd-compressed", UNPACK),
    (0, b"\xfd7zXZ\0", "xz-compressed", UNPACK),
    (0, b"BZh", "bzip2-compressed", UNPACK),
    (257, b"ustar", "a tar archive", UNPACK),
    (0, b"lmgg", "a model in an old format (GGML)", CONVERT),
    (0, b"tjgg", "a model in an old format (GGJT)", CONVERT),
    (0, b"\x7fELF", "an executable", CONVERT),
    (32_769, b"CD001", "an ISO 9660 image", OTHER_FS),
    (65_600, b"_BHRfS_M", "a btrfs file system", OTHER_FS),
    (0, b"XFSB", "an XFS file system", OTHER_FS),
    (0, b"hsqs", "a squashfs file system", OTHER_FS),
    (3, b"NTFS    ", "an NTFS file system", OTHER_FS),
    (3, b"EXFAT   ", "an exFAT file system", OTHER_FS),
    (32, b"NXSB", "an APFS container", OTHER_FS),
    (1024, b"H+\0\x04", "an HFS+ file system", OTHER_FS),
];

/// Tells what `prefix`, the first [`PREFIX_BYTES`] or all there are, begins.
pub(super) fn classify(prefix: &[u8]) -> Content {
    let has = |at: usize, magic: &[u8]| {
        prefix
            .get(at..)
            .is_some_and(|bytes| bytes.starts_with(magic))
    };
    if has(0, &gguf::MAGIC) {
        return Content::Gguf;
    }
    if has(0, texts::MAGIC) {
        return Content::Texts;
    }
    if has(1024, &[0xe2, 0xe1, 0xf5, 0xe0]) {
        return Content::FileSystem(FileSystem::Erofs);
    }
    if has(1080, &[0x53, 0xef]) {
        return Content::FileSystem(FileSystem::Ext4);
    }
    for (at, magic, what, remedy) in FOREIGN {
        if has(at, magic) {
            return Content::Foreign(what, remedy);
        }
    }
    let sector_signed = has(510, &[0x55, 0xaa]);
    if sector_signed && (has(54, b"FAT") || has(82, b"FAT32")) {
        return Content::Fat;
    }
    if sector_signed || has(512, b"EFI PART") {
        return Content::PartitionTable;
    }
    if prefix.iter().all(|byte| *byte == 0) {
        return Content::Empty;
    }
    classify_text(prefix)
}

/// Formats without a magic number: safetensors and what web servers send.
fn classify_text(prefix: &[u8]) -> Content {
    let json = prefix.get(8..).unwrap_or_default();
    if json.starts_with(b"{\"") && prefix.get(6..8) == Some(&[0, 0]) {
        return Content::Foreign("a safetensors file", CONVERT);
    }
    let head = prefix.get(..prefix.len().min(512)).unwrap_or_default();
    let head = head.trim_ascii();
    let html = |start: &str| {
        head.get(..start.len())
            .is_some_and(|bytes| bytes.eq_ignore_ascii_case(start.as_bytes()))
    };
    if html("<!doctype") || html("<html") {
        return Content::Foreign(
            "a web page (an error message, perhaps)",
            "download the model's .gguf file again",
        );
    }
    if head.starts_with(b"version https://git-lfs") {
        return Content::Foreign(
            "a Git LFS pointer and not the file itself",
            "fetch it with `git lfs pull`",
        );
    }
    // The end of a device's last sector is zeroes.
    let text = head.split(|byte| *byte == 0).next().unwrap_or_default();
    let written = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..);
    if text.len() >= 8 && text.iter().all(written) && std::str::from_utf8(text).is_ok() {
        return Content::Foreign("text", "give the .gguf file of a model");
    }
    Content::Unknown
}
