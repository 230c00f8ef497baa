//! What a tensor is used for, as far as its name and shape tell, and which types of
//! weights llama.cpp computes that with: it looks no earlier than in the middle of an
//! answer, and aborts then.

/// ggml's number of 32-bit floats.
const F32: u32 = 0;
/// ggml's number of 32-bit integers.
const I32: u32 = 26;
/// ggml's numbers of the types that it multiplies with nothing: `q8_1` and `q8_K`, which
/// are of activations, the integers, and `f64`.
const NOT_MULTIPLIED: [u32; 7] = [9, 15, 24, 25, I32, 27, 28];
/// A table of experts by token, which is looked up in.
const TABLE: &str = ".ffn_gate_tid2eid.";
/// Besides what has one dimension: what these parts of names tell of is added or
/// multiplied value by value.
const VALUE_BY_VALUE: [&str; 6] = [
    "norm.weight",
    "norm.bias",
    ".ssm_conv1d.",
    ".ssm_a",
    ".ssm_d",
    ".shortconv.conv.",
];

/// Refuses a type that what is called `name` cannot have.
///
/// # Errors
/// What is wrong.
pub(super) fn check(name: &str, dims: u32, kind: u32) -> Result<(), &'static str> {
    if kind == I32 && name.contains(TABLE) {
        return Ok(());
    }
    if NOT_MULTIPLIED.contains(&kind) {
        return Err("nothing is multiplied with weights of its type");
    }
    let by_value = || VALUE_BY_VALUE.iter().any(|part| name.contains(part));
    if kind != F32 && (dims <= 1 || by_value()) {
        return Err("its values must be of type f32");
    }
    Ok(())
}
