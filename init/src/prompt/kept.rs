//! The session at the prompt: opening it, and keeping what is said and typed. Nothing
//! here waits for the disk: what it has done comes as news.

use std::time::{Duration, Instant};

use protocol::{Config, Message, Role, TurnStats};
use term::{Secret, Submission};

use super::contexts::Saver;
use super::{Chat, room, show};
use crate::keeper::{Keeper, Kept, Key, News, Now, Op, Opened, Settings, Shelf, Turn};

/// A turn is on the disk within this time, or the line is the user's again.
const SAVING: Duration = Duration::from_millis(500);
/// At the end the disk is waited for as long.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a passphrase may be wrong.
const TRIES: u32 = 3;
/// Lines of a question that are shown again.
const LINES_SHOWN: usize = 10;

/// What the line waits for.
#[derive(Debug)]
enum Waits {
    /// The session is being opened.
    Opening,
    /// A turn is being written; then its counts are shown.
    Saving(Box<TurnStats>, Instant),
    /// A conversation is being read.
    Reading(Key),
    Nothing,
}

/// A session, and what is to be done with its disk.
pub(super) struct Keeping {
    pub(super) keeper: Keeper,
    pub(super) shelf: Shelf,
    /// As it was given at the start.
    start: Config,
    waits: Waits,
    pub(super) saver: Saver,
    /// Typed lines that are written with what they lead to.
    lines: Vec<Op>,
    /// The session is new, and is encrypted with what is typed twice.
    making: bool,
    typed: Option<Secret>,
    tries: u32,
    /// What `/delete` deletes when it is given once more.
    pub(super) doomed: Option<Key>,
}

impl Keeping {
    /// A session that `keeper` opens, begun with these parameters.
    pub(super) fn new(keeper: Keeper, start: Config) -> Self {
        Self {
            keeper,
            shelf: Shelf::default(),
            start,
            waits: Waits::Opening,
            saver: Saver::default(),
            lines: Vec::new(),
            making: false,
            typed: None,
            tries: 0,
            doomed: None,
        }
    }

    /// Whether the session is open.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.waits, Waits::Opening)
    }

    /// What to poll to learn when there is news.
    pub(super) fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.keeper.fd()
    }

    /// How long the line waits for the disk.
    pub(super) fn due(&self) -> Option<Duration> {
        match &self.waits {
            Waits::Saving(_, since) => Some(SAVING.saturating_sub(since.elapsed())),
            _ => None,
        }
    }

    /// Has these written.
    pub(super) fn write(&mut self, ops: Vec<Op>) {
        self.keeper.keep(ops);
    }
}

impl Chat {
    /// The line opens when the session has.
    pub(super) fn await_session(&mut self) {
        if self.keeping.is_some() {
            let status = "opening the session; Ctrl-C goes on without it";
            self.screen.hold(status);
        }
    }

    /// Shows what became of the session; `false`: nothing has.
    pub(super) fn take_news(&mut self) -> bool {
        let mut any = false;
        while let Some(news) = self.keeping.as_mut().and_then(|k| k.keeper.try_news()) {
            self.on_news(news);
            any = true;
        }
        any
    }

    fn on_news(&mut self, news: News) {
        let Some(keeping) = &mut self.keeping else {
            return;
        };
        match news {
            News::Locked => self.screen.ask_secret("passphrase: "),
            News::WantsPassphrase => {
                keeping.making = true;
                self.screen.ask_secret("new passphrase: ");
            }
            News::WrongPassphrase => {
                keeping.tries = keeping.tries.saturating_add(1);
                if keeping.tries >= TRIES {
                    let line = "three wrong passphrases: the session stays closed [ZE-74]";
                    return self.give_up(line);
                }
                self.screen.tell("that is not the passphrase; once more");
                self.screen.ask_secret("passphrase: ");
            }
            News::Opened(opened) => self.on_opened(*opened),
            News::Refused(line) => self.give_up(&line),
            News::Saved(_) if keeping.keeper.owes() => {}
            News::Saved(_) => self.show_saved(),
            News::Failed(line) => {
                self.screen.complain(&self.host.words(&line));
                self.show_saved();
            }
            News::Resumed => self
                .screen
                .quiet("saving goes on: everything is on the disk"),
            News::Read(key, turns) => self.on_read(key, turns),
            News::Missing(_) | News::Stored(..) | News::Fetched(_) => self.on_context_news(news),
            News::Closed => {}
        }
    }

    /// A session that is not opened is left: what is said would not be kept.
    fn give_up(&mut self, line: &str) {
        self.screen.complain(&self.host.words(line));
        self.keeping = None;
        self.refused = true;
        self.leaving = true;
    }

    /// A passphrase was typed, or given up.
    pub(super) fn on_secret(&mut self, secret: Option<Secret>) {
        let Some(keeping) = &mut self.keeping else {
            return;
        };
        let Some(secret) = secret else {
            self.leaving = true;
            return;
        };
        if !keeping.making {
            return keeping.keeper.unlock(secret);
        }
        match keeping.typed.take() {
            None if secret.text().is_empty() => {
                self.screen.tell("nothing was typed");
                self.screen.ask_secret("new passphrase: ");
            }
            None => {
                keeping.typed = Some(secret);
                self.screen.ask_secret("the same again: ");
            }
            Some(first) if first == secret => keeping.keeper.unlock(secret),
            Some(_) => {
                self.screen.tell("these are two different passphrases");
                self.screen.ask_secret("new passphrase: ");
            }
        }
    }

    fn on_opened(&mut self, opened: Opened) {
        let Some(keeping) = &mut self.keeping else {
            return;
        };
        keeping.waits = Waits::Nothing;
        self.screen.end_secrets();
        keeping.shelf = Shelf::of(opened.chats, opened.current);
        let current = keeping.shelf.current().cloned();
        let count = keeping.shelf.chats().len();
        self.screen.remember(&opened.lines);
        self.name_contexts();
        if let Some(line) = opened.found {
            self.screen.tell(&line);
        }
        match (current, count) {
            (Some(chat), _) => self.go_on_with(&chat, " · /new begins another"),
            (None, 0) => self.screen.quiet("a new session: what is said is kept"),
            (None, n) => self
                .screen
                .quiet(&format!("{n} conversations are kept · /chats lists them")),
        }
        self.release();
    }

    /// The conversation, its parameters and its last two messages are in force, and
    /// in sight.
    pub(super) fn go_on_with(&mut self, chat: &Kept, hint: &str) {
        let Some(messages) = chat.messages() else {
            return;
        };
        self.put_in_force(&chat.settings);
        self.screen
            .quiet(&format!("going on with {}{hint}", show::about(chat)));
        let last = messages.len().saturating_sub(2);
        for message in messages.get(last..).unwrap_or_default() {
            self.show_again(message);
        }
        self.session.restore(messages);
    }

    /// What a conversation sets, and was not given at the start, is in force.
    pub(super) fn put_in_force(&mut self, settings: &Settings) {
        if let Some(keeping) = &self.keeping {
            let config = settings.on(&keeping.start, self.session.config());
            self.session.set_config(config);
        }
    }

    fn show_again(&mut self, message: &Message) {
        if message.role == Role::User {
            return self
                .screen
                .sent_before(&show::folded(&message.text), LINES_SHOWN);
        }
        self.screen.begin_answer(&self.session.config().screen);
        self.screen.push(protocol::TextKind::Answer, &message.text);
        self.screen.end_answer();
    }

    /// Has written what the conversation is now, unless it is in the middle of a
    /// turn, after which so many tokens are in the context.
    pub(super) fn keep(&mut self, tokens: Option<u64>) {
        let Some(keeping) = &mut self.keeping else {
            return;
        };
        if self.session.is_open() || matches!(keeping.waits, Waits::Opening | Waits::Reading(_)) {
            return;
        }
        let mut ops = keeping.shelf.keep(Now {
            messages: self.session.messages(),
            settings: Settings::of(self.session.config()),
            model: self.session.model_identity(),
            tokens,
        });
        // They belong to the conversation that they begin: without one nothing erases them.
        if keeping.shelf.current().is_some() {
            let begun = ops.first().is_some_and(|op| matches!(op, Op::Begin(_)));
            let at = usize::from(begun);
            ops.splice(at..at, keeping.lines.drain(..));
        }
        keeping.write(ops);
    }

    /// Has a typed line written, with the next that is. A `/` that begins a message is doubled, as one types
    /// it.
    pub(super) fn keep_line(&mut self, sent: &Submission) {
        let Some(keeping) = &mut self.keeping else {
            return;
        };
        let line = match &sent.typed {
            Some(typed) => typed.clone(),
            None if sent.literal && sent.text.starts_with('/') => format!("/{}", sent.text),
            None => sent.text.clone(),
        };
        keeping.lines.push(Op::Line(line));
    }

    /// A turn has ended: its counts are shown when it is on the disk.
    pub(super) fn end_turn(&mut self, stats: TurnStats) {
        self.keep(Some(stats.ctx_used_tokens.into()));
        if let Some(keeping) = &mut self.keeping {
            keeping.saver.turn_ended();
        }
        match &mut self.keeping {
            Some(keeping) if keeping.keeper.owes() => {
                keeping.waits = Waits::Saving(Box::new(stats), Instant::now());
                self.screen.hold("saving");
            }
            _ => self.show_turn(&stats),
        }
    }

    fn show_saved(&mut self) {
        let Some(keeping) = &mut self.keeping else {
            return;
        };
        if !matches!(keeping.waits, Waits::Saving(..)) {
            return;
        }
        if let Waits::Saving(stats, _) = std::mem::replace(&mut keeping.waits, Waits::Nothing) {
            self.show_turn(&stats);
            self.release();
        }
    }

    /// Opens the line, if it waits for no disk.
    pub(super) fn release(&mut self) {
        let waits = |keeping: &Keeping| !matches!(keeping.waits, Waits::Nothing);
        if self.waits.is_none() && !self.keeping.as_ref().is_some_and(waits) {
            self.screen.release();
        }
    }

    /// Goes on with that conversation when it has been read.
    pub(super) fn read_chat(&mut self, key: Key) {
        if let Some(keeping) = &mut self.keeping {
            keeping.waits = Waits::Reading(key);
            keeping.keeper.read(key);
            self.screen
                .hold("reading the conversation; Ctrl-C stays in this one");
        }
    }

    fn on_read(&mut self, key: Key, turns: Result<Vec<Turn>, String>) {
        let Some(keeping) = &mut self.keeping else {
            return;
        };
        let wanted = matches!(keeping.waits, Waits::Reading(wanted) if wanted == key);
        if wanted {
            keeping.waits = Waits::Nothing;
        }
        match turns {
            Ok(turns) => {
                keeping.shelf.fill(key, &turns);
                if wanted {
                    self.switch_to(key);
                    self.keep(None);
                }
            }
            Err(error) => self.screen.complain(&error),
        }
        if wanted {
            self.release();
        }
    }

    /// Ctrl-C while the line waits for the disk: it does no longer. `false`: it did
    /// not.
    pub(super) fn stop_waiting(&mut self) -> bool {
        let Some(keeping) = &mut self.keeping else {
            return false;
        };
        match std::mem::replace(&mut keeping.waits, Waits::Nothing) {
            Waits::Nothing => return false,
            Waits::Opening => {
                self.keeping = None;
                let line = "the session was not opened: nothing of this conversation is kept";
                self.screen.complain(line);
            }
            Waits::Saving(stats, _) => self.show_turn(&stats),
            Waits::Reading(_) => {}
        }
        self.release();
        true
    }

    /// The line is the user's again when the disk has been given its time.
    pub(super) fn give_up_saving(&mut self) {
        if self.keeping.as_ref().and_then(Keeping::due) == Some(Duration::ZERO) {
            self.stop_waiting();
            self.screen
                .quiet("the session's disk has not taken it yet; it is tried on");
        }
    }

    /// Waits for the disk to have everything, at the end; says so if it has not.
    pub(super) fn leave_session(&mut self) {
        self.session.break_off();
        self.stop_waiting();
        self.keep(None);
        self.keep_rest_of_context();
        let Some(keeping) = self.keeping.take() else {
            return;
        };
        if keeping.keeper.owes() {
            self.screen.hold("saving");
            // A terminal that is gone keeps nothing from being saved.
            let _ = self.screen.paint();
        }
        if let Err(line) = keeping.keeper.close(PATIENCE) {
            self.screen.complain(&line);
        }
    }

    fn show_turn(&mut self, stats: &TurnStats) {
        if let Some(ctx) = self.session.info().map(|i| i.ctx_tokens) {
            self.screen.quiet(&show::turn_line(stats, ctx));
            room::warn_if_filling(&mut self.screen, stats.ctx_used_tokens, ctx);
        }
    }
}
