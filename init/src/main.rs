//! zosia's one executable. As PID 1 it is the whole system; started by that
//! with `--engine` it is the engine; started by a person it is a command.

mod bench;
mod boot;
mod chat;
mod command;
mod config;
mod console;
mod disk;
mod engine;
mod gguf;
mod grammar;
mod mounts;
mod one_turn;
mod ports;
mod power;
mod protocol;
mod repl;
mod report;
mod session;
mod supervisor;
mod term;
mod timeline;

use std::process::ExitCode;

fn main() -> ExitCode {
    if rustix::process::getpid() == rustix::process::Pid::INIT {
        boot::boot();
    }
    let mut args = std::env::args_os().skip(1).peekable();
    if args
        .peek()
        .is_some_and(|first| first == supervisor::ENGINE_ROLE)
    {
        return engine::main();
    }
    command::run(args)
}
