//! A text with its cursor and prompts, cut to the rows that fit the screen.

use super::layout::{Layout, Measure};
use super::screen::{Row, Style};

const CHOICE_ROWS_MAX: usize = 6;

/// A text with its cursor and prompts, to be cut to the rows on the screen.
pub(crate) struct View<'a> {
    /// The text.
    pub text: &'a str,
    /// The cursor, in bytes.
    pub cursor: usize,
    /// Before the first line, and before each further one.
    pub prompts: (&'a str, &'a str),
    /// The rows that there are.
    pub height: usize,
}

impl View<'_> {
    /// The rows to show and the cursor in them; `top` is the first one shown
    /// and follows the cursor.
    pub(crate) fn rows(&self, layout: &mut Layout, top: &mut usize) -> (Vec<Row>, (usize, usize)) {
        let (row, column) = layout.locate(self.text, self.cursor);
        layout.find_rows(self.text, (*top).min(row).saturating_add(self.height));
        let (known, complete) = layout.known();
        if complete {
            *top = (*top).min(known.saturating_sub(self.height));
        }
        *top = (*top).clamp(row.saturating_add(1).saturating_sub(self.height), row);
        layout.find_rows(self.text, (*top).saturating_add(self.height));
        let (known, _) = layout.known();
        let rows = (*top..known.min((*top).saturating_add(self.height)))
            .map(|i| self.row(layout, i))
            .collect();
        (rows, (row.saturating_sub(*top), column))
    }

    fn row(&self, layout: &Layout, i: usize) -> Row {
        let start = layout.start(i);
        let mut row = Row::default();
        let indent = layout.measure().indent(start);
        let prompt = if start.offset == 0 {
            self.prompts.0
        } else {
            self.prompts.1
        };
        if start.is_line {
            row.push_text(prompt, Style::Prompt, indent);
        }
        layout.place_row(self.text, i, |placed| row.push(&placed.glyph, Style::Plain));
        row
    }
}

/// The cells of the prompts, of which each takes at most half a row.
pub(crate) fn measure(prompt: &str, continuation: &str, columns: usize) -> Measure {
    let cells = |text: &str| {
        let mut row = Row::default();
        row.push_text(text, Style::Prompt, columns / 2);
        row.width()
    };
    Measure {
        columns,
        first: cells(prompt),
        further: cells(continuation),
    }
}

/// What Tab offers, laid out in columns, with the one that is `chosen`.
pub(crate) fn choice_rows(choices: &[String], chosen: Option<usize>, columns: usize) -> Vec<Row> {
    let cells = |choice: &String| {
        let mut row = Row::default();
        row.push_text(choice.trim_end(), Style::Dim, columns / 2);
        row.width()
    };
    let step = choices
        .iter()
        .map(cells)
        .max()
        .unwrap_or(0)
        .saturating_add(2);
    let across = columns
        .saturating_sub(1)
        .checked_div(step)
        .unwrap_or(1)
        .max(1);
    // The rows shown follow what is chosen.
    let skipped = chosen
        .unwrap_or(0)
        .checked_div(across)
        .unwrap_or(0)
        .saturating_add(1)
        .saturating_sub(CHOICE_ROWS_MAX);
    let mut rows = Vec::new();
    let shown = choices.chunks(across).enumerate().skip(skipped);
    for (i, choices) in shown.take(CHOICE_ROWS_MAX) {
        let mut row = Row::default();
        for (j, choice) in choices.iter().enumerate() {
            let is_chosen = chosen == Some(i.saturating_mul(across).saturating_add(j));
            let style = if is_chosen { Style::Chosen } else { Style::Dim };
            let text = choice.trim_end();
            row.push_text(
                text,
                style,
                j.saturating_mul(step)
                    .saturating_add(columns / 2)
                    .min(columns.saturating_sub(1)),
            );
            let pad = j
                .saturating_add(1)
                .saturating_mul(step)
                .saturating_sub(row.width());
            if j.saturating_add(1) < choices.len() {
                row.push_text(&" ".repeat(pad), Style::Plain, columns.saturating_sub(1));
            }
        }
        rows.push(row);
    }
    rows
}
