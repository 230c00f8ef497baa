//! Passes of several tokens where a state is that of the last position: what was tried and
//! not drawn is taken back by states of the positions before.

use super::super::speculate::WIDTH_MAX;
use super::super::*;
use super::{Session, greedy, load_of, saved, with_interrupt, with_sequence};
use protocol::{Sampling, Switch, TurnStats};
use tempfile::NamedTempFile;
use vmtest::Shape;

/// What llama.cpp can take back, and what not.
const TAKEN_BACK: [Shape; 2] = [Shape::Qwen35, Shape::Lfm2];
const NOT_TAKEN_BACK: [Shape; 2] = [Shape::Granite, Shape::Mamba];

fn load_with(file: &NamedTempFile, speculate: Switch) -> Load {
    let mut load = load_of(file.path().to_owned());
    load.params.speculate = speculate;
    load
}

/// Answers that repeat themselves, in words that vary.
const REPEATED: &str = r#"root ::= (("1.2" | "3.4") ", 5.6 + 7.8 + 9.0; "){4}"#;

/// What is said, with turns that are gone on from, made again, and taken back.
fn talk(file: &NamedTempFile, speculate: Switch, temp: f32) -> (Vec<String>, Vec<TurnStats>) {
    let (mut session, _) = Session::ready(load_with(file, speculate));
    let sampling = Sampling {
        temp,
        seed: Some(7),
        max_tokens: Some(60),
        ..greedy()
    };
    let turns = [
        (1, "What is it?"),
        (3, "And why?"),
        (3, "And why?"),
        (1, "Since when?"),
    ];
    let answers = turns.map(|(kept, question)| {
        session.messages.truncate(kept);
        session.ask_under(Some(REPEATED), question, sampling.clone());
        session.answer().unwrap()
    });
    answers.into_iter().unzip()
}

#[test]
fn what_was_tried_and_not_drawn_is_taken_back_and_changes_nothing() {
    for shape in TAKEN_BACK.into_iter().chain(NOT_TAKEN_BACK) {
        let file = saved(&shape.file());
        for temp in [0.0, 0.8] {
            let (said, plain) = talk(&file, Switch::Off, temp);
            let (same, fast) = talk(&file, Switch::On, temp);
            assert_eq!(same, said, "{shape:?} at temperature {temp}");
            let evaluated = |turns: &[TurnStats]| -> Vec<u32> {
                turns.iter().map(|stats| stats.evaluated_tokens).collect()
            };
            assert_eq!(evaluated(&fast), evaluated(&plain), "{shape:?}");
            let passes =
                |turns: &[TurnStats]| -> u32 { turns.iter().map(|stats| stats.decode_calls).sum() };
            let (few, many) = (passes(&fast), passes(&plain));
            if TAKEN_BACK.contains(&shape) {
                assert!(few < many * 2 / 3, "{shape:?}: {few} of {many}");
            } else {
                assert_eq!(few, many, "{shape:?}");
            }
        }
    }
}

#[test]
fn a_state_that_is_taken_back_is_that_of_the_tokens_before() {
    for shape in TAKEN_BACK {
        with_sequence(
            &load_with(&saved(&shape.file()), Switch::On),
            |_, mut sequence| {
                let words = |count: i32, step: i32| (0..count).map(move |n| 261 + n * step % 100);
                let held: Vec<i32> = words(40, 17).collect();
                let tried: Vec<i32> = words(8, 31).collect();
                let other: Vec<i32> = words(8, 57).collect();
                let mut logits = |passes: &[(&[i32], usize)]| {
                    sequence.forget();
                    sequence.set(&held, &[], &mut |_, _| {}).unwrap();
                    for (tokens, keep) in passes {
                        let before = sequence.tokens().len();
                        sequence.extend(tokens, tokens.len()).unwrap();
                        sequence.rewind(before + keep);
                        assert_eq!(sequence.tokens().len(), before + keep, "{shape:?}");
                    }
                    let end = sequence.tokens().len();
                    let last = sequence.logits_after(end).unwrap();
                    last.iter().map(|logit| logit.to_bits()).collect::<Vec<_>>()
                };
                for width in 2..=WIDTH_MAX {
                    for kept in 1..=width {
                        let after = logits(&[(&tried[..width], kept), (&other, WIDTH_MAX)]);
                        let tokens = [&tried[..kept], &other].concat();
                        let alone: Vec<_> = tokens.chunks(1).map(|token| (token, 1)).collect();
                        assert_eq!(after, logits(&alone), "{shape:?}: {kept} of {width}");
                    }
                }
            },
        );
    }
}

#[test]
fn behind_the_latest_pass_or_twice_nothing_is_taken_back() {
    for shape in TAKEN_BACK {
        with_sequence(
            &load_with(&saved(&shape.file()), Switch::On),
            |_, mut sequence| {
                let held: Vec<i32> = (0..40).map(|n| 261 + n * 17 % 100).collect();
                let mut rewound = |passes: &[usize], keep: &[usize]| {
                    sequence.forget();
                    sequence.set(&held, &[], &mut |_, _| {}).unwrap();
                    for width in passes {
                        sequence.extend(&held[..*width], *width).unwrap();
                    }
                    for keep in keep {
                        sequence.rewind(held.len() + keep);
                    }
                    sequence.tokens().len() - held.len()
                };
                assert_eq!(rewound(&[4], &[2]), 2, "{shape:?}");
                // The last state that was kept is that behind the prompt.
                assert_eq!(rewound(&[4], &[2, 1]), 0, "{shape:?}: twice");
                assert_eq!(rewound(&[4, 1], &[4]), 0, "{shape:?}: a whole pass");
                assert_eq!(rewound(&[4, 4], &[3]), 0, "{shape:?}: the pass before");
            },
        );
    }
}

#[test]
fn a_pass_that_is_interrupted_leaves_no_state_that_is_none() {
    for shape in TAKEN_BACK {
        let file = saved(&shape.file());
        with_interrupt(
            &load_with(&file, Switch::On),
            |_, mut sequence, interrupt| {
                let held: Vec<i32> = (0..40).map(|n| 261 + n * 17 % 100).collect();
                let mut logits = |is_interrupted: bool| {
                    sequence.forget();
                    sequence.set(&held, &[], &mut |_, _| {}).unwrap();
                    sequence.extend(&held[..4], 4).unwrap();
                    if is_interrupted {
                        interrupt.begin(interrupt.number_next());
                        interrupt.cancel();
                        assert!(sequence.extend(&held[4..8], 4).is_err());
                        interrupt.end();
                    }
                    // What is not held any more is evaluated again, in a pass as before.
                    let all = [&held[..], &held[..4]].concat();
                    let kept = sequence.tokens().len();
                    if kept < all.len() {
                        sequence.extend(&all[kept..], 1).unwrap();
                    }
                    sequence.extend(&held[8..12], 1).unwrap();
                    let last = sequence.logits_after(48).unwrap();
                    last.iter().map(|logit| logit.to_bits()).collect::<Vec<_>>()
                };
                let undisturbed = logits(false);
                assert_eq!(logits(true), undisturbed, "{shape:?}");
            },
        );
    }
}
