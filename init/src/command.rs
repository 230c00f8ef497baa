//! The plain command: the same jobs on any Linux machine, without PID 1's work.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write};
use std::path::Path;
use std::process::ExitCode;

use protocol::{Batch, Config, Invocation, Output, from_flags, help_text, reference_page};

use crate::attached;
use crate::disk::{self, Found};
use crate::host::{
    Host, Named, answer_output, chain, read_budget, standard_output, terminal, warn,
};
use crate::input;
use crate::job::batch::{self, Progress, Style};
use crate::job::{self, Given, Job, Outputs};
use crate::models::Models;
use crate::timeline::Timeline;

/// Nothing was answered.
const FAILED: u8 = 1;
/// The arguments are wrong.
const USAGE: u8 = 2;

/// Runs the command with `args`, its own name left out.
pub(crate) fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Result<Vec<String>, OsString> = args.map(OsString::into_string).collect();
    let invocation = match args {
        Ok(args) => from_flags(args.into_iter()),
        Err(arg) => Err(format!("{}: not UTF-8", arg.display())),
    };
    let finished = match invocation {
        Ok(Invocation::Help) => print(&help_text()),
        Ok(Invocation::Version) => print(concat!("zosia ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Invocation::Parameters) => print(&reference_page()),
        Ok(Invocation::Run {
            config,
            path: Some(path),
            output,
            attach,
        }) => run_with(*config, &path, &output, &attach),
        Ok(Invocation::Run { path: None, .. }) => {
            warn("which model? `init MODEL`; --help tells more");
            return ExitCode::from(USAGE);
        }
        Err(error) => {
            warn(&error);
            return ExitCode::from(USAGE);
        }
    };
    match finished {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(e) => {
            warn(&format!("{e} [ZE-61]"));
            ExitCode::from(FAILED)
        }
    }
}

fn run_with(config: Config, path: &str, output: &Output, attach: &[String]) -> io::Result<bool> {
    let timeline = Timeline::of_command();
    let host = Host::Command;
    let mut found = match disk::model_from_path(Path::new(path)) {
        Ok(found) => found,
        Err(e) => {
            warn(&chain(&e));
            return Ok(false);
        }
    };
    let (texts, notes) = attached::from_paths(attach).map_err(io::Error::other)?;
    for note in &notes {
        warn(note);
    }
    found.texts = texts;
    if let Some(draft) = &config.start.draft_model {
        add_draft(&mut found, Path::new(draft));
    }
    let budget = read_budget();
    // Before anything is loaded: what cannot be written to is told at once.
    let (results, skip) = results_of(output)?;
    let job = Job::of(config.start.mode, || match output {
        Output::Batch(batch) => {
            let (lines, skip) = (input::lines(&batch.lines, &budget)?, skip);
            let progress = Progress::new(Box::new(io::stderr()), progress_style(batch));
            Ok(Job::Batch(batch::Input {
                lines,
                skip,
                progress,
            }))
        }
        Output::Answer | Output::Json => match input::message(&config, &budget)? {
            Some(message) => Ok(Job::Turn(message)),
            None => terminal().map(Job::Chat),
        },
    })?;
    let outputs = match output {
        Output::Answer => Outputs {
            answer: answer_output(host)?,
            results: None,
        },
        Output::Json | Output::Batch(_) => Outputs {
            answer: Box::new(io::sink()),
            results,
        },
    };
    let models = Models::given(host, found, &config.start);
    job::run(
        job,
        Given {
            host,
            config,
            budget,
            models,
            outputs,
            timeline,
        },
    )
}

/// Adds the draft model, if it is named by the path of a file that is not among those found.
fn add_draft(found: &mut Found, path: &Path) {
    let is_found = found.models.iter().any(|model| model.path == path);
    if is_found || path.is_dir() || !path.exists() {
        return;
    }
    match disk::model_from_path(path) {
        Ok(draft) => found.models.extend(draft.models),
        Err(e) => warn(&chain(&e)),
    }
}

/// Where results go, and how many are there already.
fn results_of(output: &Output) -> io::Result<(Option<Box<dyn Write>>, u64)> {
    Ok(match output {
        Output::Answer => (None, 0),
        Output::Batch(Batch {
            results: Some(path),
            resume,
            ..
        }) => {
            let (file, kept) = if *resume {
                batch::resume(path)?
            } else {
                (batch::create(path)?, 0)
            };
            (Some(Box::new(Named::new(file, path))), kept)
        }
        Output::Json | Output::Batch(_) => (Some(Box::new(standard_output()?)), 0),
    })
}

/// How it is told how far a batch is: not between its results.
fn progress_style(batch: &Batch) -> Style {
    if batch.results.is_none() && io::stdout().is_terminal() {
        Style::Quiet
    } else if io::stderr().is_terminal() {
        Style::Replaced
    } else {
        Style::Lines
    }
}

fn print(text: &str) -> io::Result<bool> {
    standard_output()?.write_all(text.as_bytes())?;
    Ok(true)
}
