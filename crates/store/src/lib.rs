//! The store port, and the stores that need no network.
//!
//! **What it is.** The port ([`BlobReader`], [`BlobWriter`], [`LedgerReader`], [`LedgerWriter`]; for upkeep [`Keeper`],
//! [`Collector`]),
//! [`FolderStore`], [`MemoryStore`], the spool that a pack is written into before it is put, and the disk cache of
//! sealed blocks.
//!
//! **What it may not do.** HTTP, keys, formats: blobs are bytes with a name here.
//!
//! **What always holds.** A blob is written once, whole or not at all; after `put` or `commit` returned, a
//! power cut does not undo it; two processes never get the same session.
//!
//! **Where it is tested.** One conformance suite over every store in `tests/stores`; `tests/protocol`.
//!
//! # Decisions
//! 2026-11-24:
//! - The port is async because presigned URLs are; a folder answers within the first poll by blocking I/O on the
//!   caller's thread, so that `block_on` costs it nothing. The grid is 1 for a folder (nobody watches), 65536 for
//!   stores that see each request.
//! - The ledger of a folder is one file, replaced whole under flock(2): crash-safe with a single rename, read
//!   without a lock, a few hundred bytes per snapshot. An append-only journal would write less and need replay,
//!   repair of torn tails and compaction. Rewriting costs milliseconds up to some ten thousand snapshots.
//! - A ledger that is missing or damaged is an error, never an empty list: session numbers would be given again.
//!   Readers may rebuild the list from the roots; nobody writes before it is repaired.
//! - Who writes a spool is told by a lock on it, not by process number or age: that holds in containers, over
//!   NFS, and with any clock. Unnamed files (O_TMPFILE) would need no sweeping, but not every filesystem has
//!   them, and one way is simpler than two.
//! - A reader keeps the ledger file it read open: its inode number cannot then be given to a successor, and one
//!   `stat` tells whether the list moved.
//! - Disk cache: slots in one file and a table of records beside it, instead of a record in each slot: a read is one
//!   aligned call, an opening reads 32 bytes a slot. Set-associative slots would need no index, and evict what is in
//!   use. Every process believes its own index and checks, instead of sharing one under locks: the price is that a
//!   slot raced for is fetched again. crc32c finds damage; forgery is the opener's to find.
//! - A commit is refused unless its root is stored with exactly the length it names, as a control plane would.
//!
//! 2026-11-29:
//! - Which key envelopes count is the ledger's word from the first change on ([`EnvelopeKeeper`]): one replacement of one file
//!   changes all of them, and a file that a broken-off change left opens nothing. Until then, and where the ledger does not
//!   read, all that are stored count. An atomic name for each epoch would have needed no ledger, and could neither take one of
//!   several envelopes away nor add one.
//! - A ledger that names envelopes is of version 3, one that does not stays at version 2: a program that does not know of
//!   them would believe old files that came back, and a vault whose keys were never changed stays readable for it.
#![forbid(unsafe_code)]

mod block_cache;
mod disk_cache;
mod error;
mod folder;
mod key;
mod last_seen;
mod memory;
mod port;
mod spool;

pub use block_cache::{BLOCK_LEN, BlockCache, END_BLOCK};
pub use disk_cache::{CacheInfo, DiskCache, DiskCacheConfig, Pinned, WriteBehind};
pub use error::{ErrorKind, StoreError};
pub use folder::{Clock, FolderStore};
pub use key::{BlobKey, BlobKind, EnvelopeId};
pub use last_seen::LastSeen;
pub use memory::MemoryStore;
pub use port::{
    BlobReader, BlobWriter, BoxFuture, Collection, Collector, EnvelopeChange, EnvelopeInfo, EnvelopeKeeper,
    Got, Keeper, LedgerReader, LedgerWriter, Maintainable, Opened, Range, Readable, SessionList,
    SnapshotList, Writable,
};
pub use spool::{Finished, Spool, SpoolFolder};
