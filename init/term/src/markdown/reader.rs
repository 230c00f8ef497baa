//! Looks ahead in text of which more may come.

/// More of the text must be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Undecided;

/// What is to be decided, `None` for "it is not that".
pub(super) type Seen<T> = Result<Option<T>, Undecided>;

/// The text ahead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    /// What has not been read.
    pub rest: &'a str,
    /// Whether nothing will follow it.
    pub is_whole: bool,
}

impl<'a> Reader<'a> {
    /// The next character; `None` at the end.
    pub(super) fn peek(&self) -> Seen<char> {
        match self.rest.chars().next() {
            None if !self.is_whole => Err(Undecided),
            next => Ok(next),
        }
    }

    /// Reads a character.
    pub(super) fn next(&mut self) -> Seen<char> {
        let next = self.peek()?;
        self.skip(next.map_or(0, char::len_utf8));
        Ok(next)
    }

    /// Reads `text` if it is next.
    pub(super) fn take(&mut self, text: &str) -> Result<bool, Undecided> {
        if self.rest.starts_with(text) {
            self.skip(text.len());
            return Ok(true);
        }
        if !self.is_whole && text.starts_with(self.rest) {
            return Err(Undecided);
        }
        Ok(false)
    }

    /// Reads the characters that are next and of a kind.
    pub(super) fn take_while(&mut self, kind: impl Fn(char) -> bool) -> Result<&'a str, Undecided> {
        let end = self.rest.find(|c| !kind(c));
        if end.is_none() && !self.is_whole {
            return Err(Undecided);
        }
        let (taken, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        Ok(taken)
    }

    /// Reads up to `end` and `end` itself; `None` if it does not come.
    pub(super) fn take_until(&mut self, end: &str) -> Seen<&'a str> {
        if let Some((taken, rest)) = self.rest.split_once(end) {
            self.rest = rest;
            return Ok(Some(taken));
        }
        if self.is_whole {
            Ok(None)
        } else {
            Err(Undecided)
        }
    }

    /// Reads blanks and line ends.
    pub(super) fn take_space(&mut self) -> Result<&'a str, Undecided> {
        self.take_while(|c| matches!(c, ' ' | '\t' | '\n'))
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }
}
