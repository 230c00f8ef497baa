//! What a model says, in pieces, at a width: rendered it steers no terminal beyond the
//! renderer's own sequences.

#![no_main]

use libfuzzer_sys::fuzz_target;
use term::{Markdown, Rendering};

fuzz_target!(|said: (u8, u8, &str)| {
    let (columns, piece, text) = said;
    let mut markdown = Markdown::new(usize::from(columns), false, Rendering::Markdown);
    let mut shown = Vec::new();
    let characters: Vec<char> = text.chars().collect();
    for piece in characters.chunks(usize::from(piece).max(1)) {
        markdown.push(&piece.iter().collect::<String>(), &mut shown);
    }
    markdown.finish(&mut shown);
    let shown = String::from_utf8(shown).expect("text");
    // Without colours and without rows to paint over, nothing is painted.
    let steers = |c: char| c.is_control() && !matches!(c, '\r' | '\n' | '\t');
    assert!(!shown.contains(steers), "{shown:?}");
});
