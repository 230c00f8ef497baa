//! What the engine gives up before it touches a model: C++ that reads a hostile
//! file should be able to do nothing but compute.

#![expect(
    unsafe_code,
    reason = "signals, descriptors and the heap are set through the C library's own calls"
)]

use std::ffi::{CString, c_int, c_uint};
use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::process::{
    Gid, Pid, Resource, Rlimit, Signal, Uid, geteuid, getppid, getrlimit, setrlimit,
};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::filter;

/// Nobody: owns nothing, and no other process here runs as it.
const NOBODY: u32 = 65534;

unsafe extern "C" {
    /// `signal(2)`; a handler of 0 is `SIG_DFL`.
    fn signal(number: c_int, handler: usize) -> usize;
    /// `close_range(2)`.
    fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int;
    /// `mallopt(3)`.
    fn mallopt(parameter: c_int, value: c_int) -> c_int;
}

/// `M_ARENA_MAX` of malloc.h.
const ARENA_MAX: c_int = -8;

/// What this process has and should not, in one line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the engine cannot give up {}", .0.join(", "))]
pub(crate) struct Unconfined(Vec<String>);

/// Ends with its parent, is the first to go when memory runs out, and dies of a
/// fault at once.
pub(super) fn be_expendable() {
    // When memory runs out, this process is the one to end: it can be replaced.
    // Without /proc, the kernel still prefers the process that holds the model.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    die_of_faults();
}

/// Gives up every right: of its memory what is beyond `private_bytes` (the mapped
/// model not counted), all descriptors but those of `open` and the standard ones, all
/// system calls that computing does not need. The calling thread must be the only one.
///
/// Returns what could not be given up, if anything; in the machine, where all
/// can, that is an error.
///
/// # Errors
/// [`Unconfined`].
pub(super) fn confine(private_bytes: u64, open: &[RawFd]) -> Result<Option<String>, Unconfined> {
    let in_machine = getppid() == Some(Pid::INIT);
    // Clocks are read without a system call, once it is known how.
    let _ = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    share_heap();
    ggml::ask_for_tiles();
    let mut kept = Kept(Vec::new());
    kept.give_up("core dumps", setrlimit(Resource::Core, exactly(0)));
    kept.give_up("memory that others need", limit_memory(private_bytes));
    kept.give_up("open files", close_all_but(open));
    let privileges = rustix::thread::set_no_new_privs(true);
    kept.give_up("new privileges", privileges);
    kept.give_up("the file system", leave_file_system());
    if geteuid().is_root() {
        kept.become_nobody();
    }
    kept.give_up("capabilities", drop_capabilities());
    // After the user, whose change makes the kernel forget it.
    let death = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    kept.give_up("a life after its parent's", death);
    kept.give_up("system calls", filter::apply());
    judge(kept, in_machine)
}

/// All threads have one heap: glibc gives back what a thread's own has only after a look
/// at a file, which would be the process's end.
fn share_heap() {
    // SAFETY: mallopt(3) sets a number; no other thread runs yet.
    unsafe { mallopt(ARENA_MAX, 1) };
}

/// An engine that asks for more private memory than `bytes` ends, and the rest of
/// the machine does not notice.
///
/// # Errors
/// The system's.
pub(super) fn limit_memory(bytes: u64) -> rustix::io::Result<()> {
    let most = getrlimit(Resource::Data).maximum.unwrap_or(u64::MAX);
    setrlimit(Resource::Data, exactly(most.min(bytes)))
}

fn exactly(most: u64) -> Rlimit {
    Rlimit {
        current: Some(most),
        maximum: Some(most),
    }
}

/// What could not be given up, each with the reason.
struct Kept(Vec<String>);

impl Kept {
    fn give_up<E: std::fmt::Display>(&mut self, what: &str, result: Result<(), E>) {
        if let Err(e) = result {
            self.0.push(format!("{what} ({e})"));
        }
    }

    /// Each step counts: what one cannot do, the next may.
    fn become_nobody(&mut self) {
        let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        self.give_up("root's groups", rustix::thread::set_thread_groups(&[]));
        let gid = rustix::thread::set_thread_res_gid(group, group, group);
        self.give_up("root's group", gid);
        let uid = rustix::thread::set_thread_res_uid(user, user, user);
        self.give_up("root's user", uid);
    }
}

fn judge(Kept(kept): Kept, in_machine: bool) -> Result<Option<String>, Unconfined> {
    let unconfined = Unconfined(kept);
    match (unconfined.0.as_slice(), in_machine) {
        ([], _) => Ok(None),
        (_, true) => Err(unconfined),
        (_, false) => Ok(Some(unconfined.to_string())),
    }
}

/// Closes what a careless program has left open for the command; PID 1 leaves nothing.
fn close_all_but(open: &[RawFd]) -> io::Result<()> {
    let mut numbers: Vec<c_uint> = open.iter().map(|fd| fd.unsigned_abs()).collect();
    numbers.sort_unstable();
    let mut first = 3;
    for number in numbers {
        if first < number {
            close_between(first, number - 1)?;
        }
        first = number + 1;
    }
    close_between(first, c_uint::MAX)
}

fn close_between(first: c_uint, last: c_uint) -> io::Result<()> {
    // SAFETY: nobody in this process owns what was open when it began and is none of
    // the descriptors that `close_all_but` leaves.
    match unsafe { close_range(first, last, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// From here on, the root is a directory that has been removed: there is nothing in
/// it, and nothing can be made in it.
fn leave_file_system() -> rustix::io::Result<()> {
    // The machine has no /tmp.
    let parent = ["/tmp", "/"]
        .into_iter()
        .find(|dir| Path::new(dir).is_dir());
    let name = format!(
        "{}/.zosia-{}",
        parent.unwrap_or("/"),
        rustix::process::getpid()
    );
    let name = CString::new(name).unwrap_or_default();
    rustix::fs::mkdir(&name, Mode::RUSR | Mode::XUSR)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(&name, flags, Mode::empty());
    rustix::fs::rmdir(&name)?;
    rustix::process::fchdir(opened?)?;
    rustix::process::chroot(c".")
}

fn drop_capabilities() -> rustix::io::Result<()> {
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, none)
}

/// Rust's handler looks for overflowed stacks, and takes the first signal that
/// another process sends for one that was mended.
fn die_of_faults() {
    for fault in [Signal::SEGV, Signal::BUS] {
        // SAFETY: signal(2) with `SIG_DFL` installs no code; no thread but this
        // one runs yet.
        unsafe { signal(fault.as_raw(), 0) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;
    use crate::tests::{alone, run_alone};

    #[test]
    fn what_cannot_be_given_up_is_told_and_in_the_machine_an_error() {
        let some = || {
            let mut kept = Kept(Vec::new());
            kept.give_up("core dumps", Ok::<_, rustix::io::Errno>(()));
            kept
        };
        assert_eq!(judge(some(), true), Ok(None));
        let more = || {
            let mut kept = some();
            kept.give_up("root's user", Err(rustix::io::Errno::INVAL));
            kept.give_up("capabilities", Err(rustix::io::Errno::PERM));
            kept
        };
        let line = "the engine cannot give up root's user (Invalid argument (os error 22)), \
                    capabilities (Operation not permitted (os error 1))";
        assert_eq!(judge(more(), false), Ok(Some(line.to_owned())));
        assert_eq!(judge(more(), true).unwrap_err().to_string(), line);
    }

    #[test]
    fn no_right_is_left() {
        alone("confine::tests::confine_this_process");
    }

    #[test]
    #[ignore = "confines its process; run by no_right_is_left"]
    fn confine_this_process() {
        let was_root = geteuid().is_root();
        let status = fs::File::open("/proc/thread-self/status").unwrap();
        let stray = fs::File::open("/").unwrap();
        let kept = confine(1 << 30, &[status.as_raw_fd()]).unwrap();
        let closed = rustix::io::pread(&stray, &mut [0], 0).unwrap_err();
        assert_eq!(closed, rustix::io::Errno::BADF);
        std::mem::forget(stray);
        // The descriptor was open before, and reads the state of now.
        let mut buffer = [0; 4096];
        let length = rustix::io::pread(&status, &mut buffer, 0).unwrap();
        let status = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        assert_eq!(value("NoNewPrivs:"), "1");
        assert_eq!(value("Seccomp:"), "2");
        if was_root {
            assert_eq!(kept, None);
            assert_eq!(value("Uid:"), "65534\t65534\t65534\t65534");
            assert_eq!(value("Gid:"), "65534\t65534\t65534\t65534");
            assert_eq!(value("Groups:"), "");
        } else {
            let kept = kept.unwrap();
            assert!(kept.contains("the file system ("), "{kept}");
        }
        for set in ["CapEff:", "CapPrm:", "CapInh:"] {
            assert_eq!(value(set), format!("{:016x}", 0), "{set}");
        }
    }

    #[test]
    fn memory_that_another_thread_has_taken_can_be_given_back() {
        alone("confine::tests::give_back");
    }

    #[test]
    #[ignore = "confines its process; run by memory_that_another_thread_has_taken_can_be_given_back"]
    fn give_back() {
        confine(1 << 30, &[]).unwrap();
        let take = || (0..64).map(|_| vec![1_u8; 100 << 10]).collect::<Vec<_>>();
        let taken = std::thread::spawn(take).join().unwrap();
        assert_eq!(taken.len(), 64);
    }

    #[test]
    fn what_kernels_ask_of_linux_is_known_before() {
        alone("confine::tests::ask_again");
    }

    #[test]
    #[ignore = "confines its process; run by what_kernels_ask_of_linux_is_known_before"]
    fn ask_again() {
        confine(1 << 30, &[]).unwrap();
        // Where the processor has tiles, asking Linux would be the end.
        ggml::ask_for_tiles();
    }

    #[test]
    fn what_is_forbidden_ends_the_process() {
        for name in crate::forbidden() {
            let status = run_alone("confine::tests::attempt", name).status;
            let killed = Some(Signal::SYS.as_raw());
            assert_eq!(status.signal(), killed, "{name}: {status}");
        }
    }

    #[test]
    #[ignore = "ends its process; run by what_is_forbidden_ends_the_process"]
    fn attempt() {
        let name = std::env::var("ZOSIA_ATTEMPT").unwrap();
        confine(1 << 30, &[]).unwrap();
        crate::filter::attempt(&name);
    }
}
