//! The strict check of a GGUF header, in safe Rust, before any C++ sees a byte
//! of the file. It reads the header only, never a weight, keeps no vocabulary,
//! and needs a few MiB whatever the file says. What it accepts is what
//! llama.cpp's `gguf.cpp` accepts, with tighter limits; what it refuses is
//! refused with the place and the remedy instead of an abort.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

#![forbid(unsafe_code)]
// No number in a file makes this panic: kept by the compiler, not by care.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

mod error;
mod file;
mod metadata;
mod parts;
mod ranges;
mod reader;
mod tensors;
#[cfg(test)]
mod tests;
mod uses;

use std::num::Saturating;

pub use error::{GgufError, PartError};
pub use parts::{Part, PartName, part_of};
pub use reader::ReadAt;
pub use tensors::Tensor;

use file::File;
use metadata::Metadata;
use protocol::KvType;

/// The first four bytes of every GGUF file.
pub const MAGIC: [u8; 4] = *b"GGUF";

/// A number of bytes computed from what a header says: where it would overflow it
/// stays at the most that there can be, which fits no machine.
pub type Bytes = Saturating<u64>;

/// What a header has for a chat template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChatTemplate {
    /// The key is not there.
    Missing,
    /// A template, maybe empty.
    Text(String),
    /// Something else, in words: "a number".
    NotText(&'static str),
}

impl ChatTemplate {
    /// The template, or why there is none.
    ///
    /// # Errors
    /// Why nothing can be made of it, in words.
    pub fn text(&self) -> Result<&str, String> {
        match self {
            Self::Text(text) if text.trim().is_empty() => Err("the model's own is empty".into()),
            Self::Text(text) => Ok(text),
            Self::NotText(kind) => Err(format!("the model's own is {kind}, not text")),
            Self::Missing => Err("the model has none".into()),
        }
    }
}

/// What a checked header says. Lengths are in tokens, elements or bytes as named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// `general.architecture`.
    pub arch: String,
    /// `general.name`, control characters replaced.
    pub name: Option<String>,
    /// Context length the model was trained for, tokens.
    pub context_length: Option<u64>,
    /// Number of layers.
    pub block_count: Option<u64>,
    /// Width of the residual stream.
    pub embedding_length: Option<u64>,
    /// Width of the feed-forward part: one value, or one for each layer.
    pub feed_forward_length: Vec<u64>,
    /// Attention heads: one value, or one for each layer.
    pub head_count: Vec<u64>,
    /// Key and value heads: one value, or one for each layer; empty: as `head_count`.
    pub head_count_kv: Vec<u64>,
    /// Width of a key head, if it is not `embedding_length / head_count`.
    pub key_length: Option<u64>,
    /// Width of a value head, if it is not `embedding_length / head_count`.
    pub value_length: Option<u64>,
    /// No values are kept beside the keys: they are made from these (MLA).
    pub keys_alone: bool,
    /// Layers at the end that use the keys and values of earlier ones.
    pub shared_kv_layers: u64,
    /// Of as many layers one has attention, and the others a recurrent state.
    pub full_attention_interval: Option<u64>,
    /// Values of a layer's recurrent state; 0: it has none.
    pub state_values: u64,
    /// Number of tokens in the vocabulary.
    pub vocab_tokens: u64,
    /// `tokenizer.chat_template`.
    pub chat_template: ChatTemplate,
    /// Where the weights of each file end: of one, or of all parts in their order.
    pub ends: Vec<End>,
    /// Number of weights.
    pub weights: u64,
    /// The tensors in the order of the files, which is the order to read in.
    pub tensors: Vec<Tensor>,
}

/// Where the weights of a file end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Where the last weight ends, bytes from the file's start: the file's
    /// length, save for padding.
    pub data_end: u64,
    /// Weights begin at multiples of this many bytes, and most writers pad the
    /// file's end to one.
    pub alignment: u64,
}

impl Header {
    /// The length of the model's files, save for padding.
    #[must_use]
    pub fn data_bytes(&self) -> Bytes {
        let bytes = self.ends.iter().map(|end| Saturating(end.data_end));
        bytes.fold(Saturating(0), |sum, end| sum + end)
    }

    /// The type of the KV cache where `wanted` is asked for: llama.cpp has heads of whole
    /// blocks only.
    #[must_use]
    pub fn kv_type(&self, wanted: KvType) -> KvType {
        let lengths = [self.key_length, self.value_length].map(|told| self.length_of_head(told));
        let whole = lengths
            .iter()
            .all(|length| length.0.is_multiple_of(Q8_0_BLOCK));
        if whole { wanted } else { KvType::F16 }
    }

    /// Bytes of KV cache for each token of context.
    ///
    /// Each layer that has a cache of its own holds, for each token, one key
    /// row of `key_length × head_count_kv` values and one value row of
    /// `value_length × head_count_kv` (none where keys are all that is kept), in 2 bytes
    /// a value (f16) or 34 bytes for 32 values (`q8_0`, rows padded to whole blocks). The
    /// head widths default
    /// to `embedding_length / head_count`. Layers may differ in
    /// `head_count_kv`; layers without attention say 0. Sliding windows are
    /// not deducted (llama.cpp allocates them in full by default): an upper
    /// bound, never too little.
    #[must_use]
    pub fn kv_bytes_per_token(&self, kv: KvType) -> Bytes {
        let layers = self.block_count.unwrap_or(0);
        let key = self.length_of_head(self.key_length);
        let value = if self.keys_alone {
            Saturating(0)
        } else {
            self.length_of_head(self.value_length)
        };
        (0..layers.saturating_sub(self.shared_kv_layers))
            .map(|layer| {
                let heads = Saturating(self.head_count_kv_of(layer));
                row_bytes(key * heads, kv) + row_bytes(value * heads, kv)
            })
            .fold(Saturating(0), |sum, layer| sum + layer)
    }

    /// Values that attention of one layer gives for a token: of all its heads for queries.
    #[must_use]
    pub fn attended_values(&self) -> Saturating<u64> {
        Saturating(self.heads_max()) * self.length_of_head(self.value_length)
    }

    fn heads_max(&self) -> u64 {
        self.head_count.iter().copied().max().unwrap_or(0)
    }

    /// As it is `told`, or as long as heads for queries are.
    fn length_of_head(&self, told: Option<u64>) -> Saturating<u64> {
        let width = self.embedding_length.unwrap_or(0);
        Saturating(told.or(width.checked_div(self.heads_max())).unwrap_or(0))
    }

    /// Bytes of a sequence's recurrent state, in 32-bit floats: an upper bound, as layers
    /// of attention alone are counted, too.
    #[must_use]
    pub fn state_bytes(&self) -> Bytes {
        let layers = Saturating(self.block_count.unwrap_or(0));
        layers * Saturating(self.state_values) * Saturating(4)
    }

    /// Key and value heads of a layer.
    fn head_count_kv_of(&self, layer: u64) -> u64 {
        let counts = if self.head_count_kv.is_empty() {
            &self.head_count
        } else {
            &self.head_count_kv
        };
        // Layers are counted from 0, and the last of each interval has attention.
        let attends = |interval: u64| layer.saturating_add(1).checked_rem(interval) == Some(0);
        if self
            .full_attention_interval
            .is_some_and(|interval| interval > 0 && !attends(interval))
        {
            return 0;
        }
        let of_layer = usize::try_from(layer).ok().and_then(|i| counts.get(i));
        match counts.as_slice() {
            [all] => *all,
            _ => of_layer.copied().unwrap_or(0),
        }
    }
}

/// Values of a block of `q8_0`.
const Q8_0_BLOCK: u64 = 32;

/// Bytes of one row of `values` elements in the KV cache.
fn row_bytes(values: Saturating<u64>, kv: KvType) -> Bytes {
    match kv {
        KvType::F16 => values * Saturating(2),
        KvType::Q8_0 => Saturating(values.0.div_ceil(Q8_0_BLOCK)) * Saturating(34),
    }
}

/// Checks the header of a file, or of anything that can be read at an offset, which is
/// `bytes` long. For a device that is a model rounded up to whole sectors, `bytes` may be
/// the device's length.
///
/// # Errors
/// See [`GgufError`]; its message is one line that names cause and remedy.
pub fn check<S: ReadAt + ?Sized>(source: &S, bytes: u64) -> Result<Header, GgufError> {
    check_parts(&[(source, bytes)]).map_err(|error| error.source)
}

/// Checks the headers of a model's files, each as [`check`] does: the only one, or all
/// parts in their order.
///
/// # Errors
/// See [`GgufError`], and which file it is about.
pub fn check_parts<S: ReadAt + ?Sized>(parts: &[(&S, u64)]) -> Result<Header, PartError> {
    let model = parts::read(parts)?;
    describe(model).map_err(|source| PartError { index: 0, source })
}

/// Gathers what others want to know of the model.
fn describe(model: File) -> Result<Header, GgufError> {
    let File {
        mut metadata,
        table,
        ends,
    } = model;
    let arch = match metadata.take_text("general.architecture") {
        Some(arch) if is_arch_name(&arch) => arch,
        Some(arch) => {
            return Err(GgufError::Key {
                key: "general.architecture".into(),
                problem: format!("{:?} is not a name", metadata::printable(&arch)),
            });
        }
        None => {
            return Err(GgufError::Key {
                key: "general.architecture".into(),
                problem: "it is missing or not text".into(),
            });
        }
    };
    let vocab_tokens = metadata.check_vocabulary()?;
    ranges::check(&metadata, &arch)?;
    let of_arch = |key: &str| format!("{arch}.{key}");
    let uint = |key: &str| metadata.uint(&of_arch(key));
    let uints = |key: &str| metadata.uints(&of_arch(key));
    Ok(Header {
        name: metadata.text("general.name").map(metadata::printable),
        context_length: uint("context_length"),
        block_count: uint("block_count"),
        embedding_length: uint("embedding_length"),
        feed_forward_length: uints("feed_forward_length"),
        head_count: uints("attention.head_count"),
        head_count_kv: uints("attention.head_count_kv"),
        key_length: uint("attention.key_length"),
        value_length: uint("attention.value_length"),
        keys_alone: keys_alone(&arch, &uint),
        shared_kv_layers: shared_kv_layers(&arch, &uint),
        full_attention_interval: uint("full_attention_interval").filter(|_| {
            // Which layers have no attention may be told layer by layer as well.
            let told = metadata.has(&of_arch("attention.recurrent_layers"));
            INTERVALS.contains(&arch.as_str()) && !told
        }),
        state_values: state_values(&uint).0,
        vocab_tokens,
        chat_template: chat_template(&metadata),
        ends,
        weights: table.weights,
        tensors: table.tensors,
        arch: arch.clone(),
    })
}

/// Architectures of which llama.cpp reads `full_attention_interval`.
const INTERVALS: &[&str] = &["minimax-01", "qwen35", "qwen35moe", "qwen3next", "qwen4exp"];
/// Architectures of which it keeps the keys of MLA and nothing else: no keys of an
/// indexer, either.
const MLA: &[&str] = &["bailingmoe3", "deepseek2", "kimi-k3", "kimi-linear"];
/// Layers of a Gemma 3n that have a cache, whatever its header says.
const GEMMA_3N_LAYERS: u64 = 20;

fn keys_alone(arch: &str, uint: &impl Fn(&str) -> Option<u64>) -> bool {
    let lengths = ["attention.key_length_mla", "attention.value_length_mla"];
    let is_told = |key: &&str| uint(key).is_some_and(|length| length > 0);
    MLA.contains(&arch) && lengths.iter().all(is_told)
}

/// Layers without a cache of their own, as far as llama.cpp reads how many there are.
fn shared_kv_layers(arch: &str, uint: &impl Fn(&str) -> Option<u64>) -> u64 {
    match arch {
        "gemma3n" => {
            let layers = uint("block_count").unwrap_or(0);
            layers.saturating_sub(GEMMA_3N_LAYERS)
        }
        "gemma4" => uint("attention.shared_kv_layers").unwrap_or(0),
        _ => 0,
    }
}

/// Values of a layer's recurrent state: as llama.cpp's `n_embd_r` and `n_embd_s`.
fn state_values(uint: &impl Fn(&str) -> Option<u64>) -> Saturating<u64> {
    let number = |key| Saturating(uint(key).unwrap_or(0));
    let width = number("embedding_length");
    if let Some(head) = uint("wkv.head_size") {
        // Of the latest token two vectors are kept.
        return width * (Saturating(head) + Saturating(2));
    }
    if let Some(tokens) = uint("shortconv.l_cache") {
        return width * Saturating(tokens.saturating_sub(1));
    }
    let before = Saturating(number("ssm.conv_kernel").0.saturating_sub(1));
    if let Some(head) = uint("kda.head_dim") {
        let inner = number("attention.head_count") * Saturating(head);
        return inner * (Saturating(head) + Saturating(3) * before);
    }
    let (inner, state) = (number("ssm.inner_size"), number("ssm.state_size"));
    let groups = number("ssm.group_count");
    before * (inner + Saturating(2) * groups * state) + state * inner
}

fn chat_template(metadata: &Metadata) -> ChatTemplate {
    const KEY: &str = "tokenizer.chat_template";
    match (metadata.text(KEY), metadata.kind(KEY)) {
        (Some(text), _) => ChatTemplate::Text(text.to_owned()),
        (None, Some(kind)) => ChatTemplate::NotText(kind),
        (None, None) => ChatTemplate::Missing,
    }
}

/// Architecture names are part of key names: letters, digits, `-`, `_` and `.`.
fn is_arch_name(arch: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (1..=64).contains(&arch.len()) && arch.bytes().all(allowed)
}
