//! Long runs of characters of one kind, cut for the tokenizer.
//!
//! Byte-pair encoding begins with words. Where llama.cpp has no code of its own for how a
//! model cuts them it uses `std::regex`, and libstdc++'s calls itself for each character
//! that a repetition matches: tens of thousands of letters without an end overflow the
//! stack. No word that anybody wrote is as long as a piece here.

use unicode_width::UnicodeWidthChar as _;

/// Characters of a piece of a run. libstdc++ takes 320 bytes of stack for each.
const PIECE_CHARS: usize = 2048;

/// What is one kind to the pattern by which a vocabulary's words are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kinds {
    /// Letters, digits, white space, and all else.
    Apart,
    /// White space, and all else.
    Visible,
    /// Letters with blanks between, and the others.
    Phrases,
}

/// A character's kind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Letter,
    Digit,
    Space,
    Other,
}

impl Kinds {
    /// Those of the pre-tokenizer that a model's file names so.
    pub(crate) fn of(pre: &str) -> Self {
        match pre {
            "bloom" | "poro-chat" | "gpt3-finnish" | "viking" | "whitespace" => Self::Visible,
            "exaone-moe" => Self::Phrases,
            _ => Self::Apart,
        }
    }

    /// Of what kind `c` is; `None`: of that before it, as an accent is.
    fn kind(self, c: char) -> Option<Kind> {
        let kind = match c {
            c if c.is_whitespace() => Kind::Space,
            c if c.is_numeric() => Kind::Digit,
            c if c.is_alphabetic() => Kind::Letter,
            c if c.is_ascii() || c.width() != Some(0) => Kind::Other,
            _ => return None,
        };
        Some(match (self, kind) {
            (Self::Visible, Kind::Letter | Kind::Digit) => Kind::Other,
            (Self::Phrases, Kind::Space) if c == ' ' => Kind::Letter,
            (_, kind) => kind,
        })
    }

    /// `text` in pieces, of which no run is longer than [`PIECE_CHARS`]. A run is cut
    /// counted from where it begins, so that what it grows by changes no piece before.
    pub(crate) fn pieces(self, text: &str) -> impl Iterator<Item = &str> {
        let (mut rest, mut kind) = (text, None);
        std::iter::from_fn(move || {
            let mut length = 0_usize;
            let cut = rest.char_indices().find_map(|(at, c)| {
                let of = self.kind(c);
                if of.is_some() && of != kind {
                    (kind, length) = (of, 0);
                }
                length += 1;
                (length > PIECE_CHARS).then_some(at)
            });
            let (piece, behind) = rest.split_at(cut.unwrap_or(rest.len()));
            rest = behind;
            (!piece.is_empty()).then_some(piece)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(kinds: Kinds, text: &str) -> Vec<usize> {
        let pieces: Vec<&str> = kinds.pieces(text).collect();
        assert_eq!(pieces.concat(), text);
        pieces.iter().map(|piece| piece.chars().count()).collect()
    }

    #[test]
    fn what_people_write_is_one_piece() {
        let prose = "Słońce wschodzi; 27 łodzi wypływa, \t a port się budzi.\n".repeat(500);
        let code = "{\"a1\":[1,22,333],\"b\":{\"c\":\"d-e_f\"}},".repeat(500);
        for kinds in [Kinds::Apart, Kinds::Phrases] {
            assert_eq!(kinds.pieces(&prose).count(), 1);
            assert_eq!(kinds.pieces(&code).count(), 1);
        }
        assert_eq!(Kinds::Visible.pieces(&prose).count(), 1);
        assert_eq!(Kinds::Apart.pieces("").count(), 0);
    }

    #[test]
    fn a_run_is_cut_counted_from_where_it_begins() {
        for run in ["a", "字", "7", " ", "\n", "!", "\u{2014}", "aB", "\r\n"] {
            let count = (3 * PIECE_CHARS - 100) / run.chars().count();
            let text = format!("one, 2{}", run.repeat(count));
            let lengths = lengths(Kinds::Apart, &text);
            let before = if run == "7" { 5 } else { 6 };
            assert_eq!(lengths[0], before + PIECE_CHARS, "{run:?}");
            assert_eq!(lengths[1], PIECE_CHARS, "{run:?}");
            assert_eq!(lengths.len(), 3, "{run:?}");
        }
        // An accent belongs to what it is on.
        let accents = lengths(Kinds::Apart, &"e\u{301}".repeat(PIECE_CHARS));
        assert_eq!(accents, [PIECE_CHARS, PIECE_CHARS]);
    }

    #[test]
    fn what_a_pattern_takes_together_is_cut_together() {
        let mixed = "a7-".repeat(PIECE_CHARS);
        assert_eq!(Kinds::of("gpt-4o").pieces(&mixed).count(), 1);
        assert_eq!(Kinds::of("bloom").pieces(&mixed).count(), 3);
        let words = "sea ".repeat(PIECE_CHARS);
        assert_eq!(Kinds::of("llama-bpe").pieces(&words).count(), 1);
        assert_eq!(Kinds::of("exaone-moe").pieces(&words).count(), 4);
    }
}
