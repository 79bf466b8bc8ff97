//! Third step: every frame of the chosen packs, opened and held against its footer.
//!
//! **What always holds.** Memory is one frame per thread; a pack is read front to back.

use super::finding::{Object, Problem};
use super::findings::{Trouble, describe, trouble};
use super::packs::{PackBook, PackId, Place};
use super::{CheckError, Checker, Phase};
use backupengine_format::footer::{Footer, FooterContent, FooterFrame};
use backupengine_model::{ContentId, FrameKind, FrameRef};
use backupengine_seal::{ContentHasher, ContentIdKey};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// A pack's footer; `None` where it cannot be used, which is a finding.
pub(super) fn load_footer(check: &Checker<'_>, place: &Place) -> Result<Option<Footer>, CheckError> {
    let object = Object::Footer(place.pack.session, place.pack.number);
    Ok(match look_at_footer(check, place)? {
        Ok(footer) => Some(footer),
        Err((problem, detail)) => {
            check.found(object, problem, detail);
            None
        }
    })
}

/// The same, without saying so.
pub(super) fn look_at_footer(
    check: &Checker<'_>,
    place: &Place,
) -> Result<Result<Footer, Trouble>, CheckError> {
    let bytes = match check.vault.frame(FrameKind::Footer, &place.footer, None) {
        Ok(bytes) => bytes,
        Err(error) => return trouble(error).map(Err),
    };
    let footer = match Footer::decode(&bytes) {
        Ok(footer) => footer,
        Err(error) => return Ok(Err((Problem::Damaged, describe(&error)))),
    };
    let frames: u64 = footer.frames.iter().map(|frame| u64::from(frame.stored_len)).sum();
    if frames > u64::from(place.footer.offset) {
        return Ok(Err((Problem::Inconsistent, "it lists frames beyond its own place".to_owned())));
    }
    Ok(Ok(footer))
}

impl Checker<'_> {
    /// Reads what was asked for; of that only what is in `again`, where anything is looked at once more.
    pub(super) fn read_data(
        &self,
        book: &PackBook,
        again: Option<&BTreeSet<PackId>>,
    ) -> Result<(), CheckError> {
        let Some(read) = self.config.read_data else { return Ok(()) };
        let ids = self.vault.keyring().content_ids();
        let chosen = |place: &Place| {
            if let Some(again) = again {
                return again.contains(&(place.pack.session, place.pack.number));
            }
            let (session, number) = (place.pack.session.0, place.pack.number);
            let mut name = read.seed.to_le_bytes().to_vec();
            name.extend_from_slice(&session.to_le_bytes());
            name.extend_from_slice(&number.to_le_bytes());
            ids.hash64(&name) % 100 < u64::from(read.percent)
        };
        let mut places = book.whole();
        places.retain(chosen);
        let bytes = places.iter().map(|place| place.size).sum();
        self.advance(Phase::Data, |stats| stats.bytes_to_read = bytes)?;
        self.in_parallel(&places, |place| self.read_pack(place, &ids))
    }

    fn read_pack(&self, place: &Place, ids: &ContentIdKey) -> Result<(), CheckError> {
        let Some(footer) = load_footer(self, place)? else { return Ok(()) };
        let (session, number) = (place.pack.session, place.pack.number);
        let mut chunk: Option<Chunk> = None;
        let mut offset = 0;
        for frame in &footer.frames {
            let at = FrameRef { pack: place.pack, offset, stored_len: frame.stored_len };
            let opened = self.vault.frame(frame.kind, &at, usize::try_from(frame.plain_len).ok());
            offset += frame.stored_len;
            match opened {
                Ok(bytes) => {
                    if !check_contents(frame, &bytes, ids, &mut chunk) {
                        let detail =
                            format!("it names other content than the frame at byte {} holds", at.offset);
                        self.found(Object::Footer(session, number), Problem::Inconsistent, detail);
                    }
                }
                Err(error) => {
                    // Of a chunk without one of its frames nothing more can be said.
                    chunk = None;
                    self.found_error(Object::Frame { session, number, offset: at.offset }, error)?;
                }
            }
            self.advance(Phase::Data, |stats| {
                stats.frames_read += 1;
                stats.bytes_read += u64::from(frame.stored_len);
            })?;
        }
        // What is no frame: filler, footer, head and trailer.
        let rest = place.size.saturating_sub(u64::from(offset));
        self.advance(Phase::Data, |stats| stats.bytes_read += rest)
    }

    /// Does something with every item, on as many threads as configured; the first error ends it.
    pub(super) fn in_parallel<T: Sync>(
        &self,
        items: &[T],
        work: impl Fn(&T) -> Result<(), CheckError> + Sync,
    ) -> Result<(), CheckError> {
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let run = || {
            while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                if failed.load(Ordering::Relaxed) {
                    break;
                }
                if let Err(error) = work(item) {
                    failed.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
            Ok(())
        };
        let others = self.config.threads.clamp(1, items.len().max(1)) - 1;
        thread::scope(|scope| {
            let others: Vec<_> = (0..others).map(|_| scope.spawn(run)).collect();
            let mut result = run();
            for other in others {
                match other.join() {
                    Ok(theirs) => result = result.and(theirs),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            result
        })
    }
}

/// A chunk whose frames are being read.
struct Chunk {
    id: ContentId,
    hasher: ContentHasher,
    /// Frames still to come.
    owed: u32,
}

/// Whether a frame holds what its footer says. A chunk is judged with its last frame.
fn check_contents(frame: &FooterFrame, bytes: &[u8], ids: &ContentIdKey, chunk: &mut Option<Chunk>) -> bool {
    let mut right = true;
    for content in &frame.contents {
        match *content {
            FooterContent::Chunk { id, frames } => {
                *chunk = Some(Chunk { id, hasher: ids.hasher(), owed: frames });
            }
            FooterContent::Piece { id, inner, len } => {
                let from = inner as usize;
                let piece = from.checked_add(len as usize).and_then(|to| bytes.get(from..to));
                right &= piece.is_some_and(|piece| ids.content_id(piece) == id);
            }
        }
    }
    if let Some(mut open) = chunk.take() {
        open.hasher.update(bytes);
        open.owed = open.owed.saturating_sub(1);
        if open.owed == 0 {
            return right && open.hasher.finish() == open.id;
        }
        *chunk = Some(open);
    }
    right
}
