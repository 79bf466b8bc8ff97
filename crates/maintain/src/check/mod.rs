//! `check`: is everything there that the live snapshots need, and is it what it was?
//!
//! **What it is.** Four steps: the ledger, envelopes and roots; the packs (trailer, commitment, footer); with
//! [`ReadData`] every frame in them; the trees, page by page, down to where each file's bytes lie. CHECK.md lists
//! what is looked at and what cannot be seen.
//!
//! **What it may not do.** Trust a cache, stop at damage, or judge what no live snapshot needs.
//!
//! **What always holds.** Damage in a shared object is one finding that lists every snapshot and path it costs.
//! Packs come before trees, so that a walk knows what is lost when it meets it.
//!
//! **Where it is tested.** `tests/damage`.

mod content;
mod data;
pub(crate) mod finding;
pub(crate) mod findings;
mod listing;
mod memo;
mod packs;
mod roots;
mod tree;

use crate::CheckStats;
use backupengine_model::SessionNo;
use backupengine_vault::{Vault, VaultError};
use finding::{Finding, Object, Problem};
use findings::{FindingNo, Findings, describe_at, problem_of};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use thiserror::Error;

/// What to look at.
#[derive(Clone, Debug)]
pub struct CheckConfig {
    /// Whether stored bytes are read and authenticated too, and how many.
    pub read_data: Option<ReadData>,
    /// Threads that read them, at least 1.
    pub threads: usize,
    /// Whether a passphrase has to open the vault: a vault in a folder always has one, an account may do without.
    pub passphrase: bool,
    /// Sessions whose snapshots are in the trash: stored, and not listed.
    pub trashed: BTreeSet<SessionNo>,
}

/// How much of the stored bytes to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadData {
    /// 1 to 100; below 100 packs are chosen at random.
    pub percent: u8,
    /// Chooses the packs: the same number chooses the same ones.
    pub seed: u64,
}

/// Which step is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Ledger, envelopes, roots.
    Roots,
    /// Trailers and footers of packs.
    Packs,
    /// Frames of packs.
    Data,
    /// Pages, and the place of every file's bytes.
    Trees,
}

/// Told while it runs, from any thread; must not block.
pub trait CheckObserver: Sync {
    /// Something was done.
    fn progress(&self, phase: Phase, stats: &CheckStats) {
        let _ = (phase, stats);
    }

    /// Something was found. What it affects is known only at the end, from the report.
    fn finding(&self, finding: &Finding) {
        let _ = finding;
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct CheckReport {
    /// Figures.
    pub stats: CheckStats,
    /// Everything that is not as it should be; empty for a sound vault.
    pub findings: Vec<Finding>,
}

/// Why a check did not come to its end.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckError {
    /// It was told to stop.
    #[error("interrupted")]
    Interrupted,
    /// The store could not be reached, so nothing can be said of what it holds.
    #[error("the vault could not be checked")]
    Vault(#[from] VaultError),
}

/// Checks a vault. `stop` is polled and ends it with `Interrupted`.
///
/// The vault must have been unlocked for this check: what an older one holds in its caches is not looked at
/// again.
///
/// # Errors
/// [`CheckError`]. Damage is no error: it is in the report.
pub fn check(
    vault: &Vault,
    config: &CheckConfig,
    stop: &AtomicBool,
    observer: &dyn CheckObserver,
) -> Result<CheckReport, CheckError> {
    let checker =
        Checker { vault, config, stop, observer, findings: Mutex::default(), stats: Mutex::default() };
    let snapshots = checker.check_roots()?;
    let book = checker.check_packs(&snapshots)?;
    checker.read_data(&book)?;
    checker.walk_trees(&snapshots, book)?;
    let mut stats = *checker.stats();
    let mut findings = checker.findings.into_inner().unwrap_or_else(PoisonError::into_inner).into_all();
    // A frame of a pack that was moved, and that nobody needs: it goes with the old blob.
    findings.retain(|finding| match finding.object {
        Object::Frame { session, number, .. } => {
            !finding.affected.is_empty() || !snapshots.moved.contains_key(&(session, number))
        }
        _ => true,
    });
    stats.findings = findings.len() as u64;
    Ok(CheckReport { stats, findings })
}

/// A check under way.
struct Checker<'a> {
    vault: &'a Vault,
    config: &'a CheckConfig,
    stop: &'a AtomicBool,
    observer: &'a dyn CheckObserver,
    findings: Mutex<Findings>,
    stats: Mutex<CheckStats>,
}

impl Checker<'_> {
    fn findings(&self) -> MutexGuard<'_, Findings> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stats(&self) -> MutexGuard<'_, CheckStats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts, tells, and minds a wish to stop.
    fn advance(&self, phase: Phase, count: impl FnOnce(&mut CheckStats)) -> Result<(), CheckError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(CheckError::Interrupted);
        }
        let mut stats = self.stats();
        count(&mut stats);
        stats.findings = self.findings().len() as u64;
        let shown = *stats;
        drop(stats);
        self.observer.progress(phase, &shown);
        Ok(())
    }

    fn found(&self, object: Object, problem: Problem, detail: impl Into<String>) -> FindingNo {
        self.findings().add(self.observer, object, problem, detail)
    }

    /// Notes an error as a finding, unless it only says that the store is away.
    fn found_error(&self, object: Object, error: VaultError) -> Result<FindingNo, CheckError> {
        match problem_of(&error) {
            Some(problem) => Ok(self.found(object, problem, describe_at(&error))),
            None => Err(error.into()),
        }
    }
}
