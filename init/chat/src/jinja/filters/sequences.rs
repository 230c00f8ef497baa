//! Filters of whatever has items.

use super::items::{fold, sort};
use crate::jinja::budget::Budget;
use crate::jinja::methods::{optional_str, usize_value};
use crate::jinja::value::{Args, Kind, Value, Why};
use crate::jinja::{Fault, wrong};

/// Filters of whatever has items.
pub(super) fn sequence(
    budget: &Budget,
    name: &str,
    value: Value,
    args: Args,
) -> Result<Value, Fault> {
    match name {
        "dictsort" => {
            let [sensitive, by, reverse] = args.bind(name, ["case_sensitive", "by", "reverse"])?;
            let by_value = match optional_str(by.as_ref())? {
                None | Some("key") => 0,
                Some("value") => 1,
                Some(_) => return wrong("You can only sort by either \"key\" or \"value\""),
            };
            if value.is_undefined() {
                return wrong("dictsort needs a mapping");
            }
            let items = sequence(budget, "items", value, Args::default())?.iterate(budget)?;
            let mut keyed = Vec::new();
            for item in &items.items {
                let key = budget.subscript(item, &Value::Int(by_value))?;
                let key = fold(budget, key.unwrap_or(Value::None), sensitive.as_ref())?;
                keyed.push((vec![key], item.clone()));
            }
            let reverse = reverse.is_some_and(|reverse| reverse.is_true());
            return budget.list(sort(budget, keyed, reverse, false)?);
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
                let first = seq.pull()?;
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
            if value.len(budget)? == 0 {
                return Ok(undefined("No random item, sequence was empty."));
            }
            if matches!(value, Value::Dict(_)) {
                return wrong("'random' needs a sequence, not dict");
            }
            let first = budget.subscript(&value, &Value::Int(0))?;
            Ok(first.unwrap_or_else(|| undefined("No random item, sequence was empty.")))
        }
        "reverse" => match &value {
            Value::Str(text) => {
                budget.reserve(text.text.len())?;
                budget.marked(text.text.chars().rev().collect::<String>(), text.safe)
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
    if name == "batch" && count == 0 {
        // The first is full before it has begun, and the next never is.
        let all = budget.list(value.iterate(budget)?.items.clone())?;
        let parts = if all.is_true() {
            vec![budget.list(Vec::new())?, all]
        } else {
            Vec::new()
        };
        return Ok(Value::Seq(budget.seq(Kind::Iterator, parts)?));
    }
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
