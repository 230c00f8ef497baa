//! What can be done with a model, the same in the machine and in the plain
//! command: a host says where the prompt comes from and where results go.

pub(crate) mod batch;
mod diagnose;
mod kept;
mod measure;
mod selftest;
mod turn;

use std::fs::File;
use std::io::{self, Write};

use protocol::memory::Budget;
use protocol::{Config, Mode};
use texts::Document;

use crate::attached;
use crate::host::{Host, named, warn};
use crate::models::Models;
use crate::prompt;
use crate::session::Session;
use crate::supervisor::Engine;
use crate::timeline::Timeline;
use kept::Kept;
use turn::Outcome;

/// A job.
pub(crate) enum Job {
    /// The prompt, at this terminal.
    Chat(File),
    /// One turn: this message.
    Turn(String),
    /// A turn for each of these lines of JSON.
    Batch(batch::Input),
    /// Say what was found.
    Diag,
    /// Load, answer twice, compare.
    Selftest,
    /// Measure.
    Bench,
}

impl Job {
    /// What `mode` asks for; a chat becomes what `talk` returns.
    ///
    /// # Errors
    /// `talk`'s.
    pub(crate) fn of(mode: Mode, talk: impl FnOnce() -> io::Result<Self>) -> io::Result<Self> {
        match mode {
            Mode::Diag => Ok(Self::Diag),
            Mode::Selftest => Ok(Self::Selftest),
            Mode::Bench => Ok(Self::Bench),
            Mode::Chat => talk(),
        }
    }
}

/// Where a host wants what comes out of a job.
pub(crate) struct Outputs {
    /// The answer's text, as it comes.
    pub(crate) answer: Box<dyn Write>,
    /// A line of JSON for each turn or measurement, if it is wanted.
    pub(crate) results: Option<Box<dyn Write>>,
}

/// What a job is done with.
pub(crate) struct Given {
    /// Where it runs.
    pub(crate) host: Host,
    /// Parameters.
    pub(crate) config: Config,
    /// How much memory each thing may take.
    pub(crate) budget: Budget,
    /// The models to choose from.
    pub(crate) models: Models,
    /// Where results go.
    pub(crate) outputs: Outputs,
    /// When what was done.
    pub(crate) timeline: Timeline,
}

/// Does `job`; returns whether all was answered, or all was well.
///
/// # Errors
/// The terminal's or the outputs'.
pub(crate) fn run(job: Job, given: Given) -> io::Result<bool> {
    let Given {
        host,
        mut config,
        budget,
        mut models,
        mut outputs,
        timeline,
    } = given;
    if !matches!(job, Job::Batch(_)) {
        config.engine.parallel = Some(1);
    }
    match job {
        Job::Chat(tty) => prompt::run(
            host,
            new_session(host, config, budget),
            models,
            tty,
            timeline,
        )
        .map_err(|e| named(&e, "the terminal cannot be used")),
        Job::Diag => {
            let settled = models.settle();
            let mut text = diagnose::diagnosis(&config, &models);
            if let Err(why) = &settled {
                text = format!("{text}note: {why}\n");
            }
            outputs.answer.write_all(text.as_bytes())?;
            Ok(settled.is_ok())
        }
        Job::Selftest => match load_only(host, config, budget, &mut models) {
            Ok(mut session) => selftest::run(host, &mut session, &mut outputs.answer),
            Err(why) => selftest::failed(&mut outputs.answer, &why),
        },
        Job::Bench => match load_only(host, config, budget, &mut models) {
            Ok(mut session) => {
                measure::run(&mut session, &mut outputs.results.unwrap_or(outputs.answer))
            }
            Err(why) => {
                warn(&why);
                Ok(false)
            }
        },
        Job::Turn(message) => {
            let answer = &mut outputs.answer;
            let outcome = one_turn(host, config, budget, &mut models, &message, answer)?;
            report(&outcome, outputs.results)
        }
        Job::Batch(_) if config.start.session.is_some() => {
            let session = host.option("session");
            let why = format!("a batch keeps no conversation: leave out {session} [ZE-61]");
            fail(why, outputs.results)
        }
        Job::Batch(input) => {
            let mut session = new_session(host, config, budget);
            let model = models.only();
            let documents = match model.and_then(|m| Ok((m, read_given(&models, &budget)?))) {
                Ok((model, documents)) => {
                    let draft = models.draft_for(&model);
                    session.load_first(model, draft);
                    documents
                }
                // Each line gets a result that says so.
                Err(why) => {
                    session.refuse(why);
                    Vec::new()
                }
            };
            let mut results = outputs.results.unwrap_or(outputs.answer);
            batch::run(host, &mut session, &documents, input, &mut results)
        }
    }
}

/// One turn, of a conversation that is kept if the user wants that.
fn one_turn(
    host: Host,
    config: Config,
    budget: Budget,
    models: &mut Models,
    message: &str,
    answer: &mut impl Write,
) -> io::Result<Outcome> {
    let loaded = Kept::open(host, &config).and_then(|kept| {
        let session = load_only(host, config, budget, models)?;
        Ok((session, kept, read_given(models, &budget)?))
    });
    let (mut session, mut kept, documents) = match loaded {
        Ok(loaded) => loaded,
        Err(why) => return Ok(Outcome::failed(why)),
    };
    if let Some(kept) = &kept {
        kept.resume(&mut session);
    }
    let mut outcome = turn::run(
        host,
        &mut session,
        &documents,
        message,
        answer,
        kept.as_mut(),
    )?;
    if let Some(Err(why)) = kept.map(|kept| kept.keep(&mut session)) {
        outcome.not_kept(&why);
    }
    Ok(outcome)
}

/// The end of a turn that could not even begin.
///
/// # Errors
/// The output's.
pub(crate) fn fail(why: String, results: Option<Box<dyn Write>>) -> io::Result<bool> {
    report(&Outcome::failed(why), results)
}

fn report(outcome: &Outcome, results: Option<Box<dyn Write>>) -> io::Result<bool> {
    if let Some(error) = &outcome.error {
        warn(error);
    }
    if let Some(mut results) = results {
        outcome.write(&mut results)?;
    }
    Ok(outcome.answered)
}

/// What goes before a prompt: all that the user attached.
fn read_given(models: &Models, budget: &Budget) -> Result<Vec<Document>, String> {
    if let Some(why) = models.unread().first() {
        return Err(why.clone());
    }
    attached::read_given(models.texts(), budget, &mut |line| warn(line))
}

/// A session whose engines are processes.
fn new_session(host: Host, config: Config, budget: Budget) -> Session<Engine> {
    Session::new(host, config, budget, Box::new(Engine::start))
}

fn load_only(
    host: Host,
    config: Config,
    budget: Budget,
    models: &mut Models,
) -> Result<Session<Engine>, String> {
    let model = models.only()?;
    let mut session = new_session(host, config, budget);
    let draft = models.draft_for(&model);
    session.load_first(model, draft);
    Ok(session)
}
