//! What an encrypted session leaves in the machine's memory when it is off: nothing.
//!
//! The kernel clears what it gets back (`init_on_free=1`, which `tools/run.sh` asks for
//! where a session is encrypted). So that it gets back everything, PID 1 becomes another
//! program, which ends all others, and does nothing else.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, WaitOptions};

/// The argument that makes this executable, as PID 1, nothing but the machine's end.
pub(crate) const ROLE: &str = "--off";

/// How long the end may take: a disk that does not answer must not keep the machine on.
const PATIENCE: Duration = Duration::from_secs(2);

/// PID 1 becomes the program that [`end_others`] and then powers off, if the kernel clears
/// what it gets back. Returns where it does not, and where PID 1 cannot end.
pub(crate) fn become_another() {
    let parameters = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let mut words = parameters.split_whitespace();
    let is_cleared = words.any(|word| word == "init_on_free=1");
    // A program is replaced when all of its threads have ended.
    if is_cleared && within_patience(|| !waits_for_disk()) {
        let mut other = Command::new("/proc/self/exe");
        other.arg(ROLE).stdin(Stdio::null());
        // It returns where there is none; then the memory stays as it is.
        let _ = other.stdout(Stdio::null()).stderr(Stdio::null()).exec();
    }
}

/// Ends all processes but this one, and overwrites what the serial line's driver has a
/// page for, that it never gives back.
pub(crate) fn end_others() {
    let names = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for pid in pids.filter_map(Pid::from_raw).filter(|pid| !pid.is_init()) {
        // The kernel's own threads take no signal.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
    within_patience(|| rustix::process::wait(WaitOptions::NOHANG).is_err());

    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    if let Ok(console) = rustix::fs::open("/dev/console", flags, Mode::empty()) {
        // All but one byte of it, each time.
        for _ in 0..2 {
            let _ = rustix::io::write(&console, &[b'\r'; 4096]);
        }
    }
}

/// Whether a thread of this process is where no signal reaches it.
fn waits_for_disk() -> bool {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten();
    let mut states = threads.flatten().filter_map(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).ok()?;
        // `1 (init) D …`, and the name may hold anything.
        stat.rsplit_once(") ")?.1.chars().next()
    });
    states.any(|state| state == 'D')
}

/// Whether `is_done` comes true in time.
fn within_patience(is_done: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !is_done() {
        if start.elapsed() > PATIENCE {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    true
}
