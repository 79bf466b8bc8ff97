//! The store port, and the stores that need no network.
//!
//! **What it is.** The port ([`BlobReader`], [`BlobWriter`], [`LedgerReader`], [`LedgerWriter`]),
//! [`FolderStore`], [`MemoryStore`], and the spool that a pack is written into before it is put.
//!
//! **What it may not do.** HTTP, keys, formats: blobs are bytes with a name here.
//!
//! **What always holds.** A blob is written once, whole or not at all; after `put` or `commit` returned, a
//! power cut does not undo it; two processes never get the same session.
//!
//! **Where it is tested.** One conformance suite over every store in `tests/stores`; `tests/protocol`.
#![forbid(unsafe_code)]

mod error;
mod folder;
mod key;
mod memory;
mod port;
mod spool;

pub use error::{ErrorKind, StoreError};
pub use folder::FolderStore;
pub use key::{BlobKey, BlobKind, EnvelopeId};
pub use memory::MemoryStore;
pub use port::{
    BlobReader, BlobWriter, BoxFuture, Got, LedgerReader, LedgerWriter, Range, Readable, SnapshotList,
    Writable,
};
pub use spool::Spool;
