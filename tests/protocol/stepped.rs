//! A store that says each call before it is made, so that a test can do something else just there.

use backupengine_model::ledger::{Commit, Counters, Haste, Kept, Move, PackRun, SessionKind};
use backupengine_model::{DeviceId, SessionNo, Timestamp, VaultId};
use backupengine_store::{
    BlobKey, BlobKind, BlobReader, BlobWriter, BoxFuture, Collection, Collector, Got, Keeper, LedgerReader,
    LedgerWriter, Maintainable, Opened, Range, SessionList, SnapshotList, Spool, StoreError, Writable,
};
use std::sync::Arc;

/// A call of the port, by its name.
pub(crate) type Step = &'static str;

/// See the module header. Blobs may go through a wrapper that knows nothing of upkeep.
pub(crate) struct Stepped {
    inner: Arc<dyn Writable>,
    upkeep: Arc<dyn Maintainable>,
    before: Box<dyn Fn(Step) + Send + Sync>,
}

impl Stepped {
    pub(crate) fn new(upkeep: &Arc<dyn Maintainable>, before: impl Fn(Step) + Send + Sync + 'static) -> Self {
        Self { inner: Arc::clone(upkeep) as _, upkeep: Arc::clone(upkeep), before: Box::new(before) }
    }

    /// `inner` is a wrapper of the same vault.
    pub(crate) fn through(inner: Arc<dyn Writable>, upkeep: &Arc<dyn Maintainable>) -> Self {
        Self { inner, ..Self::new(upkeep, |_| {}) }
    }
}

impl BlobReader for Stepped {
    fn get(&self, key: BlobKey, range: Range) -> BoxFuture<'_, Result<Got, StoreError>> {
        (self.before)("get");
        self.inner.get(key, range)
    }

    fn list(&self, kind: BlobKind) -> BoxFuture<'_, Result<Vec<(BlobKey, u64)>, StoreError>> {
        (self.before)("list");
        self.inner.list(kind)
    }

    fn grid(&self) -> u64 {
        self.inner.grid()
    }
}

impl BlobWriter for Stepped {
    fn spool(&self) -> Result<Spool, StoreError> {
        self.inner.spool()
    }

    fn put(&self, key: BlobKey, spool: Spool) -> BoxFuture<'_, Result<(), StoreError>> {
        (self.before)("put");
        self.inner.put(key, spool)
    }
}

impl LedgerReader for Stepped {
    fn vault(&self) -> BoxFuture<'_, Result<VaultId, StoreError>> {
        self.inner.vault()
    }

    fn version(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        (self.before)("version");
        self.inner.version()
    }

    fn snapshots(&self) -> BoxFuture<'_, Result<SnapshotList, StoreError>> {
        (self.before)("snapshots");
        self.inner.snapshots()
    }

    fn sessions(&self) -> BoxFuture<'_, Result<SessionList, StoreError>> {
        (self.before)("sessions");
        self.inner.sessions()
    }

    fn space(&self) -> BoxFuture<'_, Result<(u64, Option<u64>), StoreError>> {
        self.inner.space()
    }
}

impl LedgerWriter for Stepped {
    fn open_session(&self, device: DeviceId, now: Timestamp) -> BoxFuture<'_, Result<Opened, StoreError>> {
        (self.before)("open_session");
        self.inner.open_session(device, now)
    }

    fn commit<'a>(&'a self, device: DeviceId, commit: &'a Commit) -> BoxFuture<'a, Result<(), StoreError>> {
        (self.before)("commit");
        self.inner.commit(device, commit)
    }

    fn revive<'a>(&'a self, packs: &'a [PackRun]) -> BoxFuture<'a, Result<Counters, StoreError>> {
        (self.before)("revive");
        self.inner.revive(packs)
    }
}

impl Keeper for Stepped {
    fn trash<'a>(&'a self, sessions: &'a [SessionNo]) -> BoxFuture<'a, Result<(), StoreError>> {
        (self.before)("trash");
        self.upkeep.trash(sessions)
    }

    fn untrash<'a>(&'a self, sessions: &'a [SessionNo]) -> BoxFuture<'a, Result<(), StoreError>> {
        (self.before)("untrash");
        self.upkeep.untrash(sessions)
    }

    fn hold<'a>(&'a self, sessions: &'a [SessionNo], hold: bool) -> BoxFuture<'a, Result<(), StoreError>> {
        (self.before)("hold");
        self.upkeep.hold(sessions, hold)
    }

    fn relabel<'a>(&'a self, session: SessionNo, label: &'a [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        (self.before)("relabel");
        self.upkeep.relabel(session, label)
    }

    fn kept(&self) -> BoxFuture<'_, Result<Vec<Kept>, StoreError>> {
        (self.before)("kept");
        self.upkeep.kept()
    }
}

impl Collector for Stepped {
    fn begin_collection(&self, haste: Haste) -> BoxFuture<'_, Result<Collection, StoreError>> {
        (self.before)("begin_collection");
        self.upkeep.begin_collection(haste)
    }

    fn retire<'a>(
        &'a self,
        at: Counters,
        packs: &'a [PackRun],
    ) -> BoxFuture<'a, Result<Counters, StoreError>> {
        (self.before)("retire");
        self.upkeep.retire(at, packs)
    }

    fn relocate<'a>(
        &'a self,
        at: Counters,
        moves: &'a [Move],
    ) -> BoxFuture<'a, Result<Counters, StoreError>> {
        (self.before)("relocate");
        self.upkeep.relocate(at, moves)
    }

    fn purge<'a>(
        &'a self,
        packs: &'a [PackRun],
        haste: Haste,
    ) -> BoxFuture<'a, Result<Vec<PackRun>, StoreError>> {
        (self.before)("purge");
        self.upkeep.purge(packs, haste)
    }

    fn open_relocation(
        &self,
        device: DeviceId,
        kind: SessionKind,
    ) -> BoxFuture<'_, Result<SessionNo, StoreError>> {
        (self.before)("open_relocation");
        self.upkeep.open_relocation(device, kind)
    }

    fn end_relocation(
        &self,
        device: DeviceId,
        session: SessionNo,
        packs: u32,
        bytes: u64,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        (self.before)("end_relocation");
        self.upkeep.end_relocation(device, session, packs, bytes)
    }
}
