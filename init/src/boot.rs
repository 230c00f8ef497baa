//! What PID 1 does, top to bottom.

use std::fs;
use std::io;
use std::path::Path;

use protocol::memory::Budget;
use protocol::{Config, LogLevel, from_kernel_command_line};

use crate::button::Button;
use crate::console::{self, ConsoleError};
use crate::disk::{self, Finder};
use crate::host::{Host, Named, Sanitized, answer_output, chain, read_budget, terminal, warn};
use crate::job::batch::{self, Lines, Progress, Style};
use crate::job::{self, Given, Job, Outputs};
use crate::models::Models;
use crate::mounts::{self, MountError, Mounted};
use crate::ports::{self, Order};
use crate::power;
use crate::sockets::{self, SocketsError};
use crate::timeline::Timeline;

/// Boots, does its job, and powers the machine off.
pub(crate) fn boot() -> ! {
    power::install_panic_hook();
    if let Err(error) = run() {
        warn(&format!("{} [ZE-50]", chain(&error)));
    }
    power::power_off()
}

/// What the kernel keeps of its command line (`COMMAND_LINE_SIZE`, less the
/// terminating zero): the rest is lost without a word.
const COMMAND_LINE_BYTES: usize = 2047;

#[derive(Debug, thiserror::Error)]
enum BootError {
    #[error("the machine cannot be set up")]
    Mounts(#[from] MountError),
    #[error("there is no terminal to talk at")]
    Console(#[from] ConsoleError),
    #[error(transparent)]
    Sockets(#[from] SocketsError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn run() -> Result<(), BootError> {
    let timeline = Timeline::of_machine();
    let mounted = mounts::mount_kernel_file_systems()?;
    let (config, warnings) = read_parameters(mounted);
    tune_kernel(mounted, config.engine.log);
    console::take(mounted)?;
    sockets::give_up()?;
    if config.engine.log >= LogLevel::Warn {
        for warning in &warnings {
            warn(warning);
        }
    }
    let host = Host::Machine(mounted);
    let budget = read_budget();
    let mut outputs = Outputs {
        answer: answer_output(host)?,
        results: results_port(mounted)?,
    };
    let wanted = config.start.prompt.clone();
    let job = match Job::of(config.start.mode, || match wanted {
        None => terminal().map(Job::Chat),
        Some(text) if text != "-" => Ok(Job::Turn(text)),
        Some(_) => take_order(mounted, &budget, &mut outputs),
    }) {
        Ok(job) => job,
        Err(e) => {
            job::fail(
                format!("the prompt cannot be read: {e} [ZE-62]"),
                outputs.results,
            )?;
            return Ok(());
        }
    };
    if !matches!(job, Job::Chat(_)) {
        Button::find(mounted).power_off_when_pressed();
    }
    let models = Models::on_disks(host, Finder::new(mounted), &config.start);
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
    )?;
    Ok(())
}

/// Parameters from the disk and, before those, from the kernel command line; a
/// line for each that cannot be used.
fn read_parameters(mounted: Mounted) -> (Config, Vec<String>) {
    // The command line may hold any byte; what is not UTF-8 is shown as such.
    let line = fs::read("/proc/cmdline").unwrap_or_default();
    let full = line.trim_ascii_end().len() >= COMMAND_LINE_BYTES;
    let line = String::from_utf8_lossy(&line);
    let words = disk::read_parameters(mounted, Path::new("/sys"), Path::new("/dev"));
    let on_disk = words.as_deref().unwrap_or_default();
    let (config, mut warnings) = from_kernel_command_line(&format!("{on_disk}{line}"));
    warnings.extend(words.err());
    if full {
        warnings.push(format!(
            "the kernel keeps {COMMAND_LINE_BYTES} bytes of its command line, which has as many: \
             what came behind them is lost; put long parameters on a disk [ZE-53]"
        ));
    }
    (config, warnings)
}

/// Settings that the kernel has no command-line option for. None is needed to
/// run, so a kernel without one of these files is not an error.
fn tune_kernel(_proof: Mounted, log: LogLevel) {
    let mut settings = vec![
        // Allocations fail where the machine would otherwise deadlock on memory;
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

/// Who takes what is written to a port.
const THE_HOST: &str = "the host";

/// What the host asks for on its port, and the answer's way back.
fn take_order(mounted: Mounted, budget: &Budget, outputs: &mut Outputs) -> io::Result<Job> {
    let mut port = ports::open(mounted, ports::TURN)?;
    let order = ports::fetch_order(&mut port, budget.prompt_bytes)?;
    Ok(match order {
        Order::Prompt { text, at_terminal } => {
            let port = Named::new(port, THE_HOST);
            outputs.answer = if at_terminal {
                Box::new(Sanitized(port))
            } else {
                Box::new(port)
            };
            Job::Turn(text)
        }
        Order::Batch {
            last,
            skip,
            at_terminal,
        } => {
            let lines = Lines::new(port.try_clone()?, budget.prompt_bytes, Some(last));
            // The host shows what comes on the answer's way.
            let style = if at_terminal {
                Style::Replaced
            } else {
                Style::Lines
            };
            let progress = Progress::new(Box::new(port), style);
            Job::Batch(batch::Input {
                lines,
                skip,
                progress,
            })
        }
    })
}

/// Where the host wants results, if it gave a port for them.
fn results_port(mounted: Mounted) -> io::Result<Option<Box<dyn io::Write>>> {
    if !ports::is_there(mounted, ports::RESULT) {
        return Ok(None);
    }
    let port = Named::new(ports::open(mounted, ports::RESULT)?, THE_HOST);
    Ok(Some(Box::new(port)))
}
