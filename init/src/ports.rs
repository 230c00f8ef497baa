//! Named channels to the host: virtio-serial ports, found by the name that the
//! host gave them, never by number.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Host to guest: a prompt; guest to host: the answer's bytes.
pub(crate) const TURN: &str = "zosia.turn";
/// Guest to host: one line of JSON a turn.
pub(crate) const RESULT: &str = "zosia.result";
/// Guest to host: saved transcripts.
pub(crate) const SAVE: &str = "zosia.save";

/// A prompt may be this long, as everywhere.
const PROMPT_BYTES_MAX: u64 = 64 << 20;

/// The ports appear a moment after their driver.
const PATIENCE: Duration = Duration::from_secs(5);

/// Opens the port `name`, waiting up to five seconds for it to appear.
///
/// # Errors
/// `NotFound` when the host gave none of that name; else the device's error.
pub(crate) fn open(name: &str) -> io::Result<File> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(device) = find(Path::new("/sys/class/virtio-ports"), name) {
            return OpenOptions::new().read(true).write(true).open(device);
        }
        if Instant::now() >= deadline {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("the host gave no virtio-serial port named {name}"),
            ));
        }
        sleep(Duration::from_millis(10));
    }
}

/// Whether the port is there now.
pub(crate) fn is_there(name: &str) -> bool {
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
/// The device's; `InvalidData` for a header that is none, for more than 64 MiB
/// and for text that is not UTF-8.
pub(crate) fn read_order(from: &mut impl Read) -> io::Result<Order> {
    let mut header = String::new();
    loop {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        match byte {
            [b'\n'] => break,
            [b] if header.len() < 32 => header.push(char::from(b)),
            _ => return Err(invalid(&format!("{header:?} is no header of a prompt"))),
        }
    }
    let (batch, digits) = match header.strip_prefix("batch ") {
        Some(digits) => (true, digits),
        None => (false, header.as_str()),
    };
    let length: u64 = digits
        .parse()
        .map_err(|_| invalid(&format!("{header:?} is no header of a prompt")))?;
    if length > PROMPT_BYTES_MAX {
        return Err(invalid(&format!(
            "a prompt of {length} bytes; {PROMPT_BYTES_MAX} is the most"
        )));
    }
    let mut text = Vec::new();
    from.take(length).read_to_end(&mut text)?;
    if text.len() as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let text = String::from_utf8(text).map_err(|e| invalid(&format!("the prompt: {e}")))?;
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
            read_order(&mut wire).unwrap(),
            Order::Prompt("ab\ncd".into())
        );
        assert_eq!(read_order(&mut wire).unwrap(), Order::Batch("{}".into()));
    }

    #[test]
    fn bad_orders_are_errors() {
        for wire in [
            &b"x\n"[..],
            b"",
            b"3\nab",
            b"99999999999\n",
            b"1\n\xff",
            &[b'1'; 100],
        ] {
            assert!(read_order(&mut &*wire).is_err(), "{wire:?}");
        }
    }
}
