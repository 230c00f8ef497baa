//! Python's `str.format`.

use super::budget::Buffer;
use super::eval::Evaluator;
use super::filters::escape_into;
use super::repr::{write_ascii, write_repr, write_str};
use super::spec::{Spec, number};
use super::value::{Args, Value};
use super::{Fault, wrong};

/// How the fields of a format name their arguments.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// Those without a number so far.
    count: usize,
    /// Whether they have numbers.
    manual: Option<bool>,
    /// The format is markup: what is not is escaped.
    safe: bool,
}

impl Fields {
    /// Those of a format that is markup, or not.
    pub(super) fn of(safe: bool) -> Self {
        Self {
            safe,
            ..Self::default()
        }
    }

    fn begin(&mut self, manual: bool) -> Result<(), Fault> {
        if *self.manual.get_or_insert(manual) == manual {
            return Ok(());
        }
        wrong("cannot switch between automatic field numbering and manual field specification")
    }
}

/// Python's `str.format`.
pub(super) fn format_braces(
    names: &mut Evaluator,
    format: &str,
    args: &Args,
    depth: usize,
    next: &mut Fields,
) -> Result<Buffer, Fault> {
    let mut out = Buffer::new(&names.budget);
    let mut rest = format;
    while let Some(at) = rest.find(['{', '}']) {
        let (text, tail) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out.push(text)?;
        if let Some(after) = tail.strip_prefix("{{").or_else(|| tail.strip_prefix("}}")) {
            out.push(tail.get(..1).unwrap_or_default())?;
            rest = after;
            continue;
        }
        let Some(inner) = tail.strip_prefix('{') else {
            return wrong("Single '}' encountered in format string");
        };
        let mut open = 1_usize;
        let end = inner.char_indices().find_map(|(at, c)| {
            match c {
                '{' => open = open.saturating_add(1),
                '}' => open = open.saturating_sub(1),
                _ => {}
            }
            (open == 0).then_some(at)
        });
        let Some((field, after)) = end.and_then(|end| inner.split_at_checked(end)) else {
            return wrong("expected '}' before end of string");
        };
        write_field(names, &mut out, field, args, depth, next)?;
        rest = after.get(1..).unwrap_or_default();
    }
    out.push(rest)?;
    Ok(out)
}

fn write_field(
    names: &mut Evaluator,
    out: &mut Buffer,
    field: &str,
    args: &Args,
    depth: usize,
    next: &mut Fields,
) -> Result<(), Fault> {
    if depth > 1 {
        return wrong("Max string recursion exceeded");
    }
    let (field, spec) = field.split_once(':').unwrap_or((field, ""));
    let (name, conversion) = field.split_once('!').unwrap_or((field, ""));
    let first_end = name.find(['.', '[']).unwrap_or(name.len());
    let (first, mut path) = name.split_at_checked(first_end).unwrap_or((name, ""));
    let index = match first.parse() {
        Ok(index) => {
            next.begin(true)?;
            Some(index)
        }
        Err(_) if first.is_empty() => {
            next.begin(false)?;
            let index = next.count;
            next.count = index.saturating_add(1);
            Some(index)
        }
        Err(_) => None,
    };
    names.budget.spend(args.named.len() / 8)?;
    let found = match index {
        Some(index) => args.positional.get(index),
        None => args
            .named
            .iter()
            .find(|(known, _)| *known.text == *first)
            .map(|(_, v)| v),
    };
    let Some(mut value) = found.cloned() else {
        return wrong(format!("format has no value for '{first}'"));
    };
    while !path.is_empty() {
        if let Some(after) = path.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let (attribute, rest) = after.split_at_checked(end).unwrap_or((after, ""));
            value = names.attribute(&value, &super::value::Text::literal(attribute))?;
            path = rest;
        } else {
            let inner = path.get(1..).unwrap_or_default();
            let Some((key, rest)) = inner.split_once(']') else {
                return wrong("Missing ']' in format string");
            };
            let key = match key.parse() {
                Ok(index) => Value::Int(index),
                Err(_) => names.budget.text(key)?,
            };
            value = names.item(&value, &key)?;
            path = rest;
        }
    }
    if !conversion.is_empty() {
        let mut text = Buffer::new(&names.budget);
        match conversion {
            "s" => write_str(&mut text, &value, names)?,
            "r" => write_repr(&mut text, &value, names, 0)?,
            "a" => write_ascii(&mut text, &value, names)?,
            _ => return wrong(format!("Unknown conversion specifier '{conversion}'")),
        }
        value = text.finish()?;
    }
    let spec = format_braces(names, spec, args, depth.saturating_add(1), next)?;
    if !next.safe || value.is_safe() {
        return format_one(out, &spec.text, &value, names);
    }
    let mut plain = Buffer::new(&names.budget);
    format_one(&mut plain, &spec.text, &value, names)?;
    escape_into(out, &plain.text)
}

/// Python's `format(value, spec)`.
fn format_one(out: &mut Buffer, text: &str, value: &Value, names: &Evaluator) -> Result<(), Fault> {
    let plain = !matches!(
        value,
        Value::Str(_) | Value::Int(_) | Value::Float(_) | Value::Bool(_)
    );
    if text.is_empty() || plain {
        if !text.is_empty() {
            return wrong(format!(
                "unsupported format string passed to {}",
                value.kind()
            ));
        }
        return write_str(out, value, names);
    }
    let spec = brace_spec(text)?;
    match value {
        Value::Str(inner) => {
            if !matches!(spec.kind, 's' | '\0') {
                return wrong(format!("unknown format code '{}' for a string", spec.kind));
            }
            let text: String = match spec.precision {
                Some(precision) => inner.text.chars().take(precision).collect(),
                None => inner.text.to_string(),
            };
            spec.pad(out, "", &text, '<')
        }
        Value::Float(float) => match spec.kind {
            '\0' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%' => spec.float(out, *float),
            kind => wrong(format!("unknown format code '{kind}' for a float")),
        },
        value => match spec.kind {
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%' => {
                spec.float(out, value.as_number().unwrap_or_default())
            }
            'c' => {
                let code = u32::try_from(value.int("a character")?).ok();
                match code.and_then(char::from_u32) {
                    Some(c) => spec.pad(out, "", c.encode_utf8(&mut [0; 4]), '<'),
                    None => wrong("%c arg not in range"),
                }
            }
            '\0' | 'd' | 'n' | 'x' | 'X' | 'o' | 'b' => spec.int(out, value.int("a number")?, true),
            kind => wrong(format!("unknown format code '{kind}' for an integer")),
        },
    }
}

fn brace_spec(text: &str) -> Result<Spec, Fault> {
    let mut spec = Spec::plain('\0');
    let is_align = |c: Option<char>| c.filter(|c| matches!(c, '<' | '>' | '^' | '='));
    let mut rest = text.chars();
    let mut ahead = text.chars();
    let (first, second) = (ahead.next(), ahead.next());
    if let (Some(fill), Some(align)) = (first, is_align(second)) {
        spec.fill = fill;
        spec.align = Some(align);
        rest = ahead;
    } else if let Some(align) = is_align(first) {
        spec.align = Some(align);
        rest.next();
    }
    let skip = |rest: &mut std::str::Chars<'_>, wanted: &[char]| {
        let found = rest.as_str().chars().next().filter(|c| wanted.contains(c));
        if found.is_some() {
            rest.next();
        }
        found
    };
    spec.sign = skip(&mut rest, &['+', ' ', '-']).filter(|sign| *sign != '-');
    spec.no_negative_zero = skip(&mut rest, &['z']).is_some();
    spec.alternate = skip(&mut rest, &['#']).is_some();
    if skip(&mut rest, &['0']).is_some() && spec.align.is_none() {
        spec.fill = '0';
        spec.align = Some('=');
    }
    spec.width = number(&mut rest).unwrap_or(0);
    spec.group = skip(&mut rest, &[',', '_']);
    if skip(&mut rest, &['.']).is_some() {
        spec.precision = Some(number(&mut rest).unwrap_or(0));
    }
    spec.kind = rest.next().unwrap_or('\0');
    if rest.next().is_some() {
        return wrong("Invalid format specifier");
    }
    Ok(spec)
}
