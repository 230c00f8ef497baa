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
    /// `LENGTH\n`, then the prompt: one turn.
    Prompt(String),
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
    let (batch, digits) = match header.strip_prefix("batch ") {
        Some(digits) => (true, digits),
        None => (false, header.as_str()),
    };
    let length: u64 = digits
        .parse()
        .map_err(|_| invalid(&format!("{header:?} is not a header of a prompt")))?;
    if length > bytes_max {
        return Err(invalid(&format!(
            "it has {} MiB, and {} MiB is the most with this machine's memory; shorten it, or \
             give the machine more (run.sh --mem)",
            mib(length),
            bytes_max >> 20
        )));
    }
    let mut text = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    from.read_exact(&mut text)?;
    let text = String::from_utf8(text).map_err(|e| invalid(&format!("it is not UTF-8: {e}")))?;
    Ok(if batch {
        Order::Batch(text)
    } else {
        Order::Prompt(text)
    })
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_to_their_length() {
        let mut wire: &[u8] = b"5\nab\ncdbatch 2\n{}";
        assert_eq!(
            read_order(&mut wire, 100).unwrap(),
            Order::Prompt("ab\ncd".into())
        );
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
            &[b'1'; 100],
        ] {
            assert!(read_order(&mut &*wire, 100).is_err(), "{wire:?}");
        }
    }
}
