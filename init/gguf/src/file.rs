//! One file's header: its keys and its table of tensors.

use super::metadata::Metadata;
use super::reader::{ReadAt, Reader};
use super::{End, GgufError, MAGIC, tensors};

/// More keys than any model has (they have about 50), few enough to hold.
pub(super) const KEYS_MAX: u64 = 4096;
/// More tensors than any model has (about 2000), few enough to hold.
pub(super) const TENSORS_MAX: u64 = 16_384;
/// What `general.alignment` is when the file does not say. No less will do: ggml
/// aborts on weights that are not aligned to 32 bytes.
const ALIGNMENT_DEFAULT: u64 = 32;
/// No file aligns its weights more coarsely: 32 or 64 bytes, at most a page.
const ALIGNMENT_MAX: u64 = 1 << 20;

/// What the header says of one file, or of those that have been added to it.
pub(super) struct File {
    pub(super) metadata: Metadata,
    pub(super) table: tensors::Table,
    /// Where the weights of each file end.
    pub(super) ends: Vec<End>,
}

impl File {
    /// Reads a file of `bytes`, all of whose weights must be there.
    pub(super) fn read<S: ReadAt + ?Sized>(source: &S, bytes: u64) -> Result<Self, GgufError> {
        let (mut reader, tensor_count, metadata) = read_head(source, bytes)?;
        refuse_unusable(&metadata)?;
        let alignment = read_alignment(&metadata)?;
        let table = tensors::read(&mut reader, tensor_count, alignment)?;
        if table.data_end > bytes {
            return Err(GgufError::Cut {
                promised: table.data_end,
                there: bytes,
            });
        }
        let end = End {
            data_end: table.data_end,
            alignment,
        };
        Ok(Self {
            metadata,
            table,
            ends: vec![end],
        })
    }
}

/// Reads a file's keys; returns the reader behind them, and how many tensors there are.
pub(super) fn read_head<S: ReadAt + ?Sized>(
    source: &S,
    bytes: u64,
) -> Result<(Reader<'_, S>, u64, Metadata), GgufError> {
    let mut reader = Reader::new(source, bytes);
    read_preamble(&mut reader)?;
    let tensor_count = reader.count("the number of tensors", TENSORS_MAX)?;
    let key_count = reader.count("the number of metadata keys", KEYS_MAX)?;
    let metadata = Metadata::read(&mut reader, key_count)?;
    Ok((reader, tensor_count, metadata))
}

/// Reads the magic and the version.
fn read_preamble<S: ReadAt + ?Sized>(reader: &mut Reader<'_, S>) -> Result<(), GgufError> {
    let magic: [u8; 4] = reader.array("the magic")?;
    if magic != MAGIC {
        return Err(GgufError::NotGguf {
            found: magic.escape_ascii().to_string(),
        });
    }
    let version = reader.u32("the version")?;
    match version {
        2 | 3 => Ok(()),
        _ if matches!(version.swap_bytes(), 1..=3) => Err(GgufError::BigEndian),
        _ => Err(GgufError::Version { version }),
    }
}

/// Refuses files that are valid GGUF but not chat models.
fn refuse_unusable(metadata: &Metadata) -> Result<(), GgufError> {
    let what = match metadata.text("general.type") {
        Some("adapter") => "an adapter (LoRA), not a model of its own",
        Some("mmproj") => "a vision or audio projector, not a model of its own",
        Some("imatrix") => "an importance matrix, not a model",
        Some("vocab") => "a vocabulary without weights",
        _ if metadata.text("general.architecture") == Some("clip") => {
            "a vision or audio projector, not a model of its own"
        }
        _ => return Ok(()),
    };
    Err(GgufError::NoChatModel { what })
}

fn read_alignment(metadata: &Metadata) -> Result<u64, GgufError> {
    const KEY: &str = "general.alignment";
    if !metadata.has(KEY) {
        return Ok(ALIGNMENT_DEFAULT);
    }
    match metadata.u32(KEY) {
        Some(alignment)
            if alignment.is_power_of_two()
                && (ALIGNMENT_DEFAULT..=ALIGNMENT_MAX).contains(&alignment) =>
        {
            Ok(alignment)
        }
        Some(alignment) => Err(GgufError::Key {
            key: KEY.into(),
            problem: format!(
                "{alignment} is not a power of two from {ALIGNMENT_DEFAULT} to {ALIGNMENT_MAX}"
            ),
        }),
        None => Err(GgufError::Key {
            key: KEY.into(),
            problem: "it is not an unsigned number of 32 bits".into(),
        }),
    }
}
