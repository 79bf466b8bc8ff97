//! Walks what is to be pushed: metadata per system, excludes, order.
//!
//! **What it may not do.** Network, keys, change the source (opens with O_NOATIME where allowed).
//! **What always holds.** Directories come in depth-first pre-order, names sorted bytewise: the order of
//! `model::TreePath`. One unreadable file or folder never ends the walk; it is reported in its place.
#![forbid(unsafe_code)]

use backupengine_model::{Attributes, Timestamp, TreePath};
use std::path::PathBuf;
use std::sync::Arc;

/// What to walk and what to leave out (cli.md `push`).
#[derive(Clone, Debug, Default)]
pub struct WalkConfig {
    /// Absolute paths to push; each appears in the snapshot under its full name.
    pub roots: Vec<PathBuf>,
    /// Glob patterns, gitignore syntax, of `--exclude` and `--exclude-file`.
    pub excludes: Vec<String>,
    /// Honour CACHEDIR.TAG.
    pub exclude_caches: bool,
    /// Honour .gitignore files.
    pub gitignore: bool,
    /// Stay on the filesystem of each root.
    pub one_file_system: bool,
    /// Folders to skip by (device, inode) or path, with a notice: the vault, own state.
    pub skip: Vec<PathBuf>,
    /// Filesystems to skip by device number, with a notice: our own mounts.
    pub skip_devices: Vec<u64>,
    /// Threads that list and stat ahead.
    pub threads: usize,
}
/// One name of the source.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Name in its directory.
    pub name: Vec<u8>,
    /// What `lstat` showed. `allocated` is set where st_blocks says the file is sparse.
    pub attributes: Attributes,
    /// For change detection.
    pub identity: Identity,
    /// Target of a symbolic link.
    pub target: Option<Vec<u8>>,
    /// Extended attributes with ACLs, sorted by name.
    pub xattrs: Arc<[(Vec<u8>, Vec<u8>)]>,
}
/// What tells that a file is still the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub device: u64,
    pub inode: u64,
    pub ctime: Timestamp,
}
/// All names of one directory, in the order of a snapshot.
#[derive(Debug)]
pub struct DirBatch {
    /// Its path in the snapshot.
    pub path: Arc<TreePath>,
    /// Its path on this system.
    pub real: Arc<PathBuf>,
    /// Sub-directories that are walked, by name.
    pub directories: Vec<Entry>,
    /// The others, by name.
    pub others: Vec<Entry>,
    /// What could not be read here, or was skipped.
    pub notices: Vec<Notice>,
}
/// Something a person should hear of.
#[derive(Clone, Debug)]
pub struct Notice {
    pub path: PathBuf,
    pub kind: NoticeKind,
    pub message: String,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// Could not be read: counts as an error (exit 3).
    Unreadable,
    /// Gone between listing and reading: counts as an error only if a root is missing.
    Vanished,
    /// Left out on purpose (the vault itself, our own mount): no error.
    Skipped,
    /// Excluded by a rule; only counted.
    Excluded,
}
/// A running walk: an iterator of batches in depth-first pre-order. Listing runs ahead on threads, bounded.
/// The first batch is "/" (with only the components that lead to the roots).
pub struct Walker {
    _todo: (),
}
impl Walker {
    /// Starts; fails only where a root does not exist or no root is given.
    pub fn start(_config: WalkConfig) -> Result<Self, SourceError> {
        todo!()
    }
    /// Attributes and xattrs of "/".
    pub fn root(&self) -> &Entry {
        todo!()
    }
}
impl Iterator for Walker {
    type Item = DirBatch;
    fn next(&mut self) -> Option<DirBatch> {
        todo!()
    }
}
/// Why a walk could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    #[error("{}: {message}", .path.display())]
    Root { path: PathBuf, message: String },
}
/// An open source file: reads data runs only, knows its holes, and can tell whether it changed meanwhile.
pub struct SourceFile {
    _todo: (),
}
impl SourceFile {
    /// Opens without following links, O_NOATIME where allowed, non-blocking; refuses what is no regular file.
    pub fn open_file(_real: &std::path::Path) -> std::io::Result<Self> {
        todo!()
    }
    /// Attributes and identity now (fstat).
    pub fn stat(&self) -> std::io::Result<(Attributes, Identity)> {
        todo!()
    }
    /// The next run from `offset`: (start, len, is_data); `None` at the end. By SEEK_DATA and SEEK_HOLE where
    /// `sparse`, else one run of data.
    pub fn span(&self, _offset: u64, _size: u64, _sparse: bool) -> std::io::Result<Option<(u64, u64, bool)>> {
        todo!()
    }
    /// Reads up to `out.len()` bytes at `offset`; 0 only at the end.
    pub fn read_at(&self, _offset: u64, _out: &mut [u8]) -> std::io::Result<usize> {
        todo!()
    }
}
