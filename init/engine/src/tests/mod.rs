//! The engine on a real model, over its pipes, as PID 1 uses it: the GGUF of a small
//! chat model that `ZOSIA_TEST_MODEL` names. `tools/test.sh unit` names SmolLM2-135M
//! and runs them; elsewhere they are ignored.

mod corrections;
mod draft_model;
mod experts;
mod kept;
mod lanes;
mod loading;
mod memory;
mod quality;
mod rollback;
mod turns;
mod unbroken;

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::context::Context;
use super::model::Model;
use super::sequence::Sequence;
use super::*;
use chat::{Message, Role};
use protocol::memory::Budget;
use protocol::{
    EngineParams, ModelInfo, Request, Sampling, Switch, TextKind, TurnError, TurnStats, receive,
    send,
};

fn test_model() -> PathBuf {
    let path = std::env::var_os("ZOSIA_TEST_MODEL");
    path.map(PathBuf::from)
        .expect("ZOSIA_TEST_MODEL names a model")
}

pub(crate) fn load_of(path: PathBuf) -> Load {
    Load {
        bytes: std::fs::metadata(&path).map_or(0, |file| file.len()),
        path,
        rest: Vec::new(),
        sha256: None,
        draft: None,
        params: EngineParams {
            threads: Some(1),
            poll: 0,
            ctx_tokens: Some(1024),
            parallel: Some(1),
            speculate: Switch::Off,
            ..EngineParams::default()
        },
        budget: Budget::of(None),
    }
}

/// The file, on a disk.
fn saved(file: &vmtest::GgufFile) -> tempfile::NamedTempFile {
    let mut saved = tempfile::NamedTempFile::new().unwrap();
    saved.write_all(&file.bytes()).unwrap();
    saved
}

/// What `with` makes of the model that `load` names, and of a sequence of its own.
fn with_sequence<R>(
    load: &Load,
    with: impl for<'m> FnOnce(&'m Model<'m>, Sequence<Context<'m>>) -> R,
) -> R {
    with_interrupt(load, |model, sequence, _| with(model, sequence))
}

/// The same, of what interrupts it, too.
fn with_interrupt<R>(
    load: &Load,
    with: impl for<'m> FnOnce(&'m Model<'m>, Sequence<Context<'m>>, &Interrupt) -> R,
) -> R {
    let machine = Machine::look(load).unwrap();
    let mut outbox = Outbox::new(io::sink());
    let interrupt = Arc::new(Interrupt::new());
    let file = File::open(&load.path).unwrap();
    let mut checked = load::check(&machine, vec![file], load, &mut outbox).unwrap();
    let model = checked.load_model(&machine, load, &interrupt, &mut outbox);
    let model = model.unwrap();
    let loaded = checked.finish(&machine, &model, load, &interrupt, &mut outbox);
    with(&model, loaded.unwrap().sequence, &interrupt)
}

/// The ignored test of this path in a process of its own.
pub(crate) fn alone(test: &str) -> std::process::Output {
    let output = run_alone(test, "");
    assert!(output.status.success(), "{output:?}");
    output
}

/// As [`alone`], for a test that attempts something and may end in any way.
pub(crate) fn run_alone(test: &str, attempt: &str) -> std::process::Output {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", test])
        .env("ZOSIA_ATTEMPT", attempt)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
}

fn greedy() -> Sampling {
    Sampling {
        temp: 0.0,
        top_p: 1.0,
        top_k: 0,
        min_p: 0.0,
        repeat_penalty: 1.0,
        seed: Some(1),
        max_tokens: Some(24),
    }
}

/// With the default of its template, SmolLM2-135M answers in French.
fn system() -> Message {
    Message::new(Role::System, "You are a helpful AI assistant.")
}

/// An engine on a thread, and this side of its pipes.
struct Session {
    pipe: UnixStream,
    engine: Option<JoinHandle<ExitCode>>,
    budget: Budget,
    messages: Vec<Message>,
}

impl Session {
    fn start(load: Load) -> Self {
        Self::start_with(load, |_| Ok(None))
    }

    fn start_with(
        load: Load,
        confine: impl FnOnce(u64) -> Result<Option<String>, Unconfined> + Send + 'static,
    ) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_secs(120)))
            .unwrap();
        let input = theirs.try_clone().unwrap();
        let open = |path: &Path| File::open(path).unwrap();
        let model = load.files().map(|(path, _)| open(path));
        let drafts = load.draft_files().iter().map(|file| open(&file.path));
        let model = model.chain(drafts).collect();
        let mut session = Self {
            pipe: ours,
            engine: Some(thread::spawn(move || run(input, theirs, model, confine))),
            budget: load.budget,
            messages: vec![system()],
        };
        session.request(&Request::Load(Box::new(load)));
        session
    }

    fn ready(load: Load) -> (Self, ModelInfo) {
        let mut session = Self::start(load);
        let info = session.wait_until_ready();
        (session, info)
    }

    fn wait_until_ready(&mut self) -> ModelInfo {
        loop {
            match self.event() {
                Event::Ready(info) => return *info,
                Event::Progress(_) | Event::Notice(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn refused(load: Load) -> String {
        let mut session = Self::start(load);
        loop {
            match session.event() {
                Event::Refused { error } => return error,
                Event::Progress(_) | Event::Notice(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn request(&mut self, request: &Request) {
        send(&mut self.pipe, request, self.budget.request_bytes).unwrap();
    }

    fn event(&mut self) -> Event {
        loop {
            let event = receive(&mut self.pipe, self.budget.event_bytes).unwrap();
            // Comes as long as work goes on, however long that is.
            if event != Event::Working {
                return event;
            }
        }
    }

    fn ask(&mut self, text: &str, sampling: Sampling) {
        self.ask_under(None, text, sampling);
    }

    fn ask_under(&mut self, grammar: Option<&str>, text: &str, sampling: Sampling) {
        self.messages.push(Message::new(Role::User, text));
        self.request(&Request::Turn {
            messages: self.messages.clone(),
            sampling,
            grammar: grammar.map(str::to_owned),
        });
    }

    /// What comes until the turn ends. The answer joins the conversation.
    fn answer(&mut self) -> Result<(String, TurnStats), TurnError> {
        let mut answer = String::new();
        loop {
            match self.event() {
                Event::Text { kind, text } => {
                    assert_eq!(kind, TextKind::Answer);
                    assert!(!text.is_empty());
                    answer.push_str(&text);
                }
                Event::Prefill { done, total } => assert!(done <= total),
                Event::TurnDone(stats) => {
                    self.messages.push(Message::new(Role::Assistant, &answer));
                    return Ok((answer, stats));
                }
                Event::TurnFailed(error) => {
                    self.messages.pop();
                    return Err(error);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn tokens_of(&mut self, messages: &[Message]) -> Vec<i32> {
        self.request(&Request::Render {
            messages: messages.to_vec(),
        });
        match self.event() {
            Event::Rendered { tokens, .. } => tokens,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.pipe.shutdown(std::net::Shutdown::Both).unwrap();
        if let Some(engine) = self.engine.take() {
            engine.join().unwrap();
        }
    }
}
