//! How a grapheme cluster is shown: the text that the terminal is sent for it
//! and the cells it takes. Nothing that leaves this module can move the cursor
//! or reorder text: control characters, invisible characters and bidirectional
//! overrides become visible signs.
//!
//! Terminals disagree about emoji sequences. For those a [`Glyph`] says so
//! (`exact` is false) and names the room that the most generous terminal takes;
//! the painter then sets the column itself and does not trust the terminal.

use std::borrow::Cow;
use std::fmt::Write;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The cells of a tab character in the edit line.
const TAB: &str = "    ";

/// Marks on one base character beyond these are not sent to the terminal.
const CLUSTER_CHARS_MAX: usize = 24;

/// One cluster as the terminal gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glyph<'a> {
    /// What to send: printable, without control characters.
    pub text: Cow<'a, str>,
    /// The cells that it takes; at least 1.
    pub width: usize,
    /// The cells that some terminal may take: never less than `width`.
    pub room: usize,
    /// Whether terminals agree on `width`.
    pub exact: bool,
}

impl<'a> Glyph<'a> {
    fn plain(text: impl Into<Cow<'a, str>>, width: usize) -> Self {
        Glyph {
            text: text.into(),
            width,
            room: width,
            exact: true,
        }
    }
}

/// How to show one grapheme cluster (of a text without line breaks).
pub(crate) fn glyph(cluster: &str) -> Glyph<'_> {
    let bytes = cluster.as_bytes();
    if matches!(bytes, [0x20..0x7f]) {
        return Glyph::plain(cluster, 1);
    }
    if cluster == "\t" {
        return Glyph::plain(TAB, TAB.len());
    }
    let Some(first) = cluster.chars().next() else {
        return Glyph::plain(" ", 1);
    };
    if needs_sign(cluster, first) {
        return signed(cluster);
    }
    if first.width() == Some(0) {
        // A combining mark without its base would land on the cell before.
        return measured(Cow::Owned(format!("\u{25cc}{cluster}")));
    }
    let flag = ('\u{1f1e6}'..='\u{1f1ff}').contains(&first);
    if flag {
        return Glyph {
            text: Cow::Borrowed(cluster),
            width: cluster.chars().count().min(2),
            room: 4,
            exact: false,
        };
    }
    measured(Cow::Borrowed(cluster))
}

/// A glyph of printable text, as wide as terminals that know clusters make it.
fn measured(text: Cow<'_, str>) -> Glyph<'_> {
    let width = text.width().max(1);
    let sum: usize = text.chars().map(|c| c.width().unwrap_or(0)).sum();
    let is_selector = |c| matches!(c, '\u{200d}' | '\u{fe0e}' | '\u{fe0f}');
    // Of the characters of three cells terminals know nothing.
    let is_disputed = |c: char| is_selector(c) || c.width() > Some(2);
    Glyph {
        width,
        room: width.max(sum),
        exact: width == sum && !text.contains(is_disputed),
        text,
    }
}

/// The first character of an over-wide cluster alone, for a screen that is
/// narrower than what the whole might take.
pub(crate) fn narrow_glyph(cluster: &str) -> Glyph<'static> {
    match cluster.chars().next() {
        Some(c) if sign(c).is_none() && c.width().is_some_and(|w| w > 0) => {
            Glyph::plain(c.to_string(), c.width().unwrap_or(1))
        }
        _ => Glyph::plain("?", 1),
    }
}

/// The visible sign for a character that must not reach the terminal as it is.
/// Line feed and tab have one too: whoever lets them pass asks first.
pub(crate) fn sign(c: char) -> Option<String> {
    match c {
        '\0'..='\x1f' => char::from_u32(u32::from(c) | 0x2400).map(String::from),
        '\x7f' => Some("\u{2421}".to_owned()),
        _ if is_hidden(c) => Some(format!("<{:X}>", u32::from(c))),
        _ => None,
    }
}

/// Characters that are invisible, reorder text, or address the terminal (C1).
/// Joiners (U+200C, U+200D) and variation selectors are not among them, for
/// scripts and emoji need them inside clusters.
fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'
        | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
        || (c == '\u{3164}' || c == '\u{ffa0}' || c == '\u{115f}' || c == '\u{1160}')
}

fn needs_sign(cluster: &str, first: char) -> bool {
    // The flags of England, Scotland and Wales are spelt with tag characters.
    let tags_belong = first == '\u{1f3f4}';
    cluster.chars().count() > CLUSTER_CHARS_MAX
        || is_lone_joiner(first)
        || cluster.chars().any(|c| {
            let tag = ('\u{e0020}'..='\u{e007f}').contains(&c);
            sign(c).is_some() && !(tag && tags_belong)
        })
}

fn is_lone_joiner(first: char) -> bool {
    matches!(first, '\u{200c}' | '\u{200d}' | '\u{34f}' | '\u{fe00}'..='\u{fe0f}' | '\u{180b}'..='\u{180f}')
}

fn signed(cluster: &str) -> Glyph<'static> {
    let mut text = String::new();
    for (i, c) in cluster.chars().enumerate() {
        if i == CLUSTER_CHARS_MAX {
            text.push('+');
            break;
        }
        match sign(c) {
            Some(shown) => text.push_str(&shown),
            None if i == 0 && is_lone_joiner(c) => {
                // Writing to a `String` cannot fail.
                let _ = write!(text, "<{:X}>", u32::from(c));
            }
            None if i == 0 && c.width() == Some(0) => {
                text.push('\u{25cc}');
                text.push(c);
            }
            None => text.push(c),
        }
    }
    measured(Cow::Owned(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use unicode_segmentation::UnicodeSegmentation;

    fn shown(text: &str) -> Vec<(String, usize)> {
        text.graphemes(true)
            .map(|c| (glyph(c).text.into_owned(), glyph(c).width))
            .collect()
    }

    #[test]
    fn clusters_take_the_cells_that_terminals_give_them() {
        for (text, width) in [
            ("a", 1),
            ("e\u{301}", 1),
            ("漢", 2),
            ("한", 2),
            ("👍🏽", 2),
            ("👨‍👩‍👧", 2),
            ("🇩🇪", 2),
            ("❤\u{fe0f}", 2),
            ("\t", 4),
        ] {
            assert_eq!(shown(text).len(), 1, "{text:?} is one cluster");
            assert_eq!(shown(text)[0].1, width, "{text:?}");
        }
        assert!(!glyph("👍🏽").exact && glyph("👍🏽").room == 4);
        assert!(glyph("漢").exact);
        assert!(!glyph("\u{17d8}").exact && glyph("\u{17d8}").room == 3);
    }

    #[test]
    fn what_could_harm_is_shown_as_a_sign() {
        for (text, sign) in [
            ("\x1b", "␛"),
            ("\x07", "␇"),
            ("\x7f", "␡"),
            ("\u{9b}", "<9B>"),
            ("\u{202e}", "<202E>"),
            ("\u{200b}", "<200B>"),
            ("\u{301}", "\u{25cc}\u{301}"),
            ("\u{200d}", "<200D>"),
            ("a\u{e0041}", "a<E0041>"),
        ] {
            assert_eq!(shown(text)[0].0, sign, "{text:?}");
        }
        assert_eq!(shown("🏴󠁧󠁢󠁥󠁮󠁧󠁿").len(), 1);
        assert_eq!(shown("🏴󠁧󠁢󠁥󠁮󠁧󠁿")[0].0, "🏴󠁧󠁢󠁥󠁮󠁧󠁿");
    }

    #[test]
    fn every_character_takes_a_cell_and_sends_no_control() {
        for c in (0..=0x10_ffff).filter_map(char::from_u32) {
            let text = c.to_string();
            let glyph = glyph(&text);
            assert!(glyph.width >= 1 && glyph.room >= glyph.width, "{c:?}");
            assert!(!glyph.text.chars().any(char::is_control), "{c:?}");
        }
    }
}
