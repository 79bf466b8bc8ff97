//! Upkeep of a folder vault: what its ledger decides is done to the files here.
//!
//! **What it may not do.** Decide what may go: `model::ledger` does. **What always holds.** A blob is deleted after the
//! ledger, durably, says it is gone; what a killed process left undeleted goes with the next purge. Roots go before
//! packs, so that no root ever lacks one. **Where it is tested.** By the conformance suite in `tests/stores`; stopped
//! after every step in `tests/protocol`.

use super::{FolderStore, layout};
use crate::port::{BoxFuture, Collection, Collector, Keeper};
use crate::{BlobKey, BlobKind, StoreError};
use backupengine_model::ledger::{
    Adopted, Counters, FoundSession, Haste, Kept, LedgerState, Move, PackRun, RuleBroken, SessionKind,
    SessionState,
};
use backupengine_model::{DeviceId, SessionNo, Timestamp};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

impl FolderStore {
    fn decide<T>(
        &self,
        step: impl FnOnce(&mut LedgerState) -> Result<T, RuleBroken>,
    ) -> Result<T, StoreError> {
        self.inner.ledger.change(false, |state| step(state).map_err(StoreError::rule))
    }

    /// When something was last stored of a session: putting a pack touches its folder.
    fn seen(&self, session: SessionNo) -> Option<Timestamp> {
        let path = self.inner.folder.join("p").join(session.to_string());
        let found = fs::metadata(path).ok()?;
        Some(Timestamp { secs: found.mtime(), nanos: found.mtime_nsec().try_into().unwrap_or(0) })
    }

    fn size(&self, key: BlobKey) -> u64 {
        fs::metadata(layout::blob_path(&self.inner.folder, key)).map_or(0, |found| found.len())
    }

    fn purge_now(&self, packs: &[PackRun], haste: Haste) -> Result<Vec<PackRun>, StoreError> {
        let now = (self.inner.clock)();
        let size = |session, number| self.size(BlobKey::Pack(session, number));
        let gone = self.decide(|state| state.purge(packs, now, haste, &size))?;
        self.sweep()?;
        Ok(gone)
    }

    /// Deletes every blob that the ledger says is gone.
    fn sweep(&self) -> Result<(), StoreError> {
        let stored: Vec<_> =
            [BlobKind::Roots, BlobKind::Packs].into_iter().map(|kind| self.inner.blobs.list(kind)).collect();
        // Read after the list: what was committed meanwhile is in it.
        let state = self.inner.ledger.state()?;
        for kind in stored {
            for (key, _) in kind?.into_iter().filter(|(key, _)| is_gone(&state, *key)) {
                self.inner.blobs.delete(key)?;
            }
        }
        Ok(())
    }

    /// Has the ledger take in what was found of the blobs and it does not know: all of it where it is missing or damaged.
    /// `gone` says where frames lie of packs that are not stored. Says what was new to it, and whether it did not read; it
    /// was put aside then.
    ///
    /// # Errors
    /// `TooNew`, `Denied`, `Full`, `Io`. The ledger is then as it was, or missing.
    pub fn adopt(
        &self,
        found: &[FoundSession],
        gone: &BTreeMap<(SessionNo, u32), (SessionNo, u32)>,
    ) -> Result<(Adopted, bool), StoreError> {
        let now = (self.inner.clock)();
        self.inner.ledger.rebuild(|state| Ok(state.adopt(found, gone, now)))
    }

    /// Puts a damaged blob aside, in the same folder under a name that is no blob's, so that its own bytes can be stored
    /// again. One that is not there is no error.
    ///
    /// # Errors
    /// `Denied`, `Io`.
    pub fn set_aside(&self, key: BlobKey) -> Result<(), StoreError> {
        self.inner.blobs.set_aside(key)
    }

    /// Keeps what a mount has opened from being purged for the next hour; `id` is the mount's own.
    ///
    /// # Errors
    /// Where the ledger cannot be written: the vault is only read then, and nobody purges.
    pub fn lease(&self, id: [u8; 16], opened: &[SessionNo]) -> Result<(), StoreError> {
        let now = (self.inner.clock)();
        self.decide(|state| {
            state.lease(id, opened, now);
            Ok(())
        })
    }

    /// Ends a lease.
    ///
    /// # Errors
    /// As [`Self::lease`].
    pub fn release(&self, id: [u8; 16]) -> Result<(), StoreError> {
        self.decide(|state| {
            state.release(id);
            Ok(())
        })
    }
}

/// Whether the ledger says that a stored blob is gone.
pub(crate) fn is_gone(state: &LedgerState, key: BlobKey) -> bool {
    match key {
        BlobKey::Root(session) => state.is_rootless(session),
        BlobKey::Pack(session, number) => state.session(session).is_some_and(|s| {
            s.state == SessionState::Expired
                || s.deleted.contains(&number)
                || s.moved.get(&number).is_some_and(|moved| moved.gone)
        }),
        BlobKey::Envelope(_) => false,
    }
}

impl Keeper for FolderStore {
    fn trash<'a>(&'a self, sessions: &'a [SessionNo]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.decide(|state| state.trash(sessions, (self.inner.clock)())) })
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
        Box::pin(async move { Ok(self.inner.ledger.state()?.kept()) })
    }
}

impl Collector for FolderStore {
    fn begin_collection(&self, haste: Haste) -> BoxFuture<'_, Result<Collection, StoreError>> {
        Box::pin(async move {
            let now = (self.inner.clock)();
            self.decide(|state| {
                let snapshots = state.begin_collection(now, haste, &|session| self.seen(session));
                Ok(Collection { counters: state.counters(), snapshots })
            })
        })
    }

    fn retire<'a>(
        &'a self,
        at: Counters,
        packs: &'a [PackRun],
    ) -> BoxFuture<'a, Result<Counters, StoreError>> {
        Box::pin(async move { self.decide(|state| state.retire(at, packs, (self.inner.clock)())) })
    }

    fn relocate<'a>(
        &'a self,
        at: Counters,
        moves: &'a [Move],
    ) -> BoxFuture<'a, Result<Counters, StoreError>> {
        Box::pin(async move { self.decide(|state| state.relocate(at, moves, (self.inner.clock)())) })
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
        Box::pin(async move {
            let now = (self.inner.clock)();
            self.inner.ledger.change(true, |state| state.open(device, kind, now).map_err(StoreError::rule))
        })
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
