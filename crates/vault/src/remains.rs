//! What a device has of a vault beside its store: where frames come from that were lost there.
//!
//! **What it is.** The port that a repair asks: pages as they were sealed when this device pushed them, and bytes of
//! files that are still on its disks. Who pushes fills it; like [`crate::Seeds`] it stands here because places and
//! content ids are the format's words.
//! **What it may not do.** Guess: bytes of a live file are given only where a keyed content id, sealed in a footer or
//! tagged in the dedup index, says that they are what lay at the place.
//! **Where it is tested.** `tests/damage`.

use backupengine_format::footer::Footer;
use backupengine_model::{FrameRef, PackRef, SessionNo, TreePath};
use std::collections::BTreeMap;

/// Who needs a data frame, and which bytes of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FrameUse {
    /// All of it, as the bytes of a file from `start` on.
    Run {
        /// The file.
        path: TreePath,
        /// First byte in the file.
        start: u64,
    },
    /// A part of it, as the whole of a file.
    Piece {
        /// First byte in the frame's plaintext.
        inner: u32,
        /// Bytes.
        len: u32,
        /// The file.
        path: TreePath,
    },
    /// A part of it, as the value of an extended attribute.
    Value {
        /// First byte in the frame's plaintext.
        inner: u32,
        /// Bytes.
        len: u32,
        /// Of which node.
        path: TreePath,
        /// Name of the attribute.
        name: Vec<u8>,
    },
}

/// A data frame that the store does not give any more.
#[derive(Clone, Copy, Debug)]
pub struct LostFrame<'a> {
    /// Where pages say it is.
    pub at: FrameRef,
    /// Everybody who needs any part of it; of those who need the same part, some.
    pub uses: &'a [FrameUse],
    /// Lengths of plaintexts of frames of its pack, by offset, as far as they are known.
    pub plain_lens: &'a BTreeMap<u32, u32>,
}

/// A frame that was found, as it is to be sealed.
#[derive(Clone, Debug)]
pub struct FoundFrame {
    /// Codec and body.
    pub body: Vec<u8>,
    /// Length of the plaintext in bytes.
    pub plain_len: u32,
}

/// See the module header.
pub trait Remains: Send + Sync {
    /// A frame of pages, sealed, as it lay at this place.
    fn sealed(&self, at: &FrameRef) -> Option<Vec<u8>>;

    /// The blob of a session's root, byte for byte.
    fn root(&self, session: SessionNo) -> Option<Vec<u8>>;

    /// Hears of which packs frames will be sought next, with the footers that still read.
    fn seek(&self, packs: &[(PackRef, Option<Footer>)]);

    /// A data frame of one of those packs; all that its uses need of it, or nothing. What nobody needs may be zeros.
    fn frame(&self, lost: &LostFrame<'_>) -> Option<FoundFrame>;
}

/// Nothing beside the store.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRemains;

impl Remains for NoRemains {
    fn sealed(&self, _: &FrameRef) -> Option<Vec<u8>> {
        None
    }

    fn root(&self, _: SessionNo) -> Option<Vec<u8>> {
        None
    }

    fn seek(&self, _: &[(PackRef, Option<Footer>)]) {}

    fn frame(&self, _: &LostFrame<'_>) -> Option<FoundFrame> {
        None
    }
}
