//! The vocabulary: its arrays agree, and its tokens are what llama.cpp takes them to
//! be without looking.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::{Kind, Metadata, TOKEN_TYPES, TOKENS, Value};
use crate::GgufError;

/// The key of the tokenizer's name.
const MODEL: &str = "tokenizer.ggml.model";
/// What is wrong with a vocabulary that has not all of them.
const BYTES_MISSING: &str = "some of the 256 tokens for single bytes are missing";
/// The key of the tokens' scores.
const SCORES: &str = "tokenizer.ggml.scores";

impl Metadata {
    /// Checks that the arrays which llama.cpp reads beside the tokens are of
    /// its types and as long as the tokens, and that the tokens are what it takes
    /// them to be without looking; returns their number.
    pub(crate) fn check_vocabulary(&mut self) -> Result<u64, GgufError> {
        let wrong = |key: &str, problem: String| GgufError::Key {
            key: key.into(),
            problem,
        };
        let tokens = match self.values.get(TOKENS) {
            Some(Value::Array {
                element: Kind::Text,
                count,
                ..
            }) => *count,
            Some(_) => {
                let problem = "it is not an array of texts".to_owned();
                return Err(wrong(TOKENS, problem));
            }
            None => 0,
        };
        let whole = Kind::Int(4);
        for (key, elements, kinds) in [
            (SCORES, &[Kind::Float(4), whole][..], "32-bit floats"),
            (TOKEN_TYPES, &[whole][..], "32-bit integers"),
        ] {
            match self.values.get(key) {
                None => {}
                Some(Value::Array { element, .. }) if !elements.contains(element) => {
                    return Err(wrong(key, format!("its items are not {kinds}")));
                }
                Some(Value::Array { count, .. }) if *count == tokens => {}
                Some(Value::Array { count, .. }) => {
                    let problem = format!("it has {count} items for {tokens} tokens");
                    return Err(wrong(key, problem));
                }
                Some(_) => return Err(wrong(key, "it is not an array".into())),
            }
        }
        match self.values.get("tokenizer.ggml.merges") {
            None
            | Some(Value::Array {
                element: Kind::Text,
                ..
            }) => {}
            Some(_) => {
                let problem = "it is not an array of texts".to_owned();
                return Err(wrong("tokenizer.ggml.merges", problem));
            }
        }
        self.check_bytes()
            .map_err(|(key, problem)| wrong(key, problem))?;
        self.check_tokens()
            .map_err(|(key, problem)| wrong(key, problem.into()))?;
        Ok(tokens)
    }

    /// llama.cpp takes the text of a token of a single byte to be `<0x00>` to `<0xFF>`, and
    /// aborts when it meets one in a vocabulary that has no use for them.
    fn check_bytes(&self) -> Result<(), (&'static str, String)> {
        /// Tokenizers that know no tokens of single bytes.
        const WITHOUT_BYTES: [&str; 2] = ["bert", "rwkv"];
        let mut typed = self
            .typed_bytes
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte);
        let model = self
            .text(MODEL)
            .filter(|model| WITHOUT_BYTES.contains(model));
        if let (Some(model), Some((token, _))) = (model, typed.clone().next()) {
            let problem = format!("token {token} is of a single byte, which {model} has not");
            return Err((TOKEN_TYPES, problem));
        }
        match typed.find(|(token, _)| self.spelled_bytes.get(*token) != Some(&true)) {
            Some((token, _)) => {
                let problem = format!("token {token} is of a single byte, and its text is not");
                Err((TOKEN_TYPES, problem))
            }
            None => Ok(()),
        }
    }

    /// llama.cpp aborts when two tokens have one text, and when it needs a byte's
    /// token that a vocabulary does not have.
    fn check_tokens(&mut self) -> Result<(), (&'static str, &'static str)> {
        let mut tokens = std::mem::take(&mut self.tokens);
        tokens.sort_unstable();
        if tokens
            .iter()
            .zip(tokens.iter().skip(1))
            .any(|(a, b)| a == b)
        {
            return Err((TOKENS, "two tokens have the same text"));
        }
        match self.text(MODEL) {
            Some("none" | "no_vocab" | "test") => Err((MODEL, "it names no tokenizer")),
            Some("llama") if !(0..=u8::MAX).all(|byte| has_byte(&tokens, byte)) => {
                Err((TOKENS, BYTES_MISSING))
            }
            // It does not step over a byte with which tokens begin and that is none.
            Some("rwkv") if !(0..=u8::MAX).all(|byte| has_escaped_byte(&tokens, byte)) => {
                Err((TOKENS, BYTES_MISSING))
            }
            _ => Ok(()),
        }
    }
}

/// A hash of a token's text as llama.cpp reads it: up to a zero byte, and a text
/// of its own where there is none.
pub(super) fn hash_of(text: &[u8], token: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    match text.split(|byte| *byte == 0).next() {
        Some(text @ [_, ..]) => text.hash(&mut hasher),
        _ => format!("[EMPTY_{token}]").into_bytes().hash(&mut hasher),
    }
    hasher.finish()
}

/// Whether `text` is the name of a single byte.
pub(super) fn is_byte(text: &[u8]) -> bool {
    let digits = text
        .strip_prefix(b"<0x")
        .and_then(|text| text.strip_suffix(b">"));
    digits.is_some_and(|digits| digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit))
}

/// Whether `byte` has a token, of the name or the text that llama.cpp looks for.
fn has_byte(sorted: &[u64], byte: u8) -> bool {
    let name = format!("<0x{byte:02X}>");
    let has = |text: &[u8]| sorted.binary_search(&hash_of(text, 0)).is_ok();
    has(name.as_bytes()) || has(&[byte])
}

/// Whether `byte` has a token where texts are escaped as in a Python literal.
fn has_escaped_byte(sorted: &[u64], byte: u8) -> bool {
    let has = |text: &[u8]| sorted.binary_search(&hash_of(text, 0)).is_ok();
    let letter = match byte {
        b'\t' => Some(b't'),
        b'\n' => Some(b'n'),
        b'\r' => Some(b'r'),
        b't' | b'n' | b'r' | b'x' => None,
        other => Some(other),
    };
    has(format!("\\x{byte:02x}").as_bytes())
        || letter.is_some_and(|letter| has(&[b'\\', letter]))
        || !matches!(byte, 0 | b'\\') && has(&[byte])
}
