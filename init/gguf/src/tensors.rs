//! The table of tensors: their types, shapes and places in the file.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::GgufError;
use super::metadata::printable;
use super::reader::{ReadAt, Reader};
use super::uses;

/// ggml's `GGML_MAX_NAME` less the final NUL.
const NAME_BYTES_MAX: u64 = 63;
/// ggml's `GGML_MAX_DIMS`.
const DIMS_MAX: u32 = 4;

/// One tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// ggml's number of its type (`enum ggml_type`).
    pub kind: u32,
    /// Its length.
    pub bytes: u64,
}

/// All tensors.
pub(super) struct Table {
    pub(super) tensors: Vec<Tensor>,
    pub(super) names: BTreeSet<String>,
    pub(super) data_end: u64,
    pub(super) weights: u64,
}

/// A type of weights: name, weights a block, bytes a block.
type Kind = (&'static str, u64, u64);

/// ggml's types by number (`enum ggml_type` and `type_traits` of ggml.c);
/// numbers that ggml no longer reads are `None`.
static KINDS: [Option<Kind>; 43] = [
    Some(("f32", 1, 4)),
    Some(("f16", 1, 2)),
    Some(("q4_0", 32, 18)),
    Some(("q4_1", 32, 20)),
    None,
    None,
    Some(("q5_0", 32, 22)),
    Some(("q5_1", 32, 24)),
    Some(("q8_0", 32, 34)),
    Some(("q8_1", 32, 36)),
    Some(("q2_K", 256, 84)),
    Some(("q3_K", 256, 110)),
    Some(("q4_K", 256, 144)),
    Some(("q5_K", 256, 176)),
    Some(("q6_K", 256, 210)),
    Some(("q8_K", 256, 292)),
    Some(("iq2_xxs", 256, 66)),
    Some(("iq2_xs", 256, 74)),
    Some(("iq3_xxs", 256, 98)),
    Some(("iq1_s", 256, 50)),
    Some(("iq4_nl", 32, 18)),
    Some(("iq3_s", 256, 110)),
    Some(("iq2_s", 256, 82)),
    Some(("iq4_xs", 256, 136)),
    Some(("i8", 1, 1)),
    Some(("i16", 1, 2)),
    Some(("i32", 1, 4)),
    Some(("i64", 1, 8)),
    Some(("f64", 1, 8)),
    Some(("iq1_m", 256, 56)),
    Some(("bf16", 1, 2)),
    None,
    None,
    None,
    Some(("tq1_0", 256, 54)),
    Some(("tq2_0", 256, 66)),
    None,
    None,
    None,
    Some(("mxfp4", 32, 17)),
    Some(("nvfp4", 64, 36)),
    Some(("q1_0", 128, 18)),
    Some(("q2_0", 64, 18)),
];

/// Types that ggml no longer reads (`q4_2`, `q4_0_4_4` and such), and those beyond its own
/// that `ik_llama.cpp` writes, or a later ggml.
const OTHERS: [RangeInclusive<u32>; 4] = [4..=5, 31..=33, 36..=38, 43..=399];

/// A tensor's description as the file has it.
struct Entry {
    name: String,
    kind: u32,
    weights: u64,
    bytes: u64,
    offset: u64,
}

/// Reads the table of `count` tensors, which ends the header, and places them.
pub(super) fn read<S: ReadAt + ?Sized>(
    reader: &mut Reader<'_, S>,
    count: u64,
    alignment: u64,
) -> Result<Table, GgufError> {
    let mut entries = Vec::new();
    for _ in 0..count {
        entries.push(read_entry(reader)?);
    }
    refuse_duplicates(&entries)?;
    match reader.at().checked_next_multiple_of(alignment) {
        Some(data_offset) => place(entries, data_offset, alignment),
        None => Err(reader.damaged("the weights begin beyond any file".into())),
    }
}

fn refuse_duplicates(entries: &[Entry]) -> Result<(), GgufError> {
    let mut names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    names.sort_unstable();
    let mut pairs = names.iter().zip(names.iter().skip(1));
    match pairs.find(|(a, b)| a == b) {
        Some((name, _)) => Err(wrong(name, "it is there twice".into())),
        None => Ok(()),
    }
}

fn read_entry<S: ReadAt + ?Sized>(reader: &mut Reader<'_, S>) -> Result<Entry, GgufError> {
    let at = reader.at();
    let name = reader.string("a tensor's name", NAME_BYTES_MAX)?;
    let name = match String::from_utf8(name) {
        Ok(name) if !name.is_empty() && !name.chars().any(char::is_control) => name,
        _ => {
            return Err(GgufError::Damaged {
                at,
                problem: "a tensor's name is empty or not text".into(),
            });
        }
    };
    let dims = reader.u32("a tensor's shape")?;
    if dims > DIMS_MAX {
        let problem = format!("it has {dims} dimensions, and at most {DIMS_MAX} can be");
        return Err(wrong(&name, problem));
    }
    let mut row = 1;
    let mut weights: u64 = 1;
    for dim in 0..dims {
        let length = reader.u64("a tensor's shape")?;
        if dim == 0 {
            row = length;
        }
        weights = match weights.checked_mul(length) {
            Some(0) => return Err(wrong(&name, format!("its dimension {dim} is zero"))),
            Some(product) if i64::try_from(product).is_ok() => product,
            _ => return Err(wrong(&name, "its shape has too many weights".into())),
        };
    }
    let kind = reader.u32("a tensor's type")?;
    let known = usize::try_from(kind).ok().and_then(|kind| KINDS.get(kind));
    let Some(&(kind_name, block, block_bytes)) = known.and_then(Option::as_ref) else {
        if OTHERS.iter().any(|others| others.contains(&kind)) {
            return Err(GgufError::Quantization {
                tensor: printable(&name),
                kind,
            });
        }
        let problem = format!("its type {kind} is unknown to this zosia");
        return Err(wrong(&name, problem));
    };
    if !row.is_multiple_of(block) {
        let problem =
            format!("its rows of {row} weights are not whole {kind_name} blocks ({block})");
        return Err(wrong(&name, problem));
    }
    let blocks = weights.checked_div(block);
    let Some(bytes) = blocks.and_then(|blocks| blocks.checked_mul(block_bytes)) else {
        return Err(wrong(&name, "its shape has too many weights".into()));
    };
    uses::check(&name, dims, kind).map_err(|problem| wrong(&name, problem.into()))?;
    let offset = reader.u64("a tensor's offset")?;
    Ok(Entry {
        name,
        kind,
        weights,
        bytes,
        offset,
    })
}

/// Checks that the tensors lie one after the other, each aligned, as llama.cpp
/// demands, and finds where they end.
fn place(entries: Vec<Entry>, data_offset: u64, alignment: u64) -> Result<Table, GgufError> {
    let mut table = Table {
        tensors: Vec::with_capacity(entries.len()),
        names: BTreeSet::new(),
        data_end: data_offset,
        weights: 0,
    };
    let mut expected: u64 = 0;
    for entry in entries {
        let Entry { name, offset, .. } = entry;
        if offset != expected {
            let problem = if offset.is_multiple_of(alignment) {
                format!("it is said to begin at {offset}, and the one before ends at {expected}")
            } else {
                format!("it begins at {offset}, which is not a multiple of {alignment}")
            };
            return Err(wrong(&name, problem));
        }
        let end = data_offset
            .checked_add(offset)
            .and_then(|start| start.checked_add(entry.bytes));
        let next = offset
            .checked_add(entry.bytes)
            .and_then(|end| end.checked_next_multiple_of(alignment));
        let (Some(end), Some(next)) = (end, next) else {
            return Err(wrong(&name, "it ends beyond any file".into()));
        };
        expected = next;
        table.data_end = end;
        table.weights = table.weights.saturating_add(entry.weights);
        table.tensors.push(Tensor {
            kind: entry.kind,
            bytes: entry.bytes,
        });
        table.names.insert(name);
    }
    Ok(table)
}

fn wrong(tensor: &str, problem: String) -> GgufError {
    GgufError::Tensor {
        tensor: printable(tensor),
        problem,
    }
}
