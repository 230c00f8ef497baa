//! A conversation with an engine that may die: one state machine, of which the
//! prompt, the one-turn mode and the measurements are faces. Whatever happens to
//! the engine, each question gets exactly one end: an answer, itself back, or, where it
//! is asked again, the answer that it had before.
//!
//! | state | what it holds | goes to |
//! |---|---|---|
//! | `Idle` | nothing: no model was chosen | `Loading` |
//! | `Loading` | an engine, and whether a question waits for it | `Ready`, `Answering`, `Gone`; itself with another engine |
//! | `Ready` | an engine and what it loaded | `Answering`, `Loading` |
//! | `Answering` | these, and the answer so far | `Ready`, `Loading`, `Gone` |
//! | `Gone` | why there is no engine | `Loading` |

mod engines;
mod pieces;
#[cfg(test)]
pub(crate) mod tests;
mod transcript;
mod update;

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use protocol::memory::Budget;
use protocol::{
    Change, ChatParams, Config, Load, Message, ModelInfo, Order, PartFile, Request, Role, Sampling,
    Size, TooLong, TurnError, TurnStats, When, Workload,
};
use rustix::event::PollFlags;
use sha2::{Digest as _, Sha256};

use crate::constraint;
use crate::disk::ModelFile;
use crate::host::Host;
use crate::peer::{Heard, Peer, StartError, Wait};
pub(crate) use pieces::Evaluated;
pub(crate) use transcript::Transcript;
pub(crate) use update::{Phase, Reason, Update, stop_text, unseen_text};

/// A healthy engine is heard once a second, on the slowest machine once in the time
/// of an operation. Ticks, not a clock, as a machine may be stopped and go on.
const SILENT_TICKS: u32 = 120;
/// The same for one that was asked to end its answer: the user waits.
const STOPPING_TICKS: u32 = 10;

/// A running engine with a model.
#[derive(Debug)]
struct Loaded<P> {
    peer: P,
    info: Box<ModelInfo>,
    /// Requests besides turns that have not been answered.
    asked: usize,
    /// It has been asked for pieces of what is evaluated.
    gives: bool,
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
    /// The user has asked for its end.
    stopping: bool,
}

impl Answer {
    fn new() -> Self {
        Self {
            message: Message::new(Role::Assistant, ""),
            bytes: 0,
            cut: false,
            stopping: false,
        }
    }
}

/// Starts engines.
pub(crate) type Starter<P> = Box<dyn FnMut(Load) -> Result<P, StartError>>;

/// A conversation.
pub(crate) struct Session<P> {
    host: Host,
    config: Config,
    budget: Budget,
    start: Starter<P>,
    model: Option<Chosen>,
    state: State<P>,
    transcript: Transcript,
    deaths: u32,
    /// Ticks since the engine that owes something was last heard.
    silence: u32,
    last_stats: Option<TurnStats>,
    /// Of the next prompt, tokens that the latest draft found evaluated.
    ahead_tokens: u32,
    updates: VecDeque<Update>,
}

/// The model in use.
struct Chosen {
    file: ModelFile,
    sha256: Option<String>,
    draft: Draft,
}

/// The files of the model that guesses ahead, or why there is none; `None`: none is asked
/// for.
pub(crate) type Draft = Option<Result<Vec<PartFile>, String>>;

impl<P: Peer> Session<P> {
    /// A conversation without a model yet, with engines as `start` makes them.
    pub(crate) fn new(host: Host, config: Config, budget: Budget, start: Starter<P>) -> Self {
        Self {
            host,
            config,
            budget,
            start,
            model: None,
            state: State::Idle,
            transcript: Transcript::default(),
            deaths: 0,
            silence: 0,
            last_stats: None,
            ahead_tokens: 0,
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

    /// A digest of what is known of the model in use without its engine's word: its file's
    /// name and length, and its SHA-256 if that was given.
    pub(crate) fn model_digest(&self) -> Option<[u8; 32]> {
        let Chosen { file, sha256, .. } = self.model.as_ref()?;
        let mut digest = Sha256::new();
        for text in [&file.name, sha256.as_deref().unwrap_or_default()] {
            digest.update(text);
            digest.update([0]);
        }
        for bytes in std::iter::once(file.bytes).chain(file.rest.iter().map(|part| part.bytes)) {
            digest.update(bytes.to_le_bytes());
        }
        Some(digest.finalize().into())
    }

    /// Name and, if it is known, SHA-256 of the model that answers.
    pub(crate) fn model_identity(&self) -> Option<(String, Option<String>)> {
        let chosen = self.model.as_ref()?;
        Some((self.info()?.name.clone(), chosen.sha256.clone()))
    }

    /// Ends the answer under way for good, and keeps what was said of it. A question
    /// without a word of an answer is dropped, or gets its earlier answer back.
    pub(crate) fn break_off(&mut self) {
        if self.phase() == Phase::Answering {
            self.leave_engine();
        }
        self.stop_waiting();
        if self.is_open() {
            self.give_back();
        }
    }

    /// The conversation so far, the system prompt first if there is one.
    pub(crate) fn transcript(&self) -> Vec<Message> {
        self.transcript.after(&self.config.chat.system)
    }

    /// The conversation so far, without the system prompt.
    pub(crate) fn messages(&self) -> &[Message] {
        self.transcript.messages()
    }

    /// Tokens of the next prompt that are evaluated ahead; 0 if that is not known.
    pub(crate) fn ahead_tokens(&self) -> u32 {
        self.ahead_tokens
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
        constraint::wanted(chat, self.model())
    }

    /// Loads `file`, whose SHA-256 must be `sha256` if that is given, and `draft` in a new
    /// engine; the conversation stays.
    pub(crate) fn load(&mut self, file: ModelFile, sha256: Option<String>, draft: Draft) {
        self.model = Some(Chosen {
            file,
            sha256,
            draft,
        });
        self.deaths = 0;
        let waiting = self.leave_engine();
        self.start_engine(waiting);
    }

    /// Loads the model that was chosen at the start, whose checksum the
    /// parameters may give.
    pub(crate) fn load_first(&mut self, file: ModelFile, draft: Draft) {
        let sha256 = self.config.start.sha256.clone();
        self.load(file, sha256, draft);
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

    /// Puts these parameters in force, none of which acts on loading.
    pub(crate) fn set_config(&mut self, config: Config) {
        self.config = config;
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
                question: Some(text.into()),
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

    /// Goes on with another conversation, the one that `messages` are.
    pub(crate) fn restore(&mut self, messages: Vec<Message>) {
        if self.phase() != Phase::Answering {
            self.stop_waiting();
            self.transcript.restore(messages);
            self.begin_recall();
        }
    }

    /// Whether the last message is a question that has no answer yet.
    pub(crate) fn is_open(&self) -> bool {
        self.transcript.is_open()
    }

    /// Ends the answer under way, the second time by another engine in the place of
    /// this one, or takes back a message that still waits for the model.
    pub(crate) fn cancel(&mut self) {
        match &mut self.state {
            State::Answering { answer, .. } if answer.stopping => {
                self.replace_engine("is replaced", "ZE-41");
            }
            State::Answering { loaded, answer } => {
                answer.stopping = true;
                self.silence = 0;
                // A request of no length is never too long.
                let _ = loaded.peer.send(&Request::Cancel);
            }
            State::Loading { waiting, .. } if *waiting => {
                *waiting = false;
                self.take_back(Reason::Cancelled);
            }
            State::Idle | State::Loading { .. } | State::Ready(_) | State::Gone { .. } => {}
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

    /// Has `text` sized as a conversation of its own; `false` if there is no model
    /// ready.
    pub(crate) fn size(&mut self, text: String) -> bool {
        self.request_size(vec![Message::new(Role::User, text)])
    }

    /// Has `text` sized as the next message; `false` if there is no model ready.
    pub(crate) fn size_next(&mut self, text: String) -> bool {
        let mut messages = self.transcript();
        messages.push(Message::new(Role::User, text));
        self.request_size(messages)
    }

    fn request_size(&mut self, messages: Vec<Message>) -> bool {
        let State::Ready(loaded) = &mut self.state else {
            return false;
        };
        match loaded.peer.send(&Request::Size { messages }) {
            Ok(()) => loaded.asked = loaded.asked.saturating_add(1),
            Err(e) => self.updates.push_back(Update::Sized(Size {
                message_tokens: None,
                refused: Some(too_long(e)),
            })),
        }
        true
    }

    /// Has the tokens of every beginning of the conversation counted; `false`
    /// if there is no model ready.
    pub(crate) fn count(&mut self) -> bool {
        let messages = self.transcript();
        self.request(&Request::Count { messages })
    }

    /// Has one run of `work` measured; `false` if there is no model ready.
    pub(crate) fn measure(&mut self, work: Workload) -> bool {
        let sampling = self.config.sampling.clone();
        self.request(&Request::Measure {
            prefill_tokens: work.prefill_tokens,
            decode_tokens: work.decode_tokens,
            depth_tokens: work.depth_tokens,
            sampling,
        })
    }

    /// Has a conversation of its own answered beside others.
    ///
    /// # Errors
    /// One line: it is too long, or no model is ready.
    pub(crate) fn order(&mut self, order: &Order) -> Result<(), String> {
        let State::Ready(loaded) = &mut self.state else {
            return Err("there is no engine to answer".to_owned());
        };
        let sent = loaded.peer.send(&Request::Answer(Box::new(order.clone())));
        sent.map_err(|e| too_long(e).to_string())?;
        loaded.asked = loaded.asked.saturating_add(1);
        Ok(())
    }

    /// The answer has been asked to end, and has not yet.
    pub(crate) fn is_stopping(&self) -> bool {
        matches!(&self.state, State::Answering { answer, .. } if answer.stopping)
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
            if let Some(update) = self.take_update() {
                return Some(update);
            }
            if !self.is_owed() {
                return None;
            }
            if !self.listen(Wait::Tick) {
                self.tick();
            }
        }
    }

    /// What has happened next; waits for it, also where it is not owed, but no longer than
    /// `patience` and a tick.
    pub(crate) fn next_within(&mut self, patience: Duration) -> Option<Update> {
        let began = Instant::now();
        loop {
            if let Some(update) = self.take_update() {
                return Some(update);
            }
            self.peer()?;
            if !self.listen(Wait::Tick) && began.elapsed() >= patience {
                return None;
            }
        }
    }

    /// Whether the engine has something to say before it may be silent.
    pub(crate) fn is_owed(&self) -> bool {
        match &self.state {
            State::Loading { .. } | State::Answering { .. } => true,
            State::Ready(loaded) => loaded.asked > 0,
            State::Idle | State::Gone { .. } => false,
        }
    }

    /// A [`crate::peer::TICK`] has passed in which nothing was heard.
    pub(crate) fn tick(&mut self) {
        if !self.is_owed() {
            return;
        }
        self.silence = self.silence.saturating_add(1);
        let longest = if self.is_stopping() {
            STOPPING_TICKS
        } else {
            SILENT_TICKS
        };
        if self.silence >= longest {
            let how = format!("gave no sign of life for {longest} s");
            self.replace_engine(&how, "ZE-41");
        }
    }

    /// What has happened next, `None` if nothing has; never waits.
    pub(crate) fn try_next(&mut self) -> Option<Update> {
        while self.updates.is_empty() && self.listen(Wait::No) {}
        self.take_update()
    }

    fn take_update(&mut self) -> Option<Update> {
        let update = self.updates.pop_front()?;
        Some(update.in_words_of(self.host))
    }

    /// Hears one event; `false` if there is none.
    fn listen(&mut self, wait: Wait) -> bool {
        let Some(peer) = self.peer_mut() else {
            return false;
        };
        let heard = peer.next(wait);
        if heard == Heard::Nothing {
            return false;
        }
        self.silence = 0;
        match heard {
            Heard::Event(event) => self.on_event(event),
            Heard::Nothing => {}
            Heard::Gone(how) => self.on_death(&how),
            Heard::Exhausted(how) => self.replace_engine(&how, "ZE-31"),
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

    /// The open question is not answered: it is given back, or has the answer again that
    /// it had.
    fn take_back(&mut self, reason: Reason) {
        let question = self.give_back();
        self.updates
            .push_back(Update::TakenBack { reason, question });
    }

    fn give_back(&mut self) -> Option<String> {
        if self.transcript.put_back() {
            return None;
        }
        self.transcript.take_back()
    }
}

fn too_long(refused: TooLong) -> TurnError {
    TurnError::TooLong {
        bytes: refused.bytes,
        limit: u64::from(refused.limit),
    }
}
