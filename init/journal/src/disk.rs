//! What a journal is kept on: a file that grows, or a block device.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{FlockOperation, fcntl_lock};

use crate::error::{Action, Error};

/// Bytes that stay. Positions and lengths are in bytes.
pub trait Disk: Send {
    /// How many bytes can be read.
    ///
    /// # Errors
    /// The system's.
    fn size(&self) -> io::Result<u64>;

    /// Whether writing beyond the size makes it larger.
    fn grows(&self) -> bool;

    /// Reads into all of `buffer` that lies within the size; returns how much that is.
    ///
    /// # Errors
    /// The system's.
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes`, which power can be lost before, within and after until
    /// the next [`flush`](Disk::flush).
    ///
    /// # Errors
    /// The system's; some of the bytes may be written.
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Returns when everything that was written stays.
    ///
    /// # Errors
    /// The system's; whatever was written since the last flush may be lost.
    fn flush(&mut self) -> io::Result<()>;
}

/// A file or a block device, locked against any other process (QEMU's own locks of
/// images included) until it is dropped.
///
/// The lock is the process's: while it is held, the process must not open and close
/// the file another time.
#[derive(Debug)]
pub struct FileDisk {
    file: File,
    grows: bool,
}

impl FileDisk {
    /// Opens `path` for reading and writing; `create` makes a file that is not there.
    ///
    /// # Errors
    /// What is wrong with it, [`Error::InUse`] if another process has it open.
    pub fn open(path: &Path, create: bool) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        // What is said is nobody else's.
        options.read(true).write(true).create(create).mode(0o600);
        let file = options.open(path).map_err(|e| match e.kind() {
            io::ErrorKind::PermissionDenied if File::open(path).is_ok() => Error::ReadOnly,
            _ => Error::of(Action::Open, 0, e),
        })?;
        let disk = Self::of(file)?;
        if let Some(directory) = path.parent().filter(|_| create) {
            // The file's name stays as well; where that cannot be asked for, it does so
            // a moment later.
            let _ = File::open(directory).and_then(|directory| directory.sync_all());
        }
        match fcntl_lock(&disk.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(disk),
            Err(e) => match io::Error::from(e) {
                e if e.kind() == io::ErrorKind::WouldBlock => Err(Error::InUse),
                // The machine's kernel has no locks, and its disk nobody else.
                e if e.kind() == io::ErrorKind::PermissionDenied && !disk.grows => Ok(disk),
                e if e.kind() == io::ErrorKind::PermissionDenied => Err(Error::InUse),
                e => Err(Error::of(Action::Lock, 0, e)),
            },
        }
    }

    /// Opens `path` for reading, beside whoever writes to it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open_to_read(path: &Path) -> Result<Self, Error> {
        Self::of(File::open(path).map_err(|e| Error::of(Action::Open, 0, e))?)
    }

    fn of(file: File) -> Result<Self, Error> {
        let kind = file
            .metadata()
            .map_err(|e| Error::of(Action::Open, 0, e))?
            .file_type();
        if kind.is_file() || kind.is_block_device() {
            let grows = kind.is_file();
            Ok(Self { file, grows })
        } else {
            Err(Error::NoSession {
                what: "no file and no disk",
            })
        }
    }
}

impl Disk for FileDisk {
    fn size(&self) -> io::Result<u64> {
        // The metadata of a block device has no length.
        (&self.file).seek(SeekFrom::End(0))
    }

    fn grows(&self) -> bool {
        self.grows
    }

    fn read_at(&self, mut at: u64, mut buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len();
        while !buffer.is_empty() {
            match self.file.read_at(buffer, at) {
                Ok(0) => break,
                Ok(count) => {
                    at = at.saturating_add(count as u64);
                    buffer = buffer.get_mut(count..).unwrap_or_default();
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(wanted.saturating_sub(buffer.len()))
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}
