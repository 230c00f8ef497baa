//! What our check accepts, llama.cpp survives: a valid tiny model with some of its
//! keys, types, dimensions and lengths changed goes through the check and, if that
//! accepts it, through the plain command that `ZOSIA_FUZZ_COMMAND` names, to an answer.

#![no_main]

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU8, Ordering};

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::{Corpus, fuzz_target};
use vmtest::{GgufFile, TinyModel};

static COMMAND: LazyLock<PathBuf> = LazyLock::new(|| {
    std::env::var_os("ZOSIA_FUZZ_COMMAND")
        .expect("ZOSIA_FUZZ_COMMAND names the plain command")
        .into()
});
/// Where the model goes, to be kept for a look at it.
static KEPT: LazyLock<Option<PathBuf>> =
    LazyLock::new(|| std::env::var_os("ZOSIA_FUZZ_MODEL").map(PathBuf::from));
static PLACE: LazyLock<tempfile::TempDir> =
    LazyLock::new(|| tempfile::tempdir_in("/dev/shm").expect("there is memory for a file"));
static MODEL: LazyLock<GgufFile> = LazyLock::new(|| TinyModel::saying(&["Yes", "."]).gguf());

/// libFuzzer sees no branch of another process. What it is told instead is which lines the
/// command writes, each up to the first number, name or value in it.
#[used]
#[unsafe(link_section = "__libfuzzer_extra_counters")]
static LINES: [AtomicU8; 1 << 12] = [const { AtomicU8::new(0) }; 1 << 12];

const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
/// Keys of a llama that the tiny model has not.
const MORE: [&str; 24] = [
    "llama.attention.head_count_kv",
    "llama.attention.key_length",
    "llama.attention.value_length",
    "llama.attention.sliding_window",
    "llama.attention.causal",
    "llama.attention.clamp_kqv",
    "llama.attention.max_alibi_bias",
    "llama.rope.dimension_count",
    "llama.rope.freq_base",
    "llama.rope.scaling.factor",
    "llama.rope.scaling.original_context_length",
    "llama.rope.scaling.type",
    "llama.expert_count",
    "llama.expert_used_count",
    "llama.nextn_predict_layers",
    "llama.vocab_size",
    "llama.pooling_type",
    "llama.logit_scale",
    "general.file_type",
    "general.alignment",
    "tokenizer.ggml.pre",
    "tokenizer.ggml.unknown_token_id",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.add_bos_token",
];
/// Where numbers break.
const EXTREMES: [u64; 16] = [
    0,
    1,
    2,
    3,
    31,
    32,
    63,
    64,
    65,
    255,
    256,
    261,
    512,
    1 << 31,
    u32::MAX as u64,
    u64::MAX,
];
const ARCHITECTURES: [&str; 12] = [
    "llama",
    "qwen2",
    "qwen3",
    "phi3",
    "gemma",
    "gemma2",
    "gemma3",
    "mistral3",
    "olmo2",
    "starcoder2",
    "mamba",
    "stablelm",
];
const TOKENIZERS: [&str; 7] = ["llama", "gpt2", "bert", "t5", "rwkv", "plamo2", "gemma4"];

fn number(u: &mut Unstructured<'_>) -> Result<u64> {
    Ok(if u.ratio(3, 4)? {
        *u.choose(&EXTREMES)?
    } else {
        u.arbitrary()?
    })
}

fn value(u: &mut Unstructured<'_>, file: GgufFile, key: &str) -> Result<GgufFile> {
    Ok(match u.int_in_range(0..=6)? {
        0 | 1 => file.u32(key, number(u)? as u32),
        2 => file.f32(key, f32::from_bits(u.arbitrary()?)),
        3 => file.value(key, 7, &[u.arbitrary()?]),
        4 => file.text(key, u.arbitrary()?),
        5 => file.u32s(key, &[number(u)? as u32; 3][..u.int_in_range(1..=3)?]),
        _ => file.u64(key, number(u)?),
    })
}

/// The bytes of `key`'s value if it is still the array that the tiny model has there.
fn array(file: &GgufFile, key: &str) -> bool {
    let of = |file: &GgufFile| file.keys.iter().find(|(name, ..)| name == key).cloned();
    let (ours, its) = (of(&MODEL), of(file));
    let head = |value: Option<(String, u32, Vec<u8>)>| {
        value.map(|(_, kind, value)| (kind, value.get(..12).map(<[u8]>::to_vec)))
    };
    head(ours) == head(its)
}

fn change(u: &mut Unstructured<'_>, file: GgufFile) -> Result<GgufFile> {
    let keys: Vec<String> = file.keys.iter().map(|(key, ..)| key.clone()).collect();
    let tensors: Vec<String> = file
        .tensors
        .iter()
        .map(|tensor| tensor.name.clone())
        .collect();
    let (key, tensor) = (u.choose(&keys)?, u.choose(&tensors)?);
    Ok(match u.int_in_range(0..=13)? {
        0 => value(u, file, key)?,
        1 | 2 => {
            let key = *u.choose(&MORE)?;
            value(u, file, key)?
        }
        3 => file.without(key),
        4 if !array(&file, TOKENS) => file,
        5 if !array(&file, TYPES) => file,
        4 => file.token(u.int_in_range(0..=260)?, u.arbitrary()?),
        5 => file.patched(
            TYPES,
            12 + 4 * u.int_in_range(0..=260)?,
            &[u.int_in_range(0..=7)?],
        ),
        6 => file.text("tokenizer.ggml.model", u.choose(&TOKENIZERS)?),
        7 => file.texts("tokenizer.ggml.merges", &u.arbitrary::<Vec<&str>>()?),
        8 => file.architecture(u.choose(&ARCHITECTURES)?),
        9 => file.kind(tensor, u.int_in_range(0..=42)?),
        10 => {
            // A type that the weights have enough bytes for.
            let kind = *u.choose(&[1, 2, 3, 8, 20, 30, 39, 40])?;
            file.tensor(tensor, |tensor| {
                // Its shape may be absurd already.
                let weights = tensor.shape.iter().fold(1_u64, |a, b| a.saturating_mul(*b));
                let weights = weights.min(1 << 16);
                let (block, bytes) = match kind {
                    2 | 20 => (32, 18),
                    3 => (32, 20),
                    8 => (32, 34),
                    39 => (32, 17),
                    40 => (64, 36),
                    _ => (1, 2),
                };
                tensor.kind = kind;
                tensor.data.resize((weights / block * bytes) as usize, 0);
            })
        }
        11 => {
            let shape = [number(u)?, number(u)?, number(u)?];
            file.shape(tensor, &shape[..u.int_in_range(1..=3)?])
        }
        12 => {
            // Weights as they are, of another arrangement.
            let turned = u.arbitrary()?;
            file.tensor(tensor, |tensor| {
                if turned {
                    tensor.shape.reverse();
                } else {
                    tensor.shape.push(1);
                }
            })
        }
        _ => match u.arbitrary()? {
            true => file.without_tensor(tensor),
            false => {
                let name = *u.choose(&[
                    "rope_freqs.weight",
                    "blk.0.attn_q.bias",
                    "blk.0.attn_qkv.weight",
                    "blk.0.ffn_gate_inp.weight",
                    "blk.1.attn_norm.weight",
                    "token_embd_norm.weight",
                    "blk.0.attn_q_norm.weight",
                    "blk.0.attn_output.bias",
                ])?;
                let rows = u.int_in_range(1..=96)?;
                file.tensor(name, |tensor| {
                    tensor.shape = vec![rows];
                    tensor.data.resize(4 * rows as usize, 0);
                })
            }
        },
    })
}

fn changed(bytes: &[u8]) -> Result<GgufFile> {
    let mut u = Unstructured::new(bytes);
    let mut file = MODEL.clone();
    while !u.is_empty() {
        file = change(&mut u, file)?;
    }
    Ok(file)
}

fn show_lines(said: &str) {
    for line in said.lines() {
        let end = line.find(|c: char| c.is_ascii_digit() || "'\"=".contains(c));
        let mut hasher = DefaultHasher::new();
        line[..end.unwrap_or(line.len())].hash(&mut hasher);
        LINES[hasher.finish() as usize % LINES.len()].store(1, Ordering::Relaxed);
    }
}

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Ok(file) = changed(bytes) else {
        return Corpus::Reject;
    };
    let file = file.bytes();
    if gguf::check(&file[..], file.len() as u64).is_err() {
        return Corpus::Keep;
    }
    let path = KEPT
        .clone()
        .unwrap_or_else(|| PLACE.path().join("model.gguf"));
    std::fs::write(&path, &file).expect("there is memory for a file");
    let done = Command::new(&*COMMAND)
        .args([
            "-p",
            "Hi",
            "--max-tokens",
            "2",
            "--temp",
            "0",
            "--threads",
            "1",
            "--ctx",
            "256",
            // What the engine writes to standard error is passed on.
            "--log",
            "debug",
        ])
        .arg(&path)
        .stdin(Stdio::null())
        .output()
        .expect("the plain command starts");
    let said = String::from_utf8_lossy(&done.stderr);
    show_lines(&said);
    let killed = [
        "killed by",
        "ended with",
        "panicked",
        "in a row",
        "sign of life",
        "GGML_",
    ];
    assert!(
        matches!(done.status.code(), Some(0 | 1)),
        "{}: {said}",
        done.status
    );
    assert!(!killed.iter().any(|words| said.contains(words)), "{said}");
    Corpus::Keep
});
