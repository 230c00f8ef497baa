//! Many prompts, each in a conversation of its own: a line of JSON in, a line of JSON
//! out, in the same order. Every line gets its result, whatever happens. The engine
//! makes several answers side by side; here a bounded number of lines waits for it.

mod line;
mod lines;
mod progress;
mod results;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::AsFd as _;

use protocol::{Order, Spoken, TurnError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use texts::Document;

use super::turn::Outcome;
use crate::host::{Host, warn};
use crate::peer::{Peer, TICK};
use crate::session::{Phase, Session, Update};
use line::Id;
use lines::Taken;

pub(crate) use lines::Lines;
pub(crate) use progress::{Progress, Style};
pub(crate) use results::{create, resume};

/// Lines that are held at most: as one answer can take as long as many others, results
/// wait for those before them.
const HELD_MAX: usize = 256;

/// A prompt whose engine dies this often is given up.
const DEATHS_MAX: u32 = 2;

/// So many such prompts in a row may be no fault of theirs: engines that die of whatever
/// comes are not started for ever.
const GIVEN_UP_MAX: u32 = 8;

/// What a batch is made of.
pub(crate) struct Input {
    /// The lines.
    pub(crate) lines: Lines,
    /// Of these, how many have their results already.
    pub(crate) skip: u64,
    /// Where it is told how far it is.
    pub(crate) progress: Progress,
}

/// A line and what has become of it.
struct Held {
    number: u64,
    name: Id,
    /// What it takes here, with its result.
    bytes: usize,
    /// What to ask; `None` where there is nothing to.
    order: Option<Order>,
    /// An engine has it.
    asked: bool,
    /// Engines that have died of it, or of one beside it.
    deaths: u32,
    /// Its result, which waits for those before it.
    outcome: Option<Outcome>,
}

/// A batch under way.
struct Batch<'s, P> {
    host: Host,
    session: &'s mut Session<P>,
    documents: &'s [Document],
    held: VecDeque<Held>,
    /// What the lines held take, bytes, and the most.
    bytes: usize,
    bytes_max: usize,
    progress: Progress,
    /// Prompts that were given up since the last answer.
    given_up: u32,
    /// Why there is no engine any more.
    gone: Option<String>,
}

/// Answers each of `input`'s lines, each after `documents`, and writes its result to `results`; a line that
/// cannot be understood gets one that says so. Returns whether all were answered, but for
/// those that had their results already.
///
/// # Errors
/// The input's or `results`'s.
pub(crate) fn run<P: Peer>(
    host: Host,
    session: &mut Session<P>,
    documents: &[Document],
    input: Input,
    results: &mut impl Write,
) -> io::Result<bool> {
    let Input {
        mut lines,
        mut skip,
        progress,
    } = input;
    let bytes_max = usize::try_from(session.budget().prompt_bytes).unwrap_or(usize::MAX);
    let mut batch = Batch {
        host,
        session,
        documents,
        held: VecDeque::new(),
        bytes: 0,
        bytes_max,
        progress,
        given_up: 0,
        gone: None,
    };
    let mut number = 0;
    let mut ended = false;
    loop {
        let mut moved = batch.listen();
        let mut starved = false;
        while !ended && batch.has_room() {
            match lines.take(&mut number) {
                Taken::Line(_) if skip > 0 => skip = skip.saturating_sub(1),
                Taken::Line(line) => batch.hold(number, line),
                Taken::NotYet => {
                    starved = true;
                    break;
                }
                Taken::End => ended = true,
            }
        }
        moved |= batch.ask();
        batch.write(results)?;
        batch.progress.show();
        if ended && batch.held.is_empty() {
            return Ok(batch.progress.end());
        }
        // Results that were written make room for lines that have been read already.
        moved |= !ended && !starved && batch.has_room();
        if !moved && batch.wait(lines.source().filter(|_| starved)) {
            lines.read_more()?;
        }
    }
}

impl<P: Peer> Batch<'_, P> {
    fn has_room(&self) -> bool {
        self.held.len() < HELD_MAX && self.bytes < self.bytes_max
    }

    /// Takes a line.
    fn hold(&mut self, number: u64, line: Result<String, String>) {
        let length = line.as_ref().map_or(0, String::len);
        let (name, order) = match line {
            Ok(line) => {
                let config = self.session.config();
                let grammar = self.session.grammar(&config.chat);
                line::read(&line, config, self.documents, grammar)
            }
            Err(why) => (None, Err(why)),
        };
        let (order, outcome) = match order {
            Ok(order) => (
                Some(Order {
                    id: number,
                    ..order
                }),
                None,
            ),
            Err(why) => {
                let why = self.host.words(&why);
                (None, Some(Outcome::failed(format!("line {number}: {why}"))))
            }
        };
        // With it go the texts that are attached to each.
        let messages = order.iter().flat_map(|order| &order.messages);
        let bytes = messages
            .map(|message| message.text.len())
            .fold(length, usize::saturating_add);
        self.bytes = self.bytes.saturating_add(bytes);
        self.held.push_back(Held {
            number,
            name,
            bytes,
            order,
            asked: false,
            deaths: 0,
            outcome,
        });
    }

    /// Hears what the engine has to say; whether there was anything.
    fn listen(&mut self) -> bool {
        let mut heard = false;
        while let Some(update) = self.session.try_next() {
            heard = true;
            match update {
                Update::Answered { id, result } => self.on_answer(id, result),
                // Of each that it was asked.
                Update::NotRendered(_) => self.on_death(),
                Update::Notice(line) => warn(&line),
                Update::Refused { error, .. } => {
                    // Every line ends for the same reason: it is said once.
                    warn(&error);
                    self.gone = Some(error);
                }
                Update::Ready => self.progress.begin(),
                Update::Progress(_)
                | Update::Prefill(..)
                | Update::Text(..)
                | Update::Done(_)
                | Update::BrokenOff
                | Update::TakenBack { .. }
                | Update::Counted(_)
                | Update::Sized(_)
                | Update::Evaluated(_)
                | Update::Rendered { .. }
                | Update::Measured(_) => {}
            }
        }
        heard
    }

    fn on_answer(&mut self, id: u64, result: Result<Box<Spoken>, TurnError>) {
        self.given_up = 0;
        let load_ms = self.session.info().map_or(0, |info| info.load_ms);
        let outcome = match result {
            Ok(spoken) => Outcome::of(self.host, *spoken, load_ms),
            Err(error) => Outcome::failed(self.host.words(&error.to_string())),
        };
        if let Some(held) = self.held.iter_mut().find(|held| held.number == id) {
            let bytes = outcome.text.len().saturating_add(outcome.reasoning.len());
            held.bytes = held.bytes.saturating_add(bytes);
            self.bytes = self.bytes.saturating_add(bytes);
            held.asked = false;
            held.outcome = Some(outcome);
        }
    }

    /// What was asked has gone with its engine. One of these prompts may be the cause:
    /// each is asked by itself then, and one that is alone when it happens again is it.
    fn on_death(&mut self) {
        let alone = self.held.iter().filter(|held| held.asked).count() == 1;
        for held in self.held.iter_mut().filter(|held| held.asked) {
            held.asked = false;
            held.deaths = held.deaths.saturating_add(1);
            if alone && held.deaths >= DEATHS_MAX {
                let why = "the engine died of this prompt twice [ZE-40]";
                held.outcome = Some(Outcome::failed(why.to_owned()));
                self.given_up = self.given_up.saturating_add(1);
                if self.given_up < GIVEN_UP_MAX {
                    self.session.explain_deaths();
                }
            }
        }
    }

    /// Asks for as many answers as the engine can be kept busy with; whether any.
    fn ask(&mut self) -> bool {
        if let Some(why) = &self.gone {
            for held in &mut self.held {
                held.outcome
                    .get_or_insert_with(|| Outcome::failed(why.clone()));
            }
            return false;
        }
        if self.session.phase() != Phase::Ready {
            return false;
        }
        let parallel = self.session.info().map_or(1, |info| info.parallel);
        let most = usize::try_from(parallel.saturating_mul(2)).unwrap_or(1);
        let mut asked_any = false;
        loop {
            let asked = self.held.iter().filter(|held| held.asked).count();
            let suspect = |held: &Held| held.outcome.is_none() && held.deaths > 0;
            let next = match self.held.iter().position(suspect) {
                Some(at) if asked == 0 => Some(at),
                None if asked < most => self.held.iter().position(Held::is_waiting),
                Some(_) | None => None,
            };
            let Some(held) = next.and_then(|at| self.held.get_mut(at)) else {
                return asked_any;
            };
            asked_any = true;
            match held.order.as_ref().map(|order| self.session.order(order)) {
                Some(Err(why)) => held.outcome = Some(Outcome::failed(self.host.words(&why))),
                Some(Ok(())) | None => held.asked = true,
            }
        }
    }

    /// Writes the results that wait for no other.
    fn write(&mut self, results: &mut impl Write) -> io::Result<()> {
        let has_result = |held: &Held| held.outcome.is_some();
        while self.held.front().is_some_and(has_result)
            && let Some(held) = self.held.pop_front()
            && let Some(mut outcome) = held.outcome
        {
            self.bytes = self.bytes.saturating_sub(held.bytes);
            let tokens = outcome.timings.as_ref().map_or(0, |t| t.generated_tokens);
            let error = outcome.error.as_deref();
            self.progress.add(outcome.answered, tokens, error);
            outcome.id = held.name;
            outcome.write(results)?;
        }
        Ok(())
    }

    /// Waits for the engine, and for `source` if there is room for more of it: whether
    /// there is something to read.
    fn wait(&mut self, source: Option<&std::fs::File>) -> bool {
        let tick = Timespec::try_from(TICK).ok();
        let ready = {
            let mut fds: Vec<PollFd<'_>> = source
                .iter()
                .map(|source| PollFd::from_borrowed_fd(source.as_fd(), PollFlags::IN))
                .collect();
            let engine = self.session.poll_fds();
            fds.extend(engine.iter().map(|(fd, flags)| PollFd::new(fd, *flags)));
            match poll(&mut fds, tick.as_ref()) {
                Ok(0) => None,
                Ok(_) => {
                    Some(source.is_some() && fds.first().is_some_and(|fd| !fd.revents().is_empty()))
                }
                Err(Errno::INTR) => Some(false),
                Err(_) => None,
            }
        };
        if ready.is_none() {
            self.session.tick();
        }
        ready.unwrap_or(false)
    }
}

impl Held {
    /// Whether it is still to be asked.
    fn is_waiting(&self) -> bool {
        !self.asked && self.outcome.is_none()
    }
}
