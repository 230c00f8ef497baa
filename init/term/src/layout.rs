//! Where the rows of a text begin on a screen of some width. Rows are found
//! when they are asked for and kept while the text before them stays, so that
//! a key in a text of a mebibyte costs what the screen shows and no more.

use unicode_segmentation::UnicodeSegmentation;

use super::width::{Glyph, glyph, narrow_glyph};

/// Where one screen row begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowStart {
    /// In bytes of the text.
    pub offset: usize,
    /// Whether a line of the text begins here, so that a prompt stands before.
    pub is_line: bool,
}

impl RowStart {
    /// The first row's.
    const FIRST: Self = Self {
        offset: 0,
        is_line: true,
    };
}

/// The widths that rows are cut by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Measure {
    /// Cells in a row.
    pub columns: usize,
    /// Cells of the prompt before the first line.
    pub first: usize,
    /// Cells of the prompt before each further line.
    pub further: usize,
}

impl Measure {
    /// The cells of the prompt before the row at `start`.
    pub(crate) fn indent(&self, start: RowStart) -> usize {
        match start {
            RowStart { is_line: false, .. } => 0,
            RowStart { offset: 0, .. } => self.first,
            RowStart { .. } => self.further,
        }
    }
}

/// The rows known so far.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Layout {
    measure: Measure,
    starts: Vec<RowStart>,
    complete: bool,
}

/// One cluster in a row.
#[derive(Debug)]
pub(crate) struct Placed<'a> {
    /// Its first byte in the text.
    pub offset: usize,
    /// Its first column.
    pub column: usize,
    /// How it is shown.
    pub glyph: Glyph<'a>,
}

impl Layout {
    /// The rows of a text cut by `measure`.
    pub(crate) fn new(measure: Measure) -> Self {
        Layout {
            measure,
            starts: vec![RowStart::FIRST],
            complete: false,
        }
    }

    /// What rows are cut by.
    pub(crate) fn measure(&self) -> Measure {
        self.measure
    }

    /// Forgets the rows that a change at byte `from` may have moved. The two
    /// rows before go too: the cluster that began them may have grown.
    pub(crate) fn forget_from(&mut self, from: usize) {
        let kept = self.starts.partition_point(|row| row.offset <= from);
        self.starts.truncate(kept.saturating_sub(2).max(1));
        self.complete = false;
    }

    /// Finds rows until there are `count` or the text ends.
    pub(crate) fn find_rows(&mut self, text: &str, count: usize) {
        while !self.complete && self.starts.len() < count {
            self.find_row(text);
        }
    }

    /// The row and column of byte `offset`; finds rows up to it.
    pub(crate) fn locate(&mut self, text: &str, offset: usize) -> (usize, usize) {
        while !self.complete && self.starts.last().is_some_and(|r| r.offset <= offset) {
            self.find_row(text);
        }
        let row = self.starts.partition_point(|r| r.offset <= offset);
        let row = row.saturating_sub(1);
        let mut column = self.measure.indent(self.start(row));
        self.place_row(text, row, |placed| {
            if placed.offset < offset {
                column = placed.column.saturating_add(placed.glyph.width);
            }
        });
        (row, column)
    }

    /// The byte at which the cursor stands in row `row` at `column`, or at the
    /// row's last place if that is further left; `None` if there is no such row.
    pub(crate) fn offset_at(&mut self, text: &str, row: usize, column: usize) -> Option<usize> {
        self.find_rows(text, row.saturating_add(2));
        let start = *self.starts.get(row)?;
        let end = match self.starts.get(row.saturating_add(1)) {
            // The cursor of a full row's end stands in the next one.
            Some(next) if !next.is_line => None,
            // CR LF is one cluster: the cursor cannot stand inside it.
            Some(next) => {
                let line_feed = next.offset.saturating_sub(1);
                let is_pair = text
                    .get(start.offset..line_feed)
                    .unwrap_or_default()
                    .ends_with('\r');
                Some(line_feed.saturating_sub(usize::from(is_pair)))
            }
            None => Some(text.len()),
        };
        let (mut at, mut last) = (None, start.offset);
        self.place_row(text, row, |placed| {
            last = placed.offset;
            if at.is_none() && placed.column.saturating_add(placed.glyph.width) > column {
                at = Some(placed.offset);
            }
        });
        let at = at.unwrap_or(end.unwrap_or(last));
        Some(end.map_or(at, |end| at.min(end)))
    }

    /// How many rows are known, and whether these are all.
    pub(crate) fn known(&self) -> (usize, bool) {
        (self.starts.len(), self.complete)
    }

    /// Where row `row` begins; of one that is not known, the text's beginning.
    pub(crate) fn start(&self, row: usize) -> RowStart {
        self.starts.get(row).copied().unwrap_or(RowStart::FIRST)
    }

    /// Calls `f` with each cluster of the known row `row`.
    pub(crate) fn place_row<'t>(&self, text: &'t str, row: usize, f: impl FnMut(Placed<'t>)) {
        place(text, self.start(row), self.measure, f);
    }

    fn find_row(&mut self, text: &str) {
        let last = self.starts.last().copied().unwrap_or(RowStart::FIRST);
        match place(text, last, self.measure, |_| ()) {
            Some(next) => self.starts.push(next),
            None => self.complete = true,
        }
    }
}

/// Places the clusters of the row at `start`; returns where the next begins.
/// A line break, and the end of the text, need a free cell for the cursor.
fn place<'t>(
    text: &'t str,
    start: RowStart,
    measure: Measure,
    mut f: impl FnMut(Placed<'t>),
) -> Option<RowStart> {
    let mut column = measure.indent(start);
    let rest = text.get(start.offset..).unwrap_or_default();
    let row_at = |offset: usize, is_line: bool| Some(RowStart { offset, is_line });
    for (i, cluster) in rest.grapheme_indices(true) {
        let offset = start.offset.saturating_add(i);
        let shown = match cluster {
            "\n" if column >= measure.columns => return row_at(offset, false),
            "\n" => return row_at(offset.saturating_add(1), true),
            "\r\n" => glyph("\r"),
            _ => glyph(cluster),
        };
        let shown = if shown.room > measure.columns {
            narrow_glyph(cluster)
        } else {
            shown
        };
        let room = shown.room.saturating_add(usize::from(cluster == "\r\n"));
        if column.saturating_add(room) > measure.columns {
            return row_at(offset, false);
        }
        f(Placed {
            offset,
            column,
            glyph: shown.clone(),
        });
        column = column.saturating_add(shown.width);
        if cluster == "\r\n" {
            return row_at(offset.saturating_add(2), true);
        }
    }
    (column >= measure.columns).then_some(RowStart {
        offset: text.len(),
        is_line: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Measure = Measure {
        columns: 10,
        first: 4,
        further: 2,
    };

    fn rows(text: &str) -> Vec<(usize, bool)> {
        let mut layout = Layout::new(TEN);
        layout.find_rows(text, usize::MAX);
        layout
            .starts
            .iter()
            .map(|r| (r.offset, r.is_line))
            .collect()
    }

    #[test]
    fn rows_break_at_the_width_and_at_line_ends() {
        for (text, expected) in [
            ("", vec![(0, true)]),
            ("abcde", vec![(0, true)]),
            ("abcdef", vec![(0, true), (6, false)]),
            ("abcdefg", vec![(0, true), (6, false)]),
            ("abcde\n", vec![(0, true), (6, true)]),
            ("abcdef\n", vec![(0, true), (6, false), (7, true)]),
            ("a\r\nb", vec![(0, true), (3, true)]),
            ("abcde漢", vec![(0, true), (5, false)]),
            ("abcd漢", vec![(0, true), (7, false)]),
        ] {
            assert_eq!(rows(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_cursor_is_found() {
        let mut layout = Layout::new(TEN);
        assert_eq!(layout.locate("abcdef", 5), (0, 9));
        assert_eq!(layout.locate("abcdef", 6), (1, 0));
        let mut layout = Layout::new(TEN);
        assert_eq!(layout.locate("漢b\nc", 3), (0, 6));
        assert_eq!(layout.locate("漢b\nc", 5), (1, 2));
        assert_eq!(layout.locate("漢b\nc", 6), (1, 3));
    }

    #[test]
    fn a_place_in_a_row_is_found() {
        // ">>> abcdef", "ghijklmnop", "qr" and a line ".. s" below.
        let text = "abcdefghijklmnopqr\ns漢t";
        let mut layout = Layout::new(TEN);
        for (row, column, at) in [
            (0, 0, Some(0)),
            (0, 4, Some(0)),
            (0, 6, Some(2)),
            (0, 99, Some(5)),
            (1, 0, Some(6)),
            (1, 10, Some(15)),
            (2, 1, Some(17)),
            (2, 5, Some(18)),
            (3, 3, Some(20)),
            (3, 4, Some(20)),
            (3, 5, Some(23)),
            (3, 9, Some(24)),
            (4, 0, None),
        ] {
            assert_eq!(layout.offset_at(text, row, column), at, "{row} {column}");
        }
        let mut layout = Layout::new(TEN);
        assert_eq!(layout.offset_at("a\r\nb", 0, 9), Some(1));
        let mut layout = Layout::new(TEN);
        assert_eq!(layout.offset_at("abcdef", 1, 0), Some(6));
    }
}
