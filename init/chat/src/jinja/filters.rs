//! jinja2's filters. `random` gives the first item: a rendering must not
//! depend on chance. `pprint`'s line breaks are left out.

mod items;
mod markup;
mod numbers;
mod sequences;
mod texts;

use super::eval::Evaluator;
use super::json::to_json;
use super::methods::to_str;
use super::percent::percent;
use super::urlize::urlize;
use super::value::{Args, Value};
use super::{Fault, wrong};
pub(super) use markup::{escape_into, markup_text};

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
    "urlize",
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
    budget.touch(args.text_bytes().saturating_mul(3))?;
    match name {
        "map" | "select" | "reject" | "selectattr" | "rejectattr" | "sort" | "unique" | "min"
        | "max" | "groupby" | "sum" | "join" | "attr" | "pprint" => {
            items::over_items(evaluator, &budget, name, value, args)
        }
        "d" | "default" => {
            let [default, boolean] = args.bind(name, ["default_value", "boolean"])?;
            let boolean = boolean.is_some_and(|boolean| boolean.is_true());
            if value.is_undefined() || boolean && !value.is_true() {
                return default.map_or_else(|| budget.text(""), Ok);
            }
            Ok(value)
        }
        "urlize" => urlize(evaluator, value, args),
        "tojson" => to_json(&budget, &value, args),
        "safe" | "e" | "escape" | "forceescape" | "striptags" | "xmlattr" | "urlencode" => {
            markup::markup(evaluator, &budget, name, value, args)
        }
        "abs" | "int" | "float" | "round" | "filesizeformat" => {
            numbers::number(&budget, name, value, args)
        }
        "count" | "length" | "list" | "first" | "last" | "random" | "reverse" | "items"
        | "dictsort" | "batch" | "slice" => sequences::sequence(&budget, name, value, args),
        "format" => {
            let Args {
                positional, named, ..
            } = args;
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
        _ => texts::text(evaluator, &budget, name, value, args),
    }
}
