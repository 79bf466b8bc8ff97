//! A store that refuses whatever some real store could refuse.
//!
//! May not be kinder than a control plane with presigned URLs: it signs a `get` only for blobs of committed
//! sessions and of the caller's own, a `put` only into the caller's own open session, and it compares a commit
//! with what was really stored. Runs the conformance suite in `tests/stores`.

use backupengine_model::ledger::{Commit, Counters, PackRun, SessionState};
use backupengine_model::{DeviceId, SessionNo, Timestamp, VaultId};
use backupengine_store::{
    BlobKey, BlobKind, BlobReader, BlobWriter, BoxFuture, ErrorKind, Got, LedgerReader, LedgerWriter, Opened,
    Range, SessionList, SnapshotList, Spool, StoreError, Writable,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Multiples of which a store that watches is read in.
const WATCHED_GRID: u64 = 65_536;

/// A store that refuses whatever some real store could refuse: the handle of one device. Clones are the same
/// handle.
#[derive(Clone)]
pub struct Strict {
    inner: Arc<dyn Writable>,
    watching: bool,
    /// Sizes of what this handle put, by its own sessions.
    own: Arc<Mutex<BTreeMap<SessionNo, BTreeMap<BlobKey, u64>>>>,
}

fn refused(key: BlobKey, why: &str) -> StoreError {
    StoreError::new(ErrorKind::Denied, format!("refused: {why}")).about(key)
}

impl Strict {
    /// Around `inner`.
    pub fn new(inner: Arc<dyn Writable>) -> Self {
        Self { inner, watching: false, own: Arc::default() }
    }

    /// Around `inner`, and on a grid: reads that are not whole multiples of it are refused.
    pub fn watching(inner: Arc<dyn Writable>) -> Self {
        Self { watching: true, ..Self::new(inner) }
    }

    fn own(&self) -> MutexGuard<'_, BTreeMap<SessionNo, BTreeMap<BlobKey, u64>>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn may_get(&self, key: BlobKey, range: Range) -> Result<(), StoreError> {
        let aligned = match range {
            Range::Whole => true,
            Range::At { offset, len } => offset % WATCHED_GRID == 0 && len % WATCHED_GRID == 0,
            Range::Suffix(len) => len % WATCHED_GRID == 0,
        };
        if self.watching && !aligned {
            return Err(refused(key, &format!("{range:?} tells the length of a frame")));
        }
        let (session, number) = match key {
            BlobKey::Envelope(_) => return Ok(()),
            BlobKey::Pack(session, number) => (session, Some(number)),
            BlobKey::Root(session) => (session, None),
        };
        if self.own().contains_key(&session) {
            return Ok(());
        }
        let sessions = self.inner.sessions().await?;
        let counts = sessions.iter().any(|s| {
            s.session == session
                && s.state == SessionState::Committed
                && number.is_none_or(|number| number < s.packs)
        });
        if counts { Ok(()) } else { Err(refused(key, "no committed session holds this blob")) }
    }

    fn may_put(&self, key: BlobKey, len: u64) -> Result<(), StoreError> {
        if len == 0 {
            return Err(refused(key, "a blob must not be empty"));
        }
        let session = match key {
            BlobKey::Envelope(_) => return Ok(()),
            BlobKey::Pack(session, _) | BlobKey::Root(session) => session,
        };
        let own = self.own();
        let Some(put) = own.get(&session) else {
            return Err(refused(key, "the session was not opened by this device"));
        };
        if put.contains_key(&BlobKey::Root(session)) && key != BlobKey::Root(session) {
            return Err(refused(key, "the root comes last"));
        }
        Ok(())
    }

    fn may_commit(&self, commit: &Commit) -> Result<(), StoreError> {
        let session = commit.snapshot.session;
        let root = BlobKey::Root(session);
        let own = self.own();
        let Some(put) = own.get(&session) else { return Ok(()) };
        let largest = put.keys().filter_map(|key| match key {
            BlobKey::Pack(_, number) => Some(*number),
            _ => None,
        });
        if largest.max().is_some_and(|number| number >= commit.packs) {
            return Err(refused(root, "there are packs the commit does not count"));
        }
        let bytes: u64 = put.values().sum();
        if put.contains_key(&root) && bytes != commit.bytes {
            return Err(refused(
                root,
                &format!("{bytes} bytes are stored, the commit says {}", commit.bytes),
            ));
        }
        Ok(())
    }
}

impl BlobReader for Strict {
    fn get(&self, key: BlobKey, range: Range) -> BoxFuture<'_, Result<Got, StoreError>> {
        Box::pin(async move {
            self.may_get(key, range).await?;
            self.inner.get(key, range).await
        })
    }

    fn list(&self, kind: BlobKind) -> BoxFuture<'_, Result<Vec<(BlobKey, u64)>, StoreError>> {
        self.inner.list(kind)
    }

    fn grid(&self) -> u64 {
        if self.watching { WATCHED_GRID } else { self.inner.grid() }
    }
}

impl BlobWriter for Strict {
    fn spool(&self) -> Result<Spool, StoreError> {
        self.inner.spool()
    }

    fn put(&self, key: BlobKey, spool: Spool) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let len = spool.len();
            self.may_put(key, len)?;
            self.inner.put(key, spool).await?;
            if let BlobKey::Pack(session, _) | BlobKey::Root(session) = key
                && let Some(put) = self.own().get_mut(&session)
            {
                put.insert(key, len);
            }
            Ok(())
        })
    }
}

impl LedgerReader for Strict {
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

impl LedgerWriter for Strict {
    fn open_session(&self, device: DeviceId, now: Timestamp) -> BoxFuture<'_, Result<Opened, StoreError>> {
        Box::pin(async move {
            let opened = self.inner.open_session(device, now).await?;
            self.own().insert(opened.session, BTreeMap::new());
            Ok(opened)
        })
    }

    fn commit<'a>(&'a self, device: DeviceId, commit: &'a Commit) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.may_commit(commit)?;
            self.inner.commit(device, commit).await?;
            // From here on nothing may be put into it any more.
            self.own().remove(&commit.snapshot.session);
            Ok(())
        })
    }

    fn revive<'a>(&'a self, packs: &'a [PackRun]) -> BoxFuture<'a, Result<Counters, StoreError>> {
        self.inner.revive(packs)
    }
}
