//! The filter `tojson`: JSON with the spacing of Python's `json.dumps`.

use std::io::{self, Write};

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Error, ErrorKind, Value};
use serde::Serialize as _;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// Depth of values within values.
const DEPTH_MAX: usize = 64;
/// Values within values: more than any conversation holds. A value that is
/// reached in two ways counts, and is written, twice.
const VALUES_MAX: usize = 1 << 20;

/// Python's `json.dumps(value, ensure_ascii=False)`, as Hugging Face overrides
/// jinja2's own filter, which would escape for HTML.
#[expect(clippy::needless_pass_by_value, reason = "minijinja calls filters so")]
pub(crate) fn to_json(value: &Value, _rest: Rest<Value>, kwargs: Kwargs) -> Result<String, Error> {
    let indent: Option<Value> = kwargs.get("indent")?;
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    let sort_keys: Option<bool> = kwargs.get("sort_keys")?;
    let ensure_ascii: Option<bool> = kwargs.get("ensure_ascii")?;
    kwargs.assert_all_used()?;
    let indent = match indent.filter(|indent| !indent.is_none()) {
        None => None,
        Some(indent) => Some(usize::try_from(indent)?),
    };
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.as_str(), key.as_str()),
        _ => (if indent.is_some() { "," } else { ", " }, ": "),
    };
    let mut left = VALUES_MAX;
    check(value, 0, &mut left)?;
    let mut json = serde_json::to_value(value).map_err(bad)?;
    if sort_keys.unwrap_or(false) {
        json.sort_all_objects();
    }
    let layout = Layout {
        indent,
        item,
        key,
        ensure_ascii: ensure_ascii.unwrap_or(false),
        depth: 0,
        is_empty: true,
    };
    let mut out = Vec::new();
    json.serialize(&mut Serializer::with_formatter(&mut out, layout))
        .map_err(bad)?;
    String::from_utf8(out).map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))
}

fn bad(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::BadSerialization, "not JSON").with_source(error)
}

/// Refuses what is not JSON, and what is too deep or too much to be written.
fn check(value: &Value, depth: usize, left: &mut usize) -> Result<(), Error> {
    let refuse = |why: String| Err(Error::new(ErrorKind::InvalidOperation, why));
    *left = left.saturating_sub(1);
    if depth > DEPTH_MAX || *left == 0 {
        return refuse("JSON nested too deeply".to_owned());
    }
    let deeper = depth.saturating_add(1);
    match value.kind() {
        ValueKind::None | ValueKind::Bool | ValueKind::Number | ValueKind::String => Ok(()),
        ValueKind::Map => value
            .try_iter()?
            .try_for_each(|key| check(&value.get_item(&key)?, deeper, left)),
        ValueKind::Seq | ValueKind::Iterable => value
            .try_iter()?
            .try_for_each(|item| check(&item, deeper, left)),
        kind => refuse(format!("a value of type {kind} is not JSON")),
    }
}

/// Where Python puts white space, and which letters it escapes.
struct Layout<'a> {
    indent: Option<usize>,
    item: &'a str,
    key: &'a str,
    ensure_ascii: bool,
    depth: usize,
    /// Nothing has been written yet into the innermost array or object.
    is_empty: bool,
}

impl Layout<'_> {
    fn begin(&mut self, out: &mut (impl Write + ?Sized), bracket: &[u8]) -> io::Result<()> {
        self.depth = self.depth.saturating_add(1);
        self.is_empty = true;
        out.write_all(bracket)
    }

    fn end(&mut self, out: &mut (impl Write + ?Sized), bracket: &[u8]) -> io::Result<()> {
        self.depth = self.depth.saturating_sub(1);
        if !self.is_empty {
            self.break_line(out)?;
        }
        self.is_empty = false;
        out.write_all(bracket)
    }

    fn begin_item(&mut self, out: &mut (impl Write + ?Sized), first: bool) -> io::Result<()> {
        if !first {
            out.write_all(self.item.as_bytes())?;
        }
        self.is_empty = false;
        self.break_line(out)
    }

    fn break_line(&self, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
        let Some(indent) = self.indent else {
            return Ok(());
        };
        out.write_all(b"\n")?;
        let width = indent.saturating_mul(self.depth);
        (0..width).try_for_each(|_| out.write_all(b" "))
    }
}

impl Formatter for Layout<'_> {
    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.begin(out, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.end(out, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.begin_item(out, first)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.begin(out, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.end(out, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.begin_item(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(self.key.as_bytes())
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if !self.ensure_ascii {
            return out.write_all(fragment.as_bytes());
        }
        for c in fragment.chars() {
            if c.is_ascii() && c != '\x7f' {
                out.write_all(&[u8::try_from(c).unwrap_or(b'?')])?;
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }

    /// As Python's `repr`: the fewest digits that say it, an exponent from
    /// 1e16 on and below 1e-4.
    fn write_f64<W: ?Sized + Write>(&mut self, out: &mut W, value: f64) -> io::Result<()> {
        let scientific = format!("{value:e}");
        let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        match exponent.parse::<i32>() {
            Ok(exponent @ (16.. | ..=-5)) => {
                let sign = if exponent < 0 { '-' } else { '+' };
                write!(out, "{digits}e{sign}{:02}", exponent.unsigned_abs())
            }
            _ => write!(out, "{value:?}"),
        }
    }
}
