//! A vault in memory, for tests of everything above the port. As strict as the folder.
//!
//! May not be kinder than a real store. What always holds: the same answers and the same errors as
//! [`FolderStore`](crate::FolderStore), which the conformance suite in `tests/stores` compares.

use crate::folder::{Clock, is_gone, system_clock, used};
use crate::port::{
    BlobReader, BlobWriter, BoxFuture, Collection, Collector, EnvelopeChange, EnvelopeInfo, EnvelopeKeeper,
    Got, Keeper, LedgerReader, LedgerWriter, Opened, Range, SessionList, SnapshotList,
};
use crate::spool::Written;
use crate::{BlobKey, BlobKind, EnvelopeId, ErrorKind, Spool, StoreError};
use backupengine_model::ledger::{
    Commit, Counters, EnvelopeNo, EnvelopesChange, Haste, Kept, LedgerState, Move, PackRun, RuleBroken,
    SessionKind,
};
use backupengine_model::{DeviceId, SessionNo, Timestamp, VaultId};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A vault in memory; clones are handles on the same vault.
#[derive(Clone)]
pub struct MemoryStore {
    vault: VaultId,
    clock: Clock,
    held: Arc<Mutex<Held>>,
}

#[derive(Clone, Default)]
struct Held {
    blobs: BTreeMap<BlobKey, Bytes>,
    ledger: LedgerState,
}

impl MemoryStore {
    /// An empty vault.
    pub fn new(vault: VaultId) -> Self {
        Self { vault, clock: system_clock(), held: Arc::default() }
    }

    /// The same vault with a clock of one's own for trash, leases and grace.
    #[must_use]
    pub fn by(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// A vault of its own with the same content: what it was at this moment.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let held = Arc::new(Mutex::new(self.held().clone()));
        Self { vault: self.vault, clock: Arc::clone(&self.clock), held }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get_now(&self, key: BlobKey, range: Range) -> Result<Got, StoreError> {
        let blob = self.held().blobs.get(&key).cloned();
        let blob =
            blob.ok_or_else(|| StoreError::new(ErrorKind::NotFound, "the blob is not there").about(key))?;
        let total = blob.len() as u64;
        let Some((offset, len)) = range.resolve(total) else {
            let message = format!("the blob has {total} bytes; {range:?} lies outside");
            return Err(StoreError::new(ErrorKind::BadRange, message).about(key));
        };
        let bytes = blob.slice(offset as usize..(offset + len) as usize);
        Ok(Got { bytes, offset, total })
    }

    fn put_now(&self, key: BlobKey, spool: Spool) -> Result<(), StoreError> {
        let Written::Memory(bytes) = spool.finish().map_err(|e| e.about(key))? else {
            return Err(StoreError::new(ErrorKind::Io, "a spool of another store cannot be put").about(key));
        };
        let mut held = self.held();
        if matches!(key, BlobKey::Envelope(_)) && held.ledger.envelopes.is_some() {
            return Err(StoreError::rule(RuleBroken::EnvelopesMoved).about(key));
        }
        match held.blobs.entry(key) {
            std::collections::btree_map::Entry::Occupied(_) => {
                Err(StoreError::new(ErrorKind::AlreadyExists, "the blob is there already").about(key))
            }
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(Bytes::from(bytes));
                Ok(())
            }
        }
    }

    fn commit_now(&self, device: DeviceId, commit: &Commit) -> Result<(), StoreError> {
        let root = BlobKey::Root(commit.snapshot.session);
        let mut held = self.held();
        let already = held.ledger.snapshots.contains(&commit.snapshot);
        let mut after = held.ledger.clone();
        after.commit(device, commit).map_err(StoreError::rule)?;
        let stored = held.blobs.get(&root).map(|blob| blob.len() as u64);
        if !already && stored != Some(commit.snapshot.root_size) {
            return Err(StoreError::rule(RuleBroken::RootNotStored).about(root));
        }
        held.ledger = after;
        Ok(())
    }
}

impl EnvelopeKeeper for MemoryStore {
    fn envelopes(&self) -> BoxFuture<'_, Result<Vec<EnvelopeInfo>, StoreError>> {
        Box::pin(async move {
            let ids = self.held().envelopes();
            Ok(ids.into_iter().map(|id| EnvelopeInfo { id, stored: None }).collect())
        })
    }

    fn change_envelopes<'a>(&'a self, change: &'a EnvelopeChange) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut held = self.held();
            let stored: Vec<EnvelopeNo> = held.envelopes().iter().map(|id| id.0).collect();
            let expected: Vec<EnvelopeNo> = change.expected.iter().map(|id| id.0).collect();
            let after: Vec<EnvelopeNo> = change.after().map(|id| id.0).collect();
            let rules = EnvelopesChange { expected: &expected, after: &after };
            let mut ledger = held.ledger.clone();
            ledger.change_envelopes(&stored, &rules).map_err(StoreError::rule)?;
            if let Some(gone) = change.keep.iter().find(|id| !stored.contains(&id.0)) {
                let error = StoreError::new(ErrorKind::NotFound, "the blob is not there");
                return Err(error.about(BlobKey::Envelope(*gone)));
            }
            held.ledger = ledger;
            for (id, bytes) in &change.add {
                held.blobs.insert(BlobKey::Envelope(*id), Bytes::copy_from_slice(bytes));
            }
            held.blobs.retain(|key, _| !matches!(key, BlobKey::Envelope(id) if !after.contains(&id.0)));
            Ok(())
        })
    }
}

impl Held {
    fn envelopes(&self) -> Vec<EnvelopeId> {
        let ids = self
            .blobs
            .keys()
            .filter_map(|key| if let BlobKey::Envelope(id) = key { Some(*id) } else { None });
        ids.collect()
    }
}

fn belongs(key: &BlobKey, kind: BlobKind) -> bool {
    match (key, kind) {
        (BlobKey::Pack(session, _), BlobKind::PacksOf(wanted)) => *session == wanted,
        (BlobKey::Pack(..), BlobKind::Packs)
        | (BlobKey::Root(_), BlobKind::Roots)
        | (BlobKey::Envelope(_), BlobKind::Envelopes) => true,
        _ => false,
    }
}

impl BlobReader for MemoryStore {
    fn get(&self, key: BlobKey, range: Range) -> BoxFuture<'_, Result<Got, StoreError>> {
        Box::pin(async move { self.get_now(key, range) })
    }

    fn list(&self, kind: BlobKind) -> BoxFuture<'_, Result<Vec<(BlobKey, u64)>, StoreError>> {
        Box::pin(async move {
            let held = self.held();
            let found = held.blobs.iter().filter(|(key, _)| belongs(key, kind));
            // What was taken away is not there any more: all that are there count.
            Ok(found.map(|(key, blob)| (*key, blob.len() as u64)).collect())
        })
    }

    fn grid(&self) -> u64 {
        1
    }
}

impl BlobWriter for MemoryStore {
    fn spool(&self) -> Result<Spool, StoreError> {
        Ok(Spool::in_memory())
    }

    fn put(&self, key: BlobKey, spool: Spool) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.put_now(key, spool) })
    }
}

impl LedgerReader for MemoryStore {
    fn vault(&self) -> BoxFuture<'_, Result<VaultId, StoreError>> {
        Box::pin(async move { Ok(self.vault) })
    }

    fn version(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move { Ok(self.held().ledger.version) })
    }

    fn snapshots(&self) -> BoxFuture<'_, Result<SnapshotList, StoreError>> {
        Box::pin(async move {
            let held = self.held();
            Ok(SnapshotList { version: held.ledger.version, snapshots: held.ledger.snapshots.clone() })
        })
    }

    fn sessions(&self) -> BoxFuture<'_, Result<SessionList, StoreError>> {
        Box::pin(async move {
            let held = self.held();
            Ok(SessionList { gc_epoch: held.ledger.gc_epoch, sessions: held.ledger.sessions.clone() })
        })
    }

    fn space(&self) -> BoxFuture<'_, Result<(u64, Option<u64>), StoreError>> {
        Box::pin(async move { Ok((used(&self.held().ledger), None)) })
    }
}

impl LedgerWriter for MemoryStore {
    fn open_session(&self, device: DeviceId, _: Timestamp) -> BoxFuture<'_, Result<Opened, StoreError>> {
        Box::pin(async move {
            let now = (self.clock)();
            self.decide(|state| {
                let session = state.open(device, SessionKind::Push, now)?;
                Ok(Opened { session, version: state.version, gc_epoch: state.gc_epoch })
            })
        })
    }

    fn commit<'a>(&'a self, device: DeviceId, commit: &'a Commit) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.commit_now(device, commit) })
    }

    fn revive<'a>(&'a self, packs: &'a [PackRun]) -> BoxFuture<'a, Result<Counters, StoreError>> {
        Box::pin(async move { self.decide(|state| state.revive(packs)) })
    }
}

impl MemoryStore {
    /// Rules that are broken change nothing.
    fn decide<T>(
        &self,
        step: impl FnOnce(&mut LedgerState) -> Result<T, RuleBroken>,
    ) -> Result<T, StoreError> {
        let mut held = self.held();
        let mut after = held.ledger.clone();
        let answer = step(&mut after).map_err(StoreError::rule)?;
        held.ledger = after;
        Ok(answer)
    }

    fn purge_now(&self, packs: &[PackRun], haste: Haste) -> Result<Vec<PackRun>, StoreError> {
        let sizes: BTreeMap<BlobKey, u64> =
            self.held().blobs.iter().map(|(key, blob)| (*key, blob.len() as u64)).collect();
        let size = |session, number| sizes.get(&BlobKey::Pack(session, number)).copied().unwrap_or(0);
        let gone = self.decide(|state| state.purge(packs, (self.clock)(), haste, &size))?;
        let mut held = self.held();
        let Held { blobs, ledger } = &mut *held;
        blobs.retain(|key, _| !is_gone(ledger, *key));
        Ok(gone)
    }
}

impl Keeper for MemoryStore {
    fn trash<'a>(&'a self, sessions: &'a [SessionNo]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.decide(|state| state.trash(sessions, (self.clock)())) })
    }

    fn untrash<'a>(&'a self, sessions: &'a [SessionNo]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.decide(|state| state.untrash(sessions)) })
    }

    fn hold<'a>(&'a self, sessions: &'a [SessionNo], hold: bool) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.decide(|state| state.hold(sessions, hold)) })
    }

    fn relabel<'a>(&'a self, session: SessionNo, label: &'a [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.decide(|state| state.relabel(session, label)) })
    }

    fn kept(&self) -> BoxFuture<'_, Result<Vec<Kept>, StoreError>> {
        Box::pin(async move { Ok(self.held().ledger.kept()) })
    }
}

impl Collector for MemoryStore {
    fn begin_collection(&self, haste: Haste) -> BoxFuture<'_, Result<Collection, StoreError>> {
        Box::pin(async move {
            self.decide(|state| {
                let snapshots = state.begin_collection((self.clock)(), haste, &|_| None);
                Ok(Collection { counters: state.counters(), snapshots })
            })
        })
    }

    fn retire<'a>(
        &'a self,
        at: Counters,
        packs: &'a [PackRun],
    ) -> BoxFuture<'a, Result<Counters, StoreError>> {
        Box::pin(async move { self.decide(|state| state.retire(at, packs, (self.clock)())) })
    }

    fn relocate<'a>(
        &'a self,
        at: Counters,
        moves: &'a [Move],
    ) -> BoxFuture<'a, Result<Counters, StoreError>> {
        Box::pin(async move { self.decide(|state| state.relocate(at, moves, (self.clock)())) })
    }

    fn purge<'a>(
        &'a self,
        packs: &'a [PackRun],
        haste: Haste,
    ) -> BoxFuture<'a, Result<Vec<PackRun>, StoreError>> {
        Box::pin(async move { self.purge_now(packs, haste) })
    }

    fn open_relocation(
        &self,
        device: DeviceId,
        kind: SessionKind,
    ) -> BoxFuture<'_, Result<SessionNo, StoreError>> {
        Box::pin(async move { self.decide(|state| state.open(device, kind, (self.clock)())) })
    }

    fn end_relocation(
        &self,
        device: DeviceId,
        session: SessionNo,
        packs: u32,
        bytes: u64,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.decide(|state| state.end_relocation(device, session, packs, bytes)) })
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryStore({}, {} blobs)", self.vault, self.held().blobs.len())
    }
}
