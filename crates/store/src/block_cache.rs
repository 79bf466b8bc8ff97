//! The port of a cache of sealed blocks.
use crate::BlobKey;
use bytes::Bytes;
use std::ops::Range;

/// Bytes of a block: block `n` of a blob begins at byte `n * BLOCK_LEN`; the last one may be shorter.
pub const BLOCK_LEN: usize = 64 << 10;

/// Under this number, beyond any block, a reader keeps the end of a blob, and before it what says where that lies. Not
/// the last number there is: a range that begins with it has an end.
pub const END_BLOCK: u32 = (1 << 31) - 2;

/// Sealed blocks nearer than the store. Nothing here fails: what cannot be given is a miss, what cannot be kept is
/// not kept.
pub trait BlockCache: Send + Sync {
    /// A block as it was put; shorter than [`BLOCK_LEN`] only where it was put so.
    fn get(&self, key: BlobKey, block: u32) -> Option<Bytes>;
    /// Keeps a block of 1 to [`BLOCK_LEN`] bytes, unless it is there; may do so later, or not at all.
    fn put(&self, key: BlobKey, block: u32, bytes: &Bytes);
    /// Whether a `get` would most likely hit. Reads no block.
    fn holds(&self, key: BlobKey, block: u32) -> bool;
    /// Forgets blocks: a frame that lies over them does not authenticate.
    fn drop_blocks(&self, key: BlobKey, blocks: Range<u32>);
}
