//! Second step: every pack that live snapshots need, by trailer, commitment and footer.
//!
//! **What it is.** [`PackBook`]: what became of each pack, and where its frames begin and end.
//! **What always holds.** A pack is looked at once; its list of frames is loaded again when it was pushed out
//! of the cache.

use super::data::{load_footer, look_at_footer};
use super::finding::{Object, Problem, blob_of};
use super::findings::{FindingNo, Trouble, describe, trouble};
use super::listing::MovedTo;
use super::roots::Snapshots;
use super::{CheckError, Checker, Phase};
use backupengine_format::footer::Footer;
use backupengine_format::pack::find_end;
use backupengine_format::trailer::{TRAILER_LEN, Trailer};
use backupengine_model::{FrameKind, FrameRef, PackRef, SessionNo};
use backupengine_store::{ErrorKind, Range};
use quick_cache::{Weighter, unsync};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Name of a pack.
pub(super) type PackId = (SessionNo, u32);

/// What became of a pack.
#[derive(Clone, Copy, Debug)]
pub(super) enum PackState {
    /// Trailer and footer are good.
    Whole(Place),
    /// Frames may be readable, but their list is not.
    NoFooter(PackRef),
    /// Its frames lie in this relocation pack.
    Moved(PackId),
    /// Nothing in it can be read.
    Lost(FindingNo),
}

/// What was seen of a pack.
struct Looked {
    state: Result<PackState, Trouble>,
    /// Why its list of frames cannot be used, where that is all.
    footer: Option<Trouble>,
}

/// A pack with a good trailer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) pack: PackRef,
    pub(super) footer: FrameRef,
    /// Bytes of the whole blob.
    pub(super) size: u64,
}

/// A frame in the list of its pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Border {
    pub(super) offset: u32,
    pub(super) stored_len: u32,
    pub(super) plain_len: u32,
    pub(super) kind: FrameKind,
}

/// Bytes of lists of frames that are kept.
const BORDERS: u64 = 24 << 20;

#[derive(Clone)]
struct BordersWeight;
impl Weighter<PackId, Arc<[Border]>> for BordersWeight {
    fn weight(&self, _: &PackId, borders: &Arc<[Border]>) -> u64 {
        (size_of_val::<[Border]>(borders) + 96) as u64
    }
}

/// What is known of packs.
pub(super) struct PackBook {
    states: HashMap<PackId, PackState>,
    borders: unsync::Cache<PackId, Arc<[Border]>, BordersWeight>,
}

impl PackBook {
    /// Packs whose frames can be listed, in order.
    pub(super) fn whole(&self) -> Vec<Place> {
        let mut places: Vec<Place> = self
            .states
            .values()
            .filter_map(|state| if let PackState::Whole(place) = state { Some(*place) } else { None })
            .collect();
        places.sort_unstable_by_key(|place| (place.pack.session, place.pack.number));
        places
    }
}

impl Checker<'_> {
    pub(super) fn check_packs(&self, snapshots: &Snapshots) -> Result<PackBook, CheckError> {
        let roots = snapshots.live.iter().map(|info| (info.session, PackRef::ROOT));
        let packs = snapshots.needed.packs.iter();
        let packs = packs.flat_map(|(session, numbers)| numbers.iter().map(|number| (*session, number)));
        let mut ids: Vec<PackId> = packs.chain(roots).collect();
        let stored = |id: PackId| snapshots.listing.size(blob_of(id.0, id.1)).is_some();
        ids.sort_unstable();
        ids.dedup();
        self.advance(Phase::Packs, |stats| stats.packs_total = ids.len() as u64)?;
        let states = Mutex::new(HashMap::with_capacity(ids.len()));
        let set = |id: PackId, state: PackState| {
            states.lock().unwrap_or_else(PoisonError::into_inner).insert(id, state);
            self.advance(Phase::Packs, |stats| stats.packs += 1)
        };
        self.in_parallel(&ids, |id| {
            let state = match (stored(*id), snapshots.moved.get(id)) {
                // Readers look at the old blob first, which stays for a while, and elsewhere where it does not read.
                (true, Some(MovedTo { to, gone: false })) => match self.look_at(*id)? {
                    Looked { state: Ok(PackState::Whole(place)), .. } => PackState::Whole(place),
                    _ => PackState::Moved(*to),
                },
                // One that was given up is deleted at any moment.
                (_, Some(MovedTo { to, .. })) => PackState::Moved(*to),
                (true, None) => self.check_pack(*id)?,
                (false, None) => self.check_unlisted(*id, "snapshots need it and it is not stored")?,
            };
            set(*id, state)
        })?;
        // What lies elsewhere needs its relocation pack instead.
        let mut relocations: Vec<PackId> = states
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .filter_map(|state| if let PackState::Moved(to) = state { Some(*to) } else { None })
            .collect();
        relocations.sort_unstable();
        relocations.dedup();
        self.advance(Phase::Packs, |stats| stats.packs_total += relocations.len() as u64)?;
        self.in_parallel(&relocations, |id| {
            let missing = "it holds frames that snapshots need, and is not stored";
            set(*id, if stored(*id) { self.check_pack(*id)? } else { self.check_unlisted(*id, missing)? })
        })?;
        let states = states.into_inner().unwrap_or_else(PoisonError::into_inner);
        let borders = unsync::Cache::with_weighter(4096, BORDERS, BordersWeight);
        Ok(PackBook { states, borders })
    }

    /// A pack that was not stored yet when the blobs were listed, or is `missing`.
    fn check_unlisted(&self, id: PackId, missing: &str) -> Result<PackState, CheckError> {
        Ok(match self.look_at(id)? {
            Looked { state: Err((Problem::Missing, _)), .. } => {
                PackState::Lost(self.found(Object::Pack(id.0, id.1), Problem::Missing, missing))
            }
            looked => self.judge(id, looked),
        })
    }

    /// Reads trailer and footer of a pack, and notes what is wrong.
    fn check_pack(&self, id: PackId) -> Result<PackState, CheckError> {
        Ok(self.judge(id, self.look_at(id)?))
    }

    fn judge(&self, id: PackId, looked: Looked) -> PackState {
        if let Some((problem, detail)) = looked.footer {
            self.found(Object::Footer(id.0, id.1), problem, detail);
        }
        match looked.state {
            Ok(state) => state,
            Err((problem, detail)) => PackState::Lost(self.found(Object::Pack(id.0, id.1), problem, detail)),
        }
    }

    /// Reads trailer and footer of a pack.
    fn look_at(&self, id: PackId) -> Result<Looked, CheckError> {
        let (session, number) = id;
        let lost = |problem, detail: String| Ok(Looked { state: Err((problem, detail)), footer: None });
        let store = self.vault.store();
        let suffix = (TRAILER_LEN as u64).next_multiple_of(store.grid().max(1));
        let end = match self.vault.ask(store.get(blob_of(session, number), Range::Suffix(suffix))) {
            Ok(end) => end,
            // A blob of no bytes has no range to be read.
            Err(error) if error.kind == ErrorKind::BadRange => {
                return lost(Problem::Damaged, "it is empty".into());
            }
            Err(error) => return Ok(Looked { state: Err(trouble(error.into())?), footer: None }),
        };
        let Some(at) = end.bytes.len().checked_sub(TRAILER_LEN) else {
            return lost(Problem::Damaged, "it is shorter than a trailer".into());
        };
        let trailer = match Trailer::decode(&end.bytes[at..]) {
            Ok(trailer) => trailer,
            Err(error) => return lost(Problem::Damaged, describe(&error)),
        };
        if (trailer.pack.session, trailer.pack.number) != id {
            return lost(Problem::Misplaced, "another pack lies under this name".into());
        }
        let key = match self.vault.keyring().pack_key(&trailer.pack) {
            Ok(key) => key,
            Err(error) => return lost(Problem::Damaged, describe(&error)),
        };
        if key.check_commitment(&trailer.commitment).is_err() {
            return lost(Problem::Damaged, "its key commitment is not that of this vault".into());
        }
        let no_footer = |footer| Ok(Looked { state: Ok(PackState::NoFooter(trailer.pack)), footer });
        let footer_at = match find_end(&trailer, end.total) {
            Ok((footer_at, _)) => footer_at,
            Err(error) => return no_footer(Some((Problem::Damaged, describe(&error)))),
        };
        let Ok(offset) = u32::try_from(footer_at) else { return no_footer(None) };
        let footer = FrameRef { pack: trailer.pack, offset, stored_len: trailer.footer_len };
        let place = Place { pack: trailer.pack, footer, size: end.total };
        match look_at_footer(self, &place)? {
            Ok(_) => Ok(Looked { state: Ok(PackState::Whole(place)), footer: None }),
            Err(trouble) => no_footer(Some(trouble)),
        }
    }

    /// Where a referenced frame stands in its pack's list, or which finding says that it cannot be read. A
    /// reference that leads astray is the fault of `from`, whose page holds it, and not of the frame.
    ///
    /// `plain_len` is what its reference implies, where that says it exactly.
    pub(super) fn locate(
        &self,
        book: &mut PackBook,
        from: SessionNo,
        kind: FrameKind,
        at: &FrameRef,
        plain_len: Option<u64>,
    ) -> Result<Result<u32, FindingNo>, CheckError> {
        let id = (at.pack.session, at.pack.number);
        let object = Object::Frame { session: id.0, number: id.1, offset: at.offset };
        let state = match book.states.get(&id) {
            Some(state) => *state,
            // Not in any reference set, which is found elsewhere; it still may be there.
            None => {
                let state = self.check_pack(id)?;
                book.states.insert(id, state);
                state
            }
        };
        let pack = match state {
            PackState::Moved(to) => return self.locate_moved(book, to, from, kind, at, plain_len),
            PackState::Lost(finding) => return Ok(Err(finding)),
            PackState::Whole(place) => place.pack,
            PackState::NoFooter(pack) => pack,
        };
        if pack != at.pack {
            let detail = "its salt or epoch is not that of its references: it is another pack";
            return Ok(Err(self.found(Object::Pack(id.0, id.1), Problem::Misplaced, detail)));
        }
        if let Some(finding) = self.findings().get(&object) {
            return Ok(Err(finding));
        }
        let wanted = plain_len.and_then(|len| usize::try_from(len).ok());
        let PackState::Whole(place) = state else { return self.open_instead(object, kind, at, wanted) };
        let borders = match book.borders.get(&id) {
            Some(borders) => Arc::clone(borders),
            None => match load_footer(self, &place)? {
                Some(footer) => {
                    let borders = borders_of(&footer);
                    book.borders.insert(id, Arc::clone(&borders));
                    borders
                }
                None => return self.open_instead(object, kind, at, wanted),
            },
        };
        let inconsistent = |detail: &str| {
            let detail = format!("a reference to {object} {detail}");
            Ok(Err(self.found(Object::Snapshot(from), Problem::Inconsistent, detail)))
        };
        let Ok(found) = borders.binary_search_by_key(&at.offset, |border| border.offset) else {
            return inconsistent("leads to where no frame begins");
        };
        let border = borders[found];
        if (border.stored_len, border.kind) != (at.stored_len, kind) {
            return inconsistent("says another length or kind than the frame has");
        }
        if plain_len.is_some_and(|len| len != u64::from(border.plain_len)) {
            return inconsistent("says another length than the frame's bytes have");
        }
        Ok(Ok(border.plain_len))
    }

    /// [`Self::locate`] for a frame that was moved: through the table of its relocation pack.
    fn locate_moved(
        &self,
        book: &mut PackBook,
        to: PackId,
        from: SessionNo,
        kind: FrameKind,
        at: &FrameRef,
        plain_len: Option<u64>,
    ) -> Result<Result<u32, FindingNo>, CheckError> {
        let object = Object::Frame { session: at.pack.session, number: at.pack.number, offset: at.offset };
        let pack = match book.states.get(&to) {
            Some(PackState::Lost(finding)) => return Ok(Err(*finding)),
            Some(PackState::Whole(place)) => place.pack,
            _ => {
                let wanted = plain_len.and_then(|len| usize::try_from(len).ok());
                return self.open_instead(object, kind, at, wanted);
            }
        };
        if let Some(finding) = self.findings().get(&object) {
            return Ok(Err(finding));
        }
        match self.vault.place_in(at, to) {
            Ok(Some(place)) if place.pack == pack => self.locate(book, from, kind, &place, plain_len),
            // The old blob may have it still.
            Ok(_) => {
                let wanted = plain_len.and_then(|len| usize::try_from(len).ok());
                self.open_instead(object, kind, at, wanted)
            }
            Err(error) => Ok(Err(self.found_error(object, error)?)),
        }
    }

    /// Without a list of frames only opening one tells whether it is there.
    fn open_instead(
        &self,
        object: Object,
        kind: FrameKind,
        at: &FrameRef,
        plain_len: Option<usize>,
    ) -> Result<Result<u32, FindingNo>, CheckError> {
        match self.vault.frame(kind, at, plain_len) {
            Ok(bytes) => Ok(Ok(bytes.len() as u32)),
            Err(error) => Ok(Err(self.found_error(object, error)?)),
        }
    }
}

fn borders_of(footer: &Footer) -> Arc<[Border]> {
    let mut offset = 0;
    let place = |frame: &backupengine_format::footer::FooterFrame| {
        let border =
            Border { offset, stored_len: frame.stored_len, plain_len: frame.plain_len, kind: frame.kind };
        offset += frame.stored_len;
        border
    };
    footer.frames.iter().map(place).collect()
}
