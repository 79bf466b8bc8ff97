//! Walks what is to be pushed: metadata per system, excludes, order.
//!
//! **What it may not do.** Network, keys, change the source (opens with O_NOATIME where allowed).
//!
//! **What always holds.** Directories come in depth-first pre-order, names sorted bytewise: the order of
//! `model::TreePath`. Every directory that is shown has exactly one batch of its own, be it empty. One
//! unreadable file or folder never ends the walk; it is reported in its place. Symbolic links are never
//! followed on the way to a file, and memory does not grow with the size of the tree.
//!
//! **Where it is tested.** Beside the code, on real folders.
//!
//! Decisions (2026-11-24):
//! - A folder that holds `.nobackup`, or with [`WalkConfig::exclude_caches`] a signed `CACHEDIR.TAG`, is left
//!   out wholly, folder included, as borg does with `--exclude-if-present`: whoever wrote the mark wants no
//!   trace. That holds even for a folder that was named as a root (with a notice).
//! - Exclude patterns and `.gitignore` never leave out a path that was named as a root, nor what leads to it:
//!   naming it is the stronger word.
//! - An exclude pattern without a leading slash matches at any depth, also when it has a slash in the middle
//!   (as in restic; git would anchor it, but there is nothing to anchor it to).
//! - `.gitignore` files count from the pushed root down, and above it up to the folder that holds `.git`;
//!   a nested repository starts anew, as in git.
//! - With [`WalkConfig::one_file_system`] a mount point is kept as an empty folder, as rsync and tar do, so
//!   that a restored system can mount on it again. Files mounted over files are kept.
//! - A root that is a symbolic link is stored as that link, unless written with a slash at its end; links
//!   among its parents are resolved, so every name in a snapshot is the real one.
#![forbid(unsafe_code)]

mod change;
mod exclude;
mod list;
mod meta;
mod roots;
#[cfg(test)]
mod tests;
mod walk;

pub use change::{Identity, same_state};
pub use meta::{LocalFiles, OwnMount, SourceFile, own_mounts, real_path};
pub use walk::Walker;

use backupengine_model::{Attributes, TreePath};
use std::path::PathBuf;
use std::sync::Arc;

/// What to walk and what to leave out (cli.md `push`).
#[derive(Clone, Debug, Default)]
pub struct WalkConfig {
    /// Absolute paths to push; each appears in the snapshot under its full name. May overlap.
    pub roots: Vec<PathBuf>,
    /// Glob patterns, gitignore syntax, of `--exclude` and `--exclude-file`; the last that matches wins.
    pub excludes: Vec<String>,
    /// Honour CACHEDIR.TAG.
    pub exclude_caches: bool,
    /// Honour .gitignore files.
    pub gitignore: bool,
    /// Stay on the filesystem of each root.
    pub one_file_system: bool,
    /// Folders to skip, with a notice: the vault, own state. Compared by device and inode, so it does not
    /// matter by which path they are met. Those that do not exist count for nothing.
    pub skip: Vec<PathBuf>,
    /// Filesystems to skip by device number, with a notice: our own mounts (see [`own_mounts`]). Where they
    /// are mounted when the walk starts, they are not even looked at.
    pub skip_devices: Vec<u64>,
    /// Threads that list and stat ahead; 0 chooses.
    pub threads: usize,
}

/// One name of the source.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Name in its directory.
    pub name: Vec<u8>,
    /// What `lstat` showed. `allocated` is st_blocks in bytes where that is less than the size, else `None`:
    /// a sign that a look for holes is worth it (it may be compression instead), not their size.
    pub attributes: Attributes,
    /// For change detection.
    pub identity: Identity,
    /// Target of a symbolic link.
    pub target: Option<Vec<u8>>,
    /// Extended attributes with ACLs, sorted by name. All namespaces; what the kernel does not let this
    /// process read is missing.
    pub xattrs: Arc<[(Vec<u8>, Vec<u8>)]>,
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
    /// What it is about.
    pub path: PathBuf,
    /// How grave it is.
    pub kind: NoticeKind,
    /// What happened; may be empty for [`NoticeKind::Excluded`].
    pub message: String,
}

/// How grave a [`Notice`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// Could not be read: counts as an error (exit 3). A root that vanishes after the start is one of these.
    Unreadable,
    /// Gone between listing and reading: no error, files come and go.
    Vanished,
    /// Went on changing while it was read twice; its bytes may mix two states. No error.
    Torn,
    /// Left out on purpose (the vault itself, our own mount): no error.
    Skipped,
    /// Excluded by a rule; only counted.
    Excluded,
}

/// Why a walk could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A root that cannot be looked at.
    #[error("{}: {message}", .path.display())]
    Root {
        /// As given.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// Nothing to walk.
    #[error("no path to push was given")]
    NoRoots,
    /// An exclude pattern that is no pattern.
    #[error("exclude pattern {pattern:?}: {message}")]
    Pattern {
        /// As given.
        pattern: String,
        /// Why.
        message: String,
    },
    /// The system gives no thread.
    #[error("no thread could be started to list folders")]
    Thread(#[source] std::io::Error),
}
