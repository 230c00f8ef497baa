//! The filter `tojson`: Python's `json.dumps(value, ensure_ascii=False)`, as
//! Hugging Face overrides jinja2's own filter, which would escape for HTML.

use super::budget::{Budget, Buffer};
use super::methods::optional_str;
use super::repr::float_repr;
use super::value::{Args, Kind, Value};
use super::{Fault, wrong};

struct Layout {
    indent: Option<String>,
    item: String,
    key: String,
    sort_keys: bool,
    ensure_ascii: bool,
}

pub(super) fn to_json(budget: &Budget, value: &Value, args: Args) -> Result<Value, Fault> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let [ensure_ascii, indent, separators, sort_keys] = args.bind("tojson", names)?;
    let is_true = |flag: Option<Value>| flag.is_some_and(|flag| flag.is_true());
    let indent = match indent {
        None | Some(Value::None) => None,
        Some(Value::Str(text)) => Some(text.text.to_string()),
        Some(width) => {
            let width = width.size("indent")?;
            budget.reserve(width)?;
            Some(" ".repeat(width))
        }
    };
    let mut layout = Layout {
        item: if indent.is_some() { "," } else { ", " }.to_owned(),
        key: ": ".to_owned(),
        indent,
        sort_keys: is_true(sort_keys),
        ensure_ascii: is_true(ensure_ascii),
    };
    if let Some(separators) = separators.filter(|separators| !matches!(separators, Value::None)) {
        let parts = separators.iterate(budget)?;
        let [item, key] = parts.items.as_slice() else {
            return wrong("separators must be two");
        };
        optional_str(Some(item))?
            .unwrap_or_default()
            .clone_into(&mut layout.item);
        optional_str(Some(key))?
            .unwrap_or_default()
            .clone_into(&mut layout.key);
    }
    let mut out = Buffer::new(budget);
    layout.write(&mut out, budget, value, 1)?;
    out.finish()
}

impl Layout {
    fn write(
        &self,
        out: &mut Buffer,
        budget: &Budget,
        value: &Value,
        depth: usize,
    ) -> Result<(), Fault> {
        match value {
            Value::None => out.push("null"),
            Value::Bool(true) => out.push("true"),
            Value::Bool(false) => out.push("false"),
            Value::Int(int) => out.display(int),
            Value::Float(float) => out.push(&number(*float)),
            Value::Str(text) => self.text(out, &text.text),
            Value::Seq(seq) if matches!(seq.kind, Kind::List | Kind::Tuple | Kind::Group) => {
                out.push("[")?;
                for (index, item) in seq.items.iter().enumerate() {
                    self.separate(out, index, depth)?;
                    self.write(out, budget, item, depth.saturating_add(1))?;
                }
                self.close(out, seq.items.is_empty(), depth, "]")
            }
            Value::Dict(dict) => {
                let mut entries: Vec<&(Value, Value)> = dict.entries.iter().collect();
                budget.spend(entries.len())?;
                if self.sort_keys {
                    let mut texts = Vec::new();
                    for entry in entries {
                        texts.push((key_text(&entry.0)?, entry));
                    }
                    texts.sort_by(|a, b| a.0.cmp(&b.0));
                    entries = texts.into_iter().map(|(_, entry)| entry).collect();
                }
                out.push("{")?;
                for (index, (key, value)) in entries.into_iter().enumerate() {
                    self.separate(out, index, depth)?;
                    self.text(out, &key_text(key)?)?;
                    out.push(&self.key)?;
                    self.write(out, budget, value, depth.saturating_add(1))?;
                }
                self.close(out, dict.entries.is_empty(), depth, "}")
            }
            other => wrong(format!(
                "Object of type {} is not JSON serializable",
                other.kind()
            )),
        }
    }

    fn separate(&self, out: &mut Buffer, index: usize, depth: usize) -> Result<(), Fault> {
        if index > 0 {
            out.push(&self.item)?;
        }
        self.break_line(out, depth)
    }

    fn close(
        &self,
        out: &mut Buffer,
        is_empty: bool,
        depth: usize,
        bracket: &str,
    ) -> Result<(), Fault> {
        if !is_empty {
            self.break_line(out, depth.saturating_sub(1))?;
        }
        out.push(bracket)
    }

    fn break_line(&self, out: &mut Buffer, depth: usize) -> Result<(), Fault> {
        let Some(indent) = &self.indent else {
            return Ok(());
        };
        out.push("\n")?;
        out.repeat(indent, depth)
    }

    fn text(&self, out: &mut Buffer, text: &str) -> Result<(), Fault> {
        out.push("\"")?;
        for c in text.chars() {
            match c {
                '"' => out.push("\\\"")?,
                '\\' => out.push("\\\\")?,
                '\n' => out.push("\\n")?,
                '\r' => out.push("\\r")?,
                '\t' => out.push("\\t")?,
                '\x08' => out.push("\\b")?,
                '\x0c' => out.push("\\f")?,
                c if c < ' ' => out.display(format!("\\u{:04x}", u32::from(c)))?,
                c if self.ensure_ascii && (!c.is_ascii() || c == '\x7f') => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        out.display(format!("\\u{unit:04x}"))?;
                    }
                }
                c => out.push_char(c)?,
            }
        }
        out.push("\"")
    }
}

fn number(float: f64) -> String {
    match float_repr(float).as_str() {
        "nan" => "NaN".to_owned(),
        "inf" => "Infinity".to_owned(),
        "-inf" => "-Infinity".to_owned(),
        finite => finite.to_owned(),
    }
}

fn key_text(key: &Value) -> Result<String, Fault> {
    Ok(match key {
        Value::Str(text) => text.text.to_string(),
        Value::None => "null".to_owned(),
        Value::Bool(bool) => bool.to_string(),
        Value::Int(int) => int.to_string(),
        Value::Float(float) => number(*float),
        other => {
            let kind = other.kind();
            return wrong(format!(
                "keys must be str, int, float, bool or None, not {kind}"
            ));
        }
    })
}
