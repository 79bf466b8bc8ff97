//! Reads the sealed end of stored packs: what the dedup index is rebuilt from.
//!
//! May not trust anything but sealed bytes: a footer counts only when trailer, commitment and seal hold. A
//! pack that does not read is left out (its content is then stored again). Tested in the tests of whole pushes.
use super::{Content, DedupKey, Place};
use crate::beside;
use backupengine_format::footer::{Footer, FooterContent};
use backupengine_format::pack::{codec, find_end};
use backupengine_format::trailer::{TRAILER_LEN, Trailer};
use backupengine_model::{FrameKind, FrameLen, PackRef, SessionNo};
use backupengine_store::{BlobKey, BlobKind, ErrorKind, Got, Range, StoreError};
use backupengine_vault::Vault;
use std::sync::atomic::{AtomicBool, Ordering};

/// Most ends are shorter than this, so that one request brings them.
const FIRST_LOOK: u64 = 64 << 10;
/// What stands at the end of a pack is never larger opened.
const OPENED_MAX: usize = 64 << 20;

/// A pack as the store lists it.
pub(crate) struct StoredPack {
    pub(crate) number: u32,
    pub(crate) size: u64,
}

/// The packs of a session that are in the store, by number.
pub(crate) fn packs_of(vault: &Vault, session: SessionNo) -> Result<Vec<StoredPack>, StoreError> {
    let listed = vault.ask(vault.store().list(BlobKind::PacksOf(session)))?;
    let pack = |(key, size)| match key {
        BlobKey::Pack(s, number) if s == session => Some(StoredPack { number, size }),
        _ => None,
    };
    Ok(listed.into_iter().filter_map(pack).collect())
}

/// All that these packs of a session hold, by their footers, in the order of `numbers`; nothing of a pack that is not
/// there or does not open. False where `stop` was raised before the end.
///
/// # Errors
/// When the store cannot be asked.
pub(crate) fn contents_of(
    vault: &Vault,
    session: SessionNo,
    numbers: &[u32],
    stop: &AtomicBool,
    mut take: impl FnMut(Vec<(DedupKey, Place)>),
) -> Result<bool, StoreError> {
    let at_once = beside::at_once(vault);
    for group in numbers.chunks(at_once) {
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        for contents in beside::each(at_once, group, |number| contents_of_one(vault, session, *number)) {
            take(contents?);
        }
    }
    Ok(true)
}

fn contents_of_one(
    vault: &Vault,
    session: SessionNo,
    number: u32,
) -> Result<Vec<(DedupKey, Place)>, StoreError> {
    let key = BlobKey::Pack(session, number);
    let found = match PackEnd::load(vault, key) {
        Ok(Some(end)) => {
            let footer_len = end.trailer.footer_len;
            let opened = end.open(vault, FrameKind::Footer, end.footer_at, footer_len)?;
            opened
                .and_then(|plain| Footer::decode(&plain).ok())
                .map(|footer| places(end.trailer.pack, &footer))
        }
        Ok(None) => None,
        Err(error) if error.kind == ErrorKind::NotFound => Some(Vec::new()),
        Err(error) => return Err(error),
    };
    Ok(found.unwrap_or_else(|| {
        tracing::warn!(%key, "the footer of a pack does not open; its content is not reused");
        Vec::new()
    }))
}

/// The end of a stored pack.
pub(crate) struct PackEnd {
    pub(crate) trailer: Trailer,
    pub(crate) footer_at: u64,
    pub(crate) head_at: u64,
    key: BlobKey,
    got: Got,
}

impl PackEnd {
    /// Fetches it; `None` where what lies there is not this pack.
    pub(crate) fn load(vault: &Vault, key: BlobKey) -> Result<Option<Self>, StoreError> {
        let named = match key {
            BlobKey::Pack(session, number) => (session, number),
            BlobKey::Root(session) => (session, PackRef::ROOT),
            BlobKey::Envelope(_) => return Ok(None),
        };
        let got = vault.ask(vault.store().get(key, Range::Suffix(FIRST_LOOK)))?;
        let trailer = got.bytes.len().checked_sub(TRAILER_LEN).and_then(|at| {
            let trailer = Trailer::decode(&got.bytes[at..]).ok()?;
            ((trailer.pack.session, trailer.pack.number) == named).then_some(trailer)
        });
        let Some(trailer) = trailer else { return Ok(None) };
        let Ok((footer_at, head_at)) = find_end(&trailer, got.total) else { return Ok(None) };
        Ok(Some(Self { trailer, footer_at, head_at, key, got }))
    }

    /// Length of the whole pack.
    pub(crate) fn total(&self) -> u64 {
        self.got.total
    }

    /// Opens footer or head; `None` where a seal does not hold.
    pub(crate) fn open(
        &self,
        vault: &Vault,
        kind: FrameKind,
        at: u64,
        len: u32,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let mut sealed = match at.checked_sub(self.got.offset) {
            Some(from) => self.got.bytes[from as usize..from as usize + len as usize].to_vec(),
            None => {
                // Widened, so that a store that watches learns no lengths.
                let grid = vault.store().grid().max(1);
                let from = at / grid * grid;
                let to = (at + u64::from(len)).next_multiple_of(grid);
                let range = Range::At { offset: from, len: to - from };
                let got = vault.ask(vault.store().get(self.key, range))?;
                let start = (at - from) as usize;
                match got.bytes.get(start..start + len as usize) {
                    Some(sealed) => sealed.to_vec(),
                    None => return Ok(None),
                }
            }
        };
        Ok((|| {
            let pack_key = vault.keyring().pack_key(&self.trailer.pack).ok()?;
            pack_key.check_commitment(&self.trailer.commitment).ok()?;
            let len = pack_key.open(kind, u32::try_from(at).ok()?, &mut sealed).ok()?;
            let (codec_byte, body) = sealed[..len].split_first()?;
            match *codec_byte {
                codec::RAW => Some(body.to_vec()),
                codec::ZSTD => {
                    let len = zstd::zstd_safe::get_frame_content_size(body).ok()??;
                    let len = usize::try_from(len).ok().filter(|len| *len <= OPENED_MAX)?;
                    zstd::bulk::decompress(body, len).ok()
                }
                _ => None,
            }
        })())
    }
}

fn places(pack: PackRef, footer: &Footer) -> Vec<(DedupKey, Place)> {
    let mut out = Vec::new();
    let mut offset = 0u32;
    for (index, frame) in footer.frames.iter().enumerate() {
        for content in &frame.contents {
            match *content {
                FooterContent::Chunk { id, frames } => {
                    let frames_of = footer.frames[index..].iter().take(frames as usize);
                    let lens: Vec<FrameLen> =
                        frames_of.map(|f| FrameLen { stored: f.stored_len, plain: f.plain_len }).collect();
                    if lens.len() == frames as usize {
                        let place = Place { pack, offset, content: Content::Chunk { lens } };
                        out.push((DedupKey { id, piece: false }, place));
                    }
                }
                FooterContent::Piece { id, inner, .. } => {
                    let content = Content::Piece { stored_len: frame.stored_len, inner };
                    out.push((DedupKey { id, piece: true }, Place { pack, offset, content }));
                }
            }
        }
        offset = offset.saturating_add(frame.stored_len);
    }
    out
}
