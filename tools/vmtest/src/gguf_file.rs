//! A GGUF file in parts, so that a test can change one of them.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use crate::OrFail;

/// Types of values (`gguf_metadata_value_type`).
const UINT16: u32 = 2;
pub(crate) const UINT32: u32 = 4;
pub(crate) const INT32: u32 = 5;
pub(crate) const FLOAT32: u32 = 6;
pub(crate) const BOOL: u32 = 7;
pub(crate) const TEXT: u32 = 8;
pub(crate) const ARRAY: u32 = 9;
const UINT64: u32 = 10;

const ALIGNMENT: usize = 32;

/// The key of the vocabulary.
const TOKENS: &str = "tokenizer.ggml.tokens";

/// One tensor's line of the table, and its weights.
#[derive(Debug, Clone)]
pub struct TensorEntry {
    /// Its name.
    pub name: String,
    /// Its dimensions, innermost first.
    pub shape: Vec<u64>,
    /// ggml's number of its type.
    pub kind: u32,
    /// Where it is said to begin; `None`: where it does.
    pub offset: Option<u64>,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// A GGUF file in the making, right or wrong.
#[derive(Debug, Clone)]
pub struct GgufFile {
    /// Name, type and bytes of each value.
    pub keys: Vec<(String, u32, Vec<u8>)>,
    /// The table, and the weights in its order.
    pub tensors: Vec<TensorEntry>,
    /// The format's version.
    version: u32,
    /// How many keys and tensors there are said to be, if not as many as there are.
    key_count: Option<u64>,
    tensor_count: Option<u64>,
}

impl GgufFile {
    pub(crate) fn new(keys: Vec<(String, u32, Vec<u8>)>, tensors: Vec<TensorEntry>) -> Self {
        Self {
            keys,
            tensors,
            version: 3,
            key_count: None,
            tensor_count: None,
        }
    }

    /// Of another version.
    #[must_use]
    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// Says that it has `count` keys.
    #[must_use]
    pub fn key_count(mut self, count: u64) -> Self {
        self.key_count = Some(count);
        self
    }

    /// Says that it has `count` tensors.
    #[must_use]
    pub fn tensor_count(mut self, count: u64) -> Self {
        self.tensor_count = Some(count);
        self
    }

    /// Gives `key` this value of type `kind`, whatever it had.
    #[must_use]
    pub fn value(mut self, key: &str, kind: u32, bytes: &[u8]) -> Self {
        let value = (key.to_owned(), kind, bytes.to_vec());
        match self.keys.iter_mut().find(|(name, ..)| name == key) {
            Some(place) => *place = value,
            None => self.keys.push(value),
        }
        self
    }

    /// The same model, said to be of another architecture.
    #[must_use]
    pub fn architecture(mut self, architecture: &str) -> Self {
        for (key, ..) in &mut self.keys {
            if let Some(name) = key.strip_prefix("llama.") {
                *key = format!("{architecture}.{name}");
            }
        }
        self.text("general.architecture", architecture)
    }

    /// [`Self::value`] for a number of 32 bits.
    #[must_use]
    pub fn u32(self, key: &str, value: u32) -> Self {
        self.value(key, UINT32, &value.to_le_bytes())
    }

    /// [`Self::value`] for a signed number of 32 bits.
    #[must_use]
    pub fn i32(self, key: &str, value: i32) -> Self {
        self.value(key, INT32, &value.to_le_bytes())
    }

    /// [`Self::value`] for a number of 64 bits.
    #[must_use]
    pub fn u64(self, key: &str, value: u64) -> Self {
        self.value(key, UINT64, &value.to_le_bytes())
    }

    /// [`Self::value`] for a float.
    #[must_use]
    pub fn f32(self, key: &str, value: f32) -> Self {
        self.value(key, FLOAT32, &value.to_le_bytes())
    }

    /// [`Self::value`] for a text.
    #[must_use]
    pub fn text(self, key: &str, value: &str) -> Self {
        self.value(key, TEXT, &text(value.as_bytes()))
    }

    /// [`Self::value`] for an array that is said to have `count` items of type `kind`.
    #[must_use]
    pub fn array(self, key: &str, kind: u32, count: u64, items: &[u8]) -> Self {
        let value = [&kind.to_le_bytes()[..], &count.to_le_bytes(), items].concat();
        self.value(key, ARRAY, &value)
    }

    /// [`Self::array`] of 32-bit numbers.
    #[must_use]
    pub fn u32s(self, key: &str, items: &[u32]) -> Self {
        let bytes: Vec<u8> = items.iter().flat_map(|item| item.to_le_bytes()).collect();
        self.array(key, UINT32, items.len() as u64, &bytes)
    }

    /// [`Self::array`] of texts.
    #[must_use]
    pub fn texts<T: AsRef<[u8]>>(self, key: &str, items: &[T]) -> Self {
        let bytes: Vec<u8> = items.iter().flat_map(|item| text(item.as_ref())).collect();
        self.array(key, TEXT, items.len() as u64, &bytes)
    }

    /// With `bytes` in the place of those that `key`'s value has from `at` on.
    #[must_use]
    pub fn patched(mut self, key: &str, at: usize, bytes: &[u8]) -> Self {
        let found = self.keys.iter_mut().find(|(name, ..)| name == key);
        let place = found.and_then(|(_, _, value)| value.get_mut(at..at + bytes.len()));
        place.or_fail("patch a value").copy_from_slice(bytes);
        self
    }

    /// With `word` in the place of the vocabulary's token number `token`.
    #[must_use]
    pub fn token(mut self, token: usize, word: &[u8]) -> Self {
        let found = self.keys.iter_mut().find(|(name, ..)| name == TOKENS);
        let (_, _, value) = found.or_fail("find the vocabulary");
        // Behind type and number of the items.
        let mut at = 12;
        for _ in 0..token {
            at += 8 + length_at(value, at);
        }
        let end = at + 8 + length_at(value, at);
        value.splice(at..end, text(word));
        self
    }

    /// Without `key`.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.keys.retain(|(name, ..)| name != key);
        self
    }

    /// With `key` twice.
    #[must_use]
    pub fn twice(mut self, key: &str) -> Self {
        let found = self.keys.iter().find(|(name, ..)| name == key).cloned();
        self.keys.extend(found);
        self
    }

    /// The tensor called `name` changed, or a new one of that name.
    #[must_use]
    pub fn tensor(mut self, name: &str, change: impl FnOnce(&mut TensorEntry)) -> Self {
        let at = self.tensors.iter().position(|tensor| tensor.name == name);
        let at = at.unwrap_or_else(|| {
            self.tensors.push(TensorEntry {
                name: name.to_owned(),
                shape: vec![1],
                kind: 0,
                offset: None,
                data: vec![0; 4],
            });
            self.tensors.len() - 1
        });
        if let Some(tensor) = self.tensors.get_mut(at) {
            change(tensor);
        }
        self
    }

    /// Another shape for the tensor called `name`, with as many bytes as before.
    #[must_use]
    pub fn shape(self, name: &str, shape: &[u64]) -> Self {
        self.tensor(name, |tensor| tensor.shape = shape.to_vec())
    }

    /// Another type for the tensor called `name`, with as many bytes as before.
    #[must_use]
    pub fn kind(self, name: &str, kind: u32) -> Self {
        self.tensor(name, |tensor| tensor.kind = kind)
    }

    /// Another place for the tensor called `name`.
    #[must_use]
    pub fn offset(self, name: &str, offset: u64) -> Self {
        self.tensor(name, |tensor| tensor.offset = Some(offset))
    }

    /// Without the tensor called `name`.
    #[must_use]
    pub fn without_tensor(mut self, name: &str) -> Self {
        self.tensors.retain(|tensor| tensor.name != name);
        self
    }

    /// The same model in `count` parts, as `llama-gguf-split` makes them: the first has
    /// all keys, and each as many tensors.
    #[must_use]
    pub fn split(&self, count: u16) -> Vec<Self> {
        let all = i32::try_from(self.tensors.len()).or_fail("count the tensors");
        let each = self.tensors.len().div_ceil(count.into());
        let part = |number: u16| {
            let from = usize::from(number) * each;
            let tensors = self.tensors.iter().skip(from).take(each).cloned();
            let keys = if number == 0 {
                self.keys.clone()
            } else {
                Vec::new()
            };
            Self::new(keys, tensors.collect())
                .value("split.no", UINT16, &number.to_le_bytes())
                .value("split.count", UINT16, &count.to_le_bytes())
                .i32("split.tensors.count", all)
        };
        (0..count).map(part).collect()
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(self.version.to_le_bytes());
        let tensors = self.tensor_count.unwrap_or(self.tensors.len() as u64);
        file.extend(tensors.to_le_bytes());
        let keys = self.key_count.unwrap_or(self.keys.len() as u64);
        file.extend(keys.to_le_bytes());
        for (key, kind, value) in &self.keys {
            file.extend(text(key.as_bytes()));
            file.extend(kind.to_le_bytes());
            file.extend(value);
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            file.extend(text(tensor.name.as_bytes()));
            file.extend(
                u32::try_from(tensor.shape.len())
                    .unwrap_or(u32::MAX)
                    .to_le_bytes(),
            );
            file.extend(tensor.shape.iter().flat_map(|size| size.to_le_bytes()));
            file.extend(tensor.kind.to_le_bytes());
            file.extend(tensor.offset.unwrap_or(offset as u64).to_le_bytes());
            offset = (offset + tensor.data.len()).next_multiple_of(ALIGNMENT);
        }
        for tensor in &self.tensors {
            file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
            file.extend(&tensor.data);
        }
        file
    }
}

/// The length of the text at `at`.
fn length_at(value: &[u8], at: usize) -> usize {
    let bytes = value.get(at..).and_then(|rest| rest.first_chunk());
    let length = u64::from_le_bytes(*bytes.or_fail("find a token"));
    usize::try_from(length).or_fail("measure a token")
}

/// A text as the format has it.
pub(crate) fn text(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text].concat()
}
