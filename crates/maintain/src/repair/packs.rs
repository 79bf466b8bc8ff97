//! The frames of one damaged pack, from wherever they are to be had.
//!
//! **What it is.** In this order: the store, as any reader; the blob by the references alone, where its end does not read;
//! relocation packs that nothing points to (a repair that was stopped, a ledger that forgot them); what this device kept
//! or still has in live files. **What it may not do.** Take a frame that does not open at its place, or bytes of a file
//! whose content id is not the one that is known of the place. **What always holds.** Memory is the frames of one pack.
//! **Where it is tested.** `tests/damage`.

use super::survey::{Need, Needs, Survey};
use super::{Heal, RepairError};
use crate::collect::survey::{Needed, PackId};
use backupengine_format::footer::Footer;
use backupengine_format::pack::find_end;
use backupengine_format::trailer::{TRAILER_LEN, Trailer};
use backupengine_model::ledger::SessionState;
use backupengine_model::{FrameKind, FrameRef, PackRef, SessionNo};
use backupengine_store::{BlobKey, Range};
use backupengine_vault::{LostFrame, VaultError};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// What was had of a pack.
pub(super) struct Gathered {
    /// As they are to be copied.
    pub(super) frames: Vec<(Needed, Bytes, u32)>,
    /// How many of them no reader gets.
    gained: u64,
    lost: u64,
}

impl Gathered {
    /// Whether anybody is served by moving the pack, which lies in `target` already or in none. `damaged` is what the check
    /// named.
    pub(super) fn is_worth_it(&self, target: Option<PackId>, damaged: &BTreeSet<PackId>) -> bool {
        let spoilt = target.is_none_or(|target| damaged.contains(&target));
        !self.frames.is_empty() && (self.gained > 0 || (self.lost == 0 && spoilt))
    }
}

/// Where a frame came from that no reader gets.
#[derive(Clone, Copy)]
pub(super) enum From {
    /// The vault.
    Vault,
    /// What pushes kept.
    Kept,
}

/// Relocation packs that the ledger does not point to, by the packs they hold frames of.
pub(super) type Strays = BTreeMap<PackId, Vec<PackId>>;

impl Heal<'_> {
    /// Tells where contents are known to lie.
    pub(super) fn seek(&self, survey: &Survey) -> Result<(), RepairError> {
        let mut packs = Vec::new();
        for needs in survey.packs.values() {
            let refs: BTreeSet<PackRef> = needs.values().map(|need| need.at.pack).collect();
            for pack in refs {
                packs.push((pack, self.footer(&pack)?));
            }
        }
        self.config.remains.seek(&packs);
        Ok(())
    }

    /// The list of a pack's frames, where it still reads.
    fn footer(&self, pack: &PackRef) -> Result<Option<Footer>, RepairError> {
        let store = self.vault.store();
        let suffix = (TRAILER_LEN as u64).next_multiple_of(store.grid().max(1));
        let key = BlobKey::Pack(pack.session, pack.number);
        let end = self.vault.ask(store.get(key, Range::Suffix(suffix))).map_err(VaultError::from);
        let Some(end) = self.readable(end)? else { return Ok(None) };
        let place = || {
            let at = end.bytes.len().checked_sub(TRAILER_LEN)?;
            let trailer = Trailer::decode(&end.bytes[at..]).ok().filter(|trailer| trailer.pack == *pack)?;
            let (footer_at, _) = find_end(&trailer, end.total).ok()?;
            let offset = u32::try_from(footer_at).ok()?;
            Some(FrameRef { pack: *pack, offset, stored_len: trailer.footer_len })
        };
        let Some(place) = place() else { return Ok(None) };
        let opened = self.readable(self.vault.bare_frame(FrameKind::Footer, &place, None))?;
        Ok(opened.and_then(|(_, plain)| Footer::decode(&plain).ok()))
    }

    /// Everything that is to be had of what is needed of a pack.
    pub(super) fn gather(&self, needs: &Needs) -> Result<Gathered, RepairError> {
        let mut gathered = Gathered { frames: Vec::new(), gained: 0, lost: 0 };
        let plain_lens = self.plain_lens(needs)?;
        for (rank, need) in (0..).zip(needs.values()) {
            self.go_on()?;
            let needed = Needed { kind: need.kind, at: need.at, rank };
            if let Some((body, len)) = self.readable(self.vault.frame_body(need.kind, &need.at))? {
                gathered.frames.push((needed, body, len));
                continue;
            }
            match self.lost_frame(need, &plain_lens)? {
                Some((body, len)) if need.plain_len.is_none_or(|wanted| wanted == len) => {
                    gathered.gained += 1;
                    gathered.frames.push((needed, body, len));
                }
                _ => {
                    gathered.lost += 1;
                    self.count(|stats| stats.frames_lost += 1);
                }
            }
        }
        Ok(gathered)
    }

    /// Lengths of plaintexts, by offset: references and footers say them.
    fn plain_lens(&self, needs: &Needs) -> Result<BTreeMap<u32, u32>, RepairError> {
        let mut lens = BTreeMap::new();
        let refs: BTreeSet<PackRef> = needs.values().map(|need| need.at.pack).collect();
        for pack in refs {
            let mut offset = 0_u32;
            for frame in self.footer(&pack)?.into_iter().flat_map(|footer| footer.frames) {
                lens.insert(offset, frame.plain_len);
                offset = offset.saturating_add(frame.stored_len);
            }
        }
        for need in needs.values() {
            if let Some(len) = need.plain_len {
                lens.insert(need.at.offset, len);
            }
        }
        Ok(lens)
    }

    fn lost_frame(
        &self,
        need: &Need,
        plain_lens: &BTreeMap<u32, u32>,
    ) -> Result<Option<(Bytes, u32)>, RepairError> {
        if let Some((body, plain, from)) = self.otherwise(need.kind, &need.at)? {
            self.count(|stats| match from {
                From::Vault => stats.frames_salvaged += 1,
                From::Kept => stats.frames_kept += 1,
            });
            return Ok(Some((body, plain.len() as u32)));
        }
        if need.kind != FrameKind::Data || need.uses.is_empty() {
            return Ok(None);
        }
        let lost = LostFrame { at: need.at, uses: &need.uses, plain_lens };
        let found = self.config.remains.frame(&lost);
        self.count(|stats| stats.frames_from_files += u64::from(found.is_some()));
        Ok(found.map(|found| (Bytes::from(found.body), found.plain_len)))
    }

    /// A frame that no reader gets: body and plaintext, of the vault's own bytes or of what pushes kept of them.
    pub(super) fn otherwise(
        &self,
        kind: FrameKind,
        at: &FrameRef,
    ) -> Result<Option<(Bytes, Bytes, From)>, RepairError> {
        if let Some((body, plain)) = self.readable(self.vault.bare_frame(kind, at, None))? {
            return Ok(Some((body, plain, From::Vault)));
        }
        for stray in self.strays()?.get(&(at.pack.session, at.pack.number)).into_iter().flatten() {
            let place = self.readable(self.vault.place_in(at, *stray))?.flatten();
            let Some(place) = place else { continue };
            if let Some((body, plain)) = self.readable(self.vault.bare_frame(kind, &place, None))? {
                return Ok(Some((body, plain, From::Vault)));
            }
        }
        let Some(sealed) = self.config.remains.sealed(at) else { return Ok(None) };
        let opened = self.readable(self.vault.bare_frame(kind, at, Some(sealed)))?;
        Ok(opened.map(|(body, plain)| (body, plain, From::Kept)))
    }

    /// Looked for once, when the first frame is lost.
    fn strays(&self) -> Result<&Strays, RepairError> {
        if let Some(strays) = self.strays.get() {
            return Ok(strays);
        }
        let (_, list, snapshots) = self.now()?;
        let listed: BTreeSet<SessionNo> = snapshots.iter().map(|snapshot| snapshot.session).collect();
        let mut strays = Strays::new();
        let without = list
            .iter()
            .filter(|record| record.state == SessionState::Committed && !listed.contains(&record.session));
        for record in without {
            for number in (0..record.packs).filter(|number| !record.deleted.contains(number)) {
                self.go_on()?;
                let id = (record.session, number);
                for (pack, _) in self.readable(self.vault.held_in(id))?.into_iter().flatten() {
                    strays.entry(pack).or_default().push(id);
                }
            }
        }
        Ok(self.strays.get_or_init(|| strays))
    }
}
