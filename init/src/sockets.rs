//! The machine's way to a network: none. Its kernel has the core of a network stack,
//! because filters of system calls come with it, and no protocol or device; PID 1
//! gives up making sockets, for itself and for all that it ever starts.

use std::collections::BTreeMap;

use linux_raw_sys::general::{__NR_socket, __NR_socketpair};
use rustix::net::{AddressFamily, SocketType, socket};
use seccompiler::{BackendError, BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// Families are numbered from 0; Linux has fewer than this.
const FAMILIES: u16 = 64;

/// Why sockets could not be given up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketsError {
    /// The filter cannot be written.
    #[error("the filter of sockets cannot be made")]
    Filter(#[from] BackendError),
    /// The kernel does not take it.
    #[error("sockets cannot be given up; a kernel of zosia's own lets them")]
    Kernel(#[from] seccompiler::Error),
}

/// No socket can be made from now on, by this process or its children.
///
/// # Errors
/// [`SocketsError`].
pub(crate) fn give_up() -> Result<(), SocketsError> {
    let calls = [__NR_socket, __NR_socketpair];
    let rules = calls.map(|number| (i64::from(number), Vec::new()));
    let refuse = SeccompAction::Errno(linux_raw_sys::errno::EPERM);
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let rules = BTreeMap::from(rules);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture)?;
    let program: BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter(&program)?)
}

/// The families of which this process can make a socket.
pub(crate) fn families_left() -> Vec<u16> {
    let kinds = [SocketType::STREAM, SocketType::DGRAM, SocketType::RAW];
    let opens = |family: &u16| {
        let family = AddressFamily::from_raw(*family);
        kinds.iter().any(|kind| socket(family, *kind, None).is_ok())
    };
    (0..FAMILIES).filter(opens).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_socket_is_left_after_giving_them_up() {
        // The filter is this thread's and dies with it.
        let thread = std::thread::spawn(|| {
            assert!(families_left().contains(&1), "AF_UNIX is everywhere");
            give_up().unwrap();
            families_left()
        });
        assert_eq!(thread.join().unwrap(), Vec::<u16>::new());
    }
}
