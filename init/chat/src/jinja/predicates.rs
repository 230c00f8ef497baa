//! jinja2's tests: what may follow `is`.

use super::ast::Comparison;
use super::eval::Evaluator;
use super::value::{Args, Kind, Object, Value};
use super::{Fault, filters, wrong};

const NAMES: &[&str] = &[
    "!=",
    "<",
    "<=",
    "==",
    ">",
    ">=",
    "boolean",
    "callable",
    "defined",
    "divisibleby",
    "eq",
    "equalto",
    "escaped",
    "even",
    "false",
    "filter",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "string",
    "test",
    "true",
    "undefined",
    "upper",
];

/// Python's `is`, as far as a template can tell.
fn is_same(a: &Value, b: &Value, evaluator: &Evaluator) -> Result<bool, Fault> {
    Ok(a.kind() == b.kind() && evaluator.budget.equal(a, b)?)
}

/// Whether `value` passes the test.
pub(super) fn test(
    evaluator: &mut Evaluator,
    name: &str,
    value: &Value,
    args: Args,
) -> Result<bool, Fault> {
    let budget = evaluator.budget.clone();
    let comparison = match name {
        "==" | "eq" | "equalto" => Some(Comparison::Eq),
        "!=" | "ne" => Some(Comparison::Ne),
        "<" | "lt" | "lessthan" => Some(Comparison::Lt),
        "<=" | "le" => Some(Comparison::Le),
        ">" | "gt" | "greaterthan" => Some(Comparison::Gt),
        ">=" | "ge" => Some(Comparison::Ge),
        "in" => Some(Comparison::In),
        _ => None,
    };
    if comparison.is_some() || matches!(name, "divisibleby" | "sameas") {
        let [Some(other)] = args.bind(name, ["other"])? else {
            return wrong(format!("the test '{name}' needs an argument"));
        };
        return match comparison {
            Some(comparison) => budget.compare(comparison, value, &other),
            None if name == "sameas" => is_same(value, &other, evaluator),
            None => {
                let rem = budget.math(super::ast::Math::Mod, value, &other)?;
                budget.equal(&rem, &Value::Int(0))
            }
        };
    }
    let [] = args.bind(name, [])?;
    Ok(match name {
        "boolean" => matches!(value, Value::Bool(_)),
        "callable" => match value {
            Value::Object(object) => !matches!(**object, Object::Namespace(_) | Object::Cycler(..)),
            // An undefined value has a method to be called: it fails.
            Value::Undefined(_) => true,
            _ => false,
        },
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "escaped" => value.is_safe(),
        "even" | "odd" => {
            let rem = budget.math(super::ast::Math::Mod, value, &Value::Int(2))?;
            budget.equal(&rem, &Value::Int(i128::from(name == "odd")))?
        }
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "filter" => value.as_str().is_some_and(filters::is_known),
        "test" => value.as_str().is_some_and(|name| NAMES.contains(&name)),
        "float" => matches!(value, Value::Float(_)),
        "integer" => matches!(value, Value::Int(_)),
        "number" => matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_)),
        "iterable" => value.is_iterable(),
        "lower" | "upper" => {
            let text = super::methods::to_str(evaluator, value.clone())?;
            let text = text.as_str().unwrap_or_default();
            budget.touch(text.len())?;
            let has_lower = text.chars().any(char::is_lowercase);
            let has_upper = text.chars().any(char::is_uppercase);
            has_lower != has_upper && has_lower == (name == "lower")
        }
        "mapping" => matches!(value, Value::Dict(_)),
        "none" => matches!(value, Value::None),
        // What has a length and can be subscripted.
        "sequence" => match value {
            Value::Str(_) | Value::Dict(_) | Value::Undefined(_) => true,
            Value::Seq(seq) => {
                let views = [Kind::Keys, Kind::Values, Kind::Items, Kind::Iterator];
                !views.contains(&seq.kind)
            }
            _ => false,
        },
        "string" => matches!(value, Value::Str(_)),
        unknown => return wrong(format!("No test named '{unknown}'.")),
    })
}
