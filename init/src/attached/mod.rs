//! Texts that can be read into a message: those that the user attached, and those in
//! file systems on disks. They are listed by name and length, and read when asked for.

mod names;
mod walk;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use protocol::memory::{Budget, mib};
use rustix::fs::OFlags;
use texts::Document;

pub(crate) use names::{complete, find, split_names};
pub(crate) use walk::{from_paths, in_file_system};

/// A text that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    /// What it is called, without what steers a terminal.
    pub(crate) name: String,
    /// Its length when it was listed, bytes.
    pub(crate) bytes: u64,
    /// The user attached it: it did not just lie on a disk.
    pub(crate) is_given: bool,
    place: Place,
}

/// Where a text is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// A file, which may change or go.
    File {
        path: PathBuf,
        modified: Option<SystemTime>,
    },
    /// Part of a disk of texts.
    Disk { path: PathBuf, at: u64 },
}

/// A text that has been read, and what there is to know of that, a line each.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) document: Document,
    pub(crate) notices: Vec<String>,
}

impl Text {
    /// The text, which may have `bytes_max` bytes.
    ///
    /// # Errors
    /// One line: why it cannot be read.
    pub(crate) fn read(&self, bytes_max: u64) -> Result<Reading, String> {
        let name = &self.name;
        let mut notices = Vec::new();
        self.refuse_beyond(bytes_max, self.bytes)?;
        let bytes = self.bytes_of(bytes_max, &mut notices)?;
        let decoded = texts::decode(bytes).map_err(|why| format!("{name} {why} [ZE-61]"))?;
        if decoded.text.trim().is_empty() {
            return Err(format!("{name} is empty: there is nothing to read [ZE-61]"));
        }
        if decoded.was_utf16 {
            notices.push(format!("{name} was UTF-16 and is read as UTF-8"));
        }
        Ok(Reading {
            document: Document {
                name: name.clone(),
                text: decoded.text,
            },
            notices,
        })
    }

    fn bytes_of(&self, bytes_max: u64, notices: &mut Vec<String>) -> Result<Vec<u8>, String> {
        let unreadable = |e: io::Error| format!("{} cannot be read: {e} [ZE-61]", self.name);
        let mut bytes = Vec::new();
        match &self.place {
            Place::Disk { path, at } => {
                let mut disk = File::open(path).map_err(unreadable)?;
                disk.seek(SeekFrom::Start(*at)).map_err(unreadable)?;
                let read = disk.take(self.bytes).read_to_end(&mut bytes);
                read.map_err(unreadable)?;
            }
            Place::File { path, modified } => {
                let file = open(path).map_err(unreadable)?;
                let metadata = file.metadata().map_err(unreadable)?;
                self.refuse_beyond(bytes_max, metadata.len())?;
                let read = file
                    .take(bytes_max.saturating_add(1))
                    .read_to_end(&mut bytes);
                read.map_err(unreadable)?;
                let length = length(&bytes);
                self.refuse_beyond(bytes_max, length)?;
                if length != self.bytes || metadata.modified().ok() != *modified {
                    notices.push(format!(
                        "{} has changed since it was listed: it has {length} bytes now",
                        self.name
                    ));
                }
            }
        }
        Ok(bytes)
    }

    fn refuse_beyond(&self, bytes_max: u64, bytes: u64) -> Result<(), String> {
        if bytes <= bytes_max {
            return Ok(());
        }
        Err(format!(
            "{} has {} MiB, and a message has room for {} MiB of it on this machine; attach a part \
             of it [ZE-33]",
            self.name,
            mib(bytes),
            bytes_max >> 20
        ))
    }
}

/// The texts of the disk at `path`, which has `bytes` bytes.
///
/// # Errors
/// One line, to be read after the disk's name.
pub(crate) fn on_disk(path: &Path, bytes: u64) -> Result<Vec<Text>, String> {
    let listed = File::open(path)
        .map_err(texts::ArchiveError::from)
        .and_then(|mut disk| texts::list(&mut disk, bytes));
    let entries = listed.map_err(|e| format!("{} [ZE-23]", crate::host::chain(&e)))?;
    let text = |entry: texts::Entry| Text {
        name: names::visible(&entry.name),
        bytes: entry.bytes,
        is_given: true,
        place: Place::Disk {
            path: path.to_owned(),
            at: entry.at,
        },
    };
    Ok(names::told_apart(entries.into_iter().map(text).collect()))
}

/// Reads one text after the other, which have room for so many bytes together; why not,
/// where one cannot be read.
pub(crate) fn read_each(
    texts: impl IntoIterator<Item = Text>,
    bytes_max: u64,
) -> impl Iterator<Item = (Text, Result<Reading, String>)> {
    let mut left = bytes_max;
    texts.into_iter().map(move |text| {
        let reading = text.read(left);
        let bytes = reading
            .as_ref()
            .map_or(0, |r| length(r.document.text.as_bytes()));
        left = left.saturating_sub(bytes);
        (text, reading)
    })
}

/// What a turn without a terminal begins with: all that the user attached.
///
/// # Errors
/// One line: why one of them cannot be read. What was attached is not left out.
pub(crate) fn read_given(
    texts: &[Text],
    budget: &Budget,
    notice: &mut dyn FnMut(&str),
) -> Result<Vec<Document>, String> {
    let given = texts.iter().filter(|text| text.is_given).cloned();
    let mut documents = Vec::new();
    for (_, reading) in read_each(given, budget.prompt_bytes) {
        let reading = reading?;
        for line in &reading.notices {
            notice(line);
        }
        documents.push(reading.document);
    }
    Ok(documents)
}

/// Opens a file, and never waits for whoever might write to it.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is not a regular file"))
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
