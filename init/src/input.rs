//! What the plain command is asked, on its command line and its standard input.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileTypeExt as _;

use protocol::Config;
use protocol::memory::{Budget, mib};

use crate::host::{named, warn};
use crate::job::batch::Lines;

/// The message of a one-turn run; `None` means a chat.
///
/// # Errors
/// Standard input's; `InvalidInput` for one that is empty, too long or not text.
pub(crate) fn message(config: &Config, budget: &Budget) -> io::Result<Option<String>> {
    let typed = io::stdin().is_terminal();
    match config.start.prompt.as_deref() {
        // What an editor paints belongs in no file and no other program.
        None if typed && io::stdout().is_terminal() => Ok(None),
        None | Some("-") => {
            if typed {
                warn("type the message; Ctrl-D on a line of its own ends it");
            }
            standard_input(budget).map(Some)
        }
        Some(text) if text.trim().is_empty() => Err(empty("the message")),
        Some(text) => {
            let context = context(budget)?;
            if context.is_empty() {
                return Ok(Some(text.to_owned()));
            }
            Ok(Some(format!(
                "{}\n\n{text}",
                context.trim_end_matches('\n')
            )))
        }
    }
}

/// The lines of `file`; `-` is standard input.
///
/// # Errors
/// The file's.
pub(crate) fn lines(file: &str, budget: &Budget) -> io::Result<Lines> {
    let source = if file == "-" {
        own_standard_input()?
    } else {
        File::open(file).map_err(|e| named(&e, format_args!("{file} cannot be opened")))?
    };
    Ok(Lines::new(source, budget.prompt_bytes, None))
}

fn standard_input(budget: &Budget) -> io::Result<String> {
    let text = read_text(io::stdin(), "standard input", budget)?;
    if text.trim().is_empty() {
        return Err(empty("standard input"));
    }
    Ok(text.trim_end_matches('\n').to_owned())
}

fn empty(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("{what} is empty: nothing to answer"),
    )
}

/// Standard input of `-p TEXT` is context when it is a file or a pipe; anything
/// else (a socket, `/dev/null`) just came with the process.
fn context(budget: &Budget) -> io::Result<String> {
    let kind = own_standard_input()?
        .metadata()
        .map_err(|e| unusable(&e))?
        .file_type();
    if !kind.is_file() && !kind.is_fifo() {
        return Ok(String::new());
    }
    read_text(io::stdin(), "standard input", budget)
}

fn own_standard_input() -> io::Result<File> {
    let input = io::stdin().as_fd().try_clone_to_owned();
    input.map(File::from).map_err(|e| unusable(&e))
}

fn unusable(error: &io::Error) -> io::Error {
    named(error, "standard input cannot be used")
}

/// All of `from`, within the budget for a prompt.
fn read_text(from: impl Read, name: &str, budget: &Budget) -> io::Result<String> {
    let mut bytes = Vec::new();
    from.take(budget.prompt_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|e| named(&e, format_args!("{name} cannot be read")))?;
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if length > budget.prompt_bytes {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "{name} has more than {} MiB, the most that is taken here",
                mib(budget.prompt_bytes)
            ),
        ));
    }
    texts::utf8(bytes)
        .map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, format!("{name} {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_or_not_text_is_refused_with_the_reason() {
        let mut budget = Budget::of(None);
        budget.prompt_bytes = 4;
        let read = |bytes: &[u8]| read_text(bytes, "it", &budget).map_err(|e| e.to_string());
        assert_eq!(read(b"abcd").as_deref(), Ok("abcd"));
        assert!(read(b"abcde").unwrap_err().contains("more than"));
        assert!(read(b"ab\xff").unwrap_err().ends_with("see byte 2"));
        assert_eq!(read(b"\xef\xbb\xbfa").as_deref(), Ok("a"));
        assert!(read(b"a\0b").unwrap_err().contains("byte 1 is zero"));
        assert!(read(b"\xff\xfea\0").unwrap_err().contains("UTF-16"));
    }
}
