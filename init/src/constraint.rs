//! The grammar that answers must obey, if parameters ask for one: JSON is built
//! in, others are GBNF files beside the model.

use std::fs;
use std::path::Path;

use protocol::ChatParams;

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
    fs::read_to_string(&path)
        .map(Some)
        .map_err(|e| format!("grammar {}: {e} [ZE-17]", path.display()))
}
