//! The prompt's loop: what is typed goes to the editor, what is sent to the
//! session, what comes back to the screen. One thread, one `poll`.

mod answer;
mod commands;
mod execute;
mod models;
mod room;
mod say;

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::disk::Choice;
use crate::session::{Session, State, Update};
use crate::timeline::Timeline;
use answer::AnswerView;
pub(crate) use models::Models;
use protocol::memory::mib;
use protocol::{Config, LogLevel};
use protocol::{Progress, Stage, Switch};
use term::{Action, Completion, Look, Prompt, Size, Tty};

/// Typing pauses for this long before what is typed is evaluated ahead.
const DRAFT_PAUSE: Duration = Duration::from_millis(50);
/// Shorter drafts are not worth it.
const DRAFT_BYTES_MIN: usize = 24;
/// Drafts with more bytes for each token of the context do not fit it, most
/// likely: what was pasted by the megabyte is not even tokenized ahead.
const DRAFT_BYTES_A_TOKEN_MAX: usize = 16;

/// Where the prompt runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In PID 1: leaving powers off.
    Machine,
    /// In the plain command: leaving exits.
    Command,
}

/// Runs the prompt at `tty` until the user leaves.
///
/// # Errors
/// The terminal's; a terminal that hung up is a way of leaving.
pub(crate) fn run(
    config: Config,
    models: Models,
    tty: File,
    place: Place,
    timeline: Timeline,
) -> io::Result<()> {
    let mut repl = Repl::new(config, models, tty, place, timeline)?;
    repl.greet();
    while !repl.leaving {
        repl.step()?;
    }
    repl.leave()
}

struct Repl {
    place: Place,
    session: Session,
    models: Models,
    tty: Tty,
    prompt: Prompt,
    colour: bool,
    out: Vec<u8>,
    answer: Option<AnswerView>,
    /// A message that did not fit the context, until a command makes room.
    held: Option<String>,
    /// `/drop` was given: it goes on until the held message fits.
    dropping: bool,
    /// What was last evaluated ahead, and since when the text stands.
    drafted: String,
    typed_at: Instant,
    timeline: Timeline,
    signals: Signals,
    leaving: bool,
}

#[derive(Default)]
struct Signals {
    ended: Arc<AtomicBool>,
    resized: Arc<AtomicBool>,
}

impl Signals {
    fn register() -> io::Result<Self> {
        use signal_hook::consts::{SIGHUP, SIGTERM, SIGWINCH};
        let signals = Self::default();
        for signal in [SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, signals.ended.clone())?;
        }
        signal_hook::flag::register(SIGWINCH, signals.resized.clone())?;
        Ok(signals)
    }
}

impl Repl {
    fn new(
        config: Config,
        models: Models,
        tty: File,
        place: Place,
        timeline: Timeline,
    ) -> io::Result<Self> {
        let signals = match place {
            Place::Command => Signals::register()?,
            Place::Machine => Signals::default(),
        };
        let tty = Tty::new(tty.into())?;
        let given = given_size(&config).or_else(|| tty.size());
        let colour = has_colour(config.screen.color, place);
        let look = Look {
            placeholder: "Send a message (/help for help)".to_owned(),
            colour,
            ..Look::default()
        };
        let mut prompt = Prompt::new(given, look);
        // A size from the host is right at the start only: a window that is
        // resized heals at the next prompt. The kernel's own is always right.
        prompt.set_asking(tty.size().is_none());
        Ok(Self {
            place,
            session: Session::new(config),
            models,
            tty,
            prompt,
            colour,
            out: Vec::new(),
            answer: None,
            held: None,
            dropping: false,
            drafted: String::new(),
            typed_at: Instant::now(),
            timeline,
            signals,
            leaving: false,
        })
    }

    fn greet(&mut self) {
        self.timeline.mark("prompt");
        if self.session.config().engine.log >= LogLevel::Warn {
            let name = concat!("zosia ", env!("CARGO_PKG_VERSION"));
            let leave = match self.place {
                Place::Machine => "Ctrl-D powers off",
                Place::Command => "Ctrl-D leaves",
            };
            self.quiet(&format!("{name} · /help lists the commands · {leave}"));
        }
        self.prompt.open();
    }

    fn leave(mut self) -> io::Result<()> {
        self.prompt.close(&mut self.out);
        if self.place == Place::Machine {
            self.quiet("power off");
        }
        self.flush()
    }

    fn step(&mut self) -> io::Result<()> {
        self.prompt.paint(&mut self.out);
        self.flush()?;
        let readable = self.wait()?;
        if readable {
            let mut bytes = vec![0; 64 << 10];
            let n = self.tty.read(&mut bytes)?;
            if n == 0 {
                self.leaving = true;
                return Ok(());
            }
            self.prompt.feed(bytes.get(..n).unwrap_or_default());
            self.typed_at = Instant::now();
        } else if self
            .prompt
            .timeout()
            .is_some_and(|t| self.typed_at.elapsed() >= t)
        {
            self.prompt.flush();
        }
        self.take_signals();
        self.find_models();
        for update in self.session.updates() {
            self.on_update(update);
        }
        self.take_actions();
        self.draft();
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tty.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    fn wait(&self) -> io::Result<bool> {
        let deadlines = [
            self.prompt.timeout(),
            self.models.next_look(),
            self.draft_due(),
        ];
        let timeout = deadlines.into_iter().flatten().min();
        let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
        let engine = self.session.poll_fds();
        let tty = self.tty.as_fd();
        let mut fds: Vec<PollFd<'_>> = std::iter::once(&tty)
            .chain(&engine)
            .map(|fd| PollFd::new(fd, PollFlags::IN))
            .collect();
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(false),
            Err(e) => return Err(e.into()),
        }
        Ok(fds.first().is_some_and(|fd| !fd.revents().is_empty()))
    }

    fn take_signals(&mut self) {
        if self.signals.ended.load(Ordering::Relaxed) {
            self.leaving = true;
        }
        if self.signals.resized.swap(false, Ordering::Relaxed)
            && let Some(size) = self.tty.size()
        {
            self.resize(size);
        }
    }

    fn resize(&mut self, size: Size) {
        self.prompt.set_size(size, &mut self.out);
        if let Some(answer) = &mut self.answer {
            answer.set_columns(size.columns);
        }
    }

    fn find_models(&mut self) {
        let wanted = match self.place {
            Place::Machine => self.session.config().start.model.clone(),
            // The plain command's MODEL is a path, and has been followed.
            Place::Command => None,
        };
        if !self.models.look(wanted.as_deref()) {
            return;
        }
        self.timeline.mark("disks");
        if self.session.config().engine.log >= LogLevel::Info {
            let notes = self.models.notes().to_vec();
            for note in &notes {
                self.tell(note);
            }
        }
        match self.models.choose(wanted.as_deref()) {
            Ok(Choice::One(model)) => {
                let model = model.clone();
                self.session.load(model);
            }
            Ok(Choice::Several(models)) => {
                let names: Vec<String> = models.iter().map(|m| format!("  {}", m.name)).collect();
                let line = format!(
                    "there are several models; /model NAME loads one:\n{}",
                    names.join("\n")
                );
                self.tell(&line);
            }
            Err(e) => self.complain(&e.to_string()),
        }
    }

    fn take_actions(&mut self) {
        let models: Vec<String> = self.models.all().iter().map(|m| m.name.clone()).collect();
        let complete = |typed: &str| Completion {
            start: typed.rfind(' ').map_or(0, |space| space + 1),
            candidates: commands::candidates(typed, &models),
        };
        while let Some(action) = self.prompt.next_action(&complete) {
            match action {
                Action::Submit(sent) => self.on_submit(&sent.text, sent.literal),
                Action::Stop => self.stop(),
                Action::Fold => self.fold(),
                Action::Interrupted => self.quiet("Ctrl-D or /exit leaves"),
                Action::Eof => self.leaving = true,
                Action::Notice(line) => self.tell(&line),
                Action::Resized(size) => self.resize(size),
            }
        }
    }

    fn on_submit(&mut self, text: &str, literal: bool) {
        // The line stands before anything that it leads to, or that was typed
        // after it.
        self.prompt.hide(&mut self.out);
        self.drafted.clear();
        let message = match text.strip_prefix("//") {
            Some(rest) if !literal => format!("/{rest}"),
            _ if text.starts_with('/') && !literal => {
                match commands::parse(text) {
                    Ok(command) => self.execute(command),
                    Err(error) => self.complain(&error),
                }
                if self.answer.is_none() {
                    self.prompt.open();
                }
                return;
            }
            _ => text.to_owned(),
        };
        if message.trim().is_empty() {
            self.prompt.open();
            return;
        }
        self.held = None;
        self.ask(message);
    }

    fn ask(&mut self, message: String) {
        self.session.ask(message);
        self.await_answer();
    }

    /// Folds or unfolds what the model thinks; after the answer, shows it.
    fn fold(&mut self) {
        if self.answer.is_none() {
            return self.think();
        }
        let config = self.session.config_mut();
        config.screen.reasoning = !config.screen.reasoning;
        let folded = !config.screen.reasoning;
        self.prompt.hide(&mut self.out);
        if let Some(answer) = &mut self.answer {
            answer.set_folded(folded, &mut self.out);
        }
        self.show_thinking();
    }

    /// One line says that something goes on which is not shown.
    fn show_thinking(&mut self) {
        let folded = self.answer.as_ref().is_some_and(AnswerView::is_folded);
        self.prompt
            .set_status(folded.then(|| "thinking; Ctrl-O shows it".to_owned()));
    }

    /// The prompt makes way for an answer.
    fn await_answer(&mut self) {
        if self.session.is_pending() && *self.session.state() == State::Idle {
            let text = self.session.cancel().unwrap_or_default();
            self.prompt.set_text(&text, true);
            let line = match self.session.model() {
                None => "there is no model yet: /model lists those on the disks",
                Some(_) => "the model is not loaded: /model NAME loads one",
            };
            self.complain(line);
            self.prompt.open();
            return;
        }
        self.answer = Some(AnswerView::new(
            self.prompt.size().columns,
            self.colour,
            self.session.config().screen.raw,
            !self.session.config().screen.reasoning,
        ));
    }

    fn stop(&mut self) {
        if let Some(text) = self.session.cancel() {
            self.answer = None;
            self.prompt.set_text(&text, true);
            self.prompt.open();
        }
    }

    fn on_update(&mut self, update: Update) {
        match update {
            Update::Progress(progress) => self.prompt.set_status(Some(progress_text(&progress))),
            Update::Ready => {
                self.timeline.mark("ready");
                self.prompt.set_status(None);
                if let Some(info) = self.session.info() {
                    let line = execute::model_line(info);
                    self.quiet(&line);
                }
            }
            Update::Refused(error) => {
                self.prompt.set_status(None);
                self.complain(&error);
                if let Some(text) = self.session.cancel() {
                    self.prompt.set_text(&text, true);
                }
                self.end_answer();
            }
            Update::Notice(line) => self.tell(&line),
            Update::Prefill(done, total) => {
                if self.answer.as_ref().is_some_and(|a| !a.has_begun()) && total > 64 {
                    let percent = u64::from(done) * 100 / u64::from(total.max(1));
                    let status = format!("evaluating {total} tokens {percent:3} %");
                    self.prompt.set_status(Some(status));
                }
            }
            Update::Text(kind, text) => {
                self.timeline.mark("first token");
                self.dropping = false;
                self.prompt.set_status(None);
                self.prompt.hide(&mut self.out);
                if let Some(answer) = &mut self.answer {
                    answer.push(kind, &text, &mut self.out);
                }
                self.show_thinking();
            }
            Update::Done(stats) => {
                self.finish_answer();
                if let Some(ctx) = self.session.info().map(|i| i.ctx_tokens) {
                    let line = execute::turn_line(&stats, ctx);
                    self.quiet(&line);
                    self.warn_if_filling(stats.ctx_used_tokens, ctx);
                }
                self.end_answer();
            }
            Update::BrokenOff => {
                self.finish_answer();
                self.end_answer();
            }
            Update::TakenBack {
                error,
                text,
                too_long,
            } => {
                self.finish_answer();
                if too_long {
                    return self.on_too_long(&error, text);
                }
                self.complain(&error);
                self.prompt.set_text(&text, true);
                self.end_answer();
            }
            Update::Rendered { text, tokens } => self.on_rendered(&text, &tokens),
            Update::Measured(_) => {}
            Update::Counted(counted) => self.on_counted(&counted),
            Update::NotRendered(error) => self.complain(&error),
        }
    }

    fn finish_answer(&mut self) {
        self.prompt.set_status(None);
        self.prompt.hide(&mut self.out);
        if let Some(answer) = self.answer.take() {
            answer.finish(&mut self.out);
        }
    }

    fn end_answer(&mut self) {
        self.answer = None;
        if !self.prompt.is_open() {
            self.prompt.open();
        }
    }

    fn draft_due(&self) -> Option<Duration> {
        let text = self.prompt.text();
        let ctx_tokens = self.session.info().map_or(0, |info| info.ctx_tokens);
        let bytes_max = usize::try_from(ctx_tokens).unwrap_or(0) * DRAFT_BYTES_A_TOKEN_MAX;
        let wanted = self.session.config().chat.draft
            && self.prompt.is_open()
            && *self.session.state() == State::Ready
            && (DRAFT_BYTES_MIN..bytes_max).contains(&text.len())
            && !text.starts_with('/')
            && text != self.drafted;
        wanted.then(|| DRAFT_PAUSE.saturating_sub(self.typed_at.elapsed()))
    }

    fn draft(&mut self) {
        if self.draft_due() == Some(Duration::ZERO) {
            self.prompt.text().clone_into(&mut self.drafted);
            self.session.draft(&self.drafted);
        }
    }
}

/// Columns and rows as parameters give them.
fn given_size(config: &Config) -> Option<Size> {
    let (columns, rows) = (config.screen.cols?, config.screen.rows?);
    Some(Size { columns, rows })
}

/// Whether attributes may be used. The machine cannot know what terminal the
/// host has: there, `zosia.color=off` is for one that is dumb.
fn has_colour(wanted: Switch, place: Place) -> bool {
    match (wanted, place) {
        (Switch::On, _) | (Switch::Auto, Place::Machine) => true,
        (Switch::Off, _) => false,
        (Switch::Auto, Place::Command) => {
            std::env::var_os("NO_COLOR").is_none()
                && std::env::var("TERM").is_ok_and(|term| term != "dumb")
        }
    }
}

fn progress_text(p: &Progress) -> String {
    let verb = match p.stage {
        Stage::Reading => "reading the model",
        Stage::Preparing => "loading the model",
    };
    let percent = p.done_bytes.saturating_mul(100) / p.total_bytes.max(1);
    if p.bytes_per_s == 0 {
        return format!("{verb} {percent:3} %");
    }
    let (done, total) = (mib(p.done_bytes), mib(p.total_bytes));
    let rate = p.bytes_per_s / 1_000_000;
    format!("{verb} {percent:3} %  {done} of {total} MiB  {rate} MB/s")
}
