//! Batches, answered by engines that shuffle, refuse and die.

use std::cell::RefCell;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use protocol::memory::Budget;
use protocol::{Config, Event, ModelInfo, Request, Stop, TooLong};

use super::lines::tests::pipe_of;
use super::*;
use crate::disk::{ModelFile, Origin};
use crate::peer::{Heard, Wait};
use crate::session::tests::{model_info, stats};

/// What all engines have been asked: each prompt, and how many were asked at once.
#[derive(Default)]
struct World {
    asked: Vec<String>,
    most: usize,
    started: usize,
}

/// Answers with the prompt itself, the latest first. It dies of "die", and of "die once"
/// the first time.
struct Echo {
    world: Rc<RefCell<World>>,
    heard: VecDeque<Heard>,
    orders: Vec<Order>,
}

fn prompt(order: &Order) -> String {
    order.messages.last().unwrap().text.clone()
}

impl Peer for Echo {
    fn send(&mut self, request: &Request) -> Result<(), TooLong> {
        if let Request::Answer(order) = request {
            if prompt(order) == "too long" {
                let (bytes, limit) = (9 << 20, 1 << 20);
                return Err(TooLong { bytes, limit });
            }
            self.world.borrow_mut().asked.push(prompt(order));
            self.orders.push((**order).clone());
        }
        Ok(())
    }

    fn next(&mut self, _wait: Wait) -> Heard {
        if let Some(heard) = self.heard.pop_front() {
            return heard;
        }
        let mut world = self.world.borrow_mut();
        world.most = world.most.max(self.orders.len());
        let dies = |order: &Order| {
            let text = prompt(order);
            let before = world.asked.iter().filter(|asked| **asked == text).count();
            text == "die" || text == "die once" && before == 1
        };
        if self.orders.iter().any(dies) {
            return Heard::Gone("was killed by SIGSEGV".to_owned());
        }
        let Some(order) = self.orders.pop() else {
            return Heard::Nothing;
        };
        let text = prompt(&order);
        let result = match text.as_str() {
            "fail" => Err(TurnError::Evaluation("it fails".to_owned())),
            _ => Ok(Box::new(spoken(&text))),
        };
        Heard::Event(Event::Answered {
            id: order.id,
            result,
        })
    }

    fn poll_fds(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        Vec::new()
    }
}

fn spoken(text: &str) -> Spoken {
    Spoken {
        text: text.to_owned(),
        reasoning: String::new(),
        stats: stats(Stop::EndOfTurn),
    }
}

fn session() -> (Session<Echo>, Rc<RefCell<World>>) {
    let world = Rc::new(RefCell::new(World::default()));
    let starts = Rc::clone(&world);
    let start = move |_| {
        starts.borrow_mut().started += 1;
        let info = ModelInfo {
            parallel: 4,
            ..model_info()
        };
        let heard = VecDeque::from([Heard::Event(Event::Ready(Box::new(info)))]);
        let world = Rc::clone(&starts);
        Ok(Echo {
            world,
            heard,
            orders: Vec::new(),
        })
    };
    let budget = Budget::of(None);
    let mut session = Session::new(Host::Command, Config::default(), budget, Box::new(start));
    let file = ModelFile {
        path: "/models/m.gguf".into(),
        name: "m.gguf".to_owned(),
        bytes: 1,
        rest: Vec::new(),
        device: None,
        label: None,
        origin: Origin::Given,
    };
    session.load(file, None, None);
    (session, world)
}

fn input(lines: &str, skip: u64) -> Input {
    Input {
        lines: Lines::new(pipe_of(lines.as_bytes().to_vec()), 1 << 20, None),
        skip,
        progress: Progress::new(Box::new(io::sink()), Style::Quiet),
    }
}

fn results_of<P: Peer>(
    session: &mut Session<P>,
    lines: &str,
    skip: u64,
) -> (bool, Vec<serde_json::Value>) {
    let mut written = Vec::new();
    let all = run(
        Host::Command,
        session,
        &[],
        input(lines, skip),
        &mut written,
    )
    .unwrap();
    let written = String::from_utf8(written).unwrap();
    let results = written.lines().map(|line| {
        assert!(
            line.starts_with("{\"answered\":"),
            "tools and --resume look for it: {line}"
        );
        serde_json::from_str(line).unwrap()
    });
    (all, results.collect())
}

fn lines_of(prompts: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let line = |prompt: &str| format!("{{\"prompt\":\"{prompt}\",\"id\":\"{prompt}\"}}\n");
    prompts.into_iter().map(|p| line(p.as_ref())).collect()
}

#[test]
fn results_come_in_the_order_of_the_lines_however_many_there_are() {
    let (mut session, world) = session();
    let prompts: Vec<String> = (0..2000).map(|n| n.to_string()).collect();
    let (all, results) = results_of(&mut session, &lines_of(&prompts), 0);
    assert!(all);
    assert_eq!(results.len(), 2000);
    for (prompt, result) in prompts.iter().zip(&results) {
        assert_eq!(
            (&result["text"], &result["id"]),
            (&prompt.as_str().into(), &prompt.as_str().into())
        );
    }
    let world = world.borrow();
    assert_eq!(
        world.most, 8,
        "the engine has its next prompts, and no more"
    );
    assert_eq!(world.started, 1);
}

#[test]
fn a_line_that_fails_has_its_error_and_the_others_their_answers() {
    let (mut session, _) = session();
    let lines = format!(
        "{}\nnot JSON\n{{\"id\":7,\"promt\":\"x\"}}\n{}",
        lines_of(["a", "fail", "too long"]),
        lines_of(["b"])
    );
    let (all, results) = results_of(&mut session, &lines, 0);
    assert!(!all);
    let texts: Vec<&str> = results
        .iter()
        .map(|r| r["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts, ["a", "", "", "", "", "b"]);
    let error = |at: usize| results[at]["error"].as_str().unwrap();
    assert!(error(1).contains("it fails"), "{}", error(1));
    assert!(error(2).contains("[ZE-33]"), "{}", error(2));
    assert!(error(3).starts_with("line 5: "), "{}", error(3));
    assert_eq!(results[4]["id"], 7);
}

#[test]
fn an_engine_that_dies_loses_and_doubles_no_line_and_its_cause_is_found() {
    let (mut session, world) = session();
    let prompts = [
        "a", "b", "die once", "c", "d", "e", "f", "g", "h", "i", "die", "j", "k",
    ];
    let (all, results) = results_of(&mut session, &lines_of(prompts), 0);
    assert!(!all);
    assert_eq!(results.len(), prompts.len());
    for (prompt, result) in prompts.iter().zip(&results) {
        assert_eq!(result["id"], *prompt);
        assert_eq!(result["answered"], *prompt != "die", "{result}");
    }
    let error = results[10]["error"].as_str().unwrap();
    assert!(error.contains("[ZE-40]"), "{error}");
    assert!(world.borrow().started <= 4);
}

#[test]
fn prompts_that_engines_die_of_end_no_other_however_many_follow_each_other() {
    let (mut session, world) = session();
    let mut prompts = vec!["a"; 20];
    prompts.splice(4..4, ["die"; 7]);
    let (all, results) = results_of(&mut session, &lines_of(&prompts), 0);
    assert!(!all);
    for (prompt, result) in prompts.iter().zip(&results) {
        assert_eq!(result["answered"], *prompt != "die", "{result}");
    }
    assert!(world.borrow().started <= 10, "{}", world.borrow().started);
}

#[test]
fn an_engine_that_dies_of_everything_is_not_started_for_ever() {
    let (mut session, world) = session();
    let (all, results) = results_of(&mut session, &lines_of(["die"; 50]), 0);
    assert!(!all);
    assert_eq!(results.len(), 50);
    let started = world.borrow().started;
    assert!((3..=12).contains(&started), "{started}");
    assert!(results[49]["error"].as_str().unwrap().contains("[ZE-42]"));
}

#[test]
fn what_has_its_result_already_is_passed_over() {
    let (mut session, world) = session();
    let lines = format!(
        "\n{}not JSON\n\n{}",
        lines_of(["a", "b"]),
        lines_of(["c", "d"])
    );
    let (all, results) = results_of(&mut session, &lines, 4);
    assert!(all);
    assert_eq!(results.len(), 1);
    assert_eq!(results[0]["id"], "d");
    assert_eq!(world.borrow().asked, ["d"]);
}

#[test]
fn texts_that_are_attached_count_as_often_as_they_are_held() {
    let (mut session, _) = session();
    let most = usize::try_from(session.budget().prompt_bytes).unwrap();
    let documents = [Document {
        name: "a".to_owned(),
        text: "a".repeat(most / 4),
    }];
    let mut batch = Batch {
        host: Host::Command,
        session: &mut session,
        documents: &documents,
        held: VecDeque::new(),
        bytes: 0,
        bytes_max: most,
        progress: input("", 0).progress,
        given_up: 0,
        gone: None,
    };
    while batch.has_room() {
        batch.hold(1, Ok(r#"{"prompt":"x"}"#.to_owned()));
    }
    assert_eq!(batch.held.len(), 4);
}

#[test]
fn without_an_engine_every_line_gets_its_result() {
    let start = Box::new(|_| Err(io::Error::from(io::ErrorKind::OutOfMemory).into()));
    let budget = Budget::of(None);
    let mut session = Session::<Echo>::new(Host::Command, Config::default(), budget, start);
    session.refuse("no model: the disks hold none".to_owned());
    let lines = "{\"prompt\": \"a\"}\n\nnot JSON\n{\"prompt\": \"b\"}\n";
    let (all, results) = results_of(&mut session, lines, 0);
    assert!(!all);
    let errors: Vec<&str> = results
        .iter()
        .map(|r| r["error"].as_str().unwrap())
        .collect();
    assert_eq!(errors.len(), 3);
    assert!(errors[0].contains("the disks hold none"), "{errors:?}");
    assert!(errors[1].starts_with("line 3: "), "{errors:?}");
    assert_eq!(errors[2], errors[0]);
}

#[test]
fn a_result_is_written_before_the_next_line_is_there() {
    let (mut session, _) = session();
    let (reader, mut writer) = io::pipe().unwrap();
    let (mut results, result) = io::pipe().unwrap();
    let client = std::thread::spawn(move || {
        let mut told = Vec::new();
        for prompt in ["a", "b", "c"] {
            writer.write_all(lines_of([prompt]).as_bytes()).unwrap();
            let mut line = Vec::new();
            while !line.ends_with(b"\n") {
                let mut byte = [0];
                io::Read::read_exact(&mut results, &mut byte).unwrap();
                line.push(byte[0]);
            }
            told.push(String::from_utf8(line).unwrap());
        }
        told
    });
    let source = std::fs::File::from(std::os::fd::OwnedFd::from(reader));
    let mut input = input("", 0);
    input.lines = Lines::new(source, 1 << 20, None);
    let mut result = result;
    assert!(run(Host::Command, &mut session, &[], input, &mut result).unwrap());
    assert_eq!(client.join().unwrap().len(), 3);
}
