//! What a push is told from outside, and the fixed numbers of its policy.
//!
//! May not read the environment or a clock. What always holds: the policy numbers are the writer's matter, no
//! reader depends on them (format.md 6). Tested with the modules that use them.
use crate::sealer::RAW_MAX;
use backupengine_chunk::ChunkParams;
use backupengine_format::limits::PACK_TARGET;
use backupengine_model::Timestamp;
use backupengine_seal::{Certificate, DeviceKey};
use backupengine_source::WalkConfig;
use backupengine_vault::{SEED_MAX, SEED_STEP};
use std::path::PathBuf;

/// What to push and how.
pub struct PushConfig {
    /// What to walk and what to leave out.
    pub walk: WalkConfig,
    /// The name the device goes by in lists.
    pub device_name: String,
    /// Tags of the snapshot, in any order.
    pub tags: Vec<String>,
    /// Files that nobody is to touch, absolute, with links among their parents resolved: one that is gone or was written
    /// to since the last push is a signal.
    pub canaries: Vec<PathBuf>,
    /// When the push counts as begun (`--time`, else now).
    pub created: Timestamp,
    /// Folder for side files and the dedup index; all of it may be deleted at any time.
    pub state: PathBuf,
    /// Look, count, store nothing.
    pub dry_run: bool,
    /// Threads that hash and compress, 0 for one per core. Small files are read by some more, because a cold
    /// disk answers many at once.
    pub threads: usize,
}

/// Who pushes.
pub struct Device {
    /// Signs the root.
    pub key: DeviceKey,
    /// Says that the key may.
    pub certificate: Certificate,
}

/// Longest file that shares a frame with others; longer ones are cut by content.
pub(crate) const BUNDLED_MAX: u64 = 64 << 10;
/// Longest file that one reader takes whole; longer ones are streamed.
pub(crate) const WHOLE_MAX: u64 = 4 << 20;
/// Smaller pieces are not looked up: the index entry would cost more than it saves.
pub(crate) const DEDUP_MIN: usize = 512;
/// Bytes of files between reading and packing, over all threads.
pub(crate) const BYTES_IN_FLIGHT: u64 = 32 << 20;
/// Threads that read at least: a cold disk answers several at once. Eight read cold small files in an eighth less time,
/// and took twice the memory (127 against 68 MiB for 20 000 files of 314 MiB): each has an arena of its own.
pub(crate) const READERS_MIN: usize = 4;
/// Extents a leaf holds for one file; more go to extent pages.
pub(crate) const EXTENTS_IN_LEAF: usize = 1024;
/// Rows of one extent page: 1 GiB of a file in full frames, an eighth of that in short ones.
pub(crate) const EXTENT_ROWS: usize = 4096;
/// Longest chunks are found again by readers that have a live file.
const _: () =
    assert!(ChunkParams::DEFAULT.max as u64 == SEED_MAX && (RAW_MAX as u64).is_multiple_of(SEED_STEP));
/// Below this many bytes a push fills one pack with everything; above, each lane has packs of its own.
pub(crate) const SHARED_PACK_MAX: u64 = 8 << 20;
/// Largest top page that is kept inside the root record.
pub(crate) const INLINE_TOP_MAX: usize = 4 << 10;
/// Largest listing of "/" that is kept inside the root record.
pub(crate) const ROOT_LISTING_MAX: usize = 16 << 10;
/// Packs of pages that a tree may have beyond what it would have if it were written anew (format.md 6). From then on it
/// is: whoever lists everything asks for each of them, and pages that were moved are found by one more question.
const SCATTERED: u64 = 32;
/// Rough length of a node in a page as it is stored, in bytes.
const NODE_LEN: u64 = 64;

/// Whether the pages of a tree of so many nodes lie in too many packs. A root names [`PAGE_PACKS_MAX`] at most, so a tree
/// of more than some ten million nodes never does.
///
/// [`PAGE_PACKS_MAX`]: backupengine_format::limits::PAGE_PACKS_MAX
pub(crate) fn is_scattered(page_packs: usize, nodes: u64) -> bool {
    let fresh = nodes.saturating_mul(NODE_LEN) / PACK_TARGET + 1;
    page_packs as u64 > fresh + SCATTERED
}
