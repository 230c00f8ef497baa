//! A context that is given away in pieces and taken back by another engine.

use std::collections::HashMap;

use super::super::*;
use super::{Session, greedy, load_of, test_model};
use protocol::{KvType, Piece, PieceInfo, PieceKey, Request, Sampling};

/// Whoever keeps pieces.
#[derive(Default)]
pub(super) struct Store(HashMap<PieceKey, Vec<u8>>);

impl Store {
    /// Keeps what `session` has evaluated and is not here yet; returns the list and how many
    /// pieces were new.
    pub(super) fn keep(&mut self, session: &mut Session) -> (Vec<PieceInfo>, usize) {
        let list = list(session);
        let mut new = 0;
        for info in &list {
            if self.0.contains_key(&info.key) {
                continue;
            }
            session.request(&Request::GivePiece(info.key));
            let Event::Piece(Piece {
                key,
                bytes: Some(bytes),
            }) = session.event()
            else {
                panic!("no piece");
            };
            assert_eq!((key, bytes.len() as u64), (info.key, info.bytes));
            self.0.insert(key, bytes);
            new += 1;
        }
        (list, new)
    }

    /// Answers what a recall asks for; returns how many tokens it took back.
    pub(super) fn serve(&self, session: &mut Session) -> u32 {
        loop {
            match session.event() {
                Event::Wanted(key) => {
                    let bytes = self.0.get(&key).cloned();
                    session.request(&Request::Piece(Piece { key, bytes }));
                }
                Event::Recalled { tokens } => return tokens,
                other => panic!("{other:?}"),
            }
        }
    }
}

fn list(session: &mut Session) -> Vec<PieceInfo> {
    session.request(&Request::ListPieces {
        messages: session.messages.clone(),
    });
    match session.event() {
        Event::Pieces(list) => list,
        other => panic!("{other:?}"),
    }
}

pub(super) fn recall(session: &mut Session) {
    session.request(&Request::Recall {
        messages: session.messages.clone(),
    });
}

/// Drawn tokens that a tokenizer would mostly cut otherwise.
fn hot() -> Sampling {
    Sampling {
        temp: 1.5,
        max_tokens: Some(90),
        ..greedy()
    }
}

fn load_with(kv: KvType) -> Load {
    let mut load = load_of(test_model());
    load.params.kv = kv;
    load
}

/// Two turns, kept after each.
fn talk(load: Load, sampling: &Sampling) -> (Session, Store) {
    let (mut session, _) = Session::ready(load);
    let mut store = Store::default();
    session.ask("Write a poem about the sea.", sampling.clone());
    session.answer().unwrap();
    let (first, new) = store.keep(&mut session);
    assert_eq!(new, first.len());
    session.ask("Another one, please.", sampling.clone());
    session.answer().unwrap();
    let (second, new) = store.keep(&mut session);
    let before = first.iter().filter(|piece| second.contains(piece)).count();
    assert_eq!(
        before,
        first.len() - 2,
        "all but index and end: {first:?}, {second:?}"
    );
    assert_eq!(
        new,
        second.len() - before,
        "a conversation that grows adds pieces"
    );
    (session, store)
}

/// Another engine, to go on with the same conversation.
fn resumed(before: &Session, load: Load) -> Session {
    let (mut session, _) = Session::ready(load);
    session.messages.clone_from(&before.messages);
    session
}

#[test]
#[ignore = "needs a model: tools/test.sh unit"]
fn a_conversation_taken_back_goes_on_as_if_it_had_never_been_left() {
    for kv in [KvType::F16, KvType::Q8_0] {
        for sampling in [greedy(), hot()] {
            let (mut before, store) = talk(load_with(kv), &sampling);
            let mut after = resumed(&before, load_with(kv));
            recall(&mut after);
            let tokens = store.serve(&mut after);
            for session in [&mut before, &mut after] {
                session.ask("What was the first one about?", sampling.clone());
            }
            let (text, uninterrupted) = before.answer().unwrap();
            let (resumed_text, resumed) = after.answer().unwrap();
            assert_eq!(resumed_text, text);
            assert_eq!(resumed.tokens, uninterrupted.tokens);
            assert_eq!(resumed.evaluated_tokens, uninterrupted.evaluated_tokens);
            assert_eq!(tokens + resumed.evaluated_tokens, resumed.prompt_tokens);
        }
    }
}

#[test]
#[ignore = "needs a model: tools/test.sh unit"]
fn an_engine_that_has_answered_something_else_takes_back_as_much() {
    let (before, store) = talk(load_with(KvType::F16), &hot());
    for system in [before.messages[0].text.clone(), "Be brief.".to_owned()] {
        let (mut after, _) = Session::ready(load_with(KvType::F16));
        after.messages[0].text = system;
        after.ask("What is rain?", hot());
        after.answer().unwrap();
        after.messages.clone_from(&before.messages);
        recall(&mut after);
        let tokens = store.serve(&mut after);
        let list = list(&mut after);
        assert_eq!(list.iter().map(|piece| piece.tokens).sum::<u32>(), tokens);
        assert!(
            list.iter().all(|piece| store.0.contains_key(&piece.key)),
            "under the names that it was kept under"
        );
    }
}

#[test]
#[ignore = "needs a model: tools/test.sh unit"]
fn the_turns_before_one_that_was_not_kept_are_taken_back() {
    let (mut before, mut store) = talk(load_with(KvType::F16), &hot());
    let all = list(&mut before);
    store.0.remove(&all[0].key).unwrap();
    let mut earlier = resumed(&before, load_with(KvType::F16));
    earlier.messages.truncate(3);
    recall(&mut earlier);
    let of_the_first = store.serve(&mut earlier);
    let mut after = resumed(&before, load_with(KvType::F16));
    recall(&mut after);
    assert_eq!(store.serve(&mut after), of_the_first);
    assert!(of_the_first > 100, "{of_the_first} of {all:?}");
}

#[test]
#[ignore = "needs a model: tools/test.sh unit"]
fn what_is_missing_is_evaluated() {
    let (mut before, mut store) = talk(load_with(KvType::F16), &hot());
    let list = list(&mut before);
    let question = "What was the first one about?";
    let ask = |session: &mut Session| {
        session.ask(question, hot());
        session.answer().unwrap().1
    };
    let mut others = [5, 2].map(|missing| {
        store.0.remove(&list[missing].key).unwrap();
        let mut after = resumed(&before, load_with(KvType::F16));
        recall(&mut after);
        let tokens = store.serve(&mut after);
        let held = list[..missing].iter().map(|piece| piece.tokens);
        assert_eq!(tokens, held.sum::<u32>());
        (after, tokens)
    });
    let uninterrupted = ask(&mut before);
    for (after, tokens) in &mut others {
        let resumed = ask(after);
        assert_eq!(*tokens + resumed.evaluated_tokens, resumed.prompt_tokens);
        assert_eq!(resumed.tokens, uninterrupted.tokens);
    }
}

#[test]
#[ignore = "needs a model: tools/test.sh unit"]
fn what_was_computed_in_another_way_is_not_asked_for() {
    let (before, store) = talk(load_with(KvType::F16), &greedy());
    let mut other_kv = load_with(KvType::Q8_0);
    let mut other_length = load_with(KvType::F16);
    other_length.params.ctx_tokens = Some(2048);
    let mut other_checksum = load_with(KvType::F16);
    other_checksum.sha256 = Some(sha256_of_test_model());
    for load in [&mut other_kv, &mut other_length, &mut other_checksum] {
        let mut after = resumed(&before, load.clone());
        recall(&mut after);
        assert_eq!(store.serve(&mut after), 0);
    }
    let mut other_words = resumed(&before, load_with(KvType::F16));
    other_words.messages[0].text.insert(0, 'x');
    recall(&mut other_words);
    assert_eq!(store.serve(&mut other_words), 0);
}

fn sha256_of_test_model() -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(std::fs::read(test_model()).unwrap()))
}

#[test]
#[ignore = "needs a model: tools/test.sh unit"]
fn a_piece_that_is_damaged_is_refused_and_another_that_is_cut_too() {
    let (before, mut store) = talk(load_with(KvType::F16), &greedy());
    // Whoever keeps them finds damage; these have come through.
    for bytes in store.0.values_mut() {
        bytes.truncate(bytes.len() - 1);
    }
    let mut after = resumed(&before, load_with(KvType::F16));
    recall(&mut after);
    assert_eq!(store.serve(&mut after), 0);
    after.ask("What was the first one about?", greedy());
    let stats = after.answer().unwrap().1;
    assert_eq!(stats.evaluated_tokens, stats.prompt_tokens);
}

#[test]
#[ignore = "needs a model: tools/test.sh unit"]
fn a_turn_that_goes_on_waits_for_the_recall_and_any_other_ends_it() {
    let (mut before, store) = talk(load_with(KvType::F16), &greedy());
    before.ask("What was the first one about?", greedy());
    let uninterrupted = before.answer().unwrap().1;

    let mut after = resumed(&before, load_with(KvType::F16));
    after.messages.truncate(before.messages.len() - 2);
    recall(&mut after);
    after.ask("What was the first one about?", greedy());
    assert!(store.serve(&mut after) > 0);
    let stats = after.answer().unwrap().1;
    assert_eq!(stats.evaluated_tokens, uninterrupted.evaluated_tokens);
    assert_eq!(stats.tokens, uninterrupted.tokens);

    // Nobody answers: the turn is not held up.
    let mut other = resumed(&before, load_with(KvType::F16));
    recall(&mut other);
    let Event::Wanted(_) = other.event() else {
        panic!("nothing wanted");
    };
    other.messages.truncate(1);
    other.ask("What is the capital of France?", greedy());
    assert_eq!(other.event(), Event::Recalled { tokens: 0 });
    assert!(other.answer().unwrap().0.contains("Paris"));
}

#[test]
#[ignore = "needs a model: tools/test.sh unit"]
fn a_recall_that_nobody_answers_can_be_cancelled_and_holds_up_no_turn() {
    let (before, store) = talk(load_with(KvType::F16), &greedy());
    let mut after = resumed(&before, load_with(KvType::F16));
    recall(&mut after);
    let Event::Wanted(_) = after.event() else {
        panic!("nothing wanted");
    };
    after.request(&Request::Cancel);
    assert_eq!(after.event(), Event::Recalled { tokens: 0 });
    recall(&mut after);
    let Event::Wanted(_) = after.event() else {
        panic!("nothing wanted");
    };
    after.ask("What was the first one about?", greedy());
    assert_eq!(after.event(), Event::Recalled { tokens: 0 });
    let stats = after.answer().unwrap().1;
    assert_eq!(stats.evaluated_tokens, stats.prompt_tokens);
    // Too late, and never asked for.
    for (key, bytes) in store.0 {
        let bytes = Some(bytes);
        after.request(&Request::Piece(Piece { key, bytes }));
    }
    after.ask("Thank you.", greedy());
    after.answer().unwrap();
}
