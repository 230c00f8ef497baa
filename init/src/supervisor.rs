//! The engine as seen from PID 1: a child process, started from this same
//! executable, that is asked over one pipe, answers over another, and may die
//! at any moment. Nothing here blocks but [`Engine::request`], and that only
//! as long as the engine's reader thread needs to take the bytes.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use protocol::{Decoder, Event, Load, LogLevel, Request};

/// The argument that makes this executable an engine.
pub(crate) const ENGINE_ROLE: &str = "--engine";

/// Of the engine's standard error, as much as this is kept for the line that
/// says why it died.
const LAST_WORDS_BYTES: usize = 4096;

/// A running engine.
pub(crate) struct Engine {
    child: Child,
    requests: ChildStdin,
    events: ChildStdout,
    errors: ChildStderr,
    decoder: Decoder,
    request_bytes_max: u32,
    last_words: Vec<u8>,
    echo_errors: bool,
    oom_kills_before: Option<u64>,
}

impl Engine {
    /// Starts an engine and has it load its model.
    ///
    /// # Errors
    /// When no process can be made.
    pub(crate) fn start(load: Load) -> io::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg(ENGINE_ROLE)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (Some(requests), Some(events), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::Error::other("a child without its pipes"));
        };
        rustix::io::ioctl_fionbio(&events, true)?;
        rustix::io::ioctl_fionbio(&errors, true)?;
        let mut engine = Self {
            child,
            requests,
            events,
            errors,
            decoder: Decoder::new(load.budget.event_bytes),
            request_bytes_max: load.budget.request_bytes,
            last_words: Vec::new(),
            echo_errors: load.params.log >= LogLevel::Debug,
            oom_kills_before: oom_kills(),
        };
        engine.request(&Request::Load(Box::new(load)));
        Ok(engine)
    }

    /// Asks. An engine that is gone is noticed by [`Engine::event`].
    pub(crate) fn request(&mut self, request: &Request) {
        // A broken pipe means that the engine died: its events end, too, and
        // that is where it is handled.
        let _ = protocol::send(&mut self.requests, request, self.request_bytes_max);
    }

    /// What to poll for reading: events and standard error.
    pub(crate) fn poll_fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.events.as_fd(), self.errors.as_fd()]
    }

    /// The next event, `None` if there is none yet.
    ///
    /// # Errors
    /// [`Death`], once, when the engine is gone; it has then been reaped.
    pub(crate) fn event(&mut self) -> Result<Option<Event>, Death> {
        self.read_errors();
        loop {
            match self.decoder.next_message() {
                Ok(Some(event)) => return Ok(Some(event)),
                Ok(None) => {}
                Err(e) => return Err(self.bury(Some(&format!("sent no message: {e}")))),
            }
            let mut chunk = [0; 16 << 10];
            match self.events.read(&mut chunk) {
                Ok(0) => return Err(self.bury(None)),
                Ok(n) => self.decoder.push(chunk.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.bury(Some(&format!("cannot be read from: {e}")))),
            }
        }
    }

    fn read_errors(&mut self) {
        let mut chunk = [0; 4096];
        while let Ok(n @ 1..) = self.errors.read(&mut chunk) {
            let bytes = chunk.get(..n).unwrap_or_default();
            if self.echo_errors {
                // The log is a courtesy; a full disk must not end the chat.
                let _ = io::Write::write_all(&mut io::stderr(), bytes);
            }
            self.last_words.extend_from_slice(bytes);
            let excess = self.last_words.len().saturating_sub(LAST_WORDS_BYTES);
            self.last_words.drain(..excess);
        }
    }

    fn bury(&mut self, fault: Option<&str>) -> Death {
        // It may have closed its pipe and live on; a dead one does not mind.
        let _ = self.child.kill();
        let status = self.child.wait();
        self.read_errors();
        reap_orphans();
        let out_of_memory = match (self.oom_kills_before, oom_kills()) {
            (Some(before), Some(now)) => now > before,
            _ => false,
        };
        let how = match (fault, status) {
            (Some(fault), _) => fault.to_owned(),
            (None, Ok(status)) => how_it_ended(status, out_of_memory),
            (None, Err(e)) => format!("is gone ({e})"),
        };
        Death {
            cause: match self.last_line() {
                Some(line) => format!("{how} ({line})"),
                None => how,
            },
        }
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
            .rfind(|l| l.contains("GGML_ASSERT") || l.contains("panicked") || l.contains("abort"))
            .or(told.last())
            .map(|l| l.chars().filter(|c| !c.is_control()).take(200).collect())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Gone already, or about to go: both are what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An engine that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Death {
    /// How, to be read after "the engine ": "was killed by SIGSEGV".
    pub cause: String,
}

fn how_it_ended(status: ExitStatus, out_of_memory: bool) -> String {
    match (status.signal(), status.code()) {
        (Some(9), _) if out_of_memory => {
            "was killed because memory ran out; more memory (run.sh --mem), a smaller zosia.ctx or \
             zosia.kv=q8_0 helps"
                .to_owned()
        }
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

    #[test]
    fn endings_are_named() {
        let killed = ExitStatus::from_raw(9);
        assert_eq!(how_it_ended(killed, false), "was killed by SIGKILL");
        assert!(how_it_ended(killed, true).contains("memory ran out"));
        assert_eq!(
            how_it_ended(ExitStatus::from_raw(11), true),
            "was killed by SIGSEGV"
        );
        assert_eq!(
            how_it_ended(ExitStatus::from_raw(3 << 8), false),
            "ended with status 3"
        );
    }
}
