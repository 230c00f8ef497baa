//! Tables, laid out at the width: columns aligned by their colons, cells
//! wrapped within their column. Where a screen is too narrow for that the
//! table is shown as it was written.

use unicode_segmentation::UnicodeSegmentation;

use super::super::width::glyph;
use super::inline::Span;
use super::writer::{Look, Writer};

/// Cells of text that a column has at least, if there is so much in it.
const COLUMN_CELLS_MIN: usize = 6;

/// What a column gets more, if there is room, while further rows may come.
const SPARE_CELLS: usize = 8;

/// Where the text of a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Centre,
    Right,
}

/// The columns that a row of delimiters (`|---|:-:|`) declares.
pub(super) fn delimiters(row: &str) -> Option<Vec<Align>> {
    if !row.contains('|') {
        return None;
    }
    let align = |cell: String| {
        let marks = cell.strip_prefix(':').unwrap_or(&cell);
        let marks = marks.strip_suffix(':').unwrap_or(marks);
        let is_delimiter = !marks.is_empty() && marks.chars().all(|c| c == '-');
        is_delimiter.then_some(match (cell.starts_with(':'), cell.ends_with(':')) {
            (true, true) => Align::Centre,
            (false, true) => Align::Right,
            _ => Align::Left,
        })
    };
    cells(row).into_iter().map(align).collect()
}

/// The texts between the bars of a row. A bar with a backslash is text.
pub(super) fn cells(row: &str) -> Vec<String> {
    let row = row.trim();
    let row = row.strip_prefix('|').unwrap_or(row);
    let mut cells = vec![String::new()];
    let mut chars = row.chars().peekable();
    while let Some(c) = chars.next() {
        let is_escaped = c == '\\' && chars.next_if_eq(&'|').is_some();
        if c == '|' && chars.peek().is_some() {
            cells.push(String::new());
        } else if let Some(cell) = cells.last_mut()
            && c != '|'
        {
            cell.push(if is_escaped { '|' } else { c });
        }
    }
    cells.iter().map(|cell| cell.trim().to_owned()).collect()
}

/// A table as far as it has come.
#[derive(Debug, Clone)]
pub(super) struct Table {
    aligns: Vec<Align>,
    /// The rows that are not written yet, as they came.
    source: Vec<String>,
    /// Whether the first of them is the head.
    has_head: bool,
    fit: Fit,
}

/// How the rows that are written were laid out.
#[derive(Debug, Clone)]
enum Fit {
    /// None is written yet.
    Unknown,
    /// The cells of each column.
    Columns(Vec<usize>),
    /// As they were written: the screen is too narrow.
    Raw,
}

/// The cells of a row as they are shown.
type Row = Vec<Vec<Span>>;

impl Table {
    /// A table of these columns, its head and the row of delimiters.
    pub(super) fn new(aligns: Vec<Align>, head: String, delimiters: String) -> Self {
        Table {
            aligns,
            source: vec![head, delimiters],
            has_head: true,
            fit: Fit::Unknown,
        }
    }

    /// Adds a row.
    pub(super) fn push(&mut self, row: String) {
        self.source.push(row);
    }

    /// Whether rows may be written as they come, for others were.
    pub(super) fn is_settled(&self) -> bool {
        !matches!(self.fit, Fit::Unknown)
    }

    /// Writes the rows that are not written yet; none will come if it `is_over`.
    /// `spans` reads a cell.
    pub(super) fn write(
        &mut self,
        writer: &mut Writer,
        room: usize,
        is_over: bool,
        spans: impl Fn(&str) -> Vec<Span>,
    ) {
        let source = std::mem::take(&mut self.source);
        let has_head = std::mem::take(&mut self.has_head);
        let rows = source
            .iter()
            .enumerate()
            .filter(|(i, _)| !has_head || *i != 1);
        let rows: Vec<Row> = rows
            .map(|(i, row)| self.row(row, has_head && i == 0, &spans))
            .collect();
        if !self.is_settled() {
            let widths = self.widths(&rows, room, is_over);
            self.fit = widths.map_or(Fit::Raw, Fit::Columns);
        }
        if let Fit::Columns(widths) = &self.fit {
            for (i, row) in rows.iter().enumerate() {
                self.write_row(row, widths, writer);
                if i == 0 && has_head {
                    write_rule(widths, writer);
                }
            }
        } else {
            for row in &source {
                row.chars()
                    .for_each(|c| writer.take_char(c, Look::default()));
                writer.end_line();
            }
        }
    }

    fn row(&self, row: &str, is_head: bool, spans: impl Fn(&str) -> Vec<Span>) -> Row {
        let mut cells = cells(row);
        // What a row has more than the head goes into its last column.
        if cells.len() > self.aligns.len() {
            let more = cells.split_off(self.aligns.len().saturating_sub(1));
            cells.push(more.join(" | "));
        }
        cells.resize(self.aligns.len(), String::new());
        let mut row: Row = cells.iter().map(|cell| spans(cell)).collect();
        for span in row.iter_mut().flatten() {
            span.look.bold |= is_head;
        }
        row
    }

    /// How wide the columns are in so much room; `None` if they do not fit.
    fn widths(&self, rows: &[Row], room: usize, is_over: bool) -> Option<Vec<usize>> {
        let count = self.aligns.len();
        let columns = (0..count).map(|i| rows.iter().filter_map(move |row| row.get(i)));
        // What each column takes in one row, and what it has at least.
        let needs: Vec<(usize, usize)> = columns
            .map(|column| {
                let cells = column.clone().map(|cell| cells_of(cell));
                let cells = cells.max().unwrap_or(0).max(1);
                let clusters = column.flatten().flat_map(|span| span.text.graphemes(true));
                let widest = clusters.map(|c| glyph(c).room).max().unwrap_or(0);
                (cells, cells.min(COLUMN_CELLS_MIN).max(widest))
            })
            .collect();
        let bars = count.saturating_sub(1).saturating_mul(3);
        let mut left = room.checked_sub(bars)?;
        let mut reserved: usize = needs.iter().map(|(_, least)| least).sum();
        if reserved > left {
            return None;
        }
        // The narrow columns get what they want, the others share the rest.
        let spare = if is_over { 0 } else { SPARE_CELLS };
        let mut order: Vec<(usize, (usize, usize))> = needs.into_iter().enumerate().collect();
        order.sort_by_key(|(_, need)| *need);
        let mut widths = vec![0; count];
        for (done, (i, (cells, least))) in order.into_iter().enumerate() {
            reserved = reserved.saturating_sub(least);
            let part = left.checked_div(count.saturating_sub(done)).unwrap_or(left);
            let width = cells.saturating_add(spare).min(part).max(least);
            let width = width.min(left.saturating_sub(reserved));
            left = left.saturating_sub(width);
            if let Some(slot) = widths.get_mut(i) {
                *slot = width;
            }
        }
        Some(widths)
    }

    fn write_row(&self, row: &Row, widths: &[usize], writer: &mut Writer) {
        let cells: Vec<Writer> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| {
                let mut cell_writer = writer.for_cell(*width);
                put_cell(cell, &mut cell_writer);
                cell_writer.end_line();
                cell_writer
            })
            .collect();
        let lines = cells
            .iter()
            .map(|cell| cell.rows().count())
            .max()
            .unwrap_or(0);
        for line in 0..lines {
            writer.put("", Look::default());
            let (mut column, mut is_exact) = (None, true);
            for (i, cell) in cells.iter().enumerate() {
                let start = column.unwrap_or(writer.start_column());
                let width = widths.get(i).copied().unwrap_or(0);
                let (text, taken) = cell.rows().nth(line).unwrap_or_default();
                if i > 0 {
                    writer.pad_to(start.saturating_sub(3), is_exact);
                    writer.put(&format!(" {} ", writer.bar()), Look::DIM);
                }
                let blanks = width.saturating_sub(taken);
                let before = match self.aligns.get(i) {
                    Some(Align::Centre) => blanks / 2,
                    Some(Align::Right) => blanks,
                    _ => 0,
                };
                if taken > 0 {
                    writer.pad_to(start.saturating_add(before), true);
                    writer.put_row(text, taken);
                }
                // Beyond ASCII a terminal's tables may be of another year.
                is_exact &= text.is_ascii();
                column = Some(start.saturating_add(width).saturating_add(3));
            }
            writer.end_line();
        }
    }
}

fn write_rule(widths: &[usize], writer: &mut Writer) {
    let (rule, cross) = writer.rule();
    let pieces: Vec<String> = widths.iter().map(|width| rule.repeat(*width)).collect();
    writer.put(&pieces.join(&format!("{rule}{cross}{rule}")), Look::DIM);
    writer.end_line();
}

fn put_cell(cell: &[Span], writer: &mut Writer) {
    for span in cell {
        span.text
            .chars()
            .for_each(|c| writer.take_char(c, span.look));
    }
}

/// The cells of a text in one row.
fn cells_of(cell: &[Span]) -> usize {
    let mut writer = Writer::new(usize::MAX, false, false);
    put_cell(cell, &mut writer);
    writer.flush_word();
    writer.column()
}
