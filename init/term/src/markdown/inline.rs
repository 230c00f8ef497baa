//! The inside of a paragraph as CommonMark reads it: emphasis by its rules of
//! left- and right-flanking runs, code spans, links, HTML, entities, escapes.
//! What does not mark anything stays as it is.

use unicode_width::UnicodeWidthChar;

use super::super::sanitize::sanitize;
use super::reader::{Reader, Seen, Undecided};
use super::span::{read_autolink, read_code, read_entity, read_html, read_label, read_target};
use super::writer::Look;

/// A marker and what ends it lie no further apart. A model that leaves one open
/// holds back no more of its answer than this.
const SPAN_BYTES_MAX: usize = 2 << 10;

/// Whose backslash is an escape and not the model's notation for formulas.
const ESCAPED: &str = "`*_#~|<>!+-.";

/// Names of Python between two underscores on each side.
const PYTHON_NAMES: &str = "abs add all annotations bases bool builtins call class contains \
    copy deepcopy del delattr delete delitem dict dir doc enter eq exit file float format func \
    future ge get getattr getattribute getitem gt hash iadd import index init int invert iter le \
    len loader lt main missing mod module mro mul name ne neg new next or package path post_init \
    pow qualname radd reduce repr reversed self set setattr setitem setstate getstate sizeof slots \
    spec str sub subclasses truediv version wrapped xor aenter aexit aiter anext await";

/// A piece of text and how it looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    pub text: String,
    pub look: Look,
}

/// How much of a text is to be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// What cannot change any more, whatever follows.
    Decided,
    /// All: nothing follows.
    Whole,
    /// All, with every marker taken for one whose end will come.
    Hoped,
}

/// The spans of `text`, which stands after the character `before`, and how many
/// bytes of it they are.
pub(super) fn parse(before: char, text: &str, extent: Extent) -> (Vec<Span>, usize) {
    let mut parser = Parser {
        text,
        before,
        extent,
        pieces: Vec::new(),
        brackets: Vec::new(),
    };
    let end = parser.split();
    parser.finish(end)
}

/// A run of `*` or `_`.
#[derive(Debug)]
struct Run {
    mark: char,
    /// Marks in it.
    length: usize,
    /// Those that mark nothing.
    left: usize,
    opens: bool,
    closes: bool,
    /// Where the first of what it ends begins, or it itself.
    since: usize,
    /// What it ends, and what it begins behind the marks left: bold, italic.
    ends: [usize; 2],
    begins: [usize; 2],
}

#[derive(Debug)]
enum Kind {
    Text(String),
    Code(String),
    Target(String),
    Run(Run),
}

#[derive(Debug)]
struct Piece {
    /// Where in the text it begins.
    at: usize,
    kind: Kind,
}

/// `[` or `![` that may begin a link.
#[derive(Debug)]
struct Bracket {
    piece: usize,
    at: usize,
    is_image: bool,
    /// Not inside the text of a link: a link has none in it.
    is_active: bool,
}

struct Parser<'a> {
    text: &'a str,
    before: char,
    extent: Extent,
    pieces: Vec<Piece>,
    brackets: Vec<Bracket>,
}

impl<'a> Parser<'a> {
    /// What a span that begins at `at` may reach.
    fn reader(&self, at: usize) -> Reader<'a> {
        let rest = self.text.get(at..).unwrap_or_default();
        let mut most = SPAN_BYTES_MAX.min(rest.len());
        while !rest.is_char_boundary(most) {
            most = most.saturating_sub(1);
        }
        Reader {
            rest: rest.get(..most).unwrap_or_default(),
            is_whole: self.extent != Extent::Decided || rest.len() >= SPAN_BYTES_MAX,
        }
    }

    /// Splits the text into pieces; returns where it is undecided, or its end.
    fn split(&mut self) -> usize {
        let mut at = 0;
        while at < self.text.len() {
            match self.read_piece(at) {
                Ok(used) => at = at.saturating_add(used.max(1)),
                Err(Undecided) => break,
            }
        }
        at
    }

    fn push(&mut self, at: usize, kind: Kind) {
        self.pieces.push(Piece { at, kind });
    }

    /// Reads the piece at `at` and returns its bytes.
    fn read_piece(&mut self, at: usize) -> Result<usize, Undecided> {
        let mut reader = self.reader(at);
        let start = reader;
        let found = match reader.peek()? {
            Some(mark @ ('*' | '_')) => match self.read_name(at, reader)? {
                Some(name) if mark == '_' => {
                    reader.rest = start.rest.get(name.len()..).unwrap_or_default();
                    Some(Kind::Text(name.to_owned()))
                }
                _ => self.read_run(at, &mut reader)?.map(Kind::Run),
            },
            Some('`') => self.read_code(&mut reader)?,
            Some('&') => read_entity(&mut reader)?.map(|text| Kind::Text(sanitize(&text))),
            Some('\\') => read_escape(&mut reader)?.map(Kind::Text),
            Some('[') => self.open_bracket(at, &mut reader, false)?,
            Some('!') => self.open_bracket(at, &mut reader, true)?,
            Some(']') => {
                if let Some(used) = self.close_bracket(at)? {
                    return Ok(used);
                }
                None
            }
            Some('<') => {
                let mut ahead = reader;
                if let Some(address) = read_autolink(&mut ahead)? {
                    reader = ahead;
                    Some(Kind::Text(address.to_owned()))
                } else {
                    read_html(&mut reader)?.map(|()| Kind::Text(used(start, reader).to_owned()))
                }
            }
            _ => None,
        };
        if let Some(kind) = found {
            self.push(at, kind);
            return Ok(used(start, reader).len());
        }
        let mark = start.rest.chars().next().unwrap_or_default();
        // A run of backticks is one marker, whether it marks anything or not.
        let literal = if mark == '`' {
            start
                .rest
                .len()
                .saturating_sub(start.rest.trim_start_matches('`').len())
        } else {
            let plain = start.rest.get(mark.len_utf8()..).unwrap_or_default();
            let end = plain.find(['*', '_', '`', '&', '\\', '[', ']', '!', '<']);
            mark.len_utf8().saturating_add(end.unwrap_or(plain.len()))
        };
        let text = start.rest.get(..literal).unwrap_or_default().to_owned();
        self.push(at, Kind::Text(text));
        Ok(literal)
    }

    fn read_code(&self, reader: &mut Reader<'_>) -> Seen<Kind> {
        let marks = reader
            .rest
            .len()
            .saturating_sub(reader.rest.trim_start_matches('`').len());
        let hoped = reader.rest.get(marks..).unwrap_or_default().to_owned();
        let code = read_code(reader)?;
        if code.is_none() && self.extent == Extent::Hoped {
            reader.rest = "";
            return Ok(Some(Kind::Code(hoped)));
        }
        Ok(code.map(|code| Kind::Code(code.to_owned())))
    }

    fn read_run(&self, at: usize, reader: &mut Reader<'_>) -> Seen<Run> {
        let Some(mark) = reader.peek()? else {
            return Ok(None);
        };
        let length = reader.take_while(|c| c == mark)?.len();
        let next = reader.peek()?.unwrap_or('\n');
        let last = self
            .text
            .get(..at)
            .and_then(|text| text.chars().next_back());
        let last = last.unwrap_or(self.before);
        let flanks = |inner: char, outer: char| {
            !inner.is_whitespace()
                && (!is_punctuation(inner) || outer.is_whitespace() || is_punctuation(outer))
        };
        let (left, right) = (flanks(next, last), flanks(last, next));
        Ok(Some(Run {
            mark,
            length,
            left: length,
            since: at,
            opens: left && (mark == '*' || !right || is_punctuation(last)),
            closes: right && (mark == '*' || !left || is_punctuation(next)),
            ends: [0; 2],
            begins: [0; 2],
        }))
    }

    /// A name like `__init__`, which CommonMark would take for a word in bold.
    /// So may people, but a model that writes of code means the name.
    fn read_name(&self, at: usize, mut reader: Reader<'a>) -> Seen<&'a str> {
        let start = reader;
        let last = self
            .text
            .get(..at)
            .and_then(|text| text.chars().next_back());
        let run = reader.take_while(|c| c == '_')?;
        if run != "__" {
            return Ok(None);
        }
        let name = reader.take_while(|c| c.is_ascii_alphanumeric() || c == '_')?;
        let Some(word) = name.strip_suffix("__") else {
            return Ok(None);
        };
        let is_glued = matches!(last.unwrap_or(self.before), '.' | '/')
            || match reader.next()? {
                Some('(' | '[' | '/') => true,
                Some('.') => reader.peek()?.is_some_and(char::is_alphanumeric),
                _ => false,
            };
        let is_constant = !word.contains(|c: char| c.is_ascii_lowercase());
        let is_known = PYTHON_NAMES.split(' ').any(|known| known == word);
        let is_name = is_glued || is_constant || is_known;
        let length = name.len().saturating_add(run.len());
        Ok(start
            .rest
            .get(..length)
            .filter(|_| is_name && !word.is_empty()))
    }

    fn open_bracket(&mut self, at: usize, reader: &mut Reader<'_>, is_image: bool) -> Seen<Kind> {
        let sign = if is_image { "![" } else { "[" };
        if !reader.take(sign)? {
            return Ok(None);
        }
        self.brackets.push(Bracket {
            piece: self.pieces.len(),
            at,
            is_image,
            is_active: true,
        });
        Ok(Some(Kind::Text(sign.to_owned())))
    }

    /// Ends the text of a link, if it is one; returns the bytes of its target.
    fn close_bracket(&mut self, at: usize) -> Seen<usize> {
        let Some(open) = self.brackets.last() else {
            return Ok(None);
        };
        // The whole of a link is a span.
        let mut reader = self.reader(open.at);
        reader.rest = reader
            .rest
            .get(at.saturating_sub(open.at)..)
            .unwrap_or_default();
        let start = reader;
        let is_closed = open.is_active && reader.take("]")?;
        // Whether the label is defined may be told at the answer's end only:
        // what could be a link's text is taken for one, which loses no mark.
        let is_reference = is_closed && read_label(reader)?.is_some();
        let target = if is_closed {
            read_target(&mut reader)?
        } else {
            None
        };
        let Some(open) = self.brackets.pop() else {
            return Ok(None);
        };
        let Some(target) = target else {
            if is_reference {
                self.close_runs(open.piece);
            }
            return Ok(None);
        };
        self.close_runs(open.piece);
        if !open.is_image {
            for bracket in self.brackets.iter_mut().filter(|b| !b.is_image) {
                bracket.is_active = false;
            }
        }
        let shown = self.text.get(open.at..at).unwrap_or_default();
        let shown = shown.trim_start_matches(['!', '[']);
        if let Some(sign) = self.pieces.get_mut(open.piece) {
            sign.kind = Kind::Text(String::new());
        }
        if target.strip_prefix("mailto:").unwrap_or(&target) != shown && !target.is_empty() {
            self.push(at, Kind::Target(sanitize(&target)));
        }
        Ok(Some(used(start, reader).len()))
    }

    /// Pairs the markers of a link's text, which begins with the piece `from`:
    /// nothing outside pairs with what is inside.
    fn close_runs(&mut self, from: usize) {
        let inside = self.pieces.get_mut(from..).unwrap_or_default();
        pair_runs(inside, Extent::Whole, usize::MAX);
        for piece in inside {
            if let Kind::Run(run) = &mut piece.kind {
                (run.opens, run.closes) = (false, false);
            }
        }
    }

    /// Pairs the markers before `end` and returns the spans that are decided.
    fn finish(mut self, mut end: usize) -> (Vec<Span>, usize) {
        let is_open = |at: usize, end: usize| end.saturating_sub(at) <= SPAN_BYTES_MAX;
        if self.extent == Extent::Decided {
            let open = self
                .brackets
                .iter()
                .find(|b| b.is_active && is_open(b.at, end));
            end = open.map_or(end, |bracket| bracket.at);
        }
        self.pieces.retain(|piece| piece.at < end);
        let open = pair_runs(&mut self.pieces, self.extent, end);
        if self.extent == Extent::Decided {
            end = open.unwrap_or(end);
        }
        let mut spans = Vec::new();
        let mut depth = [0_usize; 2];
        for piece in self.pieces {
            if piece.at >= end {
                break;
            }
            let (text, code, dim) = match piece.kind {
                Kind::Text(text) => (text, false, false),
                Kind::Code(text) => (text, true, false),
                Kind::Target(target) => (format!(" ({target})"), false, true),
                Kind::Run(run) => {
                    for (depth, ends) in depth.iter_mut().zip(run.ends) {
                        *depth = depth.saturating_sub(ends);
                    }
                    let literal = run.mark.to_string().repeat(run.left);
                    spans.push(span(literal, depth, false, false));
                    for (depth, begins) in depth.iter_mut().zip(run.begins) {
                        *depth = depth.saturating_add(begins);
                    }
                    continue;
                }
            };
            spans.push(span(text, depth, code, dim));
        }
        spans.retain(|span| !span.text.is_empty());
        (spans, end)
    }
}

fn span(text: String, [bold, italic]: [usize; 2], code: bool, dim: bool) -> Span {
    let look = Look {
        bold: bold > 0,
        italic: italic > 0,
        code,
        dim,
    };
    Span { text, look }
}

/// What was read between two states of one reader.
fn used<'a>(start: Reader<'a>, end: Reader<'a>) -> &'a str {
    let length = start.rest.len().saturating_sub(end.rest.len());
    start.rest.get(..length).unwrap_or_default()
}

/// A backslash and what it escapes, as text.
fn read_escape(reader: &mut Reader<'_>) -> Seen<String> {
    reader.next()?;
    match reader.next()? {
        // A hard line break, unless the paragraph ends here.
        Some('\n') => Ok(reader.peek()?.map(|_| "\n".to_owned())),
        Some(c) if ESCAPED.contains(c) => Ok(Some(c.to_string())),
        Some(c) if c.is_ascii_punctuation() => Ok(Some(format!("\\{c}"))),
        _ => Ok(None),
    }
}

/// Finds the beginning of everything that ends in `pieces`. Returns where the
/// first run stands that something at `end` or later could end.
fn pair_runs(pieces: &mut [Piece], extent: Extent, end: usize) -> Option<usize> {
    let is_near = |opener: usize, at: usize| at.saturating_sub(opener) <= SPAN_BYTES_MAX;
    // The runs that may begin something: which pieces, and where they stand.
    let mut openers: Vec<(usize, usize)> = Vec::new();
    for i in 0..pieces.len() {
        let Some((before, [piece, ..])) = pieces.split_at_mut_checked(i) else {
            break;
        };
        let Kind::Run(run) = &mut piece.kind else {
            continue;
        };
        while run.closes && run.left > 0 {
            let near = openers
                .iter()
                .rev()
                .take_while(|(_, at)| is_near(*at, piece.at));
            let pairs = |(i, _): &(usize, usize)| {
                run_of(before.get(*i)).is_some_and(|opener| opener.pairs_with(run))
            };
            let Some(above) = near.copied().position(|opener| pairs(&opener)) else {
                break;
            };
            openers.truncate(openers.len().saturating_sub(above));
            let opener = openers.last().and_then(|(i, _)| before.get_mut(*i));
            if let Some(Piece {
                kind: Kind::Run(opener),
                ..
            }) = opener
            {
                run.end(opener);
                if opener.left == 0 {
                    openers.pop();
                }
            }
        }
        if run.opens && run.left > 0 {
            openers.push((i, piece.at));
        }
    }
    openers.retain(|(_, at)| is_near(*at, end));
    if extent == Extent::Hoped {
        for (i, _) in &openers {
            if let Some(Piece {
                kind: Kind::Run(run),
                ..
            }) = pieces.get_mut(*i)
            {
                run.begins = [
                    run.begins[0].saturating_add(run.left / 2),
                    run.begins[1].saturating_add(run.left % 2),
                ];
                run.left = 0;
            }
        }
    }
    let first = openers.first().and_then(|(i, _)| run_of(pieces.get(*i)));
    first.map(|run| run.since)
}

fn run_of(piece: Option<&Piece>) -> Option<&Run> {
    match piece.map(|piece| &piece.kind) {
        Some(Kind::Run(run)) => Some(run),
        _ => None,
    }
}

impl Run {
    /// Whether `closer` may end what this run begins (CommonMark's rules 9 and
    /// 10: not where the marks of both make three, and one could do both).
    fn pairs_with(&self, closer: &Run) -> bool {
        let both = self.closes || closer.opens;
        let thirds = [self.length, closer.length].map(|length| length % 3);
        let sum = self.length.saturating_add(closer.length);
        self.mark == closer.mark && !(both && sum.is_multiple_of(3) && thirds != [0, 0])
    }

    /// Ends what `opener` begins.
    fn end(&mut self, opener: &mut Run) {
        let is_strong = self.left >= 2 && opener.left >= 2;
        let marks = if is_strong { 2 } else { 1 };
        self.left = self.left.saturating_sub(marks);
        opener.left = opener.left.saturating_sub(marks);
        let [ends, begins] = if is_strong {
            [&mut self.ends[0], &mut opener.begins[0]]
        } else {
            [&mut self.ends[1], &mut opener.begins[1]]
        };
        self.since = self.since.min(opener.since);
        *ends = ends.saturating_add(1);
        *begins = begins.saturating_add(1);
    }
}

/// Punctuation and symbols: what is neither a letter, a number, a mark, a blank
/// nor invisible.
fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation()
        || !(c.is_ascii() || c.is_alphanumeric() || c.is_whitespace())
            && c.width().is_some_and(|width| width > 0)
}
