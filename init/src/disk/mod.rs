//! Finds the models: on every block device and partition, or where a path says.
//! A device or partition that begins with `GGUF` is a model; EROFS and ext4
//! file systems are mounted read-only and searched for `*.gguf`. What is
//! refused leaves a note of one line: cause and remedy. Texts are found on the
//! way: those that the host attached, and those in file systems. Nothing is ever
//! written. Whether a model's header is sound is the engine's to check.

mod content;
mod given;
mod listing;
mod parameters;
mod parts;
mod select;
mod sysfs;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::iter;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use given::model_from_path;
pub(crate) use parameters::read_parameters;
pub(crate) use select::{Choice, choose};
pub(crate) use sysfs::{exact_bytes, session_disk};

use crate::attached::{self, Text};
use crate::mounts::{self, FileSystem, MountError, Mounted};
use content::{Content, PREFIX_BYTES, classify};
use gguf::{Header, Part};
use listing::Links;
use protocol::PartFile;
use sysfs::Device;

/// How long a machine with disks, none of them with a model, is given for more.
const SETTLE: Duration = Duration::from_secs(1);

/// A model that can be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelFile {
    /// What the engine opens: a file, a device or a partition.
    pub(crate) path: PathBuf,
    /// The name to show: the partition's label, or the file's name.
    pub(crate) name: String,
    /// Length in bytes; of a device the file's length if the host told it.
    pub(crate) bytes: u64,
    /// Of a model in several parts, the others in their order.
    pub(crate) rest: Vec<PartFile>,
    /// The device it is on (`vda1`), if it was found on one.
    pub(crate) device: Option<String>,
    /// The label of its partition.
    pub(crate) label: Option<String>,
    /// How it is stored.
    pub(crate) origin: Origin,
}

/// How a model is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The device or partition is the model.
    Raw,
    /// A file in a file system that was mounted for it.
    Mounted(FileSystem),
    /// A file that was named by the user.
    Given,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// The models, in the order of their devices and paths.
    pub(crate) models: Vec<ModelFile>,
    /// What was refused: one line each, cause and remedy.
    pub(crate) notes: Vec<String>,
    /// The texts on disks for them, and in file systems.
    pub(crate) texts: Vec<Text>,
    /// Why what was attached cannot be read: one line each.
    pub(crate) unread: Vec<String>,
    /// How many block devices there are, without their partitions.
    pub(crate) disks: usize,
}

/// Why there is no model to load.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    /// No block device at all.
    #[error(
        "no disk: no block device appeared within {} s; attach a .gguf file as a disk [ZE-20]",
        waited.as_secs()
    )]
    NoDisk {
        /// How long was waited.
        waited: Duration,
    },
    /// Disks, and no model on them.
    #[error("no model: {}", because(notes))]
    NoModel {
        /// What was refused.
        notes: Vec<String>,
    },
    /// Models, and none by that name.
    #[error("no model is called {wanted:?}; there is {} [ZE-22]", list(have))]
    NotFound {
        /// What was asked for.
        wanted: String,
        /// Names of what there is.
        have: Vec<String>,
    },
    /// A path that cannot be used.
    #[error("{} {problem} [ZE-21]", visible(&path.display()))]
    Path {
        /// The path as it was given.
        path: PathBuf,
        /// What is wrong with it and what to do.
        problem: String,
    },
}

fn because(notes: &[String]) -> String {
    match notes {
        [] => "the disks hold none; attach a .gguf file as a disk [ZE-21]".into(),
        notes => notes.join("\n  "),
    }
}

fn list(names: &[String]) -> String {
    names.join(", ")
}

/// Mounts a device with a file system read-only and tells where.
type Mount = fn(&Path, FileSystem) -> Result<PathBuf, MountError>;

/// Which disk or model is being looked at, and since when, for whoever waits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watch(Arc<Mutex<Option<(String, Instant)>>>);

impl Watch {
    fn begin(&self, what: &str) {
        self.set(Some((what.to_owned(), Instant::now())));
    }

    fn end(&self) {
        self.set(None);
    }

    pub(crate) fn set(&self, what: Option<(String, Instant)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    /// What is looked at, if anything is, and for how long it has been.
    pub(crate) fn get(&self) -> Option<(String, Duration)> {
        let what = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        what.as_ref()
            .map(|(what, since)| (what.clone(), since.elapsed()))
    }
}

/// Looks for models; remembers what it has looked at.
#[derive(Debug)]
pub(crate) struct Finder {
    /// What it looks at.
    pub(crate) at: Watch,
    sys_root: PathBuf,
    dev_root: PathBuf,
    mount: Mount,
    /// What was found on each device, by name.
    seen: BTreeMap<String, Found>,
    /// Which part of a model a device is, by path.
    parts: BTreeMap<PathBuf, Option<Part>>,
}

impl Finder {
    /// A finder for this machine. Only PID 1 can mount.
    pub(crate) fn new(_proof: Mounted) -> Self {
        Self::with_roots("/sys", "/dev", mounts::mount_models)
    }

    /// A finder for another tree of `/sys` and `/dev`.
    pub(crate) fn with_roots(
        sys_root: impl Into<PathBuf>,
        dev_root: impl Into<PathBuf>,
        mount: Mount,
    ) -> Self {
        Self {
            at: Watch::default(),
            sys_root: sys_root.into(),
            dev_root: dev_root.into(),
            mount,
            seen: BTreeMap::new(),
            parts: BTreeMap::new(),
        }
    }

    /// Looks at the devices that have appeared since the last time, without
    /// waiting, and tells all that is known by now.
    pub(crate) fn scan(&mut self) -> Found {
        self.at.begin("a disk");
        let devices = sysfs::list_devices(&self.sys_root);
        // What was taken away may come back as something else.
        self.seen
            .retain(|name, _| devices.iter().any(|device| device.name == *name));
        let mut found = Found {
            disks: devices.iter().filter(|device| !device.partition).count(),
            ..Found::default()
        };
        for device in &devices {
            if !self.seen.contains_key(&device.name) {
                self.at.begin(&device.shown());
                match self.examine(device) {
                    Ok(on_device) => {
                        self.seen.insert(device.name.clone(), on_device);
                    }
                    // It may be there in a moment: not remembered, tried again.
                    Err(error) => {
                        let name = &device.name;
                        let why = format!("{name} cannot be read: {error}; check the disk [ZE-23]");
                        if device.has_texts {
                            found.unread.push(why);
                        } else {
                            found.notes.push(why);
                        }
                    }
                }
            }
            if let Some(on_device) = self.seen.get(&device.name) {
                found.models.extend(on_device.models.iter().cloned());
                found.notes.extend(on_device.notes.iter().cloned());
                found.texts.extend(on_device.texts.iter().cloned());
                found.unread.extend(on_device.unread.iter().cloned());
            }
        }
        parts::join(&mut found, &mut self.parts, &self.at);
        self.at.end();
        found
    }

    /// Whether waiting longer is of no use: there is what is wanted, or time is
    /// up. Disks appear together: when some are there and no model, little
    /// longer is waited than when there is none at all.
    pub(crate) fn is_settled(
        found: &Found,
        wanted: Option<&str>,
        elapsed: Duration,
        deadline: Duration,
    ) -> bool {
        let enough = choose(&found.models, wanted).is_ok();
        let settled = found.disks > 0 && elapsed >= SETTLE;
        enough || settled || elapsed >= deadline
    }

    /// Finds what one device holds.
    fn examine(&self, device: &Device) -> io::Result<Found> {
        let holds_none = |label: &str| device.partition && parameters::LABELS.contains(&label);
        if device.has_partitions || device.label.as_deref().is_some_and(holds_none) {
            return Ok(Found::default());
        }
        let path = self.dev_root.join(&device.name);
        let prefix = read_prefix(&File::open(&path)?)?;
        let content = classify(&prefix);
        Ok(match content {
            Content::Gguf => Found {
                models: vec![device.model(path)],
                ..Found::default()
            },
            Content::FileSystem(kind) => self.search(device, &path, kind),
            _ if content == Content::Texts || device.has_texts => {
                match attached::on_disk(&path, device.bytes) {
                    Ok(texts) => Found {
                        texts,
                        ..Found::default()
                    },
                    Err(why) => Found {
                        unread: vec![format!("{} {why}", device.shown())],
                        ..Found::default()
                    },
                }
            }
            // The ESP of a disk that boots by itself is no failure.
            Content::Fat if device.partition => Found::default(),
            _ => Found::refused(content.refusal(&device.shown())),
        })
    }

    /// Mounts a device and lists the models on it.
    fn search(&self, device: &Device, path: &Path, kind: FileSystem) -> Found {
        let shown = device.shown();
        let root = match (self.mount)(path, kind) {
            Ok(root) => root,
            Err(error) => {
                return Found::refused(format!("{shown}: {} [ZE-24]", with_source(&error)));
            }
        };
        let listing = listing::list_models(&root, Links::Within);
        let texts = attached::in_file_system(&root);
        if texts.is_empty() && !listing.as_ref().is_ok_and(|l| !l.models.is_empty()) {
            // A file system that stays mounted read-only and unused harms nobody.
            let _ = mounts::unmount_models(&root);
        }
        match listing {
            Ok(listing)
                if listing.models.is_empty() && listing.notes.is_empty() && texts.is_empty() =>
            {
                Found::refused(format!(
                    "{shown} has an {} file system without any *.gguf file; copy one to its root [ZE-21]",
                    kind.name()
                ))
            }
            Ok(listing) => Found {
                models: listing
                    .models
                    .into_iter()
                    .map(|model| ModelFile {
                        name: file_name(&model.path),
                        path: model.path,
                        bytes: model.bytes,
                        rest: model.rest,
                        device: Some(device.name.clone()),
                        label: device.label.clone(),
                        origin: Origin::Mounted(kind),
                    })
                    .collect(),
                notes: listing.notes,
                texts,
                ..Found::default()
            },
            Err(error) => Found::refused(format!(
                "{shown} cannot be read: {error}; check the disk, or re-create its file system [ZE-23]"
            )),
        }
    }
}

impl Found {
    fn refused(note: String) -> Self {
        Self {
            notes: vec![note],
            ..Self::default()
        }
    }

    /// Passes over models whose headers would be refused, if there are others;
    /// returns a line for each of them. Where all would be, all stay: whoever
    /// loads one says why not.
    pub(crate) fn pass_over_unusable(&mut self, at: &Watch) -> Vec<String> {
        if self.models.len() < 2 {
            return Vec::new();
        }
        let (usable, refused): (Vec<_>, Vec<_>) = self
            .models
            .iter()
            .map(|model| {
                at.begin(&model.name);
                (model, header_of(model))
            })
            .partition(|(_, checked)| checked.is_ok());
        at.end();
        if usable.is_empty() {
            return Vec::new();
        }
        let passed = refused
            .into_iter()
            .filter_map(|(model, checked)| Some((model, checked.err()?)))
            .map(|(model, why)| format!("{} is passed over: {why}", model.name))
            .collect();
        self.models = usable.into_iter().map(|(model, _)| model.clone()).collect();
        passed
    }

    /// Itself, if there is a model in it.
    pub(crate) fn or_why_not(self, waited: Duration) -> Result<Self, DiskError> {
        if !self.models.is_empty() {
            Ok(self)
        } else if self.disks == 0 {
            Err(DiskError::NoDisk { waited })
        } else {
            Err(DiskError::NoModel { notes: self.notes })
        }
    }
}

impl ModelFile {
    /// The length of all its files, bytes.
    pub(crate) fn all_bytes(&self) -> u64 {
        let rest = self.rest.iter().map(|part| part.bytes);
        rest.fold(self.bytes, u64::saturating_add)
    }

    /// All its files in their order.
    pub(crate) fn files(&self) -> Vec<PartFile> {
        let first = PartFile {
            path: self.path.clone(),
            bytes: self.bytes,
        };
        iter::once(first).chain(self.rest.iter().cloned()).collect()
    }
}

/// A model's header, checked.
///
/// # Errors
/// Why it cannot be used, on one line.
pub(crate) fn header_of(model: &ModelFile) -> Result<Header, String> {
    let rest = model.rest.iter().map(|part| (&part.path, part.bytes));
    let places: Vec<_> = iter::once((&model.path, model.bytes)).chain(rest).collect();
    let open = |(path, bytes): &(&PathBuf, u64)| {
        let opened = File::open(path).map_err(|e| format!("{}: {e}", file_name(path)));
        opened.map(|file| (file, *bytes))
    };
    let files = places.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let parts: Vec<(&File, u64)> = files.iter().map(|(file, bytes)| (file, *bytes)).collect();
    gguf::check_parts(&parts).map_err(|error| {
        let why = with_source(&error.source);
        match places.get(error.index) {
            Some((path, _)) if !model.rest.is_empty() => format!("{}: {why}", file_name(path)),
            _ => why,
        }
    })
}

/// The first bytes of a file or device: [`PREFIX_BYTES`], or all there are.
fn read_prefix(file: &File) -> io::Result<Vec<u8>> {
    let mut prefix = vec![0; PREFIX_BYTES];
    let mut filled = 0;
    while let Some(rest) = prefix.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, filled as u64) {
            Ok(0) => break,
            Ok(count) => filled = filled.saturating_add(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    prefix.truncate(filled);
    Ok(prefix)
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().map_or(path, Path::new);
    visible(&name.display())
}

/// Text from a disk without characters that move a terminal's cursor.
fn visible(text: &impl fmt::Display) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.to_string().chars().map(shown).collect()
}

/// An error and what it comes from, on one line.
fn with_source(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
