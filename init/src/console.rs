//! The real terminal behind `/dev/console`, made PID 1's controlling terminal
//! and its standard input, output and error.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Opens the kernel's preferred console by its real name, begins a session and
/// takes it as the controlling terminal.
///
/// `/dev/console` itself can be nobody's controlling terminal, and without one
/// `/dev/tty`, which termion opens, does not exist.
///
/// # Errors
/// The name of what could not be opened or taken, and why.
pub(crate) fn take() -> Result<File, ConsoleError> {
    let active = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    let path = preferred(&active);
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
    take().map_err(|source| ConsoleError::Take { path, source })?;
    Ok(tty)
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

/// The last name is the one that `/dev/console` stands for.
fn preferred(active: &str) -> PathBuf {
    let name = active.split_whitespace().last().unwrap_or("console");
    Path::new("/dev").join(name)
}

fn open_when_there(path: &Path) -> io::Result<File> {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        match OpenOptions::new().read(true).write(true).open(path) {
            Err(e) if Instant::now() < deadline && e.kind() == io::ErrorKind::NotFound => {
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
        assert_eq!(preferred("tty0 ttyAMA0\n"), Path::new("/dev/ttyAMA0"));
        assert_eq!(preferred("hvc0\n"), Path::new("/dev/hvc0"));
        assert_eq!(preferred(""), Path::new("/dev/console"));
    }
}
