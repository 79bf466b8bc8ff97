//! The dedup index: where content that is in the vault already can be found.
//!
//! **What it is.** Sorted segment files on this device, a table of what this push stored so far, and the
//! rebuilding of both from pack footers. It is opened when it is first asked: a push without changed files
//! never pays for it.
//! **What it may not do.** Be needed by a reader. Everything in it can be lost; content is then stored twice.
//! **What always holds.** Only packs of sessions that the ledger calls committed, or of this push's own
//! session, are ever answered.
//! **Where it is tested.** Below, in the modules, and in the tests of whole pushes.
pub(crate) mod footers;
mod index;
mod manifest;
mod segment;

pub(crate) use index::Dedup;

use backupengine_model::{ContentId, PackRef};

/// What content is looked up by. A chunk has frames of its own, a piece lies among others in one: neither can
/// stand in for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DedupKey {
    /// Keyed id of the bytes.
    pub(crate) id: ContentId,
    /// Whether it lies in a bundle.
    pub(crate) piece: bool,
}

/// Where content is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The pack.
    pub(crate) pack: PackRef,
    /// Where its (first) frame begins.
    pub(crate) offset: u32,
    /// The rest, by kind.
    pub(crate) content: Content,
}

/// How content lies at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Whole frames, one behind the other.
    Chunk {
        /// Their lengths in the pack.
        lens: Vec<u32>,
    },
    /// Part of one frame.
    Piece {
        /// Length of the frame in the pack.
        stored_len: u32,
        /// Where it begins in the frame's plaintext.
        inner: u32,
    },
}
