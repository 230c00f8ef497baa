//! Signals as bytes in a pipe, so that one which comes at any moment ends the
//! next wait.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Signal, getpgrp, getsid, kill_current_process_group};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::flag;
use signal_hook::low_level::pipe;

/// What the plain command is told by signals; PID 1 is told nothing.
pub(super) struct Signals {
    ended: UnixStream,
    /// Which signal it was, the last of several.
    ended_by: Arc<AtomicUsize>,
    suspended: UnixStream,
    continued: UnixStream,
    resized: UnixStream,
}

impl Signals {
    /// From now on signals arrive here.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn register() -> io::Result<Self> {
        let ended_by = Arc::new(AtomicUsize::new(0));
        for signal in [SIGTERM, SIGHUP, SIGINT, SIGQUIT] {
            // Of a small positive number.
            let number = usize::try_from(signal).unwrap_or_default();
            flag::register_usize(signal, Arc::clone(&ended_by), number)?;
        }
        Ok(Self {
            ended: receive(&[SIGTERM, SIGHUP, SIGINT, SIGQUIT])?,
            ended_by,
            suspended: receive(&[SIGTSTP])?,
            continued: receive(&[SIGCONT])?,
            resized: receive(&[SIGWINCH])?,
        })
    }

    /// What to poll for reading.
    pub(super) fn fds(&self) -> [BorrowedFd<'_>; 4] {
        [
            self.ended.as_fd(),
            self.suspended.as_fd(),
            self.continued.as_fd(),
            self.resized.as_fd(),
        ]
    }

    /// The signal by which the process should end.
    pub(super) fn take_ended(&mut self) -> Option<i32> {
        let number = self.ended_by.load(Ordering::Relaxed);
        drain(&mut self.ended).then(|| i32::try_from(number).unwrap_or(SIGTERM))
    }

    /// Whether the process should stop, the terminal in order.
    pub(super) fn take_suspended(&mut self) -> bool {
        drain(&mut self.suspended)
    }

    /// Whether the process has been stopped and goes on.
    pub(super) fn take_continued(&mut self) -> bool {
        drain(&mut self.continued)
    }

    /// Whether the window has been resized since the last call.
    pub(super) fn take_resized(&mut self) -> bool {
        drain(&mut self.resized)
    }
}

/// Stops this process and those that were started with it, as Ctrl-Z does at a terminal that
/// is not raw; not those that no shell would continue, which lead their session.
pub(super) fn suspend() {
    if getsid(None) != Ok(getpgrp()) {
        // To one's own group it is always allowed.
        let _ = kill_current_process_group(Signal::TSTP);
    }
}

/// A stream with a byte for each of the signals, from now on.
fn receive(signals: &[i32]) -> io::Result<UnixStream> {
    let (received, sent) = UnixStream::pair()?;
    received.set_nonblocking(true)?;
    sent.set_nonblocking(true)?;
    for signal in signals {
        pipe::register(*signal, sent.try_clone()?)?;
    }
    Ok(received)
}

fn drain(stream: &mut UnixStream) -> bool {
    let mut any = false;
    while let Ok(1..) = stream.read(&mut [0; 64]) {
        any = true;
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_comes_before_the_wait_ends_it() {
        let mut signals = Signals::register().unwrap();
        assert!(!signals.take_resized());
        signal_hook::low_level::raise(SIGWINCH).unwrap();
        let [.., resized] = signals.fds();
        let mut fds = [rustix::event::PollFd::new(
            &resized,
            rustix::event::PollFlags::IN,
        )];
        assert_eq!(rustix::event::poll(&mut fds, None).unwrap(), 1);
        assert!(signals.take_resized());
        assert!(!signals.take_resized() && signals.take_ended().is_none());
    }
}
