//! Unlocks a vault and reads it: snapshots, trees, contents.
//!
//! **What it is.** A blocking reader ([`Vault`], which fills the two read ports of `model`) over an async
//! fetcher. A locked and an unlocked vault are two types.
//!
//! **What it may not do.** Put blobs, speak HTTP, write user files. It asks for the reading traits only.
//!
//! **What always holds.** Nothing is returned that was not authenticated; memory stays within the configured
//! budget; nothing opened rests on disk.
//!
//! **Where it is tested.** `tests/oracle`, `tests/damage`, `tests/mount`; fetch counts there.
#![forbid(unsafe_code)]

use backupengine_format::FormatError;
use backupengine_format::page::LeafPage;
use backupengine_format::root::RootRecord;
use backupengine_model::{DeviceId, FrameKind, FrameRef, RootHash, SessionNo, SnapshotInfo, VaultId};
use backupengine_seal::{Keyring, RootKey, UnlockSecret};
use backupengine_store::Readable;
use bytes::Bytes;
use std::sync::Arc;

/// Budgets.
#[derive(Clone, Debug)]
pub struct VaultConfig {
    /// Bytes for opened data frames and pages together.
    pub memory: u64,
    /// Threads that fetch and open ahead of need.
    pub read_ahead_threads: usize,
}
/// A vault whose keys are not known.
pub struct Locked {
    _todo: (),
}
/// Keys just opened, with the root key where a recovery code did it.
pub struct Unlocked {
    pub vault: Vault,
    pub root_key: Option<RootKey>,
}
/// Why a vault did not open or a read did not work. (typed, thiserror, non_exhaustive)
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    #[error("the secret does not open this vault")]
    WrongSecret,
    #[error("a stored object is damaged: {0}")]
    Format(#[from] FormatError),
    #[error("the store could not answer")]
    Store(#[from] backupengine_store::StoreError),
}
impl Locked {
    /// Reads the vault's id and envelopes; nothing else.
    pub fn open(_store: Arc<dyn Readable>) -> Result<Self, VaultError> {
        todo!()
    }
    pub fn vault(&self) -> VaultId {
        todo!()
    }
    /// Tries the envelopes of the secret's kind.
    pub fn unlock(self, _secret: &UnlockSecret<'_>, _config: VaultConfig) -> Result<Unlocked, VaultError> {
        todo!()
    }
    /// With an envelope that is kept elsewhere (on this device).
    pub fn unlock_with(
        self,
        _envelope: &[u8],
        _secret: &UnlockSecret<'_>,
        _config: VaultConfig,
    ) -> Result<Unlocked, VaultError> {
        todo!()
    }
}
/// An unlocked vault; cheap to clone, used from many threads. Fills `TreeReader` and `ContentReader`.
#[derive(Clone)]
pub struct Vault {
    _todo: (),
}
/// A verified root with its hash.
pub struct Root {
    pub record: RootRecord,
    pub hash: RootHash,
}
impl Vault {
    pub fn keyring(&self) -> &Keyring {
        todo!()
    }
    pub fn store(&self) -> &Arc<dyn Readable> {
        todo!()
    }
    pub fn list(&self) -> Result<Arc<Vec<SnapshotInfo>>, VaultError> {
        todo!()
    }
    /// Fetches (once) and verifies a root: seal, signature, certificate chain, role.
    pub fn root(&self, _session: SessionNo) -> Result<Arc<Root>, VaultError> {
        todo!()
    }
    /// Compares the list with the newest roots this device remembers; see `Floor`.
    pub fn check_floor(&self, _floor: &Floor) -> Result<Floor, VaultError> {
        todo!()
    }
    /// Opens one frame: fetch, forward if moved, commitment, seal, codec, length.
    pub fn frame(
        &self,
        _kind: FrameKind,
        _at: &FrameRef,
        _plain_len: Option<usize>,
    ) -> Result<Bytes, VaultError> {
        todo!()
    }
    /// All leaves of a snapshot in key order, streaming, without filling the cache: (where, encoded, decoded).
    pub fn leaves(&self, _session: SessionNo) -> Result<Leaves, VaultError> {
        todo!()
    }
}
/// See [`Vault::leaves`]. (implement Iterator<Item = Result<LeafAt, VaultError>>)
pub struct Leaves {
    _todo: (),
}
/// A leaf and where it is.
pub struct LeafAt {
    pub frame: FrameRef,
    pub encoded: Bytes,
    pub page: Arc<LeafPage>,
}
/// The newest root this device has seen of each device: kept by the face in the state folder (security.md 6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    pub seen: Vec<(DeviceId, SessionNo, RootHash)>,
}
