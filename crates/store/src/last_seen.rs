//! A vault as it was last seen, until its store is reached.
//!
//! **What it is.** [`LastSeen`] fills the port with a list of snapshots that somebody remembered; everything else is
//! `Unavailable`, at once. When the store is reached it is handed in, and answers from then on.
//! **What it may not do.** Look for the store; believe or check the list: whoever made it and whoever hands the store in
//! does.
//! **What always holds.** From the moment the store is handed in nothing remembered is answered any more.
//! **Where it is tested.** Below.

use crate::{
    BlobKey, BlobKind, BlobReader, BlobWriter, BoxFuture, ErrorKind, Got, LedgerReader, LedgerWriter, Opened,
    Range, SessionList, SnapshotList, Spool, StoreError, Writable,
};
use backupengine_model::ledger::{Commit, Counters, PackRun};
use backupengine_model::{DeviceId, Timestamp, VaultId};
use std::sync::{Arc, OnceLock};

/// See the module.
pub struct LastSeen {
    vault: VaultId,
    list: SnapshotList,
    used: u64,
    grid: u64,
    store: OnceLock<Arc<dyn Writable>>,
}

impl LastSeen {
    /// With the list as it was, the bytes the vault took, and the grid of the store that is away.
    pub fn new(vault: VaultId, list: SnapshotList, used: u64, grid: u64) -> Self {
        Self { vault, list, used, grid, store: OnceLock::new() }
    }

    /// The store is reached: it answers from now on. A second one changes nothing.
    pub fn reached(&self, store: Arc<dyn Writable>) {
        drop(self.store.set(store));
    }

    /// Whether the store was not reached yet.
    pub fn is_away(&self) -> bool {
        self.store.get().is_none()
    }

    fn or_away<'a, T: Send + 'a>(
        &'a self,
        ask: impl FnOnce(&'a Arc<dyn Writable>) -> BoxFuture<'a, Result<T, StoreError>>,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        match self.store.get() {
            Some(store) => ask(store),
            None => Box::pin(async { Err(away()) }),
        }
    }
}

fn away() -> StoreError {
    StoreError::new(ErrorKind::Unavailable, "where the vault is stored was not reached yet")
}

impl BlobReader for LastSeen {
    fn get(&self, key: BlobKey, range: Range) -> BoxFuture<'_, Result<Got, StoreError>> {
        match self.store.get() {
            Some(store) => store.get(key, range),
            None => Box::pin(async move { Err(away().about(key)) }),
        }
    }

    fn list(&self, kind: BlobKind) -> BoxFuture<'_, Result<Vec<(BlobKey, u64)>, StoreError>> {
        self.or_away(|store| store.list(kind))
    }

    fn grid(&self) -> u64 {
        self.grid
    }
}

impl LedgerReader for LastSeen {
    fn vault(&self) -> BoxFuture<'_, Result<VaultId, StoreError>> {
        Box::pin(async { Ok(self.vault) })
    }

    fn version(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        match self.store.get() {
            Some(store) => store.version(),
            None => Box::pin(async { Ok(self.list.version) }),
        }
    }

    fn snapshots(&self) -> BoxFuture<'_, Result<SnapshotList, StoreError>> {
        match self.store.get() {
            Some(store) => store.snapshots(),
            None => Box::pin(async { Ok(self.list.clone()) }),
        }
    }

    fn sessions(&self) -> BoxFuture<'_, Result<SessionList, StoreError>> {
        self.or_away(|store| store.sessions())
    }

    fn space(&self) -> BoxFuture<'_, Result<(u64, Option<u64>), StoreError>> {
        match self.store.get() {
            Some(store) => store.space(),
            None => Box::pin(async { Ok((self.used, None)) }),
        }
    }
}

impl BlobWriter for LastSeen {
    fn spool(&self) -> Result<Spool, StoreError> {
        self.store.get().ok_or_else(away)?.spool()
    }

    fn put(&self, key: BlobKey, spool: Spool) -> BoxFuture<'_, Result<(), StoreError>> {
        self.or_away(|store| store.put(key, spool))
    }
}

impl LedgerWriter for LastSeen {
    fn open_session(&self, device: DeviceId, now: Timestamp) -> BoxFuture<'_, Result<Opened, StoreError>> {
        self.or_away(|store| store.open_session(device, now))
    }

    fn commit<'a>(&'a self, device: DeviceId, commit: &'a Commit) -> BoxFuture<'a, Result<(), StoreError>> {
        self.or_away(|store| store.commit(device, commit))
    }

    fn revive<'a>(&'a self, packs: &'a [PackRun]) -> BoxFuture<'a, Result<Counters, StoreError>> {
        self.or_away(|store| store.revive(packs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;
    use backupengine_model::SessionNo;
    use std::task::{Context, Poll, Waker};

    fn now<T>(answer: BoxFuture<'_, T>) -> T {
        let mut answer = answer;
        match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => answer,
            Poll::Pending => panic!("it waits"),
        }
    }

    #[test]
    fn what_was_seen_is_answered_until_the_store_is_reached() {
        let vault = VaultId([7; 16]);
        let seen = SnapshotList { version: 5, snapshots: Vec::new() };
        let store = LastSeen::new(vault, seen, 123, 65_536);
        let root = BlobKey::Root(SessionNo(1));
        assert!(store.is_away());
        assert_eq!((now(store.vault()).unwrap(), now(store.version()).unwrap()), (vault, 5));
        assert_eq!(now(store.snapshots()).unwrap().version, 5);
        assert_eq!((now(store.space()).unwrap(), store.grid()), ((123, None), 65_536));
        let error = now(store.get(root, Range::Whole)).unwrap_err();
        assert_eq!((error.kind, error.key), (ErrorKind::Unavailable, Some(root)));
        assert_eq!(now(store.list(BlobKind::Roots)).unwrap_err().kind, ErrorKind::Unavailable);
        assert_eq!(store.spool().unwrap_err().kind, ErrorKind::Unavailable);

        let real = MemoryStore::new(vault);
        store.reached(Arc::new(real.clone()));
        assert!(!store.is_away());
        assert_eq!(now(store.version()).unwrap(), now(real.version()).unwrap());
        assert_eq!(now(store.get(root, Range::Whole)).unwrap_err().kind, ErrorKind::NotFound);
        assert!(now(store.list(BlobKind::Roots)).unwrap().is_empty());
    }
}
