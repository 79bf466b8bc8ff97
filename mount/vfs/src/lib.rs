//! The read-only filesystem behind the mount, without any system in it.
//!
//! **What it is.** [`ReadOnlyFs`]: the operations of a mount over the two read ports of `model`; the top of
//! the mount (`latest`, a folder per snapshot, `by-device`, `by-tag`) built from the list of snapshots.
//!
//! **What it may not do.** Know which system it runs on, do I/O, read a clock, start threads, know a vault.
//! It reaches `model` alone.
//!
//! **What always holds.** Inode numbers and cursors are derived from what is shown, never handed out: two
//! look-ups agree, a listing resumes anywhere, nothing grows with use. A read gives exactly what was asked
//! for up to the end of the file, or an error.
//!
//! **Where it is tested.** Beside the code, on a small tree; in `tests/mount`, the same scenarios as on FUSE.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod ahead;
mod attr;
mod dir;
mod error;
mod fs;
mod handle;
mod inode;
mod invalidate;
mod namespace;
mod reason;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod xattr;

pub use attr::{Attr, Owner, VolumeFigures};
pub use backupengine_model::name_policy::NamePolicy;
pub use backupengine_model::{
    ContentReader, Kind, NodeId, ReadError, ReadFailure, Timestamp, TreePath, TreeReader,
};
pub use dir::{DirCursor, DirEntry};
pub use error::FsError;
pub use fs::{Config, ReadOnlyFs, SeekTo};
pub use handle::Handle;
pub use inode::Ino;
pub use invalidate::Invalidations;
