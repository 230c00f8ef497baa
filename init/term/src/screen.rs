//! Paints rows of cells over those painted before, with as few bytes as a slow
//! serial line deserves. It works downwards from wherever the cursor stood at
//! first, with relative movement, and never needs to know where on the screen
//! that is. It never relies on the terminal to wrap: a row that is full leaves
//! the cursor in a place that terminals disagree about, and is left at once by
//! a carriage return or an absolute column.

use std::io::Write;

use super::width::Glyph;

/// How a cell looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Style {
    /// As the terminal writes.
    #[default]
    Plain,
    /// The prompt.
    Prompt,
    /// What makes way: status, hints.
    Dim,
    /// What is chosen.
    Chosen,
}

impl Style {
    fn sgr(self) -> &'static str {
        match self {
            Style::Plain => "\x1b[m",
            Style::Prompt => "\x1b[1;36m",
            Style::Dim => "\x1b[2m",
            Style::Chosen => "\x1b[7m",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    end: usize,
    width: usize,
    style: Style,
    exact: bool,
}

/// One row as it is to stand on the screen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Row {
    text: String,
    cells: Vec<Cell>,
    width: usize,
}

impl Row {
    /// Appends a glyph.
    pub(crate) fn push(&mut self, glyph: &Glyph<'_>, style: Style) {
        self.text.push_str(&glyph.text);
        self.width = self.width.saturating_add(glyph.width);
        self.cells.push(Cell {
            end: self.text.len(),
            width: glyph.width,
            style,
            exact: glyph.exact,
        });
    }

    /// Appends a text without line breaks as far as it fits into `columns`.
    pub(crate) fn push_text(&mut self, text: &str, style: Style, columns: usize) {
        use unicode_segmentation::UnicodeSegmentation;
        for cluster in text.graphemes(true) {
            let glyph = super::width::glyph(cluster);
            if self.width.saturating_add(glyph.room) > columns {
                break;
            }
            self.push(&glyph, style);
        }
    }

    /// The cells taken.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// The text of the cells `from..to`.
    fn text_of(&self, from: usize, to: usize) -> &str {
        let end = |cells: usize| {
            let last = cells.checked_sub(1).and_then(|last| self.cells.get(last));
            last.map_or(0, |cell| cell.end)
        };
        self.text.get(end(from)..end(to)).unwrap_or_default()
    }

    fn cell_text(&self, i: usize) -> &str {
        self.text_of(i, i.saturating_add(1))
    }

    fn same_cell(&self, i: usize, other: &Row, j: usize) -> bool {
        let looks = |cell: &Cell| (cell.width, cell.style, cell.exact);
        self.cells.get(i).map(looks) == other.cells.get(j).map(looks)
            && self.cell_text(i) == other.cell_text(j)
    }
}

/// What is painted and where the terminal's cursor stands in it.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Painter {
    columns: usize,
    colour: bool,
    rows: Vec<Row>,
    row: usize,
    /// `None` where terminals disagree.
    column: Option<usize>,
}

impl Painter {
    /// A painter whose first row begins where the cursor stands, in column 0.
    pub(crate) fn new(columns: usize, colour: bool) -> Self {
        Painter {
            columns,
            colour,
            rows: Vec::new(),
            row: 0,
            column: Some(0),
        }
    }

    /// Sets the width for what is painted next; erase first.
    pub(crate) fn set_columns(&mut self, columns: usize) {
        self.columns = columns;
    }

    /// Sets whether attributes may be used in what is painted next.
    pub(crate) fn set_colour(&mut self, colour: bool) {
        self.colour = colour;
    }

    /// Shows `rows` (at least one) in place of what is painted, and the cursor
    /// at `cursor`, a row of them and a column.
    pub(crate) fn paint(&mut self, rows: Vec<Row>, cursor: (usize, usize), out: &mut Vec<u8>) {
        let old = std::mem::take(&mut self.rows);
        for (i, row) in rows.iter().enumerate() {
            if let Some(before) = old.get(i) {
                self.paint_over(i, before, row, out);
                continue;
            }
            if i > 0 {
                // Only a line feed from the last row scrolls.
                self.go_to_row(i.saturating_sub(1), out);
                out.extend_from_slice(b"\r\n");
                self.row = i;
                self.column = Some(0);
            }
            self.write_cells(row, 0, row.cells.len(), 0, out);
        }
        if old.len() > rows.len() {
            self.go_to(rows.len(), 0, out);
            out.extend_from_slice(b"\x1b[J");
        }
        self.rows = rows;
        self.go_to(cursor.0, cursor.1, out);
    }

    /// Removes what is painted; the cursor goes to where the first row began.
    pub(crate) fn erase(&mut self, out: &mut Vec<u8>) {
        if self.rows.is_empty() {
            return;
        }
        self.go_to(0, 0, out);
        out.extend_from_slice(b"\x1b[J");
        self.rows.clear();
    }

    /// Leaves what is painted on the screen; the cursor goes below it.
    pub(crate) fn leave(&mut self, out: &mut Vec<u8>) {
        if self.rows.is_empty() {
            return;
        }
        self.go_to_row(self.rows.len().saturating_sub(1), out);
        out.extend_from_slice(b"\r\n");
        self.forget();
    }

    /// Takes the screen as it is for empty and the cursor for at its place.
    pub(crate) fn forget(&mut self) {
        self.rows.clear();
        self.row = 0;
        self.column = Some(0);
    }

    fn paint_over(&mut self, i: usize, old: &Row, new: &Row, out: &mut Vec<u8>) {
        let shorter = old.cells.len().min(new.cells.len());
        let same = (0..shorter)
            .find(|&k| !old.same_cell(k, new, k))
            .unwrap_or(shorter);
        if same == old.cells.len() && same == new.cells.len() {
            return;
        }
        let from: usize = new.cells.iter().take(same).map(|c| c.width).sum();
        let inexact = |row: &Row| row.cells.iter().skip(same).any(|cell| !cell.exact);
        let to_end = old.width != new.width || inexact(old) || inexact(new);
        let kept = if to_end {
            0
        } else {
            (0..shorter.saturating_sub(same))
                .find(|&k| {
                    let from_end = |row: &Row| row.cells.len().saturating_sub(k).saturating_sub(1);
                    !old.same_cell(from_end(old), new, from_end(new))
                })
                .unwrap_or(shorter.saturating_sub(same))
        };
        self.go_to(i, from, out);
        self.write_cells(new, same, new.cells.len().saturating_sub(kept), from, out);
        let leftover = old.width > new.width || inexact(old);
        if to_end && leftover && new.width < self.columns {
            self.go_to(i, new.width, out);
            out.extend_from_slice(b"\x1b[K");
        }
    }

    /// Writes the cells `from..to` of `row`; the cursor stands at `column`.
    fn write_cells(&mut self, row: &Row, from: usize, to: usize, column: usize, out: &mut Vec<u8>) {
        let mut column = column;
        let mut style = Style::Plain;
        let cells = row.cells.iter().enumerate();
        for (i, cell) in cells.take(to).skip(from) {
            if self.colour && cell.style != style {
                if style != Style::Plain {
                    out.extend_from_slice(Style::Plain.sgr().as_bytes());
                }
                if cell.style != Style::Plain {
                    out.extend_from_slice(cell.style.sgr().as_bytes());
                }
                style = cell.style;
            }
            if !cell.exact {
                // It may take fewer cells than it should.
                out.extend_from_slice(b"\x1b[K");
            }
            out.extend_from_slice(row.cell_text(i).as_bytes());
            column = column.saturating_add(cell.width);
            if !cell.exact && column < self.columns {
                // Or more: go on at the right column whatever it was.
                // Writing to a `Vec` cannot fail.
                let _ = write!(out, "\x1b[{}G\x1b[K", column.saturating_add(1));
            }
        }
        if style != Style::Plain {
            out.extend_from_slice(Style::Plain.sgr().as_bytes());
        }
        // Beyond ASCII a terminal's tables may be of another year than ours.
        let is_known = column < self.columns && row.text_of(from, to).is_ascii();
        self.column = is_known.then_some(column);
    }

    fn go_to(&mut self, row: usize, column: usize, out: &mut Vec<u8>) {
        self.go_to_row(row, out);
        let column = column.min(self.columns.saturating_sub(1));
        match self.column {
            Some(here) if here == column => {}
            _ if column == 0 => out.push(b'\r'),
            Some(here) if here > column && here.saturating_sub(column) <= 3 => {
                out.extend(std::iter::repeat_n(b'\x08', here.saturating_sub(column)));
            }
            _ => {
                let _ = write!(out, "\x1b[{}G", column.saturating_add(1));
            }
        }
        self.column = Some(column);
    }

    /// Moves to another painted row, or to the one after the last that was.
    fn go_to_row(&mut self, row: usize, out: &mut Vec<u8>) {
        let _ = match row.cmp(&self.row) {
            std::cmp::Ordering::Less => write!(out, "\x1b[{}A", self.row.saturating_sub(row)),
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => write!(out, "\x1b[{}B", row.saturating_sub(self.row)),
        };
        self.row = row;
    }
}
