//! What is told of a restore: figures while it runs, and the report.
//!
//! May not decide anything. Tested with the rest.

use std::path::{Path, PathBuf};

/// Figures, current while it runs and final in the report. Field names are those of `--json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreStats {
    /// Files whose content was written.
    pub files_written: u64,
    /// Files, links and special files that were there already as they should be.
    pub files_unchanged: u64,
    /// Names left alone because something was there and nothing may be overwritten.
    pub files_skipped: u64,
    /// Folders made or put right.
    pub directories: u64,
    /// Symbolic links, pipes, sockets and device nodes made.
    pub specials: u64,
    /// Further names of hard-linked files made.
    pub hard_links: u64,
    /// Bytes written to files; holes are none.
    pub bytes_written: u64,
    /// Bytes of files that were there already.
    pub bytes_unchanged: u64,
    /// Bytes read back and found equal.
    pub bytes_verified: u64,
    /// Nodes that did not get their stored owner because this user may not give it. No failure.
    pub owners_refused: u64,
    /// Extended attributes of `security.` and `trusted.` that this user may not set. No failure.
    pub xattrs_refused: u64,
    /// Failures: at most one for each name.
    pub errors: u64,
}

/// One name that is not, or not wholly, what the snapshot has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where it should be.
    pub path: PathBuf,
    /// What happened, fit for a person.
    pub message: String,
}

/// What came of a restore.
#[derive(Clone, Debug, Default)]
pub struct RestoreReport {
    /// Figures.
    pub stats: RestoreStats,
    /// The first [`RestoreReport::MOST_FAILURES`] failures; `stats.errors` counts all, and the observer heard
    /// of each.
    pub failures: Vec<Failure>,
}

impl RestoreReport {
    /// How many failures are kept.
    pub const MOST_FAILURES: usize = 10_000;
}

/// Told while it runs, from any thread; must not block.
pub trait Observer: Send + Sync {
    /// Something was done, `current` last. Called for every name and every few megabytes of a large file.
    fn progress(&self, stats: &RestoreStats, current: &Path);
    /// Something failed.
    fn failure(&self, failure: &Failure);
}
