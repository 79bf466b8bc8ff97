//! `check`: is everything there that the live snapshots need, and is it what it was?
//!
//! **What it is.** Four steps: the ledger, envelopes and roots; the packs (trailer, commitment, footer); with
//! [`ReadData`] every frame in them; the trees, page by page, down to where each file's bytes lie. CHECK.md lists
//! what is looked at and what cannot be seen.
//!
//! **What it may not do.** Trust a cache, stop at damage, or judge what no live snapshot needs.
//!
//! **What always holds.** Damage in a shared object is one finding that lists every snapshot and path it costs.
//! Packs come before trees, so that a walk knows what is lost when it meets it. What is found was so of a vault from which
//! nothing was given up meanwhile: beside a collection it is looked at again.
//!
//! **Where it is tested.** `tests/damage`; beside collections in `tests/protocol`.

mod content;
mod data;
pub(crate) mod finding;
pub(crate) mod findings;
mod listing;
mod memo;
mod moment;
mod packs;
mod roots;
mod tree;

use crate::CheckStats;
use crate::repair::damaged_packs;
use backupengine_vault::{Vault, VaultError};
use finding::{Finding, Object, Problem};
use findings::{FindingNo, Findings, describe_at, problem_of};
use moment::Moment;
use packs::PackId;
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
    /// It never saw a vault from which nothing went while it looked.
    #[error("space was given back all the while the vault was looked at")]
    Overtaken,
    /// The store could not be reached, so nothing can be said of what it holds.
    #[error("the vault could not be checked")]
    Vault(#[from] VaultError),
}

/// Checks a vault. `stop` is polled and ends it with `Interrupted`.
///
/// The vault must have been unlocked for this check: what an older one holds in its caches is not looked at
/// again.
///
/// The vault may be in use. Where space was given back while it was looked at, what was found is looked at again, and only
/// what is found then is in the report.
///
/// # Errors
/// [`CheckError`]. Damage is no error: it is in the report.
pub fn check(
    vault: &Vault,
    config: &CheckConfig,
    stop: &AtomicBool,
    observer: &dyn CheckObserver,
) -> Result<CheckReport, CheckError> {
    let (mut again, mut data) = (None, None);
    for _ in 0..ROUNDS {
        let checker =
            Checker { vault, config, stop, observer, findings: Mutex::default(), stats: Mutex::default() };
        let moment = checker.round(again.as_ref())?;
        let sound = checker.findings().len() == 0;
        let stands = sound || {
            let later = checker.moment()?.ok();
            moment.zip(later).is_none_or(|(moment, later)| !moment.gave_up(&later))
        };
        let mut stats = *checker.stats();
        // What a first look has read is what was asked for.
        let (bytes_to_read, frames_read, bytes_read) =
            *data.get_or_insert((stats.bytes_to_read, stats.frames_read, stats.bytes_read));
        stats = CheckStats { bytes_to_read, frames_read, bytes_read, ..stats };
        let findings = checker.findings.into_inner().unwrap_or_else(PoisonError::into_inner).into_all();
        if stands {
            return Ok(CheckReport { stats, findings });
        }
        again = Some(damaged_packs(&findings));
    }
    Err(CheckError::Overtaken)
}

/// Looks at a vault before it is said that space is given back faster than one can look.
const ROUNDS: u32 = 8;

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
    /// All four steps; of data only what is in `again`, where that is given. Gives the moment of which the findings are.
    fn round(&self, again: Option<&BTreeSet<PackId>>) -> Result<Option<Moment>, CheckError> {
        let snapshots = self.check_roots()?;
        let book = self.check_packs(&snapshots)?;
        self.read_data(&book, again)?;
        self.walk_trees(&snapshots, book)?;
        // A frame of a pack that was moved, and that nobody needs: it goes with the old blob.
        self.findings().retain(|finding| match finding.object {
            Object::Frame { session, number, .. } => {
                !finding.affected.is_empty() || !snapshots.moved.contains_key(&(session, number))
            }
            _ => true,
        });
        self.stats().findings = self.findings().len() as u64;
        Ok(snapshots.moment)
    }

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
        self.findings().add(object, problem, detail)
    }

    /// Notes an error as a finding, unless it only says that the store is away.
    fn found_error(&self, object: Object, error: VaultError) -> Result<FindingNo, CheckError> {
        match problem_of(&error) {
            Some(problem) => Ok(self.found(object, problem, describe_at(&error))),
            None => Err(error.into()),
        }
    }
}
