use super::*;

/// What a splitter makes of `stream`, cut into pieces of `size` characters.
fn split_in(format: &Format, prompt: &str, stream: &str, size: usize) -> (String, String) {
    let mut splitter = format.splitter(prompt);
    let (mut reasoning, mut answer) = (String::new(), String::new());
    let mut give = |kind, text: &str| {
        assert!(!text.is_empty());
        match kind {
            TextKind::Reasoning => {
                assert!(answer.is_empty(), "{text:?} after the answer {answer:?}");
                reasoning.push_str(text);
            }
            TextKind::Answer => answer.push_str(text),
        }
    };
    let chars: Vec<char> = stream.chars().collect();
    for piece in chars.chunks(size) {
        splitter.push(&piece.iter().collect::<String>(), &mut give);
    }
    splitter.finish(&mut give);
    (reasoning, answer)
}

/// As [`split_in`], and the size of the pieces makes no difference.
fn split(format: &Format, prompt: &str, stream: &str) -> (String, String) {
    let whole = split_in(format, prompt, stream, usize::MAX);
    for size in 1..20 {
        assert_eq!(
            split_in(format, prompt, stream, size),
            whole,
            "{stream:?} in pieces of {size}"
        );
    }
    whole
}

fn pair(reasoning: &str, answer: &str) -> (String, String) {
    (reasoning.to_owned(), answer.to_owned())
}

fn think() -> Format {
    Format::of("", |_| false)
}

#[test]
fn a_think_block_before_the_answer_is_reasoning() {
    let cases = [
        (
            "<think>\nSix.\n\nYes.\n</think>\n\nSix.",
            ("Six.\n\nYes.", "Six."),
        ),
        ("\n <think>a</think>b", ("a", "b")),
        ("<think>\n\n</think>\n\nHi", ("", "Hi")),
        ("<think></think>", ("", "")),
        ("<think>cut off ", ("cut off", "")),
        ("<think>a </thin", ("a </thin", "")),
        ("<think>a < b </ c</think>d", ("a < b </ c", "d")),
    ];
    for (stream, (reasoning, answer)) in cases {
        assert_eq!(split(&think(), "", stream), pair(reasoning, answer));
    }
}

#[test]
fn an_answer_without_reasoning_is_given_byte_for_byte() {
    for answer in [
        "",
        " ",
        "\n\n Hello \n",
        "<thin",
        "<thinking about it>",
        "Use <think> and </think> as markers.",
        "</think>",
        "ż <think>x</think>",
        "[THINK]x[/THINK]",
        "<reasoning>x</reasoning>",
    ] {
        assert_eq!(split(&think(), "<|assistant|>\n", answer), pair("", answer));
    }
}

#[test]
fn a_prompt_that_opens_the_block_begins_in_it() {
    let prompt = "<｜User｜>7 * 6?<｜Assistant｜><think>\n";
    assert_eq!(
        split(&think(), prompt, "\nHm.\n</think>\n\n42"),
        pair("Hm.", "42")
    );
    // Qwen 3 with thinking switched off: opened and closed.
    let prompt = "<|im_start|>assistant\n<think>\n\n</think>\n\n";
    assert_eq!(split(&think(), prompt, "42"), pair("", "42"));
}

#[test]
fn the_markers_of_a_family_are_known_by_its_template_or_its_tokens() {
    let magistral = Format::of("", |token| token == "[THINK]");
    assert_eq!(split(&magistral, "", "[THINK]a[/THINK]b"), pair("a", "b"));
    assert!(magistral.names("[THINK]") && magistral.names("[/THINK]"));
    assert!(!magistral.names("[INST]"));
    let granite = Format::of("… 'Here is my response:' …", |_| false);
    assert_eq!(
        split(
            &granite,
            "",
            "Here is my thought process: a\n\nHere is my response: b"
        ),
        pair("a", "b")
    );
    let gemma = Format::of("", |token| token == "<channel|>");
    assert!(gemma.names("<|channel>") && gemma.names("<channel|>"));
    assert_eq!(
        split(&gemma, "", "<|channel>thought\na<channel|>b"),
        pair("a", "b")
    );
}

#[test]
fn harmony_channels_are_told_apart() {
    let harmony = Format::of("… <|channel|> … <|message|> …", |_| false);
    let prompt = "<|start|>assistant";
    let cases = [
        (
            "<|channel|>analysis<|message|>User greets.<|end|><|start|>assistant\
             <|channel|>final<|message|>Hello <b>you</b>!<|return|>",
            ("User greets.", "Hello <b>you</b>!"),
        ),
        ("<|channel|>final<|message|>Hi\n<|return|>", ("", "Hi\n")),
        ("<|channel|>analysis<|message|>Cut off", ("Cut off", "")),
        (
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>comm",
            ("a", ""),
        ),
        (
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary to=f \
             <|constrain|>json<|message|>{}<|call|>",
            ("a{}", ""),
        ),
        (
            "<|channel|>commentary<|message|>I shall look.<|end|>",
            ("", "I shall look."),
        ),
        ("Hello", ("", "Hello")),
        ("< 3", ("", "< 3")),
        // A header that was left out.
        (
            "<|channel|>analysis<|message|>x<|end|>Hello there",
            ("x", "Hello there"),
        ),
        (
            "<|channel|>analysis<|message|>x<|end|><|start|>assistant",
            ("x", ""),
        ),
        ("<|channel|>analysis<|message|>x<|end|>assist", ("x", "")),
        (
            "<|channel|>analysis<|message|>x<|end|>assistant<|channel|>fin",
            ("x", ""),
        ),
        (
            "<|channel|>analysis<|message|>x<|end|>Write <|.",
            ("x", "Write <|."),
        ),
        ("<|channel|>analysis<|message|>x<|end|>", ("x", "")),
    ];
    for (stream, (reasoning, answer)) in cases {
        assert_eq!(split(&harmony, prompt, stream), pair(reasoning, answer));
    }
    assert!(harmony.names("<|channel|>") && !harmony.names("<|endoftext|>"));
}

#[test]
fn what_ends_the_reasoning_is_awaited_until_it_came() {
    let mut splitter = think().splitter("<think>\n");
    let mut give = |_, _: &str| {};
    for text in ["Hm.", " </thi", "nk"] {
        splitter.push(text, &mut give);
        assert_eq!(splitter.awaits(), Some("</think>"));
    }
    splitter.push(">", &mut give);
    assert_eq!(splitter.awaits(), None);
    assert_eq!(think().splitter("<|assistant|>").awaits(), None);
}

#[test]
fn messages_of_solar_open_are_told_apart() {
    let solar = Format::of("… <|think|> … <|content|> …", |_| false);
    let prompt = "<|end|><|begin|>assistant";
    let cases = [
        (
            "<|think|>Hm.\n<|end|><|begin|>assistant<|content|>Hello<|flush|>",
            ("Hm.", "Hello"),
        ),
        ("<|content|>Hello", ("", "Hello")),
        ("Hello", ("", "Hello")),
        ("<|think|>Cut off", ("Cut off", "")),
        ("<|think|>a<|end|><|begin|>assist", ("a", "")),
        ("<|think|>a<|end|>Hello", ("a", "Hello")),
        (
            "<|think|>a<|end|><|begin|>assistant<|tool_calls|>{}<|calls|>",
            ("a{}", ""),
        ),
    ];
    for (stream, (reasoning, answer)) in cases {
        assert_eq!(split(&solar, prompt, stream), pair(reasoning, answer));
    }
    assert!(solar.names("<|think|>") && solar.names("<|end|>"));
}

#[test]
fn the_steps_of_apriel_are_reasoning() {
    let apriel = Format::of("… [BEGIN FINAL RESPONSE] …", |_| false);
    for (prompt, begin) in [
        ("<|begin_assistant|>\nHere are my reasoning steps:\n", ""),
        ("<|assistant|>\n", "Here are my reasoning steps:\n"),
    ] {
        let stream = format!("{begin}Hm.\n[BEGIN FINAL RESPONSE]\n42\n");
        assert_eq!(split(&apriel, prompt, &stream), pair("Hm.", "42\n"));
    }
}

#[test]
fn reasoning_streams_as_soon_as_it_is_certain() {
    let mut splitter = think().splitter("<think>");
    let mut given = Vec::new();
    let mut give = |kind, text: &str| given.push((kind, text.to_owned()));
    splitter.push("One. ", &mut give);
    splitter.push("Two </", &mut give);
    splitter.push("think>\n", &mut give);
    splitter.push("\n3", &mut give);
    assert_eq!(
        given,
        [
            (TextKind::Reasoning, "One.".to_owned()),
            (TextKind::Reasoning, " Two".to_owned()),
            (TextKind::Answer, "3".to_owned()),
        ]
    );
}
