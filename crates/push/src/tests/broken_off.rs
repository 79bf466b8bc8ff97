//! Pushes that end early: what is committed stays, what was stored is reused, no number is given twice.
use super::{Bench, Quiet, assert_shows, noise, random};
use crate::{Observer, PushError, PushStats, push};
use backupengine_model::ledger::{Commit, Counters, PackRun};
use backupengine_model::{DeviceId, SessionNo, Timestamp, VaultId};
use backupengine_source::Notice;
use backupengine_store::{
    BlobKey, BlobKind, BlobReader, BlobWriter, BoxFuture, ErrorKind, Got, LedgerReader, LedgerWriter,
    MemoryStore, Opened, Range, SessionList, SnapshotList, Spool, StoreError,
};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A store that refuses every writing call after the first few.
pub(super) struct Breaks {
    inner: MemoryStore,
    left: AtomicU32,
    grid: u64,
    /// What happens before a session is opened.
    before: Box<dyn Fn(&Self) + Send + Sync>,
    /// How often sessions were opened and asked for.
    pub(super) opened: AtomicU32,
    pub(super) listed: AtomicU32,
}

impl Breaks {
    /// Takes so many writing calls; a grid above 1 is that of a store across a network.
    pub(super) fn new(inner: MemoryStore, calls: u32, grid: u64) -> Self {
        let [left, opened, listed] = [calls, 0, 0].map(AtomicU32::new);
        Self { inner, left, grid, before: Box::new(|_| ()), opened, listed }
    }

    /// Takes any number of calls; `before` happens before a session is opened.
    pub(super) fn opening(
        inner: MemoryStore,
        grid: u64,
        before: impl Fn(&Self) + Send + Sync + 'static,
    ) -> Self {
        Self { before: Box::new(before), ..Self::new(inner, u32::MAX, grid) }
    }

    fn count(&self) -> Result<(), StoreError> {
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        left.map(drop).map_err(|_| StoreError::new(ErrorKind::Unavailable, "broken off"))
    }
}

impl BlobReader for Breaks {
    fn get(&self, key: BlobKey, range: Range) -> BoxFuture<'_, Result<Got, StoreError>> {
        self.inner.get(key, range)
    }
    fn list(&self, kind: BlobKind) -> BoxFuture<'_, Result<Vec<(BlobKey, u64)>, StoreError>> {
        self.inner.list(kind)
    }
    fn grid(&self) -> u64 {
        self.grid
    }
}

impl BlobWriter for Breaks {
    fn spool(&self) -> Result<Spool, StoreError> {
        self.inner.spool()
    }
    fn put(&self, key: BlobKey, spool: Spool) -> BoxFuture<'_, Result<(), StoreError>> {
        match self.count() {
            Ok(()) => self.inner.put(key, spool),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }
}

impl LedgerReader for Breaks {
    fn vault(&self) -> BoxFuture<'_, Result<VaultId, StoreError>> {
        self.inner.vault()
    }
    fn version(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.inner.version()
    }
    fn snapshots(&self) -> BoxFuture<'_, Result<SnapshotList, StoreError>> {
        self.inner.snapshots()
    }
    fn sessions(&self) -> BoxFuture<'_, Result<SessionList, StoreError>> {
        // Asked for before it counts: who waits for the count has an older list.
        let listed = self.inner.sessions();
        Box::pin(async move {
            let listed = listed.await;
            self.listed.fetch_add(1, Ordering::SeqCst);
            listed
        })
    }
    fn space(&self) -> BoxFuture<'_, Result<(u64, Option<u64>), StoreError>> {
        self.inner.space()
    }
}

impl LedgerWriter for Breaks {
    fn open_session(&self, device: DeviceId, now: Timestamp) -> BoxFuture<'_, Result<Opened, StoreError>> {
        (self.before)(self);
        self.opened.fetch_add(1, Ordering::SeqCst);
        match self.count() {
            Ok(()) => self.inner.open_session(device, now),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }
    fn commit<'a>(&'a self, device: DeviceId, commit: &'a Commit) -> BoxFuture<'a, Result<(), StoreError>> {
        match self.count() {
            Ok(()) => self.inner.commit(device, commit),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }

    fn revive<'a>(&'a self, packs: &'a [PackRun]) -> BoxFuture<'a, Result<Counters, StoreError>> {
        match self.count() {
            Ok(()) => self.inner.revive(packs),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }
}

fn fill(bench: &Bench) {
    (0..30).for_each(|n| bench.write(&format!("large{n}"), &noise(n, 3 << 20)));
    (0..500).for_each(|n| bench.write(&format!("small/{n}"), &noise(n + 100, 2000)));
}

#[test]
fn broken_off_after_any_store_call_the_next_push_goes_on() {
    let mut stored_again = Vec::new();
    for calls in 0.. {
        let bench = Bench::new();
        bench.write("before", b"before");
        let (before, _) = bench.push();
        fill(&bench);
        let store = Arc::new(Breaks::new(bench.memory.clone(), calls, 1));
        let stop = AtomicBool::new(false);
        let (vault, config) = (bench.vault(), bench.config());
        let result = push(&vault, store, &bench.device, config, &random, &stop, &Quiet);
        assert_shows_snapshots(&bench, 1 + u32::from(result.is_ok()));
        let packs = bench.packs();
        let (session, stats) = bench.push();
        assert_shows(&bench, session);
        assert!(session > before);
        if result.is_ok() {
            assert!(calls >= 6, "a session, some packs, a root, a commit");
            break;
        }
        assert!(matches!(result, Err(PushError::Store(e)) if e.kind == ErrorKind::Unavailable));
        stored_again.push((packs, stats.bytes_new));
    }
    // What was put before is not put again; all but the commit missing, it is just committed.
    let news: Vec<u64> = stored_again.iter().map(|(_, new)| *new).collect();
    // (Then this device knows no change times of it: the one small file is read again.)
    assert!(news[0] > 90 << 20 && news[..news.len() - 1].is_sorted_by(|a, b| a >= b), "{stored_again:?}");
    assert_eq!(news.last(), Some(&6));
}

/// There the calls come in no fixed order, so which one is the last differs from run to run.
#[test]
fn broken_off_after_any_call_far_away_nothing_is_lost() {
    for calls in 0.. {
        let bench = Bench::new();
        fill(&bench);
        let store = Arc::new(Breaks::new(bench.memory.clone(), calls, 64 << 10));
        let stop = AtomicBool::new(false);
        let (vault, config) = (bench.vault(), bench.config());
        let result = push(&vault, store, &bench.device, config, &random, &stop, &Quiet);
        assert_shows_snapshots(&bench, u32::from(result.is_ok()));
        let before = bench.packs();
        let (session, stats) = bench.push();
        assert_shows(&bench, session);
        if result.is_ok() {
            assert!(calls >= 6, "a session, some packs, a root, a commit");
            break;
        }
        assert!(matches!(result, Err(PushError::Store(e)) if e.kind == ErrorKind::Unavailable));
        // What was put is not put again: no more is new than what the source holds beyond the full packs that are there.
        let put = (before as u64).saturating_sub(1) * (30 << 20);
        assert!(stats.bytes_new <= (92 << 20) - put.min(92 << 20), "{calls}: {before} packs, {stats:?}");
    }
}

fn assert_shows_snapshots(bench: &Bench, count: u32) {
    assert_eq!(bench.vault().list().unwrap().len(), count as usize);
}

/// Raises the stop flag once so many bytes were read.
struct StopAt<'a> {
    stop: &'a AtomicBool,
    at: u64,
}

impl Observer for StopAt<'_> {
    fn progress(&self, stats: &PushStats, _: &Path) {
        if stats.bytes_read >= self.at {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
    fn notice(&self, _: &Notice) {}
}

#[test]
fn the_stop_flag_ends_it_and_the_next_push_goes_on() {
    let bench = Bench::new();
    fill(&bench);
    let stop = AtomicBool::new(true);
    let early = bench.try_push(bench.config(), &stop);
    assert!(matches!(early, Err(PushError::Interrupted)));
    stop.store(false, Ordering::Relaxed);
    let observer = StopAt { stop: &stop, at: 1 };
    let (vault, config) = (bench.vault(), bench.config());
    let late = push(&vault, bench.store.clone(), &bench.device, config, &random, &stop, &observer);
    assert!(matches!(late, Err(PushError::Interrupted)));
    assert_shows_snapshots(&bench, 0);
    let (session, _) = bench.push();
    assert_eq!(session, SessionNo(1), "the session that was broken off");
    assert_shows(&bench, session);
}

#[test]
fn two_pushes_at_once_write_in_sessions_of_their_own() {
    let bench = Bench::new();
    fill(&bench);
    let sessions: Vec<SessionNo> = std::thread::scope(|scope| {
        let pushes: Vec<_> = (0..2).map(|_| scope.spawn(|| bench.push().0)).collect();
        pushes.into_iter().map(|push| push.join().unwrap()).collect()
    });
    assert_ne!(sessions[0], sessions[1]);
    sessions.into_iter().for_each(|session| assert_shows(&bench, session));
    let (session, stats) = bench.push();
    assert_eq!(stats.bytes_new, 0);
    assert_shows(&bench, session);
}
