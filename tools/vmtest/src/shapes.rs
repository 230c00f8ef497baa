//! Models of a few hundred kilobytes that compute as large ones do: a few layers of an
//! architecture, with random weights that are the same every time.
//!
//! What they say are words without meaning, but which ones depends on every token before
//! them, so that a context that is not as it should be shows in the answer. No answer ends
//! by itself.

use fastrand::Rng;

use crate::gguf_file::{GgufFile, TensorEntry};
use crate::words::{CHATML, WITHOUT_WORDS, in_byte_pairs, speaking};

/// What [`Shape::thinking`] ends a prompt with.
const THINKS: &str = "\
{%- if add_generation_prompt -%}{{ '<think>\\n' }}{%- endif -%}";

/// A hundred words.
const TOKENS: u64 = WITHOUT_WORDS + 100;

/// Width of the residual stream, and of the feed-forward part.
const WIDTH: u64 = 64;
const FEED_FORWARD: u64 = 128;
/// Heads of attention, for queries and for keys, and their width.
const HEADS: u64 = 4;
const KV_HEADS: u64 = 2;
const HEAD: u64 = 16;
/// Width of what a state-space layer works in, of its state, and its heads.
const INNER: u64 = 2 * WIDTH;
const STATE: u64 = 16;
const STATE_HEADS: u64 = 4;
/// Tokens that a convolution looks at.
const CONV: u64 = 4;
/// The layer with attention, of as many.
const ATTENTION_LAYER: u64 = 1;
const LAYERS: u64 = 3;
/// Tokens that a layer with a sliding window looks back at.
const WINDOW: u32 = 24;

/// ggml's numbers of types, and the weights that have a scale together.
const F32: u32 = 0;
const Q8_0: u32 = 8;
const Q8_0_BLOCK: usize = 32;

/// What a layer is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Gated delta nets and attention (Qwen 3.5).
    Qwen35,
    /// Short convolutions and attention (LFM2).
    Lfm2,
    /// Mamba 2 and attention (Granite 4).
    Granite,
    /// Mamba alone.
    Mamba,
    /// Attention, with sliding windows in most layers (Gemma 3).
    Gemma3,
}

/// What a tensor's values are.
#[derive(Clone, Copy)]
enum Fill {
    /// Around 0, so large that products keep their operand's length.
    Random,
    Ones,
    /// How fast states fade: below 0.
    Decay,
}

type Tensor = (String, Vec<u64>, Fill);

impl Shape {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Qwen35,
        Self::Lfm2,
        Self::Granite,
        Self::Mamba,
        Self::Gemma3,
    ];

    /// The file.
    #[must_use]
    pub fn file(self) -> GgufFile {
        self.with_template(CHATML, false)
    }

    /// The file with its matrices of `q8_0`, as llama.cpp quantizes them.
    #[must_use]
    pub fn quantized(self) -> GgufFile {
        self.with_template(CHATML, true)
    }

    /// The file of a model whose answers begin with reasoning, which a prompt begins and
    /// later ones are rendered without.
    #[must_use]
    pub fn thinking(self) -> GgufFile {
        self.with_template(&[CHATML, THINKS].concat(), false)
    }

    /// The file of a model that cuts text as the pre-tokenizer `pre` has it, and makes the
    /// same words by byte-pair encoding.
    #[must_use]
    pub fn pre_tokenized(self, pre: &str) -> GgufFile {
        in_byte_pairs(self.file(), TOKENS, pre)
    }

    fn arch(self) -> &'static str {
        match self {
            Self::Qwen35 => "qwen35",
            Self::Lfm2 => "lfm2",
            Self::Granite => "granitehybrid",
            Self::Mamba => "mamba",
            Self::Gemma3 => "gemma3",
        }
    }

    fn with_template(self, template: &str, quantized: bool) -> GgufFile {
        let mut rng = Rng::with_seed(15);
        let tensors = self.tensors().into_iter();
        let tensors =
            tensors.map(|(name, shape, fill)| entry(name, shape, fill, quantized, &mut rng));
        let file = GgufFile::new(Vec::new(), tensors.collect());
        let file = self.sizes(file.text("general.architecture", self.arch()));
        speaking(file, "Shape", TOKENS, template)
    }

    /// The numbers of the header.
    fn sizes(self, file: GgufFile) -> GgufFile {
        let arch = self.arch();
        let numbers = |file: GgufFile, numbers: &[(&str, u64)]| {
            let number = |file: GgufFile, (key, value): &(&str, u64)| {
                file.u32(&format!("{arch}.{key}"), u32::try_from(*value).unwrap_or(0))
            };
            numbers.iter().fold(file, number)
        };
        let file = numbers(
            file,
            &[
                ("block_count", LAYERS),
                ("context_length", 1 << 17),
                ("embedding_length", WIDTH),
                ("feed_forward_length", FEED_FORWARD),
            ],
        );
        let epsilon = format!("{arch}.attention.layer_norm_rms_epsilon");
        let file = file.f32(&epsilon, 1e-5);
        let heads = [
            ("attention.head_count", HEADS),
            ("attention.key_length", HEAD),
            ("attention.value_length", HEAD),
            ("rope.dimension_count", HEAD),
        ];
        let in_one = (0..LAYERS).map(|layer| match layer {
            ATTENTION_LAYER => u32::try_from(KV_HEADS).unwrap_or(0),
            _ => 0,
        });
        let in_one: Vec<u32> = in_one.collect();
        let kv_heads = format!("{arch}.attention.head_count_kv");
        let states = |file, rank| {
            let sizes = [
                ("ssm.conv_kernel", CONV),
                ("ssm.inner_size", INNER),
                ("ssm.state_size", STATE),
                ("ssm.time_step_rank", rank),
            ];
            numbers(file, &sizes)
        };
        let kv_heads_of_all = u32::try_from(KV_HEADS).unwrap_or(0);
        match self {
            // Values are as many heads of the state's width.
            Self::Qwen35 => states(numbers(file, &heads), INNER / STATE)
                .u32(&kv_heads, kv_heads_of_all)
                .u32("qwen35.ssm.group_count", kv_heads_of_all)
                .u32s("qwen35.rope.dimension_sections", &[4, 2, 2, 0])
                .u32s("qwen35.attention.recurrent_layers", &[1, 0, 1]),
            Self::Lfm2 => numbers(file, &heads)
                .u32s(&kv_heads, &in_one)
                .u32("lfm2.shortconv.l_cache", 3),
            Self::Granite => states(numbers(file, &heads), STATE_HEADS)
                .u32s(&kv_heads, &in_one)
                .u32("granitehybrid.ssm.group_count", 1),
            Self::Mamba => states(file, STATE_HEADS),
            Self::Gemma3 => numbers(file, &heads)
                .u32(&kv_heads, kv_heads_of_all)
                .u32("gemma3.attention.sliding_window", WINDOW)
                .u32("gemma3.attention.sliding_window_pattern", 3),
        }
    }

    fn tensors(self) -> Vec<Tensor> {
        let norm = match self {
            Self::Lfm2 => "token_embd_norm.weight",
            _ => "output_norm.weight",
        };
        let mut all = vec![
            (
                "token_embd.weight".to_owned(),
                vec![WIDTH, TOKENS],
                Fill::Random,
            ),
            (norm.to_owned(), vec![WIDTH], Fill::Ones),
            (
                "output.weight".to_owned(),
                vec![WIDTH, TOKENS],
                Fill::Random,
            ),
        ];
        for layer in 0..LAYERS {
            let attends = match self {
                Self::Mamba => false,
                Self::Gemma3 => true,
                _ => layer == ATTENTION_LAYER,
            };
            let mut parts = vec![("attn_norm.weight", vec![WIDTH], Fill::Ones)];
            parts.extend(if attends {
                self.attention()
            } else {
                self.mixer()
            });
            parts.extend(self.feed_forward());
            let named = parts
                .into_iter()
                .map(|(name, shape, fill)| (format!("blk.{layer}.{name}"), shape, fill));
            all.extend(named);
        }
        all
    }

    fn attention(self) -> Vec<(&'static str, Vec<u64>, Fill)> {
        let (queries, keys) = (HEADS * HEAD, KV_HEADS * HEAD);
        // A gate comes with each query.
        let with_gates = if self == Self::Qwen35 { 2 } else { 1 };
        let mut parts = vec![
            (
                "attn_q.weight",
                vec![WIDTH, with_gates * queries],
                Fill::Random,
            ),
            ("attn_k.weight", vec![WIDTH, keys], Fill::Random),
            ("attn_v.weight", vec![WIDTH, keys], Fill::Random),
            ("attn_output.weight", vec![queries, WIDTH], Fill::Random),
        ];
        if self != Self::Granite {
            parts.push(("attn_q_norm.weight", vec![HEAD], Fill::Ones));
            parts.push(("attn_k_norm.weight", vec![HEAD], Fill::Ones));
        }
        parts
    }

    /// What is there in place of attention.
    fn mixer(self) -> Vec<(&'static str, Vec<u64>, Fill)> {
        match self {
            Self::Qwen35 => {
                let heads = INNER / STATE;
                let mixed = INNER + 2 * KV_HEADS * STATE;
                vec![
                    ("attn_qkv.weight", vec![WIDTH, mixed], Fill::Random),
                    ("attn_gate.weight", vec![WIDTH, INNER], Fill::Random),
                    ("ssm_conv1d.weight", vec![CONV, mixed], Fill::Random),
                    ("ssm_dt.bias", vec![heads], Fill::Random),
                    ("ssm_a", vec![heads], Fill::Decay),
                    ("ssm_beta.weight", vec![WIDTH, heads], Fill::Random),
                    ("ssm_alpha.weight", vec![WIDTH, heads], Fill::Random),
                    ("ssm_norm.weight", vec![STATE], Fill::Ones),
                    ("ssm_out.weight", vec![INNER, WIDTH], Fill::Random),
                ]
            }
            Self::Lfm2 => vec![
                ("shortconv.conv.weight", vec![3, WIDTH], Fill::Random),
                (
                    "shortconv.in_proj.weight",
                    vec![WIDTH, 3 * WIDTH],
                    Fill::Random,
                ),
                (
                    "shortconv.out_proj.weight",
                    vec![WIDTH, WIDTH],
                    Fill::Random,
                ),
            ],
            Self::Granite => {
                let mixed = INNER + 2 * STATE;
                vec![
                    (
                        "ssm_in.weight",
                        vec![WIDTH, INNER + mixed + STATE_HEADS],
                        Fill::Random,
                    ),
                    ("ssm_conv1d.weight", vec![CONV, mixed], Fill::Random),
                    ("ssm_conv1d.bias", vec![mixed], Fill::Random),
                    ("ssm_dt.bias", vec![STATE_HEADS], Fill::Random),
                    ("ssm_a", vec![1, STATE_HEADS], Fill::Decay),
                    ("ssm_d", vec![1, STATE_HEADS], Fill::Ones),
                    ("ssm_norm.weight", vec![INNER, 1], Fill::Ones),
                    ("ssm_out.weight", vec![INNER, WIDTH], Fill::Random),
                ]
            }
            Self::Mamba => vec![
                ("ssm_in.weight", vec![WIDTH, 2 * INNER], Fill::Random),
                ("ssm_conv1d.weight", vec![CONV, INNER], Fill::Random),
                ("ssm_conv1d.bias", vec![INNER], Fill::Random),
                (
                    "ssm_x.weight",
                    vec![INNER, STATE_HEADS + 2 * STATE],
                    Fill::Random,
                ),
                ("ssm_dt.weight", vec![STATE_HEADS, INNER], Fill::Random),
                ("ssm_dt.bias", vec![INNER], Fill::Random),
                ("ssm_a", vec![STATE, INNER], Fill::Decay),
                ("ssm_d", vec![INNER], Fill::Ones),
                ("ssm_out.weight", vec![INNER, WIDTH], Fill::Random),
            ],
            Self::Gemma3 => Vec::new(),
        }
    }

    fn feed_forward(self) -> Vec<(&'static str, Vec<u64>, Fill)> {
        let norms: &[&str] = match self {
            Self::Mamba => return Vec::new(),
            Self::Qwen35 => &["post_attention_norm.weight"],
            Self::Lfm2 | Self::Granite => &["ffn_norm.weight"],
            Self::Gemma3 => &[
                "post_attention_norm.weight",
                "ffn_norm.weight",
                "post_ffw_norm.weight",
            ],
        };
        let norms = norms.iter().map(|name| (*name, vec![WIDTH], Fill::Ones));
        let products = [
            ("ffn_gate.weight", vec![WIDTH, FEED_FORWARD], Fill::Random),
            ("ffn_up.weight", vec![WIDTH, FEED_FORWARD], Fill::Random),
            ("ffn_down.weight", vec![FEED_FORWARD, WIDTH], Fill::Random),
        ];
        norms.chain(products).collect()
    }
}

/// A tensor of 32-bit floats, or of `q8_0` where llama.cpp has that in `quantized` files.
fn entry(name: String, shape: Vec<u64>, fill: Fill, quantized: bool, rng: &mut Rng) -> TensorEntry {
    let count: u64 = shape.iter().product();
    let inputs = shape.first().copied().unwrap_or(1);
    // Around as much as a product of so many adds up to.
    #[expect(clippy::cast_precision_loss, reason = "a few thousand at most")]
    let spread = (3.0 / inputs as f32).sqrt();
    // Words alone are said: the logits of everything else are 0.
    let unsaid = if name == "output.weight" {
        inputs * WITHOUT_WORDS
    } else {
        0
    };
    let loud = if name == "output.weight" { 3.0 } else { 1.0 };
    let value = |at| match fill {
        Fill::Random if at < unsaid => 0.0,
        Fill::Random => loud * spread * (2.0 * rng.f32() - 1.0),
        Fill::Ones => 1.0,
        Fill::Decay => -0.1 - rng.f32(),
    };
    let values: Vec<f32> = (0..count).map(value).collect();
    let is_matrix = shape.len() > 1 && matches!(fill, Fill::Random) && !name.contains("conv");
    let is_quantized = quantized && is_matrix && inputs.is_multiple_of(Q8_0_BLOCK as u64);
    let (kind, data) = if is_quantized {
        let blocks = values.chunks(Q8_0_BLOCK);
        (Q8_0, blocks.flat_map(q8_0).collect())
    } else {
        (F32, values.into_iter().flat_map(f32::to_le_bytes).collect())
    };
    TensorEntry {
        name,
        kind,
        offset: None,
        data,
        shape,
    }
}

/// A block of weights as `q8_0` has it: its scale as a 16-bit float, here a power of two,
/// and a byte each.
fn q8_0(block: &[f32]) -> Vec<u8> {
    let largest = block
        .iter()
        .fold(0.0_f32, |most, value| most.max(value.abs()));
    // No value is above 4, and 0 has any scale. Its bits are those of the exponent, which
    // 15 is added to.
    let scale = |biased: u16| 2.0_f32.powi(i32::from(biased) - 15);
    let biased = (1..=10).find(|biased| largest <= 127.0 * scale(*biased));
    let biased = biased.unwrap_or(11);
    let (scale, half) = (scale(biased), biased << 10);
    #[expect(clippy::cast_possible_truncation, reason = "127 at most")]
    let weights = block.iter().map(|value| (value / scale).round() as i8);
    let bytes = weights.flat_map(i8::to_le_bytes);
    half.to_le_bytes().into_iter().chain(bytes).collect()
}
