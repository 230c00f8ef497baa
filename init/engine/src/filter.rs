//! The system calls that are left to the engine: those that computing takes. Any
//! other ends it at once, by SIGSYS.

#![expect(
    unsafe_code,
    reason = "system calls that must end the process are tried by number"
)]

use std::collections::BTreeMap;
use std::ffi::c_long;

use linux_raw_sys::general as sys;
use linux_raw_sys::prctl::PR_SET_NAME;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

/// A system call and what it is here for. docs/security.md has the same table.
pub(crate) struct Allowed {
    pub(crate) name: &'static str,
    number: u32,
    only: Only,
}

/// With which arguments a system call is allowed.
#[derive(Clone, Copy)]
enum Only {
    Any,
    /// The first is this process.
    Itself,
    /// The first is this.
    First(u32),
    /// The second is this.
    Second(u32),
    /// The first has these bits: a thread, not a process.
    Flags(u32),
}

/// A row of [`ALLOWED`]: the name is the kernel's.
macro_rules! allowed {
    ($($number:ident $only:expr),* $(,)?) => {
        [$(Allowed { name: name_of(stringify!($number)), number: sys::$number, only: $only }),*]
    };
}

const fn name_of(constant: &'static str) -> &'static str {
    // Of `__NR_read`, what comes after the prefix.
    constant.split_at("__NR_".len()).1
}

pub(crate) const ALLOWED: [Allowed; 43] = allowed![
    // The pipes and the model, all open.
    __NR_read Only::Any,
    __NR_write Only::Any,
    __NR_writev Only::Any,
    __NR_pread64 Only::Any,
    __NR_preadv2 Only::Any,
    __NR_lseek Only::Any,
    __NR_fstat Only::Any,
    __NR_newfstatat Only::Any,
    __NR_statx Only::Any,
    __NR_fadvise64 Only::Any,
    __NR_close Only::Any,
    // Of a part, which llama.cpp opens and closes twice.
    __NR_dup Only::Any,
    __NR_fcntl Only::Second(sys::F_GETFL),
    // Memory.
    __NR_brk Only::Any,
    __NR_mmap Only::Any,
    __NR_mremap Only::Any,
    __NR_mprotect Only::Any,
    __NR_madvise Only::Any,
    __NR_munmap Only::Any,
    // Threads.
    __NR_clone Only::Flags(sys::CLONE_THREAD),
    __NR_clone3 Only::Any,
    __NR_set_robust_list Only::Any,
    __NR_rseq Only::Any,
    __NR_prctl Only::First(PR_SET_NAME),
    __NR_futex Only::Any,
    __NR_sched_yield Only::Any,
    __NR_sched_getaffinity Only::Any,
    // Of each other, too.
    __NR_sched_setaffinity Only::Any,
    __NR_gettid Only::Any,
    __NR_getpid Only::Any,
    __NR_exit Only::Any,
    __NR_exit_group Only::Any,
    // Its own end, by a signal to itself.
    __NR_rt_sigaction Only::Any,
    __NR_rt_sigprocmask Only::Any,
    __NR_rt_sigreturn Only::Any,
    __NR_sigaltstack Only::Any,
    __NR_tgkill Only::Itself,
    // Clocks, and random numbers.
    __NR_clock_gettime Only::Any,
    __NR_clock_nanosleep Only::Any,
    // What was waited for goes on when the process was stopped meanwhile.
    __NR_restart_syscall Only::Any,
    __NR_getrusage Only::Any,
    __NR_getrandom Only::Any,
    // How much memory the machine has.
    __NR_sysinfo Only::Any,
];

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilterError {
    /// It cannot be written.
    #[error(transparent)]
    Filter(#[from] BackendError),
    /// The kernel does not take it.
    #[error(transparent)]
    Kernel(#[from] seccompiler::Error),
}

/// Leaves this thread, and those it starts, the calls of [`ALLOWED`].
///
/// # Errors
/// [`FilterError`], and then some other calls may be gone already.
pub(super) fn apply() -> Result<(), FilterError> {
    // What `clone3` does is told in memory that no filter sees. Where it is not
    // there, the C library takes `clone`.
    let clone3 = BTreeMap::from([(i64::from(sys::__NR_clone3), Vec::new())]);
    let absent = SeccompAction::Errno(linux_raw_sys::errno::ENOSYS);
    apply_filter(&program(clone3, SeccompAction::Allow, absent)?)?;
    let own = rustix::process::getpid()
        .as_raw_nonzero()
        .get()
        .unsigned_abs();
    let mut rules = BTreeMap::new();
    for Allowed { number, only, .. } in &ALLOWED {
        let argument = |index, operator, value: u32| {
            SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value.into())
        };
        let condition = match *only {
            Only::Any => None,
            Only::Itself => Some(argument(0, SeccompCmpOp::Eq, own)?),
            Only::First(value) => Some(argument(0, SeccompCmpOp::Eq, value)?),
            Only::Second(value) => Some(argument(1, SeccompCmpOp::Eq, value)?),
            Only::Flags(bits) => Some(argument(0, SeccompCmpOp::MaskedEq(bits.into()), bits)?),
        };
        let rule = condition.map(|condition| SeccompRule::new(vec![condition]));
        let rule = rule.transpose()?.into_iter().collect();
        rules.insert(i64::from(*number), rule);
    }
    let kill = SeccompAction::KillProcess;
    apply_filter(&program(rules, kill, SeccompAction::Allow)?)?;
    Ok(())
}

fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    listed: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, otherwise, listed, architecture)?.try_into()
}

/// A row of [`forbidden`]: the name is the kernel's.
macro_rules! forbidden {
    ($($number:ident),* $(,)?) => { [$((name_of(stringify!($number)), sys::$number)),*] };
}

/// What a program that has taken over the engine would try first.
pub(crate) fn forbidden() -> impl Iterator<Item = (&'static str, u32)> {
    FORBIDDEN.into_iter().chain(FORBIDDEN_HERE.iter().copied())
}

/// Calls that only x86 still has beside their successors.
#[cfg(target_arch = "x86_64")]
const FORBIDDEN_HERE: &[(&str, u32)] = &forbidden![
    __NR_open,
    __NR_creat,
    __NR_fork,
    __NR_vfork,
    __NR_modify_ldt,
    __NR_iopl,
    __NR_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const FORBIDDEN_HERE: &[(&str, u32)] = &[];

/// Those of every architecture.
const FORBIDDEN: [(&str, u32); 21] = forbidden![
    __NR_openat,
    __NR_openat2,
    __NR_execve,
    __NR_execveat,
    __NR_clone,
    __NR_socket,
    __NR_socketpair,
    __NR_connect,
    __NR_mount,
    __NR_umount2,
    __NR_chroot,
    __NR_ptrace,
    __NR_process_vm_writev,
    __NR_kill,
    __NR_pidfd_open,
    __NR_reboot,
    __NR_setuid,
    __NR_ioctl,
    __NR_bpf,
    __NR_init_module,
    __NR_keyctl,
];

unsafe extern "C" {
    /// `syscall(2)`.
    fn syscall(number: c_long, ...) -> c_long;
}

/// Makes the system call of this name in [`forbidden`], with zeros for arguments;
/// returns only if nothing has stopped it.
pub(crate) fn attempt(name: &str) {
    let Some((_, number)) = forbidden().find(|(known, _)| *known == name) else {
        return;
    };
    // SAFETY: with null pointers and empty sets none of them does anything to this
    // process, except that `clone` makes another, which goes the same way.
    unsafe {
        syscall(
            c_long::from(number),
            0_usize,
            0_usize,
            0_usize,
            0_usize,
            0_usize,
        )
    };
}

#[cfg(test)]
mod tests {
    use std::fs;

    #[test]
    fn the_documentation_lists_what_is_allowed() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/security.md");
        let page = fs::read_to_string(page).unwrap();
        let names: Vec<String> = crate::allowed().map(|name| format!("`{name}`")).collect();
        let listed = page.split_whitespace().collect::<Vec<_>>().join(" ");
        let list = format!("{}.", names.join(", "));
        assert!(
            listed.contains(&list),
            "docs/security.md should list: {list}"
        );
    }
}
