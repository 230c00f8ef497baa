//! What a correction evaluates, for every way that a context can be made of: tiny models
//! with random weights, whose words depend on every token before them.

use super::super::sequence::common_prefix;
use super::super::*;
use super::kept::{Store, recall};
use super::{Session, greedy, load_of, saved, system};
use chat::{Message, Role};
use protocol::{Order, Request, Sampling, Spoken, Stop, Switch, TextKind, TurnStats};
use tempfile::NamedTempFile;
use vmtest::Shape;

/// Drawn, with a seed, of what is at all likely.
fn drawn() -> Sampling {
    Sampling {
        temp: 0.9,
        min_p: 0.05,
        seed: Some(7),
        max_tokens: Some(40),
        ..greedy()
    }
}

fn ready(file: &NamedTempFile) -> Session {
    let mut load = load_of(file.path().to_owned());
    load.params.ctx_tokens = Some(2048);
    Session::ready(load).0
}

/// A conversation with a tiny model, and what is asked of one that has not had it.
struct Talk {
    file: NamedTempFile,
    session: Session,
    sampling: Sampling,
    what: String,
    /// What the context holds.
    held: u32,
}

/// What of a prompt is to be evaluated.
enum New {
    /// What comes behind that which is held.
    Behind,
    /// The last so many tokens.
    Last(usize),
}

impl Talk {
    fn with(shape: Shape, sampling: Sampling) -> Self {
        let file = saved(&shape.file());
        Self {
            session: ready(&file),
            what: format!("{shape:?} at temperature {}", sampling.temp),
            file,
            sampling,
            held: 0,
        }
    }

    /// Asks `text`, which has `new` evaluated; the answer is that of a new engine.
    fn ask(&mut self, text: &str, new: &New) -> TurnStats {
        self.session.ask(text, self.sampling.clone());
        let mut other = ready(&self.file);
        other.messages.clone_from(&self.session.messages);
        other.messages.pop();
        other.ask(text, self.sampling.clone());
        let (said, stats) = self.session.answer().unwrap();
        let (fresh, all) = other.answer().unwrap();
        let what = &self.what;
        assert_eq!(said, fresh, "{what}: {text}");
        assert_eq!(stats.tokens, all.tokens, "{what}: {text}");
        assert_eq!(all.evaluated_tokens, all.prompt_tokens, "{what}: {text}");
        let new = match new {
            New::Behind => (stats.prompt_tokens - self.held) as usize,
            New::Last(new) => *new,
        };
        assert_eq!(stats.evaluated_tokens as usize, new, "{what}: {text}");
        assert_eq!(stats.generated_tokens, self.sampling.max_tokens.unwrap());
        self.held = stats.ctx_used_tokens;
        stats
    }

    /// What differs between the conversation as it was `before` and as it is with `text`.
    fn changed(&mut self, before: &[Message], text: &str) -> New {
        let held = self.session.tokens_of(before);
        let question = Message::new(Role::User, text);
        let after = [&self.session.messages[..], &[question]].concat();
        let tokens = self.session.tokens_of(&after);
        New::Last(tokens.len() - common_prefix(&tokens, &held))
    }
}

fn talks() -> impl Iterator<Item = Talk> {
    let samplings = || [greedy(), drawn()];
    let all = Shape::ALL.into_iter();
    all.flat_map(move |shape| samplings().map(|sampling| Talk::with(shape, sampling)))
}

#[test]
fn a_next_turn_an_answer_made_again_and_turns_taken_back_evaluate_what_is_new() {
    for mut talk in talks() {
        talk.ask("What is it?", &New::Behind);
        talk.ask("And why is that so?", &New::Behind);

        talk.session.messages.truncate(3);
        talk.ask("And why is that so?", &New::Last(1));

        let before = talk.session.messages.clone();
        talk.session.messages.truncate(3);
        let new = talk.changed(&before, "Since when?");
        talk.ask("Since when?", &new);

        // Two turns back, and on.
        let before = talk.session.messages.clone();
        talk.session.messages.truncate(1);
        let new = talk.changed(&before, "Are you there?");
        talk.ask("Are you there?", &new);
        talk.ask("And why?", &New::Behind);
    }
}

#[test]
fn a_draft_that_is_edited_is_evaluated_from_near_where_it_was() {
    for mut talk in talks() {
        let text = "It rained on the hills and on the harbour. ".repeat(8);
        let typed = |talk: &mut Talk, text: &str| {
            let messages = vec![system(), Message::new(Role::User, text)];
            talk.session.request(&Request::Draft { messages });
            assert!(matches!(talk.session.event(), Event::Drafted { .. }));
        };
        // Typed, some of its end deleted, and typed otherwise.
        for end in (20..=text.len()).step_by(20) {
            typed(&mut talk, &text[..end]);
        }
        typed(&mut talk, &text[..text.len() - 30]);
        let edited = format!("{}and on nobody.", &text[..text.len() - 30]);
        typed(&mut talk, &edited);
        talk.session.ask(&edited, talk.sampling.clone());
        let (said, stats) = talk.session.answer().unwrap();
        assert!(stats.prompt_tokens > 250, "{}: {stats:?}", talk.what);
        let around = "<|im_end|>\n<|im_start|>assistant\n".len();
        assert!(
            stats.evaluated_tokens as usize <= around,
            "{}: {stats:?}",
            talk.what
        );
        let mut other = ready(&talk.file);
        other.ask(&edited, talk.sampling.clone());
        assert_eq!(said, other.answer().unwrap().0, "{}", talk.what);
        // Its beginning is corrected: nothing of it is kept.
        talk.session.messages.truncate(1);
        let typing = [system(), Message::new(Role::User, &edited)];
        let new = talk.changed(&typing, "Where did it rain?");
        talk.ask("Where did it rain?", &new);
    }
}

#[test]
fn an_answer_that_is_cancelled_is_gone_on_from() {
    for mut talk in talks() {
        let endless = Sampling {
            max_tokens: None,
            ..talk.sampling.clone()
        };
        talk.session.ask("What is it?", endless);
        while !matches!(talk.session.event(), Event::Text { .. }) {}
        talk.session.request(&Request::Cancel);
        talk.session.answer().unwrap();
        talk.session.messages.truncate(2);
        let again = talk.session.messages.pop().unwrap();
        talk.ask(&again.text, &New::Last(1));
    }
}

/// Words, and reasoning before them.
const REASONED: &str = r#"root ::= w w w w w w w w w w "</think>" w w w w w w w w
w ::= [a-z] [a-z]"#;

/// What comes of a turn, the reasoning apart.
fn reasoned(session: &mut Session) -> (String, TurnStats) {
    let (mut answer, mut reasoning) = (String::new(), String::new());
    loop {
        match session.event() {
            Event::Text { kind, text } => match kind {
                TextKind::Answer => answer.push_str(&text),
                TextKind::Reasoning => reasoning.push_str(&text),
            },
            Event::Prefill { .. } => {}
            Event::TurnDone(stats) => {
                assert!(!reasoning.is_empty() && !answer.is_empty(), "{stats:?}");
                session
                    .messages
                    .push(Message::new(Role::Assistant, &answer));
                return (answer, stats);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Which of a model's tensors are quantized, the models that llama.cpp makes show.
#[test]
fn quantized_models_of_every_shape_are_read_and_answer() {
    for shape in Shape::ALL {
        let file = saved(&shape.quantized());
        let mut session = ready(&file);
        session.ask("What is it?", drawn());
        let (said, stats) = session.answer().unwrap();
        assert!(!said.is_empty(), "{shape:?}");
        assert_eq!(
            Some(stats.generated_tokens),
            drawn().max_tokens,
            "{shape:?}"
        );
    }
}

#[test]
fn what_was_reasoned_in_earlier_turns_is_left_out_and_the_rest_kept() {
    for shape in Shape::ALL {
        let file = saved(&shape.thinking());
        let mut session = ready(&file);
        session.ask_under(Some(REASONED), "What is it?", drawn());
        let mut asked = session.messages.clone();
        reasoned(&mut session);
        for question in ["And why?", "Since when?"] {
            let before = session.tokens_of(&asked);
            session.ask_under(Some(REASONED), question, drawn());
            asked.clone_from(&session.messages);
            let (said, stats) = reasoned(&mut session);
            let tokens = session.tokens_of(&asked);
            let new = tokens.len() - common_prefix(&tokens, &before);
            assert_eq!(stats.evaluated_tokens as usize, new, "{shape:?}: {stats:?}");
            let mut other = ready(&file);
            other.messages = asked[..asked.len() - 1].to_vec();
            other.ask_under(Some(REASONED), question, drawn());
            assert_eq!(reasoned(&mut other).0, said, "{shape:?}");
        }
    }
}

/// A form of answers, which says nothing of what is reasoned.
const FORM: &str = r#"root ::= "{" [a-z] [a-z] [a-z] [a-z] [a-z] [a-z] "}""#;

#[test]
fn what_is_reasoned_is_free_and_the_answer_behind_it_obeys() {
    // One of the words that it says ends what is reasoned.
    let thinking = Shape::Gemma3.thinking();
    let mut free = ready(&saved(&thinking));
    let words = answered(&mut free, "What is it?").stats.tokens;
    let prompt = free.tokens_of(&[system(), Message::new(Role::User, "What is it?")]);
    let is_new = |token: &&i32| **token > 260 && !prompt.contains(token);
    let end = words.iter().skip(9).find(is_new).unwrap();
    let end = usize::try_from(*end).unwrap();
    let file = saved(&thinking.token(end, b"</think>"));
    let sampling = drawn();
    let mut load = load_of(file.path().to_owned());
    let mut session = Session::ready(load.clone()).0;
    session.ask_under(Some(FORM), "What is it?", sampling.clone());
    let (said, alone) = reasoned(&mut session);
    assert_eq!(alone.stop, Stop::EndOfTurn);
    assert_eq!((said.len(), &said[..1], &said[7..]), (8, "{", "}"));

    load.params.speculate = Switch::On;
    let mut guessing = Session::ready(load.clone()).0;
    guessing.ask_under(Some(FORM), "What is it?", sampling.clone());
    assert_eq!(reasoned(&mut guessing).1.tokens, alone.tokens);

    load.params.parallel = Some(2);
    load.budget.engine_bytes = u64::MAX;
    let mut batch = Session::ready(load).0;
    for id in 0..2 {
        batch.request(&Request::Answer(Box::new(Order {
            id,
            messages: vec![system(), Message::new(Role::User, "What is it?")],
            common_bytes: 0,
            sampling: sampling.clone(),
            grammar: Some(FORM.to_owned()),
        })));
    }
    for _ in 0..2 {
        let Event::Answered { result, .. } = batch.event() else {
            panic!("no answer");
        };
        let spoken = result.unwrap();
        assert_eq!(spoken.stats.tokens, alone.tokens);
        assert_eq!(spoken.text, said);
    }
}

#[test]
fn a_conversation_that_is_kept_goes_on_and_can_be_corrected() {
    for mut talk in talks() {
        talk.session.ask("What is it?", talk.sampling.clone());
        talk.session.answer().unwrap();
        talk.session.ask("And why?", talk.sampling.clone());
        talk.session.answer().unwrap();
        let mut store = Store::default();
        let (list, _) = store.keep(&mut talk.session);
        assert!(list.len() > 1, "{}: {list:?}", talk.what);
        let mut after = ready(&talk.file);
        after.messages.clone_from(&talk.session.messages);
        recall(&mut after);
        let tokens = store.serve(&mut after);
        assert!(tokens > 100, "{}: {tokens}", talk.what);
        let before = std::mem::replace(&mut talk.session, after);
        talk.held = tokens;
        talk.ask("Since when?", &New::Behind);
        // What was evaluated by the one before cannot be gone back into.
        talk.session.messages.truncate(3);
        talk.session.ask("Since when?", talk.sampling.clone());
        let said = talk.session.answer().unwrap().0;
        talk.session = before;
        talk.session.messages.truncate(3);
        talk.session.ask("Since when?", talk.sampling.clone());
        assert_eq!(talk.session.answer().unwrap().0, said, "{}", talk.what);
    }
}

/// The answer to `text`, as one of a batch.
fn answered(session: &mut Session, text: &str) -> Spoken {
    let messages = vec![system(), Message::new(Role::User, text)];
    session.request(&Request::Answer(Box::new(Order {
        id: 1,
        messages,
        common_bytes: 0,
        sampling: drawn(),
        grammar: None,
    })));
    loop {
        match session.event() {
            Event::Answered { result, .. } => return *result.unwrap(),
            Event::Prefill { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_batch_evaluates_its_system_prompt_once() {
    for shape in Shape::ALL {
        let file = saved(&shape.file());
        let mut session = ready(&file);
        let all = answered(&mut session, "What is it?").stats;
        assert_eq!(all.evaluated_tokens, all.prompt_tokens);
        for question in ["And why?", "Since when is that so?"] {
            let said = answered(&mut session, question);
            let fresh = answered(&mut ready(&file), question);
            assert_eq!(said.text, fresh.text, "{shape:?}");
            let shared = said.stats.prompt_tokens - said.stats.evaluated_tokens;
            assert!(shared > 40, "{shape:?}: {:?}", said.stats);
        }
    }
}
