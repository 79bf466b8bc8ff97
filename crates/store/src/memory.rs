//! A vault in memory, for tests of everything above the port. As strict as the folder.
//!
//! May not be kinder than a real store. What always holds: the same answers and the same errors as
//! [`FolderStore`](crate::FolderStore), which the conformance suite in `tests/stores` compares.

use crate::folder::used;
use crate::port::{BlobReader, BlobWriter, BoxFuture, Got, LedgerReader, LedgerWriter, Range, SnapshotList};
use crate::spool::Written;
use crate::{BlobKey, BlobKind, ErrorKind, Spool, StoreError};
use backupengine_model::ledger::{Commit, LedgerState, RuleBroken, SessionRecord};
use backupengine_model::{DeviceId, SessionNo, Timestamp, VaultId};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A vault in memory; clones are handles on the same vault.
#[derive(Clone)]
pub struct MemoryStore {
    vault: VaultId,
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
        Self { vault, held: Arc::default() }
    }

    /// A vault of its own with the same content: what it was at this moment.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self { vault: self.vault, held: Arc::new(Mutex::new(self.held().clone())) }
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
        match self.held().blobs.entry(key) {
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

    fn sessions(&self) -> BoxFuture<'_, Result<Vec<SessionRecord>, StoreError>> {
        Box::pin(async move { Ok(self.held().ledger.sessions.clone()) })
    }

    fn space(&self) -> BoxFuture<'_, Result<(u64, Option<u64>), StoreError>> {
        Box::pin(async move { Ok((used(&self.held().ledger), None)) })
    }
}

impl LedgerWriter for MemoryStore {
    fn open_session(&self, device: DeviceId, now: Timestamp) -> BoxFuture<'_, Result<SessionNo, StoreError>> {
        Box::pin(async move { self.held().ledger.open(device, now).map_err(StoreError::rule) })
    }

    fn commit<'a>(&'a self, device: DeviceId, commit: &'a Commit) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.commit_now(device, commit) })
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryStore({}, {} blobs)", self.vault, self.held().blobs.len())
    }
}
