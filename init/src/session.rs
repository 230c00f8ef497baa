//! A conversation with an engine that may die: the transcript, the turn under
//! way, and what happens when the engine is not ready yet, fails or is
//! replaced. The prompt and the one-turn mode are two faces of this.

use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::disk::ModelFile;
use crate::grammar;
use crate::supervisor::{Death, Engine};
use protocol::Config;
use protocol::memory::Budget;
use protocol::{
    Event, Load, Measured, ModelInfo, Progress, Request, Stop, TextKind, TurnError, TurnStats,
};
use protocol::{Message, Role};

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
    Refused(String),
    /// One line to know.
    Notice(String),
    /// The prompt's new tokens are being evaluated: so many of so many.
    Prefill(u32, u32),
    /// A piece of the answer.
    Text(TextKind, String),
    /// The answer is whole.
    Done(TurnStats),
    /// The answer ended because the engine died; what was said is kept.
    BrokenOff,
    /// The turn was taken back; `text` is what the user had said.
    TakenBack {
        /// Why.
        error: String,
        /// The user's message.
        text: String,
        /// Whether it would fit if the conversation were shorter.
        too_long: bool,
    },
    /// The tokens of the conversation up to each message.
    Counted(Vec<(Message, usize)>),
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

/// What the engine is doing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum State {
    /// There is no model, or it was refused.
    Idle,
    /// It is being loaded.
    Loading,
    /// It waits for a turn.
    Ready,
    /// It answers.
    Answering,
}

/// A conversation.
pub(crate) struct Session {
    config: Config,
    budget: Budget,
    model: Option<ModelFile>,
    engine: Option<Engine>,
    state: State,
    info: Option<ModelInfo>,
    messages: Vec<Message>,
    answer: Message,
    /// The last message waits for the engine.
    pending: bool,
    deaths: u32,
    last_stats: Option<TurnStats>,
    updates: Vec<Update>,
}

impl Session {
    /// A conversation without a model yet.
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            budget: Budget::of_meminfo(
                &std::fs::read_to_string("/proc/meminfo").unwrap_or_default(),
            ),
            model: None,
            engine: None,
            state: State::Idle,
            info: None,
            messages: Vec::new(),
            answer: Message::new(Role::Assistant, ""),
            pending: false,
            deaths: 0,
            last_stats: None,
            updates: Vec::new(),
        }
    }

    /// Parameters in force.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Parameters, to change those that act on the next turn.
    pub(crate) fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    /// What the engine is doing.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// The loaded model.
    pub(crate) fn info(&self) -> Option<&ModelInfo> {
        self.info.as_ref()
    }

    /// The model in use, or being loaded.
    pub(crate) fn model(&self) -> Option<&Path> {
        self.model.as_ref().map(|model| model.path.as_path())
    }

    /// The conversation so far, the system prompt first if there is one.
    pub(crate) fn transcript(&self) -> Vec<Message> {
        let system = Some(&self.config.chat.system)
            .filter(|text| !text.is_empty())
            .map(|text| Message::new(Role::System, text));
        system
            .into_iter()
            .chain(self.messages.iter().cloned())
            .collect()
    }

    /// The conversation so far, without the system prompt.
    pub(crate) fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Counts of the last turn.
    pub(crate) fn last_stats(&self) -> Option<&TurnStats> {
        self.last_stats.as_ref()
    }

    /// Text of the grammar that answers must obey.
    ///
    /// # Errors
    /// One line: why there is none, although one is asked for.
    pub(crate) fn grammar(&self) -> Result<Option<String>, String> {
        grammar::wanted(&self.config, self.model())
    }

    /// Loads `model` in a new engine; the conversation stays.
    pub(crate) fn load(&mut self, model: ModelFile) {
        self.model = Some(model);
        self.deaths = 0;
        self.reload();
    }

    /// Starts a new engine with the parameters as they are now.
    pub(crate) fn reload(&mut self) {
        self.engine = None;
        self.info = None;
        self.state = State::Idle;
        let Some(model) = &self.model else {
            return;
        };
        match Engine::start(Load {
            path: model.path.clone(),
            bytes: model.bytes,
            sha256: self.config.start.sha256.clone(),
            params: self.config.engine.clone(),
            budget: self.budget,
        }) {
            Ok(engine) => {
                self.engine = Some(engine);
                self.state = State::Loading;
            }
            Err(e) => self.updates.push(Update::Refused(format!(
                "no process can be made for the engine: {e}"
            ))),
        }
    }

    /// What to poll for reading.
    pub(crate) fn poll_fds(&self) -> Vec<BorrowedFd<'_>> {
        self.engine.iter().flat_map(Engine::poll_fds).collect()
    }

    /// Takes the user's message and has it answered as soon as can be.
    pub(crate) fn ask(&mut self, text: impl Into<String>) {
        self.messages.push(Message::new(Role::User, text));
        self.pending = true;
        self.answer_pending();
    }

    /// Answers the last user message again; `false` if there is none.
    pub(crate) fn regenerate(&mut self) -> bool {
        while self.messages.last().is_some_and(|m| m.role != Role::User) {
            self.messages.pop();
        }
        if self.messages.is_empty() {
            return false;
        }
        self.pending = true;
        self.answer_pending();
        true
    }

    /// Takes back the last user message and its answer; returns its text.
    pub(crate) fn undo(&mut self) -> Option<String> {
        self.pending = false;
        while let Some(message) = self.messages.pop() {
            if message.role == Role::User {
                return Some(message.text);
            }
        }
        None
    }

    /// Forgets the oldest user message and its answer; returns its text.
    pub(crate) fn drop_oldest(&mut self) -> Option<String> {
        let mut messages = self.messages.iter().skip(1);
        let next_user = messages.position(|m| m.role == Role::User);
        let end = next_user.map_or(self.messages.len(), |index| index + 1);
        self.messages.drain(..end).next().map(|oldest| oldest.text)
    }

    /// Forgets the conversation.
    pub(crate) fn clear(&mut self) {
        self.messages.clear();
        self.pending = false;
    }

    /// Ends the answer under way, or takes back a message that still waits for
    /// the model (its text is returned).
    pub(crate) fn cancel(&mut self) -> Option<String> {
        if self.state == State::Answering {
            self.send(&Request::Cancel);
            return None;
        }
        if self.pending { self.undo() } else { None }
    }

    /// Has `typed` evaluated ahead, as the next message so far.
    pub(crate) fn draft(&mut self, typed: &str) {
        if self.state == State::Ready && !self.pending {
            let mut messages = self.transcript();
            messages.push(Message::new(Role::User, typed));
            self.send(&Request::Draft { messages });
        }
    }

    /// Has the conversation rendered and tokenized.
    pub(crate) fn render(&mut self) -> bool {
        if self.state != State::Ready {
            return false;
        }
        let messages = self.transcript();
        self.send(&Request::Render { messages });
        true
    }

    /// Has the evaluation of `prefill_tokens` and the generation of
    /// `decode_tokens` measured; `false` if there is no model ready.
    pub(crate) fn measure(&mut self, prefill_tokens: u32, decode_tokens: u32) -> bool {
        if self.state != State::Ready {
            return false;
        }
        let sampling = self.config.sampling.clone();
        self.send(&Request::Measure {
            prefill_tokens,
            decode_tokens,
            sampling,
        });
        true
    }

    /// Has the tokens of every prefix of the conversation counted.
    pub(crate) fn count(&mut self) -> bool {
        if self.state != State::Ready {
            return false;
        }
        let messages = self.transcript();
        self.send(&Request::Count { messages });
        true
    }

    /// A message waits for the model.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending
    }

    /// Everything that has happened since the last call; never blocks.
    pub(crate) fn updates(&mut self) -> Vec<Update> {
        while let Some(engine) = &mut self.engine {
            match engine.event() {
                Ok(Some(event)) => self.on_event(event),
                Ok(None) => break,
                Err(death) => self.on_death(&death),
            }
        }
        std::mem::take(&mut self.updates)
    }

    fn send(&mut self, request: &Request) {
        if let Some(engine) = &mut self.engine {
            engine.request(request);
        }
    }

    fn answer_pending(&mut self) {
        if !self.pending || self.state != State::Ready {
            return;
        }
        self.pending = false;
        let grammar = match self.grammar() {
            Ok(grammar) => grammar,
            Err(error) => return self.take_back(error, false),
        };
        self.answer = Message::new(Role::Assistant, "");
        self.state = State::Answering;
        let messages = self.transcript();
        let sampling = self.config.sampling.clone();
        self.send(&Request::Turn {
            messages,
            sampling,
            grammar,
        });
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Progress(progress) => self.updates.push(Update::Progress(progress)),
            Event::Notice(line) => self.updates.push(Update::Notice(line)),
            Event::Prefill { done, total } => self.updates.push(Update::Prefill(done, total)),
            Event::Counted(counts) => {
                let messages = self.messages.iter().cloned();
                let counts = counts.into_iter().map(|count| count as usize);
                self.updates
                    .push(Update::Counted(messages.zip(counts).collect()));
            }
            Event::NotRendered(error) => self.updates.push(Update::NotRendered(error.to_string())),
            Event::Measured(measured) => self.updates.push(Update::Measured(measured)),
            Event::Rendered { text, tokens } => {
                self.updates.push(Update::Rendered { text, tokens });
            }
            Event::Ready(info) => {
                self.info = Some(*info);
                self.state = State::Ready;
                self.updates.push(Update::Ready);
                self.answer_pending();
            }
            Event::Refused { error } => {
                self.engine = None;
                self.state = State::Idle;
                self.updates.push(Update::Refused(error));
            }
            Event::Text { kind, text } => {
                let part = match kind {
                    TextKind::Answer => &mut self.answer.text,
                    TextKind::Reasoning => self.answer.reasoning.get_or_insert_default(),
                };
                part.push_str(&text);
                self.updates.push(Update::Text(kind, text));
            }
            Event::TurnDone(stats) => {
                self.deaths = 0;
                self.state = State::Ready;
                self.keep_answer();
                self.last_stats = Some(stats.clone());
                self.updates.push(Update::Done(stats));
                self.answer_pending();
            }
            Event::TurnFailed(error) => {
                self.state = State::Ready;
                let too_long = matches!(error, TurnError::ContextFull { .. });
                self.take_back(error.to_string(), too_long);
            }
        }
    }

    fn keep_answer(&mut self) {
        let answer = std::mem::replace(&mut self.answer, Message::new(Role::Assistant, ""));
        self.messages.push(answer);
    }

    fn take_back(&mut self, error: String, too_long: bool) {
        let text = self.undo().unwrap_or_default();
        self.updates.push(Update::TakenBack {
            error,
            text,
            too_long,
        });
    }

    fn on_death(&mut self, death: &Death) {
        self.engine = None;
        self.deaths += 1;
        let answering = self.state == State::Answering;
        self.state = State::Idle;
        if answering && self.answer.text.is_empty() && self.answer.reasoning.is_none() {
            // Nothing had been said: the new engine is asked once more.
            self.pending = true;
        } else if answering {
            self.keep_answer();
            self.updates.push(Update::BrokenOff);
        }
        if self.deaths >= DEATHS_MAX {
            if self.pending {
                self.take_back(format!("the engine {}", death.cause), false);
            }
            self.updates.push(Update::Refused(format!(
                "the engine {}, {DEATHS_MAX} times in a row: it is not started again; /model \
                 loads a model",
                death.cause
            )));
            return;
        }
        self.updates.push(Update::Notice(format!(
            "the engine {}; it is restarted and the conversation is kept",
            death.cause
        )));
        self.reload();
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
