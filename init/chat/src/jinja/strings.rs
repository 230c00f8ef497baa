//! Methods of Python's `str`.

use std::collections::BTreeSet;

use super::budget::{Budget, Buffer};
use super::case::{capitalize, fold, is_title, swap_case, title};
use super::methods::{optional_str, range_of, required_str, usize_value};
use super::repr::is_printable;
use super::value::{Args, Kind, Text, Value};
use super::{Fault, is_py_space, wrong};

/// A method of a text that is called.
pub(super) struct Method<'a> {
    pub(super) budget: Budget,
    pub(super) name: &'a str,
    pub(super) text: &'a Text,
}

impl Method<'_> {
    fn give(&self, text: impl Into<String>) -> Result<Value, Fault> {
        self.budget.marked(text.into(), self.text.safe)
    }

    fn list<'a>(&self, parts: impl Iterator<Item = &'a str>) -> Result<Value, Fault> {
        let parts: Result<Vec<Value>, Fault> = parts.map(|part| self.give(part)).collect();
        self.budget.list(parts?)
    }

    /// Calls it.
    pub(super) fn call(&self, args: Args) -> Result<Value, Fault> {
        let text = &*self.text.text;
        let name = self.name;
        // Each reads its text once, or writes as much; and what it looks for.
        self.budget.reserve(text.len().saturating_mul(3))?;
        self.budget.touch(args.text_bytes().saturating_mul(3))?;
        match name {
            "strip" | "lstrip" | "rstrip" => {
                let [chars] = args.bind(name, ["chars"])?;
                let chars = optional_str(chars.as_ref())?;
                let (start, end) = (name != "rstrip", name != "lstrip");
                self.give(strip(&self.budget, text, chars, start, end)?)
            }
            "split" | "rsplit" => self.split(args),
            "splitlines" => {
                let [keep] = args.bind(name, ["keepends"])?;
                let keep = keep.is_some_and(|keep| keep.is_true());
                self.list(lines(text, keep))
            }
            "partition" | "rpartition" => self.partition(args),
            "removeprefix" | "removesuffix" => {
                let [affix] = args.bind(name, ["prefix"])?;
                let affix = required_str(affix.as_ref(), name)?;
                let cut = if name == "removeprefix" {
                    text.strip_prefix(affix)
                } else {
                    text.strip_suffix(affix)
                };
                self.give(cut.unwrap_or(text))
            }
            "startswith" | "endswith" => self.affix(args),
            "find" | "rfind" | "index" | "rindex" | "count" => self.find(args),
            "replace" => {
                let [old, new, count] = args.bind(name, ["old", "new", "count"])?;
                let old = required_str(old.as_ref(), name)?;
                let new = required_str(new.as_ref(), name)?;
                let count = count
                    .map(|count| count.int("count"))
                    .transpose()?
                    .unwrap_or(-1);
                replace(&self.budget, text, old, new, count)?.marked(self.text.safe)
            }
            "center" | "ljust" | "rjust" | "zfill" => self.justify(args),
            "expandtabs" => self.expand_tabs(args),
            _ => {
                let [] = args.bind(name, [])?;
                self.plain()
            }
        }
    }

    /// Methods without arguments.
    fn plain(&self) -> Result<Value, Fault> {
        let text = &*self.text.text;
        let all = |test: fn(char) -> bool| !text.is_empty() && text.chars().all(test);
        let cased = || text.chars().any(|c| c.is_uppercase() || c.is_lowercase());
        let is = match self.name {
            "upper" => return self.give(text.to_uppercase()),
            "lower" => return self.give(text.to_lowercase()),
            "casefold" => return self.give(fold(text)),
            "capitalize" => return self.give(capitalize(text)),
            "title" => return self.give(title(text, |before| !is_cased(before))),
            "swapcase" => return self.give(swap_case(text)),
            "isalnum" => all(char::is_alphanumeric),
            "isalpha" => all(char::is_alphabetic),
            "isascii" => text.is_ascii(),
            "isdecimal" | "isdigit" => all(|c| c.is_ascii_digit()),
            "isnumeric" => all(char::is_numeric),
            "isidentifier" => {
                let start = text
                    .chars()
                    .next()
                    .is_some_and(|c| c == '_' || c.is_alphabetic());
                start && text.chars().all(|c| c == '_' || c.is_alphanumeric())
            }
            "islower" => cased() && !text.chars().any(|c| c.is_uppercase() || is_title(c)),
            "isupper" => cased() && !text.chars().any(|c| c.is_lowercase() || is_title(c)),
            "isprintable" => text.chars().all(is_printable),
            "isspace" => all(is_py_space),
            "istitle" => {
                text.chars().any(is_cased) && title(text, |before| !is_cased(before)) == text
            }
            other => return wrong(format!("'{other}' is not a method")),
        };
        Ok(Value::Bool(is))
    }

    fn split(&self, args: Args) -> Result<Value, Fault> {
        let [separator, most] = args.bind(self.name, ["sep", "maxsplit"])?;
        let most = most
            .map(|most| most.int("maxsplit"))
            .transpose()?
            .unwrap_or(-1);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let text = &*self.text.text;
        // Values at once: what they cost is counted.
        let mut parts = Vec::new();
        let from_end = self.name == "rsplit";
        match optional_str(separator.as_ref())? {
            Some("") => return wrong("empty separator"),
            Some(separator) if from_end => {
                for part in text.rsplitn(most.saturating_add(1), separator) {
                    parts.push(self.give(part)?);
                }
            }
            Some(separator) => {
                for part in text.splitn(most.saturating_add(1), separator) {
                    parts.push(self.give(part)?);
                }
            }
            None => {
                let (start, end) = (!from_end, from_end);
                let mut rest = strip(&self.budget, text, None, start, end)?;
                while !rest.is_empty() {
                    let cut = if from_end {
                        rest.rsplit_once(is_py_space)
                            .map(|(before, after)| (after, before))
                    } else {
                        rest.split_once(is_py_space)
                    };
                    match cut {
                        Some((part, more)) if parts.len() < most => {
                            parts.push(self.give(part)?);
                            rest = strip(&self.budget, more, None, start, end)?;
                        }
                        _ => {
                            parts.push(self.give(rest)?);
                            break;
                        }
                    }
                }
            }
        }
        if from_end {
            parts.reverse();
        }
        self.budget.list(parts)
    }

    fn partition(&self, args: Args) -> Result<Value, Fault> {
        let [separator] = args.bind(self.name, ["sep"])?;
        let separator = required_str(separator.as_ref(), self.name)?;
        if separator.is_empty() {
            return wrong("empty separator");
        }
        let text = &*self.text.text;
        let parts = if self.name == "partition" {
            let cut = text.split_once(separator);
            cut.map_or([text, "", ""], |(before, after)| [before, separator, after])
        } else {
            let cut = text.rsplit_once(separator);
            cut.map_or(["", "", text], |(before, after)| [before, separator, after])
        };
        let parts: Result<Vec<Value>, Fault> = parts.iter().map(|part| self.give(*part)).collect();
        self.budget.tuple(parts?)
    }

    fn affix(&self, args: Args) -> Result<Value, Fault> {
        let [affix, start, stop] = args.bind(self.name, ["prefix", "start", "end"])?;
        let text = &*self.text.text;
        let bounds = [start.unwrap_or(Value::None), stop.unwrap_or(Value::None)];
        let (from, to) = range_of(text.chars().count(), &bounds)?;
        let text: String = text.chars().take(to).skip(from).collect();
        let affixes = match &affix {
            Some(Value::Seq(seq)) if seq.kind == Kind::Tuple => seq.items.clone(),
            Some(one @ Value::Str(_)) => vec![one.clone()],
            other => {
                let kind = other.as_ref().map_or("nothing", Value::kind);
                let name = self.name;
                return wrong(format!(
                    "{name} first arg must be str or a tuple of str, not {kind}"
                ));
            }
        };
        self.budget.spend(affixes.len())?;
        for affix in &affixes {
            let Value::Str(affix) = affix else {
                let (name, kind) = (self.name, affix.kind());
                return wrong(format!(
                    "tuple for {name} must only contain str, not {kind}"
                ));
            };
            self.budget.touch(text.len().min(affix.text.len()))?;
            let has = if self.name == "startswith" {
                text.starts_with(&*affix.text)
            } else {
                text.ends_with(&*affix.text)
            };
            if has && from <= to {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    }

    fn find(&self, args: Args) -> Result<Value, Fault> {
        let [wanted, start, stop] = args.bind(self.name, ["sub", "start", "end"])?;
        let wanted = required_str(wanted.as_ref(), self.name)?;
        let text = &*self.text.text;
        let bounds = [start.unwrap_or(Value::None), stop.unwrap_or(Value::None)];
        let length = text.chars().count();
        let (from, to) = range_of(length, &bounds)?;
        let within: String = text.chars().take(to).skip(from).collect();
        if self.name == "count" {
            let count = match wanted {
                "" => within
                    .chars()
                    .count()
                    .saturating_add(usize::from(from <= to)),
                wanted => within.matches(wanted).count(),
            };
            return Ok(usize_value(count));
        }
        let at = if self.name.starts_with('r') {
            within.rfind(wanted)
        } else {
            within.find(wanted)
        };
        let at = at.filter(|_| from <= to).and_then(|at| within.get(..at));
        match at.map(|before| before.chars().count().saturating_add(from)) {
            Some(at) => Ok(usize_value(at)),
            None if self.name.ends_with("index") => wrong("substring not found"),
            None => Ok(Value::Int(-1)),
        }
    }

    fn justify(&self, args: Args) -> Result<Value, Fault> {
        let [width, fill] = args.bind(self.name, ["width", "fillchar"])?;
        let width = width.unwrap_or(Value::None).size("width")?;
        let fill = optional_str(fill.as_ref())?.unwrap_or(" ");
        if fill.chars().count() != 1 {
            return wrong("The fill character must be exactly one character long");
        }
        let mut out = Buffer::new(&self.budget);
        let text = &*self.text.text;
        let missing = width.saturating_sub(text.chars().count());
        match self.name {
            "ljust" => {
                out.push(text)?;
                out.repeat(fill, missing)?;
            }
            "rjust" => {
                out.repeat(fill, missing)?;
                out.push(text)?;
            }
            "zfill" => {
                let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
                let sign = text.strip_suffix(digits).unwrap_or_default();
                out.push(sign)?;
                out.repeat("0", missing)?;
                out.push(digits)?;
            }
            _ => center(&mut out, text, width, fill)?,
        }
        out.marked(self.text.safe)
    }

    fn expand_tabs(&self, args: Args) -> Result<Value, Fault> {
        let [size] = args.bind(self.name, ["tabsize"])?;
        let size = size.map_or(Ok(8), |size| size.size("tabsize"))?;
        let mut out = Buffer::new(&self.budget);
        let mut column = 0_usize;
        for c in self.text.text.chars() {
            if c == '\t' {
                let gap = size.checked_sub(column.checked_rem(size).unwrap_or(0));
                let gap = gap.unwrap_or(0);
                out.repeat(" ", gap)?;
                column = column.saturating_add(gap);
                continue;
            }
            column = if matches!(c, '\n' | '\r') {
                0
            } else {
                column.saturating_add(1)
            };
            out.push_char(c)?;
        }
        out.marked(self.text.safe)
    }
}

/// Whether a letter that follows `c` is inside a word, for Python.
fn is_cased(c: char) -> bool {
    c.is_uppercase() || c.is_lowercase() || is_title(c)
}

/// Python's `center`: of an odd gap the larger half goes where the width is odd.
pub(super) fn center(out: &mut Buffer, text: &str, width: usize, fill: &str) -> Result<(), Fault> {
    let missing = width.saturating_sub(text.chars().count());
    let before = (missing / 2).saturating_add(missing & width & 1);
    out.repeat(fill, before)?;
    out.push(text)?;
    out.repeat(fill, missing.saturating_sub(before))
}

/// Python's `strip`, at either end: of `chars`, or of white space.
pub(super) fn strip<'a>(
    budget: &Budget,
    text: &'a str,
    chars: Option<&str>,
    start: bool,
    end: bool,
) -> Result<&'a str, Fault> {
    // Each finds its place among those before it.
    budget.touch(chars.map_or(0, str::len).saturating_mul(16))?;
    let chars: Option<BTreeSet<char>> = chars.map(|chars| chars.chars().collect());
    let unwanted = |c: char| match &chars {
        Some(chars) => chars.contains(&c),
        None => is_py_space(c),
    };
    let text = if start {
        text.trim_start_matches(unwanted)
    } else {
        text
    };
    Ok(if end {
        text.trim_end_matches(unwanted)
    } else {
        text
    })
}

/// Python's `splitlines`.
pub(super) fn lines(text: &str, keep_ends: bool) -> impl Iterator<Item = &str> {
    let is_end = |c: char| {
        matches!(
            c,
            '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let at = rest.find(is_end).unwrap_or(rest.len());
        let (line, tail) = rest.split_at_checked(at)?;
        let end = if tail.starts_with("\r\n") {
            2
        } else {
            tail.chars().next().map_or(0, char::len_utf8)
        };
        let kept = at.saturating_add(if keep_ends { end } else { 0 });
        let line = rest.get(..kept).unwrap_or(line);
        rest = tail.get(end..).unwrap_or_default();
        Some(line)
    })
}

/// Python's `replace`; all if `count` is negative.
pub(super) fn replace(
    budget: &Budget,
    text: &str,
    old: &str,
    new: &str,
    count: i128,
) -> Result<Buffer, Fault> {
    let most = usize::try_from(count).unwrap_or(usize::MAX);
    let mut out = Buffer::new(budget);
    let mut last = 0_usize;
    budget.touch(text.len())?;
    for (at, found) in text.match_indices(old).take(most) {
        out.push(text.get(last..at).unwrap_or_default())?;
        out.push(new)?;
        last = at.saturating_add(found.len());
    }
    out.push(text.get(last..).unwrap_or_default())?;
    Ok(out)
}
