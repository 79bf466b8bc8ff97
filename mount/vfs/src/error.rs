//! What an operation of the mount can answer besides success.
//!
//! Closed and small on purpose: each shell turns it into its system's codes by one exhaustive match.

use backupengine_model::{ReadError, ReadFailure};
use thiserror::Error;

/// Why an operation did not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum FsError {
    /// No such name or node.
    #[error("no such file or directory")]
    NotFound,
    /// A directory was needed.
    #[error("not a directory")]
    NotADirectory,
    /// A file was needed, and this is a directory.
    #[error("is a directory")]
    IsADirectory,
    /// A symbolic link was needed.
    #[error("not a symbolic link")]
    NotALink,
    /// No such extended attribute.
    #[error("no such extended attribute")]
    NoAttribute,
    /// Snapshots do not change.
    #[error("snapshots are read-only")]
    ReadOnly,
    /// What was opened has no bytes to read.
    #[error("not open for reading")]
    BadHandle,
    /// Nothing of the wanted kind at or after this offset: systems have a code of their own for it, and
    /// tools that copy holes stop at exactly that one.
    #[error("nothing there after this offset")]
    NoSuchOffset,
    /// Longer than any name that can be shown.
    #[error("file name too long")]
    NameTooLong,
    /// The vault could not be reached in time.
    #[error("the vault could not be reached in time")]
    TimedOut,
    /// The snapshot was removed while in use.
    #[error("the snapshot was removed")]
    Stale,
    /// Stored bytes are damaged or missing.
    #[error("stored bytes are damaged")]
    Damaged,
    /// The store refused access.
    #[error("access denied by the store")]
    Denied,
    /// A signal interrupted the wait.
    #[error("interrupted")]
    Interrupted,
}

impl FsError {
    /// The failure of a read port; `wrong_kind` is what a node of another kind means to the caller.
    pub(crate) fn of(error: &ReadError, wrong_kind: Self) -> Self {
        match error.failure {
            ReadFailure::NotFound => Self::NotFound,
            ReadFailure::WrongKind => wrong_kind,
            ReadFailure::Damaged => Self::Damaged,
            ReadFailure::TimedOut => Self::TimedOut,
            ReadFailure::Gone => Self::Stale,
            ReadFailure::Denied => Self::Denied,
            ReadFailure::Interrupted => Self::Interrupted,
        }
    }
}
