//! What a line of a batch says.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use protocol::{Config, Message, Order, Role};
use texts::Document;

/// A line.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// The message.
    prompt: String,
    /// Instead of the configured system prompt.
    #[serde(default)]
    system: Option<String>,
    /// Instead of the configured longest answer.
    #[serde(default)]
    max_tokens: Option<u32>,
    /// Comes back with the result.
    #[serde(default, deserialize_with = "any")]
    id: Option<Box<RawValue>>,
}

/// Of a line that cannot be used, what tells which it was.
#[derive(Debug, Default, Deserialize)]
struct Named {
    #[serde(default, deserialize_with = "any")]
    id: Option<Box<RawValue>>,
}

/// A line's own name, as it is written.
pub(super) type Id = Option<Box<RawValue>>;

/// `null` is a value, too.
fn any<'de, D: Deserializer<'de>>(from: D) -> Result<Id, D::Error> {
    Box::<RawValue>::deserialize(from).map(Some)
}

/// The name of a line and what it asks for after `documents`, under `configured`
/// parameters; the answer must obey `grammar`.
pub(super) fn read(
    line: &str,
    configured: &Config,
    documents: &[Document],
    grammar: Result<Option<String>, String>,
) -> (Id, Result<Order, String>) {
    let line: Line = match serde_json::from_str(line) {
        Ok(line) => line,
        Err(e) => {
            let named: Named = serde_json::from_str(line).unwrap_or_default();
            // It is one line of many, whose number is told beside this.
            let why = e.to_string().replace(" at line 1 column ", " at column ");
            return (named.id, Err(why));
        }
    };
    if line.prompt.trim().is_empty() {
        let why = "the message is empty: nothing to answer".to_owned();
        return (line.id, Err(why));
    }
    if line.max_tokens == Some(0) {
        return (line.id, Err("max_tokens is 1 at least".to_owned()));
    }
    let system = line.system.as_ref().unwrap_or(&configured.chat.system);
    let system = Some(system).filter(|text| !text.is_empty());
    let system = system.map(|text| Message::new(Role::System, text));
    let mut sampling = configured.sampling.clone();
    sampling.max_tokens = line.max_tokens.or(sampling.max_tokens);
    let message = texts::compose(documents, &line.prompt);
    let order = grammar.map(|grammar| Order {
        id: 0,
        common_bytes: message.len().saturating_sub(line.prompt.len()),
        messages: system
            .into_iter()
            .chain([Message::new(Role::User, message)])
            .collect(),
        sampling,
        grammar,
    });
    (line.id, order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_line(line: &str) -> (Option<String>, Result<Order, String>) {
        let mut config = Config::default();
        config.chat.system = "Be brief.".to_owned();
        config.sampling.max_tokens = Some(9);
        let (id, order) = read(line, &config, &[], Ok(None));
        (id.map(|id| id.get().to_owned()), order)
    }

    #[test]
    fn a_line_overrides_what_is_configured() {
        let (id, order) = read_line(r#"{"prompt":"a"}"#);
        let order = order.unwrap();
        assert_eq!((id, order.sampling.max_tokens), (None, Some(9)));
        assert_eq!(order.messages.len(), 2);
        let (_, order) = read_line(r#"{"prompt":"a","system":"","max_tokens":3}"#);
        let order = order.unwrap();
        assert_eq!(order.messages, [Message::new(Role::User, "a")]);
        assert_eq!(order.sampling.max_tokens, Some(3));
    }

    #[test]
    fn an_id_is_kept_as_it_is_written() {
        for id in [
            "7",
            "null",
            "-1e400",
            "123456789012345678901234567890",
            r#""a\u00e9 b""#,
            r#"{"a": [1,  true]}"#,
        ] {
            let (kept, order) = read_line(&format!(r#"{{"id": {id} ,"prompt":"a"}}"#));
            assert!(order.is_ok(), "{order:?}");
            assert_eq!(kept.as_deref(), Some(id));
            // Also of a line that cannot be used.
            let (kept, order) = read_line(&format!(r#"{{"promp":"a","id":{id}}}"#));
            assert!(order.is_err());
            assert_eq!(kept.as_deref(), Some(id));
        }
    }

    #[test]
    fn hostile_lines_are_errors() {
        let deep = "[".repeat(100_000);
        for line in [
            "",
            "null",
            "[]",
            "{",
            r#"{"prompt":1}"#,
            r#"{"prompt":" "}"#,
            r#"{"prompt":"a","max_tokens":-1}"#,
            r#"{"prompt":"a","max_tokens":0}"#,
            r#"{"prompt":"a","max_tokens":1e99}"#,
            r#"{"prompt":"a","prompt":"b"}"#,
            r#"{"prompt":"a"}{"prompt":"b"}"#,
            "{\"prompt\":\"a\u{1}\"}",
            &format!(r#"{{"prompt":"a","id":{deep}}}"#),
        ] {
            let error = read_line(line).1.unwrap_err();
            assert!(!error.contains("line 1"), "{line:.40}: {error}");
        }
    }
}
