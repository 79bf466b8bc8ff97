//! Restores of a small tree in memory into real folders.

mod fake;
mod fidelity;
mod hostile;
mod policy;
mod resume;

use crate::{
    Destination, Failure, Observer, RestoreConfig, RestoreError, RestoreReport, RestoreStats, Selection,
    restore,
};
use backupengine_model::{ContentReader, TreePath, TreeReader};
use fake::{Fake, SESSION};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tempfile::TempDir;

/// Hears everything; may stop the restore after some progress.
#[derive(Default)]
struct Listener {
    failures: Mutex<Vec<Failure>>,
    stop: AtomicBool,
    stop_at: Option<PathBuf>,
}

impl Observer for Listener {
    fn progress(&self, _: &RestoreStats, current: &Path) {
        if self.stop_at.as_deref() == Some(current) {
            self.stop.store(true, Relaxed);
        }
    }

    fn failure(&self, failure: &Failure) {
        self.failures.lock().unwrap().push(failure.clone());
    }
}

/// A target folder for one test.
struct Ground {
    _dir: TempDir,
    base: PathBuf,
}

impl Ground {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        Self { _dir: dir, base }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }

    fn inside(&self) -> Destination {
        Destination::Into(self.base.clone())
    }

    /// Everything that is there, sorted, without the target itself.
    fn names(&self) -> Vec<String> {
        fn see(dir: &Path, base: &Path, out: &mut Vec<String>) {
            for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
                out.push(entry.path().strip_prefix(base).unwrap().to_string_lossy().into_owned());
                if entry.file_type().unwrap().is_dir() {
                    see(&entry.path(), base, out);
                }
            }
        }
        let mut out = Vec::new();
        see(&self.base, &self.base, &mut out);
        out.sort();
        out
    }
}

fn select(path: &str) -> Selection {
    Selection { session: SESSION, path: TreePath::from_slashes(path.as_bytes()).unwrap() }
}

/// Restores one selection and checks that observer and report agree.
fn run_on<R: TreeReader + ContentReader>(
    reader: &R,
    path: &str,
    destination: &Destination,
    config: &RestoreConfig,
) -> Result<RestoreReport, RestoreError> {
    let listener = Listener::default();
    let report = restore(reader, reader, &[select(path)], destination, config, &listener.stop, &listener)?;
    let mut heard = listener.failures.into_inner().unwrap();
    let mut listed = report.failures.clone();
    heard.sort_by(|a, b| a.path.cmp(&b.path));
    listed.sort_by(|a, b| a.path.cmp(&b.path));
    assert_eq!(heard, listed);
    assert_eq!(report.stats.errors, heard.len() as u64);
    Ok(report)
}

/// Restores "/" into the ground; nothing may fail.
fn run(fake: &Fake, ground: &Ground, config: &RestoreConfig) -> RestoreReport {
    let report = run_on(fake, "/", &ground.inside(), config).unwrap();
    assert!(report.failures.is_empty(), "{:#?}", report.failures);
    report
}

fn with(change: impl FnOnce(&mut RestoreConfig)) -> RestoreConfig {
    let mut config = RestoreConfig { threads: 3, ..RestoreConfig::default() };
    change(&mut config);
    config
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn failed(report: &RestoreReport) -> Vec<&Path> {
    let mut paths: Vec<_> = report.failures.iter().map(|f| f.path.as_path()).collect();
    paths.sort();
    paths
}
