//! Python's `format % args`.

use super::budget::{Budget, Buffer};
use super::eval::Evaluator;
use super::repr::{write_ascii, write_repr, write_str};
use super::spec::{Spec, number, truncate};
use super::value::{Kind, Value};
use super::{Fault, wrong};

/// Arguments of a `%`, taken one after the other.
struct Operands<'a> {
    items: &'a [Value],
    next: usize,
}

impl Operands<'_> {
    fn take(&mut self) -> Result<Value, Fault> {
        let item = self.items.get(self.next).cloned();
        self.next = self.next.saturating_add(1);
        item.ok_or_else(|| Fault::Wrong("not enough arguments for format string".to_owned()))
    }
}

/// Python's `format % args`.
pub(super) fn percent(
    budget: &Budget,
    format: &str,
    args: &Value,
    safe: bool,
) -> Result<Value, Fault> {
    let single = std::slice::from_ref(args);
    let tuple = matches!(args, Value::Seq(seq) if matches!(seq.kind, Kind::Tuple | Kind::Group));
    let items = match args {
        Value::Seq(seq) if tuple => &seq.items,
        _ => single,
    };
    let mut operands = Operands { items, next: 0 };
    let mut out = Buffer::new(budget);
    let names = Evaluator::nameless(budget);
    let mut rest = format.chars();
    let mut used_names = false;
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push_char(c)?;
            continue;
        }
        let mut named = None;
        if rest.as_str().starts_with('(') {
            let Some((name, after)) = rest.as_str().get(1..).and_then(|s| s.split_once(')')) else {
                return wrong("incomplete format key");
            };
            let Value::Dict(dict) = args else {
                return wrong("format requires a mapping");
            };
            let Some(value) = dict.get(budget, &budget.text(name)?)? else {
                return wrong(format!("format has no value for '{name}'"));
            };
            named = Some(value);
            used_names = true;
            rest = after.chars();
        }
        if let (None, Some(after)) = (&named, rest.as_str().strip_prefix('%')) {
            out.push("%")?;
            rest = after.chars();
            continue;
        }
        let spec = percent_spec(&mut rest, &mut operands)?;
        let value = match named {
            Some(value) => value,
            None => operands.take()?,
        };
        convert(&mut out, &spec, &value, &names, safe)?;
    }
    let mapping = used_names || matches!(args, Value::Dict(_) | Value::Undefined(_));
    let listed = matches!(args, Value::Seq(_)) && !tuple;
    if operands.next < items.len() && !mapping && !listed {
        return wrong("not all arguments converted during string formatting");
    }
    out.marked(safe)
}

fn percent_spec(
    rest: &mut std::str::Chars<'_>,
    operands: &mut Operands<'_>,
) -> Result<Spec, Fault> {
    let mut spec = Spec::plain('s');
    let mut zero = false;
    while let Some(flag) = rest.as_str().chars().next() {
        match flag {
            '-' => spec.align = Some('<'),
            '+' => spec.sign = Some('+'),
            ' ' if spec.sign.is_none() => spec.sign = Some(' '),
            ' ' => {}
            '#' => spec.alternate = true,
            '0' => zero = true,
            _ => break,
        }
        rest.next();
    }
    let mut star = |rest: &mut std::str::Chars<'_>| {
        if !rest.as_str().starts_with('*') {
            return Ok(number(rest));
        }
        rest.next();
        operands.take()?.size("*").map(Some)
    };
    spec.width = star(rest)?.unwrap_or(0);
    if rest.as_str().starts_with('.') {
        rest.next();
        spec.precision = Some(star(rest)?.unwrap_or(0));
    }
    while rest.as_str().starts_with(['h', 'l', 'L']) {
        rest.next();
    }
    let Some(kind) = rest.next() else {
        return wrong("incomplete format");
    };
    spec.kind = kind;
    if zero && spec.align.is_none() && !matches!(kind, 's' | 'r' | 'a' | 'c') {
        spec.fill = '0';
        spec.align = Some('=');
    }
    Ok(spec)
}

/// Writes `value` as a conversion of `%` says.
fn convert(
    out: &mut Buffer,
    spec: &Spec,
    value: &Value,
    names: &Evaluator,
    safe: bool,
) -> Result<(), Fault> {
    match spec.kind {
        's' | 'r' | 'a' | 'c' => {
            let mut text = Buffer::new(&names.budget);
            match (spec.kind, value) {
                ('s', Value::Str(inner)) if safe && !inner.safe => {
                    super::filters::escape_into(&mut text, &inner.text)?;
                }
                ('s', value) => write_str(&mut text, value, names)?,
                ('c', Value::Int(code)) => {
                    let code = u32::try_from(*code).ok().and_then(char::from_u32);
                    let Some(code) = code else {
                        return wrong("%c arg not in range");
                    };
                    text.push_char(code)?;
                }
                ('c', Value::Str(one)) if one.text.chars().count() == 1 => text.push(&one.text)?,
                ('c', _) => return wrong("%c requires int or char"),
                ('a', value) => write_ascii(&mut text, value, names)?,
                _ => write_repr(&mut text, value, names, 0)?,
            }
            let text: String = match spec.precision {
                Some(precision) => text.text.chars().take(precision).collect(),
                None => text.text,
            };
            spec.pad(out, "", &text, '>')
        }
        'd' | 'i' | 'u' | 'x' | 'X' | 'o' => {
            let int = match value {
                Value::Float(float) if matches!(spec.kind, 'd' | 'i' | 'u') => truncate(*float)?,
                value => value.int("a number for a format")?,
            };
            spec.int(out, int, true)
        }
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => match value.as_number() {
            Some(float) => spec.float(out, float),
            None => wrong(format!("must be real number, not {}", value.kind())),
        },
        other => wrong(format!("unsupported format character '{other}'")),
    }
}
