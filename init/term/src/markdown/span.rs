//! The spans of a text whose inside is not text: code, links' targets, HTML,
//! entities. Each function reads one and says what was in it.

use entities::ENTITIES;

use super::reader::{Reader, Seen, Undecided};

/// Parentheses inside a link's target.
const TARGET_DEPTH_MAX: usize = 32;
/// Characters of an entity's name; the longest there is has 31.
const ENTITY_NAME_MAX: usize = 32;

/// A code span, from its first backtick: its text.
pub(super) fn read_code<'a>(reader: &mut Reader<'a>) -> Seen<&'a str> {
    let marks = reader.take_while(|c| c == '`')?.len();
    let text = reader.rest;
    let mut length = 0_usize;
    loop {
        let piece = reader.take_while(|c| c != '`')?.len();
        length = length.saturating_add(piece);
        let run = reader.take_while(|c| c == '`')?.len();
        if run == marks {
            break;
        }
        if run == 0 {
            return Ok(None);
        }
        length = length.saturating_add(run);
    }
    let text = text.get(..length).unwrap_or_default();
    let blank = |c| c == ' ' || c == '\n';
    let inner = text.strip_prefix(blank).and_then(|t| t.strip_suffix(blank));
    // A blank on each side keeps backticks apart from the markers.
    Ok(Some(
        inner
            .filter(|_| !text.trim_matches(blank).is_empty())
            .unwrap_or(text),
    ))
}

/// What follows the bracket of a link's text: `(target "title")`. The target.
pub(super) fn read_target(reader: &mut Reader<'_>) -> Seen<String> {
    if !reader.take("(")? {
        return Ok(None);
    }
    reader.take_space()?;
    let Some(target) = read_destination(reader)? else {
        return Ok(None);
    };
    let space = reader.take_space()?;
    if !space.is_empty() && !read_title(reader)? {
        return Ok(None);
    }
    reader.take_space()?;
    Ok(reader.take(")")?.then(|| unescape(target)))
}

/// What may follow the bracket of a link's text instead: `[label]`, the name
/// that the target has elsewhere.
pub(super) fn read_label(mut reader: Reader<'_>) -> Seen<()> {
    if !reader.take("[")? {
        return Ok(None);
    }
    let mut is_blank = true;
    loop {
        match reader.next()? {
            None | Some('[') => return Ok(None),
            Some(']') => return Ok((!is_blank).then_some(())),
            Some('\\') => {
                reader.next()?;
                is_blank = false;
            }
            Some(c) => is_blank &= c.is_whitespace(),
        }
    }
}

fn read_destination<'a>(reader: &mut Reader<'a>) -> Seen<&'a str> {
    let text = reader.rest;
    let in_angles = reader.take("<")?;
    let (mut depth, mut length) = (0_usize, 0_usize);
    loop {
        let mut ahead = *reader;
        let Some(c) = ahead.next()? else { break };
        match c {
            '\\' if ahead.peek()?.is_some_and(|c| c.is_ascii_punctuation()) => {
                ahead.next()?;
            }
            '>' if in_angles => {
                *reader = ahead;
                return Ok(text.get(1..length.saturating_add(1)));
            }
            '<' | '\n' if in_angles => return Ok(None),
            _ if in_angles => {}
            '(' if depth == TARGET_DEPTH_MAX => return Ok(None),
            '(' => depth = depth.saturating_add(1),
            ')' if depth == 0 => break,
            ')' => depth = depth.saturating_sub(1),
            c if c == ' ' || c.is_ascii_control() => break,
            _ => {}
        }
        length = length.saturating_add(reader.rest.len().saturating_sub(ahead.rest.len()));
        *reader = ahead;
    }
    Ok(text.get(..length).filter(|_| !in_angles && depth == 0))
}

/// Reads a title, if there is one; `false` if it does not end.
fn read_title(reader: &mut Reader<'_>) -> Result<bool, Undecided> {
    let end = match reader.peek()? {
        Some(quote @ ('"' | '\'')) => quote,
        Some('(') => ')',
        _ => return Ok(true),
    };
    reader.next()?;
    loop {
        match reader.next()? {
            None => return Ok(false),
            Some('\\') => {
                reader.next()?;
            }
            Some(c) if c == end => return Ok(true),
            Some('(') if end == ')' => return Ok(false),
            Some(_) => {}
        }
    }
}

/// `<https://…>` or `<name@host>`: the address.
pub(super) fn read_autolink<'a>(reader: &mut Reader<'a>) -> Seen<&'a str> {
    if !reader.take("<")? {
        return Ok(None);
    }
    let address = reader.take_while(|c| !matches!(c, '<' | '>' | '\0'..=' '))?;
    if !reader.take(">")? {
        return Ok(None);
    }
    let is_uri = address.split_once(':').is_some_and(|(scheme, _)| {
        (2..=32).contains(&scheme.len())
            && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c))
    });
    Ok((is_uri || is_mail(address)).then_some(address))
}

fn is_mail(address: &str) -> bool {
    let Some((name, host)) = address.split_once('@') else {
        return false;
    };
    let in_name = |c: char| c.is_ascii_alphanumeric() || ".!#$%&'*+/=?^_`{|}~-".contains(c);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    !name.is_empty() && name.chars().all(in_name) && host.split('.').all(is_label)
}

/// A tag, comment or other piece of HTML, from its `<`.
pub(super) fn read_html(reader: &mut Reader<'_>) -> Seen<()> {
    if !reader.take("<")? {
        return Ok(None);
    }
    let found = |end: Option<&str>| end.map(|_| ());
    match reader.peek()? {
        Some('!') => {
            if reader.take("!--")? {
                if reader.take(">")? || reader.take("->")? {
                    return Ok(Some(()));
                }
                return reader.take_until("-->").map(found);
            }
            if reader.take("![CDATA[")? {
                return reader.take_until("]]>").map(found);
            }
            reader.next()?;
            match reader.peek()? {
                Some(c) if c.is_ascii_alphabetic() => reader.take_until(">").map(found),
                _ => Ok(None),
            }
        }
        Some('?') => {
            reader.next()?;
            reader.take_until("?>").map(found)
        }
        Some('/') => {
            reader.next()?;
            if read_tag_name(reader)?.is_none() {
                return Ok(None);
            }
            reader.take_space()?;
            Ok(reader.take(">")?.then_some(()))
        }
        _ => read_open_tag(reader),
    }
}

fn read_tag_name<'a>(reader: &mut Reader<'a>) -> Seen<&'a str> {
    let name = reader.take_while(|c| c.is_ascii_alphanumeric() || c == '-')?;
    Ok(Some(name).filter(|name| name.starts_with(|c: char| c.is_ascii_alphabetic())))
}

fn read_open_tag(reader: &mut Reader<'_>) -> Seen<()> {
    if read_tag_name(reader)?.is_none() {
        return Ok(None);
    }
    loop {
        let space = reader.take_space()?;
        let is_name_start = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
        if space.is_empty() || !reader.peek()?.is_some_and(is_name_start) {
            break;
        }
        reader.take_while(|c| c.is_ascii_alphanumeric() || "_.:-".contains(c))?;
        let mut ahead = *reader;
        ahead.take_space()?;
        if !ahead.take("=")? {
            continue;
        }
        ahead.take_space()?;
        let value = match ahead.next()? {
            Some('"') => ahead.take_until("\"")?.is_some(),
            Some('\'') => ahead.take_until("'")?.is_some(),
            Some(c) if !" \n\t<=>`".contains(c) => {
                ahead.take_while(|c| !" \n\t\"'<=>`".contains(c))?;
                true
            }
            _ => false,
        };
        if !value {
            return Ok(None);
        }
        *reader = ahead;
    }
    reader.take("/")?;
    Ok(reader.take(">")?.then_some(()))
}

/// `&name;`, `&#35;` or `&#x23;`: the text that it stands for.
pub(super) fn read_entity(reader: &mut Reader<'_>) -> Seen<String> {
    let text = reader.rest;
    if !reader.take("&")? {
        return Ok(None);
    }
    let is_number = reader.take("#")?;
    let radix = match reader.peek()? {
        Some('x' | 'X') if is_number => {
            reader.next()?;
            16
        }
        _ => 10,
    };
    let mut name = String::new();
    while let Some(c) = reader.peek()?
        && c.is_ascii_alphanumeric()
        && name.len() < ENTITY_NAME_MAX
    {
        name.push(c);
        reader.next()?;
    }
    if !reader.take(";")? {
        return Ok(None);
    }
    if !is_number {
        let whole = text.get(..name.len().saturating_add(2));
        let entity = ENTITIES.iter().find(|e| Some(e.entity) == whole);
        return Ok(entity.map(|entity| entity.characters.to_owned()));
    }
    if name.len() > if radix == 16 { 6 } else { 7 } {
        return Ok(None);
    }
    let code = u32::from_str_radix(&name, radix).ok();
    let shown = |code| {
        char::from_u32(code)
            .filter(|c| *c != '\0')
            .unwrap_or(char::REPLACEMENT_CHARACTER)
    };
    Ok(code.map(|code| shown(code).to_string()))
}

/// A target with its escapes and entities replaced.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut reader = Reader {
        rest: text,
        is_whole: true,
    };
    while let Ok(Some(c)) = reader.peek() {
        let mut ahead = reader;
        if c == '&'
            && let Ok(Some(entity)) = read_entity(&mut ahead)
        {
            plain.push_str(&entity);
            reader = ahead;
            continue;
        }
        let _ = reader.next();
        match reader.peek() {
            Ok(Some(next)) if c == '\\' && next.is_ascii_punctuation() => {
                plain.push(next);
                let _ = reader.next();
            }
            _ => plain.push(c),
        }
    }
    plain
}
