//! Python's operators: arithmetic, comparison, membership, subscripts.

use std::cmp::Ordering;
use std::rc::Rc;

use super::ast::{Comparison, Math};
use super::budget::{Budget, Buffer};
use super::percent::percent;
use super::spec::truncate;
use super::value::{Dict, Kind, Object, Seq, Value, Why};
use super::{Fault, wrong};

fn unsupported<T>(operator: &str, left: &Value, right: &Value) -> Result<T, Fault> {
    for side in [left, right] {
        if let Value::Undefined(why) = side {
            return wrong(why.to_string());
        }
    }
    let (left, right) = (left.kind(), right.kind());
    wrong(format!(
        "unsupported operand types for {operator}: '{left}' and '{right}'"
    ))
}

const TOO_LARGE: &str = "an integer this large is not supported";

fn int(checked: Option<i128>) -> Result<Value, Fault> {
    checked
        .map(Value::Int)
        .ok_or_else(|| Fault::Wrong(TOO_LARGE.to_owned()))
}

impl Budget {
    pub(super) fn math(&self, math: Math, left: &Value, right: &Value) -> Result<Value, Fault> {
        self.spend(1)?;
        match (math, left, right) {
            (Math::Add, Value::Str(a), Value::Str(b)) => {
                let mut sum = Buffer::new(self);
                let safe = a.safe || b.safe;
                for side in [a, b] {
                    if safe && !side.safe {
                        super::filters::escape_into(&mut sum, &side.text)?;
                    } else {
                        sum.push(&side.text)?;
                    }
                }
                sum.marked(safe)
            }
            (Math::Add, Value::Seq(a), Value::Seq(b)) if a.is_like(b) => {
                let count = a.items.len().saturating_add(b.items.len());
                self.reserve(count.saturating_mul(size_of::<Value>()))?;
                let items = a.items.iter().chain(&b.items).cloned().collect();
                Ok(Value::Seq(self.seq(a.plain(), items)?))
            }
            (Math::Mod, Value::Str(format), args) => percent(self, &format.text, args, format.safe),
            (Math::Mul, Value::Str(_) | Value::Seq(_), Value::Int(_) | Value::Bool(_)) => {
                self.repeat(left, right)
            }
            (Math::Mul, Value::Int(_) | Value::Bool(_), Value::Str(_) | Value::Seq(_)) => {
                self.repeat(right, left)
            }
            _ => match (left.as_int(), right.as_int()) {
                (Some(a), Some(b)) => ints(math, a, b),
                _ => match (left.as_number(), right.as_number()) {
                    (Some(a), Some(b)) => floats(math, a, b),
                    _ => unsupported(symbol(math), left, right),
                },
            },
        }
    }

    fn repeat(&self, value: &Value, count: &Value) -> Result<Value, Fault> {
        let count = count.size("a count")?;
        match value {
            Value::Str(text) => {
                let mut out = Buffer::new(self);
                out.repeat(&text.text, count)?;
                out.marked(text.safe)
            }
            Value::Seq(seq) if matches!(seq.kind, Kind::List | Kind::Tuple | Kind::Group) => {
                let items = seq.items.len().saturating_mul(count);
                self.reserve(items.saturating_mul(size_of::<Value>()))?;
                self.spend(items)?;
                let items = seq.items.iter().cycle().take(items).cloned().collect();
                Ok(Value::Seq(self.seq(seq.plain(), items)?))
            }
            _ => unsupported("*", value, &Value::Int(0)),
        }
    }

    /// `-value`
    pub(super) fn negate(&self, value: &Value) -> Result<Value, Fault> {
        match (value, value.as_int()) {
            (Value::Float(float), _) => Ok(Value::Float(-float)),
            (_, Some(value)) => int(value.checked_neg()),
            _ => unsupported("-", value, value),
        }
    }

    /// `+value`
    pub(super) fn plus(&self, value: &Value) -> Result<Value, Fault> {
        match (value, value.as_int()) {
            (Value::Float(float), _) => Ok(Value::Float(*float)),
            (_, Some(value)) => Ok(Value::Int(value)),
            _ => unsupported("+", value, value),
        }
    }

    pub(super) fn compare(
        &self,
        comparison: Comparison,
        left: &Value,
        right: &Value,
    ) -> Result<bool, Fault> {
        let order = |wanted: fn(Ordering) -> bool| {
            let order = self.order(left, right)?;
            Ok(order.is_some_and(wanted))
        };
        match comparison {
            Comparison::Eq => self.equal(left, right),
            Comparison::Ne => Ok(!self.equal(left, right)?),
            Comparison::Lt => order(Ordering::is_lt),
            Comparison::Le => order(Ordering::is_le),
            Comparison::Gt => order(Ordering::is_gt),
            Comparison::Ge => order(Ordering::is_ge),
            Comparison::In => self.contains(right, left),
            Comparison::NotIn => Ok(!self.contains(right, left)?),
        }
    }

    /// Python's `==`.
    pub(super) fn equal(&self, left: &Value, right: &Value) -> Result<bool, Fault> {
        self.spend(1)?;
        match (left, right) {
            (Value::None, Value::None) | (Value::Undefined(_), Value::Undefined(_)) => Ok(true),
            (Value::Str(a), Value::Str(b)) => {
                self.touch(a.text.len().min(b.text.len()))?;
                Ok(a.text == b.text)
            }
            (Value::Seq(a), Value::Seq(b)) => {
                let comparable = a.is_like(b) || a.kind == b.kind || a.is_set(b);
                if !comparable || a.kind == Kind::Iterator {
                    return Ok(Rc::ptr_eq(a, b));
                }
                self.equal_items(a, b)
            }
            (Value::Dict(a), Value::Dict(b)) => {
                if a.entries.len() != b.entries.len() {
                    return Ok(false);
                }
                for (key, value) in &a.entries {
                    let Some(other) = b.get(self, key)? else {
                        return Ok(false);
                    };
                    if !self.equal(value, &other)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Value::Object(a), Value::Object(b)) => match (&**a, &**b) {
                (Object::Function(a), Object::Function(b)) => Ok(a == b),
                (Object::Namespace(a), Object::Namespace(b))
                | (Object::Loop(a), Object::Loop(b)) => Ok(a == b),
                _ => Ok(Rc::ptr_eq(a, b)),
            },
            _ => Ok(order_numbers(left, right) == Some(Ordering::Equal)),
        }
    }

    fn equal_items(&self, a: &Seq, b: &Seq) -> Result<bool, Fault> {
        if a.items.len() != b.items.len() {
            return Ok(false);
        }
        for (a, b) in a.items.iter().zip(&b.items) {
            if !self.equal(a, b)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Python's `<`, `>`; none for NaN.
    pub(super) fn order(&self, left: &Value, right: &Value) -> Result<Option<Ordering>, Fault> {
        self.spend(1)?;
        match (left, right) {
            (Value::Str(a), Value::Str(b)) => {
                self.touch(a.text.len().min(b.text.len()))?;
                Ok(Some(a.text.cmp(&b.text)))
            }
            (Value::Seq(a), Value::Seq(b)) if a.is_like(b) => {
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !self.equal(a, b)? {
                        return self.order(a, b);
                    }
                }
                Ok(Some(a.items.len().cmp(&b.items.len())))
            }
            _ if left.as_number().is_some() && right.as_number().is_some() => {
                Ok(order_numbers(left, right))
            }
            _ => unsupported("<", left, right),
        }
    }

    /// Python's `item in whole`.
    pub(super) fn contains(&self, whole: &Value, item: &Value) -> Result<bool, Fault> {
        match whole {
            Value::Str(text) => {
                let Some(part) = item.as_str() else {
                    return wrong(format!(
                        "'in <string>' requires string as left operand, not {}",
                        item.kind()
                    ));
                };
                self.touch(text.text.len())?;
                Ok(text.text.contains(part))
            }
            Value::Dict(dict) => Ok(dict.get(self, item)?.is_some()),
            Value::Seq(seq) if seq.kind == Kind::Iterator => {
                while let Some(known) = seq.pull()? {
                    if self.equal(&known, item)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            _ => {
                for known in &whole.iterate(self)?.items {
                    if self.equal(known, item)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }

    /// Python's `whole[index]`; none where it has no such item.
    pub(super) fn subscript(&self, whole: &Value, index: &Value) -> Result<Option<Value>, Fault> {
        self.spend(1)?;
        match whole {
            Value::Dict(dict) => dict.get(self, index),
            Value::Seq(seq) if seq.is_indexed() => {
                let Some(index) = index.as_int() else {
                    return Ok(None);
                };
                let at = position(index, seq.items.len());
                Ok(at.and_then(|at| seq.items.get(at)).cloned())
            }
            Value::Str(text) => {
                let Some(index) = index.as_int() else {
                    return Ok(None);
                };
                self.touch(text.text.len())?;
                let at = position(index, text.text.chars().count());
                let c = at.and_then(|at| text.text.chars().nth(at));
                c.map(|c| self.marked(c.to_string(), text.safe)).transpose()
            }
            Value::Undefined(why) => wrong(why.to_string()),
            _ => Ok(None),
        }
    }

    /// Python's `whole[start:stop:step]`.
    pub(super) fn slice(&self, whole: &Value, bounds: [Value; 3]) -> Result<Value, Fault> {
        let length = match whole {
            Value::Undefined(why) => return wrong(why.to_string()),
            Value::Str(_) => whole.len(self)?,
            Value::Seq(seq) if seq.is_indexed() => seq.items.len(),
            // As jinja2 has it: what cannot be subscripted is undefined.
            _ => return Ok(Value::Undefined(Why::Item(whole.kind()))),
        };
        let bound = |value: &Value| match value {
            Value::None => Ok(None),
            value => match value.as_int() {
                Some(int) => Ok(Some(int)),
                None => wrong("slice indices must be integers or None"),
            },
        };
        let [start, stop, step] = &bounds;
        let (limits, indices) = indices(
            length,
            bound(start)?,
            bound(stop)?,
            bound(step)?.unwrap_or(1),
        )?;
        match whole {
            Value::Str(text) => {
                self.touch(text.text.len())?;
                self.reserve(length.saturating_mul(size_of::<char>()))?;
                let chars: Vec<char> = text.text.chars().collect();
                let mut out = Buffer::new(self);
                let picked = indices.filter_map(|index| chars.get(index));
                out.push(&picked.collect::<String>())?;
                out.marked(text.safe)
            }
            Value::Seq(seq) if seq.is_indexed() => {
                self.reserve(length.saturating_mul(size_of::<Value>()))?;
                let items = indices.filter_map(|index| seq.items.get(index).cloned());
                let kind = match seq.kind {
                    Kind::Range(from, _, by) => {
                        let at = |index: i128| by.checked_mul(index)?.checked_add(from);
                        let (start, stop, step) = limits;
                        let range = at(start).zip(at(stop)).zip(by.checked_mul(step));
                        let Some(((start, stop), step)) = range else {
                            return wrong(TOO_LARGE);
                        };
                        Kind::Range(start, stop, step)
                    }
                    _ => seq.plain(),
                };
                Ok(Value::Seq(self.seq(kind, items.collect())?))
            }
            _ => Ok(Value::Undefined(Why::Item(whole.kind()))),
        }
    }

    /// A key of a dict must be hashable.
    pub(super) fn check_key(&self, key: &Value) -> Result<(), Fault> {
        self.spend(1)?;
        match key {
            Value::Seq(seq) if matches!(seq.kind, Kind::Tuple | Kind::Group) => {
                seq.items.iter().try_for_each(|item| self.check_key(item))
            }
            Value::Dict(_) => wrong("unhashable type: 'dict'"),
            Value::Seq(seq) if seq.kind == Kind::List => wrong("unhashable type: 'list'"),
            _ => Ok(()),
        }
    }

    /// Sets `key` among `entries`.
    pub(super) fn insert(
        &self,
        entries: &mut Vec<(Value, Value)>,
        key: Value,
        value: Value,
    ) -> Result<(), Fault> {
        self.check_key(&key)?;
        for (known, old) in entries.iter_mut() {
            if self.equal(known, &key)? {
                *old = value;
                return Ok(());
            }
        }
        entries.push((key, value));
        Ok(())
    }
}

impl Dict {
    pub(super) fn get(&self, budget: &Budget, key: &Value) -> Result<Option<Value>, Fault> {
        budget.check_key(key)?;
        for (known, value) in &self.entries {
            if budget.equal(known, key)? {
                return Ok(Some(value.clone()));
            }
        }
        Ok(None)
    }
}

impl Seq {
    /// Lists compare with and are added to lists, tuples to tuples.
    fn is_like(&self, other: &Self) -> bool {
        self.plain() == other.plain() && matches!(self.plain(), Kind::List | Kind::Tuple)
    }

    fn is_set(&self, other: &Self) -> bool {
        let range = |kind| matches!(kind, Kind::Range(..));
        range(self.kind) && range(other.kind)
    }

    /// The type of what is cut from it.
    pub(super) fn plain(&self) -> Kind {
        match self.kind {
            Kind::Group => Kind::Tuple,
            kind => kind,
        }
    }

    pub(super) fn is_indexed(&self) -> bool {
        matches!(
            self.kind,
            Kind::List | Kind::Tuple | Kind::Group | Kind::Range(..)
        )
    }
}

/// How two numbers compare, exactly; `None` for NaN and for what is not a number.
fn order_numbers(left: &Value, right: &Value) -> Option<Ordering> {
    match (left.as_int(), right.as_int(), left, right) {
        (Some(a), Some(b), ..) => Some(a.cmp(&b)),
        (Some(int), None, _, Value::Float(float)) => order_mixed(int, *float),
        (None, Some(int), Value::Float(float), _) => {
            order_mixed(int, *float).map(Ordering::reverse)
        }
        (_, _, Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        _ => None,
    }
}

/// How an integer compares with a float.
fn order_mixed(int: i128, float: f64) -> Option<Ordering> {
    match truncate(float) {
        Ok(whole) => Some(
            int.cmp(&whole)
                .then_with(|| 0.0_f64.total_cmp(&(float.fract() + 0.0))),
        ),
        // Larger than any integer, or no number.
        Err(_) => 0.0_f64.partial_cmp(&float),
    }
}

fn symbol(math: Math) -> &'static str {
    match math {
        Math::Add => "+",
        Math::Sub => "-",
        Math::Mul => "*",
        Math::Div => "/",
        Math::FloorDiv => "//",
        Math::Mod => "%",
        Math::Pow => "**",
    }
}

const ZERO: &str = "division by zero";

#[expect(clippy::cast_precision_loss, reason = "as Python converts")]
fn ints(math: Math, a: i128, b: i128) -> Result<Value, Fault> {
    match math {
        Math::Add => int(a.checked_add(b)),
        Math::Sub => int(a.checked_sub(b)),
        Math::Mul => int(a.checked_mul(b)),
        Math::Div | Math::FloorDiv | Math::Mod if b == 0 => wrong(ZERO),
        Math::Div => Ok(Value::Float(a as f64 / b as f64)),
        Math::FloorDiv => int(floor_div(a, b)),
        Math::Mod => int(floor_div(a, b)
            .and_then(|quotient| quotient.checked_mul(b))
            .and_then(|whole| a.checked_sub(whole))),
        Math::Pow => match u32::try_from(b) {
            Ok(exponent) => int(a.checked_pow(exponent)),
            Err(_) if b < 0 => floats(math, a as f64, b as f64),
            Err(_) if matches!(a, 0 | 1) => Ok(Value::Int(a)),
            Err(_) => wrong(TOO_LARGE),
        },
    }
}

fn floor_div(a: i128, b: i128) -> Option<i128> {
    let quotient = a.checked_div(b)?;
    let inexact = a.checked_rem(b)? != 0;
    if inexact && (a < 0) != (b < 0) {
        return quotient.checked_sub(1);
    }
    Some(quotient)
}

fn floats(math: Math, a: f64, b: f64) -> Result<Value, Fault> {
    let divides = matches!(math, Math::Div | Math::FloorDiv | Math::Mod);
    if b == 0.0 && divides || a == 0.0 && b < 0.0 && math == Math::Pow {
        return wrong(ZERO);
    }
    // Python's: the remainder has the divisor's sign.
    let rem = a % b;
    let turned = rem != 0.0 && (rem < 0.0) != (b < 0.0);
    let floor_div = || {
        let quotient = (a - rem) / b - if turned { 1.0 } else { 0.0 };
        if quotient == 0.0 {
            return 0.0_f64.copysign(a / b);
        }
        let whole = quotient.floor();
        whole + if quotient - whole > 0.5 { 1.0 } else { 0.0 }
    };
    let result = match math {
        Math::Add => a + b,
        Math::Sub => a - b,
        Math::Mul => a * b,
        Math::Div => a / b,
        Math::FloorDiv => floor_div(),
        Math::Mod if turned => rem + b,
        Math::Mod if rem == 0.0 => 0.0_f64.copysign(b),
        Math::Mod => rem,
        Math::Pow => {
            let power = a.powf(b);
            if power.is_nan() && !a.is_nan() && !b.is_nan() {
                return wrong("complex numbers are not supported");
            }
            if power.is_infinite() && a.is_finite() && b.is_finite() {
                return wrong("the result is too large");
            }
            power
        }
    };
    Ok(Value::Float(result))
}

/// Where `index`, from the end if negative, is among `length`.
fn position(index: i128, length: usize) -> Option<usize> {
    let length = i128::try_from(length).ok()?;
    let index = if index < 0 {
        index.checked_add(length)?
    } else {
        index
    };
    usize::try_from(index).ok().filter(|_| index < length)
}

/// Where a slice begins, ends and how it goes, as Python's `slice.indices`, and the
/// positions that it picks.
fn indices(
    length: usize,
    start: Option<i128>,
    stop: Option<i128>,
    step: i128,
) -> Result<((i128, i128, i128), impl Iterator<Item = usize>), Fault> {
    if step == 0 {
        return wrong("slice step cannot be zero");
    }
    let length = i128::try_from(length).unwrap_or(i128::MAX);
    let (low, high) = if step < 0 {
        (-1, length.saturating_sub(1))
    } else {
        (0, length)
    };
    let clamp = |bound: i128| {
        let bound = if bound < 0 {
            bound.saturating_add(length)
        } else {
            bound
        };
        bound.clamp(low, high)
    };
    let start = start.map_or(if step < 0 { high } else { low }, clamp);
    let stop = stop.map_or(if step < 0 { low } else { high }, clamp);
    let within = move |at: &i128| if step < 0 { *at > stop } else { *at < stop };
    let positions = std::iter::successors(Some(start), move |at| at.checked_add(step));
    let positions = positions.take_while(within);
    let positions = positions.filter_map(|at| usize::try_from(at).ok());
    Ok(((start, stop, step), positions))
}
