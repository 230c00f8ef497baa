//! Long runs of characters of one kind, for vocabularies whose text llama.cpp cuts with
//! `std::regex`, which calls itself for each character.

use super::{Session, alone, load_of, saved};
use chat::{Message, Role};
use vmtest::Shape;

/// Words that may be in a run, and how a model of this kind calls its pre-tokenizer.
const CASES: [(&str, &[&str]); 6] = [
    (
        "gpt-4o",
        &[
            "a", "A", "bA", "字", "\u{645}", "7", " ", "\n", "!", "\u{2014}",
        ],
    ),
    ("tekken", &["a", "A", "7", " ", "!"]),
    ("deepseek-v3", &["a", "a\u{301}", "字", "7", " ", "!"]),
    ("bloom", &["a", "a7-"]),
    ("exaone-moe", &["a", "a b ", "!"]),
    ("gpt-2", &["a", "7", " ", "!"]),
];

#[test]
fn runs_without_end_are_tokenized_and_the_engine_lives() {
    alone("tests::unbroken::tokenizes_runs_and_what_grows_keeps_its_tokens");
}

#[test]
#[ignore = "a process of its own: it may overflow the stack"]
fn tokenizes_runs_and_what_grows_keeps_its_tokens() {
    for (pre, runs) in CASES {
        let file = saved(&Shape::Gemma3.pre_tokenized(pre));
        let mut load = load_of(file.path().to_owned());
        load.params.ctx_tokens = Some(1 << 16);
        let mut session = Session::ready(load).0;
        for run in runs {
            let mut tokens = |count: usize| {
                let text = format!("It is {}", run.repeat(count));
                session.tokens_of(&[Message::new(Role::User, text)])
            };
            let count = 30_000 / run.len();
            let short = tokens(count);
            let long = tokens(count + 300);
            // What ends the message, and what a cut can be away from its end.
            let kept = short.iter().zip(&long).take_while(|(a, b)| a == b).count();
            assert!(
                kept + 40 > short.len(),
                "{pre} {run:?}: {kept} of {}",
                short.len()
            );
        }
    }
}
