//! Ids: fixed bytes with one way to print and parse them.
//!
//! May not generate themselves: randomness comes from the caller. Tested below.

use std::fmt;
use thiserror::Error;

/// An id that could not be read from text.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdError {
    /// Not the expected number of hexadecimal digits.
    #[error("an id of {expected} hexadecimal digits was expected, got {got:?}")]
    Malformed {
        /// How many digits the id has.
        expected: usize,
        /// What was given.
        got: String,
    },
}

macro_rules! fixed_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// Reads exactly `2 * LEN` hexadecimal digits.
            ///
            /// # Errors
            /// [`IdError::Malformed`] for any other text.
            pub fn from_hex(text: &str) -> Result<Self, IdError> {
                parse_hex::<$len>(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

fixed_id!(
    /// One vault. Random, made by `init`; bound into every key and every seal.
    VaultId, 16
);
fixed_id!(
    /// One device that pushes into a vault: the first 16 bytes of the BLAKE3 hash of its public signing key.
    DeviceId, 16
);
fixed_id!(
    /// What a person calls a snapshot by (any unique prefix of its hexadecimal form). It is the salt of the
    /// snapshot's root pack: random, outside the seal, so it can be rebuilt from the blobs alone.
    SnapshotId, 8
);
fixed_id!(
    /// Keyed BLAKE3 of a plaintext, cut to 16 bytes. Equal ids mean equal bytes inside one vault.
    ContentId, 16
);
fixed_id!(
    /// Keyed BLAKE3 of an encoded root record: what the next root of the same device chains to.
    RootHash, 32
);

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], IdError> {
    let malformed = || IdError::Malformed { expected: 2 * N, got: text.to_owned() };
    if text.len() != 2 * N || !text.is_ascii() {
        return Err(malformed());
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |c: u8| (c as char).to_digit(16).ok_or_else(malformed);
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Ok(bytes)
}

/// Number of a session of writing: given by the ledger, counted from 1, never reused in a vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionNo(pub u32);

impl fmt::Display for SessionNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// One node of one snapshot: the snapshot's session and the node's place in its tree.
///
/// `place` 0 is the snapshot's own "/"; a node of rank `r` (0-based, in key order, see
/// [`NodeKey`](crate::NodeKey)) has place `r + 1`. A snapshot therefore holds at most `u32::MAX - 1` nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// The session that made the snapshot.
    pub session: SessionNo,
    /// 0 for "/", else rank + 1.
    pub place: u32,
}

impl NodeId {
    /// "/" of the snapshot made by `session`.
    pub const fn root(session: SessionNo) -> Self {
        Self { session, place: 0 }
    }

    /// The node of rank `rank`, or `None` beyond the largest rank that can be shown.
    pub fn from_rank(session: SessionNo, rank: u64) -> Option<Self> {
        let place = u32::try_from(rank.checked_add(1)?).ok()?;
        Some(Self { session, place })
    }

    /// The rank, or `None` for "/".
    pub fn rank(self) -> Option<u64> {
        self.place.checked_sub(1).map(u64::from)
    }

    /// Inode number: session in the upper 32 bits, place in the lower. Unique over a whole vault, and the
    /// same after every remount. Session 0 does not exist, so numbers below 2^32 are free for the mount's
    /// own folders.
    pub const fn ino(self) -> u64 {
        (self.session.0 as u64) << 32 | self.place as u64
    }

    /// Back from [`NodeId::ino`]; `None` for the numbers of the mount's own folders.
    pub fn from_ino(ino: u64) -> Option<Self> {
        let session = (ino >> 32) as u32;
        (session != 0).then_some(Self { session: SessionNo(session), place: ino as u32 })
    }
}

/// What keys a pack and finds it: session and number name the blob, salt and epoch choose its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackRef {
    /// The session that wrote it.
    pub session: SessionNo,
    /// Its number in the session, from 0; [`PackRef::ROOT`] is the root pack.
    pub number: u32,
    /// Drawn at random when the pack was begun.
    pub salt: [u8; 8],
    /// Epoch of the vault's master key.
    pub epoch: u16,
}

impl PackRef {
    /// The number of a session's root pack.
    pub const ROOT: u32 = u32::MAX;
}

/// Where one frame is, and all a reader needs to open it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameRef {
    /// The pack it was sealed for.
    pub pack: PackRef,
    /// First byte in the pack, which is also its nonce.
    pub offset: u32,
    /// Bytes in the pack, tag included.
    pub stored_len: u32,
}

/// How long one frame of a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameLen {
    /// Bytes in the pack, tag included.
    pub stored: u32,
    /// Bytes of the chunk that it holds.
    pub plain: u32,
}

/// What a frame is for; bound into its seal, so none can stand in for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// Bytes of files, and large values of extended attributes.
    Data = 1,
    /// A leaf page of a tree.
    Leaf = 2,
    /// An index page of a tree.
    Index = 3,
    /// A page of a large file's extents.
    Extents = 4,
    /// The packs a snapshot uses.
    ReferenceSet = 5,
    /// A root record.
    Root = 6,
    /// The list of a pack's frames.
    Footer = 7,
    /// Old places to new ones.
    Forwarding = 8,
    /// A block of a dedup segment.
    Dedup = 9,
}

impl FrameKind {
    /// Back from the number in a footer.
    pub const fn from_u8(kind: u8) -> Option<Self> {
        Some(match kind {
            1 => Self::Data,
            2 => Self::Leaf,
            3 => Self::Index,
            4 => Self::Extents,
            5 => Self::ReferenceSet,
            6 => Self::Root,
            7 => Self::Footer,
            8 => Self::Forwarding,
            9 => Self::Dedup,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_and_parse() {
        let id = SnapshotId([0, 1, 0xab, 3, 4, 5, 6, 0xff]);
        assert_eq!(id.to_string(), "0001ab03040506ff");
        assert_eq!(SnapshotId::from_hex("0001ab03040506ff"), Ok(id));
        assert!(SnapshotId::from_hex("0001ab").is_err());
        assert!(SnapshotId::from_hex("zz01ab03040506ff").is_err());
        assert!(SnapshotId::from_hex("é001ab0304050ff").is_err());
    }

    #[test]
    fn inode_numbers_go_both_ways() {
        let node = NodeId::from_rank(SessionNo(7), 41).unwrap();
        assert_eq!(node.ino(), 7 << 32 | 42);
        assert_eq!(NodeId::from_ino(node.ino()), Some(node));
        assert_eq!(node.rank(), Some(41));
        assert_eq!(NodeId::root(SessionNo(7)).rank(), None);
        assert_eq!(NodeId::from_ino(1), None);
        assert_eq!(NodeId::from_rank(SessionNo(1), u64::from(u32::MAX)), None);
    }
}
