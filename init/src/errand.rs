//! What may wait for a disk for ever, done on a thread of its own: the prompt waits for
//! none.

use std::io::{self, PipeReader};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::panic::resume_unwind;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Something that is done elsewhere. Dropped, it goes on, and nobody learns how it ended.
#[derive(Debug)]
pub(crate) struct Errand<T> {
    thread: JoinHandle<T>,
    /// Hangs up when it is done.
    end: PipeReader,
}

impl<T: Send + 'static> Errand<T> {
    /// Begins `work`.
    ///
    /// # Errors
    /// One line: the system has no thread, or no descriptor, for it.
    pub(crate) fn start(work: impl FnOnce() -> T + Send + 'static) -> Result<Self, String> {
        let start = || {
            let (end, open) = io::pipe()?;
            let work = move || {
                let result = work();
                drop(open);
                result
            };
            let thread = thread::Builder::new().spawn(work)?;
            io::Result::Ok(Self { thread, end })
        };
        start().map_err(|e| format!("a thread cannot be started: {e}; free some memory [ZE-43]"))
    }

    /// What to poll to learn that it is done.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }

    /// What came of it.
    ///
    /// # Errors
    /// Itself: it is not done.
    pub(crate) fn end(self) -> Result<T, Self> {
        self.wait(Duration::ZERO)
    }

    /// What came of it, as soon as it is done.
    ///
    /// # Errors
    /// Itself: it is not done within that time.
    pub(crate) fn wait(self, within: Duration) -> Result<T, Self> {
        let mut end = [PollFd::new(&self.end, PollFlags::IN)];
        let within = Timespec::try_from(within).ok();
        // What interrupts it is a signal, which its caller looks for.
        let ended = poll(&mut end, within.as_ref()).is_ok_and(|count| count > 0);
        if ended {
            Ok(self
                .thread
                .join()
                .unwrap_or_else(|panic| resume_unwind(panic)))
        } else {
            Err(self)
        }
    }
}
