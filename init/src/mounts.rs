//! What PID 1 mounts: the kernel's own file systems, and file systems that hold
//! models, read-only. Nothing here can mount anything writable from a disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

/// Where file systems with models are mounted, each in a directory of its own.
/// The root is the initramfs, which is memory: no tmpfs is needed for it.
const MODELS_DIR: &str = "/run/models";

/// Why a mount failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    /// The directory to mount on cannot be made.
    #[error("cannot make the directory {}", target.display())]
    Target {
        /// The directory.
        target: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// `mount(2)` failed.
    #[error("cannot mount {what} on {}{}", target.display(), remedy(*source))]
    Mount {
        /// The device, or the kernel's file system.
        what: String,
        /// Where.
        target: PathBuf,
        /// The system's error.
        source: Errno,
    },
    /// `umount(2)` failed.
    #[error("cannot unmount {}", target.display())]
    Unmount {
        /// What was mounted there.
        target: PathBuf,
        /// The system's error.
        source: Errno,
    },
}

/// What the user can do about `mount(2)`'s error, if anything.
fn remedy(error: Errno) -> &'static str {
    match error {
        Errno::NODEV => "; the kernel has no such file system",
        Errno::INVAL | Errno::UCLEAN | Errno::OPNOTSUPP | Errno::OVERFLOW => {
            "; the file system is damaged or uses features that the kernel lacks; re-create it"
        }
        Errno::IO => "; the disk cannot be read, check it",
        _ => "",
    }
}

/// A file system of the kernel's own.
struct KernelMount {
    kind: &'static str,
    target: &'static str,
    flags: MountFlags,
}

/// Order is important here: devices first, so that a later failure can be told.
const KERNEL_MOUNTS: [KernelMount; 3] = [
    KernelMount {
        kind: "devtmpfs",
        target: "/dev",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
    },
    KernelMount {
        kind: "proc",
        target: "/proc",
        flags: MountFlags::NOSUID
            .union(MountFlags::NODEV)
            .union(MountFlags::NOEXEC),
    },
    KernelMount {
        kind: "sysfs",
        target: "/sys",
        flags: MountFlags::NOSUID
            .union(MountFlags::NODEV)
            .union(MountFlags::NOEXEC)
            .union(MountFlags::RDONLY),
    },
];

/// Proof that `/dev`, `/proc` and `/sys` are mounted: what needs them in PID 1
/// takes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mounted(());

/// Mounts `/dev`, `/proc` and `/sys`. Only PID 1 may call it.
///
/// # Errors
/// The first mount that failed; those before it stay.
pub(crate) fn mount_kernel_file_systems() -> Result<Mounted, MountError> {
    for KernelMount {
        kind,
        target,
        flags,
    } in KERNEL_MOUNTS
    {
        make_dir(Path::new(target))?;
        match rustix::mount::mount(kind, target, kind, flags, None) {
            // BUSY: it is there already, made by the kernel.
            Ok(()) | Err(Errno::BUSY) => {}
            Err(source) => {
                return Err(MountError::Mount {
                    what: kind.into(),
                    target: target.into(),
                    source,
                });
            }
        }
    }
    Ok(Mounted(()))
}

/// A file system that can hold models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileSystem {
    /// Read-only by design; what our own disk maker writes.
    Erofs,
    /// Linux' usual one.
    Ext4,
}

impl FileSystem {
    /// The kernel's name of it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Erofs => "erofs",
            Self::Ext4 => "ext4",
        }
    }
}

/// Mounts a file system with models, read-only, and returns where: a directory
/// named as the device.
///
/// # Errors
/// [`MountError`]; nothing stays mounted.
pub(crate) fn mount_models(device: &Path, kind: FileSystem) -> Result<PathBuf, MountError> {
    let target = Path::new(MODELS_DIR).join(device.file_name().unwrap_or_default());
    make_dir(&target)?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let data = match kind {
        FileSystem::Erofs => None,
        // Without it ext4 replays a dirty journal, which writes to the disk.
        FileSystem::Ext4 => Some(c"noload"),
    };
    match rustix::mount::mount(device, &target, kind.name(), flags, data) {
        Ok(()) => Ok(target),
        Err(source) => Err(MountError::Mount {
            what: format!("{} ({})", device.display(), kind.name()),
            target,
            source,
        }),
    }
}

/// Unmounts what [`mount_models`] mounted at `target`. Files still open or
/// mapped keep working; the disk is let go when the last one is closed.
///
/// # Errors
/// [`MountError::Unmount`].
pub(crate) fn unmount_models(target: &Path) -> Result<(), MountError> {
    rustix::mount::unmount(target, UnmountFlags::DETACH).map_err(|source| MountError::Unmount {
        target: target.into(),
        source,
    })
}

fn make_dir(target: &Path) -> Result<(), MountError> {
    fs::create_dir_all(target).map_err(|source| MountError::Target {
        target: target.into(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_mounted_before_anything_that_can_fail() {
        assert_eq!(KERNEL_MOUNTS.map(|m| m.target), ["/dev", "/proc", "/sys"]);
        for mount in KERNEL_MOUNTS {
            assert!(
                mount
                    .flags
                    .contains(MountFlags::NOSUID | MountFlags::NOEXEC)
            );
        }
    }

    #[test]
    fn a_failed_mount_names_operand_and_remedy_and_not_its_source() {
        let error = MountError::Mount {
            what: "/dev/vda (ext4)".into(),
            target: "/run/models/vda".into(),
            source: Errno::INVAL,
        };
        let line = error.to_string();
        assert!(line.starts_with("cannot mount /dev/vda (ext4) on /run/models/vda; "));
        assert!(line.contains("re-create it") && !line.contains("os error"));
        assert!(std::error::Error::source(&error).is_some());
    }
}
