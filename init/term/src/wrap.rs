//! Lines of our own, broken between words. Control characters are shown as
//! signs: nothing here may steer the terminal.

use unicode_segmentation::UnicodeSegmentation;

use super::width::glyph;

/// The rows of `line` on a screen of `columns`. Where the line is a row of a
/// table, further rows begin below its last column.
#[must_use]
pub fn wrap(line: &str, columns: usize) -> Vec<String> {
    let hang = hang(line);
    let hang = if hang > columns / 2 { 0 } else { hang };
    let mut rows = Vec::new();
    let (mut row, mut width) = (String::new(), 0_usize);
    for word in words(line) {
        let room = cells(word.trim_end_matches(' '));
        if width.saturating_add(room) > columns && width > hang {
            rows.push(row.trim_end().to_owned());
            (row, width) = (" ".repeat(hang), hang);
        }
        for cluster in word.graphemes(true) {
            let glyph = glyph(cluster);
            if width.saturating_add(glyph.room) > columns && cluster != " " && width > hang {
                rows.push(row.trim_end().to_owned());
                (row, width) = (" ".repeat(hang), hang);
            }
            row.push_str(&glyph.text);
            width = width.saturating_add(glyph.room);
        }
    }
    rows.push(row.trim_end().to_owned());
    rows
}

/// Words, each with the blank behind it. A blank that something joins is part of a word.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let clusters = line.grapheme_indices(true);
    let blanks = clusters.filter(|(_, cluster)| *cluster == " ");
    let ends = blanks.map(|(at, _)| at.saturating_add(1));
    let mut start = 0;
    ends.chain([line.len()]).filter_map(move |end| {
        let word = line.get(start..end);
        start = end;
        word
    })
}

/// Where the last column of a table begins: behind the last gap of two blanks
/// in the first part of the line that no sentence ends before; else where its text
/// begins.
fn hang(line: &str) -> usize {
    let indent = line
        .len()
        .saturating_sub(line.trim_start_matches(' ').len());
    let head: String = line.chars().take(48).collect();
    let mut gaps = head.trim_end().rmatch_indices("  ").map(|(at, _)| at);
    let gap = gaps.find(|at| {
        let before = head.get(..*at).unwrap_or_default();
        let before = before.trim_end_matches([' ', '"', '”', ')']);
        !before.ends_with(['.', '?', '!', ':', '…'])
    });
    let hang = gap.map_or(0, |at| at.saturating_add(2)).max(indent);
    cells(line.get(..hang).unwrap_or_default())
}

fn cells(text: &str) -> usize {
    text.graphemes(true).map(|c| glyph(c).room).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_below_their_column() {
        for (line, columns, rows) in [
            ("", 20, vec![""]),
            ("short", 20, vec!["short"]),
            ("one two three four", 10, vec!["one two", "three four"]),
            ("exactly so", 10, vec!["exactly so"]),
            (
                "  a   one two three",
                14,
                vec!["  a   one two", "      three"],
            ),
            ("  indented text", 10, vec!["  indented", "  text"]),
            (
                "It asks.  I should do",
                20,
                vec!["It asks.  I should", "do"],
            ),
            (
                "(So?)  \"Yes!\"  No, not so at all",
                30,
                vec!["(So?)  \"Yes!\"  No, not so at", "all"],
            ),
            (
                "a  It asks.  I should",
                16,
                vec!["a  It asks.  I", "   should"],
            ),
            ("abcdefghijklm no", 8, vec!["abcdefgh", "ijklm no"]),
            ("漢字漢字 漢", 6, vec!["漢字漢", "字 漢"]),
            ("a\x1b[2Jb", 20, vec!["a␛[2Jb"]),
            ("a \u{200c}b c", 4, vec!["a \u{200c}b", "c"]),
            ("ends with blanks   ", 20, vec!["ends with blanks"]),
        ] {
            assert_eq!(wrap(line, columns), rows, "{line:?}");
        }
    }

    /// Lines of every kind: indented, long, with words longer than a row.
    const HELP: &str = include_str!("../../../docs/parameters.md");

    #[test]
    fn rows_fit_any_width() {
        for columns in 2..60 {
            for line in HELP.lines() {
                let rows = wrap(line, columns);
                assert!(rows.iter().all(|row| cells(row) <= columns), "{rows:#?}");
                let words = |text: &str| text.split_whitespace().collect::<String>();
                assert_eq!(words(&rows.concat()), words(line));
            }
        }
    }
}
