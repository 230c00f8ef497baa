//! Upper, lower and title case as Python has them.

/// Digraphs have a case of their own for titles: capital, title, small.
const DIGRAPHS: [[char; 3]; 4] = [
    ['Ǆ', 'ǅ', 'ǆ'],
    ['Ǉ', 'ǈ', 'ǉ'],
    ['Ǌ', 'ǋ', 'ǌ'],
    ['Ǳ', 'ǲ', 'ǳ'],
];

/// Whether `c` is neither upper nor lower case.
pub(super) fn is_title(c: char) -> bool {
    DIGRAPHS.iter().any(|[_, title, _]| *title == c)
}

fn push_title(out: &mut String, c: char) {
    if let Some([_, title, _]) = DIGRAPHS.iter().find(|cases| cases.contains(&c)) {
        out.push(*title);
        return;
    }
    let mut upper = c.to_uppercase();
    out.extend(upper.next());
    if c == 'ŉ' {
        out.extend(upper);
    } else {
        out.extend(upper.flat_map(char::to_lowercase));
    }
}

/// Each character with its lower case, which for a sigma depends on its place.
fn lowered(text: &str) -> impl Iterator<Item = (char, String)> {
    let whole = text.to_lowercase();
    let mut at = 0_usize;
    text.chars().map(move |c| {
        let rest = whole.get(at..).unwrap_or_default();
        let count = c.to_lowercase().count();
        let lower: String = rest.chars().take(count).collect();
        at = at.saturating_add(lower.len());
        (c, lower)
    })
}

pub(super) fn capitalize(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (c, lower) in lowered(text) {
        if out.is_empty() {
            push_title(&mut out, c);
        } else {
            out.push_str(&lower);
        }
    }
    out
}

/// Words begin where `begins` says so of the character before.
pub(super) fn title(text: &str, begins: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before = None;
    for (c, lower) in lowered(text) {
        if before.is_none_or(&begins) {
            push_title(&mut out, c);
        } else {
            out.push_str(&lower);
        }
        before = Some(c);
    }
    out
}

pub(super) fn swap_case(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (c, lower) in lowered(text) {
        if c.is_uppercase() {
            out.push_str(&lower);
        } else if is_title(c) {
            out.push(c);
        } else {
            out.extend(c.to_uppercase());
        }
    }
    out
}

/// `str.casefold`, of all but Cherokee.
pub(super) fn fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == 'ı' {
            out.push(c);
            continue;
        }
        let upper = c.to_lowercase().flat_map(char::to_uppercase);
        out.extend(upper.flat_map(char::to_lowercase));
    }
    out
}
