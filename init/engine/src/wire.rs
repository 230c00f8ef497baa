//! What the engine is given: two pipes, taken off the standard descriptors, and the
//! model. A thread reads requests as they come, so that a cancellation reaches work
//! under way; events go the other way.

#![expect(unsafe_code, reason = "a descriptor is taken by its number")]

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::fcntl_dupfd_cloexec;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::stdio::{dup2_stdin, dup2_stdout};

use super::interrupt::Interrupt;
use protocol::memory::LOAD_BYTES_MAX;
use protocol::{self, Event, Load, Request, TooLong, TurnError, TurnStats};

/// How often the other side is told that work goes on.
const WORKING_INTERVAL: Duration = Duration::from_secs(1);

/// Progress and prefill events are at least this far apart.
const INTERVAL: Duration = Duration::from_millis(100);

/// The pipes that this process was started with, requests and events, and the model,
/// whose descriptors, one for each of its parts, have the numbers `model`. C++ that
/// prints would break a frame: from now on standard output is standard error, and standard
/// input is at its end. Must be called once, and first.
///
/// # Errors
/// The system's: a descriptor is closed, or no more can be had.
pub(crate) fn take_descriptors(
    model: impl Iterator<Item = OsString>,
) -> io::Result<(File, File, Vec<File>)> {
    let part = |number: OsString| take_inherited(&number).map(File::from);
    let model = model.map(part).collect::<io::Result<Vec<_>>>()?;
    let above_standard = 3;
    let requests = fcntl_dupfd_cloexec(io::stdin(), above_standard)?;
    let events = fcntl_dupfd_cloexec(io::stdout(), above_standard)?;
    // A pipe without a writer: /dev/null needs a file system.
    let (ended, _) = pipe_with(PipeFlags::CLOEXEC)?;
    dup2_stdin(ended)?;
    dup2_stdout(io::stderr())?;
    Ok((requests.into(), events.into(), model))
}

/// The descriptor of this number, which the parent has left open.
fn take_inherited(number: &OsStr) -> io::Result<OwnedFd> {
    let number: Option<RawFd> = number.to_str().and_then(|number| number.parse().ok());
    let Some(number) = number.filter(|number| *number > 2) else {
        return Err(io::Error::other("its number is wrong"));
    };
    // SAFETY: the supervisor has left this descriptor open for nothing but this call,
    // which is made once for it, before anything else is opened.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// What is to be loaded, the first that is asked; `None` when nothing ever is.
///
/// # Errors
/// One line: it is something else.
pub(crate) fn receive_load(input: &mut impl Read) -> Result<Option<Box<Load>>, String> {
    match protocol::receive::<Request>(input, LOAD_BYTES_MAX) {
        Ok(Request::Load(load)) => Ok(Some(load)),
        Ok(_) => Err("the engine was asked something before it was given a model".to_owned()),
        Err(_) => Ok(None),
    }
}

/// A request and its number.
pub(crate) struct Numbered {
    /// As [`Interrupt`] counts them.
    pub number: u64,
    /// What is asked.
    pub request: Request,
}

/// Reads requests, of up to `limit` bytes, on a thread of its own until the pipe ends.
/// Cancellations go to `interrupt` alone.
///
/// # Errors
/// No thread can be started.
pub(crate) fn read_requests(
    input: impl Read + Send + 'static,
    limit: u32,
    interrupt: Arc<Interrupt>,
) -> io::Result<Receiver<Numbered>> {
    let (sender, receiver) = channel();
    thread::Builder::new()
        .name("requests".into())
        .spawn(move || {
            read_until_end(input, limit, &interrupt, &sender);
            interrupt.close();
        })?;
    Ok(receiver)
}

fn read_until_end(
    mut input: impl Read,
    limit: u32,
    interrupt: &Interrupt,
    sender: &Sender<Numbered>,
) {
    loop {
        match protocol::receive::<Request>(&mut input, limit) {
            Ok(Request::Cancel) => interrupt.cancel(),
            Ok(request) => {
                let number = interrupt.number_next();
                if sender.send(Numbered { number, request }).is_err() {
                    return;
                }
            }
            // The supervisor is gone, or speaks another protocol: either way
            // there is nobody left to work for.
            Err(_) => return,
        }
    }
}

/// The events' pipe, for the two that send: whoever works, and [`tell_of_work`].
pub(crate) struct Shared<W>(Arc<Mutex<W>>);

impl<W> Shared<W> {
    /// For `output`.
    pub(crate) fn new(output: W) -> Self {
        Self(Arc::new(Mutex::new(output)))
    }

    /// The same pipe.
    pub(crate) fn share(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    fn lock(&self) -> MutexGuard<'_, W> {
        // Nothing panics while it writes; if it did, the frames would be broken.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Write> Write for Shared<W> {
    /// Writes all of `frame`, so that no other comes in between.
    fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        self.lock().write_all(frame).map(|()| frame.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lock().flush()
    }
}

/// Tells, once a second, that work goes on, if it does: on a thread of its own, for
/// whoever works has nothing to say. It goes on while the process does or the other
/// side listens.
///
/// # Errors
/// No thread can be started.
pub(crate) fn tell_of_work(
    output: Shared<impl Write + Send + 'static>,
    interrupt: Arc<Interrupt>,
) -> io::Result<()> {
    let mut outbox = Outbox::new(output);
    let tell = move || {
        let mut asked = interrupt.asked();
        while !interrupt.is_closed() {
            thread::sleep(WORKING_INTERVAL);
            let now = interrupt.asked();
            if now != asked {
                asked = now;
                outbox.send(&Event::Working);
            }
        }
    };
    let builder = thread::Builder::new().name("working".into());
    builder.spawn(tell).map(|_| ())
}

/// Sends events. Once the other side is gone, what is sent is dropped: the
/// reader thread has then noticed, too, and everything ends.
pub(crate) struct Outbox<W> {
    output: W,
    /// The longest event that is taken.
    limit: u32,
    /// When an event that may be left out was last sent.
    told: Option<Instant>,
}

impl<W: Write> Outbox<W> {
    /// Events go to `output`.
    pub(crate) fn new(output: W) -> Self {
        Self {
            output,
            limit: LOAD_BYTES_MAX,
            told: None,
        }
    }

    /// Events may be of up to `limit` bytes from now on.
    pub(crate) fn set_limit(&mut self, limit: u32) {
        self.limit = limit;
    }

    /// Sends an event; of one that is too long, what can be told instead.
    pub(crate) fn send(&mut self, event: &Event) {
        let frame = protocol::encode(event, self.limit)
            .or_else(|too_long| protocol::encode(&shorter(event, too_long), self.limit));
        // See the type: the reader thread acts on a pipe that has ended.
        let _ = frame.map(|frame| {
            self.output
                .write_all(&frame)
                .and_then(|()| self.output.flush())
        });
    }

    /// Sends an event of a kind that may come too often, if it does not.
    pub(crate) fn send_sometimes(&mut self, event: &Event) {
        let now = Instant::now();
        if self.told.is_none_or(|told| now - told >= INTERVAL) {
            self.told = Some(now);
            self.send(event);
        }
    }
}

/// What is told when there is no room for `event`: the other side waits for an end.
fn shorter(event: &Event, TooLong { bytes, limit }: TooLong) -> Event {
    let error = TurnError::TooLong {
        bytes,
        limit: limit.into(),
    };
    match event {
        Event::TurnDone(stats) => Event::TurnDone(TurnStats {
            tokens: Vec::new(),
            ..stats.clone()
        }),
        Event::TurnFailed(_) => Event::TurnFailed(error),
        Event::Answered { id, .. } => Event::Answered {
            id: *id,
            result: Err(error),
        },
        Event::Refused { .. } => Event::Refused {
            error: format!("the model is refused, for a reason of {bytes} bytes"),
        },
        // What is not an answer to a rendering is short.
        _ => Event::NotRendered(error),
    }
}

#[cfg(test)]
mod tests {
    use std::iter;
    use std::os::fd::IntoRawFd as _;

    use super::*;
    use crate::tests::alone;

    #[test]
    fn a_rendering_that_is_too_long_is_told_with_its_size() {
        let mut sent = Vec::new();
        let mut outbox = Outbox::new(&mut sent);
        outbox.set_limit(100);
        outbox.send(&Event::Rendered {
            text: "x".repeat(1000),
            tokens: vec![1],
        });
        let event: Event = protocol::receive(&mut &sent[..], 100).unwrap();
        let bytes = 1005;
        let error = TurnError::TooLong { bytes, limit: 100 };
        assert_eq!(event, Event::NotRendered(error));
    }

    const PRINTED: &str = "printed by C++";

    #[test]
    fn what_is_printed_does_not_break_a_frame() {
        let output = alone("wire::tests::print_between_frames");
        let mut frames = Vec::new();
        for text in ["before", "after"] {
            let notice = Event::Notice(text.to_owned());
            frames.extend(protocol::encode(&notice, LOAD_BYTES_MAX).unwrap());
        }
        // The test's own lines come first.
        assert!(output.stdout.ends_with(&frames), "{output:?}");
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(printed.contains(PRINTED), "{output:?}");
    }

    #[test]
    #[ignore = "changes its process; run by what_is_printed_does_not_break_a_frame"]
    fn print_between_frames() {
        let model = File::open("/dev/zero").unwrap();
        let number = model.into_raw_fd().to_string();
        let number = iter::once(number.into());
        let (mut requests, events, mut model) = take_descriptors(number).unwrap();
        assert_eq!(model[0].read(&mut [0; 9]).unwrap(), 9);
        let mut outbox = Outbox::new(events);
        outbox.send(&Event::Notice("before".to_owned()));
        let print = |bytes: &[u8]| rustix::io::write(rustix::stdio::stdout(), bytes);
        print(PRINTED.as_bytes()).unwrap();
        outbox.send(&Event::Notice("after".to_owned()));
        assert_eq!(io::stdin().read(&mut [0]).unwrap(), 0, "nothing to read");
        assert_eq!(
            requests.read(&mut [0]).unwrap(),
            0,
            "the pipe is at its end"
        );
    }
}
