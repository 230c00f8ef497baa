//! The numbers of a model's shape: what no model has, and what llama.cpp meets
//! with an abort instead of an error, is refused here with its key.
//!
//! That is all that is checked: whether the numbers agree with the weights is
//! llama.cpp's to say, and it says so in words.

use std::ops::RangeInclusive;

use super::GgufError;
use super::metadata::Metadata;

/// llama.cpp's `LLAMA_MAX_LAYERS`.
const LAYERS_MAX: u64 = 512;
/// llama.cpp's `LLAMA_MAX_EXPERTS`.
const EXPERTS_MAX: u64 = 1024;
/// Wider than any model, narrow enough that no product of two widths and the
/// number of layers overflows.
const WIDTH_MAX: u64 = 1 << 24;
/// llama.cpp's positions are of this many values.
const TOKENS_MAX: u64 = i32::MAX as u64;

/// Keys after the architecture's name, and what each of their values can be.
const RANGES: &[(&str, RangeInclusive<u64>)] = &[
    ("block_count", 1..=LAYERS_MAX),
    ("nextn_predict_layers", 0..=LAYERS_MAX),
    ("full_attention_interval", 1..=LAYERS_MAX),
    ("attention.shared_kv_layers", 0..=LAYERS_MAX),
    ("context_length", 0..=TOKENS_MAX),
    ("attention.sliding_window", 0..=TOKENS_MAX),
    ("embedding_length", 1..=WIDTH_MAX),
    ("feed_forward_length", 0..=WIDTH_MAX),
    ("attention.head_count", 0..=WIDTH_MAX),
    ("attention.head_count_kv", 0..=WIDTH_MAX),
    ("attention.key_length", 1..=WIDTH_MAX),
    ("attention.value_length", 1..=WIDTH_MAX),
    ("rope.dimension_count", 0..=WIDTH_MAX),
    ("expert_count", 0..=EXPERTS_MAX),
    ("expert_used_count", 0..=EXPERTS_MAX),
    ("expert_group_count", 0..=EXPERTS_MAX),
    ("expert_group_used_count", 0..=EXPERTS_MAX),
];

/// Those of [`RANGES`] that may be an array, one number for each layer.
const BY_LAYER: &[&str] = &[
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "expert_used_count",
];

/// Widths that llama.cpp turns by pairs.
const PAIRS: &[&str] = &[
    "attention.key_length",
    "attention.key_length_swa",
    "rope.dimension_count",
    "rope.dimension_count_swa",
];

/// Architectures of which llama.cpp divides by the number of heads without looking.
const DIVIDED_BY_HEADS: &[&str] = &["deepseek2", "olmo2", "phimoe"];

/// Architectures of which llama.cpp takes one expert for none.
const ONE_EXPERT_IS_NONE: &[&str] = &["hunyuan-dense", "hunyuan_vl"];

/// What ggml's norms divide by is this or more.
const EPSILONS: &[&str] = &[
    "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
    "attention.group_norm_epsilon",
];

/// llama.cpp's names of ways to stretch positions.
const ROPE_SCALINGS: &[&str] = &["none", "linear", "yarn", "longrope"];

/// Checks the numbers of a model of architecture `arch`.
///
/// # Errors
/// [`GgufError::Key`].
pub(super) fn check(metadata: &Metadata, arch: &str) -> Result<(), GgufError> {
    let wrong = |key: &str, problem: String| GgufError::Key {
        key: format!("{arch}.{key}"),
        problem,
    };
    for (key, range) in RANGES {
        let name = format!("{arch}.{key}");
        let values = metadata.uints(&name);
        if let Some(value) = values.into_iter().find(|value| !range.contains(value)) {
            let (least, most) = (range.start(), range.end());
            return Err(wrong(key, format!("{value} is not from {least} to {most}")));
        }
        let by_layer = BY_LAYER.contains(key).then(|| metadata.whole_items(&name));
        match (
            by_layer.flatten(),
            metadata.u32(&format!("{arch}.block_count")),
        ) {
            (Some(items), Some(layers)) if items != layers => {
                let problem = format!("it has {items} items for {layers} layers");
                return Err(wrong(key, problem));
            }
            (None, _) if metadata.has(&name) && metadata.u32(&name).is_none() => {
                let problem = "it is not an unsigned number of 32 bits".to_owned();
                return Err(wrong(key, problem));
            }
            _ => {}
        }
    }
    for key in EPSILONS {
        match metadata.float(&format!("{arch}.{key}")) {
            Some(epsilon) if !(epsilon.is_finite() && epsilon >= 0.0) => {
                return Err(wrong(key, format!("{epsilon} is not a small number")));
            }
            _ => {}
        }
    }
    if let Some(name) = metadata.text(&format!("{arch}.rope.scaling.type"))
        && !ROPE_SCALINGS.contains(&name)
    {
        let names = ROPE_SCALINGS.join(", ");
        return Err(wrong(
            "rope.scaling.type",
            format!("it is not one of {names}"),
        ));
    }
    let count = |key: &str| {
        let values = metadata.uints(&format!("{arch}.{key}"));
        values.into_iter().max().unwrap_or(0)
    };
    check_pairs(&count).map_err(|(key, problem)| wrong(key, problem))?;
    let heads = metadata.uints(&format!("{arch}.attention.head_count"));
    if DIVIDED_BY_HEADS.contains(&arch) && heads.into_iter().min().unwrap_or(0) == 0 {
        return Err(wrong("attention.head_count", "there is no head".into()));
    }
    if count("nextn_predict_layers") > count("block_count") {
        let problem = "it is more than there are layers".to_owned();
        return Err(wrong("nextn_predict_layers", problem));
    }
    // llama.cpp aborts on it: shared layers use those of the last two before them.
    let own = count("block_count").checked_sub(count("attention.shared_kv_layers"));
    if arch == "gemma4" && count("block_count") > 0 && own.is_none_or(|own| own < 2) {
        let problem = "it leaves fewer than two layers a cache of their own".to_owned();
        return Err(wrong("attention.shared_kv_layers", problem));
    }
    check_experts(arch, &count).map_err(|(key, problem)| wrong(key, problem.into()))
}

/// Positions turn the values of a head by pairs.
fn check_pairs(count: &impl Fn(&str) -> u64) -> Result<(), (&'static str, String)> {
    for key in PAIRS {
        let values = count(key);
        if !values.is_multiple_of(2) {
            return Err((key, format!("{values} is an odd number")));
        }
    }
    let width = match count("attention.key_length") {
        0 => {
            let heads = count("attention.head_count");
            let embedding = count("embedding_length");
            embedding.checked_div(heads).unwrap_or(0)
        }
        width => width,
    };
    if !width.is_multiple_of(2) {
        let problem = format!("it leaves each head {width} values, an odd number");
        return Err(("attention.head_count", problem));
    }
    Ok(())
}

/// A model has experts and says how many of them are used, or has none; groups
/// divide them evenly.
fn check_experts(
    arch: &str,
    count: &impl Fn(&str) -> u64,
) -> Result<(), (&'static str, &'static str)> {
    let (experts, used) = match (count("expert_count"), count("expert_used_count")) {
        (0 | 1, _) if ONE_EXPERT_IS_NONE.contains(&arch) => (0, 0),
        counts => counts,
    };
    let groups = count("expert_group_count");
    let groups_used = count("expert_group_used_count");
    if used > experts {
        return Err(("expert_used_count", "it is more than there are experts"));
    }
    if experts > 0 && used == 0 {
        return Err(("expert_used_count", "no expert is used"));
    }
    if groups > 0 && groups >= experts {
        return Err(("expert_group_count", "it is as many as there are experts"));
    }
    if groups > 1 && experts.checked_rem(groups) != Some(0) {
        return Err(("expert_group_count", "it does not divide the experts"));
    }
    if groups > 1 && !(1..groups).contains(&groups_used) {
        let problem = "it is none of the groups, or all of them";
        return Err(("expert_group_used_count", problem));
    }
    Ok(())
}
