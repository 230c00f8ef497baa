//! The dialect of Jinja that chat templates are written in: what Python's
//! jinja2 does with the settings of Hugging Face's `apply_chat_template`,
//! byte for byte. A template comes with the model and is not trusted: what it
//! may spend is bounded.

use std::fmt::Write as _;

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

/// Steps of one rendering: a thousand turns need less with every template known.
const FUEL: u64 = 20_000_000;
/// Depth of macros calling macros, and of values being written as JSON.
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

/// Python's `json.dumps(value, ensure_ascii=False)`, as Hugging Face overrides
/// jinja2's own filter, which would escape for HTML.
#[expect(clippy::needless_pass_by_value, reason = "minijinja calls filters so")]
fn to_json(value: &Value, _rest: Rest<Value>, kwargs: Kwargs) -> Result<String, Error> {
    let indent: Option<Value> = kwargs.get("indent")?;
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    let sort_keys: Option<bool> = kwargs.get("sort_keys")?;
    let _: Option<bool> = kwargs.get("ensure_ascii")?;
    kwargs.assert_all_used()?;
    let indent = match indent.filter(|indent| !indent.is_none()) {
        None => None,
        Some(indent) => Some(usize::try_from(indent)?),
    };
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.as_str(), key.as_str()),
        _ => (if indent.is_some() { "," } else { ", " }, ": "),
    };
    let mut json = Json {
        out: String::new(),
        indent,
        item,
        key,
        sort_keys: sort_keys.unwrap_or(false),
    };
    json.write(value, 0)?;
    Ok(json.out)
}

struct Json<'a> {
    out: String,
    indent: Option<usize>,
    item: &'a str,
    key: &'a str,
    sort_keys: bool,
}

impl Json<'_> {
    fn write(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > RECURSION_MAX {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "JSON nested too deeply",
            ));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self
                .out
                .push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&value.to_string()),
            ValueKind::String => self.write_text(value.as_str().unwrap_or_default()),
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                let entries = keys.iter().map(|key| Ok((Some(key), value.get_item(key)?)));
                let entries: Vec<_> = entries.collect::<Result<_, Error>>()?;
                self.write_all('{', &entries, '}', depth)?;
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let entries: Vec<_> = value.try_iter()?.map(|item| (None, item)).collect();
                self.write_all('[', &entries, ']', depth)?;
            }
            kind => {
                let message = format!("a value of type {kind} is not JSON");
                return Err(Error::new(ErrorKind::InvalidOperation, message));
            }
        }
        Ok(())
    }

    fn write_all(
        &mut self,
        open: char,
        entries: &[(Option<&Value>, Value)],
        close: char,
        depth: usize,
    ) -> Result<(), Error> {
        self.out.push(open);
        for (index, (key, value)) in entries.iter().enumerate() {
            if index > 0 {
                self.out.push_str(self.item);
            }
            self.break_line(depth + 1);
            if let Some(key) = key {
                self.write_text(&key.to_string());
                self.out.push_str(self.key);
            }
            self.write(value, depth + 1)?;
        }
        if !entries.is_empty() {
            self.break_line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn break_line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    fn write_text(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\x08' => self.out.push_str("\\b"),
                '\x0c' => self.out.push_str("\\f"),
                '\0'..='\x1f' => {
                    let _ = write!(self.out, "\\u{:04x}", u32::from(c)); // a String takes all
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

/// C's `strftime` in the C locale, of `now_s` seconds since 1970.
fn strftime(format: &str, now_s: i64) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS: [&str; 7] = [
        "Sunday",
        "Monday",
        "Tuesday",
        "Wednesday",
        "Thursday",
        "Friday",
        "Saturday",
    ];
    let days = now_s.div_euclid(86_400);
    let second = now_s.rem_euclid(86_400);
    let (year, month, day) = civil_from_days(days);
    let weekday = (days + 4).rem_euclid(7);
    let day_of_year = days - days_from_civil(year, 1, 1) + 1;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let hour12 = (hour + 11) % 12 + 1;
    let name = |names: &'static [&'static str], index: i64| -> &'static str {
        usize::try_from(index)
            .ok()
            .and_then(|index| names.get(index).copied())
            .unwrap_or_default()
    };
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut conversion = chars.next();
        let padded = conversion != Some('-');
        if !padded {
            conversion = chars.next();
        }
        let two = |value: i64| {
            if padded {
                format!("{value:02}")
            } else {
                value.to_string()
            }
        };
        let text = match conversion {
            Some('Y') => year.to_string(),
            Some('y') => two(year.rem_euclid(100)),
            Some('m') => two(month),
            Some('d') => two(day),
            Some('e') => format!("{day:2}"),
            Some('j') if padded => format!("{day_of_year:03}"),
            Some('j') => day_of_year.to_string(),
            Some('B') => name(&MONTHS, month - 1).to_owned(),
            Some('b' | 'h') => name(&MONTHS, month - 1).chars().take(3).collect(),
            Some('A') => name(&DAYS, weekday).to_owned(),
            Some('a') => name(&DAYS, weekday).chars().take(3).collect(),
            Some('w') => weekday.to_string(),
            Some('u') => ((weekday + 6) % 7 + 1).to_string(),
            Some('H') => two(hour),
            Some('I') => two(hour12),
            Some('M') => two(minute),
            Some('S') => two(second),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('s') => now_s.to_string(),
            Some('F') => format!("{year}-{month:02}-{day:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('R') => format!("{hour:02}:{minute:02}"),
            Some('D') => format!("{month:02}/{day:02}/{:02}", year.rem_euclid(100)),
            Some('n') => "\n".to_owned(),
            Some('t') => "\t".to_owned(),
            Some('%') => "%".to_owned(),
            // Time zones: the machine has none. The rest no template uses.
            Some('z' | 'Z') | None => String::new(),
            Some(other) => format!("%{other}"),
        };
        out.push_str(&text);
    }
    out
}

/// The date `days` after 1970-01-01 (Howard Hinnant, "chrono-compatible
/// low-level date algorithms").
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// The inverse of [`civil_from_days`].
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = year - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let mp = if month > 2 { month - 3 } else { month + 9 };
    let doy = (153 * mp + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 719_468
}
