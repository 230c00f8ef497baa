//! The models in a directory: `*.gguf`, two levels deep.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::content::{Content, classify};
use super::{parts, read_prefix, visible};
use protocol::PartFile;

/// Levels of directories below the root that are searched.
const DEPTH_MAX: u32 = 2;
/// Directory entries that are looked at; more are no model disk.
const ENTRIES_MAX: usize = 10_000;

/// What a directory holds.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Models, sorted by path.
    pub(super) models: Vec<ListedModel>,
    /// Why files that look like models are none: one line each.
    pub(super) notes: Vec<String>,
}

/// A model in a directory.
#[derive(Debug)]
pub(super) struct ListedModel {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    /// Of a model in several parts, the others in their order.
    pub(super) rest: Vec<PartFile>,
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
    let mut in_parts = BTreeSet::new();
    for path in files {
        // One part, the first that there is, speaks for all.
        if parts::first_of(&path).is_some_and(|first| !in_parts.insert(first)) {
            continue;
        }
        match look_at(&path).and_then(|bytes| Ok((bytes, parts::rest_of(&path)?))) {
            Ok((bytes, rest)) => listing.models.push(ListedModel { path, bytes, rest }),
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

/// A model's length in bytes, or why it is none.
fn look_at(path: &Path) -> Result<u64, String> {
    let shown = visible(&path.display());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_told_by_their_names() {
        assert!(is_gguf_name(Path::new("a/B.GGUF")));
        assert!(!is_gguf_name(Path::new("a/._b.gguf")));
    }
}
