//! Texts by their names: as they are shown, typed, completed and told apart.

use std::collections::HashSet;

use super::Text;

/// A name on one line, without what steers a terminal.
pub(super) fn visible(name: &str) -> String {
    term::sanitize(name).replace(['\n', '\t'], " ")
}

/// The same texts, those of a name that another has already with a number.
pub(super) fn told_apart(texts: Vec<Text>) -> Vec<Text> {
    let mut taken: HashSet<String> = HashSet::new();
    let mut apart = texts;
    for text in &mut apart {
        let (stem, extension) = match text.name.rsplit_once('.') {
            Some((stem, extension)) if !extension.contains('/') && !stem.is_empty() => {
                (stem.to_owned(), format!(".{extension}"))
            }
            _ => (text.name.clone(), String::new()),
        };
        let numbered = (2_u32..).map(|number| format!("{stem}-{number}{extension}"));
        let mut names = std::iter::once(text.name.clone()).chain(numbered);
        if let Some(free) = names.find(|name| !taken.contains(name)) {
            taken.insert(free.clone());
            text.name = free;
        }
    }
    apart
}

/// The one that is called `wanted`, or whose path ends with it if that is one alone.
///
/// # Errors
/// One line: none is, or several are.
pub(crate) fn find<'t>(texts: &'t [Text], wanted: &str) -> Result<&'t Text, String> {
    if let Some(text) = texts.iter().find(|text| text.name == wanted) {
        return Ok(text);
    }
    let end = format!("/{wanted}");
    let ending: Vec<&Text> = texts
        .iter()
        .filter(|text| text.name.ends_with(&end))
        .collect();
    match ending.as_slice() {
        [one] => Ok(one),
        [] => Err(not_found(texts, wanted)),
        [first, second, ..] => Err(format!(
            "{wanted} may be {} or {}: give more of the name",
            first.name, second.name
        )),
    }
}

fn not_found(texts: &[Text], wanted: &str) -> String {
    if texts.is_empty() {
        return "nothing is attached: --attach FILE does that".to_owned();
    }
    match protocol::nearest(wanted, texts.iter().map(|text| text.name.as_str())) {
        Some(near) => format!("{wanted}: nothing of that name is attached; did you mean {near}?"),
        None => format!("{wanted}: nothing of that name is attached; /read lists what is"),
    }
}

/// The names in `operand`: all of it, if that is one; else words, quoted as for a shell.
pub(crate) fn split_names(texts: &[Text], operand: &str) -> Vec<String> {
    let whole = || vec![operand.to_owned()];
    if texts.iter().any(|text| text.name == operand) {
        return whole();
    }
    shlex::split(operand).unwrap_or_else(whole)
}

/// Where in `typed` the last name begins, and all names that it may become, quoted
/// where they must be: those that begin so, else those with a part that does.
pub(crate) fn complete(texts: &[Text], typed: &str) -> (usize, Vec<String>) {
    let start = last_word(typed);
    let word = typed.get(start..).unwrap_or_default();
    let begin = word.trim_start_matches(['\'', '"']);
    let part = format!("/{begin}");
    let names = || texts.iter().map(|text| text.name.as_str());
    let mut fitting: Vec<&str> = names().filter(|name| name.starts_with(begin)).collect();
    if fitting.is_empty() {
        fitting = names().filter(|name| name.contains(&part)).collect();
    }
    (start, fitting.into_iter().map(quoted).collect())
}

fn quoted(name: &str) -> String {
    let is_plain = !name.contains([' ', '\'', '"', '\\']);
    if is_plain {
        return name.to_owned();
    }
    // A name has no zero byte, which could not be quoted.
    shlex::try_quote(name).map_or_else(|_| name.to_owned(), std::borrow::Cow::into_owned)
}

/// Where the last word begins: after the last space outside quotes.
fn last_word(typed: &str) -> usize {
    let mut start = 0;
    let mut open: Option<char> = None;
    for (at, c) in typed.char_indices() {
        match (open, c) {
            (Some(quote), c) if c == quote => open = None,
            (None, '\'' | '"') => open = Some(c),
            (None, ' ') => start = at.saturating_add(1),
            _ => {}
        }
    }
    start
}
