//! The engine: the child process that holds the model and all C++.
//!
//! [`run`] is its whole life: load once, then answer requests until the pipe
//! ends. Only the files with `unsafe_code` expected speak to llama.cpp; the
//! others are safe Rust. It keeps no conversation: each turn brings its own.

mod backend;
mod beginning;
mod borders;
mod checkpoints;
mod confine;
mod context;
mod counter;
mod filter;
mod fit;
mod generate;
mod grammar;
mod guarded;
mod headcount;
mod identity;
mod interrupt;
mod lanes;
mod load;
mod measure;
mod model;
mod part;
mod prompter;
mod runs;
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
mod utterance;
mod vocab;
mod warm;
mod widths;
mod wire;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd as _, RawFd};
use std::panic::{self, PanicHookInfo};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use confine::Unconfined;
use interrupt::Interrupt;
use load::{LoadError, Machine};
use protocol::{Event, Load, ModelInfo};
use serve::Server;
use speculate::Speculator;
use wire::{Numbered, Outbox, Shared};

/// The engine's process: confined, it serves what comes on its standard input.
/// `model` has the numbers of the descriptors that its parent has left open for it: the
/// model's, or one for each of its parts, and behind those the draft model's.
#[must_use]
pub fn main(model: impl Iterator<Item = OsString>) -> ExitCode {
    panic::set_hook(Box::new(tell_panic));
    confine::be_expendable();
    let (input, output, model) = match wire::take_descriptors(model) {
        Ok(descriptors) => descriptors,
        Err(e) => {
            // Nothing but standard error is left to say it on.
            let _ = writeln!(io::stderr(), "the engine has no pipes or no model: {e}");
            return ExitCode::FAILURE;
        }
    };
    let open: Vec<RawFd> = [&input, &output]
        .into_iter()
        .chain(&model)
        .map(File::as_raw_fd)
        .collect();
    run(input, output, model, |bytes| {
        // AddressSanitizer has reserved more than any machine has memory.
        let bytes = if cfg!(feature = "asan") {
            u64::MAX
        } else {
            bytes
        };
        confine::confine(bytes, &open)
    })
}

/// Why a model of this header is not spoken to with its own chat template, as far
/// as that can be told without loading it.
#[must_use]
pub fn template_fault(header: &gguf::Header) -> Option<String> {
    let source = header.chat_template.text();
    chat::Template::fault(source.as_deref().map_err(String::as_str))
}

/// The system calls that [`attempt`] knows.
pub fn forbidden() -> impl Iterator<Item = &'static str> {
    filter::forbidden().map(|(name, _)| name)
}

/// The system calls that an engine may make, some with certain arguments only.
pub fn allowed() -> impl Iterator<Item = &'static str> {
    filter::ALLOWED.iter().map(|call| call.name)
}

/// Confines this process as an engine's and makes one of the [`forbidden`] system
/// calls, of which it should end; tells what was wrong if it does not.
#[must_use]
pub fn attempt(name: &str) -> String {
    match confine::confine(u64::MAX, &[]) {
        Ok(Some(kept)) => kept,
        Ok(None) => {
            filter::attempt(name);
            format!("{name} was not stopped")
        }
        Err(e) => e.to_string(),
    }
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

/// Serves requests from `input` about `model` with events on `output` until `input`
/// ends. `confine` is told the most private memory there may be, when nothing but
/// computing is left to do and before a byte of the model is read; it returns what
/// could not be given up.
fn run(
    mut input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
    model: Vec<File>,
    confine: impl FnOnce(u64) -> Result<Option<String>, Unconfined>,
) -> ExitCode {
    let started = Instant::now();
    let interrupt = Arc::new(Interrupt::new());
    let output = Shared::new(output);
    let mut outbox = Outbox::new(output.share());
    let load = match wire::receive_load(&mut input) {
        Ok(Some(load)) => load,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            outbox.send(&Event::Refused { error });
            return ExitCode::FAILURE;
        }
    };
    interrupt.begin(interrupt.number_next());
    outbox.set_limit(load.budget.event_bytes);
    let served = Machine::look(&load).and_then(|machine| {
        let unconfined = confine(load.budget.engine_bytes).map_err(LoadError::Unconfined)?;
        let limit = load.budget.request_bytes;
        let requests =
            wire::read_requests(input, limit, Arc::clone(&interrupt)).map_err(LoadError::Thread)?;
        wire::tell_of_work(output, Arc::clone(&interrupt)).map_err(LoadError::Thread)?;
        let (load, interrupt, outbox) = (&load, &interrupt, &mut outbox);
        let tell = |info: &mut ModelInfo| {
            info.unconfined = unconfined;
            info.load_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        };
        load_and_serve(&machine, model, load, &requests, interrupt, outbox, tell)
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

/// Each step borrows the one before: backend, model, context, draft model. `complete` adds
/// what is known here.
fn load_and_serve(
    machine: &Machine,
    mut files: Vec<File>,
    load: &Load,
    requests: &Receiver<Numbered>,
    interrupt: &Arc<Interrupt>,
    outbox: &mut Outbox<impl Write>,
    complete: impl FnOnce(&mut ModelInfo),
) -> Result<(), LoadError> {
    let draft_files = files.split_off(load.files().count().min(files.len()));
    let mut checked = load::check(machine, files, load, outbox)?;
    let model = checked.load_model(machine, load, interrupt, outbox)?;
    // Outlives the contexts.
    let draft_model;
    let mut loaded = checked.finish(machine, &model, load, interrupt, outbox)?;
    draft_model = load::load_draft(machine, draft_files, load, &loaded, interrupt, outbox)?;
    let draft = draft_model.as_ref().and_then(|model| {
        let draft = load::start_draft(model, machine, load, &loaded, interrupt, outbox)?;
        loaded.info.draft = Some(model.0.description());
        Some(draft)
    });
    complete(&mut loaded.info);
    outbox.send(&Event::Ready(Box::new(loaded.info)));
    let mut server = Server::new(
        &loaded.prompter,
        loaded.sequence,
        Speculator::new(loaded.speculate, loaded.guesses_max, draft),
        loaded.keeping,
        requests,
        interrupt,
        outbox,
    );
    server.run();
    Ok(())
}
