//! Where a session is: a file of the plain command, a disk of the machine.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use journal::FileDisk;

use crate::disk;
use crate::host::{Host, chain};
use crate::mounts::Mounted;

/// The disk appears a moment after its driver.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a session is.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// This file, which is made if it is not there.
    File(PathBuf),
    /// The disk that the host calls the session's.
    Disk(Mounted),
}

impl Place {
    /// What the parameter `session` means at `host`.
    pub(crate) fn of(host: Host, given: &str) -> Self {
        match host {
            Host::Machine(mounted) => Self::Disk(mounted),
            Host::Command => Self::File(given.into()),
        }
    }

    /// Opens it, for nobody else to have; waits for a disk to appear.
    ///
    /// # Errors
    /// One line.
    pub(super) fn open(&self) -> Result<FileDisk, String> {
        let opened = match self {
            Self::File(path) => FileDisk::open(path, true),
            Self::Disk(mounted) => FileDisk::open(&find(*mounted)?, false),
        };
        opened.map_err(|e| match self {
            Self::File(path) => format!("{}: {}", path.display(), chain(&e)),
            Self::Disk(_) => chain(&e),
        })
    }
}

fn find(_proof: Mounted) -> Result<PathBuf, String> {
    let began = Instant::now();
    loop {
        if let Some(name) = disk::session_disk(Path::new("/sys")) {
            return Ok(Path::new("/dev").join(name));
        }
        if began.elapsed() >= PATIENCE {
            let line = "zosia.session is on, and there is no disk with the serial number \
                        zosia-session to keep conversations on: attach one (run.sh --session \
                        NAME) [ZE-70]";
            return Err(line.to_owned());
        }
        sleep(Duration::from_millis(10));
    }
}
