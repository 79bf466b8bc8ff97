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
mod known;
mod manifest;
mod mend;
mod segment;

pub(crate) use index::Dedup;
pub(crate) use known::Known;
pub use mend::{IndexState, mend_index};

use backupengine_model::{ContentId, FrameLen, FrameRef, PackRef};
use backupengine_seal::ContentIdKey;

/// What a tag of the index is for: a block of records, the end of a segment, the name of a short piece.
const ROLE_BLOCK: u8 = 1;
const ROLE_END: u8 = 2;
const ROLE_SHORT: u8 = 3;

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

/// What a look into the index brought that nobody waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It is there.
    At(Place),
    /// It is not.
    Nowhere,
    /// The index is not open yet.
    Unknown,
}

/// How content lies at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Whole frames, one behind the other.
    Chunk {
        /// Their lengths.
        lens: Vec<FrameLen>,
    },
    /// Part of one frame.
    Piece {
        /// Length of the frame in the pack.
        stored_len: u32,
        /// Where it begins in the frame's plaintext.
        inner: u32,
    },
}

impl Place {
    /// Whether a chunk of so many bytes can lie there. What else a device of the vault says was sealed by it, but a file
    /// of such frames could not be read.
    pub(crate) fn is_chunk_of(&self, len: u64) -> bool {
        let Content::Chunk { lens } = &self.content else { return false };
        lens.iter().all(|len| len.plain > 0)
            && lens.iter().map(|len| u64::from(len.plain)).sum::<u64>() == len
    }

    /// Of a piece.
    pub(crate) fn of_piece(frame: FrameRef, inner: u32) -> Self {
        let content = Content::Piece { stored_len: frame.stored_len, inner };
        Self { pack: frame.pack, offset: frame.offset, content }
    }
}

/// Changes every place that the index in this folder names, as who has the vault's keys could.
#[cfg(test)]
pub(crate) fn forge(
    folder: &std::path::Path,
    keyring: &backupengine_seal::Keyring,
    change: impl Fn(&mut Place),
) {
    let ids = keyring.content_ids();
    let manifest = manifest::Manifest::load(&index::manifest_path(folder), keyring.vault()).unwrap();
    for listed in manifest.segments {
        let path = index::segment_path(folder, listed.number);
        let segment = segment::Segment::open(&path, &ids).unwrap();
        let blocks: Vec<_> = (0..segment.blocks()).flat_map(|block| segment.block(block).unwrap()).collect();
        let mut writer = segment::SegmentWriter::create(&path, listed.records, &ids).unwrap();
        for (key, mut place) in blocks {
            change(&mut place);
            writer.push(&key, &place).unwrap();
        }
        writer.finish().unwrap();
    }
}

/// What a piece is kept under that is too short to be looked up by its content: a name of these bytes at this place,
/// so that each of many equal ones is known where it is, and none is taken for another.
pub(crate) fn short_key(ids: &ContentIdKey, id: ContentId, frame: &FrameRef, inner: u32) -> DedupKey {
    let FrameRef { pack, offset, stored_len } = frame;
    let mut bytes = Vec::with_capacity(46);
    bytes.extend_from_slice(&id.0);
    bytes.extend_from_slice(&pack.session.0.to_le_bytes());
    bytes.extend_from_slice(&pack.number.to_le_bytes());
    bytes.extend_from_slice(&pack.salt);
    bytes.extend_from_slice(&pack.epoch.to_le_bytes());
    [*offset, *stored_len, inner].iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
    DedupKey { id: ContentId(ids.state_tag(ROLE_SHORT, &bytes)), piece: true }
}
