use unicode_segmentation::UnicodeSegmentation;

use super::super::width::glyph;
use super::*;
use proptest::prelude::*;

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
        (r"\*no\* \(x\) \\", "*no* \\(x\\) \\\\\r\n"),
        ("## Head\nx", "\x1b[0;1mHead\x1b[m\r\nx\r\n"),
        ("#hash", "#hash\r\n"),
        (
            "- a\n  - b",
            "\x1b[0;2m•\x1b[m a\r\n  \x1b[0;2m•\x1b[m b\r\n",
        ),
        ("10. a", "\x1b[0;2m10.\x1b[m a\r\n"),
        ("3.14 is", "3.14 is\r\n"),
        ("> q", "\x1b[0;2m│\x1b[m q\r\n"),
        ("-5\n--\n", "-5\r\n--\r\n"),
        ("a\r\nb\n\n\nc", "a\r\nb\r\n\r\n\r\nc\r\n"),
        ("| a | **b** |\n", "| a | \x1b[0;1mb\x1b[m |\r\n"),
    ] {
        let expected = expected.replace("\x1b[0;1mb\r\n", "\x1b[0;1mb\x1b[m\r\n");
        assert_eq!(render(text, 40, true), expected, "{text:?}");
    }
}

#[test]
fn what_marks_nothing_stays() {
    for text in [
        "int *p, *q;",
        "foo(*args, **kwargs)",
        "__main__.py and __init__py",
        "__init__ of a.__dict__ in __all__",
        "__attribute__((packed)) __FILE__ /__x__",
        "2 * 3 * 4",
        "an *opener, a `tick, ``two",
        "[a](b c, <d and &e",
        "text:```js",
    ] {
        assert_eq!(render(text, 60, true), format!("{text}\r\n"));
    }
}

#[test]
fn links_and_entities_are_spelt_out() {
    for (text, shown) in [
        ("[a](u \"t\") ![b](<v w>)", "a (u) b (v w)"),
        ("[u](u) <https://a.b> <me@a.b>", "u https://a.b me@a.b"),
        ("&lt;&copy;&#x1b;&#8238;&nosuch;", "<©␛<202E>&nosuch;"),
        ("[a](&#27;[2J)", "a (␛[2J)"),
    ] {
        assert_eq!(
            strip(&render(text, 60, true)),
            format!("{shown}\r\n"),
            "{text:?}"
        );
    }
    let shown = render("[a](u)", 60, true);
    assert_eq!(shown, "a \x1b[0;2m(u)\x1b[m\r\n");
}

const TABLE: &str = "| Name | n | Words |\n|:--|--:|:-:|\n\
    | Ann | 7 | some words of text |\n| 漢字 | 12 | x \\| y |\n| only |\n";

#[test]
fn tables_are_laid_out_at_the_width() {
    for (columns, rows) in [
        (
            60,
            &[
                "Name |  n |       Words",
                "-----|----|-------------------",
                "Ann  |  7 | some words of text",
                "漢字 | 12 |       x | y",
                "only |    |",
            ][..],
        ),
        (
            24,
            &[
                "Name |  n |    Words",
                "-----|----|-------------",
                "Ann  |  7 |  some words",
                "     |    |   of text",
                "漢字 | 12 |    x | y",
                "only |    |",
            ],
        ),
        (
            16,
            &[
                "| Name | n |",
                "Words |",
                "|:--|--:|:-:|",
                "| Ann | 7 | some",
                "words of text |",
                "| 漢字 | 12 | x",
                "\\| y |",
                "| only |",
            ],
        ),
    ] {
        let shown = render(TABLE, columns, false);
        let shown: Vec<&str> = shown.lines().map(str::trim_end).collect();
        assert_eq!(shown, rows, "{columns}");
    }
    let head = "\x1b[0;1mName\x1b[m\x1b[0;2m │ \x1b[m \x1b[0;1mn\x1b[m\x1b[0;2m │ \x1b[m";
    let shown = render(TABLE, 60, true);
    assert!(shown.starts_with(head), "{shown:?}");
}

#[test]
fn a_table_may_stand_directly_below_text() {
    let table = "a | b\n--|--\n1 | 2";
    for (text, shown) in [
        (
            "**Prices:**\n| a | b |\n|---|---|\n| 1 | 2 |\n",
            "Prices:\nTABLE",
        ),
        (
            "x\ny\n| a | b |\n|---|---|\n| 1 | 2 |\n\nz",
            "x\ny\nTABLE\n\nz",
        ),
        // A marker does not reach into it, nor a line break.
        ("an *x  \n| a | b* |\n|---|---|\n| 1 | 2 |", "an *x\nTABLE"),
        (
            "| x | y |\n| a | b |\n|---|---|\n| 1 | 2 |",
            "| x | y |\nTABLE",
        ),
        // No header, so that it goes on.
        ("an *x\n| a* |\n|---|---|\n", "an x\n| a |\n|---|---|"),
        ("x\na | b\n|---|---|\n", "x\na | b\n|---|---|"),
    ] {
        let table = if text.contains("b*") {
            table.replace("b\n", "b*\n").replace("|--\n", "|---\n")
        } else {
            table.to_owned()
        };
        for size in [1, 3, usize::MAX] {
            let drawn = strip(&render_in_pieces(text, size, 40, true));
            let drawn = drawn.replace(['│', '┼'], "|").replace('─', "-");
            let drawn: Vec<&str> = drawn.lines().map(str::trim_end).collect();
            assert_eq!(drawn.join("\n"), shown.replace("TABLE", &table), "{text:?}");
        }
    }
    let mut seen = Seen::new();
    for (text, shown) in [
        ("- **P:**\n", "• P:"),
        ("  | a | b | ", "• P:\n  | a | b |"),
        ("\n  |---|--", "• P:\n  a │ b\n  ──┼──"),
        ("-|\n", "• P:\n  a │ b\n  ──┼──"),
        ("  | 1 | 2 |\n", "• P:\n  a │ b\n  ──┼──\n  1 │ 2"),
    ] {
        assert_eq!(seen.push(text).trim_end(), shown, "{text:?}");
    }
}

/// What an emulated terminal of 40 columns and 12 rows shows.
struct Seen(vt100::Parser, Markdown);

impl Seen {
    fn new() -> Self {
        let mut markdown = Markdown::new(40, true, Rendering::Markdown);
        markdown.set_rows(12);
        Seen(vt100::Parser::new(12, 40, 0), markdown)
    }

    fn push(&mut self, text: &str) -> String {
        let mut out = Vec::new();
        self.1.push(text, &mut out);
        self.0.process(&out);
        self.0.screen().contents()
    }
}

#[test]
fn what_is_undecided_is_shown_ahead() {
    let mut seen = Seen::new();
    for (text, shown) in [
        ("some **bold words ", "some bold words"),
        ("go** on ", "some bold words go on"),
        ("and `code that ", "some bold words go on and code that"),
        ("\n\n", "some bold words go on and `code that"),
        (
            "- int *p, ",
            "some bold words go on and `code that\n\n• int p,",
        ),
        (
            "*q;\n\n",
            "some bold words go on and `code that\n\n• int *p, *q;",
        ),
    ] {
        assert_eq!(seen.push(text).trim_end(), shown, "{text:?}");
    }
}

#[test]
fn what_the_terminal_would_wrap_is_not_shown_ahead() {
    let mut seen = Seen::new();
    let long = format!("```{}", "x".repeat(60));
    for c in long.chars() {
        seen.push(&c.to_string());
    }
    // Not a fence, as the last character shows.
    let shown = format!("{}\n{}` y", &long[..40], &long[40..]);
    assert_eq!(seen.push("` y\n\n").trim_end(), shown);
}

#[test]
fn a_table_is_shown_while_it_grows() {
    let mut seen = Seen::new();
    assert_eq!(seen.push("| a | b |\n"), "| a | b |");
    assert_eq!(seen.push("|---|---|\n"), "a │ b\n──┼──");
    assert_eq!(
        seen.push("| 1 | long words "),
        "a │ b\n──┼──\n| 1 | long words"
    );
    assert_eq!(
        seen.push("here |\n"),
        "a │ b\n──┼────────────────\n1 │ long words here"
    );
    // One that is taller than the screen goes on in the columns that it has.
    for row in 2..30 {
        let shown = seen.push(&format!("| {row} | x |\n"));
        let last = shown.lines().last().unwrap();
        assert!(
            last.ends_with("│ x") && last.starts_with(&row.to_string()[..1]),
            "{shown}"
        );
    }
}

#[test]
fn an_interruption_changes_no_meaning() {
    for (before, after, shown) in [
        (
            "```\nint *p",
            ", *q;\n```\n*x*\n",
            "```\nint *p\nNOTICE\n, *q;\n```\nx",
        ),
        ("a **b", "c** d\n", "a\nNOTICE\nbc d"),
        (
            "| a | b |\n|---|---|\n| 1 ",
            "| 2 |\n",
            "NOTICE\na │ b\n──┼──\n1 │ 2",
        ),
        ("- a b ", "c\n", "• a b\nNOTICE\n  c"),
        ("1", ". x\n", "NOTICE\n1. x"),
    ] {
        let mut seen = Seen::new();
        seen.push(before);
        let mut out = Vec::new();
        seen.1.interrupt(&mut out);
        out.extend_from_slice(b"NOTICE\r\n");
        seen.0.process(&out);
        assert_eq!(seen.push(after).trim_end(), shown, "{before:?}");
    }
}

#[test]
fn a_marker_without_an_end_holds_back_little() {
    for mark in ["*", "`", "[", "**a [b ", "<a ", "| a "] {
        let mut out = Vec::new();
        let mut markdown = Markdown::new(40, true, Rendering::Markdown);
        markdown.push(&format!("x\n\n{mark}"), &mut out);
        for _ in 0..1200 {
            markdown.push("word ", &mut out);
        }
        let shown = String::from_utf8(out).unwrap().matches("word").count();
        assert!(shown > 360, "{mark:?} holds back all but {shown} words");
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

/// Pieces that Markdown, Unicode or a hostile model makes something of.
fn answer() -> impl Strategy<Value = String> {
    let pieces = vec![
        "word",
        "some words here",
        " ",
        "  ",
        "\n",
        "\n\n",
        "\r\n",
        "\r",
        "\t",
        "*",
        "**",
        "***",
        "_",
        "__",
        "`",
        "``",
        "```",
        "```rs\n",
        "~~~",
        "- ",
        "* ",
        "1. ",
        "12) ",
        "# ",
        "### ",
        ">",
        "> ",
        "---",
        "-",
        "|",
        "| a | b |",
        "\\",
        "\\*",
        "漢字。",
        "한국어",
        "👨‍👩‍👧",
        "🇩🇪",
        "👍🏽",
        "e\u{301}",
        "\u{200d}",
        "\u{fe0f}",
        "\x1b[31m",
        "\u{9b}",
        "\u{202e}",
        "\x07",
        "https://example.org/a/rather/long/path/that/does/not/fit",
        "\u{e0041}",
        "🏴",
    ];
    let piece = prop_oneof![
        6 => prop::sample::select(pieces).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

fn render_in_pieces(text: &str, size: usize, columns: usize, colour: bool) -> String {
    let mut out = Vec::new();
    let mut markdown = Markdown::new(columns, colour, Rendering::Markdown);
    let chars: Vec<char> = text.chars().collect();
    for piece in chars.chunks(size) {
        markdown.push(&piece.iter().collect::<String>(), &mut out);
    }
    markdown.finish(&mut out);
    String::from_utf8(out).unwrap()
}

/// `shown` without the SGR sequences that this module writes.
fn strip(shown: &str) -> String {
    let mut rest = shown.to_owned();
    for look in [
        "", "0;1", "0;2", "0;3", "0;36", "0;1;3", "0;1;36", "0;3;36", "0;1;3;36",
    ] {
        rest = rest.replace(&format!("\x1b[{look}m"), "");
    }
    rest
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn pieces_do_not_matter(text in answer(), size in 1usize..7, columns in 16usize..60) {
        for colour in [true, false] {
            let whole = render_in_pieces(&text, usize::MAX, columns, colour);
            prop_assert_eq!(render_in_pieces(&text, size, columns, colour), whole);
        }
    }

    #[test]
    fn nothing_but_printable_text_and_looks_comes_out(text in answer()) {
        let shown = strip(&render_in_pieces(&text, 3, 40, true)).replace("\r\n", "");
        let bad = shown.chars().find(|c| sign(*c).is_some() && *c != '\t' && !is_tag(*c));
        prop_assert_eq!(bad, None, "{:?}", shown);
        let plain = render_in_pieces(&text, 3, 40, false);
        prop_assert!(!plain.contains('\x1b'));
    }

    #[test]
    fn rows_fit_and_nothing_is_lost(text in answer(), columns in 16usize..60) {
        let text = without_quotes_and_code(&text);
        let shown = render_in_pieces(&text, 2, columns, false);
        for row in shown.lines() {
            let width: usize = row.graphemes(true).map(|c| glyph(c).width).sum();
            prop_assert!(width <= columns, "{:?} is {} wide", row, width);
        }
        let told: String = text.replace("\r\n", "\n").chars()
            .map(|c| match c {
                '\n' | '\t' => " ".to_owned(),
                _ => sign(c).unwrap_or_else(|| c.to_string()),
            })
            .collect();
        let squeeze = |text: &str| text.chars().filter(|c| !is_blank(*c)).collect::<String>();
        prop_assert_eq!(squeeze(&shown), squeeze(&told));
    }
}

/// `text` without what is not wrapped, or shown more than once: a quote repeats
/// its bar, and code keeps its lines. Taking one thing out may join another.
fn without_quotes_and_code(text: &str) -> String {
    let mut text = text
        .replace(['>', '|', '~', '\u{1f3f4}'], "")
        .replace('\t', " ");
    while text.contains("```") || text.contains("  ") {
        text = text.replace("```", "").replace("  ", "");
    }
    text
}

#[test]
fn taking_out_leaves_no_code_behind() {
    for text in ["``> \t``rest", " ``` ``` ``` rest", "`  `\t `"] {
        let left = without_quotes_and_code(text);
        assert!(!left.contains("```") && !left.contains("  "), "{left:?}");
    }
}

fn is_tag(c: char) -> bool {
    ('\u{e0020}'..='\u{e007f}').contains(&c)
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\n' | '\r' | '\t')
}

#[test]
fn hostile_text_takes_no_longer_than_a_plain_one() {
    for piece in [
        "word ",
        "*",
        "_a",
        "`",
        "-",
        "#",
        ">",
        " ",
        "1",
        "👨\u{200d}",
        "🇩",
        "\u{301}",
        "漢",
        "\\",
        "|",
        "```\n",
        "\x1b",
        "> - ",
        "[",
        "[a](",
        "<a ",
        "&a",
        "*a _b ",
        "`` ` ",
        "| a ",
        "| a |\n|---|\n",
        "| *a\n",
        "x\n| a |\n|---|\n\n",
    ] {
        let text = piece.repeat((1 << 18) / piece.len());
        // What takes more than linear time would not end here.
        let shown = render(&text, 80, true);
        assert_eq!(shown.is_empty(), piece == " ", "{piece:?}");
    }
}

/// Whether what it names is defined is not known yet: the brackets stay.
#[test]
fn emphasis_in_the_text_of_a_reference_is_kept() {
    for end in ["][b]", "]", "][b]\n\n[b]: /v\n"] {
        let shown = render(&format!("[*a* **b**{end}"), 40, true);
        let expected = "[\x1b[0;3ma\x1b[m \x1b[0;1mb\x1b[m]";
        assert!(shown.starts_with(expected), "{shown:?}");
    }
}
