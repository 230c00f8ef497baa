//! The engine: the child process that holds the model and all C++.
//!
//! [`run`] is its whole life: load once, then answer requests until the pipe
//! ends. Only the files with `unsafe_code` expected speak to llama.cpp; the
//! others are safe Rust. It keeps no conversation: each turn brings its own.

mod backend;
mod confine;
mod context;
mod counter;
mod fit;
mod generate;
mod grammar;
mod guarded;
mod headcount;
mod interrupt;
mod load;
mod measure;
mod model;
mod prompter;
mod sampler;
mod sequence;
mod serve;
mod speculate;
mod speech;
mod spelling;
#[cfg(test)]
mod tests;
mod text;
mod threads;
mod vocab;
mod warm;
mod wire;

use std::io::{self, Read, Write};
use std::panic::{self, PanicHookInfo};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use confine::Unconfined;
use interrupt::Interrupt;
use load::LoadError;
use protocol::{Event, Load, Request};
use serve::Server;
use wire::{Numbered, Outbox};

/// The engine's process: confined, it serves what comes on its standard input.
#[must_use]
pub fn main() -> ExitCode {
    panic::set_hook(Box::new(tell_panic));
    let confined = confine::confine();
    let (input, output) = match wire::take_pipes() {
        Ok(pipes) => pipes,
        Err(e) => {
            // Nothing but standard error is left to say it on.
            let _ = writeln!(io::stderr(), "the engine has no pipes: {e}");
            return ExitCode::FAILURE;
        }
    };
    run(input, output, |bytes| confined.limit_memory(bytes))
}

/// One line for the other side to read; the default's advice is for developers.
fn tell_panic(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or(payload.downcast_ref::<&str>().copied());
    let place = info.location().map_or(String::new(), ToString::to_string);
    let text = text.unwrap_or("no message").replace('\n', " ");
    // If this fails, it ends without a word.
    let _ = writeln!(io::stderr(), "panicked at {place}: {text}");
}

/// Serves requests from `input` with events on `output` until `input` ends.
/// `limit_memory` is told the most private memory there may be before a byte of the
/// model is read, and returns what the user should know about it.
fn run(
    input: impl Read + Send + 'static,
    output: impl Write,
    limit_memory: impl FnOnce(u64) -> Result<Option<String>, Unconfined>,
) -> ExitCode {
    let started = Instant::now();
    let interrupt = Arc::new(Interrupt::new());
    let mut outbox = Outbox::new(output);
    let requests = match wire::read_requests(input, Arc::clone(&interrupt)) {
        Ok(requests) => requests,
        Err(e) => {
            let error = format!("the engine cannot start a thread: {e}");
            outbox.send(&Event::Refused { error });
            return ExitCode::FAILURE;
        }
    };
    let load = match requests.recv() {
        Ok(Numbered {
            number,
            request: Request::Load(load),
        }) => {
            interrupt.begin(number);
            outbox.set_limit(load.budget.event_bytes);
            load
        }
        Ok(_) => {
            let error = "the engine was asked something before it was given a model".to_owned();
            outbox.send(&Event::Refused { error });
            return ExitCode::FAILURE;
        }
        Err(_) => return ExitCode::SUCCESS,
    };
    let served = limit_memory(load.budget.engine_bytes)
        .map_err(LoadError::Unconfined)
        .and_then(|notice| {
            if let Some(notice) = notice {
                outbox.send(&Event::Notice(notice));
            }
            load_and_serve(&load, &requests, &interrupt, &mut outbox, started)
        });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if interrupt.is_closed() => ExitCode::SUCCESS,
        Err(e) => {
            let error = e.to_string();
            outbox.send(&Event::Refused { error });
            ExitCode::FAILURE
        }
    }
}

/// Each step borrows the one before: backend, model, context.
fn load_and_serve(
    load: &Load,
    requests: &Receiver<Numbered>,
    interrupt: &Arc<Interrupt>,
    outbox: &mut Outbox<impl Write>,
    started: Instant,
) -> Result<(), LoadError> {
    let (backend, level) = load::init_backend(load)?;
    let mut checked = load::check(load, level, outbox)?;
    let model = checked.load_model(&backend, load, interrupt, outbox)?;
    let loaded = checked.finish(&backend, &model, load, interrupt, outbox, started)?;
    outbox.send(&Event::Ready(Box::new(loaded.info)));
    let mut server = Server::new(
        &loaded.prompter,
        loaded.sequence,
        loaded.speculate,
        interrupt,
        outbox,
    );
    while let Ok(numbered) = requests.recv() {
        server.serve(numbered);
    }
    Ok(())
}
