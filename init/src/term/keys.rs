//! Bytes from the terminal to keys. The decoder keeps what is unfinished, so
//! the caller may feed it whatever a read returned. termion decodes the plain
//! keys; it panics on numbers that it does not expect, so it is handed only
//! sequences that were checked here. Bracketed paste, modified keys and
//! cursor reports are decoded here, for termion has none of them.

use std::collections::VecDeque;

use termion::event::{Event, Key as Plain, parse_event};

/// The longest paste that is taken.
pub(crate) const PASTE_BYTES_MAX: usize = 8 << 20;

const PASTE_START: &[u8] = b"\x1b[200~";
const PASTE_END: &[u8] = b"\x1b[201~";
const SEQUENCE_BYTES_MAX: usize = 64;
const PASTE_READ_MAX: usize = 64 << 10;

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
    /// What was pasted, line ends as in [`paste_text`].
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
    #[error("the paste of {bytes} bytes was not taken: {PASTE_BYTES_MAX} bytes is the most")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It was taken as far as it came.
    #[error("the terminal never ended the paste: check the end of the text")]
    Unfinished,
    /// It was taken, with U+FFFD for what could not be read.
    #[error("the paste was not all UTF-8: look for \u{fffd} in the text")]
    NotUtf8,
}

/// What the decoder waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pending {
    /// The rest of a key.
    Key,
    /// The rest of a paste.
    Paste,
}

/// The decoder's state between reads.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Decoder {
    partial: Vec<u8>,
    paste: Option<Paste>,
}

#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
struct Paste {
    bytes: Vec<u8>,
    dropped: usize,
}

enum Parsed {
    Key(usize, Key),
    PasteStart(usize),
    Incomplete,
}

impl Decoder {
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
        while !data.is_empty() {
            if self.paste.is_some() {
                data = &data[self.feed_paste(data, keys)..];
                continue;
            }
            match parse(data) {
                Parsed::Key(used, key) => {
                    keys.push_back(key);
                    data = &data[used..];
                }
                Parsed::PasteStart(used) => {
                    self.paste = Some(Paste::default());
                    data = &data[used..];
                }
                Parsed::Incomplete => {
                    self.partial = data.to_vec();
                    return;
                }
            }
        }
    }

    /// What is unfinished. After a pause (50 ms for a key, some seconds for a
    /// paste) the caller ends it with [`Decoder::flush`].
    pub(crate) fn pending(&self) -> Option<Pending> {
        if self.paste.is_some() {
            Some(Pending::Paste)
        } else if self.partial.is_empty() {
            None
        } else {
            Some(Pending::Key)
        }
    }

    /// Ends what is unfinished: Escape was Escape alone.
    pub(crate) fn flush(&mut self, keys: &mut VecDeque<Key>) {
        if let Some(paste) = self.paste.take() {
            paste.finish(keys);
            keys.push_back(Key::PasteProblem(PasteProblem::Unfinished));
        }
        let partial = std::mem::take(&mut self.partial);
        match *partial.as_slice() {
            [] => {}
            [0x1b] => keys.push_back(Key::Esc),
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
        let from = (before + 1).saturating_sub(PASTE_END.len());
        let window = &bytes[..bytes.len().min(PASTE_READ_MAX)];
        paste.bytes.extend_from_slice(window);
        if let Some(at) = find(&paste.bytes[from..], PASTE_END) {
            paste.bytes.truncate(from + at);
            paste.finish(keys);
            return from + at + PASTE_END.len() - before;
        }
        if paste.bytes.len() > PASTE_BYTES_MAX || paste.dropped > 0 {
            // Too long already: keep only what may be a part of the end mark.
            let dropped = paste.bytes.len().saturating_sub(PASTE_END.len() - 1);
            paste.dropped += dropped;
            paste.bytes.drain(..dropped);
        }
        self.paste = Some(paste);
        window.len()
    }
}

impl Paste {
    fn finish(self, keys: &mut VecDeque<Key>) {
        let length = self.dropped + self.bytes.len();
        if self.dropped > 0 || length > PASTE_BYTES_MAX {
            let problem = PasteProblem::TooLong { bytes: length };
            keys.push_back(Key::PasteProblem(problem));
            return;
        }
        match String::from_utf8(self.bytes) {
            Ok(text) => keys.push_back(Key::Paste(paste_text(text))),
            Err(error) => {
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                keys.push_back(Key::Paste(paste_text(text)));
                keys.push_back(Key::PasteProblem(PasteProblem::NotUtf8));
            }
        }
    }
}

/// A paste with its line ends as they were. Most terminals send a carriage
/// return for each line feed of what is pasted: where there are only carriage
/// returns they are undone; a paste with line feeds is kept byte for byte.
fn paste_text(text: String) -> String {
    if text.contains('\r') && !text.contains('\n') {
        text.replace('\r', "\n")
    } else {
        text
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = haystack[from..].iter().position(|b| *b == needle[0]) {
        from += at;
        if haystack[from..].starts_with(needle) {
            return Some(from);
        }
        from += 1;
    }
    None
}

fn parse(data: &[u8]) -> Parsed {
    match data[0] {
        0x1b => parse_escape(data),
        b'\r' => Parsed::Key(1, Key::Enter),
        b'\n' => Parsed::Key(1, Key::Newline),
        b'\t' => Parsed::Key(1, Key::Tab),
        0x08 | 0x7f => Parsed::Key(1, Key::Backspace),
        0 => Parsed::Key(1, Key::Ctrl(' ')),
        0x1f => Parsed::Key(1, Key::Ctrl('_')),
        0x80.. => match decode_utf8(data) {
            Some((used, c)) => Parsed::Key(used, Key::Char(c)),
            None => Parsed::Incomplete,
        },
        _ => Parsed::Key(1, plain(&data[..1])),
    }
}

fn parse_escape(data: &[u8]) -> Parsed {
    match data.get(1) {
        None => Parsed::Incomplete,
        Some(b'[') => parse_csi(data),
        Some(b'O') => match data.get(2) {
            None => Parsed::Incomplete,
            Some(b'M') => Parsed::Key(3, Key::Enter),
            Some(&c @ (b'A'..=b'D' | b'F' | b'H')) => Parsed::Key(3, plain(&[0x1b, b'[', c])),
            Some(b'P'..=b'S' | b'a'..=b'z') => Parsed::Key(3, Key::Ignored),
            Some(_) => Parsed::Key(2, Key::Alt('O')),
        },
        Some(b'\r' | b'\n') => Parsed::Key(2, Key::Newline),
        Some(0x08 | 0x7f) => Parsed::Key(2, Key::EraseWord),
        Some(0x80..) => match decode_utf8(&data[1..]) {
            Some((used, c)) => Parsed::Key(used + 1, Key::Alt(c)),
            None => Parsed::Incomplete,
        },
        // Escape was a key of its own; what follows is the next.
        Some(..0x20) => Parsed::Key(1, Key::Esc),
        Some(_) => Parsed::Key(2, plain(&data[..2])),
    }
}

/// The first character of `data`, U+FFFD for what is not UTF-8, and its length;
/// `None` when the rest of it has not arrived.
fn decode_utf8(data: &[u8]) -> Option<(usize, char)> {
    let head = &data[..data.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.valid_up_to() > 0 => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(error) => {
            return error
                .error_len()
                .map(|used| (used, char::REPLACEMENT_CHARACTER));
        }
    };
    let c = valid.chars().next()?;
    Some((c.len_utf8(), c))
}

fn parse_csi(data: &[u8]) -> Parsed {
    // Linux's console sends CSI [ A to CSI [ E for F1 to F5.
    if data.get(2) == Some(&b'[') {
        return match data.get(3) {
            None => Parsed::Incomplete,
            Some(_) => Parsed::Key(4, Key::Ignored),
        };
    }
    for (i, byte) in data.iter().enumerate().skip(2) {
        match byte {
            0x20..=0x3f if i < SEQUENCE_BYTES_MAX => {}
            0x40..=0x7e if data[..=i] == *PASTE_START => return Parsed::PasteStart(i + 1),
            0x40..=0x7e => return Parsed::Key(i + 1, csi_key(&data[2..i], *byte)),
            _ => return Parsed::Key(i, Key::Ignored),
        }
    }
    Parsed::Incomplete
}

/// The key of a complete `CSI params last`.
fn csi_key(params: &[u8], last: u8) -> Key {
    let numbers: Option<Vec<u16>> = std::str::from_utf8(params)
        .unwrap_or("?")
        .split(';')
        // kitty adds sub-parameters after a colon: the first is the key.
        .map(|n| n.split(':').next().unwrap_or(n))
        .map(|n| {
            if n.is_empty() {
                Some(1)
            } else {
                n.parse().ok()
            }
        })
        .collect();
    let Some(numbers) = numbers else {
        return Key::Ignored;
    };
    let modifiers = Modifiers::from_code(numbers.get(1).copied().unwrap_or(1));
    match (last, numbers.as_slice()) {
        (b'R', &[row, column]) => Key::CursorReport { row, column },
        (b'u', &[code, ..]) => coded_key(code.into(), modifiers),
        (b'~', &[27, modifiers, code]) => coded_key(code.into(), Modifiers::from_code(modifiers)),
        (b'A'..=b'D' | b'F' | b'H' | b'Z', _) => modified(plain(&[0x1b, b'[', last]), modifiers),
        // rxvt: CSI 7 ^ is Ctrl-Home.
        (b'^', &[n @ 1..=24]) => modified(numbered_key(n), Modifiers::from_code(5)),
        (b'~', &[n @ 1..=24, ..]) => modified(numbered_key(n), modifiers),
        _ => Key::Ignored,
    }
}

fn numbered_key(n: u16) -> Key {
    plain(format!("\x1b[{n}~").as_bytes())
}

#[derive(Clone, Copy)]
struct Modifiers {
    shift: bool,
    alt: bool,
    ctrl: bool,
}

impl Modifiers {
    /// From xterm's parameter: one more than a mask of Shift, Alt, Ctrl, Meta.
    fn from_code(code: u16) -> Self {
        let mask = code.saturating_sub(1);
        Modifiers {
            shift: mask & 1 != 0,
            alt: mask & (2 | 8) != 0,
            ctrl: mask & 4 != 0,
        }
    }
}

fn modified(key: Key, modifiers: Modifiers) -> Key {
    if !modifiers.alt && !modifiers.ctrl {
        return key;
    }
    match key {
        Key::Left => Key::WordLeft,
        Key::Right => Key::WordRight,
        Key::Home if modifiers.ctrl => Key::TextStart,
        Key::End if modifiers.ctrl => Key::TextEnd,
        Key::Delete => Key::DeleteWord,
        Key::Backspace => Key::EraseWord,
        other => other,
    }
}

/// A key by its Unicode code point (CSI u of kitty, modifyOtherKeys of xterm).
fn coded_key(code: u32, modifiers: Modifiers) -> Key {
    match code {
        13 | 57414 if modifiers.alt || modifiers.shift || modifiers.ctrl => Key::Newline,
        13 | 57414 => Key::Enter,
        9 if modifiers.shift => Key::BackTab,
        9 => Key::Tab,
        8 | 127 => modified(Key::Backspace, modifiers),
        27 => Key::Esc,
        _ => match char::from_u32(code) {
            Some(c) if c < ' ' || ('\u{e000}'..='\u{f8ff}').contains(&c) => Key::Ignored,
            Some('j' | 'J') if modifiers.ctrl => Key::Newline,
            Some('m' | 'M') if modifiers.ctrl => Key::Enter,
            Some('i' | 'I') if modifiers.ctrl => Key::Tab,
            Some('h' | 'H') if modifiers.ctrl => Key::Backspace,
            Some(c) if modifiers.ctrl => Key::Ctrl(c.to_ascii_lowercase()),
            Some(c) if modifiers.alt => Key::Alt(c),
            Some(c) if modifiers.shift => Key::Char(c.to_uppercase().next().unwrap_or(c)),
            Some(c) => Key::Char(c),
            None => Key::Ignored,
        },
    }
}

/// A sequence without modifiers, as termion knows it. `bytes` is complete and
/// its numbers fit a byte: termion panics otherwise.
fn plain(bytes: &[u8]) -> Key {
    let mut rest = bytes.iter().skip(1).map(|b| Ok(*b));
    let Some(Ok(Event::Key(key))) = bytes.first().map(|b| parse_event(*b, &mut rest)) else {
        return Key::Ignored;
    };
    match key {
        Plain::Char(c) => Key::Char(c),
        Plain::Ctrl(c) => Key::Ctrl(c),
        Plain::Alt(c) => Key::Alt(c),
        Plain::Backspace => Key::Backspace,
        Plain::Delete => Key::Delete,
        Plain::Left => Key::Left,
        Plain::Right => Key::Right,
        Plain::Up => Key::Up,
        Plain::Down => Key::Down,
        Plain::Home => Key::Home,
        Plain::End => Key::End,
        Plain::PageUp => Key::PageUp,
        Plain::PageDown => Key::PageDown,
        Plain::BackTab => Key::BackTab,
        Plain::Esc => Key::Esc,
        _ => Key::Ignored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut keys = VecDeque::new();
        let mut decoder = Decoder::default();
        decoder.feed(bytes, &mut keys);
        assert_eq!(decoder.pending(), None, "{bytes:?} is complete");
        keys.into()
    }

    #[test]
    fn decodes_keys() {
        let table: &[(&[u8], Key)] = &[
            (b"a", Key::Char('a')),
            ("é".as_bytes(), Key::Char('é')),
            ("😀".as_bytes(), Key::Char('😀')),
            (b"\r", Key::Enter),
            (b"\n", Key::Newline),
            (b"\x1b\r", Key::Newline),
            (b"\x1b[13;2u", Key::Newline),
            (b"\x1b[27;5;13~", Key::Newline),
            (b"\t", Key::Tab),
            (b"\x1b[Z", Key::BackTab),
            (b"\x7f", Key::Backspace),
            (b"\x08", Key::Backspace),
            (b"\x1b\x7f", Key::EraseWord),
            (b"\x01", Key::Ctrl('a')),
            (b"\x1a", Key::Ctrl('z')),
            (b"\x1f", Key::Ctrl('_')),
            (b"\0", Key::Ctrl(' ')),
            (b"\x1b[99;5u", Key::Ctrl('c')),
            (b"\x1bb", Key::Alt('b')),
            ("\x1bé".as_bytes(), Key::Alt('é')),
            (b"\x1b[A", Key::Up),
            (b"\x1bOA", Key::Up),
            (b"\x1b[1;5C", Key::WordRight),
            (b"\x1b[1;3D", Key::WordLeft),
            (b"\x1b[1;2D", Key::Left),
            (b"\x1b[H", Key::Home),
            (b"\x1bOF", Key::End),
            (b"\x1b[1~", Key::Home),
            (b"\x1b[8~", Key::End),
            (b"\x1b[1;5H", Key::TextStart),
            (b"\x1b[3~", Key::Delete),
            (b"\x1b[3;5~", Key::DeleteWord),
            (b"\x1b[5~", Key::PageUp),
            (
                b"\x1b[24;80R",
                Key::CursorReport {
                    row: 24,
                    column: 80,
                },
            ),
            (b"\x1b[999~", Key::Ignored),
            (b"\x1b[99999999999999999999A", Key::Ignored),
            (b"\x1b[<0;1;1M", Key::Ignored),
            (b"\x1b[[A", Key::Ignored),
            (b"\x1bOP", Key::Ignored),
            (b"\xff", Key::Char('\u{fffd}')),
        ];
        for (bytes, key) in table {
            assert_eq!(keys(bytes), std::slice::from_ref(key), "{bytes:?}");
        }
    }

    #[test]
    fn one_byte_at_a_time_decodes_the_same() {
        let bytes = "aé😀\x1b[1;5C\x1b[200~x\ry\x1b[201~\x1b\rz\x1b[24;80R".as_bytes();
        let mut split = VecDeque::new();
        let mut decoder = Decoder::default();
        for byte in bytes {
            decoder.feed(&[*byte], &mut split);
        }
        assert_eq!(Vec::from(split), keys(bytes));
    }

    #[test]
    fn a_pause_makes_escape_a_key() {
        for (bytes, key) in [
            (&b"\x1b"[..], Key::Esc),
            (b"\x1b[", Key::Alt('[')),
            (b"\x1bO", Key::Alt('O')),
            (b"\x1b[1;", Key::Ignored),
            (b"\xe2\x82", Key::Char('\u{fffd}')),
        ] {
            let mut keys = VecDeque::new();
            let mut decoder = Decoder::default();
            decoder.feed(bytes, &mut keys);
            assert_eq!(decoder.pending(), Some(Pending::Key));
            assert!(keys.is_empty());
            decoder.flush(&mut keys);
            assert_eq!(Vec::from(keys), [key]);
        }
    }

    #[test]
    fn invalid_bytes_are_not_lost() {
        assert_eq!(
            keys(b"a\xe2\x82z\xc3"[..4].as_ref()),
            [Key::Char('a'), Key::Char('\u{fffd}'), Key::Char('z')]
        );
    }

    #[test]
    fn a_mebibyte_pastes_byte_exact_in_small_reads() {
        let text: String = (0..)
            .map(|i: u32| char::from_u32(i * 7919 % 0xd000).unwrap_or('x'))
            .filter(|c| *c != '\x1b')
            .scan(0, |bytes, c| {
                *bytes += c.len_utf8();
                (*bytes <= 1 << 20).then_some(c)
            })
            .collect();
        let mut bytes = PASTE_START.to_vec();
        bytes.extend_from_slice(text.as_bytes());
        bytes.extend_from_slice(PASTE_END);
        bytes.push(b'!');
        for read in [1, 7, 4096, usize::MAX] {
            let mut keys = VecDeque::new();
            let mut decoder = Decoder::default();
            for chunk in bytes.chunks(read.min(bytes.len())) {
                decoder.feed(chunk, &mut keys);
            }
            assert_eq!(keys.len(), 2);
            assert!(keys[0] == Key::Paste(text.clone()), "reads of {read}");
            assert_eq!(keys[1], Key::Char('!'));
        }
    }

    #[test]
    fn line_ends_of_a_paste_are_restored() {
        for (sent, text) in [("a\rb\r", "a\nb\n"), ("a\nb", "a\nb"), ("a\r\nb", "a\r\nb")] {
            let bytes = [PASTE_START, sent.as_bytes(), PASTE_END].concat();
            assert_eq!(keys(&bytes), [Key::Paste(text.to_owned())]);
        }
    }

    #[test]
    fn a_paste_that_is_too_long_is_refused_and_says_so() {
        let mut keys = VecDeque::new();
        let mut decoder = Decoder::default();
        decoder.feed(PASTE_START, &mut keys);
        for _ in 0..=PASTE_BYTES_MAX / 4096 {
            decoder.feed(&[b'x'; 4096], &mut keys);
        }
        decoder.feed(b"\x1b[201~a", &mut keys);
        let bytes = PASTE_BYTES_MAX + 4096;
        let problem = PasteProblem::TooLong { bytes };
        assert_eq!(
            Vec::from(keys),
            [Key::PasteProblem(problem), Key::Char('a')]
        );
    }

    #[test]
    fn an_endless_paste_ends_with_a_flush() {
        let mut keys = VecDeque::new();
        let mut decoder = Decoder::default();
        decoder.feed(b"\x1b[200~abc\x03", &mut keys);
        assert_eq!(decoder.pending(), Some(Pending::Paste));
        decoder.flush(&mut keys);
        assert_eq!(
            Vec::from(keys),
            [
                Key::Paste("abc\x03".to_owned()),
                Key::PasteProblem(PasteProblem::Unfinished)
            ]
        );
    }
}
