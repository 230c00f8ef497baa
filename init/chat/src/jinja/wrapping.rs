//! The filter `wordwrap`: Python's `textwrap.wrap`.

use super::budget::{Budget, Buffer};
use super::methods::optional_str;
use super::strings::lines;
use super::value::{Args, Value};
use super::{Fault, is_py_space};

/// What a word costs while it is moved.
const CHUNK_BYTES: usize = 2 * size_of::<String>();

pub(super) fn wordwrap(budget: &Budget, text: &str, args: Args) -> Result<Value, Fault> {
    let names = [
        "width",
        "break_long_words",
        "wrapstring",
        "break_on_hyphens",
    ];
    let [width, break_long, wrapstring, hyphens] = args.bind("wordwrap", names)?;
    let width = width.map_or(Ok(79), |width| width.size("width"))?.max(1);
    let break_long = break_long.is_none_or(|flag| flag.is_true());
    let hyphens = hyphens.is_none_or(|flag| flag.is_true());
    let end = optional_str(wrapstring.as_ref())?.unwrap_or("\n");
    // Words and lines are held one by one.
    budget.reserve(text.len().saturating_mul(CHUNK_BYTES))?;
    let mut out = Buffer::new(budget);
    for (index, line) in lines(text, false).enumerate() {
        if index > 0 {
            out.push(end)?;
        }
        let chars: Vec<char> = line.chars().collect();
        let wrapped = wrap(budget, chunks(&chars, hyphens), width, break_long, hyphens)?;
        for (index, line) in wrapped.into_iter().enumerate() {
            if index > 0 {
                out.push(end)?;
            }
            out.push(&line)?;
        }
    }
    out.finish()
}

/// Runs of white space and of anything else, in turn; words are cut after hyphens
/// between letters, and around dashes.
fn chunks(chars: &[char], hyphens: bool) -> Vec<&[char]> {
    let mut chunks = Vec::new();
    let mut from = 0_usize;
    let mut dash_end = None;
    for (at, before) in (1_usize..).zip(chars) {
        let turns = chars
            .get(at)
            .is_none_or(|after| is_space(*before) != is_space(*after));
        let breaks = match dash_end {
            _ if turns || !hyphens || is_space(*before) => turns,
            // Inside of a dash nothing ends.
            Some(end) if at <= end => at == end,
            _ => is_break(chars, from, at),
        };
        if breaks {
            chunks.push(chars.get(from..at).unwrap_or_default());
            from = at;
            dash_end = is_punctuated(*before)
                .then(|| end_of_dash(chars, at))
                .flatten();
        }
    }
    chunks
}

fn is_space(c: char) -> bool {
    matches!(c, '\t'..='\r' | ' ')
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn is_punctuated(c: char) -> bool {
    is_word(c) || "!\"'&.,?".contains(c)
}

/// The end of a dash of two hyphens or more that begins at `from`, before a word.
fn end_of_dash(chars: &[char], from: usize) -> Option<usize> {
    let rest = chars.get(from..)?;
    let count = rest.iter().take_while(|c| **c == '-').count();
    let word = rest.get(count).is_some_and(|c| is_word(*c));
    (count >= 2 && word).then(|| from.saturating_add(count))
}

/// Whether a word that begins at `from` is cut before `at`, as `wordsep_re` has it.
fn is_break(chars: &[char], from: usize, at: usize) -> bool {
    let get = |at: usize| chars.get(at).copied();
    let back = |count: usize| at.checked_sub(count).and_then(get);
    let letter = |c: Option<char>| c.is_some_and(|c| is_word(c) && !c.is_numeric());
    let hyphen = |c: Option<char>| c == Some('-');
    let hyphenated = at > from.saturating_add(1)
        && hyphen(back(1))
        && (letter(back(2)) && letter(back(3))
            || letter(back(4)) && hyphen(back(3)) && back(2).is_some_and(is_punctuated))
        && letter(get(at))
        && (letter(get(at.saturating_add(1)))
            || hyphen(get(at.saturating_add(1))) && letter(get(at.saturating_add(2))));
    hyphenated || back(1).is_some_and(is_punctuated) && end_of_dash(chars, at).is_some()
}

/// Where a word that is too long is cut: after its last hyphen within `room`.
fn hyphen_before(chunk: &[char], room: usize) -> usize {
    let begin = chunk.get(..room).unwrap_or(chunk);
    match begin.iter().rposition(|c| *c == '-') {
        Some(at) if begin.iter().take(at).any(|c| *c != '-') => at.saturating_add(1),
        _ => room,
    }
}

fn wrap(
    budget: &Budget,
    mut chunks: Vec<&[char]>,
    width: usize,
    break_long: bool,
    hyphens: bool,
) -> Result<Vec<String>, Fault> {
    chunks.reverse();
    let mut wrapped: Vec<String> = Vec::new();
    while !chunks.is_empty() {
        let mut current: Vec<&[char]> = Vec::new();
        let mut used = 0_usize;
        let is_blank = |chunk: &&[char]| chunk.iter().all(|c| is_py_space(*c));
        if !wrapped.is_empty() && chunks.last().is_some_and(is_blank) {
            chunks.pop();
        }
        while let Some(chunk) = chunks.pop() {
            budget.spend(1)?;
            if used.saturating_add(chunk.len()) <= width {
                used = used.saturating_add(chunk.len());
                current.push(chunk);
                continue;
            }
            if chunk.len() > width && break_long {
                let room = width.saturating_sub(used).max(usize::from(used == 0));
                let room = if hyphens {
                    hyphen_before(chunk, room)
                } else {
                    room
                };
                let (begin, rest) = chunk.split_at_checked(room).unwrap_or((chunk, &[]));
                current.push(begin);
                chunks.push(rest);
            } else if chunk.len() > width && current.is_empty() {
                current.push(chunk);
            } else {
                chunks.push(chunk);
            }
            break;
        }
        if current.last().is_some_and(is_blank) {
            current.pop();
        }
        if !current.is_empty() {
            wrapped.push(current.into_iter().flatten().collect());
        }
    }
    Ok(wrapped)
}
