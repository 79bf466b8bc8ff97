//! A vault in a local folder.
//!
//! **What it is.** The store port over files: [`layout`] says what lies where, [`blobs`] and [`ledger`] do it,
//! [`durable`] knows what a power cut leaves, [`sweep`] what a killed process leaves; [`upkeep`] gives space back.
//!
//! **What it may not do.** Wait for anything but the disk and the lock of the vault: every answer is there
//! within the first poll.
//!
//! **What always holds.** Safe for any number of threads and processes at once; reading takes no lock and works
//! on a read-only filesystem.
//!
//! **Where it is tested.** Beside the parts; the promise as a whole in `tests/stores` and `tests/protocol`.

mod blobs;
mod durable;
mod envelopes;
mod layout;
mod ledger;
mod record;
mod sweep;
mod upkeep;

pub(crate) use sweep::{private_folder, spool_file, sweep_spools};
pub(crate) use upkeep::is_gone;

use crate::port::{
    BlobReader, BlobWriter, BoxFuture, EnvelopeChange, EnvelopeInfo, EnvelopeKeeper, Got, LedgerReader,
    LedgerWriter, Opened, Range, SessionList, SnapshotList,
};
use crate::{BlobKey, BlobKind, Spool, StoreError};
use backupengine_model::ledger::{Commit, Counters, LedgerState, PackRun, RuleBroken, SessionKind};
use backupengine_model::{DeviceId, Timestamp, VaultId};
use blobs::BlobFiles;
use ledger::LedgerFile;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// A vault in a local folder; cheap to clone.
#[derive(Clone)]
pub struct FolderStore {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    vault: VaultId,
    blobs: BlobFiles,
    ledger: LedgerFile,
    clock: Clock,
}

/// The ledger's clock.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The system's.
pub(crate) fn system_clock() -> Clock {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp { secs: since.as_secs().try_into().unwrap_or(i64::MAX), nanos: since.subsec_nanos() }
    })
}

impl FolderStore {
    /// Makes an empty vault in `folder`, which must not exist or be empty. Nothing is left behind on failure.
    ///
    /// # Errors
    /// `AlreadyExists` where the folder holds something, `Denied`, `Full`, `Io`.
    pub fn create(folder: &Path, vault: VaultId) -> Result<Self, StoreError> {
        layout::create(folder, vault)?;
        Self::open(folder)
    }

    /// Opens an existing vault. A ledger that is missing or damaged is told by the first call that needs it.
    ///
    /// # Errors
    /// `NotAVault`, `TooNew`, `Denied`, `Io`.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Self::open_by(folder, system_clock())
    }

    /// As [`Self::open`], with a clock of one's own for trash, leases and grace.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_by(folder: &Path, clock: Clock) -> Result<Self, StoreError> {
        let vault = layout::read_marker(folder)?;
        // Absolute, so that a later change of the working folder does not move the vault.
        let folder = std::path::absolute(folder).map_err(|e| StoreError::from_io("read", folder, e))?;
        let (blobs, ledger) = (BlobFiles::new(&folder), LedgerFile::new(&folder, vault));
        Ok(Self { inner: Arc::new(Inner { folder, vault, blobs, ledger, clock }) })
    }

    /// The folder, as an absolute path.
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    fn space_now(&self) -> Result<(u64, Option<u64>), StoreError> {
        let used = used(&*self.inner.ledger.state()?);
        let free = rustix::fs::statvfs(&self.inner.folder)
            .ok()
            .map(|found| found.f_bavail.saturating_mul(found.f_frsize));
        Ok((used, free))
    }

    fn commit_now(&self, device: DeviceId, commit: &Commit) -> Result<(), StoreError> {
        let root = BlobKey::Root(commit.snapshot.session);
        self.inner.ledger.change(false, |state| {
            let already = state.snapshots.contains(&commit.snapshot);
            state.commit(device, commit).map_err(StoreError::rule)?;
            let stored = std::fs::metadata(layout::blob_path(&self.inner.folder, root)).map(|m| m.len()).ok();
            if already || stored == Some(commit.snapshot.root_size) {
                Ok(())
            } else {
                Err(StoreError::rule(RuleBroken::RootNotStored).about(root))
            }
        })
    }
}

/// Bytes of all committed sessions. What broken-off sessions left is not counted: only a walk would tell.
pub(crate) fn used(state: &LedgerState) -> u64 {
    state.sessions.iter().fold(0, |sum, session| sum.saturating_add(session.bytes))
}

impl BlobReader for FolderStore {
    fn get(&self, key: BlobKey, range: Range) -> BoxFuture<'_, Result<Got, StoreError>> {
        Box::pin(async move { self.inner.blobs.get(key, range) })
    }

    fn list(&self, kind: BlobKind) -> BoxFuture<'_, Result<Vec<(BlobKey, u64)>, StoreError>> {
        Box::pin(async move {
            match kind {
                BlobKind::Envelopes => envelopes::list(&self.inner.blobs, &self.inner.ledger),
                kind => self.inner.blobs.list(kind),
            }
        })
    }

    /// Nobody watches a local disk.
    fn grid(&self) -> u64 {
        1
    }
}

impl BlobWriter for FolderStore {
    fn spool(&self) -> Result<Spool, StoreError> {
        self.inner.blobs.spool()
    }

    fn put(&self, key: BlobKey, spool: Spool) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            if let BlobKey::Envelope(_) = key {
                envelopes::refuse_beside(&self.inner.ledger, key)?;
            }
            self.inner.blobs.put(key, spool)
        })
    }
}

impl LedgerReader for FolderStore {
    /// Out of the marker, so that a vault with a damaged ledger still says which one it is.
    fn vault(&self) -> BoxFuture<'_, Result<VaultId, StoreError>> {
        Box::pin(async move { Ok(self.inner.vault) })
    }

    fn version(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move { Ok(self.inner.ledger.state()?.version) })
    }

    fn snapshots(&self) -> BoxFuture<'_, Result<SnapshotList, StoreError>> {
        Box::pin(async move {
            let state = self.inner.ledger.state()?;
            Ok(SnapshotList { version: state.version, snapshots: state.snapshots.clone() })
        })
    }

    fn sessions(&self) -> BoxFuture<'_, Result<SessionList, StoreError>> {
        Box::pin(async move {
            let state = self.inner.ledger.state()?;
            Ok(SessionList { gc_epoch: state.gc_epoch, sessions: state.sessions.clone() })
        })
    }

    fn space(&self) -> BoxFuture<'_, Result<(u64, Option<u64>), StoreError>> {
        Box::pin(async move { self.space_now() })
    }
}

impl LedgerWriter for FolderStore {
    /// By the ledger's own clock, as everything that is compared with it: another device may be the one that collects.
    fn open_session(&self, device: DeviceId, _: Timestamp) -> BoxFuture<'_, Result<Opened, StoreError>> {
        Box::pin(async move {
            let now = (self.inner.clock)();
            self.inner.ledger.change(true, |state| {
                let session = state.open(device, SessionKind::Push, now).map_err(StoreError::rule)?;
                Ok(Opened { session, version: state.version, gc_epoch: state.gc_epoch })
            })
        })
    }

    fn commit<'a>(&'a self, device: DeviceId, commit: &'a Commit) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.commit_now(device, commit) })
    }

    fn revive<'a>(&'a self, packs: &'a [PackRun]) -> BoxFuture<'a, Result<Counters, StoreError>> {
        Box::pin(async move {
            self.inner.ledger.change(false, |state| state.revive(packs).map_err(StoreError::rule))
        })
    }
}

impl EnvelopeKeeper for FolderStore {
    fn envelopes(&self) -> BoxFuture<'_, Result<Vec<EnvelopeInfo>, StoreError>> {
        Box::pin(async move { envelopes::infos(&self.inner.folder, &self.inner.blobs, &self.inner.ledger) })
    }

    fn change_envelopes<'a>(&'a self, change: &'a EnvelopeChange) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let Inner { folder, blobs, ledger, .. } = &*self.inner;
            envelopes::change(folder, blobs, ledger, change, &|| Ok(()))
        })
    }
}

impl fmt::Debug for FolderStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FolderStore({})", self.inner.folder.display())
    }
}
