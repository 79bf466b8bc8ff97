//! A store that breaks as it is told.
//!
//! May not break unasked. What always holds: calls are numbered from 1 in the order they are made, writes into a
//! spool included, so that a run that is repeated up to call `n` meets the same call `n` if it is single-threaded.
//! Runs the conformance suite, unbroken, in `tests/stores`; used by `tests/protocol` and `tests/damage`.

use backupengine_model::ledger::{Commit, Counters, Haste, Kept, Move, PackRun, SessionKind};
use backupengine_model::{DeviceId, SessionNo, Timestamp, VaultId};
use backupengine_store::{
    BlobKey, BlobKind, BlobReader, BlobWriter, BoxFuture, Collection, Collector, ErrorKind, Got, Keeper,
    LedgerReader, LedgerWriter, Maintainable, Opened, Range, SessionList, SnapshotList, Spool, StoreError,
    Writable,
};
use bytes::Bytes;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call is not made and fails.
    Refuse(ErrorKind),
    /// The call is made, and fails all the same: the answer was lost.
    LoseAnswer,
    /// One byte of a `get`'s answer is changed: the one at this place, counted round.
    Flip(usize),
    /// A `get`'s answer is cut to at most this many bytes, without saying so.
    Cut(usize),
}

/// When it goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At the call of this number only.
    Call(u64),
    /// At the call of this number and ever after: the process that made them died here.
    From(u64),
    /// At the put of this number (puts are numbered from 1 apart from the calls), and at every call after it.
    FromPut(u64),
    /// Whenever this blob is asked for or put.
    Blob(BlobKey),
}

/// A store that breaks as it is told. Clones share script and numbering.
#[derive(Clone)]
pub struct Faulty {
    inner: Arc<dyn Writable>,
    upkeep: Option<Arc<dyn Maintainable>>,
    script: Arc<Script>,
}

#[derive(Default)]
struct Script {
    calls: AtomicU64,
    puts: AtomicU64,
    rules: Mutex<Vec<(When, Fault)>>,
}

impl Script {
    /// Numbers a call and says what goes wrong with it.
    fn next(&self, key: Option<BlobKey>) -> Option<Fault> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let hit = rules.iter().find(|(when, _)| match when {
            When::Call(at) => number == *at,
            When::From(at) => number >= *at,
            When::FromPut(at) => self.puts.load(Ordering::SeqCst) >= *at,
            When::Blob(wanted) => key == Some(*wanted),
        });
        hit.map(|(_, fault)| *fault)
    }
}

fn broken(kind: ErrorKind, key: Option<BlobKey>) -> StoreError {
    let error = StoreError::new(kind, "broken on purpose");
    match key {
        Some(key) => error.about(key),
        None => error,
    }
}

impl Faulty {
    /// Around `inner`, unbroken so far.
    pub fn new(inner: Arc<dyn Writable>) -> Self {
        Self { inner, upkeep: None, script: Arc::default() }
    }

    /// Around a store that upkeep is done to. On others it is refused.
    pub fn maintained(inner: Arc<dyn Maintainable>) -> Self {
        Self { upkeep: Some(Arc::clone(&inner)), ..Self::new(inner) }
    }

    /// Adds a rule; the first that fits a call counts.
    #[must_use]
    pub fn with(self, when: When, fault: Fault) -> Self {
        self.add(when, fault);
        self
    }

    /// Every call after the first `calls` fails and does nothing, as if the process had died there.
    pub fn stopping_after(inner: Arc<dyn Writable>, calls: u64) -> Self {
        Self::new(inner).with(When::From(calls + 1), Fault::Refuse(ErrorKind::Unavailable))
    }

    /// Adds a rule to a store in use.
    pub fn add(&self, when: When, fault: Fault) {
        self.script.rules.lock().unwrap_or_else(PoisonError::into_inner).push((when, fault));
    }

    /// Takes all rules away.
    pub fn heal(&self) {
        self.script.rules.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.script.calls.load(Ordering::SeqCst)
    }

    fn through<'a, T: Send + 'a>(
        &'a self,
        key: Option<BlobKey>,
        call: impl FnOnce(&'a dyn Writable) -> BoxFuture<'a, Result<T, StoreError>>,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        self.made(key, || call(&*self.inner))
    }

    fn upkept<'a, T: Send + 'a>(
        &'a self,
        call: impl FnOnce(&'a dyn Maintainable) -> BoxFuture<'a, Result<T, StoreError>>,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        let none = || StoreError::new(ErrorKind::Denied, "no upkeep is done to the store inside");
        self.made(None, || match &self.upkeep {
            Some(upkeep) => call(&**upkeep),
            None => Box::pin(std::future::ready(Err(none()))),
        })
    }

    fn made<'a, T: Send + 'a>(
        &'a self,
        key: Option<BlobKey>,
        call: impl FnOnce() -> BoxFuture<'a, Result<T, StoreError>>,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        match self.script.next(key) {
            None | Some(Fault::Flip(_) | Fault::Cut(_)) => call(),
            Some(Fault::Refuse(kind)) => Box::pin(std::future::ready(Err(broken(kind, key)))),
            Some(Fault::LoseAnswer) => {
                let made = call();
                Box::pin(async move {
                    made.await?;
                    Err(broken(ErrorKind::Unavailable, key))
                })
            }
        }
    }
}

impl BlobReader for Faulty {
    fn get(&self, key: BlobKey, range: Range) -> BoxFuture<'_, Result<Got, StoreError>> {
        let fault = self.script.next(Some(key));
        Box::pin(async move {
            if let Some(Fault::Refuse(kind)) = fault {
                return Err(broken(kind, Some(key)));
            }
            let mut got = self.inner.get(key, range).await?;
            match fault {
                Some(Fault::LoseAnswer) => return Err(broken(ErrorKind::Unavailable, Some(key))),
                Some(Fault::Flip(at)) if !got.bytes.is_empty() => {
                    let mut bytes = got.bytes.to_vec();
                    let at = at % bytes.len();
                    bytes[at] ^= 0x01;
                    got.bytes = Bytes::from(bytes);
                }
                Some(Fault::Cut(len)) => got.bytes.truncate(len),
                _ => {}
            }
            Ok(got)
        })
    }

    fn list(&self, kind: BlobKind) -> BoxFuture<'_, Result<Vec<(BlobKey, u64)>, StoreError>> {
        self.through(None, |inner| inner.list(kind))
    }

    fn grid(&self) -> u64 {
        self.inner.grid()
    }
}

impl BlobWriter for Faulty {
    fn spool(&self) -> Result<Spool, StoreError> {
        if let Some(Fault::Refuse(kind)) = self.script.next(None) {
            return Err(broken(kind, None));
        }
        let script = Arc::clone(&self.script);
        Ok(self.inner.spool()?.watched(move |_| match script.next(None) {
            Some(Fault::Refuse(kind)) => Err(broken(kind, None).into()),
            Some(Fault::LoseAnswer) => Err(broken(ErrorKind::Unavailable, None).into()),
            _ => Ok(()),
        }))
    }

    fn put(&self, key: BlobKey, spool: Spool) -> BoxFuture<'_, Result<(), StoreError>> {
        self.script.puts.fetch_add(1, Ordering::SeqCst);
        self.through(Some(key), |inner| inner.put(key, spool))
    }
}

impl LedgerReader for Faulty {
    fn vault(&self) -> BoxFuture<'_, Result<VaultId, StoreError>> {
        self.through(None, |inner| inner.vault())
    }

    fn version(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.through(None, |inner| inner.version())
    }

    fn snapshots(&self) -> BoxFuture<'_, Result<SnapshotList, StoreError>> {
        self.through(None, |inner| inner.snapshots())
    }

    fn sessions(&self) -> BoxFuture<'_, Result<SessionList, StoreError>> {
        self.through(None, |inner| inner.sessions())
    }

    fn space(&self) -> BoxFuture<'_, Result<(u64, Option<u64>), StoreError>> {
        self.through(None, |inner| inner.space())
    }
}

impl LedgerWriter for Faulty {
    fn open_session(&self, device: DeviceId, now: Timestamp) -> BoxFuture<'_, Result<Opened, StoreError>> {
        self.through(None, |inner| inner.open_session(device, now))
    }

    fn commit<'a>(&'a self, device: DeviceId, commit: &'a Commit) -> BoxFuture<'a, Result<(), StoreError>> {
        self.through(None, |inner| inner.commit(device, commit))
    }

    fn revive<'a>(&'a self, packs: &'a [PackRun]) -> BoxFuture<'a, Result<Counters, StoreError>> {
        self.through(None, |inner| inner.revive(packs))
    }
}

impl Keeper for Faulty {
    fn trash<'a>(&'a self, sessions: &'a [SessionNo]) -> BoxFuture<'a, Result<(), StoreError>> {
        self.upkept(|inner| inner.trash(sessions))
    }

    fn untrash<'a>(&'a self, sessions: &'a [SessionNo]) -> BoxFuture<'a, Result<(), StoreError>> {
        self.upkept(|inner| inner.untrash(sessions))
    }

    fn hold<'a>(&'a self, sessions: &'a [SessionNo], hold: bool) -> BoxFuture<'a, Result<(), StoreError>> {
        self.upkept(|inner| inner.hold(sessions, hold))
    }

    fn relabel<'a>(&'a self, session: SessionNo, label: &'a [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        self.upkept(|inner| inner.relabel(session, label))
    }

    fn kept(&self) -> BoxFuture<'_, Result<Vec<Kept>, StoreError>> {
        self.upkept(|inner| inner.kept())
    }
}

impl Collector for Faulty {
    fn begin_collection(&self, haste: Haste) -> BoxFuture<'_, Result<Collection, StoreError>> {
        self.upkept(|inner| inner.begin_collection(haste))
    }

    fn retire<'a>(
        &'a self,
        at: Counters,
        packs: &'a [PackRun],
    ) -> BoxFuture<'a, Result<Counters, StoreError>> {
        self.upkept(|inner| inner.retire(at, packs))
    }

    fn relocate<'a>(
        &'a self,
        at: Counters,
        moves: &'a [Move],
    ) -> BoxFuture<'a, Result<Counters, StoreError>> {
        self.upkept(|inner| inner.relocate(at, moves))
    }

    fn purge<'a>(
        &'a self,
        packs: &'a [PackRun],
        haste: Haste,
    ) -> BoxFuture<'a, Result<Vec<PackRun>, StoreError>> {
        self.upkept(|inner| inner.purge(packs, haste))
    }

    fn open_relocation(
        &self,
        device: DeviceId,
        kind: SessionKind,
    ) -> BoxFuture<'_, Result<SessionNo, StoreError>> {
        self.upkept(|inner| inner.open_relocation(device, kind))
    }

    fn end_relocation(
        &self,
        device: DeviceId,
        session: SessionNo,
        packs: u32,
        bytes: u64,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.upkept(|inner| inner.end_relocation(device, session, packs, bytes))
    }
}
