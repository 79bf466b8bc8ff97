//! Follows frames of moved packs into relocation packs (format.md 5.5).
//!
//! **What it is.** Where a pack is gone, the ledger says which relocation packs hold its frames; their heads
//! map old places to new ones. **What it may not do.** Open frames. **What always holds.** A relocation pack is
//! named by the ledger but believed only by its own trailer, commitment and seal; one step is followed, never a
//! chain. **Where it is tested.** In the reader's tests.

use crate::VaultError;
use crate::codec::{self, Wiped};
use crate::fetch::{Class, Fetcher, blob_of, cut};
use crate::keys::Keys;
use crate::open::{checked_key, unseal};
use backupengine_format::forward::ForwardTable;
use backupengine_format::{limits, pack};
use backupengine_model::{FrameKind, PackRef, SessionNo};
use backupengine_seal::PackKey;
use backupengine_store::{ErrorKind, StoreError};
use std::sync::Arc;

/// Says where frames of moved packs lie now, instead of the ledger. Asked only when a pack is missing.
pub trait Relocations: Send + Sync {
    /// The relocation packs (session and number) that hold frames of this pack; none where it was not moved.
    ///
    /// # Errors
    /// When the ledger cannot be asked.
    fn moved(&self, session: SessionNo, number: u32) -> Result<Vec<(SessionNo, u32)>, StoreError>;
}

/// What the ledger says of a pack. One that is damaged says nothing: the pack is then missing as any other.
pub(crate) fn by_ledger(fetcher: &Fetcher, pack: &PackRef) -> Result<Vec<(SessionNo, u32)>, StoreError> {
    let list = match fetcher.ask(fetcher.store().sessions()) {
        Err(error) if error.kind == ErrorKind::LedgerDamaged => return Ok(Vec::new()),
        list => list?,
    };
    let record = list.iter().find(|record| record.session == pack.session);
    let moved = record.and_then(|record| record.moved.get(&pack.number));
    Ok(moved.map(|moved| (moved.to, moved.number)).into_iter().collect())
}

/// A relocation pack, ready to look frames up in.
pub(crate) struct Relocation {
    pub(crate) key: PackKey,
    pub(crate) table: ForwardTable,
}

/// Enough for trailer and table of nearly every relocation pack, in bytes.
const HEAD_GUESS: u64 = 16 << 10;

/// Loads the head of a relocation pack.
pub(crate) fn load(
    fetcher: &Fetcher,
    keys: &Keys,
    session: SessionNo,
    number: u32,
) -> Result<Arc<Relocation>, VaultError> {
    fetcher.load_end(blob_of(session, number), || load_once(fetcher, keys, session, number))
}

fn load_once(
    fetcher: &Fetcher,
    keys: &Keys,
    session: SessionNo,
    number: u32,
) -> Result<Arc<Relocation>, VaultError> {
    let blob = blob_of(session, number);
    let end = fetcher.suffix(blob, HEAD_GUESS)?;
    let (trailer, key) = checked_key(fetcher, keys, blob, &end, None)?;
    if (trailer.pack.session, trailer.pack.number) != (session, number) {
        return Err(VaultError::damaged(blob, end.total, "another pack lies under this name"));
    }
    let wrong = |error| VaultError::damaged_by(blob, end.total, "the trailer does not fit the pack", error);
    let (_, head_at) = pack::find_end(&trailer, end.total).map_err(wrong)?;
    let head_len = u64::from(trailer.head_len);
    if trailer.head_len == 0 || trailer.head_len as usize > limits::HEAD_MAX + codec::SEALED_SLACK {
        return Err(VaultError::damaged(blob, head_at, "a relocation pack needs a forwarding table"));
    }
    let sealed = match cut(&end, head_at, head_len) {
        Some(sealed) => sealed,
        None => fetcher.range(blob, head_at, head_len, Class::Large)?,
    };
    let opened = unseal(&key, FrameKind::Forwarding, blob, head_at, sealed)?;
    let plain = codec::decode(FrameKind::Forwarding, Wiped(opened), None)
        .map_err(|rule| VaultError::damaged(blob, head_at, rule))?;
    let table = ForwardTable::decode(&plain).map_err(|error| {
        VaultError::damaged_by(blob, head_at, "the forwarding table does not decode", error)
    })?;
    Ok(Arc::new(Relocation { key, table }))
}
