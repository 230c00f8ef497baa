//! Named channels to the host: virtio-serial ports, found by the name that the
//! host gave them, never by number.

pub(crate) mod saves;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use protocol::memory::mib;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::host::named;
use crate::mounts::Mounted;

/// Guest to host: [`ENQUIRY`]; host to guest: an [`Order`]; guest to host: the answer's bytes.
pub(crate) const TURN: &str = "zosia.turn";
/// Guest to host: one line of JSON a turn.
pub(crate) const RESULT: &str = "zosia.result";
/// Guest to host: saved transcripts.
pub(crate) const SAVE: &str = "zosia.save";

/// The ports appear a moment after their driver.
const PATIENCE: Duration = Duration::from_secs(5);

/// Opens the port `name`, waiting up to five seconds for it to appear.
///
/// # Errors
/// `NotFound` when the host gave none of that name; else the device's error.
pub(crate) fn open(_proof: Mounted, name: &str) -> io::Result<File> {
    let began = Instant::now();
    loop {
        if let Some(device) = find(Path::new("/sys/class/virtio-ports"), name) {
            let opened = OpenOptions::new().read(true).write(true).open(device);
            return opened.map_err(|e| named(&e, format_args!("the port {name} cannot be opened")));
        }
        if began.elapsed() >= PATIENCE {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("the host gave no virtio-serial port named {name}"),
            ));
        }
        sleep(Duration::from_millis(10));
    }
}

/// Whether it was tools/run.sh that started the machine: nothing else gives these.
pub(crate) fn has_run_sh(proof: Mounted) -> bool {
    [SAVE, TURN].iter().any(|name| is_there(proof, name))
}

/// Whether the port is there now.
pub(crate) fn is_there(_proof: Mounted, name: &str) -> bool {
    find(Path::new("/sys/class/virtio-ports"), name).is_some()
}

fn find(class: &Path, name: &str) -> Option<PathBuf> {
    fs::read_dir(class).ok()?.flatten().find_map(|entry| {
        let given = fs::read_to_string(entry.path().join("name")).ok()?;
        (given.trim_end() == name).then(|| Path::new("/dev").join(entry.file_name()))
    })
}

/// ASCII's ENQ, which asks the host for its order. There are firmwares (edk2 of 2025) whose
/// driver reads each port until the kernel does: what was sent before then is lost.
const ENQUIRY: u8 = 5;

/// How long the host may keep silent in the middle of its order.
const SILENCE: Duration = Duration::from_secs(30);

/// Asks the host for its order, and reads it; the lines of a batch are left to be read.
///
/// # Errors
/// The device's; `TimedOut` when the host is silent for half a minute; `InvalidData` for a
/// header that is not one, for more than `bytes_max` and for text that is not UTF-8.
pub(crate) fn fetch_order(port: &mut File, bytes_max: u64) -> io::Result<Order> {
    port.write_all(&[ENQUIRY]).map_err(|e| {
        named(
            &e,
            format_args!("the host cannot be asked for it through {TURN}"),
        )
    })?;
    read_order(&mut Impatient(port), bytes_max)
}

/// Reads, but not from a host that is silent.
struct Impatient<'a>(&'a File);

impl Read for Impatient<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !is_ready(self.0, PollFlags::IN, SILENCE)? {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!(
                    "the host was asked for it through {TURN}, and sent nothing for {} s",
                    SILENCE.as_secs()
                ),
            ));
        }
        self.0.read(into)
    }
}

/// Whether `port` can do this within `limit`.
fn is_ready(port: &impl AsFd, what: PollFlags, limit: Duration) -> io::Result<bool> {
    let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
    Ok(poll(&mut [PollFd::new(port, what)], Some(&limit))? > 0)
}

/// What the host asks for on [`TURN`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// `LENGTH\n`, then the prompt: one turn. `terminal LENGTH\n`: its answer is
    /// shown at a terminal.
    Prompt {
        /// The message.
        text: String,
        /// Whether the answer goes to a terminal.
        at_terminal: bool,
    },
    /// `batch LAST SKIP\n`, then lines of JSON, a conversation of its own for each, and
    /// behind them the line `LAST`. The host has the results of the first `SKIP` of them.
    /// `batch LAST SKIP terminal\n`: how far it is is shown at a terminal.
    Batch {
        /// The line that says that there are no more.
        last: String,
        /// How many have their results.
        skip: u64,
        /// Whether progress goes to a terminal.
        at_terminal: bool,
    },
}

/// The longest header.
const HEADER_BYTES: usize = 128;

fn read_order(from: &mut impl Read, bytes_max: u64) -> io::Result<Order> {
    let mut header = String::new();
    loop {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        match byte {
            [b'\n'] => break,
            [b] if header.len() < HEADER_BYTES => header.push(char::from(b)),
            _ => return Err(not_a_header(&header)),
        }
    }
    let words: Vec<&str> = header.split(' ').collect();
    let number = |text: &str| text.parse().map_err(|_| not_a_header(&header));
    let (at_terminal, length) = match words.as_slice() {
        ["batch", last, skip, style @ ..] if style.is_empty() || style == ["terminal"] => {
            return Ok(Order::Batch {
                last: (*last).to_owned(),
                skip: number(skip)?,
                at_terminal: !style.is_empty(),
            });
        }
        ["terminal", length] => (true, number(length)?),
        [length] => (false, number(length)?),
        _ => return Err(not_a_header(&header)),
    };
    if length > bytes_max {
        return Err(invalid(&format!(
            "it has {} MiB, and {} MiB is the most with this machine's memory; shorten it, or \
             give the machine more memory (run.sh --mem)",
            mib(length),
            bytes_max >> 20
        )));
    }
    let mut text = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    from.read_exact(&mut text)?;
    let text = texts::utf8(text).map_err(|why| invalid(&format!("it {why}")))?;
    Ok(Order::Prompt { text, at_terminal })
}

fn not_a_header(header: &str) -> io::Error {
    invalid(&format!("{header:?} is not a header of a prompt"))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_to_their_length() {
        let mut wire: &[u8] = b"5\nab\ncdterminal 1\nabatch END 7\n{}batch E 0 terminal\n";
        for (text, at_terminal) in [("ab\ncd", false), ("a", true)] {
            let text = text.to_owned();
            let order = Order::Prompt { text, at_terminal };
            assert_eq!(read_order(&mut wire, 100).unwrap(), order);
        }
        let batch = |last: &str, skip, at_terminal| Order::Batch {
            last: last.to_owned(),
            skip,
            at_terminal,
        };
        assert_eq!(read_order(&mut wire, 100).unwrap(), batch("END", 7, false));
        wire = &wire[2..];
        assert_eq!(read_order(&mut wire, 100).unwrap(), batch("E", 0, true));
    }

    #[test]
    fn bad_orders_are_errors() {
        for wire in [
            &b"x\n"[..],
            b"",
            b"3\nab",
            b"99999999999\n",
            b"101\n",
            b"1\n\xff",
            b"other 1\na",
            b"batch 1\n",
            b"batch END x\n",
            b"batch END 1 x\n",
            &[b'1'; 200],
        ] {
            assert!(read_order(&mut &*wire, 100).is_err(), "{wire:?}");
        }
    }
}
