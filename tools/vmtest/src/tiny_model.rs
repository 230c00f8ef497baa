//! A model of a few hundred kilobytes that says what a test wants to hear.
//!
//! It is a llama of one layer that adds nothing to the residual stream, so the
//! next token depends on the last one alone: every token of a prompt leads to
//! the first piece of the answer, each piece to the next, and the last one to
//! the end of the turn or back to the first. Nothing is near a tie, so that it
//! answers the same at every level and at every temperature that is usual.
//!
//! Text is its bytes: the vocabulary has one token for each of them, three
//! control tokens, and the pieces.

use crate::gguf_file::{ARRAY, BOOL, FLOAT32, GgufFile, INT32, TEXT, TensorEntry, UINT32, text};

/// What the status line calls it: its `general.name`.
pub const TINY_NAME: &str = "Tiny";

/// Roles by name, a line for each message.
const TEMPLATE: &str = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n\
                        {% endfor %}{% if add_generation_prompt %}assistant:\n{% endif %}";

/// Heads of attention, each of half the residual stream's width.
const HEADS: u32 = 2;

/// Types of tokens (`llama_token_type`).
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const BYTE: i32 = 6;

/// Numbers of the control tokens.
const BOS: u32 = 1;
const EOS: u32 = 2;

/// The model in the making.
#[derive(Debug, Clone)]
pub struct TinyModel {
    pieces: Vec<String>,
    ends: bool,
    numbers: Vec<(String, u64)>,
}

impl TinyModel {
    /// Answers with these `pieces`, each a token of its own, whatever it is
    /// asked. No two may be the same.
    #[must_use]
    pub fn saying(pieces: &[&str]) -> Self {
        Self {
            pieces: pieces.iter().map(|piece| (*piece).to_owned()).collect(),
            ends: true,
            numbers: Vec::new(),
        }
    }

    /// Says its pieces again and again, and never ends by itself.
    #[must_use]
    pub fn without_end(mut self) -> Self {
        self.ends = false;
        self
    }

    /// Sets a number of its header, of 64 bits, in the place of what `key`
    /// would be.
    #[must_use]
    pub fn number(mut self, key: &str, value: u64) -> Self {
        self.numbers.push((key.to_owned(), value));
        self
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> Vec<u8> {
        self.gguf().bytes()
    }

    /// The file in parts.
    #[must_use]
    pub fn gguf(&self) -> GgufFile {
        let tokens = self.tokens();
        let width = (self.pieces.len() + 1).next_multiple_of(64);
        let tensors = self.tensors(tokens.len(), width);
        let file = GgufFile::new(keys(&tokens, width), tensors);
        let numbers = self.numbers.iter();
        numbers.fold(file, |file, (key, value)| file.u64(key, *value))
    }

    /// The vocabulary: each token's text and type.
    fn tokens(&self) -> Vec<(String, i32)> {
        let control = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)];
        let control = control.map(|(text, kind)| (text.to_owned(), kind));
        let bytes = (0..=u8::MAX).map(|byte| (format!("<0x{byte:02X}>"), BYTE));
        let pieces = self.pieces.iter().map(|piece| (piece.clone(), NORMAL));
        control.into_iter().chain(bytes).chain(pieces).collect()
    }

    fn tensors(&self, tokens: usize, width: usize) -> Vec<TensorEntry> {
        let first = tokens - self.pieces.len();
        // Every token's own direction: a piece's is that of its number from 1
        // on, and everything else that can be in a prompt shares one.
        let mut embedding = vec![0.0; tokens * width];
        for token in 0..tokens {
            embedding[token * width + (token + 1).saturating_sub(first)] = 1.0;
        }
        // A token is likely behind what leads to it.
        let mut output = vec![0.0; tokens * width];
        for (direction, piece) in (first..tokens).enumerate() {
            output[piece * width + direction] = 10.0;
        }
        let behind_last = if self.ends { EOS as usize } else { first };
        output[behind_last * width + self.pieces.len()] = 10.0;

        let square = || (vec![width, width], vec![0.0; width * width]);
        let norm = || (vec![width], vec![1.0; width]);
        [
            ("token_embd.weight", (vec![width, tokens], embedding)),
            ("output_norm.weight", norm()),
            ("output.weight", (vec![width, tokens], output)),
            ("blk.0.attn_norm.weight", norm()),
            ("blk.0.attn_q.weight", square()),
            ("blk.0.attn_k.weight", square()),
            ("blk.0.attn_v.weight", square()),
            ("blk.0.attn_output.weight", square()),
            ("blk.0.ffn_norm.weight", norm()),
            ("blk.0.ffn_gate.weight", square()),
            ("blk.0.ffn_up.weight", square()),
            ("blk.0.ffn_down.weight", square()),
        ]
        .into_iter()
        .map(|(name, (shape, weights))| TensorEntry {
            name: name.to_owned(),
            shape: shape.iter().map(|size| *size as u64).collect(),
            // ggml's number for f32.
            kind: 0,
            offset: None,
            data: weights
                .iter()
                .flat_map(|weight: &f32| weight.to_le_bytes())
                .collect(),
        })
        .collect()
    }
}

/// What the header says of a model with these tokens.
fn keys(tokens: &[(String, i32)], width: usize) -> Vec<(String, u32, Vec<u8>)> {
    let number = |value: u32| (UINT32, value.to_le_bytes().to_vec());
    let words = |value: &str| (TEXT, text(value.as_bytes()));
    let of_tokens = |kind: u32, item: &dyn Fn(&(String, i32)) -> Vec<u8>| {
        let mut value = kind.to_le_bytes().to_vec();
        value.extend((tokens.len() as u64).to_le_bytes());
        for token in tokens {
            value.extend(item(token));
        }
        (ARRAY, value)
    };
    let epsilon = (FLOAT32, 1e-5_f32.to_le_bytes().to_vec());
    let texts = of_tokens(TEXT, &|token| text(token.0.as_bytes()));
    let types = of_tokens(INT32, &|token| token.1.to_le_bytes().to_vec());
    [
        ("general.architecture", words("llama")),
        ("general.name", words(TINY_NAME)),
        ("llama.block_count", number(1)),
        ("llama.context_length", number(1 << 20)),
        ("llama.embedding_length", number(count(width))),
        ("llama.feed_forward_length", number(count(width))),
        ("llama.attention.head_count", number(HEADS)),
        ("llama.attention.layer_norm_rms_epsilon", epsilon),
        ("tokenizer.ggml.model", words("llama")),
        ("tokenizer.ggml.tokens", texts),
        ("tokenizer.ggml.scores", of_tokens(FLOAT32, &|_| vec![0; 4])),
        ("tokenizer.ggml.token_type", types),
        ("tokenizer.ggml.bos_token_id", number(BOS)),
        ("tokenizer.ggml.eos_token_id", number(EOS)),
        ("tokenizer.ggml.add_space_prefix", (BOOL, vec![0])),
        ("tokenizer.chat_template", words(TEMPLATE)),
    ]
    .into_iter()
    .map(|(key, (kind, value))| (key.to_owned(), kind, value))
    .collect()
}

/// A model this small has no count that 32 bits do not hold.
fn count(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
