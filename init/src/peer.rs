//! An engine, as a session sees it: something that is asked and answers, and
//! that may be gone at any moment. In the machine it is a child process; in the
//! session's tests it is a script.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::Duration;

use protocol::{Event, Request, TooLong};
use rustix::event::PollFlags;

/// Whether to wait for an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Take what is there.
    No,
    /// As long as [`TICK`].
    Tick,
}

/// How often an engine that owes an answer is looked after.
pub(crate) const TICK: Duration = Duration::from_secs(1);

/// What was heard of an engine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Heard {
    /// It said this.
    Event(Event),
    /// Nothing yet.
    Nothing,
    /// It is gone, once and for all. How, to be read after "the engine ": "was
    /// killed by SIGSEGV".
    Gone(String),
    /// The same, for want of memory: another that is asked the same goes the same way.
    Exhausted(String),
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The model is not there, or not to be read.
    #[error("{} cannot be opened: {source}; check the path or the disk [ZE-23]", path.display())]
    Model {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no process for it.
    #[error("the engine process cannot be started: {0} [ZE-43]")]
    Process(#[from] io::Error),
}

/// An engine.
pub(crate) trait Peer {
    /// Asks. Never waits: what the engine does not take yet is kept for it. An
    /// engine that is gone is noticed by [`Peer::next`].
    ///
    /// # Errors
    /// [`TooLong`]: nothing has been asked.
    fn send(&mut self, request: &Request) -> Result<(), TooLong>;

    /// What is heard next. After [`Heard::Gone`] it must not be called again.
    fn next(&mut self, wait: Wait) -> Heard;

    /// What to poll, and for what, to learn when [`Peer::next`] would hear
    /// something.
    fn poll_fds(&self) -> Vec<(BorrowedFd<'_>, PollFlags)>;
}
