//! What the engine gives up before it touches a model: C++ that reads a hostile
//! file should be able to do nothing but compute.

#![expect(unsafe_code, reason = "a signal's default action is set through libc")]

use std::ffi::c_int;
use std::fs;

use rustix::process::{
    Gid, Pid, Resource, Rlimit, Signal, Uid, geteuid, getppid, getrlimit, setrlimit,
};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// Nobody: owns nothing, and no other process here runs as it.
const NOBODY: u32 = 65534;

/// The one power of root's that is kept: the model may be root's own to read.
const KEPT: CapabilitySet = CapabilitySet::DAC_READ_SEARCH;

unsafe extern "C" {
    /// `signal(2)`; a handler of 0 is `SIG_DFL`.
    fn signal(number: c_int, handler: usize) -> usize;
}

/// A process that has given up what it could.
pub(super) struct Confined {
    /// What it could not give up, with the kernel's reason.
    kept: Vec<String>,
}

/// What this process has and should not, in one line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the engine cannot give up {}", .0.join(", "))]
pub(crate) struct Unconfined(Vec<String>);

/// Ends with its parent, is the first to go when memory runs out, dies of a
/// fault at once, and cannot regain any right.
pub(super) fn confine() -> Confined {
    // When memory runs out, this process is the one to end: it can be replaced.
    // Without /proc, the kernel still prefers the process that holds the model.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    die_of_faults();
    let mut confined = Confined { kept: Vec::new() };
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    confined.give_up("core dumps", setrlimit(Resource::Core, none));
    let privileges = rustix::thread::set_no_new_privs(true);
    confined.give_up("new privileges", privileges);
    if geteuid().is_root() {
        confined.become_nobody();
    }
    confined.give_up("capabilities", drop_capabilities());
    // Last: the kernel forgets it when the user changes.
    let death = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    confined.give_up("a life after its parent's", death);
    confined
}

impl Confined {
    /// Gives up memory beyond `private_bytes`, which do not include the mapped model:
    /// an engine that asks for more ends, and the rest of the machine does not notice.
    ///
    /// Returns what could not be given up, if anything; in the machine, where all
    /// can, that is an error.
    ///
    /// # Errors
    /// [`Unconfined`].
    pub(super) fn limit_memory(mut self, private_bytes: u64) -> Result<Option<String>, Unconfined> {
        let limit = |most: u64| Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        let most = getrlimit(Resource::Data).maximum.unwrap_or(u64::MAX);
        let result = setrlimit(Resource::Data, limit(most.min(private_bytes)));
        self.give_up("memory that others need", result);
        self.judge(getppid() == Some(Pid::INIT))
    }

    fn judge(self, in_machine: bool) -> Result<Option<String>, Unconfined> {
        let unconfined = Unconfined(self.kept);
        match (unconfined.0.as_slice(), in_machine) {
            ([], _) => Ok(None),
            (_, true) => Err(unconfined),
            (_, false) => Ok(Some(unconfined.to_string())),
        }
    }

    fn give_up(&mut self, what: &str, result: rustix::io::Result<()>) {
        if let Err(e) = result {
            self.kept.push(format!("{what} ({e})"));
        }
    }

    /// Each step counts: what one cannot do, the next may.
    fn become_nobody(&mut self) {
        // If this is refused, the next steps take every capability.
        let _ = rustix::thread::set_keep_capabilities(true);
        let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        self.give_up("root's groups", rustix::thread::set_thread_groups(&[]));
        let gid = rustix::thread::set_thread_res_gid(group, group, group);
        self.give_up("root's group", gid);
        let uid = rustix::thread::set_thread_res_uid(user, user, user);
        self.give_up("root's user", uid);
    }
}

/// Keeps of the capabilities held no more than [`KEPT`].
fn drop_capabilities() -> rustix::io::Result<()> {
    let permitted = rustix::thread::capabilities(None)?.permitted & KEPT;
    let sets = CapabilitySets {
        effective: permitted,
        permitted,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets)
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
    use super::*;
    use crate::tests::alone;

    #[test]
    fn what_cannot_be_given_up_is_told_and_in_the_machine_an_error() {
        let confined = || {
            let mut confined = Confined { kept: Vec::new() };
            confined.give_up("core dumps", Ok(()));
            confined
        };
        assert_eq!(confined().judge(true), Ok(None));
        let failing = || {
            let mut confined = confined();
            confined.give_up("root's user", Err(rustix::io::Errno::INVAL));
            confined.give_up("capabilities", Err(rustix::io::Errno::PERM));
            confined
        };
        let line = "the engine cannot give up root's user (Invalid argument (os error 22)), \
                    capabilities (Operation not permitted (os error 1))";
        assert_eq!(failing().judge(false), Ok(Some(line.to_owned())));
        assert_eq!(failing().judge(true).unwrap_err().to_string(), line);
    }

    #[test]
    fn no_right_is_left_but_to_read_the_model() {
        alone("confine::tests::confine_this_process");
    }

    #[test]
    #[ignore = "confines its process; run by no_right_is_left_but_to_read_the_model"]
    fn confine_this_process() {
        let was_root = geteuid().is_root();
        assert_eq!(confine().limit_memory(1 << 30), Ok(None));
        // Capabilities are each thread's, and tests have one of their own.
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim().to_owned()
        };
        assert_eq!(value("NoNewPrivs:"), "1");
        let capabilities = if was_root {
            assert_eq!(value("Uid:"), "65534\t65534\t65534\t65534");
            assert_eq!(value("Gid:"), "65534\t65534\t65534\t65534");
            assert_eq!(value("Groups:"), "");
            KEPT.bits()
        } else {
            0
        };
        for set in ["CapEff:", "CapPrm:"] {
            assert_eq!(value(set), format!("{capabilities:016x}"), "{set}");
        }
        assert_eq!(value("CapInh:"), format!("{:016x}", 0));
        assert_eq!(getrlimit(Resource::Data).maximum, Some(1 << 30));
        assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
    }
}
