//! How values are written: `str`, `repr`, `%` and `str.format`.

use super::budget::{Budget, Buffer};
use super::eval::Evaluator;
use super::value::{Args, Kind, Object, Value};
use super::{Fault, wrong};

/// Longest number that a format pads or writes digits for.
const DIGITS_MAX: usize = 400;

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

/// A text in quotes, as Python's `repr` chooses them.
fn write_quoted(out: &mut Buffer, text: &str) -> Result<(), Fault> {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push_char(quote)?;
    for c in text.chars() {
        let code = u32::from(c);
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
            _ if code < 0x100 => out.display(format!("\\x{code:02x}"))?,
            _ if code < 0x1_0000 => out.display(format!("\\u{code:04x}"))?,
            _ => out.display(format!("\\U{code:08x}"))?,
        }
    }
    out.push_char(quote)
}

/// Python's `str.isprintable`, as far as it can be told without tables: no
/// controls, no white space but the space. Private use is left as it is: there
/// are the stand-ins of [`crate::guard`].
pub(super) fn is_printable(c: char) -> bool {
    let format = matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}');
    c == ' ' || !(c.is_control() || c.is_whitespace() || format)
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

/// How a value is to be written by `%` or `format`.
#[derive(Debug, Clone)]
struct Spec {
    fill: char,
    /// `<`, `>`, `^`, `=` or none.
    align: Option<char>,
    /// `+`, ` ` or none.
    sign: Option<char>,
    alternate: bool,
    group: Option<char>,
    width: usize,
    precision: Option<usize>,
    kind: char,
}

impl Spec {
    /// Of this kind, and nothing else is asked for.
    fn plain(kind: char) -> Self {
        Self {
            fill: ' ',
            align: None,
            sign: None,
            alternate: false,
            group: None,
            width: 0,
            precision: None,
            kind,
        }
    }

    fn pad(&self, out: &mut Buffer, sign: &str, body: &str, default: char) -> Result<(), Fault> {
        let length = sign.chars().count().saturating_add(body.chars().count());
        let missing = self.width.saturating_sub(length);
        let fill = self.fill.to_string();
        let (before, inner, after) = match self.align.unwrap_or(default) {
            '<' => (0, 0, missing),
            '^' => (missing / 2, 0, missing.div_ceil(2)),
            '=' => (0, missing, 0),
            _ => (missing, 0, 0),
        };
        out.repeat(&fill, before)?;
        out.push(sign)?;
        out.repeat(&fill, inner)?;
        out.push(body)?;
        out.repeat(&fill, after)
    }

    fn sign(&self, negative: bool) -> String {
        match self.sign {
            _ if negative => "-".to_owned(),
            Some(sign) => sign.to_string(),
            None => String::new(),
        }
    }

    fn int(&self, out: &mut Buffer, value: i128, upper_prefix: bool) -> Result<(), Fault> {
        let value_abs = value.unsigned_abs();
        let (mut digits, prefix) = match self.kind {
            'x' => (format!("{value_abs:x}"), "0x"),
            'X' => (
                format!("{value_abs:X}"),
                if upper_prefix { "0X" } else { "0x" },
            ),
            'o' => (format!("{value_abs:o}"), "0o"),
            'b' => (format!("{value_abs:b}"), "0b"),
            _ => (value_abs.to_string(), ""),
        };
        if let Some(precision) = self.precision {
            let missing = precision.min(DIGITS_MAX).saturating_sub(digits.len());
            digits.insert_str(0, &"0".repeat(missing));
        }
        if let Some(separator) = self.group {
            digits = group(&digits, separator);
        }
        let mut sign = self.sign(value < 0);
        if self.alternate {
            sign.push_str(prefix);
        }
        self.pad(out, &sign, &digits, '>')
    }

    fn float(&self, out: &mut Buffer, value: f64) -> Result<(), Fault> {
        let precision = self.precision.unwrap_or(6);
        if precision > DIGITS_MAX {
            return wrong("precision too large");
        }
        let (kind, scale) = match self.kind {
            '%' => ('f', 100.0),
            kind => (kind, 1.0),
        };
        let absolute = value.abs() * scale;
        let mut body = if absolute.is_nan() {
            "nan".to_owned()
        } else if absolute.is_infinite() {
            "inf".to_owned()
        } else {
            match kind.to_ascii_lowercase() {
                'e' => exponential(absolute, precision),
                'f' => format!("{absolute:.precision$}"),
                'g' => general(absolute, precision.max(1), self.alternate, -4),
                // No type: as str, but general with a precision.
                _ => match self.precision {
                    Some(precision) => {
                        let body = general(absolute, precision.max(1), false, -4);
                        let plain = body.chars().all(|c| c.is_ascii_digit());
                        body + if plain { ".0" } else { "" }
                    }
                    None => float_repr(absolute),
                },
            }
        };
        if kind.is_ascii_uppercase() {
            body = body.to_ascii_uppercase();
        }
        if let Some(separator) = self.group {
            let whole = body.find(['.', 'e']).unwrap_or(body.len());
            let (whole, rest) = body.split_at_checked(whole).unwrap_or((&body, ""));
            body = group(whole, separator) + rest;
        }
        if self.kind == '%' {
            body.push('%');
        }
        let negative = value.is_sign_negative() && !value.is_nan();
        self.pad(out, &self.sign(negative), &body, '>')
    }
}

fn group(digits: &str, separator: char) -> String {
    let mut out = String::new();
    let length = digits.len();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && length.saturating_sub(index).is_multiple_of(3) {
            out.push(separator);
        }
        out.push(digit);
    }
    out
}

/// C's `%e`.
fn exponential(value: f64, precision: usize) -> String {
    let written = format!("{value:.precision$e}");
    let (digits, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

/// C's `%g`.
fn general(value: f64, precision: usize, keep_zeros: bool, least: i32) -> String {
    let digits = precision.saturating_sub(1);
    let written = exponential(value, digits);
    let (mantissa, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| {
        if keep_zeros || !text.contains('.') {
            return text.to_owned();
        }
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let precision = i32::try_from(precision).unwrap_or(i32::MAX);
    if exponent < least || exponent >= precision {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.unsigned_abs());
    }
    let decimals = precision.saturating_sub(1).saturating_sub(exponent);
    let decimals = usize::try_from(decimals).unwrap_or(0);
    trim(&format!("{value:.decimals$}"))
}

/// Arguments of a `%`, taken one after the other.
struct Operands<'a> {
    items: &'a [Value],
    next: usize,
}

impl Operands<'_> {
    fn take(&mut self) -> Result<Value, Fault> {
        let item = self.items.get(self.next).cloned();
        self.next = self.next.saturating_add(1);
        item.ok_or_else(|| Fault::Wrong("not enough arguments for format string".to_owned()))
    }
}

/// Python's `format % args`.
pub(super) fn percent(
    budget: &Budget,
    format: &str,
    args: &Value,
    safe: bool,
) -> Result<Value, Fault> {
    let single = std::slice::from_ref(args);
    let tuple = matches!(args, Value::Seq(seq) if matches!(seq.kind, Kind::Tuple | Kind::Group));
    let items = match args {
        Value::Seq(seq) if tuple => &seq.items,
        _ => single,
    };
    let mut operands = Operands { items, next: 0 };
    let mut out = Buffer::new(budget);
    let names = Evaluator::nameless(budget);
    let mut rest = format.chars();
    let mut used_names = false;
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push_char(c)?;
            continue;
        }
        let mut named = None;
        if rest.as_str().starts_with('(') {
            let Some((name, after)) = rest.as_str().get(1..).and_then(|s| s.split_once(')')) else {
                return wrong("incomplete format key");
            };
            let Value::Dict(dict) = args else {
                return wrong("format requires a mapping");
            };
            let Some(value) = dict.get(budget, &budget.text(name)?)? else {
                return wrong(format!("format has no value for '{name}'"));
            };
            named = Some(value);
            used_names = true;
            rest = after.chars();
        }
        let spec = percent_spec(&mut rest, &mut operands)?;
        if spec.kind == '%' {
            out.push("%")?;
            continue;
        }
        let value = match named {
            Some(value) => value,
            None => operands.take()?,
        };
        convert(&mut out, &spec, &value, &names, safe)?;
    }
    let mapping = used_names || matches!(args, Value::Dict(_) | Value::Undefined(_));
    let listed = matches!(args, Value::Seq(_)) && !tuple;
    if operands.next < items.len() && !mapping && !listed {
        return wrong("not all arguments converted during string formatting");
    }
    out.marked(safe)
}

fn number(rest: &mut std::str::Chars<'_>) -> Option<usize> {
    let text = rest.as_str();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, after) = text.split_at_checked(end)?;
    *rest = after.chars();
    if digits.is_empty() {
        return None;
    }
    Some(digits.parse().unwrap_or(usize::MAX))
}

fn percent_spec(
    rest: &mut std::str::Chars<'_>,
    operands: &mut Operands<'_>,
) -> Result<Spec, Fault> {
    let mut spec = Spec::plain('s');
    let mut zero = false;
    while let Some(flag) = rest.as_str().chars().next() {
        match flag {
            '-' => spec.align = Some('<'),
            '+' => spec.sign = Some('+'),
            ' ' if spec.sign.is_none() => spec.sign = Some(' '),
            ' ' => {}
            '#' => spec.alternate = true,
            '0' => zero = true,
            _ => break,
        }
        rest.next();
    }
    let mut star = |rest: &mut std::str::Chars<'_>| {
        if !rest.as_str().starts_with('*') {
            return Ok(number(rest));
        }
        rest.next();
        operands.take()?.size("*").map(Some)
    };
    spec.width = star(rest)?.unwrap_or(0);
    if rest.as_str().starts_with('.') {
        rest.next();
        spec.precision = Some(star(rest)?.unwrap_or(0));
    }
    while rest.as_str().starts_with(['h', 'l', 'L']) {
        rest.next();
    }
    let Some(kind) = rest.next() else {
        return wrong("incomplete format");
    };
    spec.kind = kind;
    if zero && spec.align.is_none() && !matches!(kind, 's' | 'r' | 'a' | 'c') {
        spec.fill = '0';
        spec.align = Some('=');
    }
    Ok(spec)
}

/// Writes `value` as a conversion of `%` says.
fn convert(
    out: &mut Buffer,
    spec: &Spec,
    value: &Value,
    names: &Evaluator,
    safe: bool,
) -> Result<(), Fault> {
    match spec.kind {
        's' | 'r' | 'a' | 'c' => {
            let mut text = Buffer::new(&names.budget);
            match (spec.kind, value) {
                ('s', Value::Str(inner)) if safe && !inner.safe => {
                    super::filters::escape_into(&mut text, &inner.text)?;
                }
                ('s', value) => write_str(&mut text, value, names)?,
                ('c', Value::Int(code)) => {
                    let code = u32::try_from(*code).ok().and_then(char::from_u32);
                    let Some(code) = code else {
                        return wrong("%c arg not in range");
                    };
                    text.push_char(code)?;
                }
                ('c', Value::Str(one)) if one.text.chars().count() == 1 => text.push(&one.text)?,
                ('c', _) => return wrong("%c requires int or char"),
                _ => write_repr(&mut text, value, names, 0)?,
            }
            let text: String = match spec.precision {
                Some(precision) => text.text.chars().take(precision).collect(),
                None => text.text,
            };
            spec.pad(out, "", &text, '>')
        }
        'd' | 'i' | 'u' | 'x' | 'X' | 'o' => {
            let int = match value {
                Value::Float(float) if matches!(spec.kind, 'd' | 'i' | 'u') => truncate(*float)?,
                value => value.int("a number for a format")?,
            };
            spec.int(out, int, true)
        }
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => match value.as_number() {
            Some(float) => spec.float(out, float),
            None => wrong(format!("must be real number, not {}", value.kind())),
        },
        other => wrong(format!("unsupported format character '{other}'")),
    }
}

/// Python's `int` of a float.
#[expect(clippy::cast_possible_truncation, reason = "checked before")]
pub(super) fn truncate(float: f64) -> Result<i128, Fault> {
    if float.is_nan() || float.abs() >= 1e38 {
        return wrong("cannot convert float to an integer this large");
    }
    Ok(float.trunc() as i128)
}

/// Python's `str.format`.
pub(super) fn format_braces(
    names: &mut Evaluator,
    format: &str,
    args: &Args,
    depth: usize,
    next: &mut usize,
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
    next: &mut usize,
) -> Result<(), Fault> {
    if depth > 1 {
        return wrong("Max string recursion exceeded");
    }
    let (field, spec) = field.split_once(':').unwrap_or((field, ""));
    let (name, conversion) = field.split_once('!').unwrap_or((field, ""));
    let first_end = name.find(['.', '[']).unwrap_or(name.len());
    let (first, mut path) = name.split_at_checked(first_end).unwrap_or((name, ""));
    let index = if first.is_empty() {
        let index = *next;
        *next = next.saturating_add(1);
        Some(index)
    } else {
        first.parse().ok()
    };
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
    if matches!(conversion, "r" | "a" | "s") {
        let mut text = Buffer::new(&names.budget);
        match conversion {
            "s" => write_str(&mut text, &value, names)?,
            _ => write_repr(&mut text, &value, names, 0)?,
        }
        value = text.finish()?;
    }
    let spec = format_braces(names, spec, args, depth.saturating_add(1), next)?;
    format_one(out, &spec.text, &value, names)
}

/// Python's `format(value, spec)`.
fn format_one(out: &mut Buffer, text: &str, value: &Value, names: &Evaluator) -> Result<(), Fault> {
    let plain = !matches!(
        value,
        Value::Str(_) | Value::Int(_) | Value::Float(_) | Value::Bool(_)
    );
    if text.is_empty() || plain {
        if !text.is_empty() && !value.is_undefined() {
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
            '\0' if matches!(value, Value::Bool(_)) => write_str(out, value, names),
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
