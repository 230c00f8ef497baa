//! Markdown from a model: what reaches the terminal is text and looks, and what has no
//! markup is all there.

#![no_main]

use libfuzzer_sys::fuzz_target;
use term::{Markdown, Rendering, sanitize, wrap};

/// Without the sequences, of which there are those for looks and those that write a live
/// table over once more; and whether there was one of these.
fn without_sequences(out: &[u8]) -> (String, bool) {
    let text = std::str::from_utf8(out).expect("what is shown is UTF-8");
    let mut pieces = text.split('\x1b');
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    let mut moves = false;
    for piece in pieces {
        let codes = piece.strip_prefix('[').expect("no other kind of sequence");
        let end = codes.find(|c: char| !c.is_ascii_digit() && c != ';');
        let (kind, rest) = codes[end.expect("it ends")..].split_at(1);
        assert!(
            ["m", "A", "G", "J"].contains(&kind),
            "{codes:?} in {text:?}"
        );
        moves |= kind != "m";
        plain.push_str(rest);
    }
    let steers = |c: char| c.is_control() && !"\r\n\t".contains(c);
    assert!(!plain.contains(steers), "{plain:?}");
    (plain, moves)
}

/// What a reader must find again, in this order.
fn words(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric()).collect()
}

fuzz_target!(|input: (u8, u8, &str)| {
    let (columns, piece, text) = input;
    let (columns, piece) = (usize::from(columns), usize::from(piece).max(1));
    for rendering in [Rendering::Markdown, Rendering::Plain] {
        let mut markdown = Markdown::new(columns, true, rendering);
        let mut out = Vec::new();
        let characters: Vec<char> = text.chars().collect();
        for piece in characters.chunks(piece) {
            markdown.push(&piece.iter().collect::<String>(), &mut out);
        }
        markdown.finish(&mut out);
        let (shown, moves) = without_sequences(&out);
        let markup = |c: char| rendering == Rendering::Markdown && c.is_ascii_punctuation();
        // A character that would steer the terminal is shown by its number.
        let steers = |c: char| !"\r\n\t".contains(c) && !sanitize(&c.to_string()).contains(c);
        if !moves && !text.contains(markup) && !text.contains(steers) {
            assert_eq!(words(&shown), words(text), "{shown:?}");
        }
    }
    let harmless = sanitize(text);
    assert!(
        !harmless.contains(|c: char| c.is_control() && !"\n\t".contains(c)),
        "{harmless:?}"
    );
    let line: String = harmless.chars().filter(|c| *c != '\n').collect();
    let wrapped = words(&wrap(&line, columns).concat());
    assert_eq!(wrapped, words(&wrap(&line, usize::MAX).concat()));
    // A joiner that joins nothing is shown by its number.
    let joins = |c| matches!(c, '\u{200c}' | '\u{200d}' | '\u{34f}' | '\u{fe00}'..='\u{fe0f}' | '\u{180b}'..='\u{180f}');
    if !line.contains(joins) {
        assert_eq!(wrapped, words(&line));
    }
});
