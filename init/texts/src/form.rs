//! How a message holds what was read: a line with the name, the text between fences, an
//! empty line, and then what the user says. Models know this form from Markdown, people
//! can read it, and it can be told apart again wherever a message was kept.
//!
//! ````text
//! File notes.md:
//! ```
//! The text.
//! ```
//!
//! What is it about?
//! ````
//!
//! A fence has more backticks than any row of them in the text, and at least three, so
//! that no text ends its own.

/// A text under its name: its own, or borrowed from a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document<T = String> {
    /// Its name, on one line.
    pub name: T,
    /// It, without a line feed at its end.
    pub text: T,
}

impl Document<&str> {
    /// The same, by itself.
    #[must_use]
    pub fn to_owned(&self) -> Document {
        Document {
            name: self.name.to_owned(),
            text: self.text.to_owned(),
        }
    }
}

const HEAD: &str = "File ";

/// A message of `line` with `documents` before it.
#[must_use]
pub fn compose<T: AsRef<str>>(documents: &[Document<T>], line: &str) -> String {
    let mut message = String::new();
    for Document { name, text } in documents {
        let (name, text) = (name.as_ref(), text.as_ref());
        let fence = fence_for(text);
        for part in [HEAD, name, ":\n", &fence, "\n", text, "\n", &fence, "\n\n"] {
            message.push_str(part);
        }
    }
    message.push_str(line);
    message
}

/// The documents that `message` begins with, and the rest: [`compose`] makes the very
/// same message of them.
#[must_use]
pub fn split(message: &str) -> (Vec<Document<&str>>, &str) {
    let mut documents = Vec::new();
    let mut rest = message;
    while let Some((document, after)) = split_first(rest) {
        documents.push(document);
        rest = after;
    }
    (documents, rest)
}

fn split_first(message: &str) -> Option<(Document<&str>, &str)> {
    let (name, rest) = message.strip_prefix(HEAD)?.split_once('\n')?;
    let name = name.strip_suffix(':')?;
    let (fence, rest) = rest.split_once('\n')?;
    let is_fence = fence.len() >= 3 && fence.bytes().all(|byte| byte == b'`');
    let end = is_fence.then(|| format!("\n{fence}\n\n"))?;
    let (text, rest) = rest.split_once(&end)?;
    (fence_for(text) == fence).then_some((Document { name, text }, rest))
}

/// Encloses `text`.
fn fence_for(text: &str) -> String {
    let rows = text.split(|c| c != '`');
    let longest = rows.map(str::len).max().unwrap_or_default();
    "`".repeat(longest.saturating_add(1).max(3))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn document<'t>(name: &'t str, text: &'t str) -> Document<&'t str> {
        Document { name, text }
    }

    #[test]
    fn a_message_is_the_name_the_text_in_fences_and_the_line() {
        let documents = [document("a b.md", "One."), document("c.md", "```\nx\n```")];
        let message = compose(&documents, "And?");
        assert_eq!(
            message,
            "File a b.md:\n```\nOne.\n```\n\nFile c.md:\n````\n```\nx\n```\n````\n\nAnd?"
        );
        assert_eq!(split(&message), (documents.to_vec(), "And?"));
    }

    #[test]
    fn what_only_looks_like_it_is_what_the_user_says() {
        for message in [
            "",
            "File a:",
            "File a:\n```\nopen",
            "File a:\n```\nx\n```\nno empty line",
            "File a\n```\nx\n```\n\n",
            "File a:\n``\nx\n``\n\n",
            "File a:\n````\nfenced by more than it takes\n````\n\n",
            "file a:\n```\nx\n```\n\n",
        ] {
            assert_eq!(split(message), (Vec::new(), message));
        }
    }

    proptest! {
        #[test]
        fn what_is_put_together_comes_apart(
            texts in prop::collection::vec(("[^\n]{0,9}", "[`a\n:File ]{0,40}"), 0..4),
            line in "[^F][^F]{0,20}",
        ) {
            let documents: Vec<_> = texts.iter().map(|(name, text)| document(name, text)).collect();
            let message = compose(&documents, &line);
            prop_assert_eq!(split(&message), (documents, line.as_str()));
        }

        #[test]
        fn what_comes_apart_is_put_together_again(message in "(File a:\n`{3,4}\n[`a\n]{0,9}\n`{3,4}\n\n){0,3}") {
            let (documents, line) = split(&message);
            prop_assert_eq!(compose(&documents, line), message);
        }
    }
}
