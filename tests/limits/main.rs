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

use backupengine_model::SessionNo;
use backupengine_push::{PushReport, PushStats};
use backupengine_testkit::build::{Pusher, TestVault};
use backupengine_testkit::shown::{Shown, below, differences_from_disk, everything};
use std::collections::BTreeMap;
use std::path::Path;

/// Pushes a folder and gives the report with the snapshot's session.
fn push(pusher: &Pusher, source: &Path) -> (SessionNo, PushReport) {
    let report = pusher.push_with(pusher.config(source)).unwrap();
    (report.snapshot.unwrap().0, report)
}

/// What a fresh reader shows of a pushed folder.
fn shown(vault: &TestVault, session: SessionNo, source: &Path) -> BTreeMap<Vec<u8>, Shown> {
    below(everything(&vault.reader(), session).unwrap(), source)
}

/// Pushes a folder, which must go without a notice, and compares the snapshot with it.
fn assert_pushed_whole(source: &Path) -> PushStats {
    let vault = TestVault::in_memory();
    let (session, report) = push(&vault.pusher("laptop"), source);
    assert!(report.notices.is_empty(), "{:?}", report.notices);
    assert_eq!(differences_from_disk(&shown(&vault, session, source), source), Vec::<String>::new());
    report.stats
}
