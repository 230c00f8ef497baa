//! zosia's one executable. As PID 1 it is the whole system; started by that
//! with `--engine` it is the engine; started by a person it is a command.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

mod attached;
mod boot;
mod button;
mod command;
mod console;
mod constraint;
mod disk;
mod errand;
mod host;
mod input;
mod job;
mod keeper;
mod models;
mod mounts;
mod peer;
mod ports;
mod power;
mod prompt;
mod session;
mod sockets;
mod supervisor;
mod timeline;
mod wipe;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    if rustix::process::getpid() == rustix::process::Pid::INIT {
        if args.peek().is_some_and(|first| first == wipe::ROLE) {
            wipe::end_others();
            power::switch_off();
        }
        boot::boot();
    }
    if args
        .next_if(|first| first == supervisor::ENGINE_ROLE)
        .is_some()
    {
        return engine::main(args);
    }
    if args
        .next_if(|first| first == supervisor::ATTEMPT_ROLE)
        .is_some()
    {
        return supervisor::attempt(args.next().as_deref());
    }
    command::run(args)
}
