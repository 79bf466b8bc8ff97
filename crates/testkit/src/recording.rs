//! A store that remembers every call.
//!
//! May not change an answer. What always holds: a call is noted before it is made, in the order of the calls.
//! Runs the conformance suite in `tests/stores`.

use backupengine_model::ledger::{Commit, Counters, PackRun};
use backupengine_model::{DeviceId, SessionNo, Timestamp, VaultId};
use backupengine_store::{
    BlobKey, BlobKind, BlobReader, BlobWriter, BoxFuture, Got, LedgerReader, LedgerWriter, Opened, Range,
    SessionList, SnapshotList, Spool, StoreError, Writable,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One call of the port.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Call {
    Get {
        key: BlobKey,
        range: Range,
    },
    List(BlobKind),
    Spool,
    Put {
        key: BlobKey,
        len: u64,
    },
    Vault,
    Version,
    Snapshots,
    Sessions,
    Space,
    OpenSession(DeviceId),
    Commit(SessionNo),
    /// Bringing packs back.
    Revive,
}

impl Call {
    /// Whether a store over a network would go there and back for it; a spool is local everywhere.
    pub fn is_round_trip(&self) -> bool {
        !matches!(self, Self::Spool)
    }
}

/// What went into a spool, whether it was put or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpoolSeen {
    /// All bytes, front to back.
    pub bytes: Vec<u8>,
    /// Length of each single write.
    pub writes: Vec<usize>,
}

/// A store that remembers every call, and what went into each spool if asked to. Clones share the memory.
#[derive(Clone)]
pub struct Recording {
    inner: Arc<dyn Writable>,
    seen: Arc<Mutex<Seen>>,
    keep_spools: bool,
}

#[derive(Default)]
struct Seen {
    calls: Vec<Call>,
    spools: Vec<Arc<Mutex<SpoolSeen>>>,
}

impl Recording {
    /// Around `inner`.
    pub fn new(inner: Arc<dyn Writable>) -> Self {
        Self { inner, seen: Arc::default(), keep_spools: false }
    }

    /// Around `inner`, keeping all bytes that went into any spool, put or not.
    pub fn keeping_spools(inner: Arc<dyn Writable>) -> Self {
        Self { keep_spools: true, ..Self::new(inner) }
    }

    /// All calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.seen().calls.clone()
    }

    /// All calls since the last time, which are then forgotten.
    pub fn take(&self) -> Vec<Call> {
        std::mem::take(&mut self.seen().calls)
    }

    /// How many calls so far would have cost a round trip.
    pub fn round_trips(&self) -> usize {
        self.seen().calls.iter().filter(|call| call.is_round_trip()).count()
    }

    /// What went into each spool so far, in the order they were begun.
    pub fn spools(&self) -> Vec<SpoolSeen> {
        let spools = self.seen().spools.clone();
        spools.iter().map(|spool| spool.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, call: Call) {
        self.seen().calls.push(call);
    }
}

impl BlobReader for Recording {
    fn get(&self, key: BlobKey, range: Range) -> BoxFuture<'_, Result<Got, StoreError>> {
        self.note(Call::Get { key, range });
        self.inner.get(key, range)
    }

    fn list(&self, kind: BlobKind) -> BoxFuture<'_, Result<Vec<(BlobKey, u64)>, StoreError>> {
        self.note(Call::List(kind));
        self.inner.list(kind)
    }

    fn grid(&self) -> u64 {
        self.inner.grid()
    }
}

impl BlobWriter for Recording {
    fn spool(&self) -> Result<Spool, StoreError> {
        self.note(Call::Spool);
        let spool = self.inner.spool()?;
        if !self.keep_spools {
            return Ok(spool);
        }
        let kept = Arc::new(Mutex::new(SpoolSeen::default()));
        self.seen().spools.push(Arc::clone(&kept));
        Ok(spool.watched(move |bytes| {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.bytes.extend_from_slice(bytes);
            kept.writes.push(bytes.len());
            Ok(())
        }))
    }

    fn put(&self, key: BlobKey, spool: Spool) -> BoxFuture<'_, Result<(), StoreError>> {
        self.note(Call::Put { key, len: spool.len() });
        self.inner.put(key, spool)
    }
}

impl LedgerReader for Recording {
    fn vault(&self) -> BoxFuture<'_, Result<VaultId, StoreError>> {
        self.note(Call::Vault);
        self.inner.vault()
    }

    fn version(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.note(Call::Version);
        self.inner.version()
    }

    fn snapshots(&self) -> BoxFuture<'_, Result<SnapshotList, StoreError>> {
        self.note(Call::Snapshots);
        self.inner.snapshots()
    }

    fn sessions(&self) -> BoxFuture<'_, Result<SessionList, StoreError>> {
        self.note(Call::Sessions);
        self.inner.sessions()
    }

    fn space(&self) -> BoxFuture<'_, Result<(u64, Option<u64>), StoreError>> {
        self.note(Call::Space);
        self.inner.space()
    }
}

impl LedgerWriter for Recording {
    fn open_session(&self, device: DeviceId, now: Timestamp) -> BoxFuture<'_, Result<Opened, StoreError>> {
        self.note(Call::OpenSession(device));
        self.inner.open_session(device, now)
    }

    fn commit<'a>(&'a self, device: DeviceId, commit: &'a Commit) -> BoxFuture<'a, Result<(), StoreError>> {
        self.note(Call::Commit(commit.snapshot.session));
        self.inner.commit(device, commit)
    }

    fn revive<'a>(&'a self, packs: &'a [PackRun]) -> BoxFuture<'a, Result<Counters, StoreError>> {
        self.note(Call::Revive);
        self.inner.revive(packs)
    }
}
