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

/// Whether links that lead out of the root are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    /// A file system that came on a disk has nothing to say about others.
    Within,
    /// A folder that the user names may be one of links, as Hugging Face's
    /// snapshots are.
    Anywhere,
}

/// Lists the models in `root`.
pub(super) fn list_models(root: &Path, links: Links) -> io::Result<Listing> {
    let root = root.canonicalize()?;
    let mut listing = Listing::default();
    let mut collection = Collection {
        root: &root,
        links,
        entries_left: ENTRIES_MAX,
        files: Vec::new(),
    };
    collection.add(&root, DEPTH_MAX)?;
    let Collection {
        entries_left,
        mut files,
        ..
    } = collection;
    if entries_left == 0 {
        listing.notes.push(format!(
            "{} has more than {ENTRIES_MAX} files, not all were looked at; \
             move the models to its root [ZE-21]",
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

/// The paths of all `*.gguf` files, as they are found.
struct Collection<'r> {
    root: &'r Path,
    links: Links,
    entries_left: usize,
    files: Vec<PathBuf>,
}

impl Collection<'_> {
    /// Adds what is in `dir` and `depth` levels below it.
    fn add(&mut self, dir: &Path, depth: u32) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            if self.entries_left == 0 {
                return Ok(());
            }
            self.entries_left = self.entries_left.saturating_sub(1);
            let path = entry?.path();
            let Ok(real) = path.canonicalize() else {
                continue;
            };
            if self.links == Links::Within && !real.starts_with(self.root) {
                continue;
            }
            if let Some(deeper) = depth.checked_sub(1)
                && real.is_dir()
                && real == path
            {
                // A directory that cannot be read hides its models, not the others'.
                let _ = self.add(&path, deeper);
            } else if real.is_file() && is_gguf_name(&path) {
                self.files.push(path);
            }
        }
        Ok(())
    }
}

/// Whether it is called as a model is. `._NAME` is what macOS keeps about NAME on
/// file systems that are not its own.
fn is_gguf_name(path: &Path) -> bool {
    let about = path
        .file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"._"));
    let extension = path.extension();
    !about && extension.is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// A model's length in bytes, or why it is none (empty: not worth a line).
fn look_at(path: &Path) -> Result<u64, String> {
    let shown = visible(&path.display());
    // A model in one part is whole.
    if let Some((number, count)) = split_number(path).filter(|(_, count)| *count > 1) {
        return Err(if number == 1 {
            format!(
                "{shown} is the first of {count} parts of a split model; \
                 join them with `llama-gguf-split --merge` and use the result [ZE-10]"
            )
        } else {
            String::new()
        });
    }
    let file = File::open(path).map_err(|error| unreadable(&shown, &error))?;
    let prefix = read_prefix(&file).map_err(|error| unreadable(&shown, &error))?;
    match classify(&prefix) {
        Content::Gguf => {
            let bytes = file.metadata().map(|metadata| metadata.len());
            bytes.map_err(|error| unreadable(&shown, &error))
        }
        Content::Foreign(what, remedy) => Err(format!(
            "{shown} is not a GGUF file but {what}; {remedy} [ZE-10]"
        )),
        Content::Empty => Err(format!("{shown} is empty; copy it again [ZE-10]")),
        _ => Err(format!(
            "{shown} is not a GGUF file, whatever its name; download or copy it again [ZE-10]"
        )),
    }
}

fn unreadable(shown: &str, error: &io::Error) -> String {
    format!("{shown} cannot be read: {error}; check the disk [ZE-23]")
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
        assert!(is_gguf_name(Path::new("a/B.GGUF")));
        assert!(!is_gguf_name(Path::new("a/._b.gguf")));
    }
}
