//! The engine as a process: a child, started from this same executable, that is
//! asked over one pipe, answers over another, and may die or hang at any moment.
//! Nothing here waits for it: what it does not read yet is queued, and one that
//! does not die when it is killed is left behind.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{
    Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitCode, ExitStatus, Stdio,
};

use protocol::memory::meminfo_bytes;
use protocol::{Decoder, Event, Load, LogLevel, PartFile, Request, TooLong, encode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use crate::peer::{Heard, Peer, StartError, TICK, Wait};

/// The argument that makes this executable an engine.
pub(crate) const ENGINE_ROLE: &str = "--engine";

/// The argument that makes it a process with an engine's rights, which makes a system
/// call that it must not make.
pub(crate) const ATTEMPT_ROLE: &str = "--attempt";

/// Of the engine's standard error, as much as this is kept for the line that
/// says why it died.
const LAST_WORDS_BYTES: usize = 4096;

/// What a pipe holds.
const PIPE_BYTES: usize = 64 << 10;

/// A killed process is gone in a moment, unless it hangs on a disk.
const DYING: Timespec = Timespec {
    tv_sec: 2,
    tv_nsec: 0,
};

/// A running engine.
#[derive(Debug)]
pub(crate) struct Engine {
    child: Child,
    requests: ChildStdin,
    events: ChildStdout,
    /// Standard error, until it is closed.
    errors: Option<ChildStderr>,
    queue: Queue,
    /// Bytes of events that have been read since there were none, or too many at once.
    heard_bytes: usize,
    decoder: Decoder,
    last_words: Vec<u8>,
    echo_errors: bool,
    oom_kills_before: Option<u64>,
}

/// Requests that the engine has not read yet.
#[derive(Debug)]
struct Queue {
    bytes: VecDeque<u8>,
    request_bytes_max: u32,
}

impl Queue {
    fn new(request_bytes_max: u32) -> Self {
        Self {
            bytes: VecDeque::new(),
            request_bytes_max,
        }
    }

    /// Of drafts there is another whenever the user pauses, of pieces whenever the engine
    /// wants one: behind more than the longest request, before an engine that does not
    /// read, they are left out. One that reads has two pieces on their way at most.
    ///
    /// # Errors
    /// [`TooLong`].
    fn push(&mut self, request: &Request) -> Result<(), TooLong> {
        let frame = encode(request, self.request_bytes_max)?;
        let is_one_of_many = matches!(request, Request::Draft { .. } | Request::Piece(_));
        let full = u32::try_from(self.bytes.len()).map_or(true, |n| n > self.request_bytes_max);
        if self.bytes.is_empty() {
            self.bytes = frame.into();
        } else if !(is_one_of_many && full) {
            self.bytes.extend(frame);
        }
        Ok(())
    }

    /// Writes what the pipe takes.
    fn write_to(&mut self, pipe: &mut impl Write) {
        while !self.bytes.is_empty() {
            match pipe.write(self.bytes.as_slices().0) {
                Ok(taken) => drop(self.bytes.drain(..taken)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Full, or broken because the engine died: its events end, too,
                // and that is where it is handled.
                Err(_) => return,
            }
        }
        // A long conversation's memory is not kept for the next short request.
        self.bytes = VecDeque::new();
    }
}

impl Engine {
    /// Starts an engine and has it load its model, of which it is given no more than
    /// a descriptor to read, or one for each part, and as much of the one that guesses
    /// ahead, which may be gone.
    ///
    /// # Errors
    /// [`StartError`].
    pub(crate) fn start(mut load: Load) -> Result<Self, StartError> {
        reap_orphans();
        let open = |(path, _): (&Path, u64)| {
            open_model(path).map_err(|source| StartError::Model {
                path: path.to_owned(),
                source,
            })
        };
        let model = load.files().map(open).collect::<Result<Vec<_>, _>>()?;
        let open = |file: &PartFile| open((file.path.as_path(), file.bytes));
        let drafts: Result<Vec<_>, _> = load.draft_files().iter().map(open).collect();
        let drafts = drafts.unwrap_or_else(|e| {
            load.draft = Some(Err(e.to_string()));
            Vec::new()
        });
        let mut child = Command::new("/proc/self/exe")
            .arg(ENGINE_ROLE)
            .args(
                model
                    .iter()
                    .chain(&drafts)
                    .map(|file| file.as_raw_fd().to_string()),
            )
            .env_clear()
            // Else ggml starts a debugger before it ends on an exception.
            .env("GGML_NO_BACKTRACE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (Some(requests), Some(events), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::Error::other("a child without its pipes").into());
        };
        let mut engine = Self {
            child,
            requests,
            events,
            errors: Some(errors),
            queue: Queue::new(load.budget.request_bytes),
            heard_bytes: 0,
            decoder: Decoder::new(load.budget.event_bytes),
            last_words: Vec::new(),
            echo_errors: load.params.log >= LogLevel::Debug,
            oom_kills_before: oom_kills(),
        };
        let pipes = [engine.requests.as_fd(), engine.events.as_fd()];
        let errors = engine.errors.iter().map(AsFd::as_fd);
        for fd in pipes.into_iter().chain(errors) {
            rustix::io::ioctl_fionbio(fd, true).map_err(io::Error::from)?;
        }
        engine
            .send(&Request::Load(Box::new(load)))
            .map_err(io::Error::other)?;
        Ok(engine)
    }

    /// Polls for what there is to do, as long as [`TICK`]; `false`: nothing.
    fn wait(&self) -> bool {
        let fds = self.poll_fds();
        let mut fds: Vec<PollFd<'_>> = fds
            .iter()
            .map(|(fd, flags)| PollFd::new(fd, *flags))
            .collect();
        let tick = Timespec::try_from(TICK).ok();
        loop {
            match poll(&mut fds, tick.as_ref()) {
                // The time begins again: signals are rare.
                Err(Errno::INTR) => {}
                // An error (no memory for it, say) counts as nothing heard.
                heard => return heard.is_ok_and(|ready| ready > 0),
            }
        }
    }

    /// Reads what a pipe holds and no more, as an engine may write without end.
    fn read_errors(&mut self) {
        let mut chunk = [0; 4096];
        for _ in 0..PIPE_BYTES.div_ceil(chunk.len()) {
            let n = match self.errors.as_mut().map(|errors| errors.read(&mut chunk)) {
                Some(Ok(n @ 1..)) => n,
                Some(Ok(_)) => {
                    self.errors = None;
                    return;
                }
                Some(Err(_)) | None => return,
            };
            let bytes = chunk.get(..n).unwrap_or_default();
            if self.echo_errors {
                // The log is a courtesy; a full disk must not end the chat.
                let _ = io::stderr().write_all(bytes);
            }
            self.last_words.extend_from_slice(bytes);
            let excess = self.last_words.len().saturating_sub(LAST_WORDS_BYTES);
            self.last_words.drain(..excess);
        }
    }

    fn bury(&mut self, fault: Option<&str>) -> Heard {
        // It may have closed its pipe and live on; a dead one does not mind.
        let _ = self.child.kill();
        let status = self.wait_for_end();
        self.read_errors();
        reap_orphans();
        let out_of_memory = match (self.oom_kills_before, oom_kills()) {
            (Some(before), Some(now)) => now > before,
            _ => false,
        };
        let words = self.last_line();
        if out_of_memory || words.as_deref().is_some_and(tells_of_memory) {
            return Heard::Exhausted(OUT_OF_MEMORY.to_owned());
        }
        let how = match (fault, status) {
            (Some(fault), _) => fault.to_owned(),
            (None, Ok(Some(status))) => how_it_ended(status),
            (None, Ok(None)) => "does not end, though killed: it may hang on its disk".to_owned(),
            (None, Err(e)) => format!("is gone ({e})"),
        };
        Heard::Gone(match words {
            Some(words) => format!("{how} ({words})"),
            None => how,
        })
    }

    /// How the killed child ended; `None` if it has not within two seconds.
    fn wait_for_end(&mut self) -> io::Result<Option<ExitStatus>> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid
            && let Ok(process) = pidfd_open(pid, PidfdFlags::empty())
        {
            // Readable when it has ended. What else the wait says, `try_wait` says.
            let _ = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&DYING));
        }
        self.child.try_wait()
    }

    /// The engine's anonymous memory, which it cannot look up itself; 0 if the kernel
    /// does not tell.
    fn anonymous_bytes(&self) -> u64 {
        let status = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(status).unwrap_or_default();
        meminfo_bytes(&status, "RssAnon:").unwrap_or(0)
    }

    /// The last line on standard error that says something of its own: aborts
    /// of ggml name the file and the condition; lines of a back trace do not.
    fn last_line(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.last_words);
        let told: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .collect();
        told.iter()
            .rfind(|l| {
                tells_of_memory(l)
                    || l.contains("GGML_ASSERT")
                    || l.contains("panicked")
                    || l.contains("abort")
            })
            .or(told.last())
            .map(|l| l.chars().filter(|c| !c.is_control()).take(200).collect())
    }
}

impl Peer for Engine {
    fn send(&mut self, request: &Request) -> Result<(), TooLong> {
        self.queue.write_to(&mut self.requests);
        self.queue.push(request)?;
        self.queue.write_to(&mut self.requests);
        Ok(())
    }

    fn next(&mut self, wait: Wait) -> Heard {
        loop {
            self.queue.write_to(&mut self.requests);
            self.read_errors();
            match self.decoder.next_message() {
                Ok(Some(mut event)) => {
                    if let Event::Ready(info) = &mut event {
                        info.anonymous_bytes = self.anonymous_bytes();
                    }
                    return Heard::Event(event);
                }
                Ok(None) => {}
                Err(e) => {
                    return self.bury(Some(&format!("sent something other than an event: {e}")));
                }
            }
            // One that never ends is left again, for keys.
            if wait == Wait::No && self.heard_bytes >= PIPE_BYTES {
                self.heard_bytes = 0;
                return Heard::Nothing;
            }
            let mut chunk = [0; 16 << 10];
            match self.events.read(&mut chunk) {
                Ok(0) => return self.bury(None),
                Ok(n) => {
                    self.heard_bytes = self.heard_bytes.saturating_add(n);
                    self.decoder.push(chunk.get(..n).unwrap_or_default());
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.heard_bytes = 0;
                    if wait == Wait::No || !self.wait() {
                        return Heard::Nothing;
                    }
                }
                Err(e) => return self.bury(Some(&format!("cannot be read from: {e}"))),
            }
        }
    }

    fn poll_fds(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let mut fds = vec![(self.events.as_fd(), PollFlags::IN)];
        fds.extend(self.errors.iter().map(|fd| (fd.as_fd(), PollFlags::IN)));
        if !self.queue.bytes.is_empty() {
            fds.push((self.requests.as_fd(), PollFlags::OUT));
        }
        fds
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Gone already, or about to go: both are what is wanted. Its memory is
        // the next engine's, so it is waited for, but not for ever.
        let _ = self.child.kill();
        let _ = self.wait_for_end();
    }
}

/// What an engine should not be able to do and is: nothing, or the reason, for each of
/// the system calls that are forbidden to it.
///
/// # Errors
/// No process can be made.
pub(crate) fn attempt_forbidden() -> io::Result<Vec<(&'static str, Option<String>)>> {
    let attempt = |name: &'static str| {
        let output = Command::new("/proc/self/exe")
            .args([ATTEMPT_ROLE, name])
            .env_clear()
            .output()?;
        let stopped = output.status.signal() == Some(Signal::SYS.as_raw());
        let told = String::from_utf8_lossy(&output.stderr);
        Ok((name, (!stopped).then(|| told.trim().to_owned())))
    };
    engine::forbidden().map(attempt).collect()
}

/// The process that [`attempt_forbidden`] starts.
pub(crate) fn attempt(name: Option<&OsStr>) -> ExitCode {
    let told = engine::attempt(name.and_then(OsStr::to_str).unwrap_or_default());
    // Whoever started it reads; a person may not.
    let _ = writeln!(io::stderr(), "{told}");
    ExitCode::FAILURE
}

/// The model's file or device, open for reading, also in what is started next: the
/// engine.
fn open_model(path: &Path) -> io::Result<File> {
    // A FIFO in its place must not make this wait.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits();
    let flags = i32::try_from(nonblocking).unwrap_or_default();
    let model = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    if model.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    rustix::io::fcntl_setfd(&model, rustix::io::FdFlags::empty())?;
    Ok(model)
}

const OUT_OF_MEMORY: &str = "ended because memory ran out; more memory (run.sh --mem), a smaller \
                             zosia.ctx or zosia.kv=q8_0 helps";

/// Whether the engine's last words are of an allocation that failed: the C++
/// library's, Rust's and ggml's.
fn tells_of_memory(words: &str) -> bool {
    [
        "std::bad_alloc",
        "std::length_error",
        "memory allocation of",
        "failed to allocate",
        "not enough memory",
    ]
    .iter()
    .any(|telling| words.contains(telling))
}

fn how_it_ended(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("was killed by {}", signal_name(signal)),
        (None, Some(code)) => format!("ended with status {code}"),
        (None, None) => "ended".to_owned(),
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        4 => "SIGILL, an instruction that this processor lacks",
        6 => "SIGABRT",
        7 => "SIGBUS, the model's disk could not be read",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        15 => "SIGTERM",
        31 => "SIGSYS, a system call that it must not make",
        _ => return format!("signal {signal}"),
    };
    name.to_owned()
}

/// How often the kernel has killed for want of memory (`oom_kill` of `/proc/vmstat`).
fn oom_kills() -> Option<u64> {
    let vmstat = std::fs::read_to_string("/proc/vmstat").ok()?;
    vmstat
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// PID 1 inherits every orphan; nobody else waits for them.
fn reap_orphans() {
    if rustix::process::getpid() == rustix::process::Pid::INIT {
        while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Piece, PieceKey};

    #[test]
    fn endings_are_named() {
        for (raw, how) in [
            (9, "was killed by SIGKILL"),
            (11, "was killed by SIGSEGV"),
            (3 << 8, "ended with status 3"),
        ] {
            assert_eq!(how_it_ended(ExitStatus::from_raw(raw)), how);
        }
    }

    #[test]
    fn before_an_engine_that_does_not_read_two_pieces_wait_and_no_more() {
        let piece = |bytes| {
            Request::Piece(Piece {
                key: PieceKey([7; 32]),
                bytes: Some(vec![1; bytes]),
            })
        };
        let most = 8000;
        let mut queue = Queue::new(most);
        for _ in 0..2 {
            queue.push(&piece(7900)).unwrap();
        }
        let two = queue.bytes.len();
        assert!(two > 2 * 7900, "{two}");
        queue.push(&piece(1)).unwrap();
        let messages = Vec::new();
        queue.push(&Request::Draft { messages }).unwrap();
        assert_eq!(queue.bytes.len(), two);
        queue.push(&Request::Cancel).unwrap();
        let mut pipe = Vec::new();
        queue.write_to(&mut pipe);
        assert!(queue.bytes.is_empty());
        let mut read = &pipe[..];
        for _ in 0..2 {
            let request: Request = protocol::receive(&mut read, most).unwrap();
            assert!(matches!(request, Request::Piece(_)));
        }
        let request: Request = protocol::receive(&mut read, most).unwrap();
        assert_eq!((request, read.len()), (Request::Cancel, 0));
    }

    #[test]
    fn last_words_of_a_failed_allocation_are_known() {
        for words in [
            "  what():  std::bad_alloc",
            "memory allocation of 4294967296 bytes failed",
            "ggml_aligned_malloc: insufficient memory (attempted to allocate 900 MB); failed to allocate buffer",
        ] {
            assert!(tells_of_memory(words), "{words}");
        }
        assert!(!tells_of_memory("GGML_ASSERT(n > 0) failed"));
    }
}
