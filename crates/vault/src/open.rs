//! Opens frames: fetch, forward if moved, commitment, seal, codec, length.
//!
//! **What it is.** [`Opener`], the only place where stored bytes become plain ones.
//! **What it may not do.** Cache what it opened (that is `cache`); know what the bytes mean.
//! **What always holds.** A pack's trailer is read and its key commitment compared before anything in it is
//! decrypted; a frame that does not open is fetched once more, then it is an error that names blob and place.
//! **Where it is tested.** In the reader's tests and `tests/damage`.

use crate::VaultError;
use crate::cache::loaded;
use crate::codec::{self, Wiped};
use crate::fetch::{Class, Fetcher, blob_of};
use crate::forward::{self, Relocation, Relocations};
use crate::keys::Keys;
use crate::stats::count;
use crate::ways::WaysIn;
use backupengine_format::trailer::{TRAILER_LEN, Trailer};
use backupengine_model::{FrameKind, FrameRef, PackRef, SessionNo};
use backupengine_seal::{Keyring, PackKey, TAG_LEN};
use backupengine_store::{BlobKey, ErrorKind, Got};
use bytes::{Bytes, BytesMut};
use quick_cache::sync::Cache;
use std::sync::Arc;

/// Pack keys kept ready. A key takes about a kilobyte.
const PACKS: usize = 2048;
/// Relocation packs kept ready.
const RELOCATIONS: usize = 16;

/// Opens frames of one vault.
pub(crate) struct Opener {
    fetcher: Fetcher,
    keys: Keys,
    packs: Cache<PackRef, Arc<Pack>>,
    /// Asked instead of the ledger.
    moved: Option<Arc<dyn Relocations>>,
    relocations: Cache<BlobKey, Arc<Relocation>>,
}

/// A pack that was looked for once.
enum Pack {
    /// It is where its name says, and its trailer was checked.
    Here(PackKey),
    /// It is gone; these hold its frames.
    Moved(Vec<(BlobKey, Arc<Relocation>)>),
}

/// Where a frame really is.
struct Place<'a> {
    key: &'a PackKey,
    blob: BlobKey,
    offset: u32,
    len: u32,
}

impl Opener {
    pub(crate) fn new(fetcher: Fetcher, keyring: Keyring, moved: Option<Arc<dyn Relocations>>) -> Self {
        let (packs, relocations) = (Cache::new(PACKS), Cache::new(RELOCATIONS));
        Self { fetcher, keys: Keys::new(keyring), packs, moved, relocations }
    }

    pub(crate) fn fetcher(&self) -> &Fetcher {
        &self.fetcher
    }

    /// Whether the key of a pack is ready, so that its trailer is not asked for.
    pub(crate) fn has_key(&self, pack: &PackRef) -> bool {
        self.packs.get(pack).is_some()
    }

    /// The keys it was opened with.
    pub(crate) fn keyring(&self) -> &Keyring {
        self.keys.first()
    }

    /// Those and newer ones.
    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Opens one frame; `plain_len` where the reference implies the exact length.
    pub(crate) fn open(
        &self,
        kind: FrameKind,
        at: &FrameRef,
        plain_len: Option<usize>,
    ) -> Result<Bytes, VaultError> {
        match self.open_once(kind, at, plain_len) {
            Err(error @ VaultError::Damaged { .. }) => {
                // The pack may have been moved since its key was kept, or the bytes were spoiled on their way.
                tracing::debug!(error = crate::error::describe(&error), "fetching a frame again");
                self.again(at, || self.open_once(kind, at, plain_len))
            }
            done => done,
        }
    }

    /// Asks once more for a frame that did not open; then where its pack was moved to, if it was: one that was healed
    /// may still be stored as it was.
    fn again<T>(&self, at: &FrameRef, open: impl Fn() -> Result<T, VaultError>) -> Result<T, VaultError> {
        count(&self.fetcher.counters().refetched, 1);
        self.forget(at);
        let error = match open() {
            Err(error @ VaultError::Damaged { .. }) => error,
            done => return done,
        };
        let elsewhere = self.packs.get(&at.pack).is_some_and(|pack| matches!(*pack, Pack::Moved(_)));
        if elsewhere || at.pack.number == PackRef::ROOT || self.take_elsewhere(&at.pack).is_none() {
            return Err(error);
        }
        open().map_err(|_| error)
    }

    /// Has frames of a pack be looked for in its relocation packs from now on; `None` where there are none.
    fn take_elsewhere(&self, pack: &PackRef) -> Option<()> {
        let moved = self.moved_to(pack).ok().filter(|moved| !moved.is_empty())?;
        let found = self.relocations_of(moved).ok()?;
        self.packs.insert(*pack, Arc::new(Pack::Moved(found)));
        Some(())
    }

    /// A relocation pack and its table.
    pub(crate) fn relocation(&self, session: SessionNo, number: u32) -> Result<Arc<Relocation>, VaultError> {
        loaded(&self.relocations, &blob_of(session, number), || {
            forward::load(&self.fetcher, &self.keys, session, number)
        })
    }

    /// What was sealed, with the length of the plaintext. It was decoded once: nothing is copied that is not whole.
    pub(crate) fn body(&self, kind: FrameKind, at: &FrameRef) -> Result<(Bytes, u32), VaultError> {
        match self.body_once(kind, at) {
            Err(VaultError::Damaged { .. }) => self.again(at, || self.body_once(kind, at)),
            done => done,
        }
    }

    /// A frame at its place by its reference alone, for a pack whose end does not read: what the reference says of the
    /// pack comes from a sealed page, and makes its key.
    pub(crate) fn bare(&self, kind: FrameKind, at: &FrameRef) -> Result<(Bytes, Bytes), VaultError> {
        let (blob, len) = (blob_of(at.pack.session, at.pack.number), u64::from(at.stored_len));
        let sealed = self.fetcher.range(blob, at.offset.into(), len, class_of(kind, None));
        self.bare_of(kind, at, sealed.map_err(|error| missing(blob, at.offset.into(), error))?)
    }

    /// The same of bytes that were kept elsewhere: body, and plaintext.
    pub(crate) fn bare_of(
        &self,
        kind: FrameKind,
        at: &FrameRef,
        sealed: Bytes,
    ) -> Result<(Bytes, Bytes), VaultError> {
        let (blob, offset) = (blob_of(at.pack.session, at.pack.number), u64::from(at.offset));
        let len = at.stored_len as usize;
        if len != sealed.len() || len <= TAG_LEN || len > codec::plain_max(kind) + codec::SEALED_SLACK {
            return Err(VaultError::damaged(blob, offset, "the reference has an impossible length"));
        }
        // The reference comes from a page of the vault: there is such an epoch.
        let key = self.keys.pack_key(blob, offset, &at.pack, || true)?;
        let opened = unseal(&key, kind, blob, offset, sealed)?;
        let body = Bytes::copy_from_slice(&opened);
        let plain = codec::decode(kind, Wiped(opened), None)
            .map_err(|rule| VaultError::damaged(blob, offset, rule))?;
        Ok((body, plain))
    }

    fn body_once(&self, kind: FrameKind, at: &FrameRef) -> Result<(Bytes, u32), VaultError> {
        let (sealed, blob, offset) = self.unsealed(kind, at, None)?;
        let body = Bytes::copy_from_slice(&sealed);
        let plain = codec::decode(kind, Wiped(sealed), None)
            .map_err(|rule| VaultError::damaged(blob, offset, rule))?;
        Ok((body, plain.len() as u32))
    }

    /// Drops what is kept of a frame and of its pack's end, under the pack's name and where the frame was moved to.
    fn forget(&self, at: &FrameRef) {
        let blob = blob_of(at.pack.session, at.pack.number);
        let known = self.packs.remove(&at.pack);
        self.fetcher.forget(blob, at.offset.into(), at.stored_len.into());
        self.fetcher.forget_end(blob);
        let place = known.as_ref().and_then(|(_, pack)| pack.place(at).ok());
        if let Some(place) = place.filter(|place| place.blob != blob) {
            self.fetcher.forget(place.blob, place.offset.into(), place.len.into());
        }
    }

    fn open_once(
        &self,
        kind: FrameKind,
        at: &FrameRef,
        plain_len: Option<usize>,
    ) -> Result<Bytes, VaultError> {
        let (opened, blob, offset) = self.unsealed(kind, at, plain_len)?;
        let plain = codec::decode(kind, Wiped(opened), plain_len)
            .map_err(|rule| VaultError::damaged(blob, offset, rule))?;
        count(&self.fetcher.counters().frames_opened, 1);
        count(&self.fetcher.counters().bytes_opened, plain.len() as u64);
        Ok(plain)
    }

    /// Codec and body of a frame, and where it lies.
    fn unsealed(
        &self,
        kind: FrameKind,
        at: &FrameRef,
        plain_len: Option<usize>,
    ) -> Result<(BytesMut, BlobKey, u64), VaultError> {
        let class = class_of(kind, plain_len);
        let pack = loaded(&self.packs, &at.pack, || {
            // While the pack's end is on its way, so is the frame: one round trip, not two.
            let blob = blob_of(at.pack.session, at.pack.number);
            self.fetcher.start(blob, at.offset.into(), at.stored_len.into(), class);
            self.find_pack(&at.pack)
        })?;
        let place = pack.place(at)?;
        let (blob, offset) = (place.blob, u64::from(place.offset));
        let len = place.len as usize;
        if len <= TAG_LEN || len > codec::plain_max(kind) + codec::SEALED_SLACK {
            return Err(VaultError::damaged(blob, offset, "the reference has an impossible length"));
        }
        let sealed = self.fetcher.range(blob, offset, len as u64, class);
        let sealed = sealed.map_err(|error| missing(blob, offset, error))?;
        Ok((unseal(place.key, kind, blob, offset, sealed)?, blob, offset))
    }

    /// Where the frames of a pack that is gone lie: what the ledger says, asked anew for each pack it did not name yet.
    fn moved_to(&self, pack: &PackRef) -> Result<Vec<(SessionNo, u32)>, VaultError> {
        match &self.moved {
            Some(moved) => Ok(moved.moved(pack.session, pack.number)?),
            None => Ok(forward::by_ledger(&self.fetcher, pack)?),
        }
    }

    fn find_pack(&self, pack: &PackRef) -> Result<Arc<Pack>, VaultError> {
        let blob = blob_of(pack.session, pack.number);
        match self.fetcher.suffix(blob, TRAILER_LEN as u64) {
            Ok(end) => {
                let (trailer, key) = checked_key(&self.fetcher, &self.keys, blob, &end, Some(pack.epoch))?;
                if trailer.pack != *pack {
                    return Err(VaultError::damaged(blob, end.total, "another pack lies under this name"));
                }
                Ok(Arc::new(Pack::Here(key)))
            }
            Err(error) if error.is_missing() => {
                let moved = self.moved_to(pack)?;
                if moved.is_empty() {
                    return Err(missing(blob, 0, error));
                }
                Ok(Arc::new(Pack::Moved(self.relocations_of(moved)?)))
            }
            Err(error) => Err(error),
        }
    }

    fn relocations_of(
        &self,
        moved: Vec<(SessionNo, u32)>,
    ) -> Result<Vec<(BlobKey, Arc<Relocation>)>, VaultError> {
        let load = |(session, number)| Ok((blob_of(session, number), self.relocation(session, number)?));
        moved.into_iter().map(load).collect()
    }
}

impl Pack {
    fn place(&self, at: &FrameRef) -> Result<Place<'_>, VaultError> {
        let (session, number) = (at.pack.session, at.pack.number);
        match self {
            Self::Here(key) => {
                Ok(Place { key, blob: blob_of(session, number), offset: at.offset, len: at.stored_len })
            }
            Self::Moved(relocations) => relocations
                .iter()
                .find_map(|(blob, relocation)| {
                    let (offset, len) = relocation.table.find(session, number, at.offset)?;
                    Some(Place { key: &relocation.key, blob: *blob, offset, len })
                })
                .ok_or_else(|| {
                    let blob = blob_of(session, number);
                    VaultError::damaged(blob, at.offset.into(), "the pack was moved without this frame")
                }),
        }
    }
}

/// What a frame is to the plan that fetches ahead. Only a bundle's length is not implied by its reference.
fn class_of(kind: FrameKind, plain_len: Option<usize>) -> Class {
    match (kind, plain_len) {
        (FrameKind::Data, None) => Class::Small,
        (FrameKind::Data, Some(_)) => Class::Large,
        _ => Class::Page,
    }
}

/// A blob that is not there, or ends before the frame, is damage, with the store's words as cause.
fn missing(blob: BlobKey, offset: u64, error: VaultError) -> VaultError {
    let VaultError::Store(cause) = error else { return error };
    match cause.kind {
        ErrorKind::NotFound => VaultError::damaged_by(blob, offset, "the blob is missing", cause),
        ErrorKind::BadRange => VaultError::damaged_by(blob, offset, "the blob ends too early", cause),
        _ => cause.into(),
    }
}

/// Whether the vault's envelopes reach an epoch that the keys at hand do not. Nothing vouches for a trailer before its
/// pack's key is there: what is forged must not pass for a rotation. Where the envelopes do not all read, it may be one.
fn was_rotated(fetcher: &Fetcher, keys: &Keys, epoch: u16) -> bool {
    match WaysIn::read(fetcher, keys.first().vault()) {
        Ok(ways) => !ways.unusable.is_empty() || ways.newest_epoch().is_some_and(|newest| newest >= epoch),
        Err(_) => true,
    }
}

/// The trailer at the end of `end`, and its pack's key, whose commitment it shows. `epoch` where a reference says it.
pub(crate) fn checked_key(
    fetcher: &Fetcher,
    keys: &Keys,
    blob: BlobKey,
    end: &Got,
    epoch: Option<u16>,
) -> Result<(Trailer, PackKey), VaultError> {
    let at = end.total.saturating_sub(TRAILER_LEN as u64);
    let bytes = end.bytes.len().checked_sub(TRAILER_LEN).map(|from| &end.bytes[from..]);
    let bytes = bytes.ok_or_else(|| VaultError::damaged(blob, 0, "the blob is shorter than a trailer"))?;
    let trailer = Trailer::decode(bytes)
        .map_err(|error| VaultError::damaged_by(blob, at, "the trailer does not decode", error))?;
    let named = trailer.pack.epoch;
    if epoch.is_some_and(|epoch| epoch != named) {
        return Err(VaultError::damaged(blob, at, "the trailer names another key epoch than the reference"));
    }
    let key =
        keys.pack_key(blob, at, &trailer.pack, || epoch.is_some() || was_rotated(fetcher, keys, named))?;
    key.check_commitment(&trailer.commitment)
        .map_err(|error| VaultError::damaged_by(blob, at, "the key commitment differs", error))?;
    Ok((trailer, key))
}

/// Opens a sealed frame, in its own buffer where nobody else holds it.
pub(crate) fn unseal(
    key: &PackKey,
    kind: FrameKind,
    blob: BlobKey,
    offset: u64,
    sealed: Bytes,
) -> Result<BytesMut, VaultError> {
    let place = u32::try_from(offset)
        .map_err(|_| VaultError::damaged(blob, offset, "no frame can lie so far back"))?;
    let mut buffer = sealed.try_into_mut().unwrap_or_else(|shared| BytesMut::from(shared.as_ref()));
    let len = key
        .open(kind, place, &mut buffer)
        .map_err(|error| VaultError::damaged_by(blob, offset, "the frame does not open", error))?;
    buffer.truncate(len);
    Ok(buffer)
}
