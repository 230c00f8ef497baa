//! jinja2's lexer with `trim_blocks` and `lstrip_blocks`.

use super::{Fault, wrong};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Data(String),
    VariableBegin,
    VariableEnd,
    BlockBegin,
    BlockEnd,
    Name(String),
    Str(String),
    Int(i128),
    Float(f64),
    Op(&'static str),
    End,
}

/// Longest first.
const OPERATORS: [&str; 25] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}",
    ">", "<", "=", ".", ":", "|", ",",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Data,
    Variable,
    Block,
}

/// Cuts a source into tokens, one at a time.
#[derive(Debug)]
pub(super) struct Lexer<'s> {
    rest: &'s str,
    state: State,
    /// Closing brackets that are awaited.
    brackets: Vec<&'static str>,
    /// What was read last ended a line.
    line_starting: bool,
    pub(super) line: usize,
    /// Sequel of data that was cut at a tag.
    pending: Option<Token>,
}

/// The source as the lexer takes it: lines end with "\n", the last one not.
pub(super) fn normalize(source: &str) -> String {
    let mut source = source.replace("\r\n", "\n").replace('\r', "\n");
    if source.ends_with('\n') {
        source.pop();
    }
    source
}

impl<'s> Lexer<'s> {
    pub(super) fn new(normalized: &'s str) -> Self {
        Self {
            rest: normalized,
            state: State::Data,
            brackets: Vec::new(),
            line_starting: true,
            line: 1,
            pending: None,
        }
    }

    pub(super) fn next(&mut self) -> Result<Token, Fault> {
        if let Some(token) = self.pending.take() {
            return Ok(token);
        }
        while self.state == State::Data {
            if self.rest.is_empty() {
                return Ok(Token::End);
            }
            if let Some(token) = self.data()? {
                return Ok(token);
            }
        }
        self.expression()
    }

    /// Goes on by `bytes`.
    fn advance(&mut self, bytes: usize) -> &'s str {
        let (read, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.line = self.line.saturating_add(read.matches('\n').count());
        if let Some(last) = read.chars().next_back() {
            self.line_starting = last == '\n';
        }
        self.rest = rest;
        read
    }

    /// Text up to the next tag; the tag itself is left pending.
    fn data(&mut self) -> Result<Option<Token>, Fault> {
        let found = self.rest.match_indices('{').find_map(|(at, _)| {
            let kind = self.rest.get(at.saturating_add(1)..)?.chars().next()?;
            matches!(kind, '{' | '%' | '#').then_some((at, kind))
        });
        let Some((at, kind)) = found else {
            let all = self.advance(self.rest.len());
            return Ok(Some(Token::Data(all.to_owned())));
        };
        let line_starting = self.line_starting;
        let text = self.advance(at);
        self.advance(2);
        let sign = self.sign();
        let text = match sign {
            // Only blocks and comments take the line's indentation with them.
            None if kind == '{' => text,
            sign => strip(text, sign, line_starting),
        };
        let data = (!text.is_empty()).then(|| Token::Data(text.to_owned()));
        let tag = match kind {
            '#' => {
                self.comment()?;
                None
            }
            '{' => {
                self.state = State::Variable;
                Some(Token::VariableBegin)
            }
            _ => {
                if let Some(length) = self.raw_begin() {
                    self.advance(length);
                    self.raw()?.map(Token::Data)
                } else {
                    self.state = State::Block;
                    Some(Token::BlockBegin)
                }
            }
        };
        Ok(match (data, tag) {
            (Some(data), tag) => {
                self.pending = tag;
                Some(data)
            }
            (None, tag) => tag,
        })
    }

    /// The sign after a tag's opening.
    fn sign(&mut self) -> Option<char> {
        let sign = self
            .rest
            .chars()
            .next()
            .filter(|c| matches!(c, '-' | '+'))?;
        self.advance(1);
        Some(sign)
    }

    fn comment(&mut self) -> Result<(), Fault> {
        let Some(end) = self.rest.find("#}") else {
            return wrong("Missing end of comment tag");
        };
        let sign = self
            .rest
            .get(..end)
            .and_then(|text| text.chars().next_back());
        self.advance(end.saturating_add(2));
        self.after_tag(sign, true);
        Ok(())
    }

    /// White space that belongs to a tag which closed with `sign`.
    fn after_tag(&mut self, sign: Option<char>, trim: bool) {
        if sign == Some('-') {
            let stripped = self.rest.trim_start_matches(super::is_py_space);
            self.advance(self.rest.len().saturating_sub(stripped.len()));
        } else if trim && sign != Some('+') && self.rest.starts_with('\n') {
            self.advance(1);
        }
    }

    /// Length of `raw %}`, if that is what follows.
    fn raw_begin(&self) -> Option<usize> {
        let after = self.rest.trim_start_matches(super::is_py_space);
        let after = after.strip_prefix("raw")?;
        let after = after.trim_start_matches(super::is_py_space);
        let rest = match after.strip_prefix("-%}") {
            Some(rest) => rest.trim_start_matches(super::is_py_space),
            None => after.strip_prefix("%}")?,
        };
        Some(self.rest.len().saturating_sub(rest.len()))
    }

    /// The text of a raw block.
    fn raw(&mut self) -> Result<Option<String>, Fault> {
        let line_starting = self.line_starting;
        let mut from = 0_usize;
        loop {
            let Some(at) = self.rest.get(from..).and_then(|rest| rest.find("{%")) else {
                return wrong("Missing end of raw directive");
            };
            let at = from.saturating_add(at);
            let inner = self.rest.get(at.saturating_add(2)..).unwrap_or_default();
            from = at.saturating_add(2);
            let sign = inner.chars().next().filter(|c| matches!(c, '-' | '+'));
            let name = inner.strip_prefix(['-', '+']).unwrap_or(inner);
            let name = name.trim_start_matches(super::is_py_space);
            let Some(end) = name.strip_prefix("endraw") else {
                continue;
            };
            let end = end.trim_start_matches(super::is_py_space);
            let close = end.chars().next().filter(|c| matches!(c, '-' | '+'));
            let end = end.strip_prefix(['-', '+']).unwrap_or(end);
            let Some(rest) = end.strip_prefix("%}") else {
                continue;
            };
            let tag_end = self.rest.len().saturating_sub(rest.len());
            let text = strip(self.rest.get(..at).unwrap_or_default(), sign, line_starting);
            let text = text.to_owned();
            self.advance(tag_end);
            self.after_tag(close, true);
            return Ok((!text.is_empty()).then_some(text));
        }
    }

    fn expression(&mut self) -> Result<Token, Fault> {
        if self.brackets.is_empty()
            && let Some(token) = self.tag_end()
        {
            return Ok(token);
        }
        let blank = self.rest.trim_start_matches(super::is_py_space);
        if blank.len() < self.rest.len() {
            self.advance(self.rest.len().saturating_sub(blank.len()));
            return self.expression();
        }
        let Some(first) = self.rest.chars().next() else {
            return Ok(Token::End);
        };
        if first.is_ascii_digit() {
            return self.number();
        }
        if first == '_' || first.is_alphabetic() {
            let end = self.rest.find(|c: char| c != '_' && !c.is_alphanumeric());
            let name = self.advance(end.unwrap_or(self.rest.len()));
            return Ok(Token::Name(name.to_owned()));
        }
        if first == '\'' || first == '"' {
            return self.string(first);
        }
        let operator = OPERATORS.iter().find(|op| self.rest.starts_with(**op));
        let Some(&operator) = operator else {
            return wrong(format!("unexpected char '{first}'"));
        };
        self.advance(operator.len());
        self.balance(operator)?;
        Ok(Token::Op(operator))
    }

    fn tag_end(&mut self) -> Option<Token> {
        let (close, token) = match self.state {
            State::Variable => ("}}", Token::VariableEnd),
            _ => ("%}", Token::BlockEnd),
        };
        let sign = self.rest.chars().next().filter(|c| matches!(c, '-' | '+'));
        // A variable has no closing "+".
        let sign = sign.filter(|sign| *sign == '-' || token == Token::BlockEnd);
        let signed = usize::from(sign.is_some());
        self.rest.get(signed..)?.strip_prefix(close)?;
        self.advance(signed.saturating_add(2));
        self.after_tag(sign, token == Token::BlockEnd);
        self.state = State::Data;
        Some(token)
    }

    fn balance(&mut self, operator: &'static str) -> Result<(), Fault> {
        match operator {
            "(" => self.brackets.push(")"),
            "[" => self.brackets.push("]"),
            "{" => self.brackets.push("}"),
            ")" | "]" | "}" => match self.brackets.pop() {
                Some(expected) if expected == operator => {}
                Some(expected) => {
                    return wrong(format!("unexpected '{operator}', expected '{expected}'"));
                }
                None => return wrong(format!("unexpected '{operator}'")),
            },
            _ => {}
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Token, Fault> {
        let digits = |text: &str, radix: u32| {
            text.find(|c: char| c != '_' && !c.is_digit(radix))
                .unwrap_or(text.len())
        };
        let too_large = || Fault::Wrong("an integer this large is not supported".to_owned());
        for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
            let lower = self.rest.get(..2).unwrap_or_default().to_ascii_lowercase();
            if lower == prefix {
                self.advance(2);
                let text = self.advance(digits(self.rest, radix)).replace('_', "");
                return i128::from_str_radix(&text, radix)
                    .map(Token::Int)
                    .map_err(|_| too_large());
            }
        }
        let mut end = digits(self.rest, 10);
        let mut is_float = false;
        let after = self.rest.get(end..).unwrap_or_default();
        if let Some(fraction) = after.strip_prefix('.')
            && fraction.starts_with(|c: char| c.is_ascii_digit())
        {
            is_float = true;
            end = end.saturating_add(1).saturating_add(digits(fraction, 10));
        }
        let after = self.rest.get(end..).unwrap_or_default();
        if let Some(exponent) = after.strip_prefix(['e', 'E']) {
            let unsigned = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
            if unsigned.starts_with(|c: char| c.is_ascii_digit()) {
                is_float = true;
                let rest = unsigned.get(digits(unsigned, 10)..).unwrap_or_default();
                end = self.rest.len().saturating_sub(rest.len());
            }
        }
        let text = self.advance(end);
        let zeros = text.starts_with('0') && text.contains(|c| !matches!(c, '0' | '_'));
        if text.contains("__") || text.ends_with('_') || zeros && !is_float {
            return wrong(format!("'{text}' is not a number"));
        }
        let text = text.replace('_', "");
        if is_float {
            return Ok(Token::Float(text.parse().unwrap_or(f64::INFINITY)));
        }
        text.parse().map(Token::Int).map_err(|_| too_large())
    }

    fn string(&mut self, quote: char) -> Result<Token, Fault> {
        let mut escaped = false;
        let end = self.rest.char_indices().skip(1).find(|&(_, c)| {
            let ends = c == quote && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let Some((end, _)) = end else {
            return wrong(format!("unexpected char '{quote}'"));
        };
        let quoted = self.advance(end.saturating_add(1));
        unescape(quoted.get(1..end).unwrap_or_default()).map(Token::Str)
    }
}

/// `text` before a tag: white space goes with the sign "-", and from the
/// beginning of the line on without a sign.
fn strip(text: &str, sign: Option<char>, line_starting: bool) -> &str {
    match sign {
        Some('-') => text.trim_end_matches(super::is_py_space),
        Some(_) => text,
        None => {
            let line = text.rfind('\n').map_or(0, |at| at.saturating_add(1));
            let indent = text.get(line..).unwrap_or_default();
            if (line > 0 || line_starting) && indent.chars().all(super::is_py_space) {
                return text.get(..line).unwrap_or_default();
            }
            text
        }
    }
}

/// Python's `unicode-escape`.
fn unescape(text: &str) -> Result<String, Fault> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let Some(escape) = chars.next() else { break };
        let hex = match escape {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        match escape {
            '\n' => {}
            '\\' | '\'' | '"' => out.push(escape),
            'a' => out.push('\x07'),
            'b' => out.push('\x08'),
            'f' => out.push('\x0c'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'v' => out.push('\x0b'),
            'x' | 'u' | 'U' => {
                let digits = chars.as_str().get(..hex).unwrap_or_default();
                let code = u32::from_str_radix(digits, 16)
                    .ok()
                    .and_then(char::from_u32);
                let Some(code) = code else {
                    return wrong("truncated or illegal escape in a string");
                };
                out.push(code);
                chars = chars.as_str().get(hex..).unwrap_or_default().chars();
            }
            '0'..='7' => {
                let mut code = escape.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    let Some(digit) = chars.clone().next().and_then(|c| c.to_digit(8)) else {
                        break;
                    };
                    code = code.saturating_mul(8).saturating_add(digit);
                    chars.next();
                }
                out.extend(char::from_u32(code));
            }
            'N' => return wrong("names of characters are not supported"),
            other => out.extend(['\\', other]),
        }
    }
    Ok(out)
}
