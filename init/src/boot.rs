//! What PID 1 does, top to bottom.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use crate::console::{self, ConsoleError};
use crate::disk::{Finder, Found};
use crate::mounts::{self, MountError};
use crate::one_turn::{self, Outcome, warn};
use crate::ports::{self, Order};
use crate::session::Session;
use crate::timeline::Timeline;
use crate::{bench, disk, power, repl, report};
use protocol::{Config, LogLevel, Mode};

/// Disks appear within milliseconds; a hot-plugged one has this long.
const DISK_DEADLINE: Duration = Duration::from_secs(5);

/// Boots, talks, and powers the machine off.
pub(crate) fn boot() -> ! {
    power::install_panic_hook();
    if let Err(error) = run() {
        warn(&report::chain(&error));
    }
    power::power_off()
}

#[derive(Debug, thiserror::Error)]
enum BootError {
    #[error("the machine cannot be set up")]
    Mounts(#[from] MountError),
    #[error("there is no terminal to talk at")]
    Console(#[from] ConsoleError),
    #[error("the terminal or a port to the host failed")]
    Io(#[from] io::Error),
}

fn run() -> Result<(), BootError> {
    let timeline = Timeline::of_machine();
    mounts::mount_kernel_file_systems()?;
    let line = fs::read_to_string("/proc/cmdline")?;
    let on_disk = disk::read_parameters(Path::new("/sys"), Path::new("/dev"));
    let (config, warnings) = match on_disk {
        Ok(words) => protocol::from_kernel_command_line(&format!("{words}{line}")),
        Err(warning) => {
            let (config, mut warnings) = protocol::from_kernel_command_line(&line);
            warnings.push(warning);
            (config, warnings)
        }
    };
    tune_kernel(config.engine.log);
    let tty = console::take()?;
    if config.engine.log >= LogLevel::Warn {
        for warning in &warnings {
            warn(warning);
        }
    }
    match (config.start.mode, config.start.prompt.clone()) {
        (Mode::Diag, _) => {
            let text = report::diagnosis(&config, &found_or_why_not(&config));
            io::stdout().write_all(text.as_bytes())?;
        }
        (Mode::Selftest, _) => {
            let found = found_or_why_not(&config);
            report::selftest(config, &found, &mut io::stdout())?;
        }
        (Mode::Bench, _) => match one_model(&config) {
            Ok(mut session) => {
                let mut results = results_port()?.unwrap_or_else(|| Box::new(io::stdout()));
                bench::run(&mut session, &mut results)?;
            }
            Err(error) => warn(&error),
        },
        (Mode::Chat, Some(prompt)) => answer_once(&config, &prompt)?,
        (Mode::Chat, None) => {
            let models = repl::Models::on_disks(Finder::new(), DISK_DEADLINE);
            repl::run(config, models, tty, repl::Place::Machine, timeline)?;
        }
    }
    Ok(())
}

/// Settings that the kernel has no command-line option for. None is needed to
/// run, so a kernel without one of these files is no error.
fn tune_kernel(log: LogLevel) {
    let mut settings = vec![
        // Allocations fail where the machine would else deadlock on memory;
        // pages of the mapped model do not count.
        ("/proc/sys/vm/overcommit_ratio", "95"),
        ("/proc/sys/vm/overcommit_memory", "2"),
        // Weights are gigabytes: fewer, larger pages.
        ("/sys/kernel/mm/transparent_hugepage/enabled", "always"),
    ];
    if log < LogLevel::Debug {
        // Only panics reach the terminal.
        settings.push(("/proc/sys/kernel/printk", "1"));
    }
    for (path, value) in settings {
        if let Err(e) = fs::write(path, value)
            && log >= LogLevel::Info
        {
            warn(&format!("{path}: {e}"));
        }
    }
}

fn found_or_why_not(config: &Config) -> Found {
    let found = Finder::new().wait_for_models(config.start.model.as_deref(), DISK_DEADLINE);
    found.unwrap_or_else(|e| Found {
        notes: vec![e.to_string()],
        ..Found::default()
    })
}

/// One turn, or a batch of them, for the host: the prompt from the command line
/// or a port, the answer to a port or, where the host gave none, the console.
fn answer_once(config: &Config, prompt: &str) -> io::Result<()> {
    let (order, mut answers): (io::Result<Order>, Box<dyn Write>) = if prompt == "-" {
        match ports::open(ports::TURN) {
            Ok(mut port) => (ports::read_order(&mut port), Box::new(port)),
            Err(e) => (Err(e), Box::new(io::stdout())),
        }
    } else {
        (Ok(Order::Prompt(prompt.to_owned())), Box::new(io::stdout()))
    };
    let mut results = results_port()?.unwrap_or_else(|| Box::new(io::sink()));
    let outcome = match (order, one_model(config)) {
        (Ok(Order::Prompt(text)), Ok(mut session)) => {
            one_turn::run(&mut session, &text, &mut answers)?
        }
        (Ok(Order::Batch(lines)), Ok(mut session)) => {
            one_turn::run_batch(&mut session, &lines, &mut results)?;
            return Ok(());
        }
        (Ok(_), Err(error)) => Outcome::failed(error),
        (Err(e), _) => Outcome::failed(format!("the prompt cannot be read: {e}")),
    };
    if let Some(error) = &outcome.error {
        warn(error);
    }
    one_turn::write_outcome(&mut results, &outcome)
}

/// Where the host wants results, if it gave a port for them.
fn results_port() -> io::Result<Option<Box<dyn Write>>> {
    if !ports::is_there(ports::RESULT) {
        return Ok(None);
    }
    ports::open(ports::RESULT).map(|port| Some(Box::new(port) as Box<dyn Write>))
}

fn one_model(config: &Config) -> Result<Session, String> {
    let wanted = config.start.model.as_deref();
    let found = Finder::new()
        .wait_for_models(wanted, DISK_DEADLINE)
        .map_err(|e| e.to_string())?;
    let model = match disk::choose(&found.models, wanted).map_err(|e| e.to_string())? {
        disk::Choice::One(model) => model,
        disk::Choice::Several(models) => {
            let names: Vec<&str> = models.iter().map(|m| m.name.as_str()).collect();
            return Err(format!(
                "several models, {}: zosia.model=NAME says which",
                names.join(", ")
            ));
        }
    };
    let mut session = Session::new(config.clone());
    session.load(model.clone());
    Ok(session)
}
