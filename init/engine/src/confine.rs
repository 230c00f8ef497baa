//! What the engine gives up before it touches a model: C++ that reads a hostile
//! file should be able to do nothing but compute.

#![expect(unsafe_code, reason = "a signal's default action is set through libc")]

use std::ffi::c_int;
use std::fs;
use std::io;

use rustix::process::{Gid, Resource, Rlimit, Signal, Uid, geteuid, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// Nobody: owns nothing, and no other process here runs as it.
const NOBODY: u32 = 65534;

unsafe extern "C" {
    /// `signal(2)`; a handler of 0 is `SIG_DFL`.
    fn signal(number: c_int, handler: usize) -> usize;
}

/// Ends with its parent, is the first to go when memory runs out, dies of a
/// fault at once, and cannot regain any right.
/// What a kernel does not have is left out: the rest is worth having.
pub(super) fn confine() {
    // When memory runs out, this process is the one to end: it can be replaced.
    // Without /proc, the kernel still prefers the process that holds the model.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    die_of_faults();
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = setrlimit(Resource::Core, none);
    let _ = rustix::thread::set_no_new_privs(true);
    if geteuid().is_root() {
        let _ = become_nobody();
    }
    // Last: the kernel forgets it when the user changes. One that refuses
    // leaves the end of the pipe, which says the same.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
}

/// Keeps one of root's powers, to read: the model may be root's own.
fn become_nobody() -> io::Result<()> {
    rustix::thread::set_keep_capabilities(true)?;
    rustix::thread::set_thread_groups(&[])?;
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    rustix::thread::set_thread_res_gid(group, group, group)?;
    rustix::thread::set_thread_res_uid(user, user, user)?;
    let sets = CapabilitySets {
        effective: CapabilitySet::DAC_READ_SEARCH,
        permitted: CapabilitySet::DAC_READ_SEARCH,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets)?;
    Ok(())
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
