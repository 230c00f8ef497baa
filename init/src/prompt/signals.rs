//! Signals as bytes in a pipe, so that one which comes at any moment ends the
//! next wait.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGHUP, SIGTERM, SIGWINCH};
use signal_hook::low_level::pipe;

/// What the plain command is told by signals; PID 1 is told nothing.
pub(super) struct Signals {
    ended: UnixStream,
    resized: UnixStream,
}

impl Signals {
    /// From now on signals arrive here.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn register() -> io::Result<Self> {
        let (ended, to_ended) = UnixStream::pair()?;
        let (resized, to_resized) = UnixStream::pair()?;
        for stream in [&ended, &to_ended, &resized, &to_resized] {
            stream.set_nonblocking(true)?;
        }
        pipe::register(SIGTERM, to_ended.try_clone()?)?;
        pipe::register(SIGHUP, to_ended)?;
        pipe::register(SIGWINCH, to_resized)?;
        Ok(Self { ended, resized })
    }

    /// What to poll for reading.
    pub(super) fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.ended.as_fd(), self.resized.as_fd()]
    }

    /// Whether the process should end.
    pub(super) fn take_ended(&mut self) -> bool {
        drain(&mut self.ended)
    }

    /// Whether the window has been resized since the last call.
    pub(super) fn take_resized(&mut self) -> bool {
        drain(&mut self.resized)
    }
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
        let [_, resized] = signals.fds();
        let mut fds = [rustix::event::PollFd::new(
            &resized,
            rustix::event::PollFlags::IN,
        )];
        assert_eq!(rustix::event::poll(&mut fds, None).unwrap(), 1);
        assert!(signals.take_resized());
        assert!(!signals.take_resized() && !signals.take_ended());
    }
}
