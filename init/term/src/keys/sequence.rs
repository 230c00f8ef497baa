//! One key from the bytes before it. termion decodes the plain keys; it panics
//! on numbers that it does not expect, so it is handed only sequences that were
//! checked here.

use termion::event::{Event, Key as Plain, parse_event};

use super::{Key, PASTE_START};

const SEQUENCE_BYTES_MAX: usize = 64;

/// What the first bytes are, and how many.
pub(super) enum Parsed {
    /// A key.
    Key(usize, Key),
    /// The start of a bracketed paste.
    PasteStart(usize),
    /// The start of something longer.
    Incomplete,
}

/// The first key in `data`, which is not empty.
pub(super) fn parse(data: &[u8]) -> Parsed {
    let Some((first, rest)) = data.split_first() else {
        return Parsed::Incomplete;
    };
    match first {
        0x1b => parse_escape(data, rest),
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
        _ => Parsed::Key(1, plain(&[*first])),
    }
}

/// `data` begins with an escape; `rest` is what follows it.
fn parse_escape(data: &[u8], rest: &[u8]) -> Parsed {
    match rest.first() {
        None => Parsed::Incomplete,
        Some(b'[') => parse_csi(data),
        Some(b'O') => match data.get(2) {
            None => Parsed::Incomplete,
            Some(b'M') => Parsed::Key(3, Key::Enter),
            Some(&c @ (b'A'..=b'D' | b'F' | b'H')) => Parsed::Key(3, plain(&[0x1b, b'[', c])),
            // rxvt: Ctrl.
            Some(&c @ b'a'..=b'd') => {
                let key = plain(&[0x1b, b'[', c.to_ascii_uppercase()]);
                Parsed::Key(3, modified(key, Modifiers::from_code(5)))
            }
            Some(b'P'..=b'S' | b'e'..=b'z') => Parsed::Key(3, Key::Ignored),
            Some(_) => Parsed::Key(2, Key::Alt('O')),
        },
        Some(b'\r' | b'\n') => Parsed::Key(2, Key::Newline),
        Some(0x08 | 0x7f) => Parsed::Key(2, Key::EraseWord),
        Some(0x80..) => match decode_utf8(rest) {
            Some((used, c)) => Parsed::Key(used.saturating_add(1), Key::Alt(c)),
            None => Parsed::Incomplete,
        },
        Some(0x1b) => parse_alt(rest),
        // Escape was a key of its own; what follows is the next.
        Some(..0x20) => Parsed::Key(1, Key::Esc),
        Some(&c) => Parsed::Key(2, plain(&[0x1b, c])),
    }
}

/// Of rxvt and others: Alt is an Escape before the key's sequence, with which
/// `rest` begins. Where Alt means nothing the Escape was a key of its own.
fn parse_alt(rest: &[u8]) -> Parsed {
    let parsed = match rest.get(1) {
        None => Parsed::Incomplete,
        Some(b'[' | b'O') => parse(rest),
        Some(_) => return Parsed::Key(1, Key::Esc),
    };
    match parsed {
        Parsed::Incomplete => Parsed::Incomplete,
        Parsed::Key(used, key @ (Key::Left | Key::Right | Key::Delete)) => {
            let key = modified(key, Modifiers::from_code(3));
            Parsed::Key(used.saturating_add(1), key)
        }
        _ => Parsed::Key(1, Key::Esc),
    }
}

/// The first character of `data`, U+FFFD for what is not UTF-8, and its length;
/// `None` when the rest of it has not arrived.
fn decode_utf8(data: &[u8]) -> Option<(usize, char)> {
    let head = data.get(..4).unwrap_or(data);
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.valid_up_to() > 0 => {
            let valid = head.get(..error.valid_up_to()).unwrap_or_default();
            std::str::from_utf8(valid).unwrap_or_default()
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
            0x40..=0x7e if data.get(..=i) == Some(PASTE_START) => {
                return Parsed::PasteStart(i.saturating_add(1));
            }
            0x40..=0x7e => {
                return Parsed::Key(
                    i.saturating_add(1),
                    csi_key(data.get(2..i).unwrap_or_default(), *byte),
                );
            }
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
