//! Filters that look at each item, maybe at an attribute of it.

use std::cmp::Ordering;
use std::rc::Rc;

use super::filter;
use crate::jinja::ast::Math;
use crate::jinja::budget::{Budget, Buffer};
use crate::jinja::eval::Evaluator;
use crate::jinja::methods::to_str;
use crate::jinja::repr::write_repr;
use crate::jinja::value::{Args, Kind, Seq, Value, Why};
use crate::jinja::{Fault, predicates, wrong};

/// What an item with its keys costs beside them, while it is sorted, too.
const KEYED_BYTES: usize = 2 * size_of::<(Vec<Value>, Value)>();

/// Texts compare without their case, unless told otherwise.
pub(super) fn fold(budget: &Budget, key: Value, sensitive: Option<&Value>) -> Result<Value, Fault> {
    match &key {
        Value::Str(text) if !sensitive.is_some_and(Value::is_true) => {
            budget.text(text.text.to_lowercase())
        }
        _ => Ok(key),
    }
}

/// Sorts by the keys; a comparison that fails ends it. Keys that are `lists` may be
/// equal although nothing in them has an order.
pub(super) fn sort(
    budget: &Budget,
    keyed: Vec<(Vec<Value>, Value)>,
    reverse: bool,
    lists: bool,
) -> Result<Vec<Value>, Fault> {
    let order = |a: &[Value], b: &[Value]| {
        for (a, b) in a.iter().zip(b) {
            if !(budget.equal(a, b)? && lists) {
                match budget.order(a, b)? {
                    None | Some(Ordering::Equal) => {}
                    Some(found) => return Ok(found),
                }
            }
        }
        Ok(Ordering::Equal)
    };
    let sorted = merge_sort(keyed, &|a, b| {
        let found = if reverse {
            order(&a.0, &b.0)
        } else {
            order(&b.0, &a.0)
        };
        found.map(Ordering::is_lt)
    })?;
    Ok(sorted.into_iter().map(|(_, value)| value).collect())
}

/// Sorts so that what is `after` another, as far as that goes, comes after it. The
/// standard library's sort panics where keys have no order among them: NaN has none.
fn merge_sort<T>(
    mut items: Vec<T>,
    after: &impl Fn(&T, &T) -> Result<bool, Fault>,
) -> Result<Vec<T>, Fault> {
    if items.len() < 2 {
        return Ok(items);
    }
    let mut merged = Vec::with_capacity(items.len());
    let right = items.split_off(items.len().div_ceil(2));
    let mut left = merge_sort(items, after)?.into_iter().peekable();
    let mut right = merge_sort(right, after)?.into_iter().peekable();
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let first = if after(a, b)? { &mut right } else { &mut left };
        merged.extend(first.next());
    }
    merged.extend(left.chain(right));
    Ok(merged)
}

/// What an `attribute` argument names in an item: "a.0.b".
struct Path {
    keys: Rc<Seq>,
    /// A text, of whose parts any may be missing.
    dotted: bool,
}

impl Path {
    fn new(budget: &Budget, attribute: &Value) -> Result<Self, Fault> {
        let mut keys = Vec::new();
        match attribute {
            Value::None => {}
            Value::Str(path) => {
                budget.reserve(path.text.len().saturating_mul(size_of::<Value>()))?;
                for part in path.text.split('.') {
                    keys.push(match part.parse() {
                        Ok(index) if part.bytes().all(|b| b.is_ascii_digit()) => Value::Int(index),
                        _ => budget.text(part)?,
                    });
                }
            }
            index => keys.push(index.clone()),
        }
        Ok(Self {
            keys: budget.seq(Kind::Tuple, keys)?,
            dotted: matches!(attribute, Value::Str(_)),
        })
    }

    /// What it names in `item`.
    fn find(
        &self,
        evaluator: &mut Evaluator,
        item: &Value,
        default: Option<&Value>,
    ) -> Result<Value, Fault> {
        let mut value = item.clone();
        for key in &self.keys.items {
            value = evaluator.item(&value, key)?;
            if let (true, Some(default)) = (self.dotted && value.is_undefined(), default) {
                value = default.clone();
            }
        }
        Ok(value)
    }
}

/// Filters that look at each item, maybe at an attribute of it.
#[expect(clippy::too_many_lines, reason = "one arm for each filter")]
pub(super) fn over_items(
    evaluator: &mut Evaluator,
    budget: &Budget,
    name: &str,
    value: Value,
    args: Args,
) -> Result<Value, Fault> {
    match name {
        // Of what is false, whatever it is, they give nothing.
        "map" | "select" | "reject" | "selectattr" | "rejectattr" if !value.is_true() => {
            return Ok(Value::Seq(budget.seq(Kind::Iterator, Vec::new())?));
        }
        "map" | "select" | "reject" | "selectattr" | "rejectattr" => {
            let mut made = Vec::new();
            let done = if name == "map" {
                map(evaluator, budget, &value, args, &mut made)
            } else {
                select(evaluator, budget, name, &value, args, &mut made)
            };
            // What is wrong is found by whoever comes to it.
            return match done {
                Err(fault @ (Fault::Endless | Fault::Memory)) => Err(fault),
                done => Ok(Value::Seq(budget.iterator(made, done.err())?)),
            };
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
    let sensitive = get("case_sensitive");
    let paths = match &attribute {
        // Attributes to sort by may be several.
        Value::Str(names) if name == "sort" && names.text.contains(',') => {
            let names = names.text.split(',');
            let path = |name: &str| Path::new(budget, &budget.text(name.trim())?);
            names.map(path).collect::<Result<Vec<_>, Fault>>()?
        }
        attribute => vec![Path::new(budget, attribute)?],
    };
    let mut keyed = Vec::new();
    let mut charge = budget.charge(0)?;
    let keys_bytes = paths.len().saturating_mul(size_of::<Value>());
    for item in &items.items {
        budget.spend(1)?;
        charge.grow(KEYED_BYTES.saturating_add(keys_bytes))?;
        let mut keys = Vec::with_capacity(paths.len());
        for path in &paths {
            let key = path.find(evaluator, item, default.as_ref())?;
            keys.push(if matches!(name, "sum" | "join") {
                key
            } else {
                fold(budget, key, sensitive.as_ref())?
            });
        }
        keyed.push((keys, item.clone()));
    }
    match name {
        "sort" => {
            let reverse = get("reverse").is_some_and(|reverse| reverse.is_true());
            budget.list(sort(budget, keyed, reverse, true)?)
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
            paths.first(),
            default.as_ref(),
            sensitive.as_ref(),
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
    path: Option<&Path>,
    default: Option<&Value>,
    sensitive: Option<&Value>,
) -> Result<Value, Fault> {
    let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
    for item in sort(budget, keyed, false, false)? {
        let shown = match path {
            Some(path) => path.find(evaluator, &item, default)?,
            None => item.clone(),
        };
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
    mapped: &mut Vec<Value>,
) -> Result<(), Fault> {
    let (source, from) = value.drain(budget)?;
    let items = source.items.iter().skip(from);
    if args.positional.is_empty() {
        let Some(attribute) = args.take("attribute") else {
            return wrong("map requires a filter argument");
        };
        let default = args.take("default");
        let [] = args.bind("map", [])?;
        let path = Path::new(budget, &attribute)?;
        for item in items {
            budget.spend(1)?;
            mapped.push(path.find(evaluator, item, default.as_ref())?);
        }
    } else {
        let Value::Str(name) = args.positional.remove(0) else {
            return wrong("map requires the name of a filter");
        };
        for item in items {
            let args = args.copy(budget)?;
            mapped.push(
                evaluator.deeper(|evaluator| filter(evaluator, &name.text, item.clone(), args))?,
            );
        }
    }
    source.fault.clone().map_or(Ok(()), Err)
}

fn select(
    evaluator: &mut Evaluator,
    budget: &Budget,
    name: &str,
    value: &Value,
    mut args: Args,
    kept: &mut Vec<Value>,
) -> Result<(), Fault> {
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
    let path = Path::new(budget, &attribute)?;
    let (source, from) = value.drain(budget)?;
    for item in source.items.iter().skip(from) {
        budget.spend(1)?;
        let looked_at = path.find(evaluator, item, None)?;
        let passes = match &test {
            None => looked_at.is_true(),
            Some(test) => {
                let args = args.copy(budget)?;
                let name = test.as_str().unwrap_or_default();
                predicates::test(evaluator, name, &looked_at, args)?
            }
        };
        if passes == wanted {
            kept.push(item.clone());
        }
    }
    source.fault.clone().map_or(Ok(()), Err)
}
