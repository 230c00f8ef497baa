//! Where things lie on a disk, and what they are called.

use anyhow::{Result, bail};
use gguf::PartName;
use gpt::partition::Partition;
use gpt::partition_types::{OperatingSystem, Type};
use sha2::{Digest as _, Sha256};
use uuid::{Builder, Uuid, uuid};

/// The only sector size that images are made with.
pub(crate) const SECTOR_BYTES: u64 = 512;
/// Every partition begins at a multiple of this.
pub(crate) const ALIGNMENT_BYTES: u64 = 1 << 20;
/// A GPT label holds this many UTF-16 units.
pub(crate) const LABEL_UNITS_MAX: usize = 36;
/// A GPT of the usual size holds this many partitions.
pub(crate) const PARTITIONS_MAX: usize = 128;

/// The label by which the guest finds the parameters.
pub(crate) const PARAMETERS_LABEL: &str = "zosia-parameters";
/// The label by which this program finds the checksums.
pub(crate) const MANIFEST_LABEL: &str = "zosia-manifest";
/// The label of the EFI system partition.
pub(crate) const ESP_LABEL: &str = "EFI";

const ESP_TYPE: Uuid = uuid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
const LINUX_TYPE: Uuid = uuid!("0fc63daf-8483-4772-8e79-3d69d8477de4");
// Version 8 UUIDs that spell "zosia" and what is inside.
const MODEL_TYPE: Uuid = uuid!("7a6f7369-6100-8000-8000-6d6f64656c00");
const PARAMETERS_TYPE: Uuid = uuid!("7a6f7369-6100-8000-8000-706172616d73");
const MANIFEST_TYPE: Uuid = uuid!("7a6f7369-6100-8000-8000-6d616e696673");

/// What a partition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The EFI system partition.
    Esp,
    /// Parameters for the guest.
    Parameters,
    /// Checksums of everything else.
    Manifest,
    /// A bare GGUF file.
    Model,
    /// A file system with a model in it.
    FileSystem,
}

impl Kind {
    fn type_guid(self) -> Uuid {
        match self {
            Self::Esp => ESP_TYPE,
            Self::Parameters => PARAMETERS_TYPE,
            Self::Manifest => MANIFEST_TYPE,
            Self::Model => MODEL_TYPE,
            Self::FileSystem => LINUX_TYPE,
        }
    }

    /// What a partition of type `guid` holds; `None` for types not of ours.
    pub(crate) fn of(guid: Uuid) -> Option<Self> {
        [
            Self::Esp,
            Self::Parameters,
            Self::Manifest,
            Self::Model,
            Self::FileSystem,
        ]
        .into_iter()
        .find(|kind| kind.type_guid() == guid)
    }

    /// The word that `list` shows.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Esp => "esp",
            Self::Parameters => "parameters",
            Self::Manifest => "manifest",
            Self::Model => "gguf",
            Self::FileSystem => "file system",
        }
    }
}

/// A place for `bytes` bytes, from byte `offset` of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

impl Extent {
    /// The GPT entry for this place.
    pub(crate) fn entry(self, kind: Kind, uuid: Uuid, label: &str) -> Partition {
        let first_lba = self.offset / SECTOR_BYTES;
        Partition {
            part_type_guid: Type {
                guid: kind.type_guid(),
                os: OperatingSystem::None,
            },
            part_guid: uuid,
            first_lba,
            last_lba: first_lba + self.bytes.div_ceil(SECTOR_BYTES) - 1,
            flags: 0,
            name: label.to_owned(),
        }
    }
}

/// Lays `sizes` out one after another, and returns the disk's size as well: a
/// megabyte before the first and at least the backup table after the last.
pub(crate) fn lay_out(sizes: &[u64]) -> (Vec<Extent>, u64) {
    let mut offset = ALIGNMENT_BYTES;
    let mut extents = Vec::with_capacity(sizes.len());
    for &bytes in sizes {
        extents.push(Extent { offset, bytes });
        offset = (offset + bytes).next_multiple_of(ALIGNMENT_BYTES);
    }
    (extents, offset + ALIGNMENT_BYTES)
}

/// The UUID that a digest stands for: its first 16 bytes as a version 8 UUID.
pub(crate) fn uuid_of(digest: &[u8; 32]) -> Uuid {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Builder::from_custom_bytes(bytes).into_uuid()
}

/// The UUID of a text that is on the disk.
pub(crate) fn uuid_of_text(text: &str) -> Uuid {
    uuid_of(&Sha256::digest(text.as_bytes()).into())
}

/// The label for a model's file: its name without `.gguf`, every character that
/// `zosia.model=` could not spell (a space, a slash, anything but printable
/// ASCII) replaced by `-`. A longer name keeps its first 27 characters, then
/// `~` and the first 8 digits of the model's SHA-256: quantizations of one model
/// differ at the end of their names, and must not share a label. That of a part ends as
/// its name does, and what is before it is the same for all parts, with digits of their
/// name's SHA-256: it tells that they are one model's.
pub(crate) fn label_for(file_name: &str, sha256: &[u8; 32]) -> String {
    let stem = file_name
        .strip_suffix(".gguf")
        .or_else(|| file_name.strip_suffix(".GGUF"))
        .unwrap_or(file_name);
    let label: String = stem
        .chars()
        .map(|c| if is_label_char(c) { c } else { '-' })
        .collect();
    if label.len() <= LABEL_UNITS_MAX {
        return label;
    }
    let (begin, digits, end) = match PartName::of(&label) {
        Some(part) => {
            let end = label[part.stem.len()..].to_owned();
            (part.stem, Sha256::digest(stem_of_parts(stem)).into(), end)
        }
        None => (&*label, *sha256, String::new()),
    };
    let kept = begin.len().min(LABEL_UNITS_MAX - 9 - end.len());
    format!(
        "{}~{}{end}",
        &begin[..kept],
        &hex::encode::<[u8; 32]>(digits)[..8]
    )
}

/// What all parts are called, as it is in their files' names.
fn stem_of_parts(stem: &str) -> &str {
    PartName::of(stem).map_or(stem, |part| part.stem)
}

/// Refuses a label that the user gave and that no partition should have.
pub(crate) fn check_label(label: &str) -> Result<()> {
    if label.is_empty() || label.len() > LABEL_UNITS_MAX || !label.chars().all(is_label_char) {
        bail!(
            "\"{label}\" cannot be a label: 1 to {LABEL_UNITS_MAX} printable ASCII characters, no space, no slash"
        );
    }
    if [PARAMETERS_LABEL, MANIFEST_LABEL, ESP_LABEL].contains(&label) {
        bail!("\"{label}\" cannot be a model's label: it is taken");
    }
    Ok(())
}

fn is_label_char(c: char) -> bool {
    c.is_ascii_graphic() && c != '/'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lays_out_aligned_and_leaves_room_for_both_tables() {
        let (extents, disk_bytes) = lay_out(&[1, ALIGNMENT_BYTES, 5 << 30, 513]);
        let offsets: Vec<u64> = extents.iter().map(|extent| extent.offset >> 20).collect();
        assert_eq!(offsets, [1, 2, 3, 3 + 5 * 1024]);
        assert_eq!(disk_bytes >> 20, 3 + 5 * 1024 + 2);
        let entry = extents[3].entry(Kind::Model, Uuid::nil(), "x");
        assert_eq!(entry.last_lba - entry.first_lba, 1);
    }

    #[test]
    fn labels_are_short_ascii_and_keep_quantizations_apart() {
        let sha256 = [0xab; 32];
        assert_eq!(label_for("tiny.gguf", &sha256), "tiny");
        assert_eq!(label_for("TINY.GGUF", &sha256), "TINY");
        assert_eq!(label_for("no extension", &sha256), "no-extension");
        assert_eq!(label_for("zażółć/ \u{1f600}.gguf", &sha256), "za-------");
        let exact = "m".repeat(36);
        assert_eq!(label_for(&format!("{exact}.gguf"), &sha256), exact);
        let long = label_for("Mistral-Small-3.2-24B-Instruct-2506-Q4_K_M.gguf", &sha256);
        assert_eq!(long, "Mistral-Small-3.2-24B-Instr~abababab");
        assert_eq!(long.encode_utf16().count(), LABEL_UNITS_MAX);
        check_label(&long).unwrap();
    }

    #[test]
    fn labels_of_parts_end_as_their_names_and_tell_models_apart() {
        let label = |quantization: &str, number: u32, digit: u8| {
            let name = format!("Meta-Llama-3.1-70B-Instruct-{quantization}-0000{number}-of-00002");
            label_for(&format!("{name}.gguf"), &[digit; 32])
        };
        let (first, second) = (label("Q6_K", 1, 1), label("Q6_K", 2, 2));
        let part = PartName::of(&first).unwrap();
        assert_eq!((part.number, part.count), (1, 2));
        assert_eq!(part.with_number(2), second);
        assert!(first.starts_with("Meta-Llama-3~"), "{first}");
        assert_eq!(first.len(), LABEL_UNITS_MAX);
        let other = label("Q8_0", 1, 1);
        assert_ne!(PartName::of(&other).unwrap().stem, part.stem);
        check_label(&first).unwrap();
        let short = label_for("tiny-00001-of-00002.gguf", &[0; 32]);
        assert_eq!(short, "tiny-00001-of-00002");
    }

    #[test]
    fn refuses_labels_that_cannot_be_spelled() {
        for bad in [
            "",
            "a b",
            "a/b",
            "ü",
            "zosia-parameters",
            "EFI",
            &"x".repeat(37),
        ] {
            assert!(check_label(bad).is_err(), "{bad}");
        }
        check_label("phi-3.5:q4").unwrap();
    }

    #[test]
    fn uuids_are_valid_and_depend_on_the_contents() {
        let a = uuid_of(&[0xff; 32]);
        assert_eq!(a.get_version_num(), 8);
        assert_eq!(a.to_string(), "ffffffff-ffff-8fff-bfff-ffffffffffff");
        assert_ne!(uuid_of_text("a"), uuid_of_text("b"));
        assert_eq!(Kind::of(MODEL_TYPE), Some(Kind::Model));
        assert_eq!(Kind::of(a), None);
    }
}
