//! Renders an answer while it streams: Markdown to terminal bytes, words
//! wrapped at the width. At most the current word, or a marker that is not
//! decided yet, is held back. A line break of the model is a line break on the
//! screen; fenced code and tables pass as they are.
//!
//! The model is not trusted: control characters, escape sequences and
//! bidirectional overrides come out as visible signs. Without colours no
//! escape sequence is written at all and the markers of Markdown stay.

use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation};
use unicode_width::UnicodeWidthChar;

use super::width::{glyph, sign};

/// A line head that is longer is a paragraph.
const HEAD_BYTES_MAX: usize = 256;
/// Punctuation that does not begin a row.
const NO_ROW_START: &str = "、。，．！？；：）」』】〕〉》”’…";

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rendering {
    /// Markdown, wrapped at the width.
    Markdown,
    /// As it comes, control characters as signs, lines ended for a raw terminal.
    Plain,
    /// Exactly the model's bytes.
    Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one SGR attribute")]
struct Look {
    bold: bool,
    italic: bool,
    code: bool,
    dim: bool,
}

impl Look {
    const DIM: Look = Look {
        bold: false,
        italic: false,
        code: false,
        dim: true,
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At a line's first characters: what kind of line is it?
    Head,
    /// In text that is wrapped.
    Text,
    /// In a line that passes as it is.
    Verbatim,
    /// At the first characters of a line of fenced code: does the fence end?
    CodeHead,
    /// In a line of fenced code.
    Code,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    Blank,
    Text { indent: usize },
    Heading,
    Quote,
    Item { indent: usize, mark: String },
    Rule,
    Fence { mark: char, count: usize },
    Table,
}

/// The renderer of one answer after another.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "options and pending characters, independent of one another"
)]
pub(crate) struct Markdown {
    columns: usize,
    colour: bool,
    rendering: Rendering,
    dimmed: bool,
    state: State,
    /// Undecided characters of a line's head.
    head: String,
    carriage_return: bool,
    backslash: bool,
    /// Emphasis or code markers whose end has not been seen.
    run: Option<(char, usize)>,
    /// The last character of the text.
    last: char,
    bold: Option<char>,
    italic: Option<char>,
    code_ticks: Option<usize>,
    heading: bool,
    fence: (char, usize),
    in_flag: bool,
    word: String,
    /// Where in `word` each look begins.
    looks: Vec<(usize, Look)>,
    spaces: usize,
    column: usize,
    /// What each further row of the line begins with: quote bars and blanks.
    bars: usize,
    hang: usize,
    shown: Look,
}

impl Markdown {
    /// A renderer at the start of a line.
    pub(crate) fn new(columns: usize, colour: bool, rendering: Rendering) -> Self {
        Markdown {
            columns: columns.max(16),
            colour,
            rendering,
            dimmed: false,
            state: State::Head,
            head: String::new(),
            carriage_return: false,
            backslash: false,
            run: None,
            last: '\n',
            bold: None,
            italic: None,
            code_ticks: None,
            heading: false,
            fence: ('`', 0),
            in_flag: false,
            word: String::new(),
            looks: Vec::new(),
            spaces: 0,
            column: 0,
            bars: 0,
            hang: 0,
            shown: Look::default(),
        }
    }

    /// Sets the width for what follows.
    pub(crate) fn set_columns(&mut self, columns: usize) {
        self.columns = columns.max(16);
    }

    /// The column of the cursor; 0 at the start of a line. In lines that pass
    /// as they are it may lie beyond the width.
    pub(crate) fn column(&self) -> usize {
        self.column
    }

    /// Dims what follows, as for a model's reasoning.
    pub(crate) fn set_dimmed(&mut self, dimmed: bool, out: &mut Vec<u8>) {
        if self.dimmed != dimmed {
            self.settle(out);
            self.dimmed = dimmed;
        }
    }

    /// Renders what the model said next.
    pub(crate) fn push(&mut self, text: &str, out: &mut Vec<u8>) {
        if self.rendering == Rendering::Bytes {
            out.extend_from_slice(text.as_bytes());
            if let Some(last) = text.chars().last() {
                self.column = usize::from(last != '\n');
            }
            return;
        }
        for c in text.chars() {
            if std::mem::take(&mut self.carriage_return) && c != '\n' {
                self.take_sign('\r', out);
            }
            match c {
                '\r' => self.carriage_return = true,
                '\n' | '\t' => self.take(c, out),
                _ if self.is_printable(c) => self.take(c, out),
                _ => self.take_sign(c, out),
            }
        }
    }

    /// Ends the answer: everything held is written, and the cursor goes to
    /// column 0 of a fresh line. The next answer starts anew.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.carriage_return) {
            self.take_sign('\r', out);
        }
        self.settle(out);
        self.put_look(Look::default(), out);
        if self.column > 0 {
            out.extend_from_slice(b"\r\n");
        }
        *self = Markdown::new(self.columns, self.colour, self.rendering);
    }

    /// Writes what is held, as if the line ended here, but does not end it.
    fn settle(&mut self, out: &mut Vec<u8>) {
        match self.state {
            State::Head if !self.head.is_empty() => self.decide(true, out),
            State::CodeHead => self.end_code_head(out),
            _ => {}
        }
        self.end_run(None, out);
        self.flush_word(out);
    }

    fn is_printable(&mut self, c: char) -> bool {
        let tag = ('\u{e0020}'..='\u{e007f}').contains(&c);
        self.in_flag = c == '\u{1f3f4}' || (tag && self.in_flag);
        sign(c).is_none() || (tag && self.in_flag)
    }

    fn take_sign(&mut self, c: char, out: &mut Vec<u8>) {
        for shown in sign(c).unwrap_or_default().chars() {
            self.take(shown, out);
        }
    }

    /// Takes a character that is printable, a line feed or a tab.
    fn take(&mut self, c: char, out: &mut Vec<u8>) {
        if self.rendering == Rendering::Plain {
            match c {
                '\n' => self.end_line(out),
                _ => self.put_verbatim(c, self.base(), out),
            }
            return;
        }
        match (self.state, c) {
            (State::Head, '\n') => {
                self.decide(true, out);
                match self.state {
                    // A fence is decided by its whole line.
                    State::CodeHead => self.break_row(out),
                    _ => self.end_line(out),
                }
            }
            (State::Head, _) => {
                self.head.push(c);
                self.decide(false, out);
            }
            (State::CodeHead, '\n') => {
                let ended = self.is_fence_end();
                self.put_code_head(ended, out);
                if ended {
                    self.end_line(out);
                } else {
                    self.break_row(out);
                }
            }
            (State::CodeHead, _) => {
                let quoted = c == '>' && self.bars > 0;
                let may_end = c == ' ' || c == '\t' || c == self.fence.0 || quoted;
                self.head.push(c);
                if !may_end || self.head.len() > HEAD_BYTES_MAX {
                    self.put_code_head(false, out);
                    self.state = State::Code;
                }
            }
            (State::Code, '\n') => {
                self.state = State::CodeHead;
                self.break_row(out);
            }
            (State::Verbatim | State::Text, '\n') => self.end_line(out),
            (State::Verbatim | State::Code, _) => self.put_verbatim(c, self.base(), out),
            (State::Text, _) => self.take_text(c, out),
        }
    }

    // Lines.

    /// Decides what the line is by its head, if that is possible by now.
    fn decide(&mut self, ended: bool, out: &mut Vec<u8>) {
        loop {
            let Some((line, used)) = line_kind(&self.head, ended) else {
                return;
            };
            let rest = self.head.split_off(used);
            self.head.clear();
            match line {
                Line::Quote => {
                    self.put_bar(out);
                    self.head = rest;
                    continue;
                }
                Line::Fence { mark, count } => {
                    self.fence = (mark, count);
                    self.put_text(&rest, Look::DIM, out);
                    self.state = State::CodeHead;
                    return;
                }
                Line::Rule => self.put_rule(&rest, out),
                Line::Blank => self.state = State::Text,
                Line::Table => {
                    self.state = State::Verbatim;
                    self.put_text(&rest, self.base(), out);
                }
                Line::Text { indent } => self.begin_text(indent, "", &rest, out),
                Line::Heading if self.colour => {
                    self.heading = true;
                    self.begin_text(0, "", rest.trim_start_matches(['#', ' ']), out);
                }
                Line::Heading => self.begin_text(0, "", &rest, out),
                Line::Item { indent, mark } => self.begin_text(indent, &mark, &rest, out),
            }
            return;
        }
    }

    fn begin_text(&mut self, indent: usize, mark: &str, rest: &str, out: &mut Vec<u8>) {
        self.state = State::Text;
        let indent = indent.min(self.columns / 3);
        self.put_text(&" ".repeat(indent), self.base(), out);
        let bullet = matches!(mark, "-" | "*" | "+") && self.colour;
        let shown = if bullet { "•" } else { mark };
        if !mark.is_empty() {
            self.put_text(shown, Look::DIM, out);
            self.put_text(" ", self.base(), out);
        }
        self.hang = self.column.min(self.columns / 2);
        self.last = ' ';
        for c in rest.chars() {
            self.take_text(c, out);
        }
    }

    fn put_bar(&mut self, out: &mut Vec<u8>) {
        if self.column + 2 <= self.columns / 2 {
            let bar = self.bar();
            self.put_text(bar, Look::DIM, out);
            self.bars += 1;
            self.hang = self.column;
        }
    }

    fn bar(&self) -> &'static str {
        if self.colour { "│ " } else { "> " }
    }

    fn put_rule(&mut self, rest: &str, out: &mut Vec<u8>) {
        self.state = State::Text;
        if self.colour {
            let cells = (self.columns - self.column).min(40);
            self.put_text(&"─".repeat(cells), Look::DIM, out);
        } else {
            self.put_text(rest, self.base(), out);
        }
    }

    fn is_fence_end(&self) -> bool {
        let (mark, count) = self.fence;
        let quotes: &[char] = if self.bars > 0 {
            &[' ', '\t', '>']
        } else {
            &[' ', '\t']
        };
        let marks = self.head.trim_start_matches(quotes).trim_end();
        marks.chars().count() >= count && marks.chars().all(|c| c == mark)
    }

    fn put_code_head(&mut self, is_fence: bool, out: &mut Vec<u8>) {
        let head = std::mem::take(&mut self.head);
        let look = if is_fence { Look::DIM } else { self.base() };
        self.put_text(&head, look, out);
    }

    fn end_code_head(&mut self, out: &mut Vec<u8>) {
        let ended = self.is_fence_end();
        self.put_code_head(ended, out);
        if ended {
            self.state = State::Verbatim;
        } else if self.column > 0 {
            self.state = State::Code;
        }
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        self.end_run(None, out);
        self.flush_word(out);
        self.bold = None;
        self.italic = None;
        self.code_ticks = None;
        self.heading = false;
        self.spaces = 0;
        self.bars = 0;
        self.hang = 0;
        self.last = '\n';
        self.state = State::Head;
        self.break_row(out);
    }

    fn break_row(&mut self, out: &mut Vec<u8>) {
        self.put_look(Look::default(), out);
        out.extend_from_slice(b"\r\n");
        self.column = 0;
    }

    // Inline markers.

    fn take_text(&mut self, c: char, out: &mut Vec<u8>) {
        // Without colours a marker is the only sign of what it marks.
        if !self.colour {
            self.take_literal(c, out);
            return;
        }
        if let Some((mark, count)) = self.run {
            if c == mark {
                self.run = Some((mark, count + 1));
                return;
            }
            self.end_run(Some(c), out);
        }
        if std::mem::take(&mut self.backslash) {
            if !"\\`*_#~|<>!+-".contains(c) {
                self.take_literal('\\', out);
            }
            self.take_literal(c, out);
            return;
        }
        match c {
            '`' => self.run = Some((c, 1)),
            '*' | '_' if self.code_ticks.is_none() => self.run = Some((c, 1)),
            '\\' if self.code_ticks.is_none() => self.backslash = true,
            _ => self.take_literal(c, out),
        }
    }

    /// Decides what a run of markers was, by the character after it.
    fn end_run(&mut self, next: Option<char>, out: &mut Vec<u8>) {
        if next.is_none() && std::mem::take(&mut self.backslash) {
            self.take_literal('\\', out);
        }
        let Some((mark, mut count)) = self.run.take() else {
            return;
        };
        if mark == '`' {
            match self.code_ticks {
                None if next.is_some() => self.code_ticks = Some(count),
                Some(ticks) if ticks == count => self.code_ticks = None,
                _ => self.take_literals(mark, count, out),
            }
            self.last = mark;
            return;
        }
        let inner = |c: char| c.is_alphanumeric() && (mark == '_' || c.is_ascii());
        let closes = !self.last.is_whitespace() && (mark == '*' || !next.is_some_and(inner));
        let opens = next.is_some_and(|c| !c.is_whitespace()) && !inner(self.last);
        if closes && count >= 2 && self.bold == Some(mark) {
            self.bold = None;
            count -= 2;
        }
        if closes && count >= 1 && self.italic == Some(mark) {
            self.italic = None;
            count -= 1;
        }
        match count {
            1 if opens && self.italic.is_none() => self.italic = Some(mark),
            2 if opens && self.bold.is_none() => self.bold = Some(mark),
            3 if opens && self.bold.is_none() && self.italic.is_none() => {
                self.bold = Some(mark);
                self.italic = Some(mark);
            }
            _ => self.take_literals(mark, count, out),
        }
    }

    fn take_literals(&mut self, c: char, count: usize, out: &mut Vec<u8>) {
        for _ in 0..count {
            self.take_literal(c, out);
        }
    }

    // Words.

    fn take_literal(&mut self, c: char, out: &mut Vec<u8>) {
        self.last = c;
        if c == ' ' || c == '\t' {
            self.flush_word(out);
            self.spaces += 1;
            return;
        }
        if self.may_break_before(c) || self.word.len() > 4 * self.columns {
            self.flush_word(out);
        }
        let look = self.look();
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
        let mut tail = self.word[tail_start.map_or(0, |(i, _)| i)..].to_owned();
        let boundary = tail.len();
        tail.push(c);
        matches!(
            GraphemeCursor::new(boundary, tail.len(), true).is_boundary(&tail, 0),
            Ok(true)
        )
    }

    fn flush_word(&mut self, out: &mut Vec<u8>) {
        if self.word.is_empty() {
            return;
        }
        let word = std::mem::take(&mut self.word);
        let looks = std::mem::take(&mut self.looks);
        let width: usize = word.graphemes(true).map(|c| glyph(c).room).sum();
        if self.column + self.spaces + width > self.columns && self.column > self.hang {
            self.wrap_row(out);
        } else {
            let spaces = self
                .spaces
                .min(self.columns - self.column.min(self.columns));
            let base = self.base();
            self.put_look(base, out);
            out.extend(std::iter::repeat_n(b' ', spaces));
            self.column += spaces;
        }
        self.spaces = 0;
        let mut looks = looks.into_iter().peekable();
        for (i, cluster) in word.grapheme_indices(true) {
            while let Some((_, look)) = looks.next_if(|(start, _)| *start <= i) {
                self.put_look(look, out);
            }
            let room = glyph(cluster).room;
            if self.column + room > self.columns && self.column > self.hang {
                let look = self.shown;
                self.wrap_row(out);
                self.put_look(look, out);
            }
            out.extend_from_slice(cluster.as_bytes());
            self.column += room;
        }
    }

    fn wrap_row(&mut self, out: &mut Vec<u8>) {
        self.break_row(out);
        let bar = self.bar();
        for _ in 0..self.bars {
            self.put_text(bar, Look::DIM, out);
        }
        let blanks = self.hang.saturating_sub(self.column);
        self.put_text(&" ".repeat(blanks), self.base(), out);
        self.spaces = 0;
    }

    // Bytes.

    fn base(&self) -> Look {
        Look {
            dim: self.dimmed,
            ..Look::default()
        }
    }

    fn look(&self) -> Look {
        Look {
            bold: self.bold.is_some() || self.heading,
            italic: self.italic.is_some(),
            code: self.code_ticks.is_some(),
            dim: self.dimmed,
        }
    }

    /// Writes a text at once, without wrapping.
    fn put_text(&mut self, text: &str, look: Look, out: &mut Vec<u8>) {
        for c in text.chars() {
            self.put_verbatim(c, look, out);
        }
    }

    fn put_verbatim(&mut self, c: char, look: Look, out: &mut Vec<u8>) {
        self.put_look(look, out);
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        self.column += match c {
            '\t' => 8 - self.column % 8,
            _ => c.width().unwrap_or(0),
        };
    }

    fn put_look(&mut self, look: Look, out: &mut Vec<u8>) {
        if !self.colour || look == self.shown {
            return;
        }
        self.shown = look;
        if look == Look::default() {
            out.extend_from_slice(b"\x1b[m");
            return;
        }
        out.extend_from_slice(b"\x1b[0");
        for (on, code) in [
            (look.bold, ";1"),
            (look.dim, ";2"),
            (look.italic, ";3"),
            (look.code, ";36"),
        ] {
            if on {
                out.extend_from_slice(code.as_bytes());
            }
        }
        out.push(b'm');
    }
}

fn is_wordlike(c: char) -> bool {
    // Marks and joiners belong to what stands before them.
    c.width().is_some_and(|w| w > 0)
}

/// What a line is by its head, and how much of the head its marker takes;
/// `None` when more must be seen. `ended`: there is no more.
fn line_kind(head: &str, ended: bool) -> Option<(Line, usize)> {
    let body = head.trim_start_matches([' ', '\t']);
    let blank = head.len() - body.len();
    let indent = head[..blank]
        .chars()
        .map(|c| if c == '\t' { 4 } else { 1 })
        .sum();
    let text = Some((Line::Text { indent }, blank));
    if head.len() > HEAD_BYTES_MAX {
        return text;
    }
    let Some(first) = body.chars().next() else {
        return ended.then_some((Line::Blank, head.len()));
    };
    let run = body.len() - body.trim_start_matches(first).len();
    let after = body[run..].chars().next();
    let undecided = if ended { text.clone() } else { None };
    match first {
        '#' => match after {
            None => undecided,
            Some(' ') if run <= 6 => Some((Line::Heading, blank)),
            Some(_) => text,
        },
        '>' => match body[1..].chars().next() {
            None if !ended => None,
            Some(' ') => Some((Line::Quote, blank + 2)),
            _ => Some((Line::Quote, blank + 1)),
        },
        '-' | '*' | '_' if body[run..].trim().is_empty() && (run > 1 || after.is_none()) => {
            match (ended, run) {
                (false, _) => None,
                (true, 3..) => Some((Line::Rule, blank)),
                (true, _) => text,
            }
        }
        '-' | '*' | '+' if run == 1 => match after {
            None => undecided,
            Some(' ' | '\t') => {
                let mark = first.to_string();
                Some((Line::Item { indent, mark }, blank + 2))
            }
            Some(_) => text,
        },
        '0'..='9' => {
            let digits = body.len() - body.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let mut rest = body[digits..].chars();
            match (rest.next(), rest.next()) {
                _ if digits > 9 => text,
                (None, _) | (Some('.' | ')'), None) => undecided,
                (Some('.' | ')'), Some(' ')) => {
                    let mark = body[..=digits].to_owned();
                    Some((Line::Item { indent, mark }, blank + digits + 2))
                }
                _ => text,
            }
        }
        '`' | '~' if run >= 3 && !(first == '`' && body[run..].contains('`')) => {
            let fence = Line::Fence {
                mark: first,
                count: run,
            };
            ended.then_some((fence, 0))
        }
        '`' | '~' if after.is_none() => undecided,
        '|' => Some((Line::Table, 0)),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str, columns: usize, colour: bool) -> String {
        let mut out = Vec::new();
        let mut markdown = Markdown::new(columns, colour, Rendering::Markdown);
        markdown.push(text, &mut out);
        markdown.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn renders_with_colours() {
        for (text, expected) in [
            ("plain words", "plain words\r\n"),
            ("a **bold** b", "a \x1b[0;1mbold\x1b[m b\r\n"),
            ("*it*, __b__", "\x1b[0;3mit\x1b[m, \x1b[0;1mb\r\n"),
            ("***x***", "\x1b[0;1;3mx\x1b[m\r\n"),
            ("`a*b` c", "\x1b[0;36ma*b\x1b[m c\r\n"),
            ("``a`b``", "\x1b[0;36ma`b\x1b[m\r\n"),
            ("2 * 3*4 snake_case_x 2**3", "2 * 3*4 snake_case_x 2**3\r\n"),
            ("中**粗**文", "中\x1b[0;1m粗\x1b[m文\r\n"),
            (r"\*no\* \(x\)", "*no* \\(x\\)\r\n"),
            ("## Head\nx", "\x1b[0;1mHead\x1b[m\r\nx\r\n"),
            ("#hash", "#hash\r\n"),
            (
                "- a\n  - b",
                "\x1b[0;2m•\x1b[m a\r\n  \x1b[0;2m•\x1b[m b\r\n",
            ),
            ("10. a", "\x1b[0;2m10.\x1b[m a\r\n"),
            ("3.14 is", "3.14 is\r\n"),
            ("> q", "\x1b[0;2m│ \x1b[mq\r\n"),
            ("-5\n--\n", "-5\r\n--\r\n"),
            ("a\r\nb\n\n\nc", "a\r\nb\r\n\r\n\r\nc\r\n"),
            ("| a | **b** |\n", "| a | **b** |\r\n"),
        ] {
            let expected = expected.replace("\x1b[0;1mb\r\n", "\x1b[0;1mb\x1b[m\r\n");
            assert_eq!(render(text, 40, true), expected, "{text:?}");
        }
    }

    #[test]
    fn code_is_verbatim() {
        let code = "  fn *a*() {\n\t`x`  #\n\n  ``\n```\n";
        let text = format!("```rust\n{code}**b**");
        let expected = "\x1b[0;2m```rust\x1b[m\r\n  fn *a*() {\r\n\t`x`  #\r\n\r\n  ``\r\n\x1b[0;2m```\x1b[m\r\n\x1b[0;1mb\x1b[m\r\n";
        assert_eq!(render(&text, 16, true), expected);
    }

    #[test]
    fn without_colours_nothing_escapes_and_markers_stay() {
        let text = "# H\n**b** `c` *i*\n- x\n> q\n---\n```sh\nls\n```\n";
        let expected = "H\r\n**b** `c` *i*\r\n- x\r\n> q\r\n---\r\n```sh\r\nls\r\n```\r\n";
        assert_eq!(render(text, 40, false), expected.replacen('H', "# H", 1));
    }

    #[test]
    fn words_wrap_and_hang() {
        for (text, expected) in [
            ("aaaa bbbb cccc dddd", "aaaa bbbb cccc\r\ndddd\r\n"),
            ("aaaa bbbb cccc d eeee", "aaaa bbbb cccc d\r\neeee\r\n"),
            ("- aaaa bbbb cccc dddd", "- aaaa bbbb cccc\r\n  dddd\r\n"),
            ("> aaaa bbbb cccc dddd", "> aaaa bbbb cccc\r\n> dddd\r\n"),
            ("0123456789abcdefgh", "0123456789abcdef\r\ngh\r\n"),
            ("x 0123456789abcdefgh", "x\r\n0123456789abcdef\r\ngh\r\n"),
            ("漢字漢字漢字漢字漢字", "漢字漢字漢字漢字\r\n漢字\r\n"),
            ("漢字漢字漢字漢字。漢字", "漢字漢字漢字漢\r\n字。漢字\r\n"),
        ] {
            assert_eq!(render(text, 16, false), expected, "{text:?}");
        }
    }

    #[test]
    fn what_a_model_sends_never_reaches_the_terminal_raw() {
        let text = "a\x1b[2Jb\u{9b}c\x07\u{202e}d\re\x00\n```\n\x1b]0;x\x07\n```\n| \x1bc |";
        for colour in [true, false] {
            let shown = render(text, 40, colour);
            let rest = shown.replace("\x1b[0;2m", "").replace("\x1b[m", "");
            assert!(rest.contains("a␛[2Jb<9B>c␇<202E>d␍e␀"), "{rest:?}");
            assert!(
                !rest.replace("\r\n", "").chars().any(char::is_control),
                "{rest:?}"
            );
        }
        let mut out = Vec::new();
        let mut bytes = Markdown::new(40, true, Rendering::Bytes);
        bytes.push(text, &mut out);
        assert_eq!(out, text.as_bytes());
        let mut out = Vec::new();
        let mut plain = Markdown::new(40, true, Rendering::Plain);
        plain.push("**a**\x1b\n", &mut out);
        plain.finish(&mut out);
        assert_eq!(out, "**a**␛\r\n".as_bytes());
    }

    #[test]
    fn holds_back_no_more_than_a_word() {
        let mut out = Vec::new();
        let mut markdown = Markdown::new(40, true, Rendering::Markdown);
        markdown.push("Hello wor", &mut out);
        assert_eq!(out, b"Hello");
        markdown.push("ld again", &mut out);
        assert_eq!(out, b"Hello world");
        assert_eq!(markdown.column(), 11);
        markdown.finish(&mut out);
        assert_eq!(out, b"Hello world again\r\n");
        assert_eq!(markdown.column(), 0);
    }

    #[test]
    fn reasoning_is_dimmed() {
        let mut out = Vec::new();
        let mut markdown = Markdown::new(40, true, Rendering::Markdown);
        markdown.set_dimmed(true, &mut out);
        markdown.push("hm **so**\n", &mut out);
        markdown.set_dimmed(false, &mut out);
        markdown.push("yes", &mut out);
        markdown.finish(&mut out);
        let expected = "\x1b[0;2mhm \x1b[0;1;2mso\x1b[m\r\nyes\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
