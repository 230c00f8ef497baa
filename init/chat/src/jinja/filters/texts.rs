//! Filters of texts.

use super::is_known;
use crate::jinja::budget::{Budget, Buffer};
use crate::jinja::case::capitalize;
use crate::jinja::eval::Evaluator;
use crate::jinja::methods::{optional_str, to_str, usize_value};
use crate::jinja::strings::{center, lines, replace, strip};
use crate::jinja::value::{Args, Value};
use crate::jinja::{Fault, is_py_space, wrapping, wrong};

/// Filters of texts.
pub(super) fn text(
    evaluator: &mut Evaluator,
    budget: &Budget,
    name: &str,
    value: Value,
    args: Args,
) -> Result<Value, Fault> {
    if !is_known(name) {
        return wrong(format!("No filter named '{name}'."));
    }
    let measured =
        matches!(&value, Value::Str(_)) || name == "truncate" && value.len(budget).is_ok();
    if matches!(name, "indent" | "truncate" | "wordwrap") && !measured {
        return wrong(format!("'{name}' needs a text, not {}", value.kind()));
    }
    let value = to_str(evaluator, value)?;
    let text = value.as_str().unwrap_or_default();
    let safe = value.is_safe();
    budget.reserve(text.len().saturating_mul(3))?;
    match name {
        "replace" => {
            let [Some(old), Some(new), count] = args.bind(name, ["old", "new", "count"])? else {
                return wrong("replace needs what to replace, and by what");
            };
            let (old, new) = (to_str(evaluator, old)?, to_str(evaluator, new)?);
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
            let stripped = strip(budget, text, optional_str(chars.as_ref())?, true, true)?;
            budget.marked(stripped.to_owned(), safe)
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
                "title" => budget.text(title(text)),
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

/// jinja2's own: each run of words and of what separates them by itself, so that a
/// sigma at a word's end is not known to be there.
fn title(text: &str) -> String {
    let separates = |c: char| is_py_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| separates(c) != separates(first));
        let (run, after) = rest
            .split_at_checked(end.unwrap_or(rest.len()))
            .unwrap_or((rest, ""));
        out.extend(first.to_uppercase());
        out.push_str(&run.strip_prefix(first).unwrap_or_default().to_lowercase());
        rest = after;
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
