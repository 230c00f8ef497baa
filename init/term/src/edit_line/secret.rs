//! A word that is typed and never shown: a passphrase. It goes through no editor,
//! no history and no kill ring, and its memory is wiped.

use std::collections::VecDeque;
use std::fmt;

use zeroize::Zeroize;

use super::super::keys::Key;

/// Longer than anything that is typed; from the start, so that no copy is left
/// behind where the text grows.
const BYTES_MAX: usize = 1024;

/// A passphrase. It is wiped from memory when it is dropped, and `Debug` does not
/// show it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// What was typed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Questions whose answers are not shown. What is typed between two of them is not,
/// either: whoever types fast types a passphrase there.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct SecretLine {
    /// What is asked for; `None` between two questions.
    label: Option<String>,
    typed: Secret,
    ahead: VecDeque<Key>,
}

/// What a key led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pressed {
    /// The line goes on.
    More,
    /// Enter: this was typed.
    Done(Secret),
    /// Ctrl-C, or Ctrl-D after nothing.
    GivenUp,
}

impl SecretLine {
    /// No question yet; `keys` were pressed before the first.
    pub(super) fn after(keys: impl Iterator<Item = Key>) -> Self {
        let mut line = Self {
            label: None,
            typed: Secret::default(),
            ahead: VecDeque::new(),
        };
        for key in keys {
            let _ = line.press(key);
        }
        line
    }

    /// What is asked for.
    pub(super) fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// Asks; what was typed before counts.
    pub(super) fn ask(&mut self, label: String) -> Pressed {
        self.label = Some(label);
        self.typed = Secret(String::with_capacity(BYTES_MAX));
        while let Some(key) = self.ahead.pop_front() {
            match self.press(key) {
                Pressed::More => {}
                done => return done,
            }
        }
        Pressed::More
    }

    pub(super) fn press(&mut self, mut key: Key) -> Pressed {
        if self.label.is_none() && key != Key::Ctrl('c') {
            if self.ahead.len() < BYTES_MAX {
                self.ahead.push_back(key);
            }
            return Pressed::More;
        }
        match &mut key {
            Key::Enter => {
                self.label = None;
                return Pressed::Done(std::mem::take(&mut self.typed));
            }
            Key::Ctrl('c') => return Pressed::GivenUp,
            Key::Ctrl('d') if self.typed.0.is_empty() => return Pressed::GivenUp,
            Key::Char(c) => self.add(c.encode_utf8(&mut [0; 4])),
            Key::Paste(text) => {
                self.add(text.trim_end_matches('\n'));
                text.zeroize();
            }
            Key::Backspace => drop(self.typed.0.pop()),
            Key::Ctrl('u') => self.typed.0.zeroize(),
            _ => {}
        }
        Pressed::More
    }

    /// Longer than this it does not become.
    fn add(&mut self, text: &str) {
        if self.typed.0.len().saturating_add(text.len()) <= BYTES_MAX {
            self.typed.0.push_str(text);
        }
    }
}

impl Drop for SecretLine {
    fn drop(&mut self) {
        self.ahead.iter_mut().for_each(|key| *key = Key::Ignored);
    }
}
