//! The two hosts of a job: the machine, where this is PID 1, and the plain
//! command. They differ in where prompts come from, where answers go, and in
//! what leaving means; the job is the same.

use std::error::Error;
use std::fmt::{Display, Write as _};
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};

use protocol::memory::{Budget, meminfo_bytes, mib};
use rustix::fs::OFlags;

use crate::mounts::Mounted;
use crate::ports;

/// Where a job runs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Host {
    /// In PID 1: leaving powers off.
    Machine(Mounted),
    /// In the plain command: leaving exits.
    Command,
}

impl Host {
    /// Whether this is PID 1.
    pub(crate) fn is_machine(self) -> bool {
        matches!(self, Self::Machine(_))
    }

    /// How the parameter `name` is given here: `zosia.ctx` or `--ctx`.
    pub(crate) fn option(self, name: &str) -> String {
        match self {
            Self::Machine(_) => format!("zosia.{name}"),
            Self::Command => format!("--{}", name.replace('_', "-")),
        }
    }

    /// `text`, which names parameters and remedies as the machine under run.sh has
    /// them, as it is to be read here. The engine does not know where it runs.
    pub(crate) fn words(self, text: &str) -> String {
        match self {
            Self::Machine(mounted) if ports::has_run_sh(mounted) => text.to_owned(),
            Self::Machine(_) => without_run_sh(text),
            Self::Command => with_flags(&without_run_sh(text)),
        }
    }
}

/// `text` without ` (run.sh …)`.
fn without_run_sh(text: &str) -> String {
    let mut pieces = text.split(" (run.sh ");
    let mut kept = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        kept.push_str(piece.split_once(')').unwrap_or_default().1);
    }
    kept
}

/// `text` with `--ctx 4096` for `zosia.ctx=4096`.
fn with_flags(text: &str) -> String {
    let mut pieces = text.split("zosia.");
    let mut kept = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
        let length = piece.find(|c| !is_name(c)).unwrap_or(piece.len());
        let (name, rest) = piece.split_at(length);
        if protocol::find(name).is_none() {
            kept.push_str("zosia.");
            kept.push_str(piece);
            continue;
        }
        kept.push_str(&Host::Command.option(name));
        match rest.strip_prefix('=') {
            Some(value) => {
                kept.push(' ');
                kept.push_str(value);
            }
            None => kept.push_str(rest),
        }
    }
    kept
}

/// How much memory each thing may take on this machine.
pub(crate) fn read_budget() -> Budget {
    // Without /proc the machine is taken to be of a common size.
    Budget::of_meminfo(&fs::read_to_string("/proc/meminfo").unwrap_or_default())
}

/// The machine's memory, and what of it is not in use.
pub(crate) fn memory() -> String {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let mib_of = |name| mib(meminfo_bytes(&meminfo, name).unwrap_or(0));
    format!(
        "{} MiB, {} MiB available",
        mib_of("MemTotal:"),
        mib_of("MemAvailable:")
    )
}

/// Says something that is not part of the answer.
pub(crate) fn warn(line: &str) {
    // Standard error may be closed; there is nobody left to tell.
    let _ = writeln!(io::stderr(), "zosia: {}", term::sanitize(line));
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing to a String cannot fail.
        let _ = write!(line, ": {cause}");
        source = cause.source();
    }
    line
}

/// Standard output as the answer's place: what a model says goes to a terminal
/// without control characters, and to a pipe or a file as it is.
///
/// # Errors
/// As [`standard_output`].
pub(crate) fn answer_output(host: Host) -> io::Result<Box<dyn Write>> {
    let output = standard_output()?;
    Ok(if host.is_machine() || io::stdout().is_terminal() {
        Box::new(Sanitized(output))
    } else {
        Box::new(output)
    })
}

/// Standard output, whose errors are told: the library's own takes a closed one
/// for one that took everything.
///
/// # Errors
/// It is closed. Before `main` runs, Rust puts `/dev/null` in the place of a
/// closed descriptor, open for reading, too, which a shell's `>/dev/null` is not.
pub(crate) fn standard_output() -> io::Result<Named> {
    let open = || {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let kind = file.metadata()?;
        let is_null = kind.file_type().is_char_device() && kind.rdev() == rustix::fs::makedev(1, 3);
        let mode = rustix::fs::fcntl_getfl(&file)?;
        Ok((file, is_null && mode.contains(OFlags::RDWR)))
    };
    let name = "standard output";
    match open() {
        Ok((file, false)) => Ok(Named::new(file, name)),
        Ok((_, true)) => Err(io::Error::new(
            io::ErrorKind::BrokenPipe,
            format!("{name} is closed: there is nowhere to write to"),
        )),
        Err(e) => Err(named(&e, format_args!("{name} cannot be used"))),
    }
}

/// The same kind of error, which says what it is about.
pub(crate) fn named(error: &io::Error, about: impl Display) -> io::Error {
    io::Error::new(error.kind(), format!("{about}: {error}"))
}

/// A file whose errors name it.
pub(crate) struct Named {
    file: File,
    name: String,
}

impl Named {
    /// `file`, called `name` where it is told of.
    pub(crate) fn new(file: File, name: impl Into<String>) -> Self {
        let name = name.into();
        Self { file, name }
    }
}

impl Write for Named {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes);
        written.map_err(|e| named(&e, format_args!("{} did not take all of it", self.name)))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The terminal at standard input, opened once more where it can be, so that not
/// waiting for it to take what is shown concerns no other program.
///
/// # Errors
/// The system's.
pub(crate) fn terminal() -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let mut options = OpenOptions::new();
    let opened = options
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open("/proc/self/fd/0");
    opened
        .or_else(|_| io::stdin().as_fd().try_clone_to_owned().map(File::from))
        .map_err(|e| named(&e, "standard input cannot be opened as a terminal"))
}

/// Text on its way to a terminal.
pub(crate) struct Sanitized<W>(pub(crate) W);

impl<W: Write> Write for Sanitized<W> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let shown = term::sanitize(&String::from_utf8_lossy(text));
        self.0.write_all(shown.as_bytes())?;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_control_sequence_of_a_model() {
        let mut shown = Vec::new();
        let text = "a\x1b]0;title\x07b\u{9b}31mc\nd\te";
        Sanitized(&mut shown).write_all(text.as_bytes()).unwrap();
        let shown = String::from_utf8(shown).unwrap();
        let kept = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
        assert!(shown.chars().all(|c| kept(&c)), "{shown:?}");
        for word in ["title", "31mc\nd\te"] {
            assert!(shown.contains(word), "{shown:?}");
        }
    }

    #[test]
    fn parameters_are_named_as_they_are_given_here() {
        assert_eq!(Host::Command.option("max_tokens"), "--max-tokens");
        for (text, here) in [
            (
                "give more (run.sh --mem 9) or zosia.kv=q8_0 [ZE-30]",
                "give more or --kv q8_0 [ZE-30]",
            ),
            (
                "a smaller zosia.max_tokens helps",
                "a smaller --max-tokens helps",
            ),
            (
                "zosia.efi is not zosia.cpu=v82",
                "zosia.efi is not --cpu v82",
            ),
            (
                "(run.sh is not named) zosia.",
                "(run.sh is not named) zosia.",
            ),
        ] {
            assert_eq!(Host::Command.words(text), here);
        }
    }
}
