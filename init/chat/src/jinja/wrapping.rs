//! The filter `wordwrap`: Python's `textwrap.wrap`, without breaks at hyphens
//! inside words.

use super::Fault;
use super::budget::{Budget, Buffer};
use super::methods::{lines, optional_str};
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
    let [width, break_long, wrapstring, _] = args.bind("wordwrap", names)?;
    let width = width.map_or(Ok(79), |width| width.size("width"))?.max(1);
    let break_long = break_long.is_none_or(|flag| flag.is_true());
    let end = optional_str(wrapstring.as_ref())?.unwrap_or("\n");
    // Words and lines are held one by one.
    budget.reserve(text.len().saturating_mul(CHUNK_BYTES))?;
    let mut out = Buffer::new(budget);
    for (index, line) in lines(text, false).enumerate() {
        if index > 0 {
            out.push(end)?;
        }
        for (index, line) in wrap(budget, line, width, break_long)?
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

/// Runs of white space and of anything else, in turn.
fn chunks(line: &str) -> Vec<String> {
    let mut chunks: Vec<String> = Vec::new();
    for c in line.chars() {
        let is_space = c.is_ascii_whitespace();
        match chunks.last_mut() {
            Some(chunk) if chunk.starts_with(|c: char| c.is_ascii_whitespace()) == is_space => {
                chunk.push(c);
            }
            _ => chunks.push(c.to_string()),
        }
    }
    chunks
}

fn wrap(budget: &Budget, line: &str, width: usize, break_long: bool) -> Result<Vec<String>, Fault> {
    let mut chunks = chunks(line);
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
