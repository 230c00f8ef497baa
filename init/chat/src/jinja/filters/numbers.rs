//! Filters of numbers, and those that make some.

use crate::jinja::budget::Budget;
use crate::jinja::methods::optional_str;
use crate::jinja::spec::truncate;
use crate::jinja::value::{Args, Value};
use crate::jinja::{Fault, is_py_space, wrong};

/// Filters of numbers.
pub(super) fn number(
    budget: &Budget,
    name: &str,
    value: Value,
    args: Args,
) -> Result<Value, Fault> {
    // Signs between digits are left out first.
    budget.touch(value.as_str().map_or(0, str::len).saturating_mul(8))?;
    match name {
        "abs" => {
            let [] = args.bind(name, [])?;
            match (&value, value.as_int()) {
                (Value::Float(float), _) => Ok(Value::Float(float.abs())),
                (_, Some(int)) if int < 0 => budget.negate(&value),
                (_, Some(int)) => Ok(Value::Int(int)),
                _ => wrong(format!("bad operand type for abs(): '{}'", value.kind())),
            }
        }
        "int" => {
            let [default, base] = args.bind(name, ["default", "base"])?;
            let base = base.map(|base| base.int("base")).transpose()?.unwrap_or(10);
            let parsed = match &value {
                Value::Undefined(why) => return wrong(why.to_string()),
                Value::Float(float) => Some(truncate(*float)?),
                Value::Str(text) => match parse_int(&text.text, base) {
                    Some(int) => Some(int),
                    None => parse_float(&text.text)
                        .filter(|float| float.is_finite())
                        .map(truncate)
                        .transpose()?,
                },
                value => value.as_int(),
            };
            Ok(parsed.map_or_else(|| default.unwrap_or(Value::Int(0)), Value::Int))
        }
        "float" => {
            let [default] = args.bind(name, ["default"])?;
            let parsed = match &value {
                Value::Undefined(why) => return wrong(why.to_string()),
                Value::Str(text) => parse_float(&text.text),
                value => value.as_number(),
            };
            Ok(parsed.map_or_else(|| default.unwrap_or(Value::Float(0.0)), Value::Float))
        }
        "round" => round(&value, args),
        _ => {
            let [binary] = args.bind(name, ["binary"])?;
            let bytes = match &value {
                Value::Str(text) => parse_float(&text.text),
                value => value.as_number(),
            };
            let Some(bytes) = bytes else {
                return wrong(format!("could not convert {} to float", value.kind()));
            };
            budget.text(file_size(
                bytes,
                binary.is_some_and(|binary| binary.is_true()),
            ))
        }
    }
}

fn parse_int(text: &str, base: i128) -> Option<i128> {
    let text = text.trim_matches(is_py_space);
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let prefixes = [(16, "0x"), (8, "0o"), (2, "0b")];
    let prefixed = prefixes.into_iter().find_map(|(radix, prefix)| {
        let digits = lower.strip_prefix(prefix)?;
        (base == radix || base == 0).then_some((radix, digits))
    });
    let (base, digits) = match prefixed {
        Some((radix, digits)) => (radix, digits),
        // Nobody can tell whether it is octal.
        None if base == 0 && lower.starts_with('0') && lower.contains(|c| c != '0') => return None,
        None if base == 0 => (10, lower.as_str()),
        None => (base, lower.as_str()),
    };
    let bad = digits.starts_with('_') || digits.ends_with('_') || digits.starts_with(['-', '+']);
    if bad || digits.contains("__") {
        return None;
    }
    let radix = u32::try_from(base)
        .ok()
        .filter(|base| (2..=36).contains(base))?;
    i128::from_str_radix(&format!("{sign}{}", digits.replace('_', "")), radix).ok()
}

fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim_matches(is_py_space);
    if text.starts_with('_') || text.ends_with('_') {
        return None;
    }
    text.replace('_', "").parse().ok()
}

fn round(value: &Value, args: Args) -> Result<Value, Fault> {
    let [precision, method] = args.bind("round", ["precision", "method"])?;
    let precision = precision
        .map(|precision| precision.int("precision"))
        .transpose()?
        .unwrap_or(0);
    let method = optional_str(method.as_ref())?.unwrap_or("common");
    let Some(number) = value.as_number() else {
        return wrong(format!(
            "type {} doesn't define __round__ method",
            value.kind()
        ));
    };
    let places = i32::try_from(precision.clamp(-400, 400)).unwrap_or(0);
    let scale = 10_f64.powi(places.abs());
    match (method, value.as_int()) {
        ("common", Some(int)) if precision >= 0 => Ok(Value::Int(int)),
        ("common", whole) => {
            let rounded = if places >= 0 {
                let places = usize::try_from(places).unwrap_or(0);
                // The shortest decimal is not enough: the exact value decides.
                format!("{number:.places$}").parse().unwrap_or(number)
            } else {
                (number / scale).round_ties_even() * scale
            };
            match whole {
                Some(_) => Ok(Value::Int(truncate(rounded)?)),
                None => Ok(Value::Float(rounded)),
            }
        }
        ("ceil" | "floor", _) => {
            let scaled = if places >= 0 {
                number * scale
            } else {
                number / scale
            };
            let whole = if method == "ceil" {
                scaled.ceil()
            } else {
                scaled.floor()
            };
            // Python's are integers: they have no negative zero.
            let whole = whole + 0.0;
            Ok(Value::Float(if places >= 0 {
                whole / scale
            } else {
                whole * scale
            }))
        }
        _ => wrong("method must be common, ceil or floor"),
    }
}

#[expect(clippy::float_cmp, reason = "as jinja2 compares")]
fn file_size(bytes: f64, binary: bool) -> String {
    let base: f64 = if binary { 1024.0 } else { 1000.0 };
    if bytes == 1.0 {
        return "1 Byte".to_owned();
    }
    if bytes < base {
        return format!("{} Bytes", bytes.trunc() + 0.0);
    }
    let mut unit = base;
    let prefixes = "kMGTPEZY";
    for (index, prefix) in prefixes.chars().enumerate() {
        let next = unit * base;
        if bytes < next || index.saturating_add(1) == prefixes.len() {
            let shown = base * bytes / next;
            let prefix = if binary {
                prefix.to_ascii_uppercase()
            } else {
                prefix
            };
            return format!("{shown:.1} {prefix}{}", if binary { "iB" } else { "B" });
        }
        unit = next;
    }
    String::new()
}
