//! Kept conversations, as the file that a machine's session disk is on the host.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use jiff::Timestamp;
use journal::{Chat, ChatId, Disk, Error, FileDisk, Found, Journal, State, look};
use protocol::{Message, Role};
use zeroize::Zeroizing;

use crate::text::one_line;

/// The longest passphrase that is read from a descriptor.
const PASSPHRASE_BYTES_MAX: u64 = 4096;

/// What is done with a session.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show which conversations are in a session.
    List {
        /// The session's file.
        file: PathBuf,
    },
    /// Show a conversation.
    Show {
        /// The session's file.
        file: PathBuf,
        /// Its number in the list; without one, the conversation that was left.
        chat: Option<usize>,
    },
    /// Write a conversation to a file.
    Export {
        /// The session's file.
        file: PathBuf,
        /// The file to make: Markdown, or JSON if it ends in .json.
        out: PathBuf,
        /// Its number in the list; without one, the conversation that was left.
        chat: Option<usize>,
    },
    /// Mend what a session's damage lets be mended, and name what is lost.
    Repair {
        /// The session's file.
        file: PathBuf,
    },
}

/// Does it. The passphrase of an encrypted session comes from descriptor `passphrase`,
/// or is asked for at the terminal.
pub(crate) fn run(command: &Command, passphrase: Option<u32>, out: &mut impl Write) -> Result<()> {
    match command {
        Command::List { file } => list(&read(file, passphrase)?, out),
        Command::Show { file, chat } => {
            let (journal, _) = read(file, passphrase)?;
            let messages = messages(&journal, *chat)?;
            out.write_all(journal::markdown(&messages).as_bytes())?;
            Ok(())
        }
        Command::Export { file, out, chat } => {
            let (journal, _) = read(file, passphrase)?;
            export(&messages(&journal, *chat)?, out)
        }
        Command::Repair { file } => repair(file, passphrase, out),
    }
    .with_context(|| {
        let (Command::List { file }
        | Command::Show { file, .. }
        | Command::Export { file, .. }
        | Command::Repair { file }) = command;
        one_line(&file.display().to_string())
    })
}

/// Opens a session for reading; a machine may be writing to it.
fn read(file: &Path, passphrase: Option<u32>) -> Result<(Journal, Found)> {
    let disk = FileDisk::open_to_read(file)?;
    let secret = secret(&disk, passphrase)?;
    let secret = secret.as_ref().map(|text| text.as_str());
    Ok(Journal::open_to_read(Box::new(disk), secret)?)
}

/// The passphrase, if the session needs one.
fn secret(disk: &dyn Disk, descriptor: Option<u32>) -> Result<Option<Zeroizing<String>>> {
    if look(disk)? != State::Encrypted {
        return Ok(None);
    }
    let Some(descriptor) = descriptor else {
        let asked = rpassword::prompt_password("Passphrase: ");
        return Ok(Some(asked.map(Zeroizing::new).context(
            "cannot ask for the passphrase at a terminal; --passphrase-fd N reads it",
        )?));
    };
    let mut text = Zeroizing::new(String::new());
    File::open(format!("/dev/fd/{descriptor}"))
        .and_then(|file| file.take(PASSPHRASE_BYTES_MAX).read_to_string(&mut text))
        .with_context(|| format!("cannot read the passphrase from descriptor {descriptor}"))?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(Some(text))
}

/// One line for each conversation, and what is to be known of the session.
fn list((journal, found): &(Journal, Found), out: &mut impl Write) -> Result<()> {
    let current = journal.current().map(|chat| chat.id);
    for (chat, number) in journal.chats().iter().zip(1..) {
        let mark = if current == Some(chat.id) { '*' } else { ' ' };
        let model = chat.model.as_ref().map_or("", |model| &model.name);
        writeln!(
            out,
            "{number:>3}{mark} {}  {:>4} turns  {:>6} tokens  {}  {}",
            when(chat),
            chat.turns(),
            chat.tokens,
            one_line(model),
            one_line(chat.title()),
        )?;
    }
    if !found.is_quiet() {
        writeln!(out, "{found}")?;
    }
    tell_lost(journal.lost(), out)
}

/// When something was last said, in UTC.
fn when(chat: &Chat) -> String {
    i64::try_from(chat.changed)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .map_or_else(
            || "?".to_owned(),
            |at| at.strftime("%Y-%m-%d %H:%M").to_string(),
        )
}

fn tell_lost(lost: &[(u64, u64)], out: &mut impl Write) -> Result<()> {
    for (first, last) in lost {
        if first == last {
            writeln!(out, "record {first} is lost")?;
        } else {
            writeln!(out, "records {first} to {last} are lost")?;
        }
    }
    Ok(())
}

/// A conversation's messages, after its system prompt.
fn messages(journal: &Journal, number: Option<usize>) -> Result<Vec<Message>> {
    let chat = match number {
        Some(number) => number
            .checked_sub(1)
            .and_then(|index| journal.chats().get(index))
            .with_context(|| format!("there is no conversation {number}; see session list"))?,
        None => journal
            .current()
            .context("no conversation was left; give a number of session list")?,
    };
    let id: ChatId = chat.id;
    let system = (!chat.system.is_empty()).then(|| Message::new(Role::System, &chat.system));
    let said = journal.messages(id)?;
    Ok(system.into_iter().chain(said).collect())
}

/// Writes the messages to a new file.
fn export(messages: &[Message], out: &Path) -> Result<()> {
    let is_json = out
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("json"));
    let text = if is_json {
        journal::json(messages)?
    } else {
        journal::markdown(messages)
    };
    let shown = one_line(&out.display().to_string());
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .open(out)
        .with_context(|| format!("cannot make {shown}"))?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a conversation is worse than none.
        let _ = fs::remove_file(out);
    }
    written.with_context(|| format!("cannot write to {shown}"))
}

fn repair(file: &Path, passphrase: Option<u32>, out: &mut impl Write) -> Result<()> {
    let mut disk = FileDisk::open(file, false)?;
    match look(&disk) {
        Ok(State::Empty) => bail!("it is empty"),
        Err(Error::NoSession { .. }) => {
            journal::rebuild(&mut disk)?;
            writeln!(out, "the superblock is made again")?;
        }
        other => drop(other?),
    }
    let secret = secret(&disk, passphrase)?;
    let secret = secret.as_ref().map(|text| text.as_str());
    let (journal, found) = Journal::open(Box::new(disk), secret)?;
    writeln!(out, "{found}")?;
    tell_lost(journal.lost(), out)
}
