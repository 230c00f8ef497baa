//! The filter `urlize`: what looks like an address becomes a link.

use super::budget::{Budget, Buffer};
use super::eval::Evaluator;
use super::filters::escape_into;
use super::methods::{optional_str, to_str};
use super::value::{Args, Value};
use super::{Fault, is_py_space, wrong};

/// Domains that need neither scheme nor "www.".
const WELL_KNOWN: [&str; 8] = ["com", "net", "int", "edu", "gov", "org", "info", "mil"];
/// What may stand around an address.
const OPENERS: [&str; 3] = ["(", "<", "&lt;"];
const CLOSERS: [&str; 6] = [")", ">", ".", ",", "\n", "&gt;"];

/// Attributes of the links.
struct Links {
    attributes: String,
    limit: Option<usize>,
    schemes: Vec<String>,
}

pub(super) fn urlize(evaluator: &mut Evaluator, value: Value, args: Args) -> Result<Value, Fault> {
    let budget = evaluator.budget.clone();
    let names = [
        "trim_url_limit",
        "nofollow",
        "target",
        "rel",
        "extra_schemes",
    ];
    let [limit, nofollow, target, rel, schemes] = args.bind("urlize", names)?;
    let escaped = |text: &str| -> Result<String, Fault> {
        let mut out = Buffer::new(&budget);
        escape_into(&mut out, text)?;
        Ok(out.text)
    };
    let rel = optional_str(rel.as_ref())?.unwrap_or_default();
    let mut rel: Vec<&str> = rel
        .split(is_py_space)
        .filter(|part| !part.is_empty())
        .collect();
    rel.extend(
        nofollow
            .is_some_and(|flag| flag.is_true())
            .then_some("nofollow"),
    );
    rel.push("noopener");
    rel.sort_unstable();
    rel.dedup();
    let mut attributes = format!(" rel=\"{}\"", escaped(&rel.join(" "))?);
    if let Some(target) = optional_str(target.as_ref())?.filter(|target| !target.is_empty()) {
        attributes = format!("{attributes} target=\"{}\"", escaped(target)?);
    }
    let links = Links {
        attributes,
        limit: match limit {
            None | Some(Value::None) => None,
            Some(limit) => Some(limit.size("trim_url_limit")?),
        },
        schemes: schemes_of(&budget, schemes)?,
    };
    let value = to_str(evaluator, value)?;
    let text = value.as_str().unwrap_or_default();
    budget.reserve(text.len().saturating_mul(6))?;
    let text = if value.is_safe() {
        text.to_owned()
    } else {
        escaped(text)?
    };
    let mut out = Buffer::new(&budget);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let word = rest.find(is_py_space).unwrap_or(rest.len());
        let (word, after) = rest.split_at_checked(word).unwrap_or((rest, ""));
        links.push_word(&mut out, word)?;
        let blank = after.find(|c| !is_py_space(c)).unwrap_or(after.len());
        let (blank, after) = after.split_at_checked(blank).unwrap_or((after, ""));
        out.push(blank)?;
        rest = after;
    }
    out.finish()
}

fn schemes_of(budget: &Budget, schemes: Option<Value>) -> Result<Vec<String>, Fault> {
    let mut names = Vec::new();
    let Some(schemes) = schemes.filter(|schemes| !matches!(schemes, Value::None)) else {
        return Ok(names);
    };
    for scheme in &schemes.iterate(budget)?.items {
        let name = scheme.as_str().unwrap_or_default();
        let prefix = name.trim_end_matches('/');
        let letters = prefix.strip_suffix(':').unwrap_or_default();
        let is_part = |c: char| c == '_' || c.is_alphanumeric() || matches!(c, '.' | '+' | '-');
        let slashes = name.len().saturating_sub(prefix.len());
        if letters.chars().count() < 2 || !letters.chars().all(is_part) || slashes > 2 {
            return wrong(format!("'{name}' is not a valid URI scheme prefix."));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

impl Links {
    fn push_word(&self, out: &mut Buffer, word: &str) -> Result<(), Fault> {
        let mut middle = word;
        while let Some(inner) = OPENERS
            .iter()
            .find_map(|opener| middle.strip_prefix(opener))
        {
            middle = inner;
        }
        let head = word.strip_suffix(middle).unwrap_or_default();
        let whole = middle;
        while let Some(inner) = CLOSERS
            .iter()
            .find_map(|closer| middle.strip_suffix(closer))
        {
            middle = inner;
        }
        // Of what closes after it, that belongs to it which it has opened.
        for (open, close) in [("(", ")"), ("<", ">"), ("&lt;", "&gt;")] {
            let opened = middle.matches(open).count();
            if opened <= middle.matches(close).count() {
                continue;
            }
            let tail = whole.strip_prefix(middle).unwrap_or_default();
            let taken = tail.match_indices(close).take(opened).last();
            let taken = taken.map_or(0, |(at, close)| at.saturating_add(close.len()));
            middle = whole
                .get(..middle.len().saturating_add(taken))
                .unwrap_or(whole);
        }
        out.push(head)?;
        self.push_address(out, middle)?;
        out.push(whole.strip_prefix(middle).unwrap_or_default())
    }

    fn push_address(&self, out: &mut Buffer, middle: &str) -> Result<(), Fault> {
        let link = |out: &mut Buffer, before: &str, attributes: &str, shown: &str| {
            for part in [
                "<a href=\"",
                before,
                middle,
                "\"",
                attributes,
                ">",
                shown,
                "</a>",
            ] {
                out.push(part)?;
            }
            Ok(())
        };
        let mail = middle.strip_prefix("mailto:");
        if is_address(middle) {
            let has_scheme = middle.starts_with("https://") || middle.starts_with("http://");
            let scheme = if has_scheme { "" } else { "https://" };
            let cut = self
                .limit
                .and_then(|limit| middle.char_indices().nth(limit))
                .and_then(|(at, _)| middle.get(..at));
            let shown = cut.map_or_else(|| middle.to_owned(), |cut| format!("{cut}..."));
            return link(out, scheme, &self.attributes, &shown);
        }
        if let Some(address) = mail.filter(|address| is_email(address)) {
            return link(out, "", "", address);
        }
        let plain =
            !middle.starts_with("www.") && !middle.starts_with('@') && !middle.contains(':');
        if plain && is_email(middle) {
            return link(out, "mailto:", "", middle);
        }
        // As jinja2 does: what one scheme made is looked at by the next.
        let scheme = self.schemes.iter();
        let mut found =
            scheme.filter(|scheme| middle != **scheme && middle.starts_with(&***scheme));
        if found.next().is_some() {
            return link(out, "", &self.attributes, middle);
        }
        out.push(middle)
    }
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn is_email(text: &str) -> bool {
    let Some((name, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let end = domain.rsplit_once('.');
    end.is_some_and(|(before, last)| {
        !name.is_empty()
            && before.starts_with(is_word)
            && before.chars().all(|c| is_word(c) || matches!(c, '.' | '-'))
            && !last.is_empty()
            && last.chars().all(is_word)
    })
}

/// jinja2's `_http_re`.
fn is_address(text: &str) -> bool {
    let end = text.find(['/', '?', '#']);
    let without_case = |prefix: &str, text: &str| {
        let begin = text.get(..prefix.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
    };
    let scheme = ["https://", "http://", "www."]
        .into_iter()
        .find(|scheme| without_case(scheme, text));
    let rest = text.get(scheme.map_or(0, str::len)..).unwrap_or_default();
    let path = match scheme {
        Some(_) => rest.find(['/', '?', '#']),
        None => end,
    };
    let host = path.and_then(|path| rest.get(..path)).unwrap_or(rest);
    let bare = host
        .rsplit_once(':')
        .filter(|(_, port)| (1..=5).contains(&port.len()) && port.chars().all(char::is_numeric));
    [Some(host), bare.map(|(host, _)| host)]
        .into_iter()
        .flatten()
        .any(|host| is_host(host, scheme))
}

fn is_host(host: &str, scheme: Option<&str>) -> bool {
    let label = |label: &str| label.chars().all(|c| is_word(c) || matches!(c, '%' | '-'));
    let labels: Vec<&str> = host.split('.').collect();
    let Some((last, before)) = labels.split_last() else {
        return false;
    };
    if let Some(scheme) = scheme {
        let letters = last.chars().all(|c| c.is_ascii_alphabetic());
        let coded = last
            .get(..4)
            .is_some_and(|begin| begin.eq_ignore_ascii_case("xn--"))
            && last.chars().skip(4).all(|c| is_word(c) || c == '%');
        let length = last.chars().count();
        let named = letters && (2..=63).contains(&length) || coded && (6..=63).contains(&length);
        if named && before.iter().all(|part| !part.is_empty() && label(part)) {
            return true;
        }
        let number =
            |part: &&str| (1..=3).contains(&part.len()) && part.chars().all(char::is_numeric);
        return scheme != "www."
            && (labels.len() == 4 && labels.iter().all(number) || is_ip6(host));
    }
    let length = |part: &str| (2..=63).contains(&part.chars().count());
    !before.is_empty()
        && before.iter().all(|part| length(part) && label(part))
        && WELL_KNOWN
            .iter()
            .any(|known| last.eq_ignore_ascii_case(known))
}

/// `[…]` with two to eight groups of at most four digits.
fn is_ip6(host: &str) -> bool {
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    inner.is_some_and(|inner| {
        let groups: Vec<&str> = inner.split(':').collect();
        let digits = |part: &&str| part.len() <= 4 && part.chars().all(|c| c.is_ascii_hexdigit());
        (3..=9).contains(&groups.len()) && groups.iter().all(digits)
    })
}
