//! Blocks of HTML, which are shown as they are: CommonMark's seven kinds.

use super::reader::{Reader, Seen};
use super::span::read_html;

/// How a block of HTML ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HtmlBlock {
    /// With the line that one of these stands in.
    With(&'static [&'static str]),
    /// Before a blank line.
    Blank,
}

const VERBATIM_TAGS: [&str; 4] = ["pre", "script", "style", "textarea"];
const VERBATIM_ENDS: [&str; 4] = ["</pre>", "</script>", "</style>", "</textarea>"];

const BLOCK_TAGS: &str = " address article aside base basefont blockquote body caption center col \
    colgroup dd details dialog dir div dl dt fieldset figcaption figure footer form frame \
    frameset h1 h2 h3 h4 h5 h6 head header hr html iframe legend li link main menu menuitem nav \
    noframes ol optgroup option p param search section summary table tbody td tfoot th thead \
    title tr track ul ";

impl HtmlBlock {
    /// The block that begins with `reader`, which stands before a `<`.
    pub(super) fn at(reader: Reader<'_>, interrupts: bool) -> Seen<HtmlBlock> {
        let mut ahead = reader;
        ahead.next()?;
        for (start, end) in [("!--", &["-->"]), ("?", &["?>"]), ("![CDATA[", &["]]>"])] {
            if ahead.take(start)? {
                return Ok(Some(HtmlBlock::With(end)));
            }
        }
        if ahead.take("!")? {
            let is_letter = ahead.peek()?.is_some_and(|c| c.is_ascii_alphabetic());
            return Ok(is_letter.then_some(HtmlBlock::With(&[">"])));
        }
        let is_end = ahead.take("/")?;
        let name = ahead
            .take_while(|c| c.is_ascii_alphanumeric())?
            .to_lowercase();
        let next = ahead.peek()?;
        let is_apart = matches!(next, None | Some(' ' | '\t' | '>'));
        if is_apart && !is_end && VERBATIM_TAGS.contains(&name.as_str()) {
            return Ok(Some(HtmlBlock::With(&VERBATIM_ENDS)));
        }
        let is_block = !name.is_empty() && BLOCK_TAGS.contains(&format!(" {name} "));
        if is_block && (is_apart || ahead.take("/>")?) {
            return Ok(Some(HtmlBlock::Blank));
        }
        // Any other tag, if it is alone on the line.
        if interrupts || VERBATIM_TAGS.contains(&name.as_str()) {
            return Ok(None);
        }
        let mut tag = reader;
        if name.is_empty() || read_html(&mut tag)?.is_none() {
            return Ok(None);
        }
        tag.take_while(|c| c == ' ' || c == '\t')?;
        Ok(tag.peek()?.is_none().then_some(HtmlBlock::Blank))
    }

    /// Whether a blank line ends it.
    pub(super) fn ends_at_blank(self) -> bool {
        self == HtmlBlock::Blank
    }

    /// Whether it ends with `line`.
    pub(super) fn ends_with(self, line: &str) -> bool {
        match self {
            HtmlBlock::With(ends) => {
                let line = line.to_ascii_lowercase();
                ends.iter().any(|end| line.contains(end))
            }
            HtmlBlock::Blank => false,
        }
    }
}
