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
const VALUE_BY_VALUE: [&str; 4] = [
    "norm.weight",
    "norm.bias",
    ".ssm_conv1d.",
    ".shortconv.conv.",
];
/// So is what is named so to its end; `ssm_alpha` and `ssm_dt` are matrices.
const VALUE_BY_VALUE_ENDS: [&str; 2] = [".ssm_a", ".ssm_d"];

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
    let by_value = || {
        VALUE_BY_VALUE.iter().any(|part| name.contains(part))
            || VALUE_BY_VALUE_ENDS.iter().any(|end| name.ends_with(end))
    };
    if kind != F32 && (dims <= 1 || by_value()) {
        return Err("its values must be of type f32");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const F16: u32 = 1;
    const Q8_0: u32 = 8;

    /// As llama.cpp's own tables of tensors and of what it does not quantize have it.
    #[test]
    fn what_is_a_matrix_may_be_of_any_type_and_what_is_not_may_not() {
        for matrix in [
            "ssm_alpha.weight",
            "ssm_beta.weight",
            "ssm_dt.weight",
            "ssm_in.weight",
            "ssm_out.weight",
            "ssm_x.weight",
            "shortconv.in_proj.weight",
            "attn_qkv.weight",
        ] {
            let name = format!("blk.0.{matrix}");
            for kind in [F32, F16, Q8_0] {
                assert_eq!(check(&name, 2, kind), Ok(()), "{name} {kind}");
            }
        }
        for values in [
            "ssm_a",
            "ssm_d",
            "ssm_norm.weight",
            "ssm_dt_norm.weight",
            "ssm_conv1d.weight",
            "shortconv.conv.weight",
        ] {
            let name = format!("blk.0.{values}");
            assert_eq!(check(&name, 2, F32), Ok(()));
            assert!(check(&name, 2, Q8_0).is_err(), "{name}");
        }
        assert!(check("blk.0.ssm_dt.bias", 1, F16).is_err());
    }
}
