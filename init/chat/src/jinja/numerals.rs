//! Attributes and methods of Python's numbers.

use super::budget::Budget;
use super::methods::usize_value;
use super::value::{Args, Value};
use super::{Fault, wrong};

const BOTH: &[&str] = &["as_integer_ratio", "conjugate"];
const INT: &[&str] = &["bit_count", "bit_length"];
const FLOAT: &[&str] = &["hex", "is_integer"];

pub(super) fn has_method(value: &Value, name: &str) -> bool {
    let own = match value {
        Value::Float(_) => FLOAT,
        _ => INT,
    };
    BOTH.contains(&name) || own.contains(&name)
}

/// Attributes that are not methods.
pub(super) fn attribute(value: &Value, name: &str) -> Option<Value> {
    let int = value.as_int().map(Value::Int);
    match (name, int) {
        ("real", None) => Some(value.clone()),
        ("imag", None) => Some(Value::Float(0.0)),
        ("real" | "numerator", int) => int,
        ("imag", Some(_)) => Some(Value::Int(0)),
        ("denominator", Some(_)) => Some(Value::Int(1)),
        _ => None,
    }
}

/// Calls a method that [`has_method`] knows.
pub(super) fn call_method(
    budget: &Budget,
    of: &Value,
    name: &str,
    args: Args,
) -> Result<Value, Fault> {
    let [] = args.bind(name, [])?;
    let float = match of {
        Value::Float(float) => *float,
        _ => 0.0,
    };
    let bits = of.as_int().unwrap_or(0).unsigned_abs();
    match (name, of.as_int()) {
        ("conjugate", None) => Ok(of.clone()),
        ("conjugate", Some(int)) => Ok(Value::Int(int)),
        ("as_integer_ratio", Some(int)) => budget.tuple(vec![Value::Int(int), Value::Int(1)]),
        ("as_integer_ratio", None) => {
            let (above, below) = ratio(float)?;
            budget.tuple(vec![Value::Int(above), Value::Int(below)])
        }
        ("is_integer", _) => Ok(Value::Bool(float.is_finite() && float.fract() == 0.0)),
        ("hex", _) => budget.text(hex(float)),
        ("bit_count", _) => Ok(Value::Int(bits.count_ones().into())),
        _ => {
            let length = u128::BITS.saturating_sub(bits.leading_zeros());
            Ok(usize_value(usize::try_from(length).unwrap_or(0)))
        }
    }
}

/// A float's mantissa, with its hidden bit, and the exponent of its last bit.
fn parts(float: f64) -> (u64, i64) {
    let bits = float.to_bits();
    let mantissa = bits & ((1 << 52) - 1);
    let exponent = i64::try_from((bits >> 52) & 0x7ff).unwrap_or(0);
    if exponent == 0 {
        (mantissa, -1074)
    } else {
        (mantissa | 1 << 52, exponent.saturating_sub(1075))
    }
}

fn ratio(float: f64) -> Result<(i128, i128), Fault> {
    let (mantissa, exponent) = parts(float);
    let shift = if mantissa == 0 {
        64
    } else {
        i64::from(mantissa.trailing_zeros())
    };
    let odd = i128::from(
        mantissa
            .checked_shr(u32::try_from(shift).unwrap_or(64))
            .unwrap_or(0),
    );
    let exponent = if odd == 0 {
        0
    } else {
        exponent.saturating_add(shift)
    };
    let power = u32::try_from(exponent.unsigned_abs()).ok();
    let power = power.and_then(|power| 2_i128.checked_pow(power));
    let (above, below) = match power {
        Some(power) if exponent < 0 => (Some(odd), Some(power)),
        Some(power) => (odd.checked_mul(power), Some(1)),
        None => (None, None),
    };
    match above.zip(below).filter(|_| float.is_finite()) {
        Some((above, below)) if float < 0.0 => Ok((above.saturating_neg(), below)),
        Some(parts) => Ok(parts),
        None => wrong("an integer this large is not supported"),
    }
}

fn hex(float: f64) -> String {
    if !float.is_finite() {
        return super::repr::float_repr(float);
    }
    let sign = if float.is_sign_negative() { "-" } else { "" };
    let (mantissa, exponent) = parts(float);
    if mantissa == 0 {
        return format!("{sign}0x0.0p+0");
    }
    let (whole, fraction) = (mantissa >> 52, mantissa & ((1 << 52) - 1));
    format!(
        "{sign}0x{whole}.{fraction:013x}p{:+}",
        exponent.saturating_add(52)
    )
}
