//! Attributes as the mount shows them.
//!
//! What always holds: what was stored is shown, but for the owner where the mount was told to show its own;
//! times of access and change are not kept and shown as that of modification.

use crate::Ino;
use backupengine_model::{Attributes, Kind, Timestamp, allocated_blocks};

/// Attributes of one inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Inode number.
    pub ino: Ino,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky: 0 to 0o7777.
    pub mode: u32,
    /// Number of names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// What is not a hole, in units of 512 bytes.
    pub blocks: u64,
    /// Time of last modification, and the only one that is kept.
    pub mtime: Timestamp,
    /// Device number of a device node in Linux' encoding, else 0.
    pub rdev: u64,
}

impl Attr {
    /// A folder or link of the mount itself: nobody may write, everybody let in may look.
    pub(crate) fn of_own(
        ino: Ino,
        kind: Kind,
        nlink: u32,
        size: u64,
        mtime: Timestamp,
        (uid, gid): (u32, u32),
    ) -> Self {
        let mode = if kind == Kind::Symlink { 0o777 } else { 0o555 };
        Self { ino, kind, mode, nlink, uid, gid, size, blocks: 0, mtime, rdev: 0 }
    }

    pub(crate) fn of_node(ino: Ino, stored: &Attributes, owner: Owner) -> Self {
        let (uid, gid) = owner.shown(stored.uid, stored.gid);
        Self {
            ino,
            kind: stored.kind,
            mode: stored.mode,
            nlink: stored.nlink,
            uid,
            gid,
            size: stored.size,
            blocks: allocated_blocks(stored),
            mtime: stored.mtime,
            rdev: stored.rdev,
        }
    }
}

/// Whom files are shown to belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Whoever owned them at push, by number.
    Stored,
    /// Always this user and group: for reading another machine's backup as oneself.
    Fixed {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

impl Owner {
    const fn shown(self, uid: u32, gid: u32) -> (u32, u32) {
        match self {
            Self::Stored => (uid, gid),
            Self::Fixed { uid, gid } => (uid, gid),
        }
    }
}

/// Figures of the whole mount. Nothing is free: it cannot be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeFigures {
    /// Bytes the vault takes where it is stored.
    pub bytes: u64,
    /// Files and directories of the newest snapshot shown, 0 where there is none.
    pub nodes: u64,
    /// Longest name in bytes.
    pub name_max: u32,
}
