//! A model in several files, as `llama-gguf-split` makes them: the first has all the
//! metadata, and each says which part it is, of how many, and how many tensors the
//! whole model has.

use super::error::{GgufError, PartError};
use super::file::{File, TENSORS_MAX, read_head};
use super::metadata::{Metadata, printable};
use super::reader::ReadAt;
use super::tensors::Table;

/// More parts than any model has; each takes a descriptor.
const PARTS_MAX: u64 = 256;

const NUMBER: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// Which part of a model a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// How many parts the model has: at least 2.
    pub count: u64,
    /// How many tensors all parts have together.
    pub tensors: u64,
    /// Which part this is, from 1.
    pub number: u64,
}

/// What a file is called, without `.gguf`, that is one part of a model: `NAME-00002-of-00003`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartName<'n> {
    /// What all parts are called.
    pub stem: &'n str,
    /// Which part this is, from 1.
    pub number: u32,
    /// How many parts there are: at least 2.
    pub count: u32,
}

impl<'n> PartName<'n> {
    /// Reads a name; `None` if it is not that of a part. A model in one part is whole.
    #[must_use]
    pub fn of(name: &'n str) -> Option<Self> {
        let (rest, count) = name.rsplit_once("-of-")?;
        let (stem, number) = rest.rsplit_once('-')?;
        let parse = |digits: &str| -> Option<u32> {
            let all = digits.len() == 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
            all.then(|| digits.parse().ok()).flatten()
        };
        let (number, count) = (parse(number)?, parse(count)?);
        (count > 1 && (1..=count).contains(&number)).then_some(Self {
            stem,
            number,
            count,
        })
    }

    /// The name of another part of that model.
    #[must_use]
    pub fn with_number(self, number: u32) -> String {
        format!("{}-{number:05}-of-{:05}", self.stem, self.count)
    }
}

/// Which part of a model a file is; `None` if it is a whole one. Reads the keys alone.
///
/// # Errors
/// See [`GgufError`].
pub fn part_of<S: ReadAt + ?Sized>(source: &S, bytes: u64) -> Result<Option<Part>, GgufError> {
    let (_, _, metadata) = read_head(source, bytes)?;
    of(&metadata)
}

/// What a file's keys say. The types are those that llama.cpp reads; at others it aborts.
pub(super) fn of(metadata: &Metadata) -> Result<Option<Part>, GgufError> {
    let key = |key: &str, value: Option<u64>, what: &str| {
        value.ok_or_else(|| GgufError::Key {
            key: key.into(),
            problem: format!("it is not {what}"),
        })
    };
    if !metadata.has(COUNT) || matches!(metadata.uint(COUNT), Some(0 | 1)) {
        return Ok(None);
    }
    let count = key(COUNT, metadata.u16(COUNT), "an unsigned number of 16 bits")?;
    if count > PARTS_MAX {
        return Err(GgufError::Key {
            key: COUNT.into(),
            problem: format!("it is {count}, and at most {PARTS_MAX} parts can be"),
        });
    }
    let number = metadata.u16(NUMBER).filter(|number| *number < count);
    let number = key(NUMBER, number, "the number of a part")?;
    let tensors = metadata.i32(TENSORS).filter(|count| *count <= TENSORS_MAX);
    let tensors = key(TENSORS, tensors, "a number of tensors")?;
    Ok(Some(Part {
        count,
        tensors,
        number: number.saturating_add(1),
    }))
}

/// Reads a model's files, all in their order, as if they were one.
pub(super) fn read<S: ReadAt + ?Sized>(parts: &[(&S, u64)]) -> Result<File, PartError> {
    let mut model: Option<(File, Option<Part>)> = None;
    for (index, (source, bytes)) in parts.iter().enumerate() {
        let at = |source| PartError { index, source };
        let file = File::read(*source, *bytes).map_err(at)?;
        let part = of(&file.metadata).map_err(at)?;
        match &mut model {
            None => {
                check_first(parts.len() as u64, part).map_err(at)?;
                model = Some((file, part));
            }
            Some((model, first)) => {
                check_later(*first, index, part).map_err(at)?;
                same_model(&model.metadata, &file.metadata).map_err(at)?;
                add(model, file).map_err(at)?;
            }
        }
    }
    let missing = |what| PartError {
        index: 0,
        source: GgufError::NoChatModel { what },
    };
    let (model, part) = model.ok_or_else(|| missing("no file at all"))?;
    let found = model.table.tensors.len() as u64;
    match part {
        _ if found == 0 => Err(missing("a header without weights")),
        Some(Part { tensors, .. }) if tensors != found => Err(PartError {
            index: 0,
            source: GgufError::Key {
                key: TENSORS.into(),
                problem: format!("the parts have {found} tensors together, and not {tensors}"),
            },
        }),
        _ => Ok(model),
    }
}

/// Adds a later part to those before it.
fn add(model: &mut File, later: File) -> Result<(), GgufError> {
    let Table {
        tensors,
        names,
        weights,
        ..
    } = later.table;
    let table = &mut model.table;
    for name in names {
        if table.names.contains(&name) {
            return Err(GgufError::Tensor {
                tensor: printable(&name),
                problem: "an earlier part has it, too; one of them is of another model".into(),
            });
        }
        table.names.insert(name);
    }
    table.tensors.extend(tensors);
    table.weights = table.weights.saturating_add(weights);
    model.ends.extend(later.ends);
    Ok(())
}

/// The first must be that of as many parts as are there.
fn check_first(there: u64, part: Option<Part>) -> Result<(), GgufError> {
    match part {
        None if there == 1 => Ok(()),
        Some(Part { count, number, .. }) if there == 1 => Err(GgufError::Split { number, count }),
        _ => check_part(1, there, part),
    }
}

/// A later part must be of the model whose first part that is.
fn check_later(first: Option<Part>, index: usize, part: Option<Part>) -> Result<(), GgufError> {
    let Some(first) = first else { return Ok(()) };
    let number = (index as u64).saturating_add(1);
    check_part(number, first.count, part)?;
    match part {
        Some(Part { tensors, .. }) if tensors != first.tensors => Err(GgufError::Foreign {
            wanted: number,
            count: first.count,
            found: format!("of a model of {tensors} tensors, not of {}", first.tensors),
        }),
        _ => Ok(()),
    }
}

fn check_part(wanted: u64, count: u64, part: Option<Part>) -> Result<(), GgufError> {
    let found = match part {
        Some(part) if (part.number, part.count) == (wanted, count) => return Ok(()),
        Some(part) => format!("part {} of {}", part.number, part.count),
        None => "a whole model".into(),
    };
    Err(GgufError::Foreign {
        wanted,
        count,
        found,
    })
}

/// Later parts need not say of which model they are; some do.
fn same_model(first: &Metadata, later: &Metadata) -> Result<(), GgufError> {
    for key in ["general.architecture", "general.name"] {
        if later.has(key) && later.text(key) != first.text(key) {
            return Err(GgufError::Key {
                key: key.into(),
                problem: "it is another than in the first part".into(),
            });
        }
    }
    Ok(())
}
