//! The real terminal behind `/dev/console`, made PID 1's controlling terminal
//! and its standard input, output and error.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::mounts::Mounted;

/// A console, and its device, appear within milliseconds or not at all.
const PATIENCE: Duration = Duration::from_secs(2);

/// Opens the kernel's preferred console by its real name, begins a session and
/// takes it as the controlling terminal.
///
/// `/dev/console` itself can be nobody's controlling terminal, and without one
/// `/dev/tty`, which termion opens, does not exist.
///
/// # Errors
/// The name of what could not be opened or taken, and why.
pub(crate) fn take(_proof: Mounted) -> Result<(), ConsoleError> {
    let path = wait_for_preferred(Path::new("/sys/class/tty/console/active"));
    let tty = open_when_there(&path).map_err(|source| ConsoleError::Open {
        path: path.clone(),
        source,
    })?;
    let take = || -> rustix::io::Result<()> {
        // PID 1 may lead a session already; then this fails and is not needed.
        let _ = rustix::process::setsid();
        rustix::process::ioctl_tiocsctty(&tty)?;
        rustix::stdio::dup2_stdin(&tty)?;
        rustix::stdio::dup2_stdout(&tty)?;
        rustix::stdio::dup2_stderr(&tty)
    };
    take().map_err(|source| ConsoleError::Take { path, source })
}

/// The terminal cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConsoleError {
    /// The device does not open.
    #[error("cannot open the console {}", path.display())]
    Open {
        /// The device.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be the controlling terminal.
    #[error("cannot take {} as the controlling terminal", path.display())]
    Take {
        /// The device.
        path: PathBuf,
        /// Why.
        source: rustix::io::Errno,
    },
}

/// A serial port is a console before PID 1 starts. A virtio console becomes one
/// a moment later, when the host has told its driver of the port; until then,
/// and on a machine that has neither, the kernel lists none.
fn wait_for_preferred(active: &Path) -> PathBuf {
    let began = Instant::now();
    loop {
        let names = fs::read_to_string(active).unwrap_or_default();
        if let Some(path) = preferred(&names) {
            return path;
        }
        if began.elapsed() >= PATIENCE {
            return PathBuf::from("/dev/console");
        }
        sleep(Duration::from_millis(2));
    }
}

/// The last name is the one that `/dev/console` stands for.
fn preferred(active: &str) -> Option<PathBuf> {
    let name = active.split_whitespace().last()?;
    Some(Path::new("/dev").join(name))
}

fn open_when_there(path: &Path) -> io::Result<File> {
    let began = Instant::now();
    loop {
        match OpenOptions::new().read(true).write(true).open(path) {
            Err(e) if began.elapsed() < PATIENCE && e.kind() == io::ErrorKind::NotFound => {
                sleep(Duration::from_millis(10));
            }
            opened => return opened,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_console_is_the_last_one() {
        let path = |names| preferred(names).map(|path| path.display().to_string());
        assert_eq!(path("tty0 ttyAMA0\n").as_deref(), Some("/dev/ttyAMA0"));
        assert_eq!(path("hvc0\n").as_deref(), Some("/dev/hvc0"));
        assert_eq!(path("\n"), None);
    }

    #[test]
    fn a_console_that_comes_late_is_waited_for() {
        let name = format!("zosia-console-{}", std::process::id());
        let active = std::env::temp_dir().join(name);
        fs::write(&active, "\n").unwrap();
        let late = active.clone();
        let host = std::thread::spawn(move || {
            sleep(Duration::from_millis(50));
            fs::write(late, "hvc0\n").unwrap();
        });
        assert_eq!(wait_for_preferred(&active), Path::new("/dev/hvc0"));
        host.join().unwrap();
        fs::remove_file(active).unwrap();
    }
}
