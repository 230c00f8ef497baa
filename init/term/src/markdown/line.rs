//! What a line is, decided by its head, and where its rows begin.

use super::{HEAD_BYTES_MAX, Look, Markdown, State};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    Blank,
    Text { indent: usize },
    Heading,
    Quote,
    Item { indent: usize, mark: String },
    Rule,
    Fence { mark: char, count: usize },
    Table,
}

impl Markdown {
    /// Decides what the line is by its head, if that is possible by now.
    pub(super) fn decide(&mut self, ended: bool, out: &mut Vec<u8>) {
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

    pub(super) fn begin_text(&mut self, indent: usize, mark: &str, rest: &str, out: &mut Vec<u8>) {
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

    pub(super) fn put_bar(&mut self, out: &mut Vec<u8>) {
        if self.column.saturating_add(2) <= self.columns / 2 {
            let bar = self.bar();
            self.put_text(bar, Look::DIM, out);
            self.bars = self.bars.saturating_add(1);
            self.hang = self.column;
        }
    }

    pub(super) fn bar(&self) -> &'static str {
        if self.colour { "│ " } else { "> " }
    }

    pub(super) fn put_rule(&mut self, rest: &str, out: &mut Vec<u8>) {
        self.state = State::Text;
        if self.colour {
            let cells = self.columns.saturating_sub(self.column).min(40);
            self.put_text(&"─".repeat(cells), Look::DIM, out);
        } else {
            self.put_text(rest, self.base(), out);
        }
    }

    pub(super) fn is_fence_end(&self) -> bool {
        let (mark, count) = self.fence;
        let quotes: &[char] = if self.bars > 0 {
            &[' ', '\t', '>']
        } else {
            &[' ', '\t']
        };
        let marks = self.head.trim_start_matches(quotes).trim_end();
        marks.chars().count() >= count && marks.chars().all(|c| c == mark)
    }

    pub(super) fn put_code_head(&mut self, is_fence: bool, out: &mut Vec<u8>) {
        let head = std::mem::take(&mut self.head);
        let look = if is_fence { Look::DIM } else { self.base() };
        self.put_text(&head, look, out);
    }

    pub(super) fn end_code_head(&mut self, out: &mut Vec<u8>) {
        let ended = self.is_fence_end();
        self.put_code_head(ended, out);
        if ended {
            self.state = State::Verbatim;
        } else if self.column > 0 {
            self.state = State::Code;
        }
    }

    pub(super) fn end_line(&mut self, out: &mut Vec<u8>) {
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

    pub(super) fn break_row(&mut self, out: &mut Vec<u8>) {
        self.put_look(Look::default(), out);
        out.extend_from_slice(b"\r\n");
        self.column = 0;
    }
}

/// What a line is by its head, and how much of the head its marker takes;
/// `None` when more must be seen. `ended`: there is no more.
fn line_kind(head: &str, ended: bool) -> Option<(Line, usize)> {
    let body = head.trim_start_matches([' ', '\t']);
    let blank = head.len().saturating_sub(body.len());
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
    let run = body
        .len()
        .saturating_sub(body.trim_start_matches(first).len());
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
            Some(' ') => Some((Line::Quote, blank.saturating_add(2))),
            _ => Some((Line::Quote, blank.saturating_add(1))),
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
                Some((Line::Item { indent, mark }, blank.saturating_add(2)))
            }
            Some(_) => text,
        },
        '0'..='9' => {
            let digits = body
                .len()
                .saturating_sub(body.trim_start_matches(|c: char| c.is_ascii_digit()).len());
            let mut rest = body[digits..].chars();
            match (rest.next(), rest.next()) {
                _ if digits > 9 => text,
                (None, _) | (Some('.' | ')'), None) => undecided,
                (Some('.' | ')'), Some(' ')) => {
                    let mark = body[..=digits].to_owned();
                    Some((
                        Line::Item { indent, mark },
                        blank.saturating_add(digits).saturating_add(2),
                    ))
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
