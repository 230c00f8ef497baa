//! How values are shown: Python's `str` and `repr`.

use super::budget::Buffer;
use super::eval::Evaluator;
use super::value::{Function, Kind, Object, Value};
use super::{Fault, wrong};

/// Python's `str`.
pub(super) fn write_str(out: &mut Buffer, value: &Value, names: &Evaluator) -> Result<(), Fault> {
    match value {
        Value::Undefined(_) => Ok(()),
        Value::Str(text) => out.push(&text.text),
        _ => write_repr(out, value, names, 0),
    }
}

/// Python's `repr`. `depth` counts namespaces within each other, which may go
/// round in a circle.
pub(super) fn write_repr(
    out: &mut Buffer,
    value: &Value,
    names: &Evaluator,
    depth: usize,
) -> Result<(), Fault> {
    let items = |out: &mut Buffer, items: &[Value]| {
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                out.push(", ")?;
            }
            write_repr(out, item, names, depth)?;
        }
        Ok(())
    };
    match value {
        Value::Undefined(_) => out.push("Undefined"),
        Value::None => out.push("None"),
        Value::Bool(true) => out.push("True"),
        Value::Bool(false) => out.push("False"),
        Value::Int(int) => out.display(int),
        Value::Float(float) => out.push(&float_repr(*float)),
        Value::Str(text) => {
            if text.safe {
                out.push("Markup(")?;
            }
            write_quoted(out, &text.text)?;
            out.push(if text.safe { ")" } else { "" })
        }
        Value::Seq(seq) => {
            let (open, close) = match seq.kind {
                Kind::List => ("[", "]"),
                Kind::Tuple | Kind::Group => ("(", if seq.items.len() == 1 { ",)" } else { ")" }),
                Kind::Keys => ("dict_keys([", "])"),
                Kind::Values => ("dict_values([", "])"),
                Kind::Items => ("dict_items([", "])"),
                Kind::Range(start, stop, 1) => {
                    return out.display(format!("range({start}, {stop})"));
                }
                Kind::Range(start, stop, step) => {
                    return out.display(format!("range({start}, {stop}, {step})"));
                }
                Kind::Iterator => return out.push("<generator object>"),
            };
            out.push(open)?;
            items(out, &seq.items)?;
            out.push(close)
        }
        Value::Dict(dict) => write_entries(out, &dict.entries, names, depth),
        Value::Object(object) => match &**object {
            Object::Namespace(index) => {
                if depth > 8 {
                    return wrong("values nested too deeply");
                }
                out.push("<Namespace ")?;
                write_entries(out, names.namespace(*index), names, depth.saturating_add(1))?;
                out.push(">")
            }
            Object::Macro(definition, _) => match &definition.name {
                Some(name) => {
                    out.push("<Macro ")?;
                    write_quoted(out, &name.text)?;
                    out.push(">")
                }
                None => out.push("<Macro anonymous>"),
            },
            Object::Function(Function::Dict) => out.push("<class 'dict'>"),
            Object::Function(Function::Namespace) => out.push("<class 'jinja2.utils.Namespace'>"),
            Object::Function(Function::Cycler) => out.push("<class 'jinja2.utils.Cycler'>"),
            Object::Function(Function::Joiner) => out.push("<class 'jinja2.utils.Joiner'>"),
            _ => out.display(format!("<{}>", value.kind())),
        },
    }
}

fn write_entries(
    out: &mut Buffer,
    entries: &[(Value, Value)],
    names: &Evaluator,
    depth: usize,
) -> Result<(), Fault> {
    out.push("{")?;
    for (index, (key, value)) in entries.iter().enumerate() {
        if index > 0 {
            out.push(", ")?;
        }
        write_repr(out, key, names, depth)?;
        out.push(": ")?;
        write_repr(out, value, names, depth)?;
    }
    out.push("}")
}

/// Python's `ascii`.
pub(super) fn write_ascii(out: &mut Buffer, value: &Value, names: &Evaluator) -> Result<(), Fault> {
    let mut text = Buffer::new(&names.budget);
    write_repr(&mut text, value, names, 0)?;
    text.text.chars().try_for_each(|c| match c {
        c if c.is_ascii() => out.push_char(c),
        c => write_escape(out, c),
    })
}

/// A character by its number.
fn write_escape(out: &mut Buffer, c: char) -> Result<(), Fault> {
    match u32::from(c) {
        code if code < 0x100 => out.display(format!("\\x{code:02x}")),
        code if code < 0x1_0000 => out.display(format!("\\u{code:04x}")),
        code => out.display(format!("\\U{code:08x}")),
    }
}

/// A text in quotes, as Python's `repr` chooses them.
fn write_quoted(out: &mut Buffer, text: &str) -> Result<(), Fault> {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push_char(quote)?;
    for c in text.chars() {
        match c {
            '\n' => out.push("\\n")?,
            '\r' => out.push("\\r")?,
            '\t' => out.push("\\t")?,
            '\\' => out.push("\\\\")?,
            c if c == quote => {
                out.push("\\")?;
                out.push_char(c)?;
            }
            c if is_printable(c) => out.push_char(c)?,
            c => write_escape(out, c)?,
        }
    }
    out.push_char(quote)
}

/// Python's `str.isprintable`. Rust's `Debug` has the same table, only that it
/// escapes marks which combine with nothing before them. Private use plane 16 is
/// left as it is: there are the stand-ins of [`crate::guard`].
pub(super) fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    let text = ['a', c].iter().collect::<String>();
    u32::from(c) >= 0x10_0000 || text.escape_debug().nth(1) == Some(c)
}

/// Python's `repr` of a float: the fewest digits that say it, an exponent from
/// 1e16 on and below 1e-4.
pub(super) fn float_repr(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value < 0.0 { "-inf" } else { "inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent @ (16.. | ..=-5)) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ => format!("{value:?}"),
    }
}
