//! A draft model beside the one that answers: tiny ones with random weights, whose words
//! depend on every token before them. What is answered is what is answered without.

use std::fmt::Write as _;

use super::super::*;
use super::{Session, greedy, load_of, saved};
use chat::{Message, Role};
use protocol::{PartFile, Request, Sampling, Stop, Switch, TurnStats};
use tempfile::NamedTempFile;
use vmtest::{GgufFile, Shape, TinyModel};

/// A model that attends, so that what it guessed can be taken back.
fn shape() -> GgufFile {
    Shape::Gemma3.file()
}

/// The same, but for some words, which it never says.
fn of_another_opinion() -> GgufFile {
    let mut file = shape();
    let output = file.tensors.iter_mut().find(|t| t.name == "output.weight");
    let output = &mut output.unwrap().data;
    let third = output.len() / 3;
    output[2 * third..].fill(0);
    file
}

/// `main` with `draft` beside it, always asked.
fn load_with(main: &NamedTempFile, draft: Option<&NamedTempFile>) -> Load {
    let mut load = load_of(main.path().to_owned());
    load.params.ctx_tokens = Some(2048);
    load.params.speculate = Switch::On;
    load.draft = draft.map(|draft| {
        let path = draft.path().to_owned();
        let bytes = draft.as_file().metadata().unwrap().len();
        Ok(vec![PartFile { path, bytes }])
    });
    load
}

/// Loaded, and what was told meanwhile.
fn ready(load: Load) -> (Session, ModelInfo, Vec<String>) {
    let mut session = Session::start(load);
    let mut told = Vec::new();
    loop {
        match session.event() {
            Event::Ready(info) => return (session, *info, told),
            Event::Notice(line) => told.push(line),
            Event::Progress(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn long(temp: f32) -> Sampling {
    Sampling {
        temp,
        seed: Some(7),
        max_tokens: Some(60),
        ..greedy()
    }
}

/// What is said to a few questions, one of them asked otherwise.
fn talk(session: &mut Session, sampling: &Sampling) -> (String, Vec<TurnStats>) {
    let mut said = String::new();
    let mut stats = Vec::new();
    for (kept, question) in [(1, "What is it?"), (3, "And why?"), (3, "Since when?")] {
        session.messages.truncate(kept);
        session.ask(question, sampling.clone());
        let (text, turn) = session.answer().unwrap();
        writeln!(said, "{question} {text}").unwrap();
        stats.push(turn);
    }
    (said, stats)
}

#[test]
fn what_the_draft_model_guesses_saves_passes_and_changes_nothing() {
    let main = saved(&shape());
    for temp in [0.0, 0.9] {
        let (mut plain, info, _) = ready(load_with(&main, None));
        assert_eq!(info.draft, None);
        let (said, without) = talk(&mut plain, &long(temp));
        for draft in [shape(), of_another_opinion()] {
            let (mut session, info, told) = ready(load_with(&main, Some(&saved(&draft))));
            assert!(told.is_empty(), "{told:?}");
            assert!(info.draft.is_some());
            let (same, with) = talk(&mut session, &long(temp));
            assert_eq!(same, said, "at temperature {temp}");
            for (with, without) in with.iter().zip(&without) {
                assert_eq!(with.evaluated_tokens, without.evaluated_tokens);
                assert!(with.guessed_tokens > 0, "{with:?}");
                assert!(with.taken_tokens <= with.guessed_tokens, "{with:?}");
                assert_eq!((without.guessed_tokens, without.taken_tokens), (0, 0));
            }
        }
    }
}

#[test]
fn a_draft_model_that_is_the_model_itself_is_mostly_right() {
    let main = saved(&shape());
    let (mut session, ..) = ready(load_with(&main, Some(&main)));
    let (_, turns) = talk(&mut session, &long(0.0));
    for stats in turns {
        assert_eq!(stats.generated_tokens, 60);
        // What the text repeats is tried first, and may be wrong; and a prompt is cut
        // otherwise, so that where two words are as likely, the other one may be guessed.
        assert!(stats.decode_calls <= 60 / 3, "{stats:?}");
        assert!(
            stats.taken_tokens > stats.guessed_tokens * 3 / 4,
            "{stats:?}"
        );
    }
}

#[test]
fn a_draft_model_whose_context_is_full_leaves_the_rest_to_the_other() {
    let main = saved(&shape());
    let draft = saved(&shape().u32("gemma3.context_length", 256));
    let (mut session, ..) = ready(load_with(&main, Some(&draft)));
    let (mut plain, ..) = ready(load_with(&main, None));
    let text = "It rained on the hills and on the harbour. ".repeat(8);
    for (question, is_in_reach) in [("What is it?", true), (&text, false)] {
        session.ask(question, long(0.9));
        plain.ask(question, long(0.9));
        let (said, stats) = session.answer().unwrap();
        assert_eq!(said, plain.answer().unwrap().0);
        assert_eq!(stats.guessed_tokens > 0, is_in_reach, "{stats:?}");
    }
}

#[test]
fn an_answer_that_is_cancelled_is_gone_on_from_with_a_draft_model() {
    let main = saved(&shape());
    let draft = saved(&of_another_opinion());
    let (mut session, ..) = ready(load_with(&main, Some(&draft)));
    let endless = Sampling {
        max_tokens: None,
        ..long(0.9)
    };
    session.ask("What is it?", endless);
    while !matches!(session.event(), Event::Text { .. }) {}
    session.request(&Request::Cancel);
    assert_eq!(session.answer().unwrap().1.stop, Stop::Cancelled);
    session.messages.truncate(1);
    let (mut plain, ..) = ready(load_with(&main, None));
    let said = talk(&mut session, &long(0.9)).0;
    assert_eq!(said, talk(&mut plain, &long(0.9)).0);
}

/// The only line that is told before the model is ready, which it is all the same.
fn refused(load: Load) -> String {
    let (mut session, info, told) = ready(load);
    assert_eq!(info.draft, None);
    session.ask("What is it?", long(0.0));
    assert_eq!(session.answer().unwrap().1.guessed_tokens, 0);
    let [line] = &told[..] else {
        panic!("{told:?}")
    };
    assert!(line.starts_with("the draft model is not used: "), "{line}");
    line.clone()
}

#[test]
fn a_draft_model_that_is_of_no_use_is_told_in_one_line() {
    let main = saved(&shape());
    let with = |file: &GgufFile| {
        let draft = saved(file);
        refused(load_with(&main, Some(&draft)))
    };
    let told = with(&TinyModel::saying(&["No"]).gguf());
    assert!(told.contains("its vocabulary is not that"), "{told}");
    let told = with(&Shape::Mamba.file());
    assert!(told.contains("without a recurrent state"), "{told}");
    let told = with(&shape().architecture("none"));
    assert!(told.contains("[ZE-14]"), "{told}");
    let mut damaged = load_with(&main, Some(&main));
    damaged.draft = damaged.draft.map(|_| Err("there is none".to_owned()));
    assert!(refused(damaged).ends_with("there is none"));
    let mut off = load_with(&main, Some(&main));
    off.params.speculate = Switch::Off;
    assert!(refused(off).contains("zosia.spec=off"));
    let mut several = load_with(&main, Some(&main));
    several.params.parallel = Some(2);
    assert!(refused(several).contains("zosia.parallel=1"));
    let recurrent = saved(&Shape::Mamba.file());
    let told = refused(load_with(&recurrent, Some(&main)));
    assert!(told.contains("cannot be taken back"), "{told}");
}

#[test]
fn a_draft_model_for_which_memory_is_short_is_given_up() {
    let main = saved(&shape());
    let mut tight = load_with(&main, Some(&main));
    tight.budget.engine_bytes = 136 << 20;
    let told = refused(tight);
    assert!(told.contains("beside the model"), "{told}");
    assert!(told.contains("run.sh --mem"), "{told}");
}

#[test]
fn a_draft_model_that_computes_no_numbers_is_given_up_in_the_middle() {
    let main = saved(&shape());
    let mut broken = shape();
    let output = broken
        .tensors
        .iter_mut()
        .find(|t| t.name == "output.weight");
    output.unwrap().data.fill(0xFF);
    let (mut session, _, told) = ready(load_with(&main, Some(&saved(&broken))));
    assert!(told.is_empty(), "{told:?}");
    session
        .messages
        .push(Message::new(Role::User, "What is it?"));
    session.request(&Request::Turn {
        messages: session.messages.clone(),
        sampling: long(0.0),
        grammar: None,
    });
    let mut said = String::new();
    let mut told = Vec::new();
    let stats = loop {
        match session.event() {
            Event::Text { text, .. } => said.push_str(&text),
            Event::Notice(line) => told.push(line),
            Event::TurnDone(stats) => break stats,
            Event::Prefill { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    let [line] = &told[..] else {
        panic!("{told:?}")
    };
    assert!(line.contains("not used any more"), "{line}");
    assert_eq!(stats.guessed_tokens, 0);
    let (mut plain, ..) = ready(load_with(&main, None));
    plain.ask("What is it?", long(0.0));
    assert_eq!(plain.answer().unwrap().0, said);
    // Once is enough.
    session.messages.push(Message::new(Role::Assistant, said));
    session.ask("And why?", long(0.0));
    session.answer().unwrap();
}
