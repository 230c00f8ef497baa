//! Disks of a machine, as options of QEMU.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Board, OrFail};

/// A disk of the machine, attached read-only unless it says otherwise.
#[derive(Debug, Clone)]
pub enum Drive {
    /// This file.
    File(PathBuf),
    /// This file, a draft model.
    Draft(PathBuf),
    /// This file, with a read error at each access to this sector of 512 bytes.
    Failing(PathBuf, u64),
    /// This file, read at no more than this many bytes a second.
    Slow(PathBuf, u64),
    /// This file, which the guest could write.
    Writable(PathBuf),
    /// This file, where conversations are kept.
    Session(PathBuf),
    /// The same, which the host does not let it write.
    ReadOnlySession(PathBuf),
    /// The same, with an error of the host's disk at the first write to this sector.
    FailingSession(PathBuf, u64),
}

impl Drive {
    pub(crate) fn arguments(&self, index: usize, board: Board) -> Vec<String> {
        let node = |options: String| ["-blockdev".to_owned(), options];
        let read_only = match self {
            Self::Writable(_) | Self::Session(_) | Self::FailingSession(..) => "off",
            _ => "on",
        };
        let file = |path: &Path| {
            let name = path.to_string_lossy().replace(',', ",,");
            node(format!(
                "driver=file,node-name=file{index},read-only={read_only},filename={name}"
            ))
        };
        let raw = |below: &str| {
            node(format!(
                "driver=raw,node-name=disk{index},read-only={read_only},file={below}{index}"
            ))
        };
        let numbered = |serial: &str| {
            let device = format!("virtio-blk-{},drive=disk{index}", board.bus());
            ["-device".to_owned(), format!("{device},serial={serial}")]
        };
        // Disks are whole sectors; the serial number tells the file's own length.
        let device = |path: &Path| {
            let bytes = fs::metadata(path).or_fail("look at the disk").len();
            numbered(&format!("zosia-{bytes}"))
        };
        let draft = || numbered("zosia-draft");
        // Errors are the guest's: else the machine stops.
        let session = || numbered("zosia-session,werror=report");
        match self {
            Self::Session(path) | Self::ReadOnlySession(path) => {
                [file(path), raw("file"), session()].concat()
            }
            Self::FailingSession(path, sector) => {
                let error = format!(
                    "inject-error.0.event=write_aio,inject-error.0.errno=28,\
                     inject-error.0.once=on,inject-error.0.sector={sector}"
                );
                let failing =
                    format!("driver=blkdebug,node-name=failing{index},image=file{index},{error}");
                [file(path), node(failing), raw("failing"), session()].concat()
            }
            Self::Draft(path) => [file(path), raw("file"), draft()].concat(),
            Self::File(path) | Self::Writable(path) => {
                [file(path), raw("file"), device(path)].concat()
            }
            // Without a raw node above it, blkdebug's errors never fire.
            Self::Failing(path, sector) => {
                let error = format!(
                    "inject-error.0.event=read_aio,inject-error.0.errno=5,\
                     inject-error.0.sector={sector}"
                );
                let failing =
                    format!("driver=blkdebug,node-name=failing{index},image=file{index},{error}");
                [file(path), node(failing), raw("failing"), device(path)].concat()
            }
            Self::Slow(path, bytes_per_s) => {
                let group = format!(
                    "{{\"qom-type\": \"throttle-group\", \"id\": \"group{index}\", \
                     \"limits\": {{\"bps-read\": {bytes_per_s}}}}}"
                );
                let slow = format!(
                    "driver=throttle,node-name=slow{index},read-only=on,\
                     throttle-group=group{index},file=file{index}"
                );
                let object = ["-object".to_owned(), group];
                [object, file(path), node(slow), raw("slow"), device(path)].concat()
            }
        }
    }
}
