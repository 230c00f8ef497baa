//! The plain command: the same chat on any Linux machine, without PID 1's work.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::ExitCode;

use crate::disk::{self, Found};
use crate::one_turn::{self, warn};
use crate::session::Session;
use crate::timeline::Timeline;
use crate::{bench, repl, report};
use protocol::{Config, Invocation, Mode, Output};

/// Nothing was answered.
const FAILED: u8 = 1;
/// The arguments are wrong.
const USAGE: u8 = 2;

/// Runs the command with `args`, its own name left out.
pub(crate) fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Result<Vec<String>, OsString> = args.map(OsString::into_string).collect();
    let invocation = match args {
        Ok(args) => protocol::from_flags(args.into_iter()),
        Err(arg) => Err(format!("{}: not UTF-8", arg.display())),
    };
    let finished = match invocation {
        Ok(Invocation::Help) => print(&protocol::help_text()),
        Ok(Invocation::Version) => print(concat!("zosia ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Invocation::Parameters) => print(&protocol::reference_page()),
        Ok(Invocation::Run(config, output)) => run_with(*config, &output),
        Err(error) => {
            warn(&error);
            return ExitCode::from(USAGE);
        }
    };
    match finished {
        Ok(code) => code,
        // A reader like `head` that has seen enough is no failure of ours.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(FAILED),
        Err(e) => {
            warn(&e.to_string());
            ExitCode::from(FAILED)
        }
    }
}

fn run_with(config: Config, output: &Output) -> io::Result<ExitCode> {
    let timeline = Timeline::of_command();
    let Some(path) = config.start.model.clone() else {
        warn("which model? `init MODEL`; --help tells more");
        return Ok(ExitCode::from(USAGE));
    };
    let found = match disk::model_from_path(Path::new(&path)) {
        Ok(found) => found,
        Err(e) => {
            warn(&report::chain(&e));
            return Ok(ExitCode::from(FAILED));
        }
    };
    match config.start.mode {
        Mode::Diag => return print(&report::diagnosis(&config, &found)),
        Mode::Selftest => {
            return Ok(exit_code(report::selftest(
                config,
                &found,
                &mut io::stdout(),
            )?));
        }
        Mode::Bench => {
            let Some(mut session) = session_with_first(config, &found) else {
                return Ok(ExitCode::from(FAILED));
            };
            return Ok(exit_code(bench::run(&mut session, &mut io::stdout())?));
        }
        Mode::Chat => {}
    }
    if let Output::Batch(file) = output {
        let lines = read_batch(file)?;
        let Some(mut session) = session_with_first(config, &found) else {
            return Ok(ExitCode::from(FAILED));
        };
        let answered = one_turn::run_batch(&mut session, &lines, &mut io::stdout())?;
        return Ok(exit_code(answered));
    }
    let Some(prompt) = prompt(&config)? else {
        let models = repl::Models::given(found);
        let tty = owned(io::stdin())?;
        repl::run(config, models, tty, repl::Place::Command, timeline)?;
        return Ok(ExitCode::SUCCESS);
    };
    let Some(mut session) = session_with_first(config, &found) else {
        return Ok(ExitCode::from(FAILED));
    };
    let outcome = if *output == Output::Json {
        let outcome = one_turn::run(&mut session, &prompt, &mut io::sink())?;
        one_turn::write_outcome(&mut io::stdout(), &outcome)?;
        outcome
    } else {
        one_turn::run(&mut session, &prompt, &mut io::stdout())?
    };
    if let Some(error) = &outcome.error {
        warn(error);
    }
    Ok(exit_code(outcome.answered))
}

/// A session with the first model found, and a word if there are others.
fn session_with_first(config: Config, found: &Found) -> Option<Session> {
    let model = found.models.first()?;
    if let [_, others @ ..] = found.models.as_slice()
        && !others.is_empty()
    {
        warn(&format!(
            "{} is the first of {} models",
            model.name,
            found.models.len()
        ));
    }
    let mut session = Session::new(config);
    session.load(model.clone());
    Some(session)
}

/// The message of a one-turn run; `None` means a chat.
fn prompt(config: &Config) -> io::Result<Option<String>> {
    let piped = !io::stdin().is_terminal();
    match (&config.start.prompt, piped) {
        (None, false) => Ok(None),
        (Some(text), false) if text != "-" => Ok(Some(text.clone())),
        (Some(text), true) if text != "-" => {
            let context = read_input_if_file()?;
            if context.is_empty() {
                return Ok(Some(text.clone()));
            }
            Ok(Some(format!("{text}\n\n{context}")))
        }
        _ => read_input().map(Some),
    }
}

fn read_batch(file: &str) -> io::Result<String> {
    let lines = match file {
        "-" => io::read_to_string(io::stdin()),
        file => std::fs::read_to_string(file),
    };
    lines.map_err(|e| io::Error::new(e.kind(), format!("{file} cannot be read as text: {e}")))
}

fn read_input() -> io::Result<String> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(|e| {
        io::Error::new(
            e.kind(),
            format!("standard input cannot be read as text: {e}"),
        )
    })?;
    if text.trim().is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "standard input is empty: nothing to answer",
        ));
    }
    Ok(text.trim_end_matches('\n').to_owned())
}

/// Standard input of `-p TEXT` is context when it is a file or a pipe; anything
/// else (a socket, `/dev/null`) just came with the process.
fn read_input_if_file() -> io::Result<String> {
    use std::os::unix::fs::FileTypeExt as _;
    let kind = File::from(io::stdin().as_fd().try_clone_to_owned()?)
        .metadata()?
        .file_type();
    if !kind.is_file() && !kind.is_fifo() {
        return Ok(String::new());
    }
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

fn owned(fd: impl std::os::fd::AsFd) -> io::Result<File> {
    fd.as_fd().try_clone_to_owned().map(File::from)
}

fn exit_code(answered: bool) -> ExitCode {
    if answered {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    }
}

fn print(text: &str) -> io::Result<ExitCode> {
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
