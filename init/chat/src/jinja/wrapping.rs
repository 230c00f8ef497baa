//! The filter `wordwrap`: Python's `textwrap.wrap`.

use super::Fault;
use super::budget::{Budget, Buffer};
use super::methods::optional_str;
use super::strings::lines;
use super::value::{Args, Value};

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
        for (index, line) in wrap(budget, chunks(line, hyphens), width, break_long, hyphens)?
            .into_iter()
            .enumerate()
        {
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
fn chunks(line: &str, hyphens: bool) -> Vec<String> {
    let chars: Vec<char> = line.chars().collect();
    let mut chunks: Vec<String> = Vec::new();
    let mut from = 0_usize;
    for at in 1..=chars.len() {
        let (Some(before), after) = (chars.get(at.saturating_sub(1)), chars.get(at)) else {
            break;
        };
        let turns = after.is_none_or(|after| is_space(*before) != is_space(*after));
        if turns || hyphens && !is_space(*before) && is_break(&chars, from, at) {
            chunks.push(chars.get(from..at).unwrap_or_default().iter().collect());
            from = at;
        }
    }
    chunks
}

fn is_space(c: char) -> bool {
    matches!(c, '\t'..='\r' | ' ')
}

/// Whether a word that begins at `from` is cut before `at`, as `wordsep_re` has it.
fn is_break(chars: &[char], from: usize, at: usize) -> bool {
    let get = |at: usize| chars.get(at).copied();
    let back = |count: usize| at.checked_sub(count).and_then(get);
    let is_word = |c: char| c == '_' || c.is_alphanumeric();
    let is_letter = |c: char| is_word(c) && !c.is_numeric();
    let is_punctuated = |c: char| is_word(c) || "!\"'&.,?".contains(c);
    let letter = |c: Option<char>| c.is_some_and(is_letter);
    let hyphen = |c: Option<char>| c == Some('-');
    let dashes = |from: usize| {
        let rest = chars.get(from..).unwrap_or_default();
        let count = rest.iter().take_while(|c| **c == '-').count();
        let end = from.saturating_add(count);
        (count >= 2 && get(end).is_some_and(is_word)).then_some(end)
    };
    // A dash that began here ends here.
    let begun = from.checked_sub(1).and_then(get);
    if hyphen(get(from)) && begun.is_some_and(is_punctuated) && dashes(from) == Some(at) {
        return true;
    }
    // Inside of a dash nothing ends.
    if hyphen(get(from))
        && begun.is_some_and(is_punctuated)
        && dashes(from).is_some_and(|end| at < end)
    {
        return false;
    }
    let within = at > from.saturating_add(1);
    let hyphenated = within
        && hyphen(back(1))
        && (letter(back(2)) && letter(back(3))
            || letter(back(4)) && hyphen(back(3)) && back(2).is_some_and(is_punctuated))
        && letter(get(at))
        && (letter(get(at.saturating_add(1)))
            || hyphen(get(at.saturating_add(1))) && letter(get(at.saturating_add(2))));
    hyphenated || back(1).is_some_and(is_punctuated) && dashes(at).is_some()
}

/// Where a word that is too long is cut: after its last hyphen within `room`.
fn hyphen_before(chunk: &str, room: usize) -> usize {
    let begin: Vec<char> = chunk.chars().take(room).collect();
    match begin.iter().rposition(|c| *c == '-') {
        Some(at) if begin.iter().take(at).any(|c| *c != '-') => at.saturating_add(1),
        _ => room,
    }
}

fn wrap(
    budget: &Budget,
    mut chunks: Vec<String>,
    width: usize,
    break_long: bool,
    hyphens: bool,
) -> Result<Vec<String>, Fault> {
    chunks.reverse();
    let mut wrapped: Vec<String> = Vec::new();
    while !chunks.is_empty() {
        let mut current: Vec<String> = Vec::new();
        let mut used = 0_usize;
        let is_blank = |chunk: &String| chunk.trim().is_empty();
        if !wrapped.is_empty() && chunks.last().is_some_and(is_blank) {
            chunks.pop();
        }
        while let Some(chunk) = chunks.pop() {
            let length = chunk.chars().count();
            budget.touch(chunk.len())?;
            if used.saturating_add(length) <= width {
                used = used.saturating_add(length);
                current.push(chunk);
                continue;
            }
            if length > width && break_long {
                let room = width.saturating_sub(used).max(usize::from(used == 0));
                let room = if hyphens {
                    hyphen_before(&chunk, room)
                } else {
                    room
                };
                current.push(chunk.chars().take(room).collect());
                chunks.push(chunk.chars().skip(room).collect());
            } else if length > width && current.is_empty() {
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
            wrapped.push(current.concat());
        }
    }
    Ok(wrapped)
}
