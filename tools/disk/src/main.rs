//! `zosia-disk`: makes, lists and verifies the disks that zosia's models live on, and
//! shows the conversations on a session's.
//!
//! A disk is a GPT image: optionally an EFI system partition, so that it boots
//! by itself, then a small partition of parameters, one of checksums, and one
//! for each model. docs/models-and-disks.md describes it for users.
//!
//! Deliberately absent: anything that needs root, a loop device or a mount, and
//! anything that writes to a model once it is on a disk.

mod create;
mod esp;
mod filesystem;
mod inspect;
mod layout;
mod named;
mod partial;
mod session;
mod text;

use std::io::{IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::filesystem::Format;
use crate::partial::Interrupt;

/// Makes, lists and verifies zosia's model disks.
#[derive(Parser)]
#[command(name = "zosia-disk", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a disk image out of models.
    Create {
        /// The EFI file that makes the disk boot by itself; repeatable, one for each
        /// kind of processor.
        #[arg(long, value_name = "FILE")]
        efi: Vec<PathBuf>,
        /// A parameter that the disk carries, such as zosia.temp=0; repeatable.
        #[arg(long, value_name = "zosia.NAME=VALUE")]
        append: Vec<String>,
        /// How models are stored.
        #[arg(long, value_enum, default_value_t = Format::Raw)]
        fs: Format,
        /// Replace IMAGE if it exists.
        #[arg(long)]
        force: bool,
        /// The image to make.
        image: PathBuf,
        /// GGUF files; LABEL=FILE names the partition other than the file. The first part
        /// of a model brings the others.
        #[arg(value_name = "[LABEL=]MODEL")]
        models: Vec<String>,
    },
    /// Show what is on a disk image.
    List {
        /// The image.
        image: PathBuf,
    },
    /// Read everything on a disk image and check it against its checksums.
    Verify {
        /// The image.
        image: PathBuf,
    },
    /// Show the parameters that a disk carries, or change them.
    Params {
        /// The image.
        image: PathBuf,
        /// Parameters to set; an empty VALUE removes one.
        #[arg(value_name = "zosia.NAME=VALUE")]
        assignments: Vec<String>,
    },
    /// Show, export or mend kept conversations (run.sh --session).
    Session {
        /// Read an encrypted session's passphrase from descriptor N, not the terminal.
        #[arg(long, value_name = "N", global = true)]
        passphrase_fd: Option<u32>,
        #[command(subcommand)]
        command: session::Command,
    },
}

/// Text of disks on its way to a person.
struct Shown<W>(W);

impl<W: Write> Write for Shown<W> {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        let shown = term::sanitize(&String::from_utf8_lossy(text));
        self.0.write_all(shown.as_bytes())?;
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

fn run(arguments: Arguments, interrupt: &Interrupt) -> Result<()> {
    let mut raw = std::io::stdout().lock();
    // Labels and names are whatever the disk's maker wrote.
    let mut out = Shown(std::io::stdout().lock());
    match arguments.command {
        Command::Create {
            efi,
            append,
            fs,
            force,
            image,
            models,
        } => create::create(
            &create::Order {
                image: &image,
                efi: &efi,
                parameters: &append,
                format: fs,
                replace: force,
                models: &models,
            },
            interrupt,
        ),
        Command::List { image } => inspect::list(&image, &mut out),
        Command::Verify { image } => inspect::verify(&image, interrupt, &mut out),
        Command::Params { image, assignments } if !std::io::stdout().is_terminal() => {
            inspect::params(&image, &assignments, &mut raw)
        }
        Command::Params { image, assignments } => inspect::params(&image, &assignments, &mut out),
        Command::Session {
            passphrase_fd,
            command,
        } if !std::io::stdout().is_terminal() => session::run(&command, passphrase_fd, &mut raw),
        Command::Session {
            passphrase_fd,
            command,
        } => session::run(&command, passphrase_fd, &mut out),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let interrupt = match Interrupt::watch() {
        Ok(interrupt) => interrupt,
        Err(error) => {
            eprintln!("zosia-disk: cannot watch for signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    match run(arguments, &interrupt) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "zosia-disk: {}",
                term::sanitize(&text::one_line(&format!("{error:#}")))
            );
            match interrupt.signal() {
                Some(signal) => ExitCode::from(128 + signal),
                None => ExitCode::FAILURE,
            }
        }
    }
}
