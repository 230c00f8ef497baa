//! What becomes of a session when its engine says something, dies, or is
//! replaced.

use protocol::{Event, Load, ModelInfo, Stop, TextKind, TurnError, TurnStats};

use crate::peer::Peer;

use super::{Evaluated, Loaded, Reason, Request, Session, State, Update, unseen_text};

/// An engine that dies this often in a row, without an answer between, is not
/// started again until the user asks for it.
const DEATHS_MAX: u32 = 3;

impl<P: Peer> Session<P> {
    /// Lets the engine go, if there is one: its memory is the next one's. What
    /// had been said of an answer is kept; returns whether a question still waits
    /// for one.
    pub(super) fn leave_engine(&mut self) -> bool {
        let (asked, gives) = match &self.state {
            State::Ready(loaded) | State::Answering { loaded, .. } => (loaded.asked, loaded.gives),
            State::Idle | State::Loading { .. } | State::Gone { .. } => (0, false),
        };
        for _ in 0..asked {
            let why = "the engine was replaced before it could say; ask again";
            self.updates.push_back(Update::NotRendered(why.to_owned()));
        }
        if gives {
            self.on_evaluated(Evaluated::Lost);
        }
        self.ahead_tokens = 0;
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Answering { answer, .. } => {
                let said = self.transcript.answer(answer.message);
                if said {
                    self.updates.push_back(Update::BrokenOff);
                } else if answer.stopping {
                    self.take_back(Reason::Cancelled);
                }
                !said && !answer.stopping
            }
            State::Loading { waiting, .. } => waiting,
            State::Idle | State::Ready(_) | State::Gone { .. } => false,
        }
    }

    /// Starts an engine that loads the model.
    pub(super) fn start_engine(&mut self, waiting: bool) {
        let Some(model) = &self.model else {
            return;
        };
        let load = Load {
            path: model.file.path.clone(),
            bytes: model.file.bytes,
            rest: model.file.rest.clone(),
            sha256: model.sha256.clone(),
            draft: model.draft.clone(),
            params: self.config.engine.clone(),
            budget: self.budget,
        };
        match (self.start)(load) {
            Ok(peer) => self.state = State::Loading { peer, waiting },
            Err(e) => self.give_up(e.to_string(), waiting),
        }
    }

    /// There is no engine any more, and no other is started.
    pub(super) fn give_up(&mut self, why: String, waiting: bool) {
        self.state = State::Gone { why: why.clone() };
        let question = waiting.then(|| self.give_back()).flatten();
        let error = why;
        self.updates.push_back(Update::Refused { error, question });
    }

    pub(super) fn on_event(&mut self, event: Event) {
        match event {
            Event::Progress(progress) => self.updates.push_back(Update::Progress(progress)),
            Event::Notice(line) => self.updates.push_back(Update::Notice(line)),
            Event::Prefill { done, total } => self.updates.push_back(Update::Prefill(done, total)),
            Event::Measured(measured) => self.on_result(Update::Measured(measured)),
            Event::Answered { id, result } => {
                self.deaths = 0;
                self.on_result(Update::Answered { id, result });
            }
            Event::Rendered { text, tokens } => self.on_result(Update::Rendered { text, tokens }),
            Event::Counted(counts) => self.on_result(Update::Counted(counts)),
            Event::NotRendered(error) => self.on_result(Update::NotRendered(error.to_string())),
            Event::Sized(size) => self.on_result(Update::Sized(size)),
            Event::Pieces(list) => self.on_evaluated(Evaluated::Listed(list)),
            Event::Piece(piece) => self.on_evaluated(Evaluated::Given(piece)),
            Event::Wanted(key) => self.on_evaluated(Evaluated::Wanted(key)),
            Event::Recalled { tokens } => self.on_evaluated(Evaluated::Recalled(tokens)),
            Event::Drafted { tokens } => self.ahead_tokens = tokens,
            // Who works has been heard.
            Event::Working => {}
            Event::Ready(info) => self.on_ready(info),
            Event::Refused { error } => self.refuse(error),
            Event::Text { kind, text } => self.on_text(kind, text),
            Event::TurnDone(stats) => self.on_turn_done(stats),
            Event::TurnFailed(error) => self.on_turn_failed(&error),
        }
    }

    fn on_evaluated(&mut self, evaluated: Evaluated) {
        self.updates.push_back(Update::Evaluated(evaluated));
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
                let (asked, gives) = (0, false);
                let loaded = Loaded {
                    peer,
                    info,
                    asked,
                    gives,
                };
                self.state = State::Ready(loaded);
                self.updates.push_back(Update::Ready);
                self.begin_recall();
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
            return;
        }
        let part = match kind {
            TextKind::Answer => &mut answer.message.text,
            TextKind::Reasoning => answer.message.reasoning.get_or_insert_default(),
        };
        part.push_str(&text);
        self.updates.push_back(Update::Text(kind, text));
    }

    fn on_turn_done(&mut self, mut stats: TurnStats) {
        self.ahead_tokens = 0;
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Answering { loaded, answer } => {
                self.deaths = 0;
                self.state = State::Ready(loaded);
                if answer.cut {
                    stats.stop = Stop::TooLong;
                }
                if self.transcript.answer(answer.message) {
                    self.last_stats = Some(stats.clone());
                    self.updates.push_back(Update::Done(stats));
                } else if stats.stop == Stop::Cancelled {
                    self.take_back(Reason::Cancelled);
                } else {
                    let why = unseen_text(stats.stop).to_owned();
                    self.take_back(match stats.stop {
                        Stop::ContextFull => Reason::TooLong(why),
                        _ => Reason::Failed(why),
                    });
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

    /// An engine that does not do what it should makes way for another. The question
    /// that it had is given back, for it may be the cause.
    pub(super) fn replace_engine(&mut self, how: &str, code: &str) {
        let loading = self.phase() == super::Phase::Loading;
        // What nobody asked for is done again by itself.
        let unasked = self.phase() == super::Phase::Ready;
        let waiting = self.leave_engine();
        if unasked && self.has_died_too_often(how, waiting) {
            return;
        }
        if loading {
            let why = format!(
                "the engine {how}, while it loaded the model; /model NAME loads one [{code}]"
            );
            return self.give_up(why, waiting);
        }
        let line =
            format!("the engine {how}; another is started and the conversation is kept [{code}]");
        if waiting {
            self.take_back(Reason::Failed(line));
        } else {
            self.updates.push_back(Update::Notice(line));
        }
        self.silence = 0;
        self.start_engine(false);
    }

    pub(super) fn on_death(&mut self, how: &str) {
        // Loading does the same each time: another engine would die of it, too.
        let loading = self.phase() == super::Phase::Loading;
        // If nothing had been said, the new engine is asked once more.
        let waiting = self.leave_engine();
        if loading {
            let why = format!(
                "the engine {how} while it loaded the model, whose file may be damaged; \
                 /model NAME tries it again [ZE-15]"
            );
            return self.give_up(why, waiting);
        }
        if self.has_died_too_often(how, waiting) {
            return;
        }
        self.updates.push_back(Update::Notice(format!(
            "the engine {how}; it is restarted and the conversation is kept [ZE-40]"
        )));
        self.start_engine(waiting);
    }

    /// What engines have died of is known and will not come again: the next deaths are
    /// counted from the first.
    pub(crate) fn explain_deaths(&mut self) {
        self.deaths = 0;
    }

    /// Counts an engine that is gone; `true`: no other is started.
    fn has_died_too_often(&mut self, how: &str, waiting: bool) -> bool {
        self.deaths = self.deaths.saturating_add(1);
        let too_often = self.deaths >= DEATHS_MAX;
        if too_often {
            let why = format!(
                "the engine {how}, {DEATHS_MAX} times in a row: it is not started again; /model \
                 NAME loads a model [ZE-42]"
            );
            self.give_up(why, waiting);
        }
        too_often
    }
}
