//! What a line is, as CommonMark's block structure has it: decided by the head
//! of the line, the quotes and lists that are open, and what stands before it.

use super::html::HtmlBlock;
use super::reader::{Reader, Seen, Undecided};
use super::table;

/// A line head that is longer is a paragraph.
pub(super) const HEAD_BYTES_MAX: usize = 1 << 10;
/// From this indent on a line is code.
const CODE_INDENT: usize = 4;

/// What holds blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Container {
    Quote,
    Item {
        /// Cells before the mark.
        indent: usize,
        mark: String,
        /// Cells before the text.
        width: usize,
        /// Nothing stands in it yet.
        is_empty: bool,
    },
}

/// The block that lines add to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Leaf {
    None,
    Paragraph {
        header: Option<Header>,
    },
    Fence {
        mark: char,
        count: usize,
        indent: usize,
    },
    Indented,
    Html(HtmlBlock),
    Table,
}

/// The last line of a paragraph, which may be a table's first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Where it begins in what is undecided.
    pub at: usize,
    /// How many it has, once it has ended.
    pub cells: usize,
}

/// What a line is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    Blank,
    /// Begins a paragraph.
    Text,
    /// Goes on with one.
    MoreText,
    Heading,
    /// What makes a heading of the paragraph before.
    Underline,
    Rule,
    Fence {
        mark: char,
        count: usize,
        indent: usize,
    },
    FenceEnd,
    /// In a fence, or indented.
    Code,
    Indented,
    Html(HtmlBlock),
    MoreHtml,
    /// Makes a table of the line before.
    Delimiters(Vec<table::Align>),
    Row,
}

/// The decided head of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// How many of the open containers go on.
    pub matched: usize,
    /// Those that begin.
    pub opened: Vec<Container>,
    pub line: Line,
    /// What of the head is the text of the line.
    pub rest: String,
}

/// What is open at the end of a line.
#[derive(Debug, Clone)]
pub(super) struct Blocks {
    pub containers: Vec<Container>,
    pub leaf: Leaf,
    /// The cells that containers may take: what would begin further to the
    /// right is text.
    pub room: usize,
}

/// The head of a line; counts columns, for a tab may be cut in two.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    reader: Reader<'a>,
    column: usize,
    /// Blanks left of a tab that was cut.
    blanks: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Seen<char> {
        if self.blanks > 0 {
            return Ok(Some(' '));
        }
        self.reader.peek()
    }

    /// Reads a character that is not a blank.
    fn next(&mut self) -> Seen<char> {
        self.column = self.column.saturating_add(1);
        self.reader.next()
    }

    /// Reads at most so many blanks; returns how many there were.
    fn take_blanks(&mut self, most: usize) -> Result<usize, Undecided> {
        let mut taken = 0_usize;
        while taken < most {
            if self.blanks == 0 {
                let stop = self.column.saturating_add(1).next_multiple_of(4);
                self.blanks = match self.reader.peek()? {
                    Some(' ') => 1,
                    Some('\t') => stop.saturating_sub(self.column),
                    _ => break,
                };
                self.reader.next()?;
            }
            self.blanks = self.blanks.saturating_sub(1);
            self.column = self.column.saturating_add(1);
            taken = taken.saturating_add(1);
        }
        Ok(taken)
    }

    /// The blanks ahead.
    fn count_blanks(mut self) -> Result<usize, Undecided> {
        self.take_blanks(usize::MAX)
    }

    fn rest(&self) -> String {
        " ".repeat(self.blanks) + self.reader.rest
    }
}

impl Blocks {
    /// Nothing is open.
    pub(super) fn new(room: usize) -> Self {
        Blocks {
            containers: Vec::new(),
            leaf: Leaf::None,
            room,
        }
    }

    /// Decides what the line is that begins with `head`; `is_whole` if that is
    /// all of it.
    pub(super) fn head(&self, head: &str, is_whole: bool) -> Result<Head, Undecided> {
        let reader = Reader {
            rest: head,
            is_whole,
        };
        let mut cursor = Cursor {
            reader,
            column: 0,
            blanks: 0,
        };
        let mut matched = 0_usize;
        for container in &self.containers {
            if !container.goes_on(&mut cursor)? {
                break;
            }
            matched = matched.saturating_add(1);
        }
        let is_inside = matched == self.containers.len();
        let mut opened = Vec::new();
        let mut line = None;
        if is_inside {
            line = self.go_on(&mut cursor)?;
        }
        let line = match line {
            Some(line) => line,
            None => self.begin(&mut cursor, matched, &mut opened)?,
        };
        if line == Line::MoreText {
            // Also where the marks of the containers are missing.
            matched = self.containers.len();
        }
        let rest = cursor.rest();
        Ok(Head {
            matched,
            opened,
            line,
            rest,
        })
    }

    /// The head of a line that is too long to be anything but text.
    pub(super) fn text(&self, head: &str) -> Head {
        let line = match self.leaf {
            Leaf::Paragraph { .. } => Line::MoreText,
            Leaf::Fence { .. } => Line::Code,
            Leaf::Html(_) => Line::MoreHtml,
            _ => Line::Text,
        };
        Head {
            matched: self.containers.len(),
            opened: Vec::new(),
            line,
            rest: head.to_owned(),
        }
    }

    /// Whether the line belongs to a leaf that holds anything.
    fn go_on(&self, cursor: &mut Cursor<'_>) -> Seen<Line> {
        match &self.leaf {
            Leaf::Fence {
                mark,
                count,
                indent,
            } => {
                if ends_fence(*cursor, *mark, *count)? {
                    return Ok(Some(Line::FenceEnd));
                }
                cursor.take_blanks(*indent)?;
                Ok(Some(Line::Code))
            }
            Leaf::Html(html) => {
                let is_blank = is_blank(*cursor)?;
                Ok((!is_blank || !html.ends_at_blank()).then_some(Line::MoreHtml))
            }
            Leaf::Indented if cursor.count_blanks()? >= CODE_INDENT => {
                cursor.take_blanks(CODE_INDENT)?;
                Ok(Some(Line::Code))
            }
            Leaf::Paragraph {
                header: Some(header),
            } => {
                let mut ahead = *cursor;
                ahead.take_blanks(CODE_INDENT)?;
                let row = ahead.reader.take_while(|c| "|:- \t".contains(c))?;
                if ahead.reader.peek()?.is_some() {
                    return Ok(None);
                }
                let aligns = table::delimiters(row).filter(|aligns| aligns.len() == header.cells);
                Ok(aligns.map(Line::Delimiters))
            }
            _ => Ok(None),
        }
    }

    /// What begins here: containers, then a leaf.
    fn begin(
        &self,
        cursor: &mut Cursor<'_>,
        matched: usize,
        opened: &mut Vec<Container>,
    ) -> Result<Line, Undecided> {
        let is_inside = matched == self.containers.len();
        let kept = self.containers.iter().take(matched);
        let mut room = kept.fold(self.room, |room, c| room.saturating_sub(c.cells()));
        let is_paragraph = matches!(self.leaf, Leaf::Paragraph { .. });
        loop {
            let may_go_on = is_paragraph && opened.is_empty();
            let interrupts = may_go_on && is_inside;
            let text = if may_go_on {
                Line::MoreText
            } else {
                Line::Text
            };
            let indent = cursor.count_blanks()?;
            let start = *cursor;
            cursor.take_blanks(indent)?;
            let Some(first) = cursor.peek()? else {
                return Ok(Line::Blank);
            };
            if indent >= CODE_INDENT {
                if may_go_on {
                    return Ok(text);
                }
                *cursor = start;
                cursor.take_blanks(CODE_INDENT)?;
                return Ok(Line::Indented);
            }
            if first == '>' && room >= Container::Quote.cells() {
                cursor.next()?;
                cursor.take_blanks(1)?;
                room = room.saturating_sub(Container::Quote.cells());
                opened.push(Container::Quote);
                continue;
            }
            let found = match first {
                '#' => heading(*cursor)?,
                '`' | '~' => fence(*cursor, first, indent)?,
                '<' => HtmlBlock::at(cursor.reader, may_go_on)?.map(Line::Html),
                '=' if interrupts => underline(*cursor, '=')?,
                '-' if interrupts => underline(*cursor, '-')?,
                _ => None,
            };
            let found = match found {
                None if "-*_".contains(first) => rule(*cursor, first)?,
                found => found,
            };
            if let Some(line) = found {
                return Ok(line);
            }
            let mut ahead = *cursor;
            if let Some(item) = item(&mut ahead, indent, interrupts)?
                && item.cells() <= room
            {
                *cursor = ahead;
                room = room.saturating_sub(item.cells());
                opened.push(item);
                continue;
            }
            if is_inside && opened.is_empty() && self.leaf == Leaf::Table {
                // A line without cells is a paragraph below the table.
                let mut ahead = *cursor;
                ahead.reader.take_while(|c| c != '|')?;
                if ahead.reader.peek()?.is_some() {
                    return Ok(Line::Row);
                }
            }
            // The blanks are shown before a line that stands alone.
            *cursor = start;
            return Ok(text);
        }
    }
}

impl Container {
    /// The cells before what it holds.
    fn cells(&self) -> usize {
        match self {
            Container::Quote => 2,
            Container::Item { width, .. } => *width,
        }
    }

    /// Whether a line is in it; reads its mark.
    fn goes_on(&self, cursor: &mut Cursor<'_>) -> Result<bool, Undecided> {
        match self {
            Container::Quote => {
                let mut ahead = *cursor;
                if ahead.take_blanks(CODE_INDENT)? >= CODE_INDENT || ahead.peek()? != Some('>') {
                    return Ok(false);
                }
                ahead.next()?;
                ahead.take_blanks(1)?;
                *cursor = ahead;
                Ok(true)
            }
            Container::Item {
                width, is_empty, ..
            } => {
                if is_blank(*cursor)? {
                    return Ok(!is_empty);
                }
                let is_inside = cursor.count_blanks()? >= *width;
                if is_inside {
                    cursor.take_blanks(*width)?;
                }
                Ok(is_inside)
            }
        }
    }
}

fn is_blank(mut cursor: Cursor<'_>) -> Result<bool, Undecided> {
    cursor.take_blanks(usize::MAX)?;
    Ok(cursor.peek()?.is_none())
}

fn ends_fence(mut cursor: Cursor<'_>, mark: char, count: usize) -> Result<bool, Undecided> {
    if cursor.take_blanks(CODE_INDENT)? >= CODE_INDENT || cursor.peek()? != Some(mark) {
        return Ok(false);
    }
    let marks = cursor.reader.take_while(|c| c == mark)?;
    Ok(marks.len() >= count && is_blank(cursor)?)
}

fn heading(mut cursor: Cursor<'_>) -> Seen<Line> {
    let marks = cursor.reader.take_while(|c| c == '#')?.len();
    let is_apart = matches!(cursor.peek()?, None | Some(' ' | '\t'));
    Ok((marks <= 6 && is_apart).then_some(Line::Heading))
}

fn fence(mut cursor: Cursor<'_>, mark: char, indent: usize) -> Seen<Line> {
    let count = cursor.reader.take_while(|c| c == mark)?.len();
    if count < 3 {
        return Ok(None);
    }
    let info = cursor.reader.take_while(|_| true)?;
    let fence = Line::Fence {
        mark,
        count,
        indent,
    };
    Ok((mark == '~' || !info.contains('`')).then_some(fence))
}

fn underline(mut cursor: Cursor<'_>, mark: char) -> Seen<Line> {
    let marks = cursor.reader.take_while(|c| c == mark)?;
    if !is_blank(cursor)? {
        return Ok(None);
    }
    let is_rule = mark == '-' && marks.len() >= 3;
    Ok(Some(if is_rule { Line::Rule } else { Line::Underline }))
}

fn rule(mut cursor: Cursor<'_>, mark: char) -> Seen<Line> {
    let marks = cursor
        .reader
        .take_while(|c| c == mark || c == ' ' || c == '\t')?;
    let count = marks.chars().filter(|c| *c == mark).count();
    let is_rule = count >= 3 && cursor.reader.peek()?.is_none();
    Ok(is_rule.then_some(Line::Rule))
}

/// A list item. One that interrupts a paragraph has a text, and begins a list.
fn item(cursor: &mut Cursor<'_>, indent: usize, interrupts: bool) -> Seen<Container> {
    let mark = match cursor.peek()? {
        Some('-' | '+' | '*') => String::new(),
        Some('0'..='9') => {
            let digits = cursor.reader.take_while(|c| c.is_ascii_digit())?;
            if digits.len() > 9 || interrupts && digits.parse() != Ok(1) {
                return Ok(None);
            }
            digits.to_owned()
        }
        _ => return Ok(None),
    };
    let Some(last) = cursor.reader.next()? else {
        return Ok(None);
    };
    if !mark.is_empty() && !matches!(last, '.' | ')') {
        return Ok(None);
    }
    let mark = mark + last.encode_utf8(&mut [0; 4]);
    cursor.column = cursor.column.saturating_add(mark.len());
    if !matches!(cursor.peek()?, None | Some(' ' | '\t')) {
        return Ok(None);
    }
    let is_empty = is_blank(*cursor)?;
    if is_empty && interrupts {
        return Ok(None);
    }
    let blanks = match cursor.count_blanks()? {
        blanks @ 1..=CODE_INDENT if !is_empty => blanks,
        _ => 1,
    };
    cursor.take_blanks(blanks)?;
    let width = indent.saturating_add(mark.len()).saturating_add(blanks);
    Ok(Some(Container::Item {
        indent,
        mark,
        width,
        is_empty,
    }))
}
