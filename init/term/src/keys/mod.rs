//! Bytes from the terminal to keys. The decoder keeps what is unfinished, so
//! the caller may feed it whatever a read returned. Bracketed paste, modified
//! keys and cursor reports are decoded here, for termion has none of them.

mod sequence;

use std::collections::VecDeque;

use sequence::{Parsed, parse};

const PASTE_START: &[u8] = b"\x1b[200~";
const PASTE_END: &[u8] = b"\x1b[201~";
const CTRL_C: u8 = 3;
const PASTE_READ_MAX: usize = 64 << 10;
/// The first memory for a paste.
const PASTE_BYTES_MIN: usize = 4 << 10;

/// What was pressed, pasted or reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    /// A character; never a control character below U+0020.
    Char(char),
    /// Enter.
    Enter,
    /// Enter with Alt or Shift, or Ctrl-J: a line break in the text.
    Newline,
    /// Tab.
    Tab,
    /// Shift-Tab.
    BackTab,
    /// Backspace.
    Backspace,
    /// Delete.
    Delete,
    /// Left.
    Left,
    /// Right.
    Right,
    /// Up.
    Up,
    /// Down.
    Down,
    /// Home.
    Home,
    /// End.
    End,
    /// Page up.
    PageUp,
    /// Page down.
    PageDown,
    /// Left with Ctrl or Alt.
    WordLeft,
    /// Right with Ctrl or Alt.
    WordRight,
    /// Home with Ctrl.
    TextStart,
    /// End with Ctrl.
    TextEnd,
    /// Delete with Ctrl or Alt.
    DeleteWord,
    /// Backspace with Ctrl or Alt.
    EraseWord,
    /// Ctrl and a lower-case letter, `_` or `space`.
    Ctrl(char),
    /// Alt and a character.
    Alt(char),
    /// Escape alone.
    Esc,
    /// What was pasted, line ends as in [`restore_line_ends`].
    Paste(String),
    /// Something went wrong with a paste.
    PasteProblem(PasteProblem),
    /// The answer to `CSI 6n`, counted from 1.
    CursorReport {
        /// The row.
        row: u16,
        /// The column.
        column: u16,
    },
    /// A sequence without a meaning here.
    Ignored,
}

/// What went wrong with a paste.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PasteProblem {
    /// Nothing of it was taken.
    #[error("the paste of {bytes} bytes was not taken: {most} bytes is the most")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The longest that is taken.
        most: usize,
    },
    /// It was taken as far as it came.
    #[error("the terminal never ended the paste: check the end of the text")]
    Unfinished,
    /// Ctrl-C was pressed before its end came.
    #[error("the paste that the terminal never ended, {bytes} bytes so far, was discarded")]
    Discarded {
        /// Its length.
        bytes: usize,
    },
    /// It was taken, with U+FFFD for what could not be read.
    #[error("the paste was not all UTF-8: look for \u{fffd} in the text")]
    NotUtf8,
}

/// What the decoder waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pending {
    /// The rest of a key.
    Key,
    /// The rest of a mark or a report, which a slow line may cut anywhere.
    Mark,
    /// The rest of a paste.
    Paste,
    /// The rest of a paste of which nothing has come for a while.
    StalledPaste,
}

/// The decoder's state between reads.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Decoder {
    partial: Vec<u8>,
    /// Escape was taken for the key. What follows may yet show that it was the
    /// start of a mark.
    after_escape: bool,
    paste: Option<Paste>,
    /// The longest paste that is taken.
    paste_bytes: usize,
}

#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
struct Paste {
    bytes: Vec<u8>,
    /// Of a paste that is too long, or for which there is no memory.
    dropped: usize,
    state: PasteState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum PasteState {
    /// It comes.
    #[default]
    Coming,
    /// It has paused: if Ctrl-C is next, the user has pressed it.
    Stalled,
    /// Ctrl-C was pressed: what still comes is not taken.
    Discarded,
}

impl Decoder {
    /// Nothing unfinished; pastes may have `paste_bytes` bytes.
    pub(crate) fn new(paste_bytes: usize) -> Self {
        Self {
            partial: Vec::new(),
            after_escape: false,
            paste: None,
            paste_bytes,
        }
    }

    /// Decodes `bytes` and appends the keys in them to `keys`.
    pub(crate) fn feed(&mut self, bytes: &[u8], keys: &mut VecDeque<Key>) {
        let joined;
        let mut data = if self.partial.is_empty() {
            bytes
        } else {
            self.partial.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.partial);
            &joined
        };
        if self.after_escape {
            let Some(used) = self.feed_after_escape(data, keys) else {
                self.partial = data.to_vec();
                return;
            };
            data = data.get(used..).unwrap_or_default();
        }
        while !data.is_empty() {
            if self.paste.is_some() {
                let used = self.feed_paste(data, keys);
                data = data.get(used..).unwrap_or_default();
                continue;
            }
            match parse(data) {
                Parsed::Key(used, key) => {
                    keys.push_back(key);
                    data = data.get(used..).unwrap_or_default();
                }
                Parsed::PasteStart(used) => {
                    self.paste = Some(Paste::default());
                    data = data.get(used..).unwrap_or_default();
                }
                Parsed::Incomplete => {
                    self.partial = data.to_vec();
                    return;
                }
            }
        }
    }

    /// Takes the rest of a mark whose Escape was taken for the key; returns how
    /// many bytes it was, `None` when more must come.
    fn feed_after_escape(&mut self, bytes: &[u8], keys: &mut VecDeque<Key>) -> Option<usize> {
        let whole = [b"\x1b", bytes].concat();
        let used = match parse(&whole) {
            Parsed::Incomplete if matches!(bytes, [] | [b'[', ..]) => return None,
            Parsed::PasteStart(used) => {
                self.paste = Some(Paste::default());
                used
            }
            Parsed::Key(used, report @ Key::CursorReport { .. }) => {
                keys.push_back(report);
                used
            }
            // It was the key, and these are others.
            Parsed::Key(..) | Parsed::Incomplete => 1,
        };
        self.after_escape = false;
        Some(used.saturating_sub(1))
    }

    /// What is unfinished. After a pause (a tenth of a second for a key, longer
    /// for a mark, some seconds for a paste) the caller ends it with
    /// [`Decoder::flush`].
    pub(crate) fn pending(&self) -> Option<Pending> {
        if let Some(paste) = &self.paste {
            Some(match paste.state {
                PasteState::Coming => Pending::Paste,
                PasteState::Stalled => Pending::StalledPaste,
                PasteState::Discarded => Pending::Key,
            })
        } else if self.after_escape || self.partial.starts_with(b"\x1b[") {
            Some(Pending::Mark)
        } else if self.partial.is_empty() {
            None
        } else {
            Some(Pending::Key)
        }
    }

    /// Ends what is unfinished: Escape was Escape alone, a paste has stalled or,
    /// if it has before, ended.
    pub(crate) fn flush(&mut self, keys: &mut VecDeque<Key>) {
        match &mut self.paste {
            Some(paste) if paste.state == PasteState::Coming => {
                paste.state = PasteState::Stalled;
                return;
            }
            _ => {}
        }
        if let Some(paste) = self.paste.take() {
            let is_discarded = paste.is_discarded();
            paste.finish(self.paste_bytes, keys);
            if !is_discarded {
                keys.push_back(Key::PasteProblem(PasteProblem::Unfinished));
            }
        }
        if self.partial.starts_with(b"\x1b\x1b") {
            // The first was a key. The second may begin a mark, or be another.
            self.partial.remove(0);
            keys.push_back(Key::Esc);
            return;
        }
        let partial = std::mem::take(&mut self.partial);
        if std::mem::take(&mut self.after_escape) {
            // Nothing more came: these were keys, all of them.
            self.feed(&partial, keys);
            return;
        }
        match *partial.as_slice() {
            [] => {}
            [0x1b] => {
                keys.push_back(Key::Esc);
                self.after_escape = true;
            }
            [0x1b, c @ (b'[' | b'O')] => keys.push_back(Key::Alt(c.into())),
            [0x1b, b'[', ..] => keys.push_back(Key::Ignored),
            _ => keys.push_back(Key::Char(char::REPLACEMENT_CHARACTER)),
        }
    }

    /// Takes bytes of a paste up to its end mark; returns how many.
    fn feed_paste(&mut self, bytes: &[u8], keys: &mut VecDeque<Key>) -> usize {
        let Some(mut paste) = self.paste.take() else {
            return 0;
        };
        let before = paste.bytes.len();
        // The end mark may have begun in an earlier read.
        let from = before.saturating_add(1).saturating_sub(PASTE_END.len());
        let most = self.paste_bytes.saturating_add(PASTE_END.len());
        let room = most.saturating_sub(before).min(PASTE_READ_MAX);
        let window = bytes.get(..room).unwrap_or(bytes);
        paste.collect(window, most);
        if let Some(at) = find(paste.bytes.get(from..).unwrap_or_default(), PASTE_END) {
            paste.bytes.truncate(from.saturating_add(at));
            paste.finish(self.paste_bytes, keys);
            return from
                .saturating_add(at)
                .saturating_add(PASTE_END.len())
                .saturating_sub(before);
        }
        // In a paste Ctrl-C is a character like others, if a terminal lets it
        // through; after a pause and alone it is the user's, who sees no end.
        if paste.state == PasteState::Stalled {
            paste.state = PasteState::Coming;
            if bytes == [CTRL_C] {
                paste.state = PasteState::Discarded;
                let bytes = paste.dropped.saturating_add(before);
                keys.push_back(Key::PasteProblem(PasteProblem::Discarded { bytes }));
                keys.push_back(Key::Ctrl('c'));
            }
        }
        paste.drop_surplus(most);
        self.paste = Some(paste);
        window.len()
    }
}

impl Paste {
    fn is_discarded(&self) -> bool {
        self.state == PasteState::Discarded
    }

    /// Appends `window`, in memory that grows to `most` bytes and no further.
    fn collect(&mut self, window: &[u8], most: usize) {
        let needed = self.bytes.len().saturating_add(window.len());
        if needed > self.bytes.capacity() {
            let doubled = needed.saturating_mul(2).max(PASTE_BYTES_MIN);
            let wanted = doubled.min(most).max(needed);
            let more = wanted.saturating_sub(self.bytes.len());
            if self.bytes.try_reserve_exact(more).is_err() {
                self.dropped = self.dropped.saturating_add(self.bytes.len());
                self.bytes = Vec::new();
            }
        }
        self.bytes.extend_from_slice(window);
    }

    /// Where `most` bytes have come and no end mark, only that is kept which may
    /// be a part of one.
    fn drop_surplus(&mut self, most: usize) {
        if self.bytes.len() >= most || self.dropped > 0 || self.is_discarded() {
            let kept = PASTE_END.len().saturating_sub(1);
            let dropped = self.bytes.len().saturating_sub(kept);
            self.dropped = self.dropped.saturating_add(dropped);
            self.bytes = self.bytes.split_off(dropped);
        }
    }

    fn finish(mut self, most: usize, keys: &mut VecDeque<Key>) {
        if self.is_discarded() {
            return;
        }
        restore_line_ends(&mut self.bytes);
        let mut shown = 0_usize;
        for chunk in self.bytes.utf8_chunks() {
            let sign = match chunk.invalid() {
                [] => 0,
                _ => char::REPLACEMENT_CHARACTER.len_utf8(),
            };
            shown = shown
                .saturating_add(chunk.valid().len())
                .saturating_add(sign);
        }
        if self.dropped > 0 || shown > most {
            let bytes = self.dropped.saturating_add(shown);
            let problem = PasteProblem::TooLong { bytes, most };
            keys.push_back(Key::PasteProblem(problem));
            return;
        }
        match String::from_utf8(self.bytes) {
            Ok(text) => keys.push_back(Key::Paste(text)),
            Err(error) => {
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                keys.push_back(Key::Paste(text));
                keys.push_back(Key::PasteProblem(PasteProblem::NotUtf8));
            }
        }
    }
}

/// Gives a paste its line ends back. Most terminals send a carriage return for
/// each line feed of what is pasted: where there are only carriage returns they
/// are undone; a paste with line feeds is kept byte for byte.
fn restore_line_ends(bytes: &mut [u8]) {
    if !bytes.contains(&b'\n') {
        for byte in bytes.iter_mut().filter(|byte| **byte == b'\r') {
            *byte = b'\n';
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

#[cfg(test)]
mod tests;
