//! A node: one name in a snapshot with everything `lstat` and friends showed at push.
//!
//! May not know where content lies (that is the format's matter). What always holds: sizes are plaintext
//! sizes, times are exact to the nanosecond and signed. Tested below and in `tests/oracle`.

/// Time as the source showed it: whole seconds since 1970 (negative before) and nanoseconds 0..10^9.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub secs: i64,
    /// 0 to 999 999 999.
    pub nanos: u32,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Directory.
    Directory = 0,
    /// Regular file.
    File = 1,
    /// Symbolic link.
    Symlink = 2,
    /// Named pipe.
    Fifo = 3,
    /// Unix socket.
    Socket = 4,
    /// Character device; the node's `rdev` says which.
    CharDevice = 5,
    /// Block device; the node's `rdev` says which.
    BlockDevice = 6,
}

/// Attributes shared by all kinds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// What the node is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky: 0 to 0o7777.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Plaintext bytes of a file, bytes of a link target, what `lstat` said for a directory, else 0.
    pub size: u64,
    /// Time of last modification.
    pub mtime: Timestamp,
    /// Device number of a device node in the source system's encoding (`st_rdev`), else 0.
    pub rdev: u64,
    /// `st_nlink` at push; for files the number of links inside the snapshot can be smaller.
    pub nlink: u32,
    /// For a sparse file the bytes that are not holes; `None` where nothing is left out.
    pub allocated: Option<u64>,
    /// Marks; see [`NodeFlags`].
    pub flags: NodeFlags,
}

/// Marks of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodeFlags(pub u8);

impl NodeFlags {
    /// The file went on changing while it was read twice: its bytes may mix two states.
    pub const TORN: Self = Self(1);

    /// Whether all marks of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A node as readers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it stands in its snapshot. All names of a hard-linked file have an id of their own.
    pub id: crate::NodeId,
    /// Attributes.
    pub attributes: Attributes,
    /// For a hard-linked file (more than one name in the snapshot) the id of its first name in key order:
    /// the same for all of them, and what they show as inode number. Otherwise equal to `id`.
    pub inode: crate::NodeId,
    /// Whether the node has extended attributes, ACLs included.
    pub has_xattrs: bool,
}

/// Name of an extended attribute as the kernel spells it (`user.comment`, `system.posix_acl_access`).
pub type XattrName = Vec<u8>;

/// A run of a file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataSpan {
    /// First byte.
    pub offset: u64,
    /// Length in bytes, at least 1.
    pub len: u64,
    /// Data or hole.
    pub kind: SpanKind,
}

/// What a run of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Stored bytes.
    Data,
    /// Zeros that take no room.
    Hole,
}

/// Figures of a whole snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Nodes that are not directories.
    pub files: u64,
    /// Directories, "/" not counted.
    pub directories: u64,
    /// Plaintext bytes of all files, each name counted.
    pub bytes: u64,
    /// Bytes this snapshot's session added to the vault.
    pub stored: u64,
}

/// `st_blocks` (units of 512 bytes): what is not a hole, in whole blocks of 4096 bytes.
pub fn allocated_blocks(attributes: &Attributes) -> u64 {
    match attributes.kind {
        Kind::File => attributes.allocated.unwrap_or(attributes.size).div_ceil(4096) * 8,
        Kind::Directory => attributes.size.div_ceil(512),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_take_no_blocks() {
        let mut a = Attributes {
            kind: Kind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 3 << 40,
            mtime: Timestamp::default(),
            rdev: 0,
            nlink: 1,
            allocated: Some(1),
            flags: NodeFlags::default(),
        };
        assert_eq!(allocated_blocks(&a), 8);
        a.allocated = None;
        assert_eq!(allocated_blocks(&a), (3 << 40) / 512);
        a.kind = Kind::Symlink;
        assert_eq!(allocated_blocks(&a), 0);
    }
}
