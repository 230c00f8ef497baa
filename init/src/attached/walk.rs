//! The texts in files and directories. Of a directory those are taken that look like
//! text, in the order of their names; not what is hidden, and no links.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use texts::{FILES_MAX, looks_like_text};

use super::names::{told_apart, visible};
use super::{Place, Text};

/// Entries of directories that are looked at, directories and hidden ones as well.
const ENTRIES_MAX: usize = 10_000;
/// Bytes by which text is told from what is none.
const PREFIX_BYTES: u64 = 8 << 10;

/// The texts that `paths` name, files and directories, and a line for each file in a
/// directory that cannot be read.
///
/// # Errors
/// One line: a path that cannot be used, or too many texts.
pub(crate) fn from_paths(paths: &[String]) -> Result<(Vec<Text>, Vec<String>), String> {
    let mut texts = Vec::new();
    let mut notes = Vec::new();
    for given in paths {
        let path = Path::new(given);
        let unusable = |why: String| format!("--attach: {} {why}", visible(given));
        let unreadable = |e: io::Error| unusable(format!("cannot be read: {e}"));
        let metadata = path.metadata().map_err(unreadable)?;
        let name = path.file_name().map(|name| name.to_string_lossy());
        if metadata.is_dir() {
            let prefix = name.map(|name| format!("{name}/")).unwrap_or_default();
            let listing = list(path, &prefix).map_err(unreadable)?;
            if listing.is_cut {
                let why = format!("has more than {FILES_MAX} files; name some of them");
                return Err(unusable(why));
            }
            if listing.texts.is_empty() {
                return Err(unusable("has no text in it".to_owned()));
            }
            texts.extend(listing.texts);
            notes.extend(listing.notes);
        } else if metadata.is_file() {
            if look_at(path).map_err(unreadable)?.is_none() {
                return Err(unusable("is not text: it has zero bytes".to_owned()));
            }
            let name = name.map_or_else(|| given.clone(), std::borrow::Cow::into_owned);
            texts.push(text(path.to_owned(), &name, &metadata, true));
        } else {
            return Err(unusable("is neither a file nor a directory".to_owned()));
        }
        if texts.len() > FILES_MAX {
            return Err(format!(
                "--attach: there are more than {FILES_MAX} texts; name some of them"
            ));
        }
    }
    Ok((told_apart(texts), notes))
}

/// The texts in the file system at `root`, models left out. Too many are none.
pub(crate) fn in_file_system(root: &Path) -> Vec<Text> {
    let Ok(mut listing) = list(root, "") else {
        return Vec::new();
    };
    if listing.is_cut {
        return Vec::new();
    }
    for text in &mut listing.texts {
        text.is_given = false;
    }
    listing.texts
}

#[derive(Default)]
struct Listing {
    texts: Vec<Text>,
    notes: Vec<String>,
    /// There are more files than are looked at.
    is_cut: bool,
}

/// The texts below `root`, named by their paths from there after `prefix`.
fn list(root: &Path, prefix: &str) -> io::Result<Listing> {
    let mut listing = Listing::default();
    let mut entries_left = ENTRIES_MAX;
    let mut directories = vec![root.to_owned()];
    let mut files = Vec::new();
    while let Some(directory) = directories.pop() {
        let entries = match fs::read_dir(&directory) {
            Err(e) if directory == root => return Err(e),
            Err(e) => {
                listing.leave_out(&directory, &e);
                continue;
            }
            Ok(entries) => entries,
        };
        for entry in entries {
            if entries_left == 0 || files.len() > FILES_MAX {
                listing.is_cut = true;
                return Ok(listing);
            }
            entries_left = entries_left.saturating_sub(1);
            let entry = entry?;
            let kind = entry.file_type()?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    listing.is_cut = files.len() > FILES_MAX;
    // As `sort` has them in tools/run.sh.
    files.sort_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
    for path in files {
        match look_at(&path) {
            Ok(None) => {}
            Ok(Some(metadata)) => {
                let below = path.strip_prefix(root).unwrap_or(&path);
                let name = format!("{prefix}{}", below.display());
                listing
                    .texts
                    .push(text(path.clone(), &name, &metadata, true));
            }
            Err(e) => listing.leave_out(&path, &e),
        }
    }
    Ok(listing)
}

impl Listing {
    fn leave_out(&mut self, path: &Path, error: &io::Error) {
        let shown = visible(&path.display().to_string());
        let note = format!("{shown} cannot be read and is left out: {error} [ZE-61]");
        self.notes.push(note);
    }
}

/// What there is to know of a file that looks like text.
fn look_at(path: &Path) -> io::Result<Option<fs::Metadata>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let mut prefix = Vec::new();
    file.take(PREFIX_BYTES).read_to_end(&mut prefix)?;
    let is_model = prefix.starts_with(&gguf::MAGIC);
    Ok((!is_model && looks_like_text(&prefix)).then_some(metadata))
}

fn text(path: PathBuf, name: &str, metadata: &fs::Metadata, is_given: bool) -> Text {
    let modified = metadata.modified().ok();
    Text {
        name: visible(name),
        bytes: metadata.len(),
        is_given,
        place: Place::File { path, modified },
    }
}
