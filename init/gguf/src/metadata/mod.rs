//! The keys and values of a header. Numbers and short arrays of numbers are
//! kept, and the few texts that are used; vocabularies are stepped over.

mod vocabulary;

use std::collections::BTreeMap;

use super::GgufError;
use super::reader::{ReadAt, Reader};
use vocabulary::{hash_of, is_byte};

/// Longest key, bytes; the format allows 65 535, models use less than 100.
const KEY_BYTES_MAX: u64 = 1024;
/// Longest text, bytes.
const TEXT_BYTES_MAX: u64 = 16 << 20;
/// Longest text that is kept (a chat template), bytes.
const KEPT_TEXT_BYTES_MAX: u64 = 1 << 20;
/// Longest text of [`KEPT_TEXT_END`]: a word, and any number of keys can have one.
const WORD_BYTES_MAX: u64 = 64;
/// Longest array; the largest vocabularies have 262 144 tokens, their merges
/// twice as many.
const ARRAY_ITEMS_MAX: u64 = 1 << 24;
/// Most tokens: no vocabulary has more than 300 000, and few enough to compare all.
const TOKENS_MAX: u64 = 1 << 20;
/// Longest array whose numbers are kept: one for each layer.
const KEPT_ITEMS_MAX: u64 = 2048;
/// Numbers kept of all arrays together.
const ALL_KEPT_ITEMS_MAX: u64 = 1 << 16;

/// The texts that are used.
const KEPT_TEXTS: [&str; 5] = [
    "general.architecture",
    "general.name",
    "general.type",
    "tokenizer.chat_template",
    "tokenizer.ggml.model",
];
/// The end of a key after the architecture's name: its text is used, too.
const KEPT_TEXT_END: &str = ".rope.scaling.type";

/// The key of the vocabulary.
const TOKENS: &str = "tokenizer.ggml.tokens";
/// The key of its tokens' types.
const TOKEN_TYPES: &str = "tokenizer.ggml.token_type";
/// llama.cpp's `LLAMA_TOKEN_TYPE_BYTE`.
const BYTE_TOKEN: u32 = 6;

/// A value's type in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Uint(u8),
    Int(u8),
    Float(u8),
    Bool,
    Text,
    Array,
}

impl Kind {
    fn from_id(id: u32) -> Option<Self> {
        Some(match id {
            0 => Self::Uint(1),
            1 => Self::Int(1),
            2 => Self::Uint(2),
            3 => Self::Int(2),
            4 => Self::Uint(4),
            5 => Self::Int(4),
            6 => Self::Float(4),
            7 => Self::Bool,
            8 => Self::Text,
            9 => Self::Array,
            10 => Self::Uint(8),
            11 => Self::Int(8),
            12 => Self::Float(8),
            _ => return None,
        })
    }

    /// Bytes of one value; texts and arrays have no fixed size.
    fn bytes(self) -> Option<u64> {
        match self {
            Self::Uint(bytes) | Self::Int(bytes) | Self::Float(bytes) => Some(bytes.into()),
            Self::Bool => Some(1),
            Self::Text | Self::Array => None,
        }
    }

    fn read<S: ReadAt + ?Sized>(reader: &mut Reader<'_, S>) -> Result<Self, GgufError> {
        let at = reader.at();
        let id = reader.u32("a value's type")?;
        Self::from_id(id).ok_or_else(|| GgufError::Damaged {
            at,
            problem: format!("{id} is not a type of value"),
        })
    }
}

/// What is kept of a value.
#[derive(Debug, PartialEq)]
enum Value {
    /// A whole number, if it is not negative, and its type.
    Whole(Option<u64>, Kind),
    /// A 32-bit float, the only ones that llama.cpp reads.
    Float(f32),
    /// A text that is used.
    Text(String),
    /// An array; `items` only if they are few numbers that are not negative.
    Array {
        element: Kind,
        count: u64,
        items: Vec<u64>,
    },
    /// Anything else.
    Skipped(Kind),
}

/// The metadata of a header.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    values: BTreeMap<String, Value>,
    kept_items: u64,
    /// For each token its text's hash, until they have been compared.
    tokens: Vec<u64>,
    /// For each token, whether its text is that of a single byte, and whether its type
    /// says so.
    spelled_bytes: Vec<bool>,
    typed_bytes: Vec<bool>,
}

impl Metadata {
    /// Reads `count` keys with their values.
    pub(super) fn read<S: ReadAt + ?Sized>(
        reader: &mut Reader<'_, S>,
        count: u64,
    ) -> Result<Self, GgufError> {
        let mut metadata = Self::default();
        for _ in 0..count {
            let at = reader.at();
            let key = reader.string("a key", KEY_BYTES_MAX)?;
            let key = match String::from_utf8(key) {
                Ok(key) if !key.is_empty() => key,
                _ => {
                    return Err(GgufError::Damaged {
                        at,
                        problem: "a key is empty or not UTF-8".into(),
                    });
                }
            };
            let value = metadata.read_value(reader, &key)?;
            if metadata.values.contains_key(&key) {
                return Err(GgufError::Key {
                    problem: "it is there twice".into(),
                    key,
                });
            }
            metadata.values.insert(key, value);
        }
        Ok(metadata)
    }

    fn read_value<S: ReadAt + ?Sized>(
        &mut self,
        reader: &mut Reader<'_, S>,
        key: &str,
    ) -> Result<Value, GgufError> {
        const WHAT: &str = "a metadata value";
        match Kind::read(reader)? {
            Kind::Text if KEPT_TEXTS.contains(&key) || key.ends_with(KEPT_TEXT_END) => {
                let bytes_max = if KEPT_TEXTS.contains(&key) {
                    KEPT_TEXT_BYTES_MAX
                } else {
                    WORD_BYTES_MAX
                };
                let text = reader.string(WHAT, bytes_max)?;
                match String::from_utf8(text) {
                    Ok(text) => Ok(Value::Text(text)),
                    Err(_) => Err(GgufError::Key {
                        key: key.into(),
                        problem: "its text is not UTF-8".into(),
                    }),
                }
            }
            Kind::Text => {
                reader.skip_string(WHAT, TEXT_BYTES_MAX)?;
                Ok(Value::Skipped(Kind::Text))
            }
            Kind::Array => self.read_array(reader, key),
            kind @ (Kind::Uint(_) | Kind::Int(_)) => {
                Ok(Value::Whole(read_uint(reader, kind)?, kind))
            }
            Kind::Float(4) => {
                let bytes = reader.array(WHAT)?;
                Ok(Value::Float(f32::from_le_bytes(bytes)))
            }
            kind @ (Kind::Float(_) | Kind::Bool) => {
                reader.skip(kind.bytes().unwrap_or(0), WHAT)?;
                Ok(Value::Skipped(kind))
            }
        }
    }

    fn read_array<S: ReadAt + ?Sized>(
        &mut self,
        reader: &mut Reader<'_, S>,
        key: &str,
    ) -> Result<Value, GgufError> {
        const WHAT: &str = "an array";
        let at = reader.at();
        let element = Kind::read(reader)?;
        let count = reader.count("an array's length", ARRAY_ITEMS_MAX)?;
        let mut items = Vec::new();
        match element {
            // llama.cpp refuses them as well.
            Kind::Array => {
                return Err(GgufError::Damaged {
                    at,
                    problem: "arrays of arrays are not supported".into(),
                });
            }
            Kind::Text if key == TOKENS => {
                if count > TOKENS_MAX {
                    let problem =
                        format!("a vocabulary of {count} tokens, and at most {TOKENS_MAX} can be");
                    return Err(GgufError::Damaged { at, problem });
                }
                for token in 0..count {
                    let text = reader.string("a token's text", TEXT_BYTES_MAX)?;
                    self.tokens.push(hash_of(&text, token));
                    self.spelled_bytes.push(is_byte(&text));
                }
            }
            Kind::Int(4) if key == TOKEN_TYPES && count <= TOKENS_MAX => {
                for _ in 0..count {
                    let of_token = reader.u32("a token's type")?;
                    self.typed_bytes.push(of_token == BYTE_TOKEN);
                }
            }
            Kind::Text => {
                for _ in 0..count {
                    reader.skip_string("a text of an array", TEXT_BYTES_MAX)?;
                }
            }
            Kind::Uint(_) | Kind::Int(_)
                if count <= KEPT_ITEMS_MAX
                    && self.kept_items.saturating_add(count) <= ALL_KEPT_ITEMS_MAX =>
            {
                self.kept_items = self.kept_items.saturating_add(count);
                let mut all = true;
                for _ in 0..count {
                    match read_uint(reader, element)? {
                        Some(item) => items.push(item),
                        None => all = false,
                    }
                }
                if !all {
                    items.clear();
                }
            }
            Kind::Uint(_) | Kind::Int(_) | Kind::Float(_) | Kind::Bool => {
                reader.skip(count.saturating_mul(element.bytes().unwrap_or(0)), WHAT)?;
            }
        }
        Ok(Value::Array {
            element,
            count,
            items,
        })
    }

    /// Whether the key is there, whatever its type.
    pub(super) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// A number that is not negative.
    pub(super) fn uint(&self, key: &str) -> Option<u64> {
        match self.values.get(key) {
            Some(Value::Whole(value, _)) => *value,
            _ => None,
        }
    }

    /// A whole number of this kind alone.
    fn whole(&self, key: &str, wanted: Kind) -> Option<u64> {
        match self.values.get(key) {
            Some(Value::Whole(value, kind)) if *kind == wanted => *value,
            _ => None,
        }
    }

    /// An unsigned number of 16 bits.
    pub(super) fn u16(&self, key: &str) -> Option<u64> {
        self.whole(key, Kind::Uint(2))
    }

    /// A signed number of 32 bits, if it is not negative.
    pub(super) fn i32(&self, key: &str) -> Option<u64> {
        self.whole(key, Kind::Int(4))
    }

    /// An unsigned number of 32 bits, the only ones that llama.cpp reads for most keys.
    pub(super) fn u32(&self, key: &str) -> Option<u64> {
        self.whole(key, Kind::Uint(4))
    }

    /// The length of the array of 32-bit numbers that there is.
    pub(super) fn whole_items(&self, key: &str) -> Option<u64> {
        match self.values.get(key) {
            Some(Value::Array {
                element: Kind::Uint(4) | Kind::Int(4),
                count,
                ..
            }) => Some(*count),
            _ => None,
        }
    }

    /// One number or several; empty when there are none.
    pub(super) fn uints(&self, key: &str) -> Vec<u64> {
        match self.values.get(key) {
            Some(Value::Whole(value, _)) => value.iter().copied().collect(),
            Some(Value::Array { items, .. }) => items.clone(),
            _ => Vec::new(),
        }
    }

    /// A 32-bit float.
    pub(super) fn float(&self, key: &str) -> Option<f32> {
        match self.values.get(key) {
            Some(Value::Float(value)) => Some(*value),
            _ => None,
        }
    }

    /// A text, if it is one of those that are kept.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.values.get(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// What is there where a text should be, if anything is.
    pub(super) fn kind(&self, key: &str) -> Option<&'static str> {
        Some(match self.values.get(key)? {
            Value::Text(_) | Value::Skipped(Kind::Text) => "text",
            Value::Array { .. } | Value::Skipped(Kind::Array) => "an array",
            Value::Skipped(Kind::Bool) => "true or false",
            Value::Whole(..) | Value::Float(_) | Value::Skipped(_) => "a number",
        })
    }

    /// Takes a text out.
    pub(super) fn take_text(&mut self, key: &str) -> Option<String> {
        match self.values.remove(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }
}

/// A number, if it is not negative.
fn read_uint<S: ReadAt + ?Sized>(
    reader: &mut Reader<'_, S>,
    kind: Kind,
) -> Result<Option<u64>, GgufError> {
    const WHAT: &str = "a number";
    Ok(match kind {
        Kind::Uint(1) => Some(u8::from_le_bytes(reader.array(WHAT)?).into()),
        Kind::Uint(2) => Some(u16::from_le_bytes(reader.array(WHAT)?).into()),
        Kind::Uint(4) => Some(u32::from_le_bytes(reader.array(WHAT)?).into()),
        Kind::Uint(_) => Some(reader.u64(WHAT)?),
        Kind::Int(1) => i8::from_le_bytes(reader.array(WHAT)?).try_into().ok(),
        Kind::Int(2) => i16::from_le_bytes(reader.array(WHAT)?).try_into().ok(),
        Kind::Int(4) => i32::from_le_bytes(reader.array(WHAT)?).try_into().ok(),
        _ => i64::from_le_bytes(reader.array(WHAT)?).try_into().ok(),
    })
}

/// At most 120 characters of a text, without any that move a terminal's cursor.
pub(super) fn printable(text: &str) -> String {
    let visible = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().take(120).map(visible).collect()
}
