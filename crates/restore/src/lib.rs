//! Writes a snapshot's files to a local folder with everything a filesystem can hold.
//!
//! **What it may not do.** Keys, network, follow links out of the target: every step below the target is
//! taken relative to a directory handle, beneath it, through no symbolic link.
//!
//! **What always holds.** A name appears only when what it names is complete: files are written under a
//! temporary name beside it and renamed, so a broken-off restore leaves no file that looks whole. What stands
//! in the way is removed only where one unlink (or removal of an empty folder) does it; nothing is ever
//! removed recursively. One failure never ends it. Memory does not grow with the size of the tree, but for
//! names of hard-linked files that are still to come.
//!
//! **Where it is tested.** Beside the code against a small tree in memory; in `tests/oracle` against the
//! oracle filesystem.
//!
//! Decisions (2026-11-24):
//! - `S:PATH` lands in the target under its own name, with all that is in it; a whole snapshot lands with full
//!   names, and the target folder itself keeps its own attributes.
//! - In place, folders that lead to what is restored are made where they are missing and never touched where
//!   they exist; where one of them is a link now, nothing is written through it.
//! - A file that is there already with the same size and time of modification is taken as the same (rsync's
//!   rule, exact to the nanosecond); its mode, owner and extended attributes are put right. With
//!   [`RestoreConfig::verify`] its bytes are compared too. That is also how an interrupted restore goes on.
//! - Extended attributes that the snapshot does not have are removed from what is restored, but for those of
//!   `security.` and `trusted.`, which belong to the system.
//! - Nothing is synced to the disk: after a power cut run it again, as after an interruption.
//! - A full disk ends it: every further file would fail in the same way.
//! - Temporary names are derived from the snapshot and the node, so that the next run finds and replaces
//!   what a killed one left.
#![forbid(unsafe_code)]

mod content;
mod folder;
mod links;
mod meta;
mod node;
mod plan;
mod run;
mod stats;
mod walk;
mod write;

pub use stats::{Failure, Observer, RestoreReport, RestoreStats};

use backupengine_model::{ContentReader, ReadError, SessionNo, TreePath, TreeReader};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

/// What of one snapshot to restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The snapshot.
    pub session: SessionNo,
    /// The file or folder in it; "/" for all of it.
    pub path: TreePath,
}

/// Where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Into this folder, which is made where it is missing. It may be reached through links.
    Into(PathBuf),
    /// Where it was: under the full names of the snapshot, from "/" on.
    InPlace,
}

/// What becomes of what is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overwrite {
    /// It stays, attributes and all; only what is missing is written.
    Never,
    /// It is replaced where it differs in kind, size, time of modification, link target or device number.
    #[default]
    Changed,
    /// It is replaced.
    Always,
}

/// How to restore (cli.md `restore`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreConfig {
    /// What becomes of what is there already.
    pub overwrite: Overwrite,
    /// Read files back and compare them with the snapshot; also those that were taken as the same.
    pub verify: bool,
    /// Make holes of runs of zeros too; the holes of the snapshot are made anyway.
    pub sparse: bool,
    /// Give everything its stored numeric owner. Without privilege this mostly fails, which is counted in
    /// [`RestoreStats::owners_refused`] and is no failure.
    pub owners: bool,
    /// Threads that write; 0 chooses.
    pub threads: usize,
}

impl Default for RestoreConfig {
    fn default() -> Self {
        Self { overwrite: Overwrite::Changed, verify: false, sparse: false, owners: true, threads: 0 }
    }
}

/// Why a restore ended before its end. What was written stays; run it again to go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The caller asked to stop.
    #[error("interrupted; what is restored stays, run it again to go on")]
    Interrupted,
    /// The target folder cannot be made or opened.
    #[error("the target folder {} cannot be used", .path.display())]
    Target {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No room is left (or none that this user may take).
    #[error("no room is left for {}; make room and run it again to go on", .path.display())]
    Full {
        /// What was being written.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The snapshot has no such path.
    #[error("the snapshot holds no {path}")]
    NotFound {
        /// What was asked for.
        path: TreePath,
    },
    /// Two selections would land under the same name.
    #[error("two of the paths to restore would both become {}", .path.display())]
    SameName {
        /// Where both would land.
        path: PathBuf,
    },
    /// What was selected cannot be looked up.
    #[error("the snapshot cannot be read")]
    Read(#[from] ReadError),
    /// The system gives no thread.
    #[error("no thread could be started to write files")]
    Thread(#[source] std::io::Error),
}

/// Restores. `stop` is polled and ends it with [`RestoreError::Interrupted`]; no half-written file stays.
///
/// # Errors
/// [`RestoreError`] where nothing more can be done; whatever concerns single files is listed in the report.
pub fn restore(
    tree: &dyn TreeReader,
    content: &dyn ContentReader,
    selections: &[Selection],
    destination: &Destination,
    config: &RestoreConfig,
    stop: &AtomicBool,
    observer: &dyn Observer,
) -> Result<RestoreReport, RestoreError> {
    let landings = plan::landings(tree, selections, destination)?;
    run::run(tree, content, &landings, destination, config, stop, observer)
}

#[cfg(test)]
mod tests;
