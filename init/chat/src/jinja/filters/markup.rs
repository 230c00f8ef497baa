//! Filters that make or read HTML and URLs.

use super::sequences::sequence;
use crate::jinja::budget::{Budget, Buffer};
use crate::jinja::eval::Evaluator;
use crate::jinja::methods::to_str;
use crate::jinja::value::{Args, Value};
use crate::jinja::{Fault, is_py_space, wrong};

pub(in crate::jinja) fn escape_into(out: &mut Buffer, text: &str) -> Result<(), Fault> {
    for c in text.chars() {
        match c {
            '&' => out.push("&amp;")?,
            '>' => out.push("&gt;")?,
            '<' => out.push("&lt;")?,
            '\'' => out.push("&#39;")?,
            '"' => out.push("&#34;")?,
            c => out.push_char(c)?,
        }
    }
    Ok(())
}

/// Filters that make or read HTML and URLs.
pub(super) fn markup(
    evaluator: &mut Evaluator,
    budget: &Budget,
    name: &str,
    value: Value,
    args: Args,
) -> Result<Value, Fault> {
    let mut out = Buffer::new(budget);
    if name == "xmlattr" {
        let [autospace] = args.bind(name, ["autospace"])?;
        let Value::Dict(dict) = &value else {
            return wrong("xmlattr needs a mapping");
        };
        budget.spend(dict.entries.len())?;
        for (key, value) in &dict.entries {
            if matches!(value, Value::None | Value::Undefined(_)) {
                continue;
            }
            let key = key.as_str().unwrap_or_default();
            if key.contains(|c: char| c.is_ascii_whitespace() || matches!(c, '/' | '>' | '=')) {
                return wrong("Invalid character in attribute name");
            }
            let spaced = autospace.as_ref().is_none_or(Value::is_true);
            if spaced || !out.text.is_empty() {
                out.push(" ")?;
            }
            escape_into(&mut out, key)?;
            out.push("=\"")?;
            let value = to_str(evaluator, value.clone())?;
            let text = value.as_str().unwrap_or_default();
            if value.is_safe() {
                out.push(text)?;
            } else {
                escape_into(&mut out, text)?;
            }
            out.push("\"")?;
        }
        return out.finish();
    }
    let [] = args.bind(name, [])?;
    if name == "urlencode" && !matches!(value, Value::Str(_)) && value.is_iterable() {
        let pairs = match &value {
            Value::Dict(_) => sequence(budget, "items", value.clone(), Args::default())?,
            _ => value,
        };
        for (index, pair) in pairs.iterate(budget)?.items.iter().enumerate() {
            let pair = pair.iterate(budget)?;
            let [key, value] = pair.items.as_slice() else {
                return wrong("urlencode needs pairs");
            };
            out.push(if index > 0 { "&" } else { "" })?;
            for (end, part) in [("=", key), ("", value)] {
                let part = to_str(evaluator, part.clone())?;
                url_quote(&mut out, part.as_str().unwrap_or_default(), true)?;
                out.push(end)?;
            }
        }
        return out.finish();
    }
    let value = to_str(evaluator, value)?;
    let text = value.as_str().unwrap_or_default();
    match name {
        "safe" => out.push(text)?,
        "striptags" => {
            strip_tags(&mut out, text)?;
            return out.finish();
        }
        "urlencode" => {
            url_quote(&mut out, text, false)?;
            return out.finish();
        }
        "e" | "escape" if value.is_safe() => return Ok(value),
        _ => escape_into(&mut out, text)?,
    }
    out.marked(true)
}

fn url_quote(out: &mut Buffer, text: &str, query: bool) -> Result<(), Fault> {
    for byte in text.bytes() {
        let c = char::from(byte);
        match c {
            '/' if !query => out.push_char(c)?,
            ' ' if query => out.push("+")?,
            '_' | '.' | '-' | '~' => out.push_char(c)?,
            c if c.is_ascii_alphanumeric() => out.push_char(c)?,
            _ => out.display(format!("%{byte:02X}"))?,
        }
    }
    Ok(())
}

/// Markup's methods `striptags` and `unescape`.
pub(in crate::jinja) fn markup_text(
    budget: &Budget,
    name: &str,
    text: &str,
) -> Result<Value, Fault> {
    budget.reserve(text.len().saturating_mul(3))?;
    let mut out = Buffer::new(budget);
    if name == "striptags" {
        strip_tags(&mut out, text)?;
    } else {
        out.push(&unescape(text))?;
    }
    out.finish()
}

/// Longest entity that is looked for.
const ENTITY_BYTES_MAX: usize = 16;

/// Entities by number and those that escaping makes; of the two thousand others,
/// only what models' makers write.
fn unescape(text: &str) -> String {
    let names = [
        ("amp", "&"),
        ("lt", "<"),
        ("gt", ">"),
        ("quot", "\""),
        ("apos", "'"),
        ("nbsp", "\u{a0}"),
    ];
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let end = after.bytes().take(ENTITY_BYTES_MAX).position(|b| b == b';');
        let cut = end.and_then(|end| after.get(..end).zip(after.get(end.saturating_add(1)..)));
        let entity = cut.and_then(|(entity, after)| {
            let code = |digits: &str, radix| u32::from_str_radix(digits, radix).ok();
            let code = match entity.strip_prefix('#') {
                None => {
                    let known = names.iter().find(|(name, _)| *name == entity)?;
                    return Some((known.1.to_owned(), after));
                }
                Some(number) => match number.strip_prefix(['x', 'X']) {
                    Some(digits) => code(digits, 16)?,
                    None => code(number, 10)?,
                },
            };
            Some((char::from_u32(code)?.to_string(), after))
        });
        let (shown, after) = entity.unwrap_or_else(|| ("&".to_owned(), after));
        out.push_str(&shown);
        rest = after;
    }
    out + rest
}

/// Comments, then tags; white space becomes one space.
fn strip_tags(out: &mut Buffer, text: &str) -> Result<(), Fault> {
    let without = |text: &str, open: &str, close: &str| {
        let mut plain = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest
            .split_once(open)
            .and_then(|(before, tail)| Some((before, tail.split_once(close)?.1)))
        {
            plain.push_str(before);
            rest = after;
        }
        plain + rest
    };
    let plain = without(&without(text, "<!--", "-->"), "<", ">");
    let mut line = String::with_capacity(plain.len());
    for word in plain.split(is_py_space).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    out.push(&unescape(&line))
}
