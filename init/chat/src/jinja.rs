//! The dialect of Jinja that chat templates are written in: what Python's
//! jinja2 does with the settings of Hugging Face's `apply_chat_template`,
//! byte for byte. A template comes with the model and is not trusted: what it
//! may spend is bounded.

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

use crate::clock::strftime;
use crate::json::to_json;

/// Steps of one rendering: a thousand turns need less with every template known.
const FUEL: u64 = 20_000_000;
/// Depth of macros calling macros.
const RECURSION_MAX: usize = 64;
/// Name of the only template there is; it shows in no message.
const NAME: &str = "chat_template";

/// What a template says through `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Raised(pub(super) String);

/// A compiled template.
#[derive(Debug)]
pub(super) struct Program {
    environment: Environment<'static>,
}

impl Program {
    /// Compiles `source`. `now_s` is local time in seconds since 1970; without
    /// it `strftime_now` does not exist if the template can do without, and
    /// says "unknown" if not.
    pub(super) fn new(source: &str, now_s: Option<i64>) -> Result<Self, Error> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION_MAX);
        environment.set_unknown_method_callback(call_method);
        environment.add_filter("tojson", to_json);
        environment.add_filter("trim", trim);
        environment.add_test("iterable", is_iterable);
        environment.add_test("sequence", is_sequence);
        environment.add_function("raise_exception", raise_exception);
        if now_s.is_some() || !source.contains("strftime_now is defined") {
            environment.add_function("strftime_now", move |format: &str| match now_s {
                Some(now_s) => strftime(format, now_s),
                None => "unknown".to_owned(),
            });
        }
        environment.add_template_owned(NAME, without_generation_tags(source))?;
        Ok(Self { environment })
    }

    /// Renders at most `bytes_max` bytes.
    pub(super) fn render(&self, context: &Value, bytes_max: usize) -> Result<String, Error> {
        let mut out = Bounded {
            bytes: Vec::new(),
            bytes_max,
        };
        let template = self.environment.get_template(NAME)?;
        template.render_captured_to(context, &mut out)?;
        String::from_utf8(out.bytes)
            .map_err(|e| Error::new(ErrorKind::BadSerialization, "no UTF-8").with_source(e))
    }
}

/// Memory that takes so much and no more.
struct Bounded {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.bytes_max {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Hugging Face marks what the model is trained to write with `{% generation %}`
/// … `{% endgeneration %}`; for rendering that means nothing. Line ends become
/// "\n", as jinja2's lexer makes them.
fn without_generation_tags(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        out.push_str(before);
        rest = tag;
        let lead = tag.len() - tag.trim_start_matches(['-', '+']).trim_start().len();
        let (lead, word) = tag.split_at(lead);
        for (name, meaning) in [("generation", "if true"), ("endgeneration", "endif")] {
            let Some(after) = word.strip_prefix(name) else {
                continue;
            };
            if after
                .trim_start()
                .trim_start_matches(['-', '+'])
                .starts_with("%}")
            {
                out.push_str(lead);
                out.push_str(meaning);
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, "raised").with_source(Raised(message)))
}

/// Unlike minijinja's own, false for none.
fn is_iterable(value: &Value) -> bool {
    !value.is_none() && value.try_iter().is_ok()
}

/// Unlike minijinja's own, true for strings and mappings.
fn is_sequence(value: &Value) -> bool {
    let kind = value.kind();
    matches!(kind, ValueKind::Seq | ValueKind::String | ValueKind::Map)
}

/// White space as Python's `str.strip` has it.
fn is_py_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\x1c'..='\x1f')
}

fn trim(text: &str, chars: Option<&str>) -> String {
    strip(text, chars, true, true).to_owned()
}

fn strip<'a>(text: &'a str, chars: Option<&str>, start: bool, end: bool) -> &'a str {
    let unwanted = |c: char| chars.map_or_else(|| is_py_space(c), |chars| chars.contains(c));
    let text = if start {
        text.trim_start_matches(unwanted)
    } else {
        text
    };
    if end {
        text.trim_end_matches(unwanted)
    } else {
        text
    }
}

/// Methods of Python's types.
fn call_method(
    state: &State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        let chars = || match args {
            [] => Ok(None),
            [chars] if chars.is_none() => Ok(None),
            [chars] => Ok(chars.as_str()),
            _ => Err(Error::from(ErrorKind::TooManyArguments)),
        };
        match method {
            "strip" => return Ok(strip(text, chars()?, true, true).into()),
            "lstrip" => return Ok(strip(text, chars()?, true, false).into()),
            "rstrip" => return Ok(strip(text, chars()?, false, true).into()),
            _ => {}
        }
    }
    pycompat::unknown_method_callback(state, value, method, args)
}
