//! Renders an answer while it streams: Markdown to terminal bytes, words
//! wrapped at the width. At most the current word, or a marker that is not
//! decided yet, is held back. A line break of the model is a line break on the
//! screen; fenced code and tables pass as they are.
//!
//! The model is not trusted: control characters, escape sequences and
//! bidirectional overrides come out as visible signs. Without colours no
//! escape sequence is written at all and the markers of Markdown stay.

mod inline;
mod line;
mod word;

use super::width::sign;

/// A line head that is longer is a paragraph.
const HEAD_BYTES_MAX: usize = 256;

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

/// The renderer of one answer after another.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "options and pending characters, independent of one another"
)]
pub struct Markdown {
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
    #[must_use]
    pub fn new(columns: usize, colour: bool, rendering: Rendering) -> Self {
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
    pub fn set_columns(&mut self, columns: usize) {
        self.columns = columns.max(16);
    }

    /// The column of the cursor; 0 at the start of a line. In lines that pass
    /// as they are it may lie beyond the width.
    #[cfg(test)]
    #[must_use]
    pub fn column(&self) -> usize {
        self.column
    }

    /// Dims what follows, as for a model's reasoning.
    pub fn set_dimmed(&mut self, dimmed: bool, out: &mut Vec<u8>) {
        if self.dimmed != dimmed {
            self.settle(out);
            self.dimmed = dimmed;
        }
    }

    /// Renders what the model said next.
    pub fn push(&mut self, text: &str, out: &mut Vec<u8>) {
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
    /// column 0 of a fresh line. What comes next starts anew, dimmed or not as
    /// before.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.carriage_return) {
            self.take_sign('\r', out);
        }
        self.settle(out);
        self.put_look(Look::default(), out);
        if self.column > 0 {
            out.extend_from_slice(b"\r\n");
        }
        let dimmed = self.dimmed;
        *self = Markdown::new(self.columns, self.colour, self.rendering);
        self.dimmed = dimmed;
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
}

#[cfg(test)]
mod tests;
