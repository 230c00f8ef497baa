//! Models in several parts: files that are called as parts are, and disks that say in
//! their headers which part of which model they are.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use gguf::{Part, PartName};
use protocol::PartFile;

use super::{Found, ModelFile, Origin, Watch, visible};

fn name_of(path: &Path) -> Option<PartName<'_>> {
    PartName::of(path.file_stem()?.to_str()?)
}

/// Where the first part is of the model of which `path` is called a part.
pub(super) fn first_of(path: &Path) -> Option<PathBuf> {
    beside(path, 1)
}

/// Where part `number` is of the model of which `path` is called a part.
fn beside(path: &Path, number: u32) -> Option<PathBuf> {
    let name = name_of(path)?.with_number(number);
    let extension = path.extension()?.to_str()?;
    Some(path.with_file_name(format!("{name}.{extension}")))
}

/// The other parts of the model whose first file is `path`, by their names; none if it is
/// not called as a part is.
///
/// # Errors
/// One line: it is not the first, or one of the others is not there.
pub(super) fn rest_of(path: &Path) -> Result<Vec<PartFile>, String> {
    let Some(PartName { number, count, .. }) = name_of(path) else {
        return Ok(Vec::new());
    };
    let part = |number: u32| beside(path, number).unwrap_or_default();
    let shown = visible(&path.display());
    let missing = |path: &Path| {
        format!(
            "{shown} is part {number} of a model in {count} parts, of which this one is \
             missing: {}; copy it there [ZE-10]",
            visible(&path.display())
        )
    };
    let there = |path: PathBuf| match path.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(PartFile {
            path,
            bytes: metadata.len(),
        }),
        _ => Err(missing(&path)),
    };
    there(part(1))?;
    if number > 1 {
        let first = visible(&part(1).display());
        return Err(format!(
            "{shown} is part {number} of a model in {count} parts; give the first, {first} [ZE-10]"
        ));
    }
    (2..=count).map(|number| there(part(number))).collect()
}

/// Puts together what of the disks are parts of a model. A single disk is not looked into:
/// whoever loads it says what it is. `known` has what has been read before.
pub(super) fn join(found: &mut Found, known: &mut BTreeMap<PathBuf, Option<Part>>, at: &Watch) {
    let is_raw = |model: &&ModelFile| model.origin == Origin::Raw;
    if found.models.iter().filter(is_raw).count() < 2 {
        return;
    }
    known.retain(|path, _| found.models.iter().any(|model| model.path == *path));
    let mut families: BTreeMap<(u64, u64), Vec<(u64, ModelFile)>> = BTreeMap::new();
    for model in found.models.iter().filter(is_raw) {
        at.begin(&model.name);
        let part = known.entry(model.path.clone());
        if let Some(part) = *part.or_insert_with(|| read_part(model)) {
            let family = families.entry((part.count, part.tensors)).or_default();
            family.push((part.number, model.clone()));
        }
    }
    for ((count, _), parts) in families {
        for parts in apart(parts) {
            take(found, &parts, join_family(count, &parts));
        }
    }
}

/// The parts of each of the models, in the order of their numbers. Where one is there
/// twice, the labels of partitions tell the models apart.
fn apart(mut parts: Vec<(u64, ModelFile)>) -> Vec<Vec<(u64, ModelFile)>> {
    parts.sort_by_key(|(number, _)| *number);
    let mut pairs = parts.iter().zip(parts.iter().skip(1));
    if !pairs.any(|((one, _), (other, _))| one == other) {
        return vec![parts];
    }
    let mut by_name: BTreeMap<Option<String>, Vec<_>> = BTreeMap::new();
    for (number, model) in parts {
        let name = model.label.as_deref().and_then(PartName::of);
        let stem = name.map(|name| name.stem.to_owned());
        by_name.entry(stem).or_default().push((number, model));
    }
    by_name.into_values().collect()
}

/// Puts a model in the place of its first part, or a note in that of all.
fn take(found: &mut Found, parts: &[(u64, ModelFile)], joined: Result<ModelFile, String>) {
    let is_part = |model: &ModelFile| parts.iter().any(|(_, part)| part.path == model.path);
    match joined {
        Ok(joined) => found.models.retain_mut(|model| {
            if model.path == joined.path {
                model.clone_from(&joined);
                return true;
            }
            !is_part(model)
        }),
        Err(note) => {
            found.models.retain(|model| !is_part(model));
            found.notes.push(note);
        }
    }
}

/// Which part it is. What cannot be read is told by whoever loads it.
fn read_part(model: &ModelFile) -> Option<Part> {
    let file = File::open(&model.path).ok()?;
    gguf::part_of(&file, model.bytes).ok().flatten()
}

/// The first part with the others, if each of `count` is there once; else why not. The
/// parts are in the order of their numbers.
fn join_family(count: u64, parts: &[(u64, ModelFile)]) -> Result<ModelFile, String> {
    let names = |number: Option<u64>| -> String {
        let of = parts
            .iter()
            .filter(|(n, _)| number.is_none_or(|number| number == *n));
        let names: Vec<&str> = of.map(|(_, model)| model.name.as_str()).collect();
        names.join(", ")
    };
    let mut expected = 1..=count;
    for (number, _) in parts {
        match expected.next() {
            Some(wanted) if wanted == *number => {}
            Some(wanted) if wanted < *number => return Err(missing(&names(None), wanted, count)),
            _ => {
                return Err(format!(
                    "{} are each part {number} of a model in {count} parts; attach the parts \
                     of one model alone [ZE-10]",
                    names(Some(*number))
                ));
            }
        }
    }
    if let Some(wanted) = expected.next() {
        return Err(missing(&names(None), wanted, count));
    }
    let mut models = parts.iter().map(|(_, model)| model);
    let first = models.next().cloned();
    let mut first = first.ok_or_else(|| missing("", 1, count))?;
    first.rest = models
        .map(|model| PartFile {
            path: model.path.clone(),
            bytes: model.bytes,
        })
        .collect();
    Ok(first)
}

fn missing(names: &str, wanted: u64, count: u64) -> String {
    format!(
        "of a model in {count} parts, part {wanted} is missing beside {names}; attach it as a \
         disk, too [ZE-10]"
    )
}
