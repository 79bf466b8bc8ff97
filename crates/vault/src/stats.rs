//! What reading cost: counts of store calls, bytes and frames, current at any time.
//!
//! **What it may not do.** Decide anything. **What always holds.** Counts only grow.
//! **Where it is tested.** Through the reader's own tests, which count fetches.

use std::sync::atomic::{AtomicU64, Ordering};

/// Figures since the vault was unlocked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VaultStats {
    /// Calls to the store, those to the ledger included.
    pub store_calls: u64,
    /// Bytes of blobs that came back.
    pub bytes_fetched: u64,
    /// Frames opened (authenticated, decompressed).
    pub frames_opened: u64,
    /// Plaintext bytes of those.
    pub bytes_opened: u64,
    /// Frames that were opened ahead of need.
    pub frames_ahead: u64,
    /// Frames that did not open at once and were fetched again.
    pub refetched: u64,
    /// Bytes of those that came back which were fetched before they were asked for.
    pub bytes_ahead: u64,
    /// Blocks found in the disk cache, ends of blobs among them.
    pub disk_hits: u64,
    /// Blocks found sealed in memory.
    pub memory_hits: u64,
    /// Blocks that were asked for and in neither; each is waited for until it is fetched.
    pub misses: u64,
    /// Late answers that were asked for a second time.
    pub hedged: u64,
    /// Bytes taken from live files of this device.
    pub bytes_seeded: u64,
}

/// The counters behind [`VaultStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) store_calls: AtomicU64,
    pub(crate) bytes_fetched: AtomicU64,
    pub(crate) frames_opened: AtomicU64,
    pub(crate) bytes_opened: AtomicU64,
    pub(crate) frames_ahead: AtomicU64,
    pub(crate) refetched: AtomicU64,
    pub(crate) bytes_ahead: AtomicU64,
    pub(crate) disk_hits: AtomicU64,
    pub(crate) memory_hits: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) hedged: AtomicU64,
    pub(crate) bytes_seeded: AtomicU64,
}

/// Adds to a counter.
pub(crate) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn read(&self) -> VaultStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        VaultStats {
            store_calls: get(&self.store_calls),
            bytes_fetched: get(&self.bytes_fetched),
            frames_opened: get(&self.frames_opened),
            bytes_opened: get(&self.bytes_opened),
            frames_ahead: get(&self.frames_ahead),
            refetched: get(&self.refetched),
            bytes_ahead: get(&self.bytes_ahead),
            disk_hits: get(&self.disk_hits),
            memory_hits: get(&self.memory_hits),
            misses: get(&self.misses),
            hedged: get(&self.hedged),
            bytes_seeded: get(&self.bytes_seeded),
        }
    }
}
