//! Pushes into a store so far away that the first files are read before the session is open.
use super::broken_off::Breaks;
use super::{Bench, Quiet, assert_shows, noise, random};
use crate::{PushReport, push};
use backupengine_model::SessionNo;
use backupengine_model::ledger::{Haste, PackRun};
use backupengine_store::{Collector as _, Keeper as _, MemoryStore};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// More than may be in flight: the walk still has it open when that much was read.
const LARGE: usize = 40 << 20;
/// The grid of a store across a network.
const FAR: u64 = 64 << 10;

fn pushed(bench: &Bench, store: &Arc<Breaks>) -> PushReport {
    let (vault, stop, store) = (bench.vault(), AtomicBool::new(false), Arc::clone(store));
    let report = push(&vault, store, &bench.device, bench.config(), &random, &stop, &Quiet).unwrap();
    assert_shows(bench, report.snapshot.unwrap().0);
    report
}

/// Waits until something holds; fails where it does not come to that.
fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        sleep(Duration::from_millis(1));
    }
}

/// Whether this process has the file open.
fn is_open(path: &Path) -> bool {
    let held = fs::read_dir("/proc/self/fd").unwrap().flatten();
    held.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|open| open == path)
}

/// Far away, and a session opens only when this file is being read.
fn opens_when_read(bench: &Bench, path: PathBuf) -> Arc<Breaks> {
    Arc::new(Breaks::opening(bench.memory.clone(), FAR, move |_| {
        until("nothing is read before the session is open", || is_open(&path));
        // Nobody tells when what may be in flight was compressed; what is by then is enough.
        sleep(Duration::from_millis(50));
    }))
}

#[test]
fn files_are_read_while_the_session_is_opened() {
    let bench = Bench::new();
    bench.write("large", &noise(1, LARGE));
    let report = pushed(&bench, &opens_when_read(&bench, bench.src("large")));
    assert!(report.stats.bytes_new == LARGE as u64 && report.stats.chunks_reused == 0);
}

#[test]
fn near_nothing_is_read_before_the_session_is_open() {
    let bench = Bench::new();
    bench.write("large", &noise(1, LARGE));
    let path = bench.src("large");
    let store = Breaks::opening(bench.memory.clone(), 1, move |_| {
        sleep(Duration::from_millis(50));
        assert!(!is_open(&path), "calls come in the same order every time");
    });
    pushed(&bench, &Arc::new(store));
}

#[test]
fn what_was_read_before_the_index_is_open_is_not_stored_again() {
    let bench = Bench::new();
    let (large, small) = (noise(1, LARGE), noise(2, 3000));
    bench.write("large", &large);
    bench.write("small", &small);
    let (_, first) = bench.push();
    // Sources that have nothing in common: no parent.
    fs::rename(bench.src(""), bench.dir.path().join("before")).unwrap();
    bench.write("copy/large", &large);
    bench.write("copy/small", &small);
    let report = pushed(&bench, &opens_when_read(&bench, bench.src("copy/large")));
    assert_eq!((report.stats.chunks_new, report.stats.bytes_new), (0, 0));
    assert_eq!(report.stats.chunks_reused, first.chunks_new);
}

/// A push on top of a snapshot that goes into the trash just before the session is opened.
#[test]
fn a_parent_that_was_gone_before_the_session_was_opened_is_not_built_on() {
    for grid in [1, FAR] {
        let bench = Bench::new();
        bench.write("a", b"a");
        bench.write("b", &noise(3, 100_000));
        let (before, _) = bench.push();
        bench.write("c", b"c");
        let ledger = bench.memory.clone();
        let store = Arc::new(Breaks::opening(bench.memory.clone(), grid, move |_| {
            now(ledger.trash(&[before])).unwrap();
        }));
        let report = pushed(&bench, &store);
        let (session, vault) = (report.snapshot.unwrap().0, bench.vault());
        let listed: Vec<SessionNo> = vault.list().unwrap().iter().map(|info| info.session).collect();
        assert_eq!(listed, [session]);
        assert_eq!(vault.root(session).unwrap().record.parent, None);
        assert_eq!((report.stats.files_new, report.stats.files_unmodified), (3, 0));
        assert_eq!(store.opened.load(Ordering::SeqCst), 1, "it goes on with the session it has");
    }
}

/// Retires all packs of a session.
fn retire(ledger: &MemoryStore, session: SessionNo, packs: usize) {
    let all = [PackRun { session, from: 0, count: packs as u32 }];
    let at = now(ledger.begin_collection(Haste::Wait)).unwrap().counters;
    now(ledger.retire(at, &all)).unwrap();
}

#[test]
fn a_list_of_sessions_from_before_a_retirement_is_not_believed() {
    for retires in [true, false] {
        let bench = Bench::new();
        bench.write("large", &noise(4, 3 << 20));
        let (before, first) = bench.push();
        let packs = bench.packs();
        // Nothing to build on: the list is asked for while the session is opened.
        now(bench.memory.trash(&[before])).unwrap();
        let ledger = bench.memory.clone();
        let store = Arc::new(Breaks::opening(bench.memory.clone(), FAR, move |store| {
            until("the sessions are not asked for meanwhile", || store.listed.load(Ordering::SeqCst) > 0);
            if retires {
                retire(&ledger, before, packs);
            }
        }));
        let report = pushed(&bench, &store);
        assert_eq!(report.stats.chunks_new, if retires { first.chunks_new } else { 0 });
        assert_eq!(store.listed.load(Ordering::SeqCst), if retires { 2 } else { 1 });
    }
}

fn now<T>(answer: impl Future<Output = T>) -> T {
    let mut answer = std::pin::pin!(answer);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match answer.as_mut().poll(&mut context) {
        std::task::Poll::Ready(answer) => answer,
        std::task::Poll::Pending => panic!("a store in memory answers at once"),
    }
}
