//! The file of a batch's results, and what of it is kept when a run that was broken
//! off goes on.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};

use crate::host::named;

/// How the result of a line that was answered begins.
pub(super) const ANSWERED: &[u8] = b"{\"answered\":true";
/// How any result begins.
const RESULT: &[u8] = b"{\"answered\":";

/// A new file for results.
///
/// # Errors
/// The system's, with the file's name: one that is there is not written over.
pub(crate) fn create(path: &str) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => io::Error::new(
                e.kind(),
                format!("{path} is there already; --resume goes on with it, or remove it"),
            ),
            _ => named(&e, format_args!("{path} cannot be written")),
        })
}

/// The file of results of a run that was broken off, to be written on: up to the last
/// line that was answered. What is behind that (lines that failed, one that is torn) is
/// cut off and done again. Returns the number of results that are kept, too. Without a
/// file there are none.
///
/// # Errors
/// The system's, with the file's name; or it holds something else than results.
pub(crate) fn resume(path: &str) -> io::Result<(File, u64)> {
    let named = |e| named(&e, format_args!("{path} cannot be used"));
    let open = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    let mut file = open.map_err(named)?;
    let (count, bytes) = answered(&file).map_err(named)?;
    file.set_len(bytes).map_err(named)?;
    file.seek(SeekFrom::End(0)).map_err(named)?;
    Ok((file, count))
}

/// How many results there are up to the last that was answered, and their bytes.
fn answered(file: &File) -> io::Result<(u64, u64)> {
    let mut reader = BufReader::new(file);
    let (mut count, mut bytes) = (0_u64, 0_u64);
    let mut kept = (0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        let begun = line.len().min(RESULT.len());
        if line.get(..begun) != RESULT.get(..begun) {
            let number = count.saturating_add(1);
            let what = format!(
                "its line {number} is not a result of a batch; --output names the file of results"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        if !line.ends_with(b"\n") {
            return Ok(kept);
        }
        count = count.saturating_add(1);
        bytes = bytes.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        if line.starts_with(ANSWERED) {
            kept = (count, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn what_was_answered_is_kept_and_the_rest_cut_off() {
        let path = std::env::temp_dir().join(format!("zosia-results-{}", std::process::id()));
        let path = path.to_str().unwrap();
        let (yes, no) = (
            "{\"answered\":true,\"text\":\"a\"}\n",
            "{\"answered\":false}\n",
        );
        for (held, count, kept) in [
            (String::new(), 0, String::new()),
            (yes.to_owned(), 1, yes.to_owned()),
            (
                format!("{yes}{no}{yes}{no}{no}"),
                3,
                format!("{yes}{no}{yes}"),
            ),
            (format!("{yes}{{\"answered\":true,\"te"), 1, yes.to_owned()),
            (format!("{yes}{{\"answered\":true}}"), 1, yes.to_owned()),
            (no.to_owned(), 0, String::new()),
        ] {
            std::fs::write(path, &held).unwrap();
            let (mut file, got) = resume(path).unwrap();
            file.write_all(b"next\n").unwrap();
            assert_eq!(
                (got, std::fs::read_to_string(path).unwrap()),
                (count, kept + "next\n")
            );
        }
        for held in [
            "notes\n",
            "{\"answer",
            "\n",
            "{\"id\":1,\"prompt\":\"a\"}\n",
        ] {
            let held = format!("{yes}{held}");
            std::fs::write(path, &held).unwrap();
            let told = resume(path).map(|_| ()).map_err(|e| e.to_string());
            let torn = held.ends_with("{\"answer");
            assert_eq!(told.is_ok(), torn, "{told:?}");
            let left = std::fs::read_to_string(path).unwrap();
            assert_eq!(left, if torn { yes } else { &held });
        }
        assert!(create(path).unwrap_err().to_string().contains("--resume"));
        std::fs::remove_file(path).unwrap();
        let mut text = String::new();
        resume(path).unwrap().0.read_to_string(&mut text).unwrap();
        assert_eq!(text, "");
        std::fs::remove_file(path).unwrap();
    }
}
