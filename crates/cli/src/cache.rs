//! The disk cache of an account's vault: where it lies, and whose it is.
//!
//! **What it may not do.** Ask the server, where this device knows the vault.
//! **What always holds.** One folder a vault, below the cache folder; a vault in a folder has none.
//! **Where it is tested.** `tests/cli`.

use crate::account::Online;
use crate::error::Failure;
use crate::place::Place;
use crate::wire::{Wire, answer};
use backupengine_model::VaultId;
use backupengine_store::LedgerReader;
use backupengine_store::{BlockCache, DiskCache, DiskCacheConfig, StoreError, WriteBehind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Folder of the cache of a vault.
pub(crate) fn folder(cache: &Path, vault: VaultId) -> PathBuf {
    cache.join(vault.to_string()).join("blocks")
}

/// Opens the cache of a vault. `size` in bytes is remembered; without one the last given holds, or the default.
///
/// # Errors
/// When its folder cannot be used.
pub(crate) fn open(cache: &Path, vault: VaultId, size: Option<u64>) -> Result<DiskCache, Failure> {
    Ok(DiskCache::open(folder(cache, vault), DiskCacheConfig { vault, size })?)
}

/// The cache as a reader takes it, put to behind its back; none where its folder cannot be used: reading is slower
/// then, not wrong.
pub(crate) fn for_reading(cache: &Path, vault: VaultId, size: Option<u64>) -> Option<Arc<dyn BlockCache>> {
    match DiskCache::open(folder(cache, vault), DiskCacheConfig { vault, size }) {
        Ok(opened) => Some(Arc::new(WriteBehind::new(Arc::new(opened)))),
        Err(error) => {
            tracing::warn!(%error, "nothing is kept on this device: the cache's folder cannot be used");
            None
        }
    }
}

/// The account's vault. The server is asked only where this device has no place in it.
///
/// # Errors
/// Bad usage for a vault in a folder; nobody logged in; what the server says.
pub(crate) fn vault(wire: &Wire) -> Result<VaultId, Failure> {
    if let Some(Place::Folder(_)) = wire.known_place(None)? {
        return Err(Failure::usage("a vault in a folder has no cache: its blocks are on a disk already")
            .hint("for the cache of an account's vault: --vault URL"));
    }
    let account = wire.account()?;
    if let Some(device) = account.device()? {
        return Ok(device.certificate.vault);
    }
    let store = Online::open(account)?.store(&wire.places.cache)?;
    answer::<_, StoreError>(store.vault())
}
