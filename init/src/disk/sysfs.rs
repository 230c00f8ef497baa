//! The block devices as `/sys` describes them.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::{ModelFile, Origin, visible};

/// Bytes of a sector, the unit of `/sys/class/block/*/size`.
const SECTOR_BYTES: u64 = 512;
/// Devices that are memory or files of this machine and hold no model disk.
const SKIPPED: [&str; 5] = ["loop", "ram", "zram", "mtdblock", "fd"];
/// The host tells the exact length of a file that it attaches as a disk in the
/// disk's serial number, which has room for 20 characters: `zosia-98362432`.
const SERIAL_PREFIX: &str = "zosia-";
/// The serial number of the disk that conversations are kept on: the only one that
/// is ever written, and never a model's.
const SESSION_SERIAL: &str = "zosia-session";
/// The serial number of the disk with the model that guesses ahead, by which it is called.
const DRAFT_SERIAL: &str = "zosia-draft";
/// The same of a disk of texts, told before it is read: `zosia-texts-61440`.
const TEXTS_PREFIX: &str = "zosia-texts-";

/// A disk or a partition.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Device {
    /// The kernel's name: `vda1`.
    pub(super) name: String,
    /// Length in bytes, exact if the host told it.
    pub(super) bytes: u64,
    /// The label in the partition table, or what the host calls the disk if it is that of
    /// the model that guesses ahead.
    pub(super) label: Option<String>,
    /// Whether it is a partition.
    pub(super) partition: bool,
    /// Whether it is a disk with partitions.
    pub(super) has_partitions: bool,
    /// Whether the host says that it is a disk of texts.
    pub(super) has_texts: bool,
}

impl Device {
    /// Its name and label, to be shown.
    pub(super) fn shown(&self) -> String {
        match &self.label {
            Some(label) => format!("{} ({label})", self.name),
            None => self.name.clone(),
        }
    }

    /// The model that it is.
    pub(super) fn model(&self, path: PathBuf) -> ModelFile {
        ModelFile {
            path,
            name: self.label.clone().unwrap_or_else(|| self.name.clone()),
            bytes: self.bytes,
            rest: Vec::new(),
            device: Some(self.name.clone()),
            label: self.label.clone(),
            origin: Origin::Raw,
        }
    }
}

/// All disks and partitions that have a medium, in the order of their names.
pub(super) fn list_devices(sys_root: &Path) -> Vec<Device> {
    // Without /sys/class/block there is no disk yet.
    let Ok(entries) = fs::read_dir(sys_root.join("class/block")) else {
        return Vec::new();
    };
    let mut devices: Vec<Device> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| describe(&entry.path()))
        .collect();
    devices.sort_by_cached_key(|device| natural_key(&device.name));
    devices
}

/// A device from its directory in `/sys`.
fn describe(dir: &Path) -> Option<Device> {
    let name = dir.file_name()?.to_str()?.to_owned();
    let letters = name.trim_end_matches(|c: char| c.is_ascii_digit());
    if SKIPPED.contains(&letters) || is_session(dir) {
        return None;
    }
    let size = fs::read_to_string(dir.join("size")).ok()?;
    let bytes = size.trim().parse::<u64>().ok()?.checked_mul(SECTOR_BYTES)?;
    if bytes == 0 {
        return None;
    }
    let partition = dir.join("partition").exists();
    let uevent = fs::read_to_string(dir.join("uevent")).unwrap_or_default();
    let label = uevent
        .lines()
        .find_map(|line| line.strip_prefix("PARTNAME="))
        .filter(|label| !label.is_empty())
        .map(|label| visible(&label));
    let is_draft = !partition && serial(dir).is_some_and(|serial| serial == DRAFT_SERIAL);
    let label = label.or_else(|| is_draft.then(|| DRAFT_SERIAL.to_owned()));
    let told = if partition {
        None
    } else {
        told_bytes(dir, bytes)
    };
    Some(Device {
        bytes: told.unwrap_or(bytes),
        has_partitions: !partition && has_partitions(dir),
        has_texts: !partition && serial(dir).is_some_and(|s| s.starts_with(TEXTS_PREFIX)),
        name,
        label,
        partition,
    })
}

fn has_partitions(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|entries| {
        entries
            .filter_map(Result::ok)
            .any(|entry| entry.path().join("partition").exists())
    })
}

/// The name of the disk that conversations are kept on, if it is there by now.
pub(crate) fn session_disk(sys_root: &Path) -> Option<OsString> {
    let mut entries = fs::read_dir(sys_root.join("class/block")).ok()?.flatten();
    entries.find_map(|entry| is_session(&entry.path()).then(|| entry.file_name()))
}

fn is_session(dir: &Path) -> bool {
    serial(dir).is_some_and(|serial| serial == SESSION_SERIAL)
}

/// What the host calls the disk: it is not the kernel's to choose.
fn serial(dir: &Path) -> Option<String> {
    let serial = fs::read_to_string(dir.join("serial")).ok()?;
    Some(serial.trim_matches(['\0', '\n', ' ']).to_owned())
}

/// The length that the host tells in the serial number, if it is one that
/// rounds up to the device's length.
fn told_bytes(dir: &Path, device_bytes: u64) -> Option<u64> {
    let serial = serial(dir)?;
    let digits = serial
        .strip_prefix(TEXTS_PREFIX)
        .or_else(|| serial.strip_prefix(SERIAL_PREFIX))?;
    let bytes: u64 = digits.parse().ok()?;
    (bytes.checked_next_multiple_of(SECTOR_BYTES)? == device_bytes).then_some(bytes)
}

/// The length of an open file or device. A disk is longer than the file behind
/// it by the rest of the last sector; if the host told the file's length in
/// the disk's serial number, it is that.
///
/// # Errors
/// The system's.
pub(crate) fn exact_bytes(file: &File) -> io::Result<u64> {
    let metadata = file.metadata()?;
    if !metadata.file_type().is_block_device() {
        return Ok(metadata.len());
    }
    let mut file = file;
    let bytes = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let number = metadata.rdev();
    let dir = format!(
        "/sys/dev/block/{}:{}",
        rustix::fs::major(number),
        rustix::fs::minor(number)
    );
    Ok(told_bytes(Path::new(&dir), bytes).unwrap_or(bytes))
}

/// Orders `vda2` before `vda10`, and `vdz` before `vdaa`.
fn natural_key(name: &str) -> Vec<(usize, String)> {
    let mut parts: Vec<(usize, String)> = Vec::new();
    let mut was_digit = None;
    for c in name.chars() {
        let digit = c.is_ascii_digit();
        match parts.last_mut() {
            Some((length, part)) if was_digit == Some(digit) => {
                *length = length.saturating_add(1);
                part.push(c);
            }
            _ => parts.push((1, c.into())),
        }
        was_digit = Some(digit);
    }
    parts
}
