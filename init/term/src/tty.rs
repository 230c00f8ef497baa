//! Owns the terminal: raw mode while it lives, bracketed paste, reads and
//! writes. termion's raw mode is set on the handle given and never opens
//! `/dev/tty`, which PID 1 does not have.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios;
use termion::raw::{IntoRawMode, RawTerminal};

use super::size::Size;

const PASTE_ON: &[u8] = b"\x1b[?2004h";
const PASTE_OFF: &[u8] = b"\x1b[?2004l";

/// A terminal that takes nothing for as long is left as it is.
const PATIENCE: Timespec = Timespec {
    tv_sec: 2,
    tv_nsec: 0,
};

/// A terminal in raw mode; what it was before is restored when this drops.
pub struct Tty {
    raw: RawTerminal<File>,
    /// What was typed before raw mode and is not read yet, in bytes: the
    /// kernel has made line feeds of its Enters.
    cooked_bytes: usize,
}

impl Tty {
    /// Takes an open terminal (read and write), sets raw mode and turns
    /// bracketed paste on.
    ///
    /// # Errors
    /// When it is not a terminal, or is gone.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let raw = File::from(fd).into_raw_mode()?;
        let typed = rustix::io::ioctl_fionread(&*raw).unwrap_or(0);
        let mut tty = Tty {
            raw,
            cooked_bytes: usize::try_from(typed).unwrap_or(0),
        };
        if tty.cooked_bytes > 0 {
            // Its echo stands in the line; the prompt will show it again.
            tty.write_patiently(b"\r\x1b[K")?;
        }
        tty.write_patiently(PASTE_ON)?;
        Ok(tty)
    }

    /// Gives the terminal back as it was, until [`Tty::resume`].
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn suspend(&mut self) -> io::Result<()> {
        self.write_patiently(PASTE_OFF)?;
        self.raw.suspend_raw_mode()
    }

    /// Takes it again, whatever it was made meanwhile.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn resume(&mut self) -> io::Result<()> {
        self.raw.activate_raw_mode()?;
        self.write_patiently(PASTE_ON).map(drop)
    }

    /// The size that the kernel knows; `None` on a serial line.
    #[must_use]
    pub fn size(&self) -> Option<Size> {
        let size = termios::tcgetwinsize(self.as_fd()).ok()?;
        (size.ws_col > 0 && size.ws_row > 0).then(|| {
            Size {
                columns: size.ws_col,
                rows: size.ws_row,
            }
            .clamped()
        })
    }

    /// Reads what is there, waiting for it. `0` is the end: the terminal hung up.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match (&*self.raw).read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait_until(&self.raw, PollFlags::IN, None)?;
                }
                Err(error) => return Err(error),
                Ok(count) => {
                    let cooked = count.min(self.cooked_bytes);
                    self.cooked_bytes = self.cooked_bytes.saturating_sub(cooked);
                    for byte in buffer.iter_mut().take(cooked) {
                        if *byte == b'\n' {
                            *byte = b'\r';
                        }
                    }
                    return Ok(count);
                }
            }
        }
    }

    /// Writes of `bytes` what the terminal takes now, and says how many. One that was
    /// opened to be waited for takes all, in its own time.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match (&*self.raw).write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                written => return written,
            }
        }
    }

    /// Writes all of `bytes`, or what of them the terminal takes before it takes none for
    /// two seconds, and says how many.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn write_patiently(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_patiently(&self.raw, bytes)
    }
}

impl AsFd for Tty {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing restored.
        let _ = write_patiently(&self.raw, PASTE_OFF);
    }
}

fn write_patiently(mut file: &File, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0_usize;
    loop {
        let rest = bytes.get(written..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(written);
        }
        match file.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written = written.saturating_add(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !wait_until(file, PollFlags::OUT, Some(&PATIENCE))? {
                    return Ok(written);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Waits until `file` is ready; `false`: it is not, after `patience`.
fn wait_until(file: &File, ready: PollFlags, patience: Option<&Timespec>) -> io::Result<bool> {
    let mut fds = [PollFd::new(file, ready)];
    match poll(&mut fds, patience) {
        Ok(count) => Ok(count > 0),
        Err(Errno::INTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, OFlags, open};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    #[test]
    fn a_terminal_that_takes_nothing_is_not_waited_for_without_end() {
        let host = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&host).unwrap();
        unlockpt(&host).unwrap();
        let name = ptsname(&host, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK;
        let mut tty = Tty::new(open(name, flags, Mode::empty()).unwrap()).unwrap();
        let bytes = vec![b'a'; 1 << 20];
        let written = tty.write_patiently(&bytes).unwrap();
        assert!((1..bytes.len()).contains(&written), "{written}");
    }
}
