//! Words, wrapped at the width, and the bytes of their looks.

use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation};
use unicode_width::UnicodeWidthChar;

use super::super::width::glyph;

/// Punctuation that does not begin a row.
const NO_ROW_START: &str = "、。，．！？；：）」』】〕〉》”’…";

/// The attributes of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one SGR attribute")]
pub(super) struct Look {
    pub bold: bool,
    pub italic: bool,
    pub code: bool,
    pub dim: bool,
}

impl Look {
    /// What makes way for the text: bars, bullets, rules, targets of links.
    pub(super) const DIM: Look = Look {
        bold: false,
        italic: false,
        code: false,
        dim: true,
    };
}

/// Rows of a terminal, written from left to right and from top to bottom.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    columns: usize,
    colour: bool,
    /// Whether everything is dimmed.
    dimmed: bool,
    bytes: Vec<u8>,
    /// Where each row that has ended ends in `bytes`, and its cells.
    ends: Vec<(usize, usize)>,
    word: String,
    /// Where in `word` each look begins.
    looks: Vec<(usize, Look)>,
    spaces: usize,
    column: usize,
    /// What each further row begins with: bars and blanks.
    lead: String,
    /// Whether it is to be written before anything else.
    lead_is_due: bool,
    hang: usize,
    shown: Look,
}

impl Writer {
    /// A writer at the start of a row.
    pub(super) fn new(columns: usize, colour: bool, dimmed: bool) -> Self {
        Writer {
            columns,
            colour,
            dimmed,
            bytes: Vec::new(),
            ends: Vec::new(),
            word: String::new(),
            looks: Vec::new(),
            spaces: 0,
            column: 0,
            lead: String::new(),
            lead_is_due: false,
            hang: 0,
            shown: Look::default(),
        }
    }

    pub(super) fn set_columns(&mut self, columns: usize) {
        self.columns = columns;
    }

    pub(super) fn set_dimmed(&mut self, dimmed: bool) {
        self.dimmed = dimmed;
    }

    pub(super) fn is_dimmed(&self) -> bool {
        self.dimmed
    }

    pub(super) fn has_colour(&self) -> bool {
        self.colour
    }

    /// The cells of a row.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// The column of the cursor; 0 at the start of a row. After text that is
    /// not wrapped it may lie beyond the width.
    pub(super) fn column(&self) -> usize {
        self.column
    }

    /// What was written since the last time.
    pub(super) fn take_bytes(&mut self) -> Vec<u8> {
        self.ends.clear();
        std::mem::take(&mut self.bytes)
    }

    /// A writer for the cell of a table.
    pub(super) fn for_cell(&self, columns: usize) -> Self {
        Writer::new(columns, self.colour, self.dimmed)
    }

    /// The writer, in whose place stands one that has written nothing.
    pub(super) fn take(&mut self) -> Self {
        let blank = self.for_cell(self.columns);
        std::mem::replace(self, blank)
    }

    /// What stands for the bar of a quote or between columns.
    pub(super) fn bar(&self) -> &'static str {
        if self.colour { "│" } else { "|" }
    }

    /// What a rule is drawn with, and where it crosses a bar.
    pub(super) fn rule(&self) -> (&'static str, &'static str) {
        if self.colour {
            ("─", "┼")
        } else {
            ("-", "|")
        }
    }

    /// The column behind what rows begin with.
    pub(super) fn start_column(&mut self) -> usize {
        self.put_due_lead();
        self.column
    }

    /// The bytes of each row that has ended, and its cells.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&[u8], usize)> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(end, _)| *end));
        starts.zip(&self.ends).map(|(start, (end, cells))| {
            let row = self.bytes.get(start..*end).unwrap_or_default();
            (row.strip_suffix(b"\r\n").unwrap_or(row), *cells)
        })
    }

    /// Begins a line with `first`; `lead` stands before each further row.
    pub(super) fn begin_line(&mut self, first: &str, lead: &str) {
        first.clone_into(&mut self.lead);
        self.put_lead();
        lead.clone_into(&mut self.lead);
    }

    /// Takes a character of a text that is wrapped. The word it belongs to is
    /// held until it is complete.
    pub(super) fn take_char(&mut self, c: char, look: Look) {
        if c == ' ' || c == '\t' {
            self.flush_word();
            self.spaces = self.spaces.saturating_add(1);
            return;
        }
        if self.may_break_before(c) || self.word.len() > self.columns.saturating_mul(4) {
            self.flush_word();
        }
        let look = Look {
            dim: look.dim || self.dimmed,
            ..look
        };
        if self.looks.last().is_none_or(|(_, last)| *last != look) {
            self.looks.push((self.word.len(), look));
        }
        self.word.push(c);
    }

    /// Whether a row may end between the word so far and `c`: around wide
    /// characters, outside of clusters.
    fn may_break_before(&self, c: char) -> bool {
        let Some(before) = self.word.chars().next_back() else {
            return false;
        };
        let wide = |c: char| c.width() == Some(2);
        if !(wide(c) || wide(before)) || NO_ROW_START.contains(c) || !is_wordlike(c) {
            return false;
        }
        // The last characters decide; emoji sequences and flags are short.
        let tail_start = self.word.char_indices().rev().take(12).last();
        let tail = self.word.get(tail_start.map_or(0, |(i, _)| i)..);
        let mut tail = tail.unwrap_or_default().to_owned();
        let boundary = tail.len();
        tail.push(c);
        matches!(
            GraphemeCursor::new(boundary, tail.len(), true).is_boundary(&tail, 0),
            Ok(true)
        )
    }

    /// Writes the word that is held.
    pub(super) fn flush_word(&mut self) {
        if self.word.is_empty() {
            return;
        }
        self.put_due_lead();
        let word = std::mem::take(&mut self.word);
        let looks = std::mem::take(&mut self.looks);
        let width: usize = word.graphemes(true).map(|c| glyph(c).room).sum();
        if self
            .column
            .saturating_add(self.spaces)
            .saturating_add(width)
            > self.columns
            && self.column > self.hang
        {
            self.wrap_row();
        } else {
            let spaces = self
                .spaces
                .min(self.columns.saturating_sub(self.column.min(self.columns)));
            self.put_look(self.base());
            self.bytes.extend(std::iter::repeat_n(b' ', spaces));
            self.column = self.column.saturating_add(spaces);
        }
        self.spaces = 0;
        let mut looks = looks.into_iter().peekable();
        for (i, cluster) in word.grapheme_indices(true) {
            while let Some((_, look)) = looks.next_if(|(start, _)| *start <= i) {
                self.put_look(look);
            }
            let room = glyph(cluster).room;
            if self.column.saturating_add(room) > self.columns && self.column > self.hang {
                let look = self.shown;
                self.wrap_row();
                self.put_look(look);
            }
            self.bytes.extend_from_slice(cluster.as_bytes());
            self.column = self.column.saturating_add(room);
        }
    }

    /// Ends the row.
    pub(super) fn end_line(&mut self) {
        self.flush_word();
        self.spaces = 0;
        self.break_row();
        self.lead_is_due = true;
    }

    fn wrap_row(&mut self) {
        self.break_row();
        self.put_lead();
        self.spaces = 0;
    }

    fn break_row(&mut self) {
        self.put_look(Look::default());
        self.bytes.extend_from_slice(b"\r\n");
        self.ends.push((self.bytes.len(), self.column));
        self.column = 0;
    }

    fn put_due_lead(&mut self) {
        if self.lead_is_due {
            self.put_lead();
        }
    }

    /// Writes what rows begin with: bars and marks dimmed, blanks not.
    fn put_lead(&mut self) {
        self.lead_is_due = false;
        let lead = std::mem::take(&mut self.lead);
        let marks = lead.trim_start_matches(' ');
        let before = lead.len().saturating_sub(marks.len());
        let marks = marks.trim_end_matches(' ');
        let after = lead
            .len()
            .saturating_sub(before)
            .saturating_sub(marks.len());
        self.put(&" ".repeat(before), Look::default());
        self.put(marks, Look::DIM);
        self.put(&" ".repeat(after), Look::default());
        self.lead = lead;
        self.hang = self.column;
    }

    /// Writes a text of ours or one that is not to be wrapped at once.
    pub(super) fn put(&mut self, text: &str, look: Look) {
        for c in text.chars() {
            self.put_char(c, look);
        }
    }

    /// Writes a character at once.
    pub(super) fn put_char(&mut self, c: char, look: Look) {
        self.put_due_lead();
        self.put_look(Look {
            dim: look.dim || self.dimmed,
            ..look
        });
        self.bytes
            .extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        self.column = match c {
            // To the next multiple of eight.
            '\t' => self.column.saturating_add(1).next_multiple_of(8),
            _ => self.column.saturating_add(c.width().unwrap_or(0)),
        };
    }

    /// Writes a row of another writer, of so many cells.
    pub(super) fn put_row(&mut self, row: &[u8], cells: usize) {
        self.put_due_lead();
        self.put_look(Look::default());
        self.bytes.extend_from_slice(row);
        self.column = self.column.saturating_add(cells);
    }

    /// Goes on at `column`; after a text whose width terminals disagree about
    /// (not `is_exact`) whatever the terminal takes for the column now.
    pub(super) fn pad_to(&mut self, column: usize, is_exact: bool) {
        let blanks = column.saturating_sub(self.column);
        if is_exact || !self.colour {
            self.put(&" ".repeat(blanks), Look::default());
            return;
        }
        self.column = column.max(self.column);
        let place = format!("\x1b[{}G", self.column.saturating_add(1));
        self.bytes.extend_from_slice(place.as_bytes());
    }

    fn base(&self) -> Look {
        Look {
            dim: self.dimmed,
            ..Look::default()
        }
    }

    /// Changes the attributes of what is written next.
    pub(super) fn put_look(&mut self, look: Look) {
        if !self.colour || look == self.shown {
            return;
        }
        self.shown = look;
        if look == Look::default() {
            self.bytes.extend_from_slice(b"\x1b[m");
            return;
        }
        self.bytes.extend_from_slice(b"\x1b[0");
        for (on, code) in [
            (look.bold, &b";1"[..]),
            (look.dim, b";2"),
            (look.italic, b";3"),
            (look.code, b";36"),
        ] {
            if on {
                self.bytes.extend_from_slice(code);
            }
        }
        self.bytes.push(b'm');
    }
}

fn is_wordlike(c: char) -> bool {
    // Marks and joiners belong to what stands before them.
    c.width().is_some_and(|w| w > 0)
}
