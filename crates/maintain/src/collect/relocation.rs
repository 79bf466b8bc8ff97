//! Relocation packs: frames that are still needed, sealed anew, with the table of where they were (format.md 5.5, 8.5).
//!
//! **What it may not do.** Recompress, reorder what belongs to one pack, or write a frame that did not open.
//! **What always holds.** All frames of one old pack lie in one relocation pack. A number and a salt are used once.
//! **Where it is tested.** In `tests/protocol`; the reader's side in the vault's own tests.

use super::survey::{Needed, PackId};
use super::{PruneError, Random};
use backupengine_format::footer::{Footer, FooterFrame};
use backupengine_format::forward::{Forward, ForwardTable};
use backupengine_format::limits::PACK_TARGET;
use backupengine_format::pack::{codec, lay_out};
use backupengine_format::trailer::Trailer;
use backupengine_model::ledger::Move;
use backupengine_model::{FrameKind, PackRef, SessionNo};
use backupengine_seal::{PackKey, TAG_LEN};
use backupengine_store::{BlobKey, Maintainable, Spool, StoreError};
use backupengine_vault::Vault;
use bytes::Bytes;
use std::io::Write as _;

/// Most bytes of frames in a relocation pack, so that table, footer and padding fit the usual length.
pub(super) const FRAMES_MAX: u64 = PACK_TARGET - (1 << 20);

/// A pack to be copied, with what is needed of it.
pub(super) struct Source {
    pub(super) id: PackId,
    pub(super) frames: Vec<Needed>,
    /// Bytes of those frames.
    pub(super) bytes: u64,
}

/// Writes one session of relocation packs.
pub(crate) struct Writer<'a> {
    vault: &'a Vault,
    store: &'a dyn Maintainable,
    random: Random<'a>,
    session: SessionNo,
    open: Option<Open>,
    next: u32,
    /// Bytes of the packs that were put.
    pub(crate) bytes: u64,
    /// Where packs went that were copied whole.
    pub(crate) moves: Vec<Move>,
}

struct Open {
    key: PackKey,
    spool: Spool,
    footer: Footer,
    table: ForwardTable,
    number: u32,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(
        vault: &'a Vault,
        store: &'a dyn Maintainable,
        random: Random<'a>,
        session: SessionNo,
    ) -> Self {
        Self { vault, store, random, session, open: None, next: 0, bytes: 0, moves: Vec::new() }
    }

    /// Packs that were put.
    pub(crate) fn packs(&self) -> u32 {
        self.next
    }

    /// Copies what is needed of a pack.
    pub(super) fn copy(&mut self, source: &Source) -> Result<(), PruneError> {
        let mut open = self.room(source.bytes)?;
        for frame in &source.frames {
            let (body, plain_len) = self.vault.frame_body(frame.kind, &frame.at)?;
            open.push(frame, &body, plain_len, source.id)?;
        }
        self.close(open, source.id);
        Ok(())
    }

    /// Takes over frames of a pack, from wherever they came: each with its codec and body, and the length of its plaintext.
    pub(crate) fn add(&mut self, id: PackId, frames: &[(Needed, Bytes, u32)]) -> Result<(), PruneError> {
        let mut open = self.room(frames.iter().map(|(_, body, _)| (body.len() + TAG_LEN) as u64).sum())?;
        for (frame, body, plain_len) in frames {
            open.push(frame, body, *plain_len, id)?;
        }
        self.close(open, id);
        Ok(())
    }

    /// The open pack, if it has room, else a new one.
    fn room(&mut self, bytes: u64) -> Result<Open, PruneError> {
        if self.open.as_ref().is_some_and(|open| open.spool.len() + bytes > FRAMES_MAX) {
            self.put()?;
        }
        match self.open.take() {
            Some(open) => Ok(open),
            None => self.begin(),
        }
    }

    fn close(&mut self, open: Open, id: PackId) {
        self.moves.push(Move { from: id, to: (self.session, open.number) });
        self.open = Some(open);
    }

    fn begin(&self) -> Result<Open, PruneError> {
        let mut salt = [0; 8];
        (self.random)(&mut salt);
        let (session, number) = (self.session, self.next);
        let epoch = self.vault.keyring().current_epoch();
        let key = self.vault.keyring().pack_key(&PackRef { session, number, salt, epoch })?;
        let spool = self.store.spool()?;
        Ok(Open { key, spool, footer: Footer::default(), table: ForwardTable::default(), number })
    }

    /// Ends the open pack and puts it.
    pub(crate) fn put(&mut self) -> Result<(), PruneError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let number = open.number;
        let spool = open.end(self.random)?;
        let len = spool.len();
        self.vault.ask(self.store.put(BlobKey::Pack(self.session, number), spool))?;
        self.next += 1;
        self.bytes += len;
        Ok(())
    }
}

impl Open {
    fn push(&mut self, frame: &Needed, body: &[u8], plain_len: u32, from: PackId) -> Result<(), PruneError> {
        let offset = u32::try_from(self.spool.len()).map_err(|_| PruneError::TooLarge)?;
        let mut bytes = Vec::with_capacity(body.len() + TAG_LEN);
        bytes.extend_from_slice(body);
        self.key.seal(frame.kind, offset, &mut bytes, 0);
        write(&mut self.spool, &bytes)?;
        let stored_len = bytes.len() as u32;
        self.footer.frames.push(FooterFrame {
            kind: frame.kind,
            stored_len,
            plain_len,
            contents: Vec::new(),
        });
        self.table.entries.push(Forward {
            session: from.0,
            number: from.1,
            old_offset: frame.at.offset,
            new_offset: offset,
            new_len: stored_len,
        });
        Ok(())
    }

    /// Filler, footer, forwarding table, trailer.
    fn end(mut self, random: Random<'_>) -> Result<Spool, PruneError> {
        self.table.entries.sort_by_key(|entry| (entry.session, entry.number, entry.old_offset));
        let (mut footer, mut head) = (raw(&self.footer.encode()), raw(&self.table.encode()));
        let footer_len = (footer.len() + TAG_LEN) as u32;
        let head_len = (head.len() + TAG_LEN) as u32;
        let end = lay_out(self.spool.len(), footer_len, head_len, None);
        let mut left = end.filler;
        let mut filler = vec![0; left.min(64 << 10) as usize];
        while left > 0 {
            let part = &mut filler[..left.min(64 << 10) as usize];
            random(part);
            write(&mut self.spool, part)?;
            left -= part.len() as u64;
        }
        let place = |at: u64| u32::try_from(at).map_err(|_| PruneError::TooLarge);
        self.key.seal(FrameKind::Footer, place(end.footer_at)?, &mut footer, 0);
        write(&mut self.spool, &footer)?;
        self.key.seal(FrameKind::Forwarding, place(end.head_at)?, &mut head, 0);
        write(&mut self.spool, &head)?;
        let commitment = *self.key.commitment();
        let trailer = Trailer { pack: *self.key.pack(), footer_len, head_len, commitment };
        write(&mut self.spool, &trailer.encode())?;
        Ok(self.spool)
    }
}

fn raw(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + body.len() + TAG_LEN);
    bytes.push(codec::RAW);
    bytes.extend_from_slice(body);
    bytes
}

fn write(spool: &mut Spool, bytes: &[u8]) -> Result<(), PruneError> {
    spool.write_all(bytes).map_err(|error| PruneError::Store(StoreError::from(error)))
}
