//! Why a session is not opened or not written to: each message is one line with cause,
//! place and remedy. Whoever shows it says which session is meant.

use std::fmt;
use std::io;

/// What was being done to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Opening it.
    Open,
    /// Locking it.
    Lock,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Waiting until what was written stays.
    Flush,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "opened",
            Self::Lock => "locked",
            Self::Read => "read",
            Self::Write => "written to",
            Self::Flush => "flushed",
        })
    }
}

/// Why something is not done. What was on the disk before still is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system's answer.
    #[error("the session cannot be {action} at byte {at}: {source}; see to the disk [ZE-70]")]
    Io {
        /// What was being done.
        action: Action,
        /// Where, in bytes from the beginning.
        at: u64,
        /// What the system says; not repeated by whoever prints the chain.
        source: io::Error,
    },
    /// No room.
    #[error(
        "the session's disk is full at byte {at}: \
         make room on the host, or take a larger disk [ZE-71]"
    )]
    Full {
        /// Where the first byte would be that has no place.
        at: u64,
    },
    /// Somebody else's.
    #[error("the session is in use by another zosia; leave that one first [ZE-72]")]
    InUse,
    /// No permission to write.
    #[error("the session is read-only; make its disk writable to go on with it [ZE-72]")]
    ReadOnly,
    /// Something else.
    #[error("this is not a session but {what}; give a session's file or a new name [ZE-73]")]
    NoSession {
        /// What it is.
        what: &'static str,
    },
    /// A format of later.
    #[error(
        "the session has version {version} of the format and this zosia reads {}; \
         use a newer zosia [ZE-73]",
        crate::superblock::VERSION
    )]
    Newer {
        /// The version on the disk.
        version: u32,
    },
    /// An encrypted session, and nothing to open it with.
    #[error("the session is encrypted and needs its passphrase [ZE-74]")]
    NeedsPassphrase,
    /// Another passphrase.
    #[error("this is not the session's passphrase [ZE-74]")]
    WrongPassphrase,
    /// A passphrase for what is not encrypted.
    #[error("the session is not encrypted: it has no passphrase [ZE-74]")]
    NotEncrypted,
    /// Larger than a record may be.
    #[error("{bytes} bytes are too many for one record of a session [ZE-75]")]
    TooLong {
        /// How many there are.
        bytes: usize,
    },
    /// What was written has changed.
    #[error("record {record} of the session is damaged [ZE-75]")]
    Damaged {
        /// Its number, from 1.
        record: u64,
    },
    /// A piece of a context that has changed, or is not there.
    #[error("a saved context is damaged or gone, and is not used [ZE-75]")]
    NoPiece,
    /// Not enough memory to derive a key, or to read a record.
    #[error("there is not enough memory for {bytes} bytes of the session [ZE-76]")]
    NoMemory {
        /// How much it takes.
        bytes: usize,
    },
    /// The system has no random numbers.
    #[error(
        "the system gives no random numbers, which a session needs: this processor has no instruction for them (RDRAND on a PC) [ZE-76]"
    )]
    NoChance,
    /// A bug of the caller's.
    #[error("the session has no such conversation or message [ZE-76]")]
    NoChat,
}

impl Error {
    /// What the system's error means for a session.
    pub(crate) fn of(action: Action, at: u64, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::Full { at },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            // Of a disk that was opened: the machine's, which the host does not let it write.
            io::ErrorKind::PermissionDenied if action == Action::Write => Self::ReadOnly,
            _ => Self::Io { action, at, source },
        }
    }
}
