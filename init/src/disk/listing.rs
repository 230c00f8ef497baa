//! The models in a directory: `*.gguf`, two levels deep.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::content::{Content, classify};
use super::{read_prefix, visible};

/// Levels of directories below the root that are searched.
const DEPTH_MAX: u32 = 2;
/// Directory entries that are looked at; more are no model disk.
const ENTRIES_MAX: usize = 10_000;

/// What a directory holds.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Models, sorted by path, with their lengths in bytes.
    pub(super) models: Vec<(PathBuf, u64)>,
    /// Why files that look like models are none: one line each.
    pub(super) notes: Vec<String>,
}

/// Lists the models in `root`. Links that lead out of it are not followed.
pub(super) fn list_models(root: &Path) -> io::Result<Listing> {
    let root = root.canonicalize()?;
    let mut listing = Listing::default();
    let mut entries_left = ENTRIES_MAX;
    let mut files = Vec::new();
    collect(&root, &root, DEPTH_MAX, &mut entries_left, &mut files)?;
    if entries_left == 0 {
        listing.notes.push(format!(
            "{} has more than {ENTRIES_MAX} files, not all were looked at; \
             move the models to its root",
            visible(&root.display())
        ));
    }
    files.sort();
    for file in files {
        match look_at(&file) {
            Ok(bytes) => listing.models.push((file, bytes)),
            Err(why) if why.is_empty() => {}
            Err(why) => listing.notes.push(why),
        }
    }
    Ok(listing)
}

/// Gathers the paths of all `*.gguf` files.
fn collect(
    root: &Path,
    dir: &Path,
    depth: u32,
    entries_left: &mut usize,
    files: &mut Vec<PathBuf>,
) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        if *entries_left == 0 {
            return Ok(());
        }
        *entries_left = entries_left.saturating_sub(1);
        let path = entry?.path();
        let Ok(real) = path.canonicalize() else {
            continue;
        };
        if !real.starts_with(root) {
            continue;
        }
        if let Some(deeper) = depth.checked_sub(1)
            && real.is_dir()
            && real == path
        {
            // A directory that cannot be read hides its models, not the others'.
            let _ = collect(root, &path, deeper, entries_left, files);
        } else if real.is_file() && is_gguf_name(&path) {
            files.push(path);
        }
    }
    Ok(())
}

fn is_gguf_name(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// A model's length in bytes, or why it is none (empty: not worth a line).
fn look_at(path: &Path) -> Result<u64, String> {
    let shown = visible(&path.display());
    if let Some((number, count)) = split_number(path) {
        return Err(if number == 1 {
            format!(
                "{shown} is the first of {count} parts of a split model; \
                 join them with `llama-gguf-split --merge` and use the result"
            )
        } else {
            String::new()
        });
    }
    let file = File::open(path).map_err(|error| format!("{shown} cannot be opened: {error}"))?;
    let prefix = read_prefix(&file).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    match classify(&prefix) {
        Content::Gguf => {
            let bytes = file.metadata().map(|metadata| metadata.len());
            bytes.map_err(|error| format!("{shown} cannot be read: {error}"))
        }
        Content::Foreign(what, remedy) => {
            Err(format!("{shown} is not a GGUF file but {what}; {remedy}"))
        }
        Content::Empty => Err(format!("{shown} is empty; copy it again")),
        _ => Err(format!(
            "{shown} is not a GGUF file, whatever its name; download or copy it again"
        )),
    }
}

/// `NAME-00002-of-00003.gguf` is part 2 of 3.
fn split_number(path: &Path) -> Option<(u32, u32)> {
    let stem = path.file_stem()?.to_str()?;
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (_, number) = rest.rsplit_once('-')?;
    let parse = |digits: &str| (digits.len() == 5).then(|| digits.parse().ok()).flatten();
    Some((parse(number)?, parse(count)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_split_models_are_told_by_their_names() {
        let table = [
            ("a/Big-00001-of-00003.gguf", Some((1, 3))),
            ("Big-00012-of-00013.gguf", Some((12, 13))),
            ("Big-1-of-3.gguf", None),
            ("Best-of-00003.gguf", None),
            ("model.gguf", None),
        ];
        for (path, expected) in table {
            assert_eq!(split_number(Path::new(path)), expected, "{path}");
        }
    }
}
