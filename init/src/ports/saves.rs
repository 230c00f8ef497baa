//! Transcripts on their way to the host: a line that says what comes, the
//! transcript, and the host's line that says what became of it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::{SAVE, is_ready, open};
use crate::mounts::Mounted;

/// The host confirms within this, or is taken not to.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest line that a host answers with.
const LINE_BYTES_MAX: usize = 1024;

/// The port for transcripts, and what was sent through it.
#[derive(Debug, Default)]
pub(crate) struct Saves {
    port: Option<File>,
    /// Number of the last transcript sent.
    sent: u32,
}

impl Saves {
    /// Sends `body` to be kept as `name`, and returns the name that the host
    /// kept it as.
    ///
    /// # Errors
    /// The device's; the host's words; `TimedOut` when it says nothing.
    pub(crate) fn send(&mut self, proof: Mounted, name: &str, body: &[u8]) -> io::Result<String> {
        let mut port = if let Some(port) = self.port.take() {
            port
        } else {
            let port = open(proof, SAVE)?;
            rustix::io::ioctl_fionbio(&port, true)?;
            port
        };
        self.sent = self.sent.wrapping_add(1) % 1_000_000_000;
        let kept = exchange(&mut port, self.sent, name, body, PATIENCE);
        // After an answer the port is at the beginning of a line. After a
        // failure in the middle nobody knows where it is: it is opened again.
        if !matches!(&kept, Err(e) if e.kind() != io::ErrorKind::Other) {
            self.port = Some(port);
        }
        kept
    }
}

fn exchange(
    port: &mut (impl Read + Write + std::os::fd::AsFd),
    number: u32,
    name: &str,
    body: &[u8],
    patience: Duration,
) -> io::Result<String> {
    let began = Instant::now();
    let wait = |port: &_, flags| wait(port, flags, patience.saturating_sub(began.elapsed()));
    let mut frame = format!("save {number} {} {name}\n", body.len()).into_bytes();
    frame.extend_from_slice(body);
    let mut rest = frame.as_slice();
    while !rest.is_empty() {
        match port.write(rest) {
            Ok(n) => rest = rest.get(n..).unwrap_or_default(),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                wait(port, PollFlags::OUT)?;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        match port.read(&mut byte) {
            Ok(0) => wait(port, PollFlags::IN)?,
            Ok(_) if byte == *b"\n" => {
                if let Some(kept) = answer(&line, number) {
                    return kept;
                }
                line.clear();
            }
            Ok(_) if line.len() < LINE_BYTES_MAX => line.extend_from_slice(&byte),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                wait(port, PollFlags::IN)?;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// What a line of the host says of transcript `number`; `None`: nothing.
fn answer(line: &[u8], number: u32) -> Option<io::Result<String>> {
    let line = String::from_utf8_lossy(line);
    let (verdict, rest) = line.split_once(' ')?;
    let (id, text) = rest.split_once(' ')?;
    // An answer to number 0 is about a line that the host did not understand.
    if id.parse::<u32>().ok()? != number && id != "0" {
        return None;
    }
    let text = term::sanitize(text);
    match verdict {
        "ok" => Some(Ok(text)),
        "error" => Some(Err(io::Error::other(text))),
        _ => None,
    }
}

fn wait(port: &impl std::os::fd::AsFd, flags: PollFlags, left: Duration) -> io::Result<()> {
    let unconfirmed = || {
        io::Error::new(
            io::ErrorKind::TimedOut,
            "the host did not confirm it; it needs tools/run.sh, or what reads the port zosia.save",
        )
    };
    if left.is_zero() {
        return Err(unconfirmed());
    }
    match is_ready(port, flags, left) {
        Ok(false) => Err(unconfirmed()),
        Err(e) if e.kind() != io::ErrorKind::Interrupted => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    /// What a host that answers with `lines` makes of a transcript.
    fn saved(lines: &'static str) -> io::Result<String> {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let host = thread::spawn(move || {
            let mut reader = BufReader::new(theirs);
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            assert_eq!(header, "save 7 5 talk.md\n");
            let mut body = [0; 5];
            reader.read_exact(&mut body).unwrap();
            assert_eq!(&body, b"hello");
            reader.get_mut().write_all(lines.as_bytes()).unwrap();
            reader
        });
        // Long enough for any host that answers at all.
        let patience = Duration::from_secs(60);
        let kept = exchange(&mut ours, 7, "talk.md", b"hello", patience);
        drop(host.join().unwrap());
        kept
    }

    #[test]
    fn the_hosts_word_is_what_is_told() {
        assert_eq!(saved("ok 7 talk-2.md\n").unwrap(), "talk-2.md");
        let full = saved("error 7 cannot write it: No space left on device\n").unwrap_err();
        assert_eq!(full.to_string(), "cannot write it: No space left on device");
    }

    #[test]
    fn answers_to_earlier_transcripts_and_noise_are_passed_over() {
        let lines = "ok 6 old.md\nnoise\n\nok seven x\nok 7 talk.md\n";
        assert_eq!(saved(lines).unwrap(), "talk.md");
        assert!(saved("error 0 not a header\n").is_err());
        let hostile = saved("error 7 \x1b[2Jgone\n").unwrap_err().to_string();
        assert!(!hostile.contains('\x1b'), "{hostile:?}");
    }

    #[test]
    fn a_host_that_says_nothing_has_saved_nothing() {
        let (mut ours, _theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let error = exchange(&mut ours, 7, "talk.md", b"hello", Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
