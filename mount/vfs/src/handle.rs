//! Handles: an opened file or directory.
//!
//! What always holds: a handle is its inode number, so that a shell whose system opens without asking can
//! make one itself, and nothing has to be kept or given back.

use crate::Ino;

/// Something opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(Ino);

impl Handle {
    /// The handle that opening `ino` would give, unchecked: operations check for themselves.
    pub const fn of(ino: Ino) -> Self {
        Self(ino)
    }

    /// What was opened.
    pub const fn ino(self) -> Ino {
        self.0
    }
}
