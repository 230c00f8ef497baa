//! The prompt's loop: what is typed goes to the editor, what is sent to the
//! session, what comes back to the screen. One thread, one `poll`.

mod answer_view;
mod chats;
mod commands;
mod contexts;
mod draft;
mod errands;
mod execute;
mod kept;
mod reading;
mod room;
mod save;
mod screen;
mod show;
mod signals;
mod stopping;
mod updates;

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use protocol::LogLevel;
use protocol::memory::Budget;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::SIGTSTP;
use term::{Action, Limits, Submission, Tty};

use crate::button::Button;
use crate::disk::Choice;
use crate::host::Host;
use crate::keeper::{Keeper, Place};
use crate::models::Models;
use crate::peer::TICK;
use crate::ports::saves::Saves;
use crate::session::{Phase, Session};
use crate::supervisor::Engine;
use crate::timeline::Timeline;
use draft::Drafts;
use errands::{Next, Waits};
use kept::Keeping;
use reading::Reading;
use room::Room;
use screen::Screen;
use signals::Signals;

/// Runs the prompt at `tty` until the user leaves; `false`: it had to be left, as the
/// session cannot be opened.
///
/// # Errors
/// The terminal's; a terminal that hung up is a way of leaving.
pub(crate) fn run(
    host: Host,
    session: Session<Engine>,
    models: Models,
    tty: File,
    timeline: Timeline,
) -> io::Result<bool> {
    let (signals, button) = match host {
        Host::Command => (Some(Signals::register()?), Button::default()),
        Host::Machine(mounted) => (None, Button::find(mounted)),
    };
    let tty = Tty::new(tty.into())?;
    let limits = limits(session.budget());
    let screen = Screen::new(host, tty, &session.config().screen, limits);
    let start = session.config().clone();
    let keeping = start.start.session.as_deref().map(|given| {
        let place = Place::of(host, given);
        let keeper = Keeper::start(place, start.start.encrypt)?;
        io::Result::Ok(Keeping::new(keeper, start.clone()))
    });
    let mut chat = Chat {
        host,
        session,
        keeping: keeping.transpose()?,
        refused: false,
        models,
        screen,
        room: Room::default(),
        reading: Reading::default(),
        waits: None,
        drafts: Drafts::new(),
        saves: Saves::default(),
        timeline,
        signals,
        button,
        unsettled: false,
        looked: Instant::now(),
        stop_asked: Instant::now(),
        sent_early: None,
        leaving: false,
        ended_by: None,
    };
    chat.greet();
    let mut ended = Ok(());
    while ended.is_ok() && !chat.leaving {
        ended = chat.step();
    }
    chat.leave_session();
    ended?;
    let refused = chat.refused;
    chat.screen
        .close(host.is_machine().then_some("power off"))?;
    if let Some(signal) = chat.ended_by {
        // The engine before this process, which whoever waits for it sees killed.
        drop(chat.session);
        signal_hook::low_level::emulate_default_handler(signal)?;
    }
    Ok(!refused)
}

/// What the line editor may hold.
fn limits(budget: &Budget) -> Limits {
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    Limits {
        paste_bytes: bytes(budget.paste_bytes),
        // A paste, and as much around it.
        text_bytes: bytes(budget.paste_bytes).saturating_mul(2),
        undo_bytes: bytes(budget.undo_bytes),
        kill_bytes: bytes(budget.paste_bytes),
        history_bytes: bytes(budget.undo_bytes) / 2,
        waiting_bytes: bytes(budget.paste_bytes).saturating_mul(2),
    }
}

/// The chat: what talks to whom.
struct Chat {
    host: Host,
    session: Session<Engine>,
    models: Models,
    screen: Screen,
    room: Room,
    reading: Reading,
    /// What the line is closed for, if a disk is read.
    waits: Option<Waits>,
    drafts: Drafts,
    saves: Saves,
    /// Where conversations are kept, if anywhere.
    keeping: Option<Keeping>,
    /// The session cannot be opened.
    refused: bool,
    timeline: Timeline,
    signals: Option<Signals>,
    button: Button,
    /// Something has happened since the last wait, and may lead to more.
    unsettled: bool,
    /// When the engine was last looked after.
    looked: Instant,
    /// When the answer was last asked to end.
    stop_asked: Instant,
    /// What was sent after the answer was asked to end and before it had.
    sent_early: Option<Submission>,
    leaving: bool,
    /// The signal that it is left by.
    ended_by: Option<i32>,
}

impl Chat {
    fn greet(&mut self) {
        self.timeline.mark("prompt");
        if self.session.config().engine.log >= LogLevel::Warn {
            let name = concat!("zosia ", env!("CARGO_PKG_VERSION"));
            let leave = if self.host.is_machine() {
                "Ctrl-D powers off"
            } else {
                "Ctrl-D leaves"
            };
            self.screen
                .quiet(&format!("{name} · /help lists the commands · {leave}"));
        }
        self.await_session();
        self.screen.open();
        self.find_models(Duration::ZERO);
    }

    fn step(&mut self) -> io::Result<()> {
        self.screen.paint()?;
        if self.wait()? {
            if !self.screen.read()? {
                self.leaving = true;
                return Ok(());
            }
            self.drafts.on_key();
        } else if self
            .screen
            .timeout()
            .is_some_and(|t| self.drafts.pause() >= t)
        {
            self.screen.flush_keys();
        }
        self.take_signals()?;
        self.look_after_engine();
        self.give_line_back();
        self.give_up_saving();
        self.find_models(Duration::ZERO);
        // What is done leads to something to tell, and what is told lets typed keys
        // through: nothing of either is left to a wait. Keys are read in between, whatever
        // comes.
        self.unsettled =
            self.take_updates() | self.take_actions() | self.take_news() | self.take_errands();
        self.size_texts();
        self.draft();
        self.keep_context();
        Ok(())
    }

    /// Counts the time in which an engine that owes something is not heard.
    fn look_after_engine(&mut self) {
        if !self.awaits_word() {
            self.looked = Instant::now();
        } else if self.looked.elapsed() >= TICK {
            self.looked = Instant::now();
            self.session.tick();
        }
    }

    /// Whether something should come from the engine, and is listened for.
    fn awaits_word(&self) -> bool {
        self.session.is_owed() && self.screen.has_room()
    }

    /// Waits until there is something to do; `true`: there are keys.
    fn wait(&self) -> io::Result<bool> {
        let deadlines = [
            self.screen.timeout(),
            self.look_due(),
            self.draft_due(),
            self.line_due(),
            self.keeping.as_ref().and_then(Keeping::due),
            self.context_due(),
            self.awaits_word()
                .then(|| TICK.saturating_sub(self.looked.elapsed())),
        ];
        let at_once = self.unsettled.then_some(Duration::ZERO);
        let timeout = deadlines.into_iter().chain([at_once]).flatten().min();
        let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
        let signals = self.signals.iter().flat_map(Signals::fds);
        let keys = PollFlags::IN;
        let terminal = if self.screen.is_behind() {
            keys | PollFlags::OUT
        } else {
            keys
        };
        let engine = self.screen.has_room().then(|| self.session.poll_fds());
        let wanted: Vec<(BorrowedFd<'_>, PollFlags)> =
            std::iter::once((self.screen.fd(), terminal))
                .chain(engine.into_iter().flatten())
                .chain(
                    signals
                        .chain(self.button.fds())
                        .map(|fd| (fd, PollFlags::IN)),
                )
                .chain(self.keeping.iter().map(|k| (k.fd(), PollFlags::IN)))
                .chain(self.errand_fds().map(|fd| (fd, PollFlags::IN)))
                .collect();
        let mut fds: Vec<PollFd<'_>> = wanted
            .iter()
            .map(|(fd, flags)| PollFd::new(fd, *flags))
            .collect();
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(false),
            Err(e) => return Err(e.into()),
        }
        let ready = fds.first().map_or(PollFlags::empty(), PollFd::revents);
        Ok(ready.intersects(PollFlags::all().difference(PollFlags::OUT)))
    }

    fn take_signals(&mut self) -> io::Result<()> {
        self.leaving |= self.button.take_pressed();
        let Some(signals) = &mut self.signals else {
            return Ok(());
        };
        self.ended_by = signals.take_ended();
        self.leaving |= self.ended_by.is_some();
        if signals.take_suspended() {
            self.screen.suspend()?;
            signal_hook::low_level::emulate_default_handler(SIGTSTP)?;
        }
        // Also after a stop that could not be prepared for.
        if signals.take_continued() {
            self.screen.resume()?;
            self.screen.follow_window();
        }
        if signals.take_resized() {
            self.screen.follow_window();
        }
        Ok(())
    }

    /// Looks whether it is known which models there are, and waits so long for that.
    fn find_models(&mut self, within: Duration) {
        if let Some(line) = self.models.late() {
            self.screen.complain(&line);
        }
        let is_first = !self.models.is_settled();
        match self.models.look(within) {
            Ok(true) if is_first => self.show_found(),
            Ok(_) => {}
            Err(why) => self.screen.complain(&why),
        }
    }

    fn show_found(&mut self) {
        self.timeline.mark("disks");
        if self.session.config().engine.log >= LogLevel::Info {
            for note in self.models.notes() {
                self.screen.tell(note);
            }
        }
        for line in self.models.passed() {
            self.screen.tell(line);
        }
        self.tell_attached();
        match self.models.choose(None) {
            Ok(Choice::One(model)) => {
                let draft = self.models.draft_for(model);
                self.session.load_first(model.clone(), draft);
            }
            Ok(Choice::Several(models)) => {
                let names: Vec<String> = models.iter().map(|m| format!("  {}", m.name)).collect();
                self.screen.tell(&format!(
                    "there are several models; /model NAME loads one:\n{}",
                    names.join("\n")
                ));
            }
            Err(e) => self.screen.complain(&e.to_string()),
        }
    }

    /// Does what was typed; `false`: nothing was.
    fn take_actions(&mut self) -> bool {
        let mut any = false;
        let chats = self.keeping.as_ref().map_or(0, |k| k.shelf.chats().len());
        loop {
            let complete = |typed: &str| commands::complete(typed, &self.models, chats);
            let Some(action) = self.screen.next_action(&complete) else {
                return any;
            };
            any = true;
            match action {
                // The answer before it is about to end.
                Action::Submit(sent) if self.screen.is_answering() => {
                    self.screen.set_status(Some("stopping".to_owned()));
                    self.sent_early = Some(sent);
                }
                Action::Submit(sent) => self.on_submit(&sent),
                Action::Stop => self.stop(),
                Action::Interrupted if self.session.is_stopping() => self.stop(),
                Action::Fold => self.fold(),
                Action::Suspend if self.host.is_machine() => {}
                Action::Suspend => signals::suspend(),
                Action::Interrupted => self.screen.quiet("Ctrl-D or /exit leaves"),
                Action::Eof => self.leaving = true,
                Action::Notice(line) => self.screen.tell(&line),
                Action::Secret(secret) => self.on_secret(secret),
                Action::Resized(size) => self.screen.resize(size),
            }
        }
    }

    fn on_submit(&mut self, sent: &Submission) {
        let (text, literal) = (sent.text.as_str(), sent.literal);
        // The line stands before anything that it leads to, or that was typed
        // after it.
        self.screen.hide();
        self.drafts.forget();
        self.keep_line(sent);
        let message = match text.strip_prefix("//") {
            Some(rest) if !literal => format!("/{rest}"),
            _ if text.starts_with('/') && !literal => {
                match commands::parse(text) {
                    Ok(command) => execute::execute(self, command),
                    Err(error) => self.screen.complain(&self.host.words(&error)),
                }
                self.keep(None);
                return self.screen.open();
            }
            _ => text.to_owned(),
        };
        if message.trim().is_empty() {
            return self.screen.open();
        }
        let message = self.reading.take_with(&message);
        self.ask(message);
    }

    fn ask(&mut self, message: String) {
        self.spare_doomed();
        if self.models.is_settled() {
            self.ask_now(message);
        } else {
            self.look_and(Next::Ask(message));
        }
    }

    fn ask_now(&mut self, message: String) {
        self.session.ask(message);
        self.await_answer();
    }

    fn regenerate(&mut self) {
        if self.session.regenerate() {
            self.await_answer();
        } else {
            self.screen.complain("there is no message to answer");
        }
    }

    /// The prompt makes way for an answer, if there will be one.
    fn await_answer(&mut self) {
        if self.session.phase() == Phase::Answering || self.session.is_waiting() {
            self.screen.begin_answer(&self.session.config().screen);
        }
    }

    /// Folds or unfolds what the model thinks; after the answer, shows it.
    fn fold(&mut self) {
        if !self.screen.is_answering() {
            return show::thought(&mut self.screen, &self.session);
        }
        let folded = self.session.config().screen.reasoning;
        let value = if folded { "off" } else { "on" };
        if let Some(param) = protocol::find("reasoning")
            && let Ok(change) = self.session.config().with(param, value)
        {
            self.session.apply(change);
            self.screen.set_folded(folded);
        }
    }
}
