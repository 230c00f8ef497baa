//! `/save`: the conversation as a file in `transcripts/`, which is there whole
//! or not at all, and in no other file's place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;

use protocol::Message;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::host::Host;
use crate::ports::saves::Saves;

/// Where transcripts are, on the host or below the working directory.
const FOLDER: &str = "transcripts";

/// Checks the name of a transcript, and completes it.
///
/// # Errors
/// What is wrong with it.
pub(super) fn file_name(name: &str) -> Result<String, String> {
    let wrong = |what: &str| Err(format!("/save {}: {what}", name.escape_debug()));
    match name {
        "" => Err("/save needs a name: /save NAME, or /save NAME.json".to_owned()),
        _ if name.contains('/') || name.starts_with('.') => {
            wrong("a name has no / and does not begin with a dot")
        }
        _ if name.chars().any(char::is_control) => wrong("a name has no control characters"),
        _ if name.len() > 200 => wrong("a name has at most 200 bytes"),
        _ if name.contains('.') => Ok(name.to_owned()),
        _ => Ok(format!("{name}.md")),
    }
}

/// Saves `messages` as `name` and returns where they are.
///
/// # Errors
/// Why they are not saved.
pub(super) fn save(
    host: Host,
    saves: &mut Saves,
    name: &str,
    messages: &[Message],
) -> io::Result<String> {
    let json = Path::new(name)
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("json"));
    let body = if json {
        journal::json(messages)?
    } else {
        journal::markdown(messages)
    };
    match host {
        Host::Machine(mounted) => {
            let kept = saves.send(mounted, name, body.as_bytes())?;
            Ok(format!("{FOLDER}/{kept} on the host"))
        }
        Host::Command => write_new(Path::new(FOLDER), name, body.as_bytes())
            .map(|kept| format!("{FOLDER}/{kept}")),
    }
}

/// Writes `body` beside, flushes it, and gives it the name, or where that is
/// taken the name with the first free number; returns which.
fn write_new(folder: &Path, name: &str, body: &[u8]) -> io::Result<String> {
    fs::create_dir_all(folder)?;
    let beside = folder.join(format!(".{name}.{}.part", std::process::id()));
    let written = write_flushed(&beside, body).and_then(|()| name_free(folder, name, &beside));
    // Its name is gone when it has another; after an error nothing of it stays.
    let _ = fs::remove_file(&beside);
    written
}

fn write_flushed(path: &Path, body: &[u8]) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(body)?;
    file.sync_all()
}

/// Gives `beside` that name, if nothing has it: a link fails where a rename would
/// overwrite. A file system without links is asked for a rename that fails, too.
fn name_new(beside: &Path, name: &Path) -> io::Result<()> {
    match fs::hard_link(beside, name) {
        Err(e)
            if matches!(
                e.kind(),
                ErrorKind::PermissionDenied | ErrorKind::Unsupported
            ) =>
        {
            Ok(renameat_with(
                CWD,
                beside,
                CWD,
                name,
                RenameFlags::NOREPLACE,
            )?)
        }
        linked => linked,
    }
}

/// Gives `beside` the name, or the name with the first free number.
fn name_free(folder: &Path, name: &str, beside: &Path) -> io::Result<String> {
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    for number in 1_u32.. {
        let free = match number {
            1 => name.to_owned(),
            n => format!("{stem}-{n}.{extension}"),
        };
        match name_new(beside, &folder.join(&free)) {
            Ok(()) => return Ok(free),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_completed() {
        assert_eq!(file_name("talk").as_deref(), Ok("talk.md"));
        assert_eq!(file_name("talk.json").as_deref(), Ok("talk.json"));
        for wrong in ["", "a/b", ".a", "a\nb", "a\x1b[2Jb", &"x".repeat(201)] {
            let error = file_name(wrong).unwrap_err();
            assert!(
                !error.contains('\n') && !error.contains('\x1b'),
                "{error:?}"
            );
        }
    }

    #[test]
    fn a_taken_name_is_numbered_and_nothing_is_overwritten() {
        let folder = std::env::temp_dir().join(format!("zosia-save-{}", std::process::id()));
        for (body, name) in [("1", "a.b.md"), ("2", "a.b-2.md"), ("3", "a.b-3.md")] {
            assert_eq!(write_new(&folder, "a.b.md", body.as_bytes()).unwrap(), name);
        }
        assert_eq!(fs::read(folder.join("a.b.md")).unwrap(), b"1");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 3, "no part is left");
        fs::remove_dir_all(&folder).unwrap();
    }
}
