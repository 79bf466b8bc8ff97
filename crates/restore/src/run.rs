//! One restore: what its threads share, and how they are started.
//!
//! May not decide what becomes of a name. What always holds: each failure is heard of once; after an error
//! that ends everything no thread begins anything new. Tested in `tests`.

use crate::folder::{Filling, release};
use crate::links::Links;
use crate::meta::{Object, Target, is_privileged};
use crate::node::{Before, Owners, dress};
use crate::plan::{Landing, shown};
use crate::stats::{Failure, Observer, RestoreReport, RestoreStats};
use crate::write::{Item, Writer};
use crate::{Destination, RestoreConfig, RestoreError, walk};
use backupengine_model::{ContentReader, Node, TreeReader};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What all threads share.
pub(crate) struct Run<'a> {
    pub(crate) tree: &'a dyn TreeReader,
    pub(crate) content: &'a dyn ContentReader,
    pub(crate) config: &'a RestoreConfig,
    pub(crate) target: Target,
    /// The path of the target, for messages.
    pub(crate) shown: PathBuf,
    pub(crate) privileged: bool,
    pub(crate) links: Links<Item>,
    /// Threads that may still be started for large files.
    pub(crate) helpers: AtomicUsize,
    stop: &'a AtomicBool,
    observer: &'a dyn Observer,
    report: Mutex<RestoreReport>,
    ended: AtomicBool,
    fatal: Mutex<Option<RestoreError>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these, and if it did the state would still be whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Run<'_> {
    /// Whether nothing new may be begun.
    pub(crate) fn stopped(&self) -> bool {
        self.ended.load(Relaxed) || self.stop.load(Relaxed)
    }

    /// Ends everything for this reason; the first one counts.
    pub(crate) fn end(&self, error: RestoreError) {
        lock(&self.fatal).get_or_insert(error);
        self.ended.store(true, Relaxed);
    }

    /// Counts.
    pub(crate) fn count(&self, change: impl FnOnce(&mut RestoreStats)) {
        change(&mut lock(&self.report).stats);
    }

    /// Tells how far it is.
    pub(crate) fn progress(&self, current: &Path) {
        let stats = lock(&self.report).stats.clone();
        self.observer.progress(&stats, current);
    }

    /// Lists a failure.
    pub(crate) fn fail(&self, path: PathBuf, message: impl Into<String>) {
        let failure = Failure { path, message: message.into() };
        self.observer.failure(&failure);
        let mut report = lock(&self.report);
        report.stats.errors += 1;
        if report.failures.len() < RestoreReport::MOST_FAILURES {
            report.failures.push(failure);
        }
    }

    /// Gives a thing the attributes of its node; says what went wrong.
    pub(crate) fn dress(&self, object: &Object, node: &Node, before: &Before) -> Vec<String> {
        let (xattrs, trouble) = match if node.has_xattrs { self.tree.xattrs(node.id) } else { Ok(Vec::new()) }
        {
            Ok(xattrs) => (Some(xattrs), None),
            Err(error) => (None, Some(format!("its extended attributes cannot be read: {error}"))),
        };
        let owners = Owners { give: self.config.owners, privileged: self.privileged };
        let done = dress(object, &node.attributes, xattrs.as_ref(), before, owners);
        if done.owner_refused || done.xattrs_refused > 0 {
            self.count(|stats| {
                stats.owners_refused += u64::from(done.owner_refused);
                stats.xattrs_refused += done.xattrs_refused;
            });
        }
        trouble.into_iter().chain(done.troubles).collect()
    }
}

/// Runs a restore whose selections are looked up.
pub(crate) fn run(
    tree: &dyn TreeReader,
    content: &dyn ContentReader,
    landings: &[Landing],
    destination: &Destination,
    config: &RestoreConfig,
    stop: &AtomicBool,
    observer: &dyn Observer,
) -> Result<RestoreReport, RestoreError> {
    let shown = shown(destination);
    let target =
        Target::open(&shown).map_err(|source| RestoreError::Target { path: shown.clone(), source })?;
    let threads = match config.threads {
        0 => std::thread::available_parallelism().map_or(4, |n| (2 * n.get()).clamp(4, 16)),
        given => given,
    };
    let run = Run {
        tree,
        content,
        config,
        target,
        shown,
        privileged: is_privileged(),
        links: Links::default(),
        helpers: AtomicUsize::new(threads - 1),
        stop,
        observer,
        report: Mutex::default(),
        ended: AtomicBool::new(false),
        fatal: Mutex::default(),
    };
    write_all(&run, landings, threads)?;
    if let Some(error) = lock(&run.fatal).take() {
        return Err(error);
    }
    if stop.load(Relaxed) {
        return Err(RestoreError::Interrupted);
    }
    Ok(run.report.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Jobs for each thread that the walk may be ahead: what is stored far away is on its way meanwhile.
const AHEAD: usize = 16;

fn write_all(run: &Run<'_>, landings: &[Landing], threads: usize) -> Result<(), RestoreError> {
    let (sender, receiver) = crossbeam_channel::bounded(AHEAD * threads);
    std::thread::scope(|scope| {
        for number in 0..threads {
            let receiver = receiver.clone();
            let work = move || {
                let mut writer = Writer::new(run);
                receiver.into_iter().for_each(|job| writer.work(job));
            };
            let started =
                std::thread::Builder::new().name(format!("restore-{number}")).spawn_scoped(scope, work);
            match started {
                Ok(_) => {}
                Err(error) if number == 0 => return Err(RestoreError::Thread(error)),
                // Fewer threads than asked for do as well.
                Err(_) => break,
            }
        }
        // With the last thread gone, sending fails instead of waiting.
        drop(receiver);
        let target = Filling::target();
        for landing in landings {
            walk::walk(run, landing, &target, &sender);
        }
        release(run, target);
        drop(sender);
        Ok(())
    })
}
