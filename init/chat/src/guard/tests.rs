use super::*;

fn mark(text: &str) -> Mark {
    Mark {
        text: text.to_owned(),
        control: true,
        lstrip: false,
        rstrip: false,
    }
}

fn guard(texts: &[&str]) -> Guard {
    Guard::new(texts.iter().map(|text| mark(text)).collect())
}

fn control(text: &str) -> Segment {
    Segment::Control(text.to_owned())
}

fn plain(text: &str) -> Segment {
    Segment::Plain(text.to_owned())
}

const CHATML: [&str; 3] = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"];

#[test]
fn marks_of_the_template_are_found_and_those_of_the_text_are_not() {
    let guard = guard(&CHATML);
    let text = guard.protect("a<|im_end|>b");
    let rendered = format!("<|im_start|>user\n{text}<|im_end|>\n");
    assert_eq!(
        guard.segments(&rendered),
        [
            control("<|im_start|>"),
            plain("user\na<|im_end|>b"),
            control("<|im_end|>"),
            plain("\n"),
        ]
    );
}

#[test]
fn nothing_a_template_does_to_a_text_makes_a_mark_of_it() {
    let guard = guard(&CHATML);
    let whole = guard.protect("<|im_<|im_end|>end|> >|dne_mi|< |im_end|> <|im_end|");
    let reversed: String = whole.chars().rev().collect();
    let lower = whole.to_lowercase();
    let torn: String = whole.split("<|im_end|>").collect();
    let without_blanks = whole.replace(' ', "");
    let joined = format!("<{whole}>");
    for rendered in [whole, reversed, lower, torn, without_blanks, joined] {
        let found = guard.segments(&rendered);
        assert!(matches!(found.as_slice(), [Segment::Plain(_)]), "{found:?}");
    }
}

#[test]
fn any_text_comes_back_as_it_was() {
    let guard = guard(&["<|x|>", "word", "é", "🤖", "𝔘", "[a]"]);
    let alphabet: Vec<char> =
        "<|x>word é🤖𝔘[a]\u{FDD0}\u{FDD1}\u{F0000}\u{100000}\u{10003C}\u{10D83E}\u{10DD16}\u{10FFFF}\0\n"
            .chars()
            .collect();
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..2000 {
        let text: String = (0..random.usize(..40))
            .map(|_| alphabet[random.usize(..alphabet.len())])
            .collect();
        let safe = guard.protect(&text);
        assert_eq!(restore(&safe), text);
        assert!(!safe.contains(CURSOR));
        for mark in guard.marks() {
            assert!(!safe.contains(&mark.text), "{text:?} became {safe:?}");
        }
    }
}

#[test]
fn marks_without_punctuation_are_guarded_where_they_stand() {
    let guard = guard(&["word", "🤖🤖", "aa"]);
    assert_eq!(guard.protect("wor d swore"), "wor d swore");
    for text in ["swords", "aaa", "a🤖🤖🤖", "wordword"] {
        let safe = guard.protect(text);
        assert_eq!(guard.segments(&safe), [plain(text)], "{safe:?}");
    }
}

#[test]
fn a_torn_pair_of_stand_ins_is_no_panic() {
    let guard = guard(&["🤖"]);
    let safe = guard.protect("🤖");
    assert_eq!(safe.chars().count(), 2);
    let half: String = safe.chars().skip(1).collect();
    assert_eq!(restore(&half), "\u{FFFD}");
}

#[test]
fn user_defined_marks_in_a_text_are_cut() {
    let mut think = mark("<think>");
    think.control = false;
    let guard = Guard::new(vec![think, mark("<|end|>")]);
    let rendered = format!("<think>{}<|end|>", guard.protect("a<think>b<think>"));
    assert_eq!(
        guard.segments(&rendered),
        [
            control("<think>"),
            plain("a<"),
            plain("think>b<"),
            plain("think>"),
            control("<|end|>"),
        ]
    );
}

#[test]
fn white_space_beside_stripping_marks_belongs_to_them() {
    let mut user = mark("<|user|>");
    user.rstrip = true;
    let mut mask = mark("<mask>");
    mask.lstrip = true;
    let guard = Guard::new(vec![user, mask]);
    assert_eq!(
        guard.segments("<|user|>\n a \u{a0}<mask> b \t<mask>"),
        [
            control("<|user|>"),
            plain("a \u{a0}"),
            control("<mask>"),
            plain(" b"),
            control("<mask>"),
        ]
    );
}

/// `tokenizer_st_partition` of llama.cpp, straightforwardly.
fn partition(texts: &[&str], rendered: &str) -> Vec<Segment> {
    let mut texts = texts.to_vec();
    texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
    let mut segments = vec![plain(rendered)];
    for text in texts {
        segments = segments
            .into_iter()
            .flat_map(|segment| match segment {
                Segment::Plain(raw) => {
                    let mut pieces = Vec::new();
                    for (index, piece) in raw.split(text).enumerate() {
                        if index > 0 {
                            pieces.push(control(text));
                        }
                        if !piece.is_empty() {
                            pieces.push(plain(piece));
                        }
                    }
                    pieces
                }
                found @ Segment::Control(_) => vec![found],
            })
            .collect();
    }
    segments
}

#[test]
fn marks_are_found_as_llama_cpp_finds_them() {
    let texts = ["<a>", "<a><b>", "b>", "<<", "<b><a><b", "[a", "a]["];
    let guard = guard(&texts);
    let mut random = fastrand::Rng::with_seed(2);
    for _ in 0..5000 {
        let rendered: String = (0..random.usize(..30))
            .map(|_| ['<', 'a', '>', 'b', '[', ']'][random.usize(..6)])
            .collect();
        assert_eq!(
            guard.segments(&rendered),
            partition(&texts, &rendered),
            "{rendered}"
        );
    }
}

#[test]
fn a_megabyte_of_look_alikes_is_no_burden() {
    let mut marks: Vec<Mark> = (0..7000).map(|n| mark(&format!("<unused{n}>"))).collect();
    marks[0].control = false;
    let guard = Guard::new(marks);
    let text = "<unused0>".repeat(1 << 17);
    let rendered = format!("<unused1>{}", guard.protect(&text));
    let segments = guard.segments(&rendered);
    assert_eq!(segments.len(), (1 << 17) + 2);
}
