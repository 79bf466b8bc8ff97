//! A store that is far away and acknowledges packs out of order.
//!
//! May not change an answer. What always holds: of two packs that are under way at once, the one that was put first is
//! answered last; one that is alone is answered when nothing has come after it for a moment. A blob is stored before its
//! answer is held back. Runs the conformance suite in `tests/stores`.

use backupengine_model::ledger::{Commit, Counters, PackRun};
use backupengine_model::{DeviceId, SessionNo, Timestamp, VaultId};
use backupengine_store::{
    BlobKey, BlobKind, BlobReader, BlobWriter, BoxFuture, Got, LedgerReader, LedgerWriter, Opened, Range,
    SessionList, SnapshotList, Spool, StoreError, Writable,
};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

/// How long a pack that is alone waits for another one.
const ALONE: Duration = Duration::from_millis(50);
/// Multiples of which it wants to be read in.
const GRID: u64 = 65_536;

/// What happened, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A blob was put; its answer is yet to come.
    Put(BlobKey),
    /// That answer, whatever it said.
    Answered(BlobKey),
    /// A commit was asked for.
    Commit(SessionNo),
}

/// A store that is far away and acknowledges packs out of order. Clones share what happened.
#[derive(Clone)]
pub struct Late {
    inner: Arc<dyn Writable>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    events: Vec<Event>,
    waiting: Vec<Waker>,
}

impl Seen {
    fn at(&self, event: Event) -> Option<usize> {
        self.events.iter().rposition(|seen| *seen == event)
    }

    /// Whether a pack that was put after this one was answered; `None` where none was put.
    fn was_overtaken(&self, key: BlobKey) -> Option<bool> {
        let at = self.at(Event::Put(key))?;
        let later = self.events[at + 1..].iter();
        let put = later.clone().filter_map(|event| match event {
            Event::Put(other) => Some(*other),
            _ => None,
        });
        put.map(|other| later.clone().any(|event| *event == Event::Answered(other)))
            .reduce(|one, or| one | or)
    }

    fn note(&mut self, event: Event) {
        self.events.push(event);
        self.waiting.drain(..).for_each(Waker::wake);
    }
}

impl Late {
    /// Around `inner`.
    pub fn new(inner: Arc<dyn Writable>) -> Self {
        Self { inner, seen: Arc::default() }
    }

    /// What happened so far.
    pub fn events(&self) -> Vec<Event> {
        self.seen().events.clone()
    }

    /// How many packs were under way at once at most.
    pub fn most_at_once(&self) -> usize {
        let mut now = 0usize;
        let events = self.events().into_iter().map(|event| {
            match event {
                Event::Put(BlobKey::Pack(..)) => now += 1,
                Event::Answered(BlobKey::Pack(..)) => now -= 1,
                _ => {}
            }
            now
        });
        events.max().unwrap_or_default()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until a later pack was answered, or none came for a moment.
    async fn hold(&self, key: BlobKey) {
        let shared = Arc::clone(&self.seen);
        let alone = Arc::new(Mutex::new(false));
        let over = Arc::clone(&alone);
        drop(thread::spawn(move || {
            thread::sleep(ALONE);
            *over.lock().unwrap_or_else(PoisonError::into_inner) = true;
            shared.lock().unwrap_or_else(PoisonError::into_inner).waiting.drain(..).for_each(Waker::wake);
        }));
        poll_fn(|context| {
            let mut seen = self.seen();
            let waited = *alone.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.was_overtaken(key).unwrap_or(waited) {
                return Poll::Ready(());
            }
            seen.waiting.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl BlobReader for Late {
    fn get(&self, key: BlobKey, range: Range) -> BoxFuture<'_, Result<Got, StoreError>> {
        self.inner.get(key, range)
    }

    fn list(&self, kind: BlobKind) -> BoxFuture<'_, Result<Vec<(BlobKey, u64)>, StoreError>> {
        self.inner.list(kind)
    }

    fn grid(&self) -> u64 {
        GRID
    }
}

impl BlobWriter for Late {
    fn spool(&self) -> Result<Spool, StoreError> {
        self.inner.spool()
    }

    fn put(&self, key: BlobKey, spool: Spool) -> BoxFuture<'_, Result<(), StoreError>> {
        self.seen().note(Event::Put(key));
        Box::pin(async move {
            let answer = self.inner.put(key, spool).await;
            if matches!(key, BlobKey::Pack(..)) {
                self.hold(key).await;
            }
            self.seen().note(Event::Answered(key));
            answer
        })
    }
}

impl LedgerReader for Late {
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
        self.inner.sessions()
    }

    fn space(&self) -> BoxFuture<'_, Result<(u64, Option<u64>), StoreError>> {
        self.inner.space()
    }
}

impl LedgerWriter for Late {
    fn open_session(&self, device: DeviceId, now: Timestamp) -> BoxFuture<'_, Result<Opened, StoreError>> {
        self.inner.open_session(device, now)
    }

    fn commit<'a>(&'a self, device: DeviceId, commit: &'a Commit) -> BoxFuture<'a, Result<(), StoreError>> {
        self.seen().note(Event::Commit(commit.snapshot.session));
        self.inner.commit(device, commit)
    }

    fn revive<'a>(&'a self, packs: &'a [PackRun]) -> BoxFuture<'a, Result<Counters, StoreError>> {
        self.inner.revive(packs)
    }
}
