//! What the bytes of a file say, if they are text.

/// A byte order mark of UTF-8.
const UTF8: &[u8] = b"\xef\xbb\xbf";
/// Byte order marks of UTF-16, least significant byte first and last.
const UTF16: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];

/// A text that has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// It, with a line feed for each line's end and none at its own.
    pub text: String,
    /// It was UTF-16.
    pub was_utf16: bool,
}

/// What `bytes`, all of a file, say. A byte order mark goes, line ends of CR LF become
/// LF, and so does the last one go: none of them says anything to a model.
///
/// # Errors
/// What they are instead of text, to be read after the file's name.
pub fn decode(bytes: Vec<u8>) -> Result<Decoded, String> {
    let was_utf16 = UTF16.iter().any(|mark| bytes.starts_with(mark));
    let text = if was_utf16 {
        from_utf16(&bytes)?
    } else {
        utf8(bytes)?
    };
    let mut text = if text.contains("\r\n") {
        text.replace("\r\n", "\n")
    } else {
        text
    };
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(Decoded { text, was_utf16 })
}

/// What `bytes` of UTF-8 say, without a byte order mark.
///
/// # Errors
/// What they are instead, and what to do.
pub fn utf8(mut bytes: Vec<u8>) -> Result<String, String> {
    if UTF16.iter().any(|mark| bytes.starts_with(mark)) {
        return Err("is UTF-16; convert it first: iconv -f UTF-16 -t UTF-8".to_owned());
    }
    if bytes.starts_with(UTF8) {
        bytes.drain(..UTF8.len());
    }
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        return Err(format!("is not text: byte {at} is zero"));
    }
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        format!("is not UTF-8 text: see byte {at}")
    })
}

fn from_utf16(bytes: &[u8]) -> Result<String, String> {
    let (mark, units) = bytes.split_at_checked(2).unwrap_or((bytes, &[]));
    let unit = |pair: &[u8]| {
        let pair = [pair.first(), pair.last()].map(|byte| byte.copied().unwrap_or_default());
        if mark == b"\xff\xfe" {
            u16::from_le_bytes(pair)
        } else {
            u16::from_be_bytes(pair)
        }
    };
    if units.len() % 2 != 0 {
        return Err("is not UTF-16 text: its last character is cut".to_owned());
    }
    let chars = char::decode_utf16(units.chunks_exact(2).map(unit));
    let text: Result<String, _> = chars.collect();
    match text {
        Ok(text) if text.contains('\0') => Err("is not UTF-16 text: it has zeroes".to_owned()),
        Ok(text) => Ok(text),
        Err(_) => Err("is not UTF-16 text: it has halves of characters".to_owned()),
    }
}

/// Whether a file that begins with `prefix` may be text: what is not has zero bytes.
#[must_use]
pub fn looks_like_text(prefix: &[u8]) -> bool {
    UTF16.iter().any(|mark| prefix.starts_with(mark)) || !prefix.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_in_utf_8_and_utf_16_with_one_kind_of_line_end() {
        for (bytes, text, was_utf16) in [
            (&b"a\nb"[..], "a\nb", false),
            (b"\xef\xbb\xbfa\r\nb\r\n", "a\nb", false),
            (b"a\n\n", "a\n", false),
            (b"a\rb\x1b[2J", "a\rb\x1b[2J", false),
            (b"\xff\xfea\0\r\0\n\0|\x01", "a\n\u{17c}", true),
            (b"\xfe\xff\0a\xd8\x3d\xdc\x4b", "a👋", true),
            (b"", "", false),
            (b"\xff\xfe", "", true),
        ] {
            let text = text.to_owned();
            assert_eq!(decode(bytes.to_vec()), Ok(Decoded { text, was_utf16 }));
        }
    }

    #[test]
    fn what_is_no_text_is_refused_with_the_reason() {
        for (bytes, why) in [
            (&b"ab\xff"[..], "is not UTF-8 text: see byte 2"),
            (b"a\0b", "is not text: byte 1 is zero"),
            (b"a\0\n\0", "is not text: byte 1 is zero"),
            (
                b"\xff\xfea",
                "is not UTF-16 text: its last character is cut",
            ),
            (
                b"\xff\xfe\x00\xd8",
                "is not UTF-16 text: it has halves of characters",
            ),
            // UTF-32.
            (b"\xff\xfe\0\0a\0\0\0", "is not UTF-16 text: it has zeroes"),
        ] {
            assert_eq!(decode(bytes.to_vec()), Err(why.to_owned()));
        }
        assert!(utf8(b"\xff\xfea\0".to_vec()).unwrap_err().contains("iconv"));
    }

    #[test]
    fn a_look_at_its_begin_tells_text_from_what_is_none() {
        for text in [
            &b""[..],
            b"#!/bin/sh",
            b"\xff\xfea\0",
            b"\xfe\xff\0a",
            b"\xe4",
        ] {
            assert!(looks_like_text(text), "{text:?}");
        }
        assert!(!looks_like_text(b"\x7fELF\x02\x01\0"));
    }
}
