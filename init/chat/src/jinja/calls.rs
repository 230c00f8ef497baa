//! What can be called: global functions, macros, methods, loops; and the
//! attributes of jinja2's own objects.

use std::cell::Cell;
use std::rc::Rc;

use super::eval::Evaluator;
use super::loops;
use super::methods::{call_method, has_method, to_str};
use super::numerals;
use super::value::{Args, Function, Kind, Object, Text, Value, Why};
use super::{Clock, Fault, wrong};
use crate::clock::strftime;

/// Longest range, as the sandbox has it.
const RANGE_MAX: i128 = 100_000;
/// What a conversion of `strftime` may come to, for each byte of it.
const DATE_GROWTH: usize = 64;

/// A method or attribute that `whole` has besides its items.
pub(super) fn attribute(
    evaluator: &mut Evaluator,
    whole: &Value,
    name: &Rc<Text>,
) -> Result<Option<Value>, Fault> {
    let method = || Value::Object(Rc::new(Object::Method(whole.clone(), Rc::clone(name))));
    match has_method(whole, &name.text) {
        Some(true) => return Ok(Some(method())),
        Some(false) => {}
        None => {
            let why = Why::Unsafe(whole.kind(), Rc::clone(name));
            return Ok(Some(Value::Undefined(why)));
        }
    }
    match whole {
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
            Ok(numerals::attribute(whole, &name.text))
        }
        Value::Seq(seq) if let Kind::Range(start, stop, step) = seq.kind => Ok(match &*name.text {
            "start" => Some(Value::Int(start)),
            "stop" => Some(Value::Int(stop)),
            "step" => Some(Value::Int(step)),
            _ => None,
        }),
        Value::Seq(seq) if seq.kind == Kind::Group => {
            let at = match &*name.text {
                "grouper" => 0,
                "list" => 1,
                _ => return Ok(None),
            };
            Ok(seq.items.get(at).cloned())
        }
        Value::Object(object) => match &**object {
            Object::Namespace(index) => {
                let entries = evaluator.namespace(*index);
                evaluator.budget.spend(entries.len())?;
                let found = entries
                    .iter()
                    .find(|(key, _)| key.as_str() == Some(&name.text));
                Ok(found.map(|(_, value)| value.clone()))
            }
            Object::Loop(id) => loops::attribute(evaluator, *id, &name.text, method),
            Object::Cycler(items, next) => Ok(match &*name.text {
                "current" => items.items.get(next.get()).cloned(),
                "next" | "reset" => Some(method()),
                _ => None,
            }),
            Object::Macro(definition, _) => match &*name.text {
                "name" => Ok(Some(
                    definition.name.clone().map_or(Value::None, Value::Str),
                )),
                "arguments" => {
                    let params = definition.params.iter();
                    let params = params.map(|(name, _)| Value::Str(Rc::clone(name)));
                    evaluator.budget.tuple(params.collect()).map(Some)
                }
                "catch_varargs" => Ok(Some(Value::Bool(definition.uses.varargs))),
                "catch_kwargs" => Ok(Some(Value::Bool(definition.uses.kwargs))),
                "caller" => Ok(Some(Value::Bool(definition.uses.caller))),
                _ => Ok(None),
            },
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}

pub(super) fn call(evaluator: &mut Evaluator, callee: &Value, args: Args) -> Result<Value, Fault> {
    evaluator.budget.spend(1)?;
    let object = match callee {
        Value::Object(object) => object,
        Value::Undefined(why) => return wrong(why.to_string()),
        other => return wrong(format!("'{}' object is not callable", other.kind())),
    };
    match &**object {
        Object::Function(function) => call_function(evaluator, *function, args),
        Object::Macro(definition, scope) => {
            evaluator.deeper(|evaluator| evaluator.call_macro(definition, *scope, args))
        }
        Object::Method(Value::Object(of), name) => method(evaluator, of, &name.text, args),
        Object::Method(of, name) => call_method(evaluator, of, &name.text, args),
        Object::Joiner(separator, used) => {
            let [] = args.bind("joiner", [])?;
            if used.replace(true) {
                return Ok(Value::Str(Rc::clone(separator)));
            }
            evaluator.budget.text("")
        }
        Object::Loop(id) => loops::recurse(evaluator, *id, args),
        Object::Namespace(_) | Object::Cycler(..) => {
            wrong(format!("'{}' object is not callable", callee.kind()))
        }
    }
}

/// Methods of jinja2's own objects.
fn method(
    evaluator: &mut Evaluator,
    of: &Rc<Object>,
    name: &str,
    args: Args,
) -> Result<Value, Fault> {
    match (&**of, name) {
        (Object::Cycler(items, next), "next") => {
            let at = next.get();
            let after = at.saturating_add(1);
            next.set(if after < items.items.len() { after } else { 0 });
            Ok(items.items.get(at).cloned().unwrap_or(Value::None))
        }
        (Object::Cycler(_, next), _) => {
            next.set(0);
            Ok(Value::None)
        }
        (Object::Loop(id), _) => loops::call_method(evaluator, *id, name, args),
        _ => wrong(format!("'{name}' is not a method")),
    }
}

fn call_function(
    evaluator: &mut Evaluator,
    function: Function,
    mut args: Args,
) -> Result<Value, Fault> {
    let budget = evaluator.budget.clone();
    match function {
        Function::Range => {
            let [a, b, step] = args.bind("range", ["start", "stop", "step"])?;
            let int = |value: &Option<Value>, default| match value {
                Some(value) => value.int("range's argument"),
                None => Ok(default),
            };
            let (start, stop) = match (&a, &b) {
                (None, _) => return wrong("range expected at least 1 argument, got 0"),
                (_, None) => (0, int(&a, 0)?),
                _ => (int(&a, 0)?, int(&b, 0)?),
            };
            range(evaluator, start, stop, int(&step, 1)?)
        }
        Function::Dict | Function::Namespace => {
            let mut entries = Vec::new();
            if args.positional.len() > 1 {
                return wrong("dict expected at most 1 argument");
            }
            match args.positional.pop() {
                None => {}
                Some(Value::Dict(dict)) => entries.clone_from(&dict.entries),
                Some(pairs) => {
                    for pair in &pairs.iterate(&budget)?.items {
                        let pair = pair.iterate(&budget)?;
                        let [key, value] = pair.items.as_slice() else {
                            return wrong("dict needs pairs");
                        };
                        budget.insert(&mut entries, key.clone(), value.clone())?;
                    }
                }
            }
            for (name, value) in args.named {
                budget.insert(&mut entries, Value::Str(name), value)?;
            }
            if function == Function::Dict {
                return budget.dict(entries);
            }
            evaluator.new_namespace(entries)
        }
        // Its text is random, and a rendering must not depend on chance.
        Function::Lipsum => wrong("'lipsum' is not supported: its text is random"),
        Function::Cycler => {
            if args.positional.is_empty() {
                return wrong("at least one item has to be provided");
            }
            let items = budget.seq(Kind::Tuple, args.positional)?;
            Ok(Value::Object(Rc::new(Object::Cycler(items, Cell::new(0)))))
        }
        Function::Joiner => {
            let [separator] = args.bind("joiner", ["sep"])?;
            let separator = match separator {
                Some(separator) => to_str(evaluator, separator)?,
                None => Value::Str(Text::literal(", ")),
            };
            let Value::Str(separator) = separator else {
                return Ok(Value::None);
            };
            let joiner = Object::Joiner(separator, Cell::new(false));
            Ok(Value::Object(Rc::new(joiner)))
        }
        Function::RaiseException => {
            let [message] = args.bind("raise_exception", ["message"])?;
            let message = to_str(evaluator, message.unwrap_or(Value::None))?;
            Err(Fault::Raised(
                message.as_str().unwrap_or_default().to_owned(),
            ))
        }
        Function::StrftimeNow => {
            let [format] = args.bind("strftime_now", ["format"])?;
            let Some(Value::Str(format)) = format else {
                return wrong("strftime_now needs a format");
            };
            budget.reserve(format.text.len().saturating_mul(DATE_GROWTH))?;
            match evaluator.clock {
                Clock::At(now_s) => budget.text(strftime(&format.text, now_s)),
                _ => budget.text("unknown"),
            }
        }
    }
}

fn range(evaluator: &Evaluator, start: i128, stop: i128, step: i128) -> Result<Value, Fault> {
    if step == 0 {
        return wrong("range() arg 3 must not be zero");
    }
    let distance = if step > 0 {
        stop.saturating_sub(start)
    } else {
        start.saturating_sub(stop)
    };
    let whole = distance
        .max(0)
        .checked_div(step.saturating_abs())
        .unwrap_or(0);
    if whole > RANGE_MAX {
        return wrong(format!("range too big: more than {RANGE_MAX} items"));
    }
    let items = std::iter::successors(Some(start), |at| at.checked_add(step))
        .take_while(|at| if step > 0 { *at < stop } else { *at > stop });
    let items: Vec<Value> = items.map(Value::Int).collect();
    let seq = evaluator
        .budget
        .seq(Kind::Range(start, stop, step), items)?;
    Ok(Value::Seq(seq))
}
