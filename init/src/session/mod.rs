//! A conversation with an engine that may die: one state machine, of which the
//! prompt, the one-turn mode and the measurements are faces. Whatever happens to
//! the engine, each question gets exactly one end: an answer, or itself back.
//!
//! | state | what it holds | goes to |
//! |---|---|---|
//! | `Idle` | nothing: no model was chosen | `Loading` |
//! | `Loading` | an engine, and whether a question waits for it | `Ready`, `Answering`, `Gone`; itself with another engine |
//! | `Ready` | an engine and what it loaded | `Answering`, `Loading` |
//! | `Answering` | these, and the answer so far | `Ready`, `Loading`, `Gone` |
//! | `Gone` | why there is no engine | `Loading` |

mod peer;
#[cfg(test)]
mod tests;
mod transcript;

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use protocol::memory::Budget;
use protocol::{
    Change, ChatParams, Config, Event, Load, Measured, Message, ModelInfo, Progress, Request, Role,
    Sampling, Stop, TextKind, TooLong, TurnError, TurnStats, When,
};
use rustix::event::PollFlags;

use crate::disk::ModelFile;
use crate::grammar;
use crate::supervisor::Engine;
pub(crate) use peer::{Heard, Peer, Wait};
pub(crate) use transcript::Transcript;

/// An engine that dies this often in a row, without an answer between, is not
/// started again until the user asks for it.
const DEATHS_MAX: u32 = 3;

/// What the face should show.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Update {
    /// Loading goes on.
    Progress(Progress),
    /// The model can answer.
    Ready,
    /// No answers until another model, or other parameters, are chosen.
    Refused {
        /// Why, and what to do.
        error: String,
        /// The question that waited; it is not in the transcript any more.
        question: Option<String>,
    },
    /// One line to know.
    Notice(String),
    /// The prompt's new tokens are being evaluated: so many of so many.
    Prefill(u32, u32),
    /// A piece of the answer.
    Text(TextKind, String),
    /// The answer is whole, and in the transcript.
    Done(TurnStats),
    /// The answer ended because the engine died; what was said is kept.
    BrokenOff,
    /// The question was taken back out of the transcript.
    TakenBack {
        /// Why.
        reason: Reason,
        /// What the user had said.
        question: String,
    },
    /// The tokens of the conversation up to the end of each message.
    Counted(Vec<u32>),
    /// The transcript could not be rendered, for the reason given.
    NotRendered(String),
    /// The transcript as the model sees it.
    Rendered {
        /// Text.
        text: String,
        /// Token ids.
        tokens: Vec<i32>,
    },
    /// What [`Session::measure`] asked for.
    Measured(Measured),
}

/// Why a question was taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The user stopped it before a word was said.
    Cancelled,
    /// There is no engine to ask, for the reason given.
    NoEngine(String),
    /// It would fit if the conversation were shorter.
    TooLong(String),
    /// The turn failed.
    Failed(String),
}

/// What a session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No model was chosen.
    Idle,
    /// A model is being loaded.
    Loading,
    /// It waits for a question.
    Ready,
    /// It answers.
    Answering,
    /// The model was refused, or its engine died too often.
    Gone,
}

/// A running engine with a model.
#[derive(Debug)]
struct Loaded<P> {
    peer: P,
    info: Box<ModelInfo>,
    /// Requests besides turns that have not been answered.
    asked: usize,
}

#[derive(Debug)]
enum State<P> {
    Idle,
    Loading { peer: P, waiting: bool },
    Ready(Loaded<P>),
    Answering { loaded: Loaded<P>, answer: Answer },
    Gone { why: String },
}

/// An answer so far.
#[derive(Debug)]
struct Answer {
    message: Message,
    bytes: u64,
    /// It was longer than this machine holds.
    cut: bool,
}

impl Answer {
    fn new() -> Self {
        Self {
            message: Message::new(Role::Assistant, ""),
            bytes: 0,
            cut: false,
        }
    }
}

/// Starts engines.
type Starter<P> = Box<dyn FnMut(Load) -> io::Result<P>>;

/// A conversation.
pub(crate) struct Session<P = Engine> {
    config: Config,
    budget: Budget,
    start: Starter<P>,
    model: Option<Chosen>,
    state: State<P>,
    transcript: Transcript,
    deaths: u32,
    last_stats: Option<TurnStats>,
    updates: VecDeque<Update>,
}

/// The model in use.
struct Chosen {
    file: ModelFile,
    sha256: Option<String>,
}

impl Session {
    /// A conversation without a model yet, with engines that are processes.
    pub(crate) fn new(config: Config, budget: Budget) -> Self {
        Self::with_engines(config, budget, Box::new(Engine::start))
    }
}

impl<P: Peer> Session<P> {
    fn with_engines(config: Config, budget: Budget, start: Starter<P>) -> Self {
        Self {
            config,
            budget,
            start,
            model: None,
            state: State::Idle,
            transcript: Transcript::default(),
            deaths: 0,
            last_stats: None,
            updates: VecDeque::new(),
        }
    }

    /// Parameters in force.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// How much memory each thing may take.
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// What it is doing.
    pub(crate) fn phase(&self) -> Phase {
        match self.state {
            State::Idle => Phase::Idle,
            State::Loading { .. } => Phase::Loading,
            State::Ready(_) => Phase::Ready,
            State::Answering { .. } => Phase::Answering,
            State::Gone { .. } => Phase::Gone,
        }
    }

    /// The loaded model.
    pub(crate) fn info(&self) -> Option<&ModelInfo> {
        match &self.state {
            State::Ready(loaded) | State::Answering { loaded, .. } => Some(&loaded.info),
            State::Idle | State::Loading { .. } | State::Gone { .. } => None,
        }
    }

    /// The model in use, or being loaded.
    pub(crate) fn model(&self) -> Option<&Path> {
        self.model.as_ref().map(|model| model.file.path.as_path())
    }

    /// The conversation so far, the system prompt first if there is one.
    pub(crate) fn transcript(&self) -> Vec<Message> {
        self.transcript.after(&self.config.chat.system)
    }

    /// The conversation so far, without the system prompt.
    pub(crate) fn messages(&self) -> &[Message] {
        self.transcript.messages()
    }

    /// Counts of the last turn.
    pub(crate) fn last_stats(&self) -> Option<&TurnStats> {
        self.last_stats.as_ref()
    }

    /// Text of the grammar that answers must obey under `chat`.
    ///
    /// # Errors
    /// One line: why there is none, although one is asked for.
    pub(crate) fn grammar(&self, chat: &ChatParams) -> Result<Option<String>, String> {
        grammar::wanted(chat, self.model())
    }

    /// Loads `file`, whose SHA-256 must be `sha256` if that is given, in a new
    /// engine; the conversation stays.
    pub(crate) fn load(&mut self, file: ModelFile, sha256: Option<String>) {
        self.model = Some(Chosen { file, sha256 });
        self.deaths = 0;
        let waiting = self.leave_engine();
        self.start_engine(waiting);
    }

    /// Loads the model that was chosen at the start, whose checksum the
    /// parameters may give.
    pub(crate) fn load_first(&mut self, file: ModelFile) {
        let sha256 = self.config.start.sha256.clone();
        self.load(file, sha256);
    }

    /// There is no engine to be had, for the reason given.
    pub(crate) fn refuse(&mut self, why: String) {
        let waiting = self.leave_engine();
        self.give_up(why, waiting);
    }

    /// Puts a changed parameter in force, loading the model again if it acts on
    /// that.
    pub(crate) fn apply(&mut self, change: Change) {
        self.config = change.config;
        if change.param.when == When::Reload && self.model.is_some() {
            self.deaths = 0;
            let waiting = self.leave_engine();
            self.start_engine(waiting);
        }
    }

    /// Puts other parameters of the conversation in force.
    pub(crate) fn set_chat(&mut self, chat: ChatParams) {
        self.config.chat = chat;
    }

    /// Puts other parameters of drawing in force.
    pub(crate) fn set_sampling(&mut self, sampling: Sampling) {
        self.config.sampling = sampling;
    }

    /// Takes the user's message and has it answered as soon as can be.
    pub(crate) fn ask(&mut self, text: impl Into<String>) {
        if self.phase() == Phase::Answering || self.is_waiting() {
            self.updates.push_back(Update::TakenBack {
                reason: Reason::Failed("another message is being answered".to_owned()),
                question: text.into(),
            });
            return;
        }
        self.transcript.ask(text);
        self.answer_question();
    }

    /// Answers the last user message again; `false` if there is none.
    pub(crate) fn regenerate(&mut self) -> bool {
        if self.phase() == Phase::Answering || !self.transcript.reopen() {
            return false;
        }
        self.answer_question();
        true
    }

    /// Takes back the last user message and its answer; returns its text.
    /// Nothing can be taken back while it is being answered.
    pub(crate) fn undo(&mut self) -> Option<String> {
        if self.phase() == Phase::Answering {
            return None;
        }
        self.stop_waiting();
        self.transcript.take_back()
    }

    /// Forgets the oldest user message and its answer; returns its text.
    pub(crate) fn drop_oldest(&mut self) -> Option<String> {
        if self.phase() == Phase::Answering {
            return None;
        }
        let dropped = self.transcript.drop_oldest();
        if !self.transcript.is_open() {
            self.stop_waiting();
        }
        dropped
    }

    /// Forgets the conversation.
    pub(crate) fn clear(&mut self) {
        if self.phase() != Phase::Answering {
            self.stop_waiting();
            self.transcript.clear();
        }
    }

    /// Ends the answer under way, or takes back a message that still waits for
    /// the model (its text is returned).
    pub(crate) fn cancel(&mut self) -> Option<String> {
        match &mut self.state {
            State::Answering { loaded, .. } => {
                // A request of no length is never too long.
                let _ = loaded.peer.send(&Request::Cancel);
                None
            }
            State::Loading { waiting: true, .. } => self.undo(),
            State::Idle | State::Loading { .. } | State::Ready(_) | State::Gone { .. } => None,
        }
    }

    /// Has `typed` evaluated ahead, as the next message so far.
    pub(crate) fn draft(&mut self, typed: &str) {
        let mut messages = self.transcript();
        messages.push(Message::new(Role::User, typed));
        if let State::Ready(loaded) = &mut self.state {
            // What is too long to be evaluated ahead is refused when it is sent.
            let _ = loaded.peer.send(&Request::Draft { messages });
        }
    }

    /// Has the conversation rendered and tokenized; `false` if there is no
    /// model ready.
    pub(crate) fn render(&mut self) -> bool {
        let messages = self.transcript();
        self.request(&Request::Render { messages })
    }

    /// Has the tokens of every beginning of the conversation counted; `false`
    /// if there is no model ready.
    pub(crate) fn count(&mut self) -> bool {
        let messages = self.transcript();
        self.request(&Request::Count { messages })
    }

    /// Has the evaluation of `prefill_tokens` and the generation of
    /// `decode_tokens` measured; `false` if there is no model ready.
    pub(crate) fn measure(&mut self, prefill_tokens: u32, decode_tokens: u32) -> bool {
        let sampling = self.config.sampling.clone();
        self.request(&Request::Measure {
            prefill_tokens,
            decode_tokens,
            sampling,
        })
    }

    /// A message waits for the model to be loaded.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Loading { waiting: true, .. })
    }

    /// What to poll, and for what, to learn when [`Session::try_next`] would
    /// return something.
    pub(crate) fn poll_fds(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        self.peer().map(Peer::poll_fds).unwrap_or_default()
    }

    /// What has happened next; waits for it. `None` when nothing can happen
    /// any more unless something is asked for.
    pub(crate) fn next(&mut self) -> Option<Update> {
        loop {
            if let Some(update) = self.updates.pop_front() {
                return Some(update);
            }
            let expects = match &self.state {
                State::Loading { .. } | State::Answering { .. } => true,
                State::Ready(loaded) => loaded.asked > 0,
                State::Idle | State::Gone { .. } => false,
            };
            if !expects {
                return None;
            }
            self.listen(Wait::Yes);
        }
    }

    /// What has happened next, `None` if nothing has; never waits.
    pub(crate) fn try_next(&mut self) -> Option<Update> {
        while self.updates.is_empty() && self.listen(Wait::No) {}
        self.updates.pop_front()
    }

    /// Hears one event; `false` if there is none.
    fn listen(&mut self, wait: Wait) -> bool {
        let Some(peer) = self.peer_mut() else {
            return false;
        };
        match peer.next(wait) {
            Heard::Event(event) => self.on_event(event),
            Heard::Nothing => return false,
            Heard::Gone(how) => self.on_death(&how),
        }
        true
    }

    fn peer(&self) -> Option<&P> {
        match &self.state {
            State::Loading { peer, .. } => Some(peer),
            State::Ready(loaded) | State::Answering { loaded, .. } => Some(&loaded.peer),
            State::Idle | State::Gone { .. } => None,
        }
    }

    fn peer_mut(&mut self) -> Option<&mut P> {
        match &mut self.state {
            State::Loading { peer, .. } => Some(peer),
            State::Ready(loaded) | State::Answering { loaded, .. } => Some(&mut loaded.peer),
            State::Idle | State::Gone { .. } => None,
        }
    }

    /// Asks for something that is not a turn.
    fn request(&mut self, request: &Request) -> bool {
        let State::Ready(loaded) = &mut self.state else {
            return false;
        };
        match loaded.peer.send(request) {
            Ok(()) => loaded.asked = loaded.asked.saturating_add(1),
            Err(e) => {
                let error = too_long(e).to_string();
                self.updates.push_back(Update::NotRendered(error));
            }
        }
        true
    }

    /// Lets the engine go, if there is one: its memory is the next one's. What
    /// had been said of an answer is kept; returns whether a question still waits
    /// for one.
    fn leave_engine(&mut self) -> bool {
        let asked = match &self.state {
            State::Ready(loaded) | State::Answering { loaded, .. } => loaded.asked,
            State::Idle | State::Loading { .. } | State::Gone { .. } => 0,
        };
        for _ in 0..asked {
            let why = "the engine was replaced before it could say; ask again";
            self.updates.push_back(Update::NotRendered(why.to_owned()));
        }
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Answering { answer, .. } => {
                let said = self.transcript.answer(answer.message);
                if said {
                    self.updates.push_back(Update::BrokenOff);
                }
                !said
            }
            State::Loading { waiting, .. } => waiting,
            State::Idle | State::Ready(_) | State::Gone { .. } => false,
        }
    }

    /// Starts an engine that loads the model.
    fn start_engine(&mut self, waiting: bool) {
        let Some(model) = &self.model else {
            return;
        };
        let load = Load {
            path: model.file.path.clone(),
            bytes: model.file.bytes,
            sha256: model.sha256.clone(),
            params: self.config.engine.clone(),
            budget: self.budget,
        };
        match (self.start)(load) {
            Ok(peer) => self.state = State::Loading { peer, waiting },
            Err(e) => self.give_up(
                format!("the engine cannot be started as a process: {e}"),
                waiting,
            ),
        }
    }

    /// There is no engine any more, and no other is started.
    fn give_up(&mut self, why: String, waiting: bool) {
        self.state = State::Gone { why: why.clone() };
        let question = waiting.then(|| self.transcript.take_back()).flatten();
        let error = why;
        self.updates.push_back(Update::Refused { error, question });
    }

    fn stop_waiting(&mut self) {
        if let State::Loading { waiting, .. } = &mut self.state {
            *waiting = false;
        }
    }

    /// Has the open question answered, now or when the model is ready.
    fn answer_question(&mut self) {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle => {
                let why = "there is no model yet: /model lists those on the disks";
                self.take_back(Reason::NoEngine(why.to_owned()));
            }
            State::Gone { why } => {
                self.take_back(Reason::NoEngine(why.clone()));
                self.state = State::Gone { why };
            }
            State::Loading { peer, .. } => {
                let waiting = true;
                self.state = State::Loading { peer, waiting };
            }
            State::Ready(loaded) => self.send_turn(loaded),
            answering @ State::Answering { .. } => self.state = answering,
        }
    }

    fn send_turn(&mut self, mut loaded: Loaded<P>) {
        let sent = self.grammar(&self.config.chat).and_then(|grammar| {
            let turn = Request::Turn {
                messages: self.transcript(),
                sampling: self.config.sampling.clone(),
                grammar,
            };
            let sent = loaded.peer.send(&turn);
            sent.map_err(|e| too_long(e).to_string())
        });
        match sent {
            Ok(()) => {
                let answer = Answer::new();
                self.state = State::Answering { loaded, answer };
            }
            Err(error) => {
                self.state = State::Ready(loaded);
                self.take_back(Reason::Failed(error));
            }
        }
    }

    fn take_back(&mut self, reason: Reason) {
        let question = self.transcript.take_back().unwrap_or_default();
        self.updates
            .push_back(Update::TakenBack { reason, question });
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Progress(progress) => self.updates.push_back(Update::Progress(progress)),
            Event::Notice(line) => self.updates.push_back(Update::Notice(line)),
            Event::Prefill { done, total } => self.updates.push_back(Update::Prefill(done, total)),
            Event::Measured(measured) => self.on_result(Update::Measured(measured)),
            Event::Rendered { text, tokens } => self.on_result(Update::Rendered { text, tokens }),
            Event::Counted(counts) => self.on_result(Update::Counted(counts)),
            Event::NotRendered(error) => self.on_result(Update::NotRendered(error.to_string())),
            Event::Ready(info) => self.on_ready(info),
            Event::Refused { error } => self.refuse(error),
            Event::Text { kind, text } => self.on_text(kind, text),
            Event::TurnDone(stats) => self.on_turn_done(stats),
            Event::TurnFailed(error) => self.on_turn_failed(&error),
        }
    }

    /// A request that is not a turn has been answered.
    fn on_result(&mut self, update: Update) {
        if let State::Ready(loaded) | State::Answering { loaded, .. } = &mut self.state {
            loaded.asked = loaded.asked.saturating_sub(1);
        }
        self.updates.push_back(update);
    }

    fn on_ready(&mut self, info: Box<ModelInfo>) {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Loading { peer, waiting } => {
                let asked = 0;
                let loaded = Loaded { peer, info, asked };
                self.state = State::Ready(loaded);
                self.updates.push_back(Update::Ready);
                if waiting {
                    self.answer_question();
                }
            }
            // An engine that has nothing to be ready with: it says so twice.
            other => self.state = other,
        }
    }

    fn on_text(&mut self, kind: TextKind, text: String) {
        let limit = self.budget.answer_bytes;
        let State::Answering { loaded, answer } = &mut self.state else {
            return;
        };
        if answer.cut {
            return;
        }
        let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
        answer.bytes = answer.bytes.saturating_add(bytes);
        if answer.bytes > limit {
            answer.cut = true;
            // A request of no length is never too long.
            let _ = loaded.peer.send(&Request::Cancel);
            self.updates.push_back(Update::Notice(format!(
                "the answer is cut at {} MiB, the most that this machine keeps of one",
                limit >> 20
            )));
            return;
        }
        let part = match kind {
            TextKind::Answer => &mut answer.message.text,
            TextKind::Reasoning => answer.message.reasoning.get_or_insert_default(),
        };
        part.push_str(&text);
        self.updates.push_back(Update::Text(kind, text));
    }

    fn on_turn_done(&mut self, stats: TurnStats) {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Answering { loaded, answer } => {
                self.deaths = 0;
                self.state = State::Ready(loaded);
                if self.transcript.answer(answer.message) {
                    self.last_stats = Some(stats.clone());
                    self.updates.push_back(Update::Done(stats));
                } else if stats.stop == Stop::Cancelled {
                    self.take_back(Reason::Cancelled);
                } else {
                    let why = "the model ended its answer without a word; ask otherwise";
                    self.take_back(Reason::Failed(why.to_owned()));
                }
            }
            other => self.state = other,
        }
    }

    fn on_turn_failed(&mut self, error: &TurnError) {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Answering { loaded, .. } => {
                self.state = State::Ready(loaded);
                let line = error.to_string();
                self.take_back(match error {
                    TurnError::ContextFull { .. } => Reason::TooLong(line),
                    _ => Reason::Failed(line),
                });
            }
            // A measurement that failed.
            State::Ready(loaded) => {
                self.state = State::Ready(loaded);
                self.on_result(Update::NotRendered(error.to_string()));
            }
            other => self.state = other,
        }
    }

    fn on_death(&mut self, how: &str) {
        self.deaths = self.deaths.saturating_add(1);
        // If nothing had been said, the new engine is asked once more.
        let waiting = self.leave_engine();
        if self.deaths >= DEATHS_MAX {
            let why = format!(
                "the engine {how}, {DEATHS_MAX} times in a row: it is not started again; /model \
                 loads a model"
            );
            self.give_up(why, waiting);
            return;
        }
        self.updates.push_back(Update::Notice(format!(
            "the engine {how}; it is restarted and the conversation is kept"
        )));
        self.start_engine(waiting);
    }
}

fn too_long(refused: TooLong) -> TurnError {
    TurnError::TooLong {
        bytes: refused.bytes,
        limit: u64::from(refused.limit),
    }
}

/// Why an answer ended, in words for the user; `None` if it just ended.
pub(crate) fn stop_text(stop: Stop) -> Option<&'static str> {
    match stop {
        Stop::EndOfTurn => None,
        Stop::Cancelled => Some("stopped"),
        Stop::MaxTokens => Some("cut at max_tokens"),
        Stop::ContextFull => Some("cut: the context is full"),
    }
}
