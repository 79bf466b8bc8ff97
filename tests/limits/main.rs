//! Guards: what a source, a clock or a disk can throw at a push ends in a clear word, a whole snapshot of the
//! rest, and nothing lost.
//!
//! Through push, vault and restore as crates; what a person sees of it is in `tests/cli`.

// Tests may panic; clippy only knows the functions that are marked as tests.
#![allow(clippy::unwrap_used)]

mod changing;
mod clock;
mod deep;
mod empty;
mod names;
mod room;
mod sparse;
mod unreadable;
mod wide;

use backupengine_model::{SessionNo, TreePath};
use backupengine_push::{PushReport, PushStats};
use backupengine_restore::{Destination, Failure, Observer, RestoreConfig, RestoreStats, Selection, restore};
use backupengine_testkit::build::{Pusher, TestVault};
use backupengine_testkit::shown::{Shown, below, differences_from_disk, everything};
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// Pushes a folder and gives the report with the snapshot's session.
fn push(pusher: &Pusher, source: &Path) -> (SessionNo, PushReport) {
    let report = pusher.push_with(pusher.config(source)).unwrap();
    (report.snapshot.unwrap().0, report)
}

/// What a fresh reader shows of a pushed folder.
fn shown(vault: &TestVault, session: SessionNo, source: &Path) -> BTreeMap<Vec<u8>, Shown> {
    below(everything(&vault.reader(), session).unwrap(), source)
}

/// Restores a pushed file or folder into `target`; where it lands there.
fn restored(vault: &TestVault, session: SessionNo, source: &Path, target: &Path) -> PathBuf {
    struct Unwatched;
    impl Observer for Unwatched {
        fn progress(&self, _stats: &RestoreStats, _current: &Path) {}
        fn failure(&self, _failure: &Failure) {}
    }
    let path = TreePath::from_slashes(source.as_os_str().as_bytes()).unwrap();
    let (into, config) = (Destination::Into(target.to_owned()), RestoreConfig::default());
    let (reader, stop) = (vault.reader(), AtomicBool::new(false));
    let chosen = [Selection { session, path }];
    let report = restore(&reader, &reader, &chosen, &into, &config, &stop, &Unwatched).unwrap();
    assert_eq!(report.failures, []);
    target.join(source.file_name().unwrap())
}

/// The same tree under another name.
fn moved(tree: &BTreeMap<Vec<u8>, Shown>, from: &Path, to: &Path) -> BTreeMap<Vec<u8>, Shown> {
    let (from, to) = (from.as_os_str().as_bytes(), to.as_os_str().as_bytes());
    tree.iter().map(|(path, shown)| ([to, &path[from.len()..]].concat(), shown.clone())).collect()
}

/// Pushes a file or folder, which must go without a notice, and compares with it what the snapshot shows and
/// what is restored.
fn assert_pushed_whole(source: &Path) -> PushStats {
    let vault = TestVault::in_memory();
    let (session, report) = push(&vault.pusher("laptop"), source);
    assert!(report.notices.is_empty(), "{:?}", report.notices);
    let tree = shown(&vault, session, source);
    assert_eq!(differences_from_disk(&tree, source), Vec::<String>::new());
    let target = tempfile::tempdir().unwrap();
    let copy = restored(&vault, session, source, target.path());
    assert_eq!(differences_from_disk(&moved(&tree, source, &copy), &copy), Vec::<String>::new());
    report.stats
}
