//! The lines of a batch, as they come: no more of them is held than one line and what
//! was read with it.

use std::fs::File;
use std::io::{self, Read as _};

use protocol::memory::mib;

/// Read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Lines of a file, a pipe or a port.
pub(crate) struct Lines {
    source: File,
    /// What has been read, from `at` on.
    read: Vec<u8>,
    at: usize,
    /// Up to here there is no end of a line.
    searched: usize,
    /// The longest line, bytes.
    longest: usize,
    /// The line that says that there are no more, where the source has no end.
    last: Option<Vec<u8>>,
    /// The rest of a line that is too long is passed over.
    passing_over: bool,
    begun: bool,
    ended: bool,
}

/// What there is to take.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// A line, or why there is none in its place.
    Line(Result<String, String>),
    /// Nothing until more is read.
    NotYet,
    /// No line any more.
    End,
}

impl Lines {
    /// Lines of up to `longest` bytes, to the end of `source` or to a line `last`.
    pub(crate) fn new(source: File, longest: u64, last: Option<String>) -> Self {
        Self {
            source,
            read: Vec::new(),
            at: 0,
            searched: 0,
            longest: usize::try_from(longest).unwrap_or(usize::MAX),
            last: last.map(String::into_bytes),
            passing_over: false,
            begun: false,
            ended: false,
        }
    }

    /// Where more comes from, to be polled; `None` once all has been read.
    pub(crate) fn source(&self) -> Option<&File> {
        (!self.ended).then_some(&self.source)
    }

    /// Reads what is there; waits if nothing is.
    ///
    /// # Errors
    /// The source's; `InvalidData` for UTF-16.
    pub(crate) fn read_more(&mut self) -> io::Result<()> {
        self.read.drain(..self.at);
        self.searched = self.searched.saturating_sub(self.at);
        self.at = 0;
        let held = self.read.len();
        self.read.resize(held.saturating_add(CHUNK_BYTES), 0);
        let room = self.read.get_mut(held..).unwrap_or_default();
        let count = match self.source.read(room) {
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                ) =>
            {
                self.read.truncate(held);
                return Ok(());
            }
            result => result?,
        };
        self.read.truncate(held.saturating_add(count));
        self.ended = count == 0;
        if !self.begun {
            self.begun = true;
            if self.read.starts_with(b"\xff\xfe") || self.read.starts_with(b"\xfe\xff") {
                let why = "the lines are UTF-16; convert them first: iconv -f UTF-16 -t UTF-8";
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            if self.read.starts_with(b"\xef\xbb\xbf") {
                self.at = 3;
            }
        }
        Ok(())
    }

    /// The next line that is not blank. The last may end without a line feed. Of the
    /// blank ones `count` is told, too, as each has its number.
    pub(crate) fn take(&mut self, number: &mut u64) -> Taken {
        loop {
            let from = self.at.max(self.searched);
            let rest = self.read.get(from..).unwrap_or_default();
            let Some(length) = rest.iter().position(|byte| *byte == b'\n') else {
                self.searched = self.read.len();
                return self.take_unended(number);
            };
            let end = from.saturating_add(length);
            let line = self.read.get(self.at..end).unwrap_or_default().to_vec();
            self.at = end.saturating_add(1);
            if std::mem::take(&mut self.passing_over) {
                continue;
            }
            if self.last.as_ref() == Some(&line) {
                self.ended = true;
                self.read.clear();
                return Taken::End;
            }
            *number = number.saturating_add(1);
            if !line.trim_ascii().is_empty() {
                return Taken::Line(self.text(line));
            }
        }
    }

    /// What is behind the last end of a line.
    fn take_unended(&mut self, number: &mut u64) -> Taken {
        let rest = self.read.get(self.at..).unwrap_or_default();
        if self.ended {
            let line = rest.to_vec();
            self.at = self.read.len();
            if self.passing_over || line.trim_ascii().is_empty() {
                return Taken::End;
            }
            *number = number.saturating_add(1);
            return Taken::Line(self.text(line));
        }
        if self.passing_over {
            self.at = self.read.len();
        } else if rest.len() > self.longest {
            self.at = self.read.len();
            self.passing_over = true;
            *number = number.saturating_add(1);
            return Taken::Line(Err(self.too_long()));
        }
        Taken::NotYet
    }

    fn text(&self, line: Vec<u8>) -> Result<String, String> {
        if line.len() > self.longest {
            return Err(self.too_long());
        }
        String::from_utf8(line).map_err(|e| {
            let at = e.utf8_error().valid_up_to().saturating_add(1);
            format!("it is not UTF-8 text: see byte {at} of the line")
        })
    }

    fn too_long(&self) -> String {
        let longest = u64::try_from(self.longest).unwrap_or(u64::MAX);
        format!(
            "it has more than {} MiB, the most that is taken of one line here",
            mib(longest)
        )
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write as _;
    use std::os::fd::OwnedFd;

    use super::*;

    /// A pipe that gives `bytes`, and then nothing more.
    pub(crate) fn pipe_of(bytes: Vec<u8>) -> File {
        let (reader, mut writer) = io::pipe().unwrap();
        std::thread::spawn(move || writer.write_all(&bytes));
        File::from(OwnedFd::from(reader))
    }

    fn all(bytes: &[u8], last: Option<&str>) -> Vec<(u64, Result<String, String>)> {
        let mut lines = Lines::new(pipe_of(bytes.to_vec()), 8, last.map(str::to_owned));
        let (mut taken, mut number) = (Vec::new(), 0);
        loop {
            match lines.take(&mut number) {
                Taken::Line(line) => taken.push((number, line)),
                Taken::NotYet => lines.read_more().unwrap(),
                Taken::End => return taken,
            }
        }
    }

    #[test]
    fn each_line_has_its_number_and_blank_ones_are_passed_over() {
        let text = |number, text: &str| (number, Ok(text.to_owned()));
        let three = [text(1, "a"), text(4, " b"), text(5, "c")];
        assert_eq!(all(b"\xef\xbb\xbfa\n\n \r\n b\nc", None), three);
        assert_eq!(all(b"a\n\n\n b\nc\n\n", None), three);
        assert_eq!(all(b"a\n\n\n b\nc\nEND\nd\n", Some("END")), three);
        assert!(all(b"", None).is_empty());
    }

    #[test]
    fn what_is_no_line_is_told_in_its_place() {
        let told = all(b"a\n123456789\n\xff\nb\n1234567890123", None);
        let [
            (1, Ok(_)),
            (2, Err(long)),
            (3, Err(bytes)),
            (4, Ok(b)),
            (5, Err(_)),
        ] = &told[..]
        else {
            panic!("{told:?}");
        };
        assert!(long.contains("more than 1 MiB"), "{long}");
        assert!(bytes.contains("see byte 1"), "{bytes}");
        assert_eq!(b, "b");
    }

    #[test]
    fn a_line_that_never_ends_is_not_held() {
        let mut bytes = vec![b'x'; 3 * CHUNK_BYTES];
        bytes.extend_from_slice(b"\na");
        let mut lines = Lines::new(pipe_of(bytes), 8, None);
        let (mut taken, mut number) = (Vec::new(), 0);
        loop {
            assert!(lines.read.len() <= 8 + 2 * CHUNK_BYTES);
            match lines.take(&mut number) {
                Taken::Line(line) => taken.push((number, line.is_ok())),
                Taken::NotYet => lines.read_more().unwrap(),
                Taken::End => break,
            }
        }
        assert_eq!(taken, [(1, false), (2, true)]);
    }

    #[test]
    fn utf_16_is_refused_at_once() {
        let mut lines = Lines::new(pipe_of(b"\xff\xfea\0".to_vec()), 8, None);
        assert!(
            lines
                .read_more()
                .unwrap_err()
                .to_string()
                .contains("UTF-16")
        );
    }
}
