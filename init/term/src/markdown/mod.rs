//! Renders an answer while it streams: CommonMark to terminal bytes, words
//! wrapped at the width. Nothing is lost: what marks nothing stays, and what
//! is not known yet (a marker whose end has not come, the current word) is held
//! back, on a screen that can be painted over shown ahead. A line break of the
//! model is a line break on the screen; code passes as it is.
//!
//! The model is not trusted: control characters, escape sequences and
//! bidirectional overrides come out as visible signs. Without colours no
//! escape sequence is written at all and the markers of Markdown stay.
//!
//! | module | concern |
//! |---|---|
//! | [`block`], [`html`] | what a line is |
//! | [`inline`], [`span`] | what is in a paragraph |
//! | [`table`] | columns |
//! | [`writer`] | words to rows |
//! | [`live`] | what is shown ahead |
//! | [`reader`] | looks ahead in text of which more may come |

mod block;
mod html;
mod inline;
mod live;
mod reader;
mod span;
mod table;
mod writer;

use super::width::sign;
use block::{Blocks, Container, HEAD_BYTES_MAX, Head, Header, Leaf, Line};
use inline::{Extent, Span};
use live::Live;
use table::Table;
use writer::{Look, Writer};

/// The first line of a table is at most this long.
const TABLE_HEAD_BYTES_MAX: usize = 2 << 10;
/// The rows of a screen that nobody has told the size of.
const ROWS: usize = 24;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rendering {
    /// Markdown, wrapped at the width.
    Markdown,
    /// As it comes, control characters as signs, lines ended for a raw terminal.
    Plain,
    /// Exactly the model's bytes.
    Bytes,
}

/// Where the next character of the line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At a line's first characters: what kind of line is it?
    Head,
    /// In a paragraph.
    Text,
    /// In a heading.
    Heading,
    /// In HTML.
    Html,
    /// In a line that passes as it is.
    Verbatim,
    /// In the row of a table.
    Row,
}

/// The renderer of one answer after another.
#[derive(Debug, Clone)]
pub struct Markdown {
    rendering: Rendering,
    /// The rows of a screen that can be painted over.
    rows: Option<usize>,
    place: Place,
    blocks: Blocks,
    /// Undecided characters of a line's head.
    head: String,
    carriage_return: bool,
    in_flag: bool,
    /// What is undecided of a paragraph, and the character before it.
    pending: String,
    before: char,
    /// The line of HTML, or the row of the table.
    line: String,
    table: Option<Table>,
    writer: Writer,
    live: Live,
}

impl Markdown {
    /// A renderer at the start of a line.
    #[must_use]
    pub fn new(columns: usize, colour: bool, rendering: Rendering) -> Self {
        let columns = columns.max(16);
        Markdown {
            rendering,
            rows: None,
            place: Place::Head,
            blocks: Blocks::new(columns / 2),
            head: String::new(),
            carriage_return: false,
            in_flag: false,
            pending: String::new(),
            before: '\n',
            line: String::new(),
            table: None,
            writer: Writer::new(columns, colour, false),
            live: Live::default(),
        }
    }

    /// Sets the width for what follows.
    pub fn set_columns(&mut self, columns: usize) {
        let columns = columns.max(16);
        if columns != self.writer.columns() {
            self.live.lose();
            self.writer.set_columns(columns);
            self.blocks.room = columns / 2;
        }
    }

    /// Nothing else is written to the screen meanwhile, which has so many rows:
    /// what is undecided may be shown ahead. It takes escape sequences, so
    /// without colours it is not.
    pub fn set_rows(&mut self, rows: usize) {
        self.rows = Some(rows).filter(|_| self.writer.has_colour());
    }

    /// The column of the cursor; 0 at the start of a line. In lines that pass
    /// as they are it may lie beyond the width.
    #[cfg(test)]
    #[must_use]
    pub fn column(&self) -> usize {
        self.writer.column()
    }

    /// Dims what follows, as for a model's reasoning.
    pub fn set_dimmed(&mut self, dimmed: bool, out: &mut Vec<u8>) {
        if self.writer.is_dimmed() != dimmed {
            self.settle();
            self.writer.set_dimmed(dimmed);
            self.show(out);
        }
    }

    /// Renders what the model said next.
    pub fn push(&mut self, text: &str, out: &mut Vec<u8>) {
        if self.rendering == Rendering::Bytes {
            out.extend_from_slice(text.as_bytes());
            return;
        }
        for c in text.chars() {
            if std::mem::take(&mut self.carriage_return) && c != '\n' {
                self.take_sign('\r');
            }
            match c {
                '\r' => self.carriage_return = true,
                '\n' | '\t' => self.take(c),
                _ if self.is_printable(c) => self.take(c),
                _ => self.take_sign(c),
            }
        }
        self.commit(Extent::Decided);
        self.show(out);
    }

    /// Something else is about to be written: the cursor goes to column 0 of a
    /// fresh line. What is undecided is not lost, it comes after that.
    pub fn interrupt(&mut self, out: &mut Vec<u8>) {
        self.writer.flush_word();
        if self.writer.column() > 0 {
            self.writer.end_line();
        }
        let settled = self.writer.take_bytes();
        self.live.show(&settled, b"", 0, out);
    }

    /// Ends the answer: everything held is written, and the cursor goes to
    /// column 0 of a fresh line. What comes next is another answer, dimmed or
    /// not as before.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.carriage_return) {
            self.take_sign('\r');
        }
        self.settle();
        self.end_leaf();
        self.interrupt(out);
        let columns = self.writer.columns();
        let mut next = Markdown::new(columns, self.writer.has_colour(), self.rendering);
        next.rows = self.rows;
        next.writer.set_dimmed(self.writer.is_dimmed());
        *self = next;
    }

    /// Writes what is held, as if the line ended here, but does not end it.
    fn settle(&mut self) {
        self.decide_begun();
        if self.place == Place::Row {
            let row = std::mem::take(&mut self.line);
            self.take_row(row);
        }
        self.commit(Extent::Whole);
        self.writer.flush_word();
    }

    /// Brings the screen up to date.
    fn show(&mut self, out: &mut Vec<u8>) {
        let settled = self.writer.take_bytes();
        let Some(rows) = self.rows else {
            out.extend_from_slice(&settled);
            return;
        };
        let is_undecided =
            !self.pending.is_empty() || !self.head.is_empty() || self.table.is_some();
        let ahead = if is_undecided {
            self.clone().look_ahead()
        } else {
            Vec::new()
        };
        // The row that the cursor stands in is one more.
        self.live
            .show(&settled, &ahead, rows.saturating_sub(2), out);
    }

    /// What is undecided as it would stand now.
    fn look_ahead(mut self) -> Vec<u8> {
        self.write_table(true);
        let mut ahead = self.writer.take_bytes();
        self.decide_begun();
        // It may have begun one.
        self.write_table(true);
        if self.writer.column() > self.writer.columns() {
            // A row that the terminal wraps cannot be painted over.
            return ahead;
        }
        if self.place == Place::Row {
            for c in std::mem::take(&mut self.line).chars() {
                self.writer.take_char(c, Look::default());
            }
        }
        self.commit(Extent::Hoped);
        ahead.append(&mut self.writer.take_bytes());
        ahead
    }

    fn is_printable(&mut self, c: char) -> bool {
        let tag = ('\u{e0020}'..='\u{e007f}').contains(&c);
        self.in_flag = c == '\u{1f3f4}' || (tag && self.in_flag);
        sign(c).is_none() || (tag && self.in_flag)
    }

    fn take_sign(&mut self, c: char) {
        for shown in sign(c).unwrap_or_default().chars() {
            self.take(shown);
        }
    }

    /// Takes a character that is printable, a line feed or a tab.
    fn take(&mut self, c: char) {
        if self.rendering == Rendering::Plain {
            match c {
                '\n' => self.writer.end_line(),
                _ => self.writer.put_char(c, Look::default()),
            }
            return;
        }
        match (self.place, c) {
            (_, '\n') => {
                self.decide(true);
                self.end_line();
            }
            (Place::Head, _) => {
                // In a run of one character nothing is decided.
                let goes_on = self.head.ends_with(c);
                self.head.push(c);
                if !goes_on || self.head.len() > HEAD_BYTES_MAX {
                    self.decide(false);
                }
            }
            (Place::Text | Place::Heading, _) => {
                self.pending.push(c);
                let length = |header: &Header| self.pending.len().saturating_sub(header.at);
                if self
                    .header()
                    .is_some_and(|header| length(header) > TABLE_HEAD_BYTES_MAX)
                {
                    self.forget_header();
                }
            }
            (Place::Html, _) => {
                self.line.push(c);
                self.writer.take_char(c, Look::default());
            }
            (Place::Row, _) => self.line.push(c),
            (Place::Verbatim, _) => self.writer.put_char(c, Look::default()),
        }
    }

    /// Decides what the line is by its head, if that is possible by now.
    fn decide(&mut self, is_whole: bool) {
        if self.place != Place::Head {
            return;
        }
        let head = match self.blocks.head(&self.head, is_whole) {
            Ok(head) => head,
            Err(_) if self.head.len() > HEAD_BYTES_MAX => self.blocks.text(&self.head),
            Err(_) => return,
        };
        self.head.clear();
        self.begin_line(head);
    }

    /// Decides what the line is as if it ended here, if it has begun.
    fn decide_begun(&mut self) {
        if !self.head.trim().is_empty() {
            self.decide(true);
        }
    }

    fn begin_line(&mut self, head: Head) {
        let Head {
            matched,
            opened,
            line,
            rest,
        } = head;
        let goes_on = matches!(
            line,
            Line::MoreText
                | Line::Code
                | Line::FenceEnd
                | Line::MoreHtml
                | Line::Delimiters(_)
                | Line::Row
        );
        if !goes_on {
            self.end_leaf();
        }
        let containers = &mut self.blocks.containers;
        containers.truncate(matched);
        let kept = containers.len();
        containers.extend(opened);
        if line != Line::Blank {
            for container in containers {
                if let Container::Item { is_empty, .. } = container {
                    *is_empty = false;
                }
            }
        }
        match line {
            Line::MoreText => {
                self.forget_header();
                self.take_text(&rest);
            }
            Line::Delimiters(aligns) => {
                let at = self.header().map_or(0, |header| header.at);
                let header = self.pending.split_off(at);
                self.commit(Extent::Whole);
                self.table = Some(Table::new(aligns, header.trim().to_owned(), rest));
                self.blocks.leaf = Leaf::Table;
                self.place = Place::Verbatim;
            }
            Line::Row => {
                self.line = rest;
                self.place = Place::Row;
            }
            line => {
                let (mut first, lead) = self.leads(kept);
                if line == Line::Blank && first.trim().is_empty() {
                    first.clear();
                }
                self.writer.begin_line(&first, &lead);
                self.begin_block(&line, &rest);
            }
        }
    }

    /// Begins a line that does not go on with a paragraph or a table.
    fn begin_block(&mut self, line: &Line, rest: &str) {
        self.place = Place::Verbatim;
        match *line {
            Line::Text => {
                self.blocks.leaf = Leaf::Paragraph { header: None };
                self.before = '\n';
                self.take_text(rest);
            }
            Line::Heading => {
                self.place = Place::Heading;
                self.before = '\n';
                rest.clone_into(&mut self.pending);
            }
            Line::Fence {
                mark,
                count,
                indent,
            } => {
                self.blocks.leaf = Leaf::Fence {
                    mark,
                    count,
                    indent,
                };
                self.writer.put(rest, Look::DIM);
            }
            Line::FenceEnd => {
                self.blocks.leaf = Leaf::None;
                self.writer.put(rest, Look::DIM);
            }
            Line::Html(html) => {
                self.blocks.leaf = Leaf::Html(html);
                self.begin_html(rest);
            }
            Line::MoreHtml => self.begin_html(rest),
            Line::Rule if self.writer.has_colour() => {
                let room = self.writer.columns().saturating_sub(self.writer.column());
                let (rule, _) = self.writer.rule();
                self.writer.put(&rule.repeat(room.min(40)), Look::DIM);
            }
            Line::Indented => {
                self.blocks.leaf = Leaf::Indented;
                self.writer.put(rest, Look::default());
            }
            _ => self.writer.put(rest, Look::default()),
        }
    }

    fn begin_html(&mut self, rest: &str) {
        self.place = Place::Html;
        rest.clone_into(&mut self.line);
        rest.chars()
            .for_each(|c| self.writer.take_char(c, Look::default()));
    }

    /// The first characters of a line in a paragraph.
    fn take_text(&mut self, rest: &str) {
        self.place = Place::Text;
        let text = rest.trim_start_matches([' ', '\t']);
        if text.starts_with('|') {
            let at = self.pending.len();
            let header = Some(Header { at, cells: 0 });
            self.blocks.leaf = Leaf::Paragraph { header };
        }
        let blanks = rest.len().saturating_sub(text.len());
        let blanks = blanks.min(self.writer.columns() / 3);
        self.pending.push_str(&" ".repeat(blanks));
        self.pending.push_str(text);
    }

    /// What the first row of a line begins with, where the containers from
    /// `kept` on are new, and what each further row does.
    fn leads(&self, kept: usize) -> (String, String) {
        let (mut first, mut lead) = (String::new(), String::new());
        for (i, container) in self.blocks.containers.iter().enumerate() {
            match container {
                Container::Quote => {
                    let bar = if self.writer.has_colour() {
                        "│ "
                    } else {
                        "> "
                    };
                    first.push_str(bar);
                    lead.push_str(bar);
                }
                Container::Item {
                    indent,
                    mark,
                    width,
                    ..
                } => {
                    let blanks = " ".repeat(*width);
                    lead.push_str(&blanks);
                    if i < kept {
                        first.push_str(&blanks);
                        continue;
                    }
                    let is_bullet =
                        self.writer.has_colour() && matches!(mark.as_str(), "-" | "*" | "+");
                    first.push_str(&" ".repeat(*indent));
                    first.push_str(if is_bullet { "•" } else { mark });
                    let taken = indent.saturating_add(mark.len());
                    first.push_str(&" ".repeat(width.saturating_sub(taken)));
                }
            }
        }
        // Containers may be from when the window was wider.
        let room = self.writer.columns() / 2;
        lead = lead.chars().take(room).collect();
        (first, lead)
    }

    fn end_line(&mut self) {
        match self.place {
            Place::Text => {
                self.pending.push('\n');
                if let Leaf::Paragraph {
                    header: Some(header),
                } = &mut self.blocks.leaf
                {
                    let line = self.pending.get(header.at..).unwrap_or_default();
                    header.cells = table::cells(line).len();
                }
            }
            Place::Heading => {
                self.commit(Extent::Whole);
                self.writer.end_line();
            }
            Place::Html => {
                self.writer.end_line();
                if let Leaf::Html(html) = &self.blocks.leaf
                    && html.ends_with(&self.line)
                {
                    self.blocks.leaf = Leaf::None;
                }
            }
            Place::Row => {
                let row = std::mem::take(&mut self.line);
                self.take_row(row);
            }
            // The row of delimiters is not written yet.
            Place::Verbatim if self.table.is_some() => {}
            Place::Verbatim | Place::Head => self.writer.end_line(),
        }
        self.place = Place::Head;
    }

    /// The line before, where it may be the first of a table.
    fn header(&self) -> Option<&Header> {
        match &self.blocks.leaf {
            Leaf::Paragraph { header } => header.as_ref(),
            _ => None,
        }
    }

    /// The line is not the first of a table.
    fn forget_header(&mut self) {
        if let Leaf::Paragraph { header } = &mut self.blocks.leaf {
            *header = None;
        }
    }

    /// Writes what is known of a paragraph or a heading.
    fn commit(&mut self, extent: Extent) {
        let is_heading = self.place == Place::Heading;
        let is_decided = extent == Extent::Decided;
        if self.pending.is_empty() || is_heading && is_decided {
            return;
        }
        // What may be a table's first line waits.
        let header = self.header().filter(|_| is_decided).copied();
        let text = header.and_then(|header| self.pending.get(..header.at));
        let mut text = text.unwrap_or(&self.pending);
        if is_heading && self.writer.has_colour() {
            text = heading_text(text);
        }
        let (spans, used) = self.spans(self.before, text, extent);
        let used = if is_heading { self.pending.len() } else { used };
        let last = text.get(..used).unwrap_or(text).chars().next_back();
        self.before = last.unwrap_or(self.before);
        for span in spans {
            let bold = span.look.bold || is_heading && self.writer.has_colour();
            let look = Look { bold, ..span.look };
            for c in span.text.chars() {
                match c {
                    '\n' => self.writer.end_line(),
                    _ => self.writer.take_char(c, look),
                }
            }
        }
        self.pending.drain(..used);
        if let Leaf::Paragraph { header: left } = &mut self.blocks.leaf {
            *left = header.map(|Header { at, cells }| Header {
                at: at.saturating_sub(used),
                cells,
            });
        }
    }

    /// The spans of a text, and how many bytes of it they are.
    fn spans(&self, before: char, text: &str, extent: Extent) -> (Vec<Span>, usize) {
        if self.writer.has_colour() {
            return inline::parse(before, text, extent);
        }
        let span = Span {
            text: text.to_owned(),
            look: Look::default(),
        };
        (vec![span], text.len())
    }

    fn take_row(&mut self, row: String) {
        let Some(table) = &mut self.table else {
            return;
        };
        table.push(row);
        if table.is_settled() || self.table_rows() >= self.rows.unwrap_or(ROWS).saturating_sub(3) {
            self.write_table(false);
        }
    }

    /// The rows of the screen that the table takes so far.
    fn table_rows(&self) -> usize {
        let mut writer = self.writer.for_cell(self.writer.columns());
        if let Some(mut table) = self.table.clone() {
            self.lay_out(&mut table, &mut writer, true);
        }
        writer.rows().count()
    }

    fn write_table(&mut self, is_over: bool) {
        if let Some(mut table) = self.table.take() {
            let mut writer = self.writer.take();
            self.lay_out(&mut table, &mut writer, is_over);
            self.writer = writer;
            self.table = Some(table);
        }
    }

    fn lay_out(&self, table: &mut Table, writer: &mut Writer, is_over: bool) {
        let (_, lead) = self.leads(self.blocks.containers.len());
        let room = writer.columns().saturating_sub(lead.chars().count());
        table.write(writer, room, is_over, |cell| {
            self.spans('\n', cell, Extent::Whole).0
        });
    }

    /// What the leaf has held back is written: it ends here.
    fn end_leaf(&mut self) {
        self.commit(Extent::Whole);
        self.write_table(true);
        self.table = None;
        self.blocks.leaf = Leaf::None;
    }
}

/// A heading without its marks.
fn heading_text(line: &str) -> &str {
    let text = line.trim_start_matches('#').trim_start();
    let ended = text.trim_end_matches(' ').trim_end_matches('#');
    if ended.is_empty() || ended.ends_with(' ') {
        ended.trim_end()
    } else {
        text
    }
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
