//! The port itself: each answer runs on this crate's runtime, so that it may be awaited anywhere.
use super::{Core, PresignedStore};
use backupengine_model::ledger::{Commit, Counters, PackRun};
use backupengine_model::{DeviceId, Timestamp, VaultId};
use backupengine_store::{
    BlobKey, BlobKind, BlobReader, BlobWriter, BoxFuture, EnvelopeChange, EnvelopeInfo, EnvelopeKeeper,
    ErrorKind, Got, LedgerReader, LedgerWriter, Opened, Range, SessionList, SnapshotList, Spool, StoreError,
};
use bytes::Bytes;
use std::sync::Arc;

/// Reads are widened to this, so that storage learns no frame lengths.
const GRID: u64 = 64 << 10;

impl PresignedStore {
    pub(super) fn run<T, F>(
        &self,
        work: impl FnOnce(Arc<Core>) -> F + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let core = Arc::clone(&self.core);
        Box::pin(async move {
            let task = core.runtime.spawn(work(Arc::clone(&core)));
            task.await.unwrap_or_else(|error| {
                Err(StoreError::new(ErrorKind::Io, "the work for object storage broke off").caused_by(error))
            })
        })
    }
}

impl BlobReader for PresignedStore {
    fn get(&self, key: BlobKey, range: Range) -> BoxFuture<'_, Result<Got, StoreError>> {
        self.run(move |core| async move {
            let BlobKey::Envelope(wanted) = key else { return core.get_blob(key, range).await };
            let found = core.envelopes().await?.into_iter().find(|(id, _)| *id == wanted);
            let Some((_, sealed)) = found else {
                return Err(StoreError::new(ErrorKind::NotFound, "the control plane knows no such envelope")
                    .about(key));
            };
            let total = sealed.len() as u64;
            let Some((offset, len)) = range.resolve(total) else {
                return Err(
                    StoreError::new(ErrorKind::BadRange, "the range lies outside the envelope").about(key)
                );
            };
            let part = offset as usize..(offset + len) as usize;
            Ok(Got { bytes: Bytes::from(sealed).slice(part), offset, total })
        })
    }

    fn list(&self, kind: BlobKind) -> BoxFuture<'_, Result<Vec<(BlobKey, u64)>, StoreError>> {
        self.run(move |core| async move { core.list_blobs(kind).await })
    }

    fn expect(&self, keys: &[BlobKey]) {
        self.core.expect(keys);
    }

    fn grid(&self) -> u64 {
        GRID
    }
}

impl BlobWriter for PresignedStore {
    fn spool(&self) -> Result<Spool, StoreError> {
        self.core.spools.spool()
    }

    fn put(&self, key: BlobKey, spool: Spool) -> BoxFuture<'_, Result<(), StoreError>> {
        self.run(move |core| async move { core.put_blob(key, spool).await })
    }
}

impl EnvelopeKeeper for PresignedStore {
    fn envelopes(&self) -> BoxFuture<'_, Result<Vec<EnvelopeInfo>, StoreError>> {
        self.run(move |core| async move { core.envelope_infos().await })
    }

    fn change_envelopes<'a>(&'a self, change: &'a EnvelopeChange) -> BoxFuture<'a, Result<(), StoreError>> {
        let change = change.clone();
        self.run(move |core| async move { core.change_keys(&change, Vec::new()).await })
    }
}

impl LedgerReader for PresignedStore {
    fn vault(&self) -> BoxFuture<'_, Result<VaultId, StoreError>> {
        let vault = self.core.vault;
        Box::pin(async move { Ok(vault) })
    }

    fn version(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.run(|core| async move { core.version().await })
    }

    fn snapshots(&self) -> BoxFuture<'_, Result<SnapshotList, StoreError>> {
        self.run(|core| async move { core.snapshots().await })
    }

    fn sessions(&self) -> BoxFuture<'_, Result<SessionList, StoreError>> {
        self.run(|core| async move { core.sessions().await })
    }

    fn space(&self) -> BoxFuture<'_, Result<(u64, Option<u64>), StoreError>> {
        self.run(|core| async move { core.space().await })
    }
}

impl LedgerWriter for PresignedStore {
    /// The control plane's clock counts, not `now`.
    fn open_session(&self, device: DeviceId, _now: Timestamp) -> BoxFuture<'_, Result<Opened, StoreError>> {
        self.run(move |core| async move { core.open_session(device).await })
    }

    fn commit<'a>(&'a self, device: DeviceId, commit: &'a Commit) -> BoxFuture<'a, Result<(), StoreError>> {
        let commit = commit.clone();
        self.run(move |core| async move { core.commit(device, &commit).await })
    }

    fn revive<'a>(&'a self, packs: &'a [PackRun]) -> BoxFuture<'a, Result<Counters, StoreError>> {
        let packs = packs.to_vec();
        self.run(move |core| async move { core.revive(&packs).await })
    }
}
