//! From tokens to what the user reads: whole characters, reasoning apart from the
//! answer.

use super::prompter::Prompter;
use super::text::Utf8;
use super::vocab::Token;
use chat::Splitter;
use protocol::{TextKind, TurnError};

/// Where the answer's text goes.
pub(crate) type Show<'a> = dyn FnMut(TextKind, &str) + 'a;

/// Tokens on their way to the user: whole characters, reasoning apart from the
/// answer, and an end that is text and no token kept back.
pub(crate) struct Speech<'a, 'm> {
    prompter: &'a Prompter<'m>,
    utf8: Utf8,
    splitter: Splitter,
    /// What the latest token adds.
    bytes: Vec<u8>,
    /// Text that may be the beginning of the end.
    held_back: String,
    begun: bool,
}

impl<'a, 'm> Speech<'a, 'm> {
    /// Nothing said yet.
    pub(crate) fn new(prompter: &'a Prompter<'m>, splitter: Splitter) -> Self {
        Self {
            prompter,
            utf8: Utf8::default(),
            splitter,
            bytes: Vec::new(),
            held_back: String::new(),
            begun: false,
        }
    }

    /// Whether `token` ends the answer; else what it adds is looked up for
    /// [`Self::say`].
    ///
    /// # Errors
    /// llama.cpp's.
    pub(crate) fn hears_end(&mut self, token: Token) -> Result<bool, TurnError> {
        self.bytes.clear();
        self.prompter.hear(token, &mut self.bytes)
    }

    /// Shows what the latest token adds. `true` when the text that ends an answer came.
    pub(crate) fn say(&mut self, show: &mut Show<'_>) -> bool {
        let mut text = self.utf8.push(&self.bytes);
        if !self.begun && !text.is_empty() {
            self.begun = true;
            if self.prompter.has_leading_space() && text.starts_with(' ') {
                text.remove(0);
            }
        }
        let Some(end) = self.prompter.end_text() else {
            self.splitter
                .push(&text, &mut |kind, text| show(kind, text));
            return false;
        };
        self.held_back.push_str(&text);
        let (certain, ended) = before_end(&self.held_back, end);
        let rest = self.held_back.split_off(certain);
        let text = std::mem::replace(&mut self.held_back, rest);
        if ended {
            self.held_back.clear();
        }
        self.splitter
            .push(&text, &mut |kind, text| show(kind, text));
        ended
    }

    /// What ends the reasoning that the answer is in, where a marker does.
    pub(crate) fn awaits(&self) -> Option<&'static str> {
        self.splitter.awaits()
    }

    /// Shows what was held back.
    pub(crate) fn finish(&mut self, show: &mut Show<'_>) {
        let mut text = std::mem::take(&mut self.held_back);
        text.push_str(&self.utf8.finish());
        self.splitter
            .push(&text, &mut |kind, text| show(kind, text));
        self.splitter.finish(&mut |kind, text| show(kind, text));
    }
}

/// How many bytes of `text` are certainly before `end`, and whether `end` came.
fn before_end(text: &str, end: &str) -> (usize, bool) {
    if let Some(at) = text.find(end) {
        return (at, true);
    }
    let held = (1..end.len().min(text.len() + 1))
        .rev()
        .find(|&length| end.is_char_boundary(length) && text.ends_with(&end[..length]));
    (text.len() - held.unwrap_or(0), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_is_text_is_never_shown_in_part() {
        let end = "<|im_end|>";
        assert_eq!(before_end("Paris", end), (5, false));
        assert_eq!(before_end("Paris<", end), (5, false));
        assert_eq!(before_end("Paris<|im_", end), (5, false));
        assert_eq!(before_end("Paris<|im_end|>", end), (5, true));
        assert_eq!(before_end("a < b", end), (5, false));
        assert_eq!(before_end("<<|im", end), (1, false));
        assert_eq!(before_end("", end), (0, false));
    }
}
