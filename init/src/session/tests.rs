//! The state machine, driven by engines that follow a script.

use std::cell::RefCell;
use std::io::{Error, ErrorKind};
use std::rc::Rc;

use protocol::{Event, ModelInfo, PieceKey, Progress, Stage, Stop, TextKind, find};

use super::*;
use crate::disk::Origin;

/// What engines have been asked, and what they will say.
#[derive(Default)]
pub(crate) struct World {
    /// For each engine to be started, what is heard of it; none left: no
    /// process can be made.
    scripts: VecDeque<Vec<Heard>>,
    sent: Vec<Request>,
    too_long: bool,
}

pub(crate) struct Scripted {
    world: Rc<RefCell<World>>,
    heard: VecDeque<Heard>,
}

impl Peer for Scripted {
    fn send(&mut self, request: &Request) -> Result<(), TooLong> {
        let mut world = self.world.borrow_mut();
        if world.too_long {
            let (bytes, limit) = (9 << 20, 1 << 20);
            return Err(TooLong { bytes, limit });
        }
        world.sent.push(request.clone());
        Ok(())
    }

    fn next(&mut self, wait: Wait) -> Heard {
        match self.heard.pop_front() {
            Some(heard) => heard,
            None if wait == Wait::No => Heard::Nothing,
            None => panic!("it waits for what never comes"),
        }
    }

    fn poll_fds(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        Vec::new()
    }
}

pub(crate) fn session_with(scripts: Vec<Vec<Heard>>) -> (Session<Scripted>, Rc<RefCell<World>>) {
    let world = Rc::new(RefCell::new(World {
        scripts: scripts.into(),
        ..World::default()
    }));
    let starts = Rc::clone(&world);
    let start = move |_| {
        let script = starts.borrow_mut().scripts.pop_front();
        let heard = script.ok_or(Error::from(ErrorKind::OutOfMemory))?.into();
        let world = Rc::clone(&starts);
        Ok(Scripted { world, heard })
    };
    let budget = Budget::of(None);
    let session = Session::new(Host::Command, Config::default(), budget, Box::new(start));
    (session, world)
}

pub(crate) fn file() -> ModelFile {
    ModelFile {
        path: "/models/m.gguf".into(),
        name: "m.gguf".to_owned(),
        bytes: 1,
        rest: Vec::new(),
        device: None,
        label: None,
        origin: Origin::Given,
    }
}

/// Of a model that is none.
pub(crate) fn model_info() -> ModelInfo {
    ModelInfo {
        name: "m".to_owned(),
        arch: "llama".to_owned(),
        description: "m 1B".to_owned(),
        draft: None,
        file_bytes: 1,
        parameters: 1,
        ctx_tokens: 4096,
        ctx_train_tokens: 4096,
        parallel: 2,
        kv_bytes: 1,
        checkpoint_bytes: None,
        is_kept: true,
        cpu: "v80".to_owned(),
        repacked: false,
        threads: 1,
        batch_threads: 1,
        template: "the model".to_owned(),
        load_ms: 1,
        anonymous_bytes: 1,
        unconfined: None,
        before_kernel_ms: None,
    }
}

pub(crate) fn ready() -> Heard {
    Heard::Event(Event::Ready(Box::new(model_info())))
}

fn silence(ticks: u32) -> Vec<Heard> {
    vec![Heard::Nothing; ticks as usize]
}

fn text(text: &str) -> Heard {
    Heard::Event(Event::Text {
        kind: TextKind::Answer,
        text: text.to_owned(),
    })
}

/// What a short turn took that ended so.
pub(crate) fn stats(stop: Stop) -> TurnStats {
    TurnStats {
        stop,
        prompt_tokens: 1,
        evaluated_tokens: 1,
        prefill_ms: 1.0,
        generated_tokens: 1,
        decode_ms: 1.0,
        decode_calls: 1,
        guessed_tokens: 0,
        taken_tokens: 0,
        ctx_used_tokens: 1,
        tokens: vec![1],
    }
}

pub(crate) fn done(stop: Stop) -> Heard {
    Heard::Event(Event::TurnDone(stats(stop)))
}

fn refused() -> Heard {
    let error = "it is damaged".to_owned();
    Heard::Event(Event::Refused { error })
}

fn dead() -> Heard {
    Heard::Gone("was killed by SIGSEGV".to_owned())
}

fn exhausted() -> Heard {
    Heard::Exhausted("ended because memory ran out".to_owned())
}

fn failed(error: TurnError) -> Heard {
    Heard::Event(Event::TurnFailed(error))
}

fn too_full() -> TurnError {
    TurnError::ContextFull {
        need_tokens: 9,
        counted: true,
        ctx_tokens: 4,
        ctx_max_tokens: 16,
    }
}

/// Everything until nothing more can come, and the last state.
fn all(session: &mut Session<Scripted>) -> Vec<Update> {
    std::iter::from_fn(|| session.next()).collect()
}

/// Updates by their names.
fn names(updates: &[Update]) -> Vec<String> {
    let name = |update: &Update| match update {
        Update::TakenBack { reason, question } => {
            let reason = format!("{reason:?}");
            let reason = reason.split('(').next().unwrap_or_default();
            let what = question.as_ref().map_or("Unreplaced", |_| "TakenBack");
            format!("{what} {reason}")
        }
        Update::Refused { question, .. } => match question {
            Some(question) => format!("Refused {question}"),
            None => "Refused".to_owned(),
        },
        other => {
            let other = format!("{other:?}");
            let end = other.find(['(', ' ']).unwrap_or(other.len());
            other[..end].to_owned()
        }
    };
    updates.iter().map(name).collect()
}

/// Brings a session whose engine will be heard saying `rest` into `phase`.
fn in_phase(
    phase: Phase,
    waiting: bool,
    rest: Vec<Heard>,
) -> (Session<Scripted>, Rc<RefCell<World>>) {
    let later = || vec![ready(), text("again"), done(Stop::EndOfTurn)];
    let mut script = match phase {
        Phase::Idle | Phase::Loading => vec![],
        Phase::Ready | Phase::Answering => vec![ready()],
        Phase::Gone => vec![refused()],
    };
    script.extend(rest);
    let (mut session, world) = session_with(vec![script, later(), later(), later()]);
    if phase != Phase::Idle {
        session.load_first(file(), None);
    }
    if waiting || phase == Phase::Answering {
        session.ask("q");
    }
    if !matches!(phase, Phase::Idle | Phase::Loading) {
        session.listen(Wait::No);
        session.updates.clear();
    }
    assert_eq!((session.phase(), session.is_waiting()), (phase, waiting));
    (session, world)
}

/// state, whether a question waits, what is heard → updates, state
type Row = (Phase, bool, Vec<Heard>, &'static [&'static str], Phase);

#[test]
fn every_state_takes_every_event_as_the_table_says() {
    use Phase::{Answering, Gone, Loading, Ready};
    let end = || done(Stop::EndOfTurn);
    let rows: Vec<Row> = vec![
        (Loading, false, vec![ready()], &["Ready"], Ready),
        (
            Loading,
            true,
            vec![ready(), text("a"), end()],
            &["Ready", "Text", "Done"],
            Ready,
        ),
        (Loading, false, vec![refused()], &["Refused"], Gone),
        (Loading, true, vec![refused()], &["Refused q"], Gone),
        (Loading, false, vec![dead()], &["Refused"], Gone),
        (Loading, true, vec![dead()], &["Refused q"], Gone),
        (
            Loading,
            false,
            vec![text("stray"), end(), ready()],
            &["Ready"],
            Ready,
        ),
        (Ready, false, vec![], &[], Ready),
        (
            Answering,
            false,
            vec![text("a"), end()],
            &["Text", "Done"],
            Ready,
        ),
        (Answering, false, vec![end()], &["TakenBack Failed"], Ready),
        (
            Answering,
            false,
            vec![done(Stop::Cancelled)],
            &["TakenBack Cancelled"],
            Ready,
        ),
        (
            Answering,
            false,
            vec![text("a"), done(Stop::Cancelled)],
            &["Text", "Done"],
            Ready,
        ),
        (
            Answering,
            false,
            vec![failed(too_full())],
            &["TakenBack TooLong"],
            Ready,
        ),
        (
            Answering,
            false,
            vec![failed(TurnError::Template("x".to_owned()))],
            &["TakenBack Failed"],
            Ready,
        ),
        (
            Answering,
            false,
            vec![dead()],
            &["Notice", "Ready", "Text", "Done"],
            Ready,
        ),
        (
            Answering,
            false,
            vec![text("a"), dead()],
            &["Text", "BrokenOff", "Notice", "Ready"],
            Ready,
        ),
        (Answering, false, vec![refused()], &["Refused q"], Gone),
        (
            Answering,
            false,
            vec![ready(), text("a"), end()],
            &["Text", "Done"],
            Ready,
        ),
        (Gone, false, vec![], &[], Gone),
    ];
    hold(rows);
}

#[test]
fn in_every_state_silence_and_want_of_memory_end_as_the_table_says() {
    use Phase::{Answering, Gone, Loading, Ready};
    hold(vec![
        (Loading, false, silence(SILENT_TICKS), &["Refused"], Gone),
        (Loading, true, silence(SILENT_TICKS), &["Refused q"], Gone),
        (
            Answering,
            false,
            silence(SILENT_TICKS),
            &["TakenBack Failed", "Ready"],
            Ready,
        ),
        (
            Answering,
            false,
            [vec![text("a")], silence(SILENT_TICKS)].concat(),
            &["Text", "BrokenOff", "Notice", "Ready"],
            Ready,
        ),
        (Loading, true, vec![exhausted()], &["Refused q"], Gone),
        (
            Answering,
            false,
            vec![exhausted()],
            &["TakenBack Failed", "Ready"],
            Ready,
        ),
        // At work, and at last with something to say.
        (
            Answering,
            false,
            [
                silence(SILENT_TICKS - 1),
                vec![Heard::Event(Event::Working)],
                silence(SILENT_TICKS - 1),
                vec![text("a"), done(Stop::EndOfTurn)],
            ]
            .concat(),
            &["Text", "Done"],
            Ready,
        ),
    ]);
}

/// Each row is so.
fn hold(rows: Vec<Row>) {
    for (phase, waiting, heard, updates, end) in rows {
        let (mut session, _) = in_phase(phase, waiting, heard.clone());
        let got = all(&mut session);
        assert_eq!(names(&got), updates, "{phase:?} {waiting} {heard:?}");
        assert_eq!(session.phase(), end, "{phase:?} {waiting} {heard:?}");
    }
}

#[test]
fn an_answer_that_shows_nothing_is_given_back_with_what_ended_it() {
    for (stop, words) in [
        (Stop::EndOfTurn, "without saying anything"),
        (Stop::MaxTokens, "--max-tokens"),
        (Stop::ContextFull, "--ctx"),
        (Stop::TooLong, "[ZE-33]"),
    ] {
        let (mut session, _) = in_phase(Phase::Answering, false, vec![done(stop)]);
        let updates = all(&mut session);
        let [
            Update::TakenBack {
                reason: Reason::Failed(why) | Reason::TooLong(why),
                ..
            },
        ] = &updates[..]
        else {
            panic!("{updates:?}");
        };
        assert!(why.contains(words), "{stop:?}: {why}");
    }
}

#[test]
fn a_question_is_answered_or_given_back_in_every_state() {
    let answer = || vec![text("a"), done(Stop::EndOfTurn)];
    for (phase, rest, end) in [
        (Phase::Idle, vec![], "TakenBack NoEngine"),
        (Phase::Loading, [vec![ready()], answer()].concat(), "Done"),
        (Phase::Ready, answer(), "Done"),
        (Phase::Gone, vec![], "TakenBack NoEngine"),
    ] {
        let (mut session, _) = in_phase(phase, false, rest);
        session.ask("question");
        let names = names(&all(&mut session));
        let last = names.last().map(String::as_str);
        assert_eq!(last, Some(end), "{phase:?}");
        let kept = if end == "Done" { 2 } else { 0 };
        assert_eq!(session.messages().len(), kept, "{phase:?}");
    }
    // And one that comes while another is being answered goes back at once.
    let (mut session, _) = in_phase(Phase::Answering, false, answer());
    session.ask("second");
    let updates = all(&mut session);
    assert_eq!(names(&updates), ["TakenBack Failed", "Text", "Done"]);
    assert_eq!(session.messages().len(), 2);
}

/// A command, by its name.
type Command = (&'static str, fn(&mut Session<Scripted>));

#[test]
fn no_command_in_any_state_loses_a_question_or_waits_for_ever() {
    let commands: [Command; 12] = [
        ("cancel", |s| s.cancel()),
        ("undo", |s| drop(s.undo())),
        ("drop_oldest", |s| drop(s.drop_oldest())),
        ("clear", |s| s.clear()),
        ("regenerate", |s| {
            s.regenerate();
        }),
        ("draft", |s| s.draft("typed")),
        ("load", |s| s.load(file(), None, None)),
        ("set temp", |s| s.apply(change(s, "temp", "0"))),
        ("set ctx", |s| s.apply(change(s, "ctx", "512"))),
        ("refuse", |s| s.refuse("no disk".to_owned())),
        ("set_chat", |s| s.set_chat(ChatParams::default())),
        ("ask", |s| s.ask("another")),
    ];
    let answer = || vec![ready(), text("a"), done(Stop::EndOfTurn)];
    let states = [
        (Phase::Idle, false),
        (Phase::Loading, false),
        (Phase::Loading, true),
        (Phase::Ready, false),
        (Phase::Answering, false),
        (Phase::Gone, false),
    ];
    let events = || {
        [
            answer(),
            vec![dead()],
            vec![refused()],
            vec![text("a"), dead()],
        ]
    };
    for (phase, waiting) in states {
        for (name, command) in commands {
            for heard in events() {
                let what = format!("{phase:?} {waiting} {name} {heard:?}");
                let (mut session, _) = in_phase(phase, waiting, heard);
                command(&mut session);
                // Ends: `next` panics if it waits for what never comes.
                all(&mut session);
                assert!(!session.transcript.is_open(), "{what}");
                let says = |m: &Message| !m.text.is_empty() || m.reasoning.is_some();
                assert!(session.messages().iter().all(says), "{what}");
                let settled = matches!(session.phase(), Phase::Idle | Phase::Ready | Phase::Gone);
                assert!(settled, "{what}: {:?}", session.phase());
            }
        }
    }
}

#[test]
fn an_answer_stays_until_another_has_begun_to_replace_it() {
    let first = || vec![text("first"), done(Stop::EndOfTurn)];
    let again = |heard: Vec<Heard>| [first(), heard].concat();
    let kept = |session: &Session<Scripted>, answer: &str| {
        let texts: Vec<&str> = session.messages().iter().map(|m| &*m.text).collect();
        assert_eq!(texts, ["q", answer]);
    };
    for (heard, last) in [
        (vec![failed(too_full())], "Unreplaced TooLong"),
        (vec![done(Stop::Cancelled)], "Unreplaced Cancelled"),
        (vec![done(Stop::EndOfTurn)], "Unreplaced Failed"),
        (vec![exhausted()], "Ready"),
        (silence(SILENT_TICKS), "Ready"),
        (vec![refused()], "Refused"),
    ] {
        let (mut session, _) = in_phase(Phase::Answering, false, again(heard));
        let _: Vec<Update> = (0..2).filter_map(|_| session.next()).collect();
        kept(&session, "first");
        assert!(session.regenerate());
        assert_eq!(session.messages().len(), 1);
        let updates = names(&all(&mut session));
        assert_eq!(updates.last().map(String::as_str), Some(last));
        kept(&session, "first");
    }
    // Without an engine, before one is ready, and where it dies each time.
    let (mut session, _) = in_phase(Phase::Gone, false, vec![]);
    session.restore(vec![
        Message::new(Role::User, "q"),
        Message::new(Role::Assistant, "first"),
    ]);
    session.regenerate();
    assert_eq!(names(&all(&mut session)), ["Unreplaced NoEngine"]);
    kept(&session, "first");
    session.load(file(), None, None);
    session.regenerate();
    assert!(session.is_waiting());
    session.cancel();
    let updates = names(&all(&mut session));
    assert_eq!(updates, ["Unreplaced Cancelled", "Ready"]);
    kept(&session, "first");
    let (mut session, _) = in_phase(Phase::Answering, false, again(vec![dead()]));
    let _: Vec<Update> = (0..2).filter_map(|_| session.next()).collect();
    session.regenerate();
    // It is asked again, and says something else.
    assert_eq!(
        names(&all(&mut session)),
        ["Notice", "Ready", "Text", "Done"]
    );
    kept(&session, "again");
    // Leaving does not wait for another.
    for phase in [Phase::Answering, Phase::Loading] {
        let (mut session, _) = in_phase(Phase::Answering, false, first());
        let _: Vec<Update> = (0..2).filter_map(|_| session.next()).collect();
        if phase == Phase::Loading {
            session.load(file(), None, None);
        }
        session.regenerate();
        assert_eq!(session.phase(), phase);
        session.break_off();
        kept(&session, "first");
    }
    // What was said of the new one is the answer.
    let partly = vec![text("sec"), done(Stop::Cancelled)];
    let (mut session, _) = in_phase(Phase::Answering, false, again(partly));
    let _: Vec<Update> = (0..2).filter_map(|_| session.next()).collect();
    session.regenerate();
    all(&mut session);
    kept(&session, "sec");
}

fn change(session: &Session<Scripted>, name: &str, value: &str) -> Change {
    session.config().with(find(name).unwrap(), value).unwrap()
}

#[test]
fn an_engine_that_does_not_stop_is_replaced_soon_and_at_the_second_time_at_once() {
    for (again, heard) in [(true, vec![]), (false, silence(STOPPING_TICKS))] {
        for (said, updates) in [
            (
                vec![],
                ["TakenBack Cancelled", "Notice", "Ready"].as_slice(),
            ),
            (vec![text("a")], &["Text", "BrokenOff", "Notice", "Ready"]),
        ] {
            let rest = [said.clone(), heard.clone()].concat();
            let (mut session, world) = in_phase(Phase::Answering, false, rest);
            let before: Vec<Update> = said.iter().filter_map(|_| session.next()).collect();
            session.cancel();
            assert!(session.is_stopping());
            assert_eq!(world.borrow().sent.last(), Some(&Request::Cancel));
            if again {
                session.cancel();
            }
            let got = [before, all(&mut session)].concat();
            assert_eq!(names(&got), updates);
            assert_eq!(session.messages().len(), 2 * said.len());
        }
    }
}

#[test]
fn an_engine_that_owes_nothing_may_be_silent() {
    let (mut session, _) = in_phase(Phase::Ready, false, vec![text("x")]);
    for _ in 0..2 * SILENT_TICKS {
        session.tick();
    }
    assert_eq!(session.phase(), Phase::Ready);
    assert!(session.updates.is_empty());
}

#[test]
fn a_third_death_in_a_row_ends_it_and_the_next_question_is_told_so() {
    let dies = || vec![ready(), dead()];
    let (mut session, world) = session_with(vec![dies(), dies(), dies()]);
    session.load_first(file(), None);
    session.ask("q");
    let updates = all(&mut session);
    assert_eq!(
        names(&updates),
        ["Ready", "Notice", "Ready", "Notice", "Ready", "Refused q"]
    );
    let Some(Update::Refused { error, .. }) = updates.last() else {
        panic!("{updates:?}")
    };
    assert!(error.contains("SIGSEGV, 3 times in a row"), "{error}");
    session.ask("q");
    assert_eq!(names(&all(&mut session)), ["TakenBack NoEngine"]);
    // The user asks for it: it is tried again, three times.
    world.borrow_mut().scripts.push_back(vec![ready()]);
    session.load(file(), None, None);
    assert_eq!(names(&all(&mut session)), ["Ready"]);
}

#[test]
fn an_engine_for_which_memory_runs_out_unasked_is_not_started_for_ever() {
    let ends = || vec![ready(), exhausted()];
    let (mut session, _) = session_with(vec![ends(), ends(), ends()]);
    session.load_first(file(), None);
    let updates: Vec<Update> = (0..64).filter_map(|_| session.try_next()).collect();
    assert_eq!(
        names(&updates),
        ["Ready", "Notice", "Ready", "Notice", "Ready", "Refused"]
    );
    assert_eq!(session.phase(), Phase::Gone);
}

#[test]
fn an_engine_in_the_place_of_another_takes_the_conversation_back() {
    let heard = vec![text("first"), done(Stop::EndOfTurn), dead()];
    let (mut session, world) = in_phase(Phase::Answering, false, heard);
    let _: Vec<Update> = (0..64).filter_map(|_| session.try_next()).collect();
    assert_eq!(session.phase(), Phase::Ready);
    let messages = session.transcript();
    assert_eq!(
        world.borrow().sent.last(),
        Some(&Request::Recall { messages })
    );
}

#[test]
fn deaths_between_which_there_was_an_answer_are_not_in_a_row() {
    let answered = || vec![ready(), text("a"), done(Stop::EndOfTurn), dead()];
    let (mut session, _) = session_with(vec![answered(), answered(), answered(), answered()]);
    session.load_first(file(), None);
    for _ in 0..3 {
        session.ask("q");
        all(&mut session);
        assert_eq!(session.phase(), Phase::Ready);
        // The engine dies while nothing is asked.
        assert_eq!(names(&[session.try_next().unwrap()]), ["Notice"]);
    }
}

#[test]
fn who_waits_for_pieces_of_an_engine_that_dies_hears_of_it() {
    for asks in [
        Session::<Scripted>::list_pieces,
        |session: &mut Session<Scripted>| session.give_piece(PieceKey([0; 32])),
    ] {
        let scripts = vec![vec![ready(), dead()], vec![ready()]];
        let (mut session, _world) = session_with(scripts);
        session.load_first(file(), None);
        assert_eq!(session.next(), Some(Update::Ready));
        assert!(asks(&mut session));
        let next = session.next_within(Duration::MAX);
        assert_eq!(next, Some(Update::Evaluated(Evaluated::Lost)));
        assert_eq!(names(&all(&mut session)), ["Notice", "Ready"]);
    }
}

#[test]
fn no_process_is_a_refusal_and_gives_the_question_back() {
    let (mut session, _) = session_with(vec![vec![ready(), dead()]]);
    session.load_first(file(), None);
    session.ask("q");
    assert_eq!(names(&all(&mut session)), ["Ready", "Notice", "Refused q"]);
    assert_eq!(session.phase(), Phase::Gone);
}

#[test]
fn what_is_too_long_for_the_engine_is_refused_with_both_numbers() {
    let (mut session, world) = in_phase(Phase::Ready, false, vec![]);
    world.borrow_mut().too_long = true;
    session.ask("q");
    assert!(session.render());
    let updates = all(&mut session);
    assert_eq!(names(&updates), ["TakenBack Failed", "NotRendered"]);
    let told = format!("{updates:?}");
    assert!(told.contains("9 MiB") && told.contains("1 MiB"), "{told}");
    assert_eq!(session.phase(), Phase::Ready);
}

#[test]
fn an_answer_without_end_is_cut_and_said_so() {
    let piece = "x".repeat(400 << 10);
    let mut script: Vec<Heard> = (0..100).map(|_| text(&piece)).collect();
    script.push(done(Stop::Cancelled));
    let (mut session, world) = in_phase(Phase::Answering, false, script);
    let updates = all(&mut session);
    let limit = usize::try_from(Budget::of(None).answer_bytes).unwrap();
    let kept = session.messages().last().map_or(0, |m| m.text.len());
    assert!(kept <= limit && kept + piece.len() > limit, "{kept}");
    let Some(Update::Done(stats)) = updates.last() else {
        panic!("{:?}", names(&updates))
    };
    assert_eq!(stats.stop, Stop::TooLong);
    let sent = &world.borrow().sent;
    assert_eq!(sent.iter().filter(|r| **r == Request::Cancel).count(), 1);
}

#[test]
fn results_are_waited_for_and_a_death_ends_the_waiting() {
    let rendered = Event::Rendered {
        text: "<s>".to_owned(),
        tokens: vec![1],
    };
    let (mut session, _) = in_phase(
        Phase::Ready,
        false,
        vec![
            Heard::Event(Event::Counted(vec![3])),
            Heard::Event(rendered),
            dead(),
        ],
    );
    assert!(session.count() && session.render() && session.measure(Workload::default()));
    let updates = all(&mut session);
    assert_eq!(
        names(&updates),
        ["Counted", "Rendered", "NotRendered", "Notice", "Ready"]
    );
    let (mut session, _) = in_phase(Phase::Gone, false, vec![]);
    assert!(!session.size("a".to_owned()) && !session.size_next("a".to_owned()));
    assert!(!session.count() && !session.render() && !session.measure(Workload::default()));
}

#[test]
fn a_message_is_sized_by_itself_and_as_the_next_one() {
    let size = Size {
        message_tokens: Some(3),
        refused: None,
    };
    let sized = || Heard::Event(Event::Sized(size.clone()));
    let rest = vec![text("A"), done(Stop::EndOfTurn), sized(), sized(), dead()];
    let (mut session, world) = in_phase(Phase::Answering, false, rest);
    all(&mut session);
    assert!(session.size("b".to_owned()) && session.size_next("b".to_owned()));
    let updates = [session.next(), session.next()];
    assert!(
        updates
            .iter()
            .all(|u| *u == Some(Update::Sized(size.clone())))
    );
    let sent = world.borrow().sent.clone();
    let [
        ..,
        Request::Size { messages: alone },
        Request::Size { messages: next },
    ] = &sent[..]
    else {
        panic!("{sent:?}")
    };
    assert_eq!((alone.len(), next.len()), (1, 3));
    assert_eq!(alone.last(), next.last());
    // One that is too long to be sent is told as one that the engine refuses.
    assert!(session.size("b".to_owned()));
    assert_eq!(
        names(&all(&mut session)),
        ["NotRendered", "Notice", "Ready"]
    );
    world.borrow_mut().too_long = true;
    assert!(session.size("b".to_owned()));
    let updates = all(&mut session);
    let [
        Update::Sized(Size {
            message_tokens: None,
            refused: Some(TurnError::TooLong { .. }),
        }),
    ] = &updates[..]
    else {
        panic!("{updates:?}")
    };
}

#[test]
fn the_first_models_checksum_is_not_the_seconds() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let loads = Rc::clone(&seen);
    let start = move |load: Load| -> Result<Scripted, StartError> {
        loads.borrow_mut().push(load.sha256);
        Err(Error::from(ErrorKind::OutOfMemory).into())
    };
    let mut config = Config::default();
    config.start.sha256 = Some("ab".to_owned());
    let mut session = Session::new(Host::Command, config, Budget::of(None), Box::new(start));
    session.load_first(file(), None);
    session.load(file(), None, None);
    assert_eq!(*seen.borrow(), [Some("ab".to_owned()), None]);
}

#[test]
fn progress_is_passed_on_and_never_waited_for_twice() {
    let progress = Event::Progress(Progress {
        stage: Stage::Reading,
        done_bytes: 1,
        total_bytes: 2,
        bytes_per_s: 0,
    });
    let (mut session, _) = in_phase(Phase::Loading, false, vec![Heard::Event(progress), ready()]);
    let first = session.try_next();
    assert!(matches!(first, Some(Update::Progress(_))), "{first:?}");
    assert_eq!(session.try_next(), Some(Update::Ready));
    assert_eq!(session.try_next(), None);
    assert_eq!(session.next(), None);
}
