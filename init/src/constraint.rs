//! The grammar that answers must obey, if parameters ask for one: JSON is built
//! in, others are GBNF files beside the model.

use std::io::{self, Read as _};
use std::path::Path;

use protocol::ChatParams;

use crate::attached;

/// Longer ones are nothing that a person wrote.
const BYTES_MAX: u64 = 1 << 20;

/// JSON, RFC 8259, as GBNF.
pub(crate) const JSON: &str = include_str!("json.gbnf");

/// The text of the grammar, if `chat` asks for one. `zosia.grammar` goes
/// before `zosia.format`.
///
/// # Errors
/// One line: which file cannot be read, and why.
pub(crate) fn wanted(chat: &ChatParams, model: Option<&Path>) -> Result<Option<String>, String> {
    let Some(name) = &chat.grammar else {
        return Ok(chat.json.then(|| JSON.to_owned()));
    };
    let directory = model
        .and_then(Path::parent)
        .ok_or("there is no model loaded whose disk could hold the grammar")?;
    let path = directory.join(format!("{name}.gbnf"));
    read(&path)
        .map(Some)
        .map_err(|e| format!("grammar {}: {e} [ZE-17]", path.display()))
}

/// A file that may be a stranger's.
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = attached::open(path)?
        .take(BYTES_MAX.saturating_add(1))
        .read_to_string(&mut text)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > BYTES_MAX {
        return Err(io::Error::other(format!(
            "it has more than {BYTES_MAX} bytes"
        )));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn a_grammar_is_a_file_of_bounded_length() {
        let folder = std::env::temp_dir().join(format!("zosia-grammar-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let model = folder.join("m.gguf");
        let wanted = |name: &str| {
            let chat = ChatParams {
                grammar: Some(name.to_owned()),
                ..ChatParams::default()
            };
            wanted(&chat, Some(&model))
        };
        let most = usize::try_from(BYTES_MAX).unwrap();
        std::fs::write(folder.join("all.gbnf"), "a".repeat(most)).unwrap();
        std::fs::write(folder.join("more.gbnf"), "a".repeat(most + 1)).unwrap();
        mknodat(CWD, folder.join("pipe.gbnf"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        std::os::unix::fs::symlink("/dev/zero", folder.join("zero.gbnf")).unwrap();
        assert_eq!(wanted("all").unwrap().map(|text| text.len()), Some(most));
        for (name, why) in [
            ("more", "it has more than 1048576 bytes"),
            ("pipe", "it is not a regular file"),
            ("zero", "it is not a regular file"),
            ("none", "No such file"),
        ] {
            let told = wanted(name).unwrap_err();
            assert!(told.contains(why) && told.ends_with("[ZE-17]"), "{told}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
