//! The port of a cache of sealed blocks.
use crate::BlobKey;
use bytes::Bytes;
use std::ops::Range;

/// Keeps sealed blocks on this device. Whatever goes wrong is a miss.
pub trait BlockCache: Send + Sync {
    /// A block, if it is there: 64 KiB of a blob at `block` times 64 KiB, the last of a blob shorter.
    fn get(&self, key: BlobKey, block: u32) -> Option<Bytes>;
    /// Keeps a block; may do so later, or not at all.
    fn put(&self, key: BlobKey, block: u32, bytes: &Bytes);
    /// Whether a block is there, about.
    fn holds(&self, key: BlobKey, block: u32) -> bool;
    /// Drops blocks that turned out to be wrong.
    fn drop_blocks(&self, key: BlobKey, blocks: Range<u32>);
}
