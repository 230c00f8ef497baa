//! jinja2's filters. `random` gives the first item: a rendering must not
//! depend on chance. `urlize` and `pprint`'s line breaks are left out.

use std::cmp::Ordering;
use std::rc::Rc;

use super::ast::Math;
use super::budget::{Budget, Buffer};
use super::eval::Evaluator;
use super::format::{percent, truncate, write_repr};
use super::json::to_json;
use super::methods::{
    capitalize, center, lines, optional_str, replace, strip, to_str, usize_value,
};
use super::value::{Args, Kind, Text, Value, Why};
use super::{Fault, is_py_space, predicates, wrapping, wrong};

const NAMES: &[&str] = &[
    "abs",
    "attr",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "filesizeformat",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "pprint",
    "random",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "striptags",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "wordcount",
    "wordwrap",
    "xmlattr",
];

pub(super) fn is_known(name: &str) -> bool {
    NAMES.contains(&name)
}

/// `value|name(args)`
pub(super) fn filter(
    evaluator: &mut Evaluator,
    name: &str,
    value: Value,
    args: Args,
) -> Result<Value, Fault> {
    let budget = evaluator.budget.clone();
    budget.spend(1)?;
    match name {
        "map" | "select" | "reject" | "selectattr" | "rejectattr" | "sort" | "unique" | "min"
        | "max" | "groupby" | "sum" | "join" | "attr" | "pprint" => {
            over_items(evaluator, &budget, name, value, args)
        }
        "d" | "default" => {
            let [default, boolean] = args.bind(name, ["default_value", "boolean"])?;
            let boolean = boolean.is_some_and(|boolean| boolean.is_true());
            if value.is_undefined() || boolean && !value.is_true() {
                return default.map_or_else(|| budget.text(""), Ok);
            }
            Ok(value)
        }
        "tojson" => to_json(&budget, &value, args),
        "safe" | "e" | "escape" | "forceescape" | "striptags" | "xmlattr" | "urlencode" => {
            markup(evaluator, &budget, name, value, args)
        }
        "abs" | "int" | "float" | "round" | "filesizeformat" => {
            number(evaluator, &budget, name, value, args)
        }
        "count" | "length" | "list" | "first" | "last" | "random" | "reverse" | "items"
        | "dictsort" | "batch" | "slice" => sequence(&budget, name, value, args),
        "format" => {
            let Args { positional, named } = args;
            if !named.is_empty() && !positional.is_empty() {
                return wrong("can't handle positional and keyword arguments at the same time");
            }
            let format = to_str(evaluator, value)?;
            let args = if named.is_empty() {
                budget.tuple(positional)?
            } else {
                let named = named
                    .into_iter()
                    .map(|(name, value)| (Value::Str(name), value));
                budget.dict(named.collect())?
            };
            percent(
                &budget,
                format.as_str().unwrap_or_default(),
                &args,
                format.is_safe(),
            )
        }
        _ => text(evaluator, &budget, name, value, args),
    }
}

/// Filters of texts.
fn text(
    evaluator: &mut Evaluator,
    budget: &Budget,
    name: &str,
    value: Value,
    args: Args,
) -> Result<Value, Fault> {
    if !is_known(name) {
        return wrong(format!("No filter named '{name}'."));
    }
    let value = to_str(evaluator, value)?;
    let text = value.as_str().unwrap_or_default();
    let safe = value.is_safe();
    budget.reserve(text.len().saturating_mul(3))?;
    match name {
        "replace" => {
            let [old, new, count] = args.bind(name, ["old", "new", "count"])?;
            let old = to_str(evaluator, old.unwrap_or(Value::None))?;
            let new = to_str(evaluator, new.unwrap_or(Value::None))?;
            let count = match count {
                None | Some(Value::None) => -1,
                Some(count) => count.int("count")?,
            };
            let (old, new) = (
                old.as_str().unwrap_or_default(),
                new.as_str().unwrap_or_default(),
            );
            replace(budget, text, old, new, count)?.finish()
        }
        "trim" => {
            let [chars] = args.bind(name, ["chars"])?;
            budget.marked(
                strip(text, optional_str(chars.as_ref())?, true, true).to_owned(),
                safe,
            )
        }
        "center" => {
            let [width] = args.bind(name, ["width"])?;
            let width = width.map_or(Ok(80), |width| width.size("width"))?;
            let mut out = Buffer::new(budget);
            center(&mut out, text, width, " ")?;
            out.marked(safe)
        }
        "indent" => indent(budget, text, safe, args),
        "truncate" => truncate_text(budget, &value, text, args),
        "wordwrap" => wrapping::wordwrap(budget, text, args),
        _ => {
            let [] = args.bind(name, [])?;
            match name {
                "upper" => budget.marked(text.to_uppercase(), safe),
                "lower" => budget.marked(text.to_lowercase(), safe),
                "capitalize" => budget.marked(capitalize(text), safe),
                "title" => budget.marked(title(text), safe),
                "wordcount" => {
                    let is_word = |c: char| c.is_alphanumeric() || c == '_';
                    let words = text.split(|c| !is_word(c)).filter(|word| !word.is_empty());
                    Ok(usize_value(words.count()))
                }
                _ => Ok(value),
            }
        }
    }
}

/// jinja2's own: words begin after these characters alone.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut begins = true;
    for c in text.chars() {
        if begins {
            out.extend(c.to_uppercase());
        } else {
            out.extend(c.to_lowercase());
        }
        begins = is_py_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
    }
    out
}

fn indent(budget: &Budget, text: &str, safe: bool, args: Args) -> Result<Value, Fault> {
    let [width, first, blank] = args.bind("indent", ["width", "first", "blank"])?;
    let is_true = |flag: Option<Value>| flag.is_some_and(|flag| flag.is_true());
    let (first, blank) = (is_true(first), is_true(blank));
    let mut indention = Buffer::new(budget);
    match &width {
        Some(Value::Str(text)) => indention.push(&text.text)?,
        Some(width) => indention.repeat(" ", width.size("width")?)?,
        None => indention.push("    ")?,
    }
    let mut out = Buffer::new(budget);
    let with_end = format!("{text}\n");
    for (index, line) in lines(&with_end, false).enumerate() {
        if index > 0 {
            out.push("\n")?;
        }
        let indents = if index == 0 {
            first
        } else {
            blank || !line.is_empty()
        };
        if indents {
            out.push(&indention.text)?;
        }
        out.push(line)?;
    }
    out.marked(safe)
}

fn truncate_text(budget: &Budget, value: &Value, text: &str, args: Args) -> Result<Value, Fault> {
    let names = ["length", "killwords", "end", "leeway"];
    let [length, killwords, end, leeway] = args.bind("truncate", names)?;
    let length = length.map_or(Ok(255), |length| length.size("length"))?;
    let end = optional_str(end.as_ref())?.unwrap_or("...");
    let leeway = match leeway {
        None | Some(Value::None) => 5,
        Some(leeway) => leeway.size("leeway")?,
    };
    let end_length = end.chars().count();
    if length < end_length {
        return wrong(format!("expected length >= {end_length}, got {length}"));
    }
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(value.clone());
    }
    let cut: String = text
        .chars()
        .take(length.saturating_sub(end_length))
        .collect();
    let kept = if killwords.is_some_and(|killwords| killwords.is_true()) {
        cut.as_str()
    } else {
        cut.rsplit_once(' ').map_or(cut.as_str(), |(kept, _)| kept)
    };
    budget.text(format!("{kept}{end}"))
}

pub(super) fn escape_into(out: &mut Buffer, text: &str) -> Result<(), Fault> {
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
fn markup(
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
    let entities = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&#39;", "'"),
        ("&#34;", "\""),
        ("&amp;", "&"),
    ];
    for (entity, c) in entities {
        line = line.replace(entity, c);
    }
    out.push(&line)
}

/// Filters of numbers.
fn number(
    evaluator: &mut Evaluator,
    budget: &Budget,
    name: &str,
    value: Value,
    args: Args,
) -> Result<Value, Fault> {
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
            let bytes = match filter(evaluator, "float", value, Args::default())? {
                Value::Float(bytes) => bytes,
                _ => 0.0,
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
    let prefix = match base {
        16 => "0x",
        8 => "0o",
        2 => "0b",
        _ => "",
    };
    let digits = lower.strip_prefix(prefix).unwrap_or(&lower);
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
        return format!("{} Bytes", bytes.trunc());
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

/// Filters of whatever has items.
fn sequence(budget: &Budget, name: &str, value: Value, args: Args) -> Result<Value, Fault> {
    match name {
        "dictsort" => {
            let [sensitive, by, reverse] = args.bind(name, ["case_sensitive", "by", "reverse"])?;
            let by_value = match optional_str(by.as_ref())? {
                None | Some("key") => 0,
                Some("value") => 1,
                Some(_) => return wrong("You can only sort by either \"key\" or \"value\""),
            };
            let items = sequence(budget, "items", value, Args::default())?.iterate(budget)?;
            let mut keyed = Vec::new();
            for item in &items.items {
                let key = budget.subscript(item, &Value::Int(by_value))?;
                let key = fold(budget, key.unwrap_or(Value::None), sensitive.as_ref())?;
                keyed.push((vec![key], item.clone()));
            }
            let reverse = reverse.is_some_and(|reverse| reverse.is_true());
            return budget.list(sort(budget, keyed, reverse)?);
        }
        "batch" | "slice" => return chunks(budget, name, &value, args),
        _ => {}
    }
    let [] = args.bind(name, [])?;
    let undefined = |what| Value::Undefined(Why::Empty(what));
    match name {
        "count" | "length" => Ok(usize_value(value.len(budget)?)),
        "list" => budget.list(value.iterate(budget)?.items.clone()),
        "first" => match &value {
            Value::Seq(seq) if seq.kind == Kind::Iterator => {
                let at = seq.next.get();
                seq.next.set(at.saturating_add(1).min(seq.items.len()));
                let first = seq.items.get(at).cloned();
                Ok(first.unwrap_or_else(|| undefined("No first item, sequence was empty.")))
            }
            Value::Str(text) => match text.text.chars().next() {
                Some(c) => budget.text(c.to_string()),
                None => Ok(undefined("No first item, sequence was empty.")),
            },
            value => {
                let first = value.iterate(budget)?.items.first().cloned();
                Ok(first.unwrap_or_else(|| undefined("No first item, sequence was empty.")))
            }
        },
        "last" => {
            if matches!(&value, Value::Seq(seq) if seq.kind == Kind::Iterator) {
                return wrong("'generator' object is not reversible");
            }
            let last = value.iterate(budget)?.items.last().cloned();
            Ok(last.unwrap_or_else(|| undefined("No last item, sequence was empty.")))
        }
        "random" => {
            let first = budget.subscript(&value, &Value::Int(0))?;
            Ok(first.unwrap_or_else(|| undefined("No random item, sequence was empty.")))
        }
        "reverse" => match &value {
            Value::Str(text) => {
                budget.reserve(text.text.len())?;
                budget.text(text.text.chars().rev().collect::<String>())
            }
            value => {
                let items = value.iterate(budget)?;
                let reversed = items.items.iter().rev().cloned().collect();
                Ok(Value::Seq(budget.seq(Kind::Iterator, reversed)?))
            }
        },
        _ => match &value {
            Value::Dict(dict) => {
                let pairs = dict.entries.iter();
                let pairs =
                    pairs.map(|(key, value)| budget.tuple(vec![key.clone(), value.clone()]));
                let pairs: Result<Vec<Value>, Fault> = pairs.collect();
                Ok(Value::Seq(budget.seq(Kind::Iterator, pairs?)?))
            }
            Value::Undefined(_) => Ok(Value::Seq(budget.seq(Kind::Iterator, Vec::new())?)),
            _ => wrong("Can only get item pairs from a mapping."),
        },
    }
}

/// `batch` and `slice`.
fn chunks(budget: &Budget, name: &str, value: &Value, args: Args) -> Result<Value, Fault> {
    let [count, fill] = args.bind(name, ["count", "fill_with"])?;
    let count = count.unwrap_or(Value::None).size("a count")?;
    let fill = fill.filter(|fill| !matches!(fill, Value::None));
    let items = value.iterate(budget)?;
    let items = &items.items;
    let mut parts = Vec::new();
    if name == "batch" {
        for part in items.chunks(count.max(1)) {
            let missing = count.saturating_sub(part.len());
            let mut part = part.to_vec();
            if let Some(fill) = &fill {
                budget.reserve(missing.saturating_mul(size_of::<Value>()))?;
                part.extend(std::iter::repeat_n(fill.clone(), missing));
            }
            parts.push(budget.list(part)?);
        }
    } else {
        let Some(least) = items.len().checked_div(count) else {
            return wrong("division by zero");
        };
        let extra = items.len().checked_rem(count).unwrap_or(0);
        let mut rest = items.as_slice();
        for index in 0..count {
            let size = least.saturating_add(usize::from(index < extra));
            let (part, after) = rest.split_at_checked(size).unwrap_or((rest, &[]));
            rest = after;
            let mut part = part.to_vec();
            if index >= extra {
                part.extend(fill.clone());
            }
            parts.push(budget.list(part)?);
        }
    }
    Ok(Value::Seq(budget.seq(Kind::Iterator, parts)?))
}

/// Texts compare without their case, unless told otherwise.
fn fold(budget: &Budget, key: Value, sensitive: Option<&Value>) -> Result<Value, Fault> {
    match &key {
        Value::Str(text) if !sensitive.is_some_and(Value::is_true) => {
            budget.text(text.text.to_lowercase())
        }
        _ => Ok(key),
    }
}

/// Sorts by the keys; a comparison that fails ends it.
fn sort(
    budget: &Budget,
    mut keyed: Vec<(Vec<Value>, Value)>,
    reverse: bool,
) -> Result<Vec<Value>, Fault> {
    let mut fault = None;
    let mut order = |a: &[Value], b: &[Value]| {
        for (a, b) in a.iter().zip(b) {
            if fault.is_some() {
                break;
            }
            let found = budget.equal(a, b).and_then(|equal| {
                if equal {
                    Ok(Ordering::Equal)
                } else {
                    Ok(budget.order(a, b)?.unwrap_or(Ordering::Equal))
                }
            });
            match found {
                Ok(Ordering::Equal) => {}
                Ok(found) => return found,
                Err(found) => fault = Some(found),
            }
        }
        Ordering::Equal
    };
    if reverse {
        keyed.sort_by(|a, b| order(&b.0, &a.0));
    } else {
        keyed.sort_by(|a, b| order(&a.0, &b.0));
    }
    match fault {
        Some(fault) => Err(fault),
        None => Ok(keyed.into_iter().map(|(_, value)| value).collect()),
    }
}

/// What an `attribute` argument names in `item`: "a.0.b".
fn attribute_of(
    evaluator: &mut Evaluator,
    item: &Value,
    attribute: &Value,
    default: Option<&Value>,
) -> Result<Value, Fault> {
    let path = match attribute {
        Value::None => return Ok(item.clone()),
        Value::Str(path) => Rc::clone(path),
        index => return evaluator.item(item, index),
    };
    let mut value = item.clone();
    for part in path.text.split('.') {
        let key = match part.parse() {
            Ok(index) if part.bytes().all(|b| b.is_ascii_digit()) => Value::Int(index),
            _ => Value::Str(Text::literal(part)),
        };
        value = evaluator.item(&value, &key)?;
        if let (true, Some(default)) = (value.is_undefined(), default) {
            value = default.clone();
        }
    }
    Ok(value)
}

/// Filters that look at each item, maybe at an attribute of it.
#[expect(clippy::too_many_lines, reason = "one arm for each filter")]
fn over_items(
    evaluator: &mut Evaluator,
    budget: &Budget,
    name: &str,
    value: Value,
    args: Args,
) -> Result<Value, Fault> {
    match name {
        "map" => return map(evaluator, budget, &value, args),
        "select" | "reject" | "selectattr" | "rejectattr" => {
            return select(evaluator, budget, name, &value, args);
        }
        "attr" => {
            let [Some(Value::Str(name))] = args.bind(name, ["name"])? else {
                return wrong("attr needs a name");
            };
            // Attributes alone, no items.
            let found = evaluator.attribute(&value, &name)?;
            let is_item = matches!(value, Value::Dict(_)) && !matches!(found, Value::Object(_));
            if is_item {
                return Ok(Value::Undefined(Why::Attribute(value.kind(), name)));
            }
            return Ok(found);
        }
        "pprint" => {
            let [] = args.bind(name, [])?;
            let mut out = Buffer::new(budget);
            write_repr(&mut out, &value, evaluator, 0)?;
            return out.finish();
        }
        _ => {}
    }
    let order: &[&str] = match name {
        "sort" => &["reverse", "case_sensitive", "attribute"],
        "groupby" => &["attribute", "default", "case_sensitive"],
        "sum" => &["attribute", "start", ""],
        "join" => &["d", "attribute", ""],
        _ => &["case_sensitive", "attribute", ""],
    };
    let [a, b, c] = order else {
        return wrong("a filter of this name is not known");
    };
    let bound = args.bind(name, [a, b, c])?;
    let get = |wanted: &str| {
        let at = order.iter().position(|name| *name == wanted);
        at.and_then(|at| bound.get(at)).cloned().flatten()
    };
    let attribute = get("attribute").unwrap_or(Value::None);
    let default = get("default");
    let items = value.iterate(budget)?;
    let mut keyed = Vec::new();
    // Attributes to sort by may be several.
    let several =
        matches!(&attribute, Value::Str(names) if names.text.contains(',')) && name == "sort";
    for item in &items.items {
        let mut keys = Vec::new();
        if let (true, Value::Str(names)) = (several, &attribute) {
            for name in names.text.split(',') {
                let name = budget.text(name.trim())?;
                let key = attribute_of(evaluator, item, &name, None)?;
                keys.push(fold(budget, key, get("case_sensitive").as_ref())?);
            }
        } else {
            let key = attribute_of(evaluator, item, &attribute, default.as_ref())?;
            keys.push(if matches!(name, "sum" | "join") {
                key
            } else {
                fold(budget, key, get("case_sensitive").as_ref())?
            });
        }
        keyed.push((keys, item.clone()));
    }
    match name {
        "sort" => {
            let reverse = get("reverse").is_some_and(|reverse| reverse.is_true());
            budget.list(sort(budget, keyed, reverse)?)
        }
        "sum" => {
            let mut sum = get("start").unwrap_or(Value::Int(0));
            if matches!(sum, Value::Str(_)) {
                return wrong("sum() can't sum strings");
            }
            for (keys, _) in &keyed {
                sum = budget.math(Math::Add, &sum, keys.first().unwrap_or(&Value::None))?;
            }
            Ok(sum)
        }
        "join" => {
            let separator = match get("d") {
                Some(separator) => to_str(evaluator, separator)?,
                None => budget.text("")?,
            };
            let mut out = Buffer::new(budget);
            for (index, (keys, _)) in keyed.iter().enumerate() {
                if index > 0 {
                    out.push(separator.as_str().unwrap_or_default())?;
                }
                let text = to_str(evaluator, keys.first().cloned().unwrap_or(Value::None))?;
                out.push(text.as_str().unwrap_or_default())?;
            }
            out.finish()
        }
        "unique" => {
            let mut seen: Vec<Vec<Value>> = Vec::new();
            let mut kept = Vec::new();
            'items: for (keys, item) in keyed {
                let key = keys.first().unwrap_or(&Value::None);
                budget.check_key(key)?;
                for old in &seen {
                    if budget.equal(old.first().unwrap_or(&Value::None), key)? {
                        continue 'items;
                    }
                }
                seen.push(keys);
                kept.push(item);
            }
            Ok(Value::Seq(budget.seq(Kind::Iterator, kept)?))
        }
        "groupby" => group(
            evaluator,
            budget,
            keyed,
            &attribute,
            default.as_ref(),
            get("case_sensitive").as_ref(),
        ),
        _ => {
            let mut best: Option<(Value, Value)> = None;
            for (keys, item) in keyed {
                let key = keys.into_iter().next().unwrap_or(Value::None);
                let wanted = if name == "min" {
                    Ordering::Less
                } else {
                    Ordering::Greater
                };
                let better = match &best {
                    Some((old, _)) => budget.order(&key, old)? == Some(wanted),
                    None => true,
                };
                if better {
                    best = Some((key, item));
                }
            }
            let none = "No aggregated item, sequence was empty.";
            Ok(best.map_or(Value::Undefined(Why::Empty(none)), |(_, item)| item))
        }
    }
}

fn group(
    evaluator: &mut Evaluator,
    budget: &Budget,
    keyed: Vec<(Vec<Value>, Value)>,
    attribute: &Value,
    default: Option<&Value>,
    sensitive: Option<&Value>,
) -> Result<Value, Fault> {
    let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
    for item in sort(budget, keyed, false)? {
        let shown = attribute_of(evaluator, &item, attribute, default)?;
        let key = fold(budget, shown.clone(), sensitive)?;
        match groups.last_mut() {
            Some((old, items)) if budget.equal(&fold(budget, old.clone(), sensitive)?, &key)? => {
                items.push(item);
            }
            _ => groups.push((shown, vec![item])),
        }
    }
    let mut out = Vec::new();
    for (key, items) in groups {
        let items = budget.list(items)?;
        out.push(Value::Seq(budget.seq(Kind::Group, vec![key, items])?));
    }
    budget.list(out)
}

fn map(
    evaluator: &mut Evaluator,
    budget: &Budget,
    value: &Value,
    mut args: Args,
) -> Result<Value, Fault> {
    let items = value.iterate(budget)?;
    let mut mapped = Vec::new();
    if args.positional.is_empty() {
        let Some(attribute) = args.take("attribute") else {
            return wrong("map requires a filter argument");
        };
        let default = args.take("default");
        let [] = args.bind("map", [])?;
        for item in &items.items {
            mapped.push(attribute_of(evaluator, item, &attribute, default.as_ref())?);
        }
    } else {
        let Value::Str(name) = args.positional.remove(0) else {
            return wrong("map requires the name of a filter");
        };
        for item in &items.items {
            let args = Args {
                positional: args.positional.clone(),
                named: args.named.clone(),
            };
            mapped.push(
                evaluator.deeper(|evaluator| filter(evaluator, &name.text, item.clone(), args))?,
            );
        }
    }
    Ok(Value::Seq(budget.seq(Kind::Iterator, mapped)?))
}

fn select(
    evaluator: &mut Evaluator,
    budget: &Budget,
    name: &str,
    value: &Value,
    mut args: Args,
) -> Result<Value, Fault> {
    let wanted = name.starts_with("select");
    let attribute = if name.ends_with("attr") {
        if args.positional.is_empty() {
            return wrong("Missing parameter for attribute name");
        }
        args.positional.remove(0)
    } else {
        Value::None
    };
    let test = if args.positional.is_empty() {
        None
    } else {
        Some(args.positional.remove(0))
    };
    let mut kept = Vec::new();
    for item in &value.iterate(budget)?.items {
        let looked_at = attribute_of(evaluator, item, &attribute, None)?;
        let passes = match &test {
            None => looked_at.is_true(),
            Some(test) => {
                let args = Args {
                    positional: args.positional.clone(),
                    named: args.named.clone(),
                };
                let name = test.as_str().unwrap_or_default();
                predicates::test(evaluator, name, &looked_at, args)?
            }
        };
        if passes == wanted {
            kept.push(item.clone());
        }
    }
    Ok(Value::Seq(budget.seq(Kind::Iterator, kept)?))
}
