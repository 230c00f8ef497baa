//! Models of gpt-oss's shape, from a few hundred kilobytes to the 12 GB of gpt-oss-20b:
//! experts of MXFP4, attention with sinks and sliding windows, random weights that are the
//! same every time.
//!
//! Names, shapes and types of the tensors and what the header says are those of
//! `ggml-org/gpt-oss-20b-GGUF`, so that speed, memory and the file's size are true to it.
//! What it says is noise, and no answer ends by itself.

use std::io::{self, Write};

use fastrand::Rng;

use crate::gguf_file::{GgufFile, TensorEntry};
use crate::words::{CHATML, speaking};

/// Bytes of a tensor that are random; then they come again.
const PERIOD_BYTES: usize = 16 << 20;

const ALIGNMENT: usize = 32;

/// The sizes of a model.
#[derive(Debug, Clone, Copy)]
pub struct GptOss {
    layers: u64,
    /// Of the residual stream, and of what an expert works in.
    width: u64,
    expert_width: u64,
    heads: u64,
    heads_of_keys: u64,
    head_width: u64,
    experts: u64,
    /// As many does a token choose.
    chosen: u64,
    window: u64,
    tokens: u64,
}

/// How a tensor's values are stored.
#[derive(Clone, Copy)]
enum Kind {
    /// Around this number, and how far.
    Floats(f32, f32),
    Q8,
    Mxfp4,
}

struct Tensor {
    name: String,
    shape: Vec<u64>,
    kind: Kind,
}

impl GptOss {
    /// gpt-oss-20b.
    pub const FULL: Self = Self {
        layers: 24,
        width: 2880,
        expert_width: 2880,
        heads: 64,
        heads_of_keys: 8,
        head_width: 64,
        experts: 32,
        chosen: 4,
        window: 128,
        tokens: 201_088,
    };

    /// As small as it can be: no size is a multiple of what kernels take at once.
    pub const TINY: Self = Self {
        layers: 4,
        width: 96,
        expert_width: 160,
        heads: 6,
        heads_of_keys: 2,
        head_width: 32,
        experts: 7,
        chosen: 3,
        window: 24,
        tokens: 361,
    };

    /// With another number of layers.
    #[must_use]
    pub fn layers(mut self, layers: u64) -> Self {
        self.layers = layers;
        self
    }

    /// Writes the file.
    ///
    /// # Errors
    /// What writing says.
    pub fn write(self, to: &mut impl Write) -> io::Result<()> {
        let tensors = self.tensors();
        let mut offset = 0;
        let entries = tensors.iter().map(|tensor| {
            let entry = TensorEntry {
                name: tensor.name.clone(),
                shape: tensor.shape.clone(),
                kind: tensor.kind.number(),
                offset: Some(offset),
                data: Vec::new(),
            };
            offset = (offset + tensor.bytes()).next_multiple_of(ALIGNMENT as u64);
            entry
        });
        let entries = entries.collect();
        to.write_all(&self.header(GgufFile::new(Vec::new(), entries)).bytes())?;
        for (seed, tensor) in (15..).zip(&tensors) {
            tensor.write(Rng::with_seed(seed), to)?;
        }
        Ok(())
    }

    fn header(self, file: GgufFile) -> GgufFile {
        let numbers = [
            ("block_count", self.layers),
            ("context_length", 1 << 17),
            ("embedding_length", self.width),
            ("feed_forward_length", self.expert_width),
            ("expert_feed_forward_length", self.expert_width),
            ("expert_count", self.experts),
            ("expert_used_count", self.chosen),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.heads_of_keys),
            ("attention.key_length", self.head_width),
            ("attention.value_length", self.head_width),
            ("attention.sliding_window", self.window),
            ("rope.scaling.original_context_length", 4096),
        ];
        let file = file.text("general.architecture", "gpt-oss");
        let with = |file: GgufFile, (key, value): (&str, u64)| {
            file.u32(
                &format!("gpt-oss.{key}"),
                u32::try_from(value).unwrap_or(u32::MAX),
            )
        };
        let file = numbers
            .into_iter()
            .fold(file, with)
            .f32("gpt-oss.attention.layer_norm_rms_epsilon", 1e-5)
            .f32("gpt-oss.rope.freq_base", 150_000.0)
            .f32("gpt-oss.rope.scaling.factor", 32.0)
            .text("gpt-oss.rope.scaling.type", "yarn");
        speaking(file, "Experts", self.tokens, CHATML)
    }

    fn tensors(self) -> Vec<Tensor> {
        let Self {
            width,
            experts,
            expert_width,
            ..
        } = self;
        let (queries, keys) = (
            self.heads * self.head_width,
            self.heads_of_keys * self.head_width,
        );
        let norm = Kind::Floats(1.0, 0.05);
        let bias = Kind::Floats(0.0, 0.1);
        let of_layer = [
            ("attn_norm.weight", vec![width], norm),
            ("attn_q.weight", vec![width, queries], Kind::Q8),
            ("attn_q.bias", vec![queries], bias),
            ("attn_k.weight", vec![width, keys], Kind::Q8),
            ("attn_k.bias", vec![keys], bias),
            ("attn_v.weight", vec![width, keys], Kind::Q8),
            ("attn_v.bias", vec![keys], bias),
            ("attn_output.weight", vec![queries, width], Kind::Q8),
            ("attn_output.bias", vec![width], bias),
            (
                "attn_sinks.weight",
                vec![self.heads],
                Kind::Floats(0.0, 2.0),
            ),
            ("post_attention_norm.weight", vec![width], norm),
            (
                "ffn_gate_inp.weight",
                vec![width, experts],
                Kind::Floats(0.0, 0.1),
            ),
            ("ffn_gate_inp.bias", vec![experts], bias),
            (
                "ffn_gate_exps.weight",
                vec![width, expert_width, experts],
                Kind::Mxfp4,
            ),
            ("ffn_gate_exps.bias", vec![expert_width, experts], bias),
            (
                "ffn_up_exps.weight",
                vec![width, expert_width, experts],
                Kind::Mxfp4,
            ),
            ("ffn_up_exps.bias", vec![expert_width, experts], bias),
            (
                "ffn_down_exps.weight",
                vec![expert_width, width, experts],
                Kind::Mxfp4,
            ),
            ("ffn_down_exps.bias", vec![width, experts], bias),
        ];
        let of_layers = (0..self.layers).flat_map(|layer| {
            let named = move |(name, shape, kind): &(&str, Vec<u64>, Kind)| {
                (format!("blk.{layer}.{name}"), shape.clone(), *kind)
            };
            of_layer.iter().map(named)
        });
        let of_tokens = vec![width, self.tokens];
        let others = [
            ("token_embd.weight", of_tokens.clone(), Kind::Q8),
            ("output_norm.weight", vec![width], norm),
            ("output.weight", of_tokens, Kind::Q8),
        ];
        let others = others.map(|(name, shape, kind)| (name.to_owned(), shape, kind));
        others
            .into_iter()
            .chain(of_layers)
            .map(|(name, shape, kind)| Tensor { name, shape, kind })
            .collect()
    }
}

impl Kind {
    /// ggml's number of it.
    fn number(self) -> u32 {
        match self {
            Self::Floats(..) => 0,
            Self::Q8 => 8,
            Self::Mxfp4 => 39,
        }
    }

    /// Elements of a block, and its bytes.
    fn block(self) -> (u64, u64) {
        match self {
            Self::Floats(..) => (1, 4),
            Self::Q8 => (32, 34),
            Self::Mxfp4 => (32, 17),
        }
    }

    /// A block of numbers around 0, as far from it as `spread`.
    fn random(self, spread: f32, rng: &mut Rng) -> Vec<u8> {
        match self {
            Self::Floats(around, far) => {
                let sum: f32 = (0..4).map(|_| rng.f32() - 0.5).sum();
                (around + far * 1.7 * sum).to_le_bytes().to_vec()
            }
            Self::Q8 => {
                // Bytes are 74 from 0, taken together.
                let mut block = half(spread / 74.0).to_le_bytes().to_vec();
                block.extend((0..32).map(|_| rng.u8(..)));
                block
            }
            Self::Mxfp4 => {
                // Nibbles stand for 2.9, taken together.
                let exponent = (spread / 2.9).log2().round() + 127.0;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "around 120"
                )]
                let mut block = vec![exponent as u8 + u8::from(rng.bool())];
                block.extend((0..16).map(|_| rng.u8(..)));
                block
            }
        }
    }
}

impl Tensor {
    fn blocks(&self) -> u64 {
        self.shape.iter().product::<u64>() / self.kind.block().0
    }

    fn bytes(&self) -> u64 {
        self.blocks() * self.kind.block().1
    }

    /// Writes the values, and what is between them and the next tensor's.
    fn write(&self, mut rng: Rng, to: &mut impl Write) -> io::Result<()> {
        let (_, bytes) = self.kind.block();
        // Products keep about the length of their operand.
        #[expect(clippy::cast_precision_loss, reason = "a few thousand at most")]
        let spread = 1.0 / (self.shape.first().copied().unwrap_or(1) as f32).sqrt();
        let blocks = self.blocks().min(PERIOD_BYTES as u64 / bytes);
        let period: Vec<u8> = (0..blocks)
            .flat_map(|_| self.kind.random(spread, &mut rng))
            .collect();
        let mut left = self.bytes();
        while left > 0 {
            let part = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(period.len());
            to.write_all(period.get(..part).unwrap_or(&period))?;
            left -= part as u64;
        }
        let end = self.bytes();
        let padding = usize::try_from(end.next_multiple_of(ALIGNMENT as u64) - end).unwrap_or(0);
        to.write_all(&vec![0; padding])
    }
}

/// The bits of a positive number of 16 bits, cut short.
fn half(number: f32) -> u16 {
    let bits = number.to_bits();
    let exponent = (bits >> 23).saturating_sub(112) << 10;
    u16::try_from(exponent | (bits >> 13 & 0x3ff)).unwrap_or(0)
}
