//! Methods of Python's `str`, numbers, `list`, `tuple` and `dict`, as far as the
//! sandbox lets a template call them. What needs `bytes` is refused.

use std::rc::Rc;

use super::braces::{Fields, format_braces};
use super::budget::{Budget, Buffer};
use super::eval::Evaluator;
use super::filters::{escape_into, markup_text};
use super::numerals;
use super::repr::write_str;
use super::strings::Method;
use super::value::{Args, Dict, Kind, Seq, Text, Value};
use super::{Fault, wrong};

const STR: &[&str] = &[
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "maketrans",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "translate",
    "upper",
    "zfill",
];
const SEQ: &[&str] = &["count", "index"];
/// Of markup alone.
const MARKUP: &[&str] = &["striptags", "unescape"];
/// Methods that take their arguments by name as well.
const NAMING: &[&str] = &["expandtabs", "format", "rsplit", "split", "splitlines"];
/// Methods that are refused: values of the type `bytes` do not exist here, and
/// nobody writes floats as C does.
const REFUSED: &[&str] = &["encode", "from_bytes", "fromhex", "to_bytes"];
const DICT: &[&str] = &["copy", "fromkeys", "get", "items", "keys", "values"];
/// Methods that change their value, which the sandbox forbids: a list's, and a dict's.
const UNSAFE_LIST: &[&str] = &[
    "append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort",
];
const UNSAFE_DICT: &[&str] = &["clear", "pop", "popitem", "setdefault", "update"];

/// Whether `value` has this method; none where it has, but may not be used.
pub(super) fn has_method(value: &Value, name: &str) -> Option<bool> {
    let (known, refused): (_, &[&str]) = match value {
        Value::Str(text) if text.safe && MARKUP.contains(&name) => return Some(true),
        Value::Str(_) if name == "encode" => return Some(true),
        Value::Str(_) => (STR, &[]),
        Value::Bool(_) | Value::Int(_) if matches!(name, "from_bytes" | "to_bytes") => {
            return Some(true);
        }
        Value::Float(_) if name == "fromhex" => return Some(true),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
            return Some(numerals::has_method(value, name));
        }
        Value::Dict(_) => (DICT, UNSAFE_DICT),
        Value::Seq(seq) => match seq.kind {
            Kind::List if name == "copy" => return Some(true),
            Kind::List => (SEQ, UNSAFE_LIST),
            Kind::Tuple | Kind::Group | Kind::Range(..) => (SEQ, &[]),
            _ => return Some(false),
        },
        _ => return Some(false),
    };
    if refused.contains(&name) {
        return None;
    }
    Some(known.contains(&name))
}

/// Calls a method that [`has_method`] knows.
pub(super) fn call_method(
    evaluator: &mut Evaluator,
    of: &Value,
    name: &str,
    args: Args,
) -> Result<Value, Fault> {
    let budget = evaluator.budget.clone();
    if REFUSED.contains(&name) {
        return wrong(format!("'{name}' is not supported"));
    }
    if let (Some((named, _)), false) = (args.named.first(), NAMING.contains(&name)) {
        return wrong(format!("{name} takes no keyword argument '{}'", named.text));
    }
    match of {
        Value::Str(text) => match name {
            "format" => {
                let mut fields = Fields::of(text.safe);
                let out = format_braces(evaluator, &text.text, &args, 0, &mut fields)?;
                out.marked(text.safe)
            }
            "format_map" => {
                let [map] = args.bind(name, ["mapping"])?;
                let mut args = Args::default();
                if let Some(Value::Dict(dict)) = map {
                    args.grow(&budget, 0, dict.entries.len())?;
                    for (key, value) in &dict.entries {
                        if let Value::Str(key) = key {
                            args.named.push((Rc::clone(key), value.clone()));
                        }
                    }
                }
                let mut fields = Fields::of(text.safe);
                let out = format_braces(evaluator, &text.text, &args, 0, &mut fields)?;
                out.marked(text.safe)
            }
            "join" => {
                let [items] = args.bind(name, ["iterable"])?;
                let items = items.unwrap_or(Value::None).iterate(&budget)?;
                budget.spend(items.items.len() / 4)?;
                let mut out = Buffer::new(&budget);
                for (index, item) in items.items.iter().enumerate() {
                    if index > 0 {
                        out.push(&text.text)?;
                    }
                    let Value::Str(item) = item else {
                        let kind = item.kind();
                        return wrong(format!("sequence item {index}: expected str, {kind} found"));
                    };
                    if text.safe && !item.safe {
                        escape_into(&mut out, &item.text)?;
                    } else {
                        out.push(&item.text)?;
                    }
                }
                out.marked(text.safe)
            }
            "maketrans" => make_table(&budget, args),
            "translate" => translate(evaluator, text, args),
            "striptags" | "unescape" => {
                let [] = args.bind(name, [])?;
                markup_text(&budget, name, &text.text)
            }
            _ => {
                let args = if text.safe {
                    escaped(&budget, args)?
                } else {
                    args
                };
                Method { budget, name, text }.call(args)
            }
        },
        Value::Seq(seq) => seq_method(&budget, seq, name, args),
        Value::Dict(_) if name == "fromkeys" => {
            let [keys, value] = args.bind(name, ["iterable", "value"])?;
            let value = value.unwrap_or(Value::None);
            let mut entries = Vec::new();
            for key in &keys.unwrap_or(Value::None).iterate(&budget)?.items {
                budget.insert(&mut entries, key.clone(), value.clone())?;
            }
            budget.dict(entries)
        }
        Value::Dict(dict) => dict_method(&budget, dict, name, args),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
            numerals::call_method(&budget, of, name, args)
        }
        _ => wrong(format!("'{name}' is not a method")),
    }
}

/// Arguments of markup's methods become markup themselves.
fn escaped(budget: &Budget, mut args: Args) -> Result<Args, Fault> {
    for value in &mut args.positional {
        if let Value::Str(text) = value
            && !text.safe
        {
            let mut out = Buffer::new(budget);
            escape_into(&mut out, &text.text)?;
            *value = out.marked(true)?;
        }
    }
    Ok(args)
}

/// `str.maketrans`
fn make_table(budget: &Budget, args: Args) -> Result<Value, Fault> {
    let [from, to, gone] = args.bind("maketrans", ["x", "y", "z"])?;
    let number = |c: char| Value::Int(u32::from(c).into());
    let mut entries = Vec::new();
    match (&from, &to) {
        (Some(Value::Dict(dict)), None) => {
            for (key, value) in &dict.entries {
                let key = match key
                    .as_str()
                    .map(|text| (text.chars().next(), text.chars().count()))
                {
                    None => key.clone(),
                    Some((Some(c), 1)) => number(c),
                    Some(_) => return wrong("string keys in translate table must be of length 1"),
                };
                budget.insert(&mut entries, key, value.clone())?;
            }
        }
        (Some(Value::Str(from)), Some(Value::Str(to))) => {
            if from.text.chars().count() != to.text.chars().count() {
                return wrong("the first two maketrans arguments must have equal length");
            }
            for (from, to) in from.text.chars().zip(to.text.chars()) {
                budget.insert(&mut entries, number(from), number(to))?;
            }
            for c in optional_str(gone.as_ref())?.unwrap_or_default().chars() {
                budget.insert(&mut entries, number(c), Value::None)?;
            }
        }
        _ => return wrong("maketrans needs a dict or two texts"),
    }
    budget.dict(entries)
}

/// `str.translate`
fn translate(evaluator: &mut Evaluator, text: &Text, args: Args) -> Result<Value, Fault> {
    let [Some(table)] = args.bind("translate", ["table"])? else {
        return wrong("translate needs a table");
    };
    let mut out = Buffer::new(&evaluator.budget);
    for c in text.text.chars() {
        let found = evaluator
            .budget
            .subscript(&table, &Value::Int(u32::from(c).into()))?;
        match found {
            None => out.push_char(c)?,
            Some(Value::None) => {}
            Some(Value::Str(text)) => out.push(&text.text)?,
            Some(other) => {
                let code = u32::try_from(other.int("a character's number")?).ok();
                match code.and_then(char::from_u32) {
                    Some(c) => out.push_char(c)?,
                    None => return wrong("character mapping must be in range(0x110000)"),
                }
            }
        }
    }
    out.marked(text.safe)
}

fn seq_method(budget: &Budget, seq: &Rc<Seq>, name: &str, args: Args) -> Result<Value, Fault> {
    if name == "copy" {
        return Ok(Value::Seq(Rc::clone(seq)));
    }
    let [wanted, start, stop] = args.bind(name, ["value", "start", "stop"])?;
    let wanted = wanted.unwrap_or(Value::None);
    let bounds = [start.unwrap_or(Value::None), stop.unwrap_or(Value::None)];
    let (from, to) = range_of(seq.items.len(), &bounds)?;
    let within = seq.items.get(from..to).unwrap_or_default();
    let mut count = 0_usize;
    for (index, item) in within.iter().enumerate() {
        if budget.equal(item, &wanted)? {
            if name == "index" {
                return Ok(usize_value(from.saturating_add(index)));
            }
            count = count.saturating_add(1);
        }
    }
    if name == "index" {
        return wrong("the value is not in list");
    }
    Ok(usize_value(count))
}

fn dict_method(budget: &Budget, dict: &Rc<Dict>, name: &str, args: Args) -> Result<Value, Fault> {
    if name == "get" {
        let [key, default] = args.bind(name, ["key", "default"])?;
        let Some(key) = key else {
            return wrong("get expected at least 1 argument, got 0");
        };
        let found = dict.get(budget, &key)?;
        return Ok(found.or(default).unwrap_or(Value::None));
    }
    let [] = args.bind(name, [])?;
    let mut items = Vec::new();
    for (key, value) in &dict.entries {
        items.push(match name {
            "keys" => key.clone(),
            "values" => value.clone(),
            "items" => budget.tuple(vec![key.clone(), value.clone()])?,
            _ => return Ok(Value::Dict(Rc::clone(dict))),
        });
    }
    let kind = match name {
        "keys" => Kind::Keys,
        "values" => Kind::Values,
        "items" => Kind::Items,
        _ => return Ok(Value::Dict(Rc::clone(dict))),
    };
    Ok(Value::Seq(budget.seq(kind, items)?))
}

pub(super) fn usize_value(size: usize) -> Value {
    Value::Int(i128::try_from(size).unwrap_or(i128::MAX))
}

/// Where a search between two bounds looks, as a slice would.
pub(super) fn range_of(length: usize, bounds: &[Value; 2]) -> Result<(usize, usize), Fault> {
    let bound = |value: &Value, default: usize| match value {
        Value::None => Ok(default),
        value => {
            let int = value.int("a bound")?;
            let length_int = i128::try_from(length).unwrap_or(i128::MAX);
            let int = if int < 0 {
                int.saturating_add(length_int)
            } else {
                int
            };
            Ok(usize::try_from(int.max(0))
                .unwrap_or(length)
                .min(length.saturating_add(1)))
        }
    };
    let [start, stop] = bounds;
    Ok((bound(start, 0)?, bound(stop, length)?.min(length)))
}

pub(super) fn optional_str(value: Option<&Value>) -> Result<Option<&str>, Fault> {
    match value {
        None | Some(Value::None) => Ok(None),
        Some(Value::Str(text)) => Ok(Some(&text.text)),
        Some(other) => wrong(format!("expected str, got {}", other.kind())),
    }
}

pub(super) fn required_str<'a>(value: Option<&'a Value>, name: &str) -> Result<&'a str, Fault> {
    match optional_str(value)? {
        Some(text) => Ok(text),
        None => wrong(format!("{name} needs a str")),
    }
}

/// Python's `str(value)` as a value; what is text already stays itself.
pub(super) fn to_str(evaluator: &Evaluator, value: Value) -> Result<Value, Fault> {
    if matches!(value, Value::Str(_)) {
        return Ok(value);
    }
    let mut out = Buffer::new(&evaluator.budget);
    write_str(&mut out, &value, evaluator)?;
    out.finish()
}
