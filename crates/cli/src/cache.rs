//! The disk cache of an account's vault: where it lies, and whose it is.
//!
//! **What it may not do.** Ask the server, where this device knows the vault.
//! **What always holds.** One folder a vault, below the cache folder; a vault in a folder has none.
//! **Where it is tested.** `tests/cli`.

use crate::account::Online;
use crate::error::{Failure, Kind};
use crate::output::{self, size};
use crate::place::Place;
use crate::wire::{Wire, answer};
use backupengine_model::VaultId;
use backupengine_store::LedgerReader;
use backupengine_store::{
    BLOCK_LEN, BlockCache, DiskCache, DiskCacheConfig, ErrorKind, StoreError, WriteBehind,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which part of a reader's memory blocks may take that wait to be put: a fourth of what comes in at once.
const WAITING_SHARE: u64 = 6;

/// Folder of the cache of a vault.
pub(crate) fn folder(cache: &Path, vault: VaultId) -> PathBuf {
    cache.join(vault.to_string()).join("blocks")
}

/// Opens the cache of a vault. `size` in bytes is remembered; without one the last given holds, or the default.
///
/// # Errors
/// When its folder cannot be used.
pub(crate) fn open(cache: &Path, vault: VaultId, size: Option<u64>) -> Result<DiskCache, Failure> {
    DiskCache::open(folder(cache, vault), DiskCacheConfig { vault, size }).map_err(no_room)
}

/// The cache as a reader takes it, put to behind its back; a share of the reader's `memory` in bytes may wait for that.
/// None where nothing is to be kept, or where its folder cannot be used: reading is slower then, not wrong.
///
/// # Errors
/// When a `size` is given and cannot be set.
pub(crate) fn for_reading(
    cache: &Path,
    vault: VaultId,
    size: Option<u64>,
    memory: u64,
) -> Result<Option<Arc<dyn BlockCache>>, Failure> {
    match DiskCache::open(folder(cache, vault), DiskCacheConfig { vault, size }) {
        // Where nothing has a place to stay, nothing is to be fetched ahead as if it had.
        Ok(opened) if opened.keeps_nothing() => Ok(None),
        Ok(opened) => Ok(Some(Arc::new(WriteBehind::new(Arc::new(opened), memory / WAITING_SHARE)))),
        Err(error) if size.is_some() => Err(no_room(error)),
        Err(error) => {
            tracing::warn!(%error, "nothing is kept on this device: the cache's folder cannot be used");
            Ok(None)
        }
    }
}

/// Least size but none: room for what is on its way ahead of one reader.
const LEAST: u64 = 64 << 20;
/// Bytes of memory that know a block on the disk, about.
const INDEX: u64 = 112;

/// The size a person gave, in bytes; 0 is none.
///
/// # Errors
/// Bad usage: no size, too little to be of use, or an index that `memory` (bytes) has no room for.
pub(crate) fn parse_size(text: &str, memory: Option<u64>) -> Result<u64, Failure> {
    let bytes = match text.trim() {
        none if none.eq_ignore_ascii_case("none") => Some(0),
        other => output::parse_size(other),
    };
    let bytes = bytes.ok_or_else(|| {
        Failure::usage(format!("{text:?} is no size of a cache")).hint("write it like 20GiB, or none")
    })?;
    if bytes > 0 && bytes < LEAST {
        return Err(Failure::usage(format!("--cache-size {text} is too little to be of use"))
            .hint(format!("give at least {}, or none to keep nothing on this device", size(LEAST))));
    }
    let index = bytes / BLOCK_LEN as u64 * INDEX;
    if let Some(memory) = memory.filter(|memory| index > memory / 4) {
        return Err(Failure::usage(format!(
            "a cache of {} takes {} of memory to know what it holds: more than a quarter of --memory {}",
            size(bytes),
            size(index),
            size(memory)
        ))
        .hint(format!("give less, or --memory {}MiB", (index * 4).div_ceil(1 << 20))));
    }
    Ok(bytes)
}

/// Trouble of the cache; where it is that pins do not fit, with what helps.
pub(crate) fn no_room(error: StoreError) -> Failure {
    if error.kind != ErrorKind::Full {
        return error.into();
    }
    Failure::new(Kind::Failed, error)
        .hint("give the cache more room: --cache-size SIZE")
        .hint("or let something go: `backupengine cache info` lists what is pinned")
}

/// That a vault in a folder is not cached.
pub(crate) fn none_of_folder() -> Failure {
    Failure::usage("a vault in a folder has no cache: its blocks are on a disk already")
}

/// The account's vault. The server is asked only where this device has no place in it.
///
/// # Errors
/// Bad usage for a vault in a folder; nobody logged in; what the server says.
pub(crate) fn vault(wire: &Wire) -> Result<VaultId, Failure> {
    if let Some(Place::Folder(_)) = wire.known_place(None)? {
        return Err(none_of_folder().hint("for the cache of an account's vault: --vault URL"));
    }
    let account = wire.account()?;
    if let Some(device) = account.device()? {
        return Ok(device.certificate.vault);
    }
    let store = Online::open(account)?.store(&wire.places.cache)?;
    answer::<_, StoreError>(store.vault())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_nonsense_is_refused() {
        for (text, bytes) in [("0", 0), ("none", 0), (" None ", 0), ("64MiB", 64 << 20), ("20g", 20 << 30)] {
            assert_eq!(parse_size(text, Some(256 << 20)).unwrap(), bytes, "{text}");
        }
        for text in ["", "lots", "-1", "10 %", "1 block", "1", "63MiB", "999T"] {
            let failure = parse_size(text, Some(256 << 20)).unwrap_err();
            assert!(failure.kind == Kind::Usage && !failure.hints.is_empty(), "{text}");
        }
    }

    #[test]
    fn what_knows_the_blocks_has_to_fit_into_memory() {
        assert!(parse_size("100GiB", None).is_ok());
        let failure = parse_size("100GiB", Some(256 << 20)).unwrap_err();
        assert_eq!(failure.hints, ["give less, or --memory 700MiB"]);
        assert!(parse_size("100GiB", Some(700 << 20)).is_ok());
    }
}
