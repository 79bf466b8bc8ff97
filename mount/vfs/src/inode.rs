//! Inode numbers: what a number stands for, and back.
//!
//! What always holds: the numbers of nodes are those of the vault (`NodeId::ino`), the same in every mount;
//! numbers below 2^32 belong to the mount's own folders; 1 is the root of the mount.

use backupengine_model::NodeId;

/// An inode number of the mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub u64);

impl Ino {
    /// The root of the mount.
    pub const ROOT: Self = Self(1);
}

/// What an inode number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A folder or link of the mount itself.
    Own(u32),
    /// A node of a snapshot.
    Node(NodeId),
}

impl Place {
    pub(crate) fn of(ino: Ino) -> Self {
        match NodeId::from_ino(ino.0) {
            Some(id) => Self::Node(id),
            None => Self::Own(ino.0 as u32),
        }
    }
}
