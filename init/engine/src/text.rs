//! Whole characters out of tokens: a token's bytes may end in the middle of a
//! UTF-8 sequence, and the next token's begin there.

/// Holds back the unfinished end of what has been generated.
#[derive(Debug, Default)]
pub(crate) struct Utf8 {
    pending: Vec<u8>,
}

impl Utf8 {
    /// Takes a token's bytes; returns the characters that are now whole.
    /// Bytes that can never become a character come out as U+FFFD.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let mut used = 0;
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            used += chunk.valid().len();
            let invalid = chunk.invalid();
            let at_end = used + invalid.len() == self.pending.len();
            if at_end && is_unfinished(invalid) {
                break;
            }
            if !invalid.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
                used += invalid.len();
            }
        }
        self.pending.drain(..used);
        text
    }

    /// The end of the text: an unfinished character comes out as U+FFFD.
    pub(crate) fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        text
    }
}

/// `text` in pieces of at most `bytes_max` bytes, which is at least a character's, each
/// of whole characters.
pub(crate) fn pieces(mut text: &str, bytes_max: usize) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let cut = (0..=bytes_max.min(text.len())).rev();
        let end = cut.into_iter().find(|end| text.is_char_boundary(*end))?;
        let (piece, rest) = text.split_at_checked(end)?;
        text = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Whether `bytes`, which are not valid UTF-8, could be the start of a character.
fn is_unfinished(bytes: &[u8]) -> bool {
    // `utf8_chunks` cuts an invalid sequence where it stops being a prefix of a
    // character, so one that reaches the end of the input is one if its first
    // byte announces more bytes than are there.
    let announced = match bytes.first() {
        Some(0xc2..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf4) => 4,
        _ => 0,
    };
    !bytes.is_empty() && bytes.len() < announced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_survive_any_splitting() {
        let text = "aż€👋🏽 – ok";
        for size in 1..=text.len() {
            let mut utf8 = Utf8::default();
            let mut got = String::new();
            for bytes in text.as_bytes().chunks(size) {
                got.push_str(&utf8.push(bytes));
            }
            got.push_str(&utf8.finish());
            assert_eq!(got, text, "pieces of {size}");
        }
    }

    #[test]
    fn bytes_that_are_no_character_become_replacements_as_in_lossy_decoding() {
        for bytes in [
            &b"\xff"[..],
            b"a\x80b",
            b"\xe2\x82",
            b"\xe2\x28\xa1",
            b"\xf0\x9f\x91\xf0\x9f\x91\x8b",
            b"\xc3\xc3\xa9",
            b"\xed\xa0\x80",
        ] {
            let mut utf8 = Utf8::default();
            let mut got = String::new();
            for byte in bytes {
                got.push_str(&utf8.push(&[*byte]));
            }
            got.push_str(&utf8.finish());
            assert_eq!(got, String::from_utf8_lossy(bytes), "{bytes:x?}");
        }
    }

    #[test]
    fn pieces_are_whole_characters_and_together_the_text() {
        let text = "aż€👋🏽 – ok".repeat(3);
        for bytes_max in 4..=text.len() + 1 {
            let pieces: Vec<&str> = pieces(&text, bytes_max).collect();
            assert_eq!(pieces.concat(), text);
            assert!(pieces.iter().all(|piece| piece.len() <= bytes_max));
            assert!(
                pieces.len() <= text.len().div_ceil(bytes_max - 3),
                "{pieces:?}"
            );
        }
        assert_eq!(pieces("", 4).count(), 0);
    }

    #[test]
    fn nothing_is_held_back_longer_than_needed() {
        let mut utf8 = Utf8::default();
        assert_eq!(utf8.push(b"ok\xe2\x82"), "ok");
        assert_eq!(utf8.push(b"\xac!"), "€!");
        assert_eq!(utf8.finish(), "");
    }
}
