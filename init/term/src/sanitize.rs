//! Text of strangers on its way to a terminal that nothing else draws on.

use super::width::sign;

/// `text` without what moves a terminal's cursor, changes its state or reorders
/// text: a visible sign stands for each such character, as in an answer. Line
/// feeds and tabs stay. Each character is judged by itself, so a text may come in
/// pieces.
#[must_use]
pub fn sanitize(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\r' && chars.peek() == Some(&'\n') {
            // A line end as some write it.
            continue;
        }
        match sign(c).filter(|_| !matches!(c, '\n' | '\t')) {
            Some(sign) => shown.push_str(&sign),
            None => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_becomes_a_sign_and_text_stays() {
        for (text, shown) in [
            ("a\x1b[2Jb", "a␛[2Jb"),
            ("\x1b]0;title\x07", "␛]0;title␇"),
            ("\u{9b}31m", "<9B>31m"),
            ("a\u{202e}b", "a<202E>b"),
            ("a\r\nb\tc\r", "a\nb\tc␍"),
            ("zażółć 👋🏽\n", "zażółć 👋🏽\n"),
        ] {
            assert_eq!(sanitize(text), shown);
        }
    }

    #[test]
    fn every_control_and_every_bidi_override_becomes_a_sign() {
        let controls = ('\0'..='\u{9f}').filter(|c| c.is_control());
        let bidi = ['\u{61c}', '\u{200e}', '\u{200f}']
            .into_iter()
            .chain('\u{202a}'..='\u{202e}')
            .chain('\u{2066}'..='\u{2069}');
        for c in controls.chain(bidi) {
            let shown = sanitize(&format!("a{c}b"));
            let stays = matches!(c, '\n' | '\t');
            assert_eq!(shown.contains(c), stays, "{c:?} gives {shown:?}");
            assert!(shown.len() > 2, "{c:?} leaves a sign");
        }
    }
}
