//! Named channels to the host: virtio-serial ports, found by the name that the
//! host gave them, never by number.

pub(crate) mod saves;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use protocol::memory::mib;

use crate::mounts::Mounted;

/// Host to guest: a prompt; guest to host: the answer's bytes.
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
            return OpenOptions::new().read(true).write(true).open(device);
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
    /// `batch LENGTH\n`, then lines of JSON: a conversation of its own for each.
    Batch(String),
}

/// Reads one order.
///
/// # Errors
/// The device's; `InvalidData` for a header that is not one, for more than
/// `bytes_max` and for text that is not UTF-8.
pub(crate) fn read_order(from: &mut impl Read, bytes_max: u64) -> io::Result<Order> {
    let mut header = String::new();
    loop {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        match byte {
            [b'\n'] => break,
            [b] if header.len() < 32 => header.push(char::from(b)),
            _ => return Err(invalid(&format!("{header:?} is not a header of a prompt"))),
        }
    }
    let (kind, digits) = header.split_once(' ').unwrap_or(("", &header));
    let length: u64 = digits
        .parse()
        .map_err(|_| invalid(&format!("{header:?} is not a header of a prompt")))?;
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
    match kind {
        "batch" => Ok(Order::Batch(text)),
        "" | "terminal" => Ok(Order::Prompt {
            text,
            at_terminal: kind == "terminal",
        }),
        _ => Err(invalid(&format!("{header:?} is not a header of a prompt"))),
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_to_their_length() {
        let mut wire: &[u8] = b"5\nab\ncdterminal 1\nabatch 2\n{}";
        for (text, at_terminal) in [("ab\ncd", false), ("a", true)] {
            let text = text.to_owned();
            let order = Order::Prompt { text, at_terminal };
            assert_eq!(read_order(&mut wire, 100).unwrap(), order);
        }
        assert_eq!(
            read_order(&mut wire, 100).unwrap(),
            Order::Batch("{}".into())
        );
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
            &[b'1'; 100],
        ] {
            assert!(read_order(&mut &*wire, 100).is_err(), "{wire:?}");
        }
    }
}
