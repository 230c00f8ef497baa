//! Answers side by side: the same as alone, whoever is beside them.

use std::collections::BTreeMap;

use super::super::*;
use super::{Session, greedy, load_of, system, test_model};
use chat::{Message, Role};
use protocol::{Order, Request, Sampling, Spoken, Stop, TurnError};

const QUESTIONS: [&str; 11] = [
    "What is the capital of France?",
    "Name three colours.",
    "Write a poem about the sea, the wind, a ship, and those who sail it.",
    "Hello",
    "Why is the sky blue?",
    "List the days of the week.",
    "Tell me about cats.",
    "What is two plus two?",
    "Translate to French: good morning.",
    "Who was Mozart?",
    "Say yes.",
];

/// Conversations of different lengths, of two system prompts, greedy and drawn.
fn orders() -> Vec<Order> {
    let order = |(id, question): (u64, &&str)| Order {
        id,
        messages: match id % 4 {
            3 => vec![Message::new(Role::User, *question)],
            _ => vec![system(), Message::new(Role::User, *question)],
        },
        common_bytes: 0,
        sampling: Sampling {
            temp: if id % 2 == 0 { 0.0 } else { 0.9 },
            max_tokens: Some(5 + 7 * u32::try_from(id % 5).unwrap()),
            ..greedy()
        },
        grammar: (id == 10).then(|| r#"root ::= "yes" | "no""#.to_owned()),
    };
    (0..).zip(QUESTIONS.iter()).map(order).collect()
}

fn ready(model: &std::path::Path, parallel: u32) -> Session {
    let mut load = load_of(model.to_owned());
    load.params.parallel = Some(parallel);
    load.params.ctx_tokens = Some(512);
    load.budget.engine_bytes = u64::MAX;
    let (session, info) = Session::ready(load);
    assert_eq!((info.parallel, info.ctx_tokens), (parallel, 512));
    session
}

type Answers = BTreeMap<u64, Result<Box<Spoken>, TurnError>>;

fn answers(session: &mut Session, orders: &[Order]) -> Answers {
    for order in orders {
        session.request(&Request::Answer(Box::new(order.clone())));
    }
    let mut answers = Answers::new();
    while answers.len() < orders.len() {
        match session.event() {
            Event::Answered { id, result } => assert!(answers.insert(id, result).is_none()),
            other => panic!("{other:?}"),
        }
    }
    answers
}

/// What does not depend on the time it took.
fn said(answers: &Answers) -> Vec<(u64, String, Vec<i32>, Stop)> {
    let said = answers.iter().map(|(id, result)| {
        let spoken = result.as_ref().unwrap();
        let tokens = spoken.stats.tokens.clone();
        (*id, spoken.text.clone(), tokens, spoken.stats.stop)
    });
    said.collect()
}

#[test]
#[ignore = "needs a model: tools/test.sh unit"]
fn an_answer_is_the_same_whoever_is_beside_it() {
    let model = test_model();
    let mut orders = orders();
    let alone = said(&answers(&mut ready(&model, 1), &orders));
    assert!(alone[0].1.contains("France"), "{alone:?}");
    assert!(["yes", "no"].contains(&alone[10].1.as_str()), "{alone:?}");
    for parallel in [2, 4, 8] {
        let mut session = ready(&model, parallel);
        let together = said(&answers(&mut session, &orders));
        assert_eq!(together, alone, "{parallel} side by side");
        // In another order, in lanes that have been used.
        orders.reverse();
        assert_eq!(said(&answers(&mut session, &orders)), alone);
        orders.rotate_left(3);
    }
}

#[test]
#[ignore = "needs a model: tools/test.sh unit"]
fn a_turn_by_itself_says_the_same() {
    let model = test_model();
    let orders: Vec<Order> = orders().into_iter().filter(|order| order.id == 0).collect();
    let mut session = ready(&model, 4);
    let together = answers(&mut session, &orders);
    let spoken = together[&0].as_ref().unwrap();
    // The same engine, which then forgets its lanes.
    session.ask(QUESTIONS[0], orders[0].sampling.clone());
    let (text, stats) = session.answer().unwrap();
    assert_eq!((&text, &stats.tokens), (&spoken.text, &spoken.stats.tokens));
    assert_eq!(stats.evaluated_tokens, stats.prompt_tokens);
    assert_eq!(said(&answers(&mut session, &orders)), said(&together));
}

#[test]
#[ignore = "needs a model: tools/test.sh unit"]
fn what_conversations_begin_with_is_evaluated_once_and_weights_are_read_once_for_all() {
    let model = test_model();
    let mut session = ready(&model, 4);
    let text = "You are a helpful assistant. ".repeat(8);
    let order = |id| Order {
        id,
        messages: vec![
            system(),
            Message::new(Role::User, format!("{text}Count to {id}.")),
        ],
        common_bytes: text.len(),
        sampling: Sampling {
            max_tokens: Some(16),
            ..greedy()
        },
        grammar: Some("root ::= [a-z ]{200}".to_owned()),
    };
    let orders: Vec<Order> = (0..8).map(order).collect();
    let answers = answers(&mut session, &orders);
    let stats: Vec<_> = answers.values().flatten().map(|s| &s.stats).collect();
    let whole = |stats: &&&protocol::TurnStats| stats.evaluated_tokens == stats.prompt_tokens;
    assert_eq!(stats.iter().filter(whole).count(), 1, "{stats:?}");
    for stats in stats.iter().filter(|stats| !whole(stats)) {
        assert!(stats.evaluated_tokens < 20, "{stats:?}");
    }
    // All of the same length: four lanes, twice.
    for stats in stats {
        assert_eq!((stats.generated_tokens, stats.decode_calls), (16, 15));
    }
}

#[test]
#[ignore = "needs a model: tools/test.sh unit"]
fn what_fails_fails_alone_and_a_cancellation_ends_all() {
    let model = test_model();
    let mut session = ready(&model, 2);
    let mut mixed = orders();
    mixed.truncate(5);
    mixed[1].grammar = Some("root ::= (".to_owned());
    mixed[3].messages = vec![Message::new(Role::User, "word ".repeat(600))];
    let got = answers(&mut session, &mixed);
    assert!(matches!(got[&1], Err(TurnError::Grammar(_))), "{got:?}");
    assert!(
        matches!(got[&3], Err(TurnError::ContextFull { .. })),
        "{got:?}"
    );
    let alone = answers(&mut ready(&model, 1), &mixed);
    for id in [0, 2, 4] {
        assert_eq!(
            got[&id].as_ref().unwrap().text,
            alone[&id].as_ref().unwrap().text
        );
    }
    // Answers without an end of their own.
    for order in &mut mixed {
        order.messages = vec![system(), Message::new(Role::User, "Write letters.")];
        order.sampling.max_tokens = None;
        order.grammar = Some("root ::= [a-z]+".to_owned());
        session.request(&Request::Answer(Box::new(order.clone())));
    }
    session.request(&Request::Cancel);
    for _ in 0..mixed.len() {
        match session.event() {
            Event::Answered { result, .. } => {
                assert_eq!(result.unwrap().stats.stop, Stop::Cancelled);
            }
            other => panic!("{other:?}"),
        }
    }
    session.ask(QUESTIONS[0], greedy());
    assert!(session.answer().unwrap().0.contains("Paris"));
}

#[test]
#[ignore = "needs a model: tools/test.sh unit"]
fn a_lane_whose_context_is_full_and_an_answer_that_is_too_long_are_told() {
    let model = test_model();
    let mut load = load_of(model);
    load.params.parallel = Some(2);
    load.params.ctx_tokens = Some(256);
    load.budget.answer_bytes = 250;
    load.budget.engine_bytes = u64::MAX;
    let (mut session, _) = Session::ready(load);
    let order = |id, grammar: &str| Order {
        id,
        messages: vec![system(), Message::new(Role::User, "Write the letter a.")],
        common_bytes: 0,
        sampling: Sampling {
            max_tokens: None,
            ..greedy()
        },
        grammar: Some(grammar.to_owned()),
    };
    // Without end, of tokens of a byte each, and of longer ones.
    let orders = [
        order(0, "root ::= [0-9] root"),
        order(1, "root ::= (\"hello \" | \"world \") root"),
    ];
    let got = answers(&mut session, &orders);
    let spoken = |id| got[&id].as_ref().unwrap();
    assert_eq!(spoken(0).stats.stop, Stop::ContextFull, "{got:?}");
    assert_eq!(spoken(0).stats.ctx_used_tokens, 256);
    assert_eq!(spoken(1).stats.stop, Stop::TooLong, "{got:?}");
    assert!((251..270).contains(&spoken(1).text.len()), "{got:?}");
}
