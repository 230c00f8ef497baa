//! A conversation as a file: what `/save` and `zosia-disk session` write.

use protocol::{Message, Role};

/// The conversation as Markdown: a heading for each message.
#[must_use]
pub fn markdown(messages: &[Message]) -> String {
    let mut out = String::new();
    for m in messages {
        out.push_str("## ");
        out.push_str(role_name(m.role));
        out.push_str("\n\n");
        if m.text.is_empty() {
            // An answer that was nothing but thinking.
            out.push_str(m.reasoning.as_deref().unwrap_or_default().trim_end());
        } else {
            out.push_str(m.text.trim_end());
        }
        out.push_str("\n\n");
    }
    out
}

/// The conversation as JSON: a list of objects with `role`, `text` and `reasoning`.
///
/// # Errors
/// None that a list of messages has.
pub fn json(messages: &[Message]) -> serde_json::Result<String> {
    serde_json::to_string_pretty(messages)
}

/// A role as people read it.
#[must_use]
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    }
}
