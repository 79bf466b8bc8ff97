//! The disk cache of an account's vault: where it lies, and whose it is.
//!
//! **What it may not do.** Ask the server, where this device knows the vault.
//! **What always holds.** One folder a vault, below the cache folder; a vault in a folder has none.
//! **Where it is tested.** `tests/cli`.

use backupengine_model::VaultId;
use backupengine_store::{BlockCache, DiskCache, DiskCacheConfig, WriteBehind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Folder of the cache of a vault.
pub(crate) fn folder(cache: &Path, vault: VaultId) -> PathBuf {
    cache.join(vault.to_string()).join("blocks")
}

/// The cache as a reader takes it, put to behind its back; none where its folder cannot be used: reading is slower
/// then, not wrong.
pub(crate) fn for_reading(cache: &Path, vault: VaultId) -> Option<Arc<dyn BlockCache>> {
    match DiskCache::open(folder(cache, vault), DiskCacheConfig { vault, size: None }) {
        Ok(opened) => Some(Arc::new(WriteBehind::new(Arc::new(opened)))),
        Err(error) => {
            tracing::warn!(%error, "nothing is kept on this device: the cache's folder cannot be used");
            None
        }
    }
}
