//! How near the content of a file is: what of it this device has, and what reading it would fetch.
//!
//! **What it may not do.** Fetch content; move anything in a cache. **What always holds.** Frames and blocks count once
//! each, however often a file names them; nothing is to be fetched exactly where reading it whole asks the store for
//! nothing. Packs that were moved count as not here. **Where it is tested.** `tests/far.rs` of the reader, and
//! `tests/cli` for what the mount shows.

use crate::VaultError;
use crate::content::Next;
use crate::core::Core;
use crate::fetch::blob_of;
use backupengine_format::page::Content;
use backupengine_model::{FrameRef, Nearness, NodeId, PackRef};
use backupengine_store::BlobKey;
use std::collections::BTreeSet;
use std::ops::Range;

/// Where the content of a file lies: ranges of blobs, in order, none twice.
pub(crate) struct Places {
    /// Each range, and whether it is open in memory.
    pub(crate) ranges: Vec<(BlobKey, Range<u64>, bool)>,
    pub(crate) packs: BTreeSet<PackRef>,
}

impl Core {
    /// Where the content of a file lies. Fetches the pages that say so, for a file of very many frames.
    pub(crate) fn places(&self, id: NodeId) -> Result<Places, VaultError> {
        let found = self.file(id)?;
        let reading = self.reading(id, &found);
        reading.size()?;
        let mut places = Places { ranges: Vec::new(), packs: BTreeSet::new() };
        if let Content::Bundle { frame, .. } = &reading.entry.content {
            self.add_frame(&mut places, frame);
        }
        reading.visit(0, &mut |run| {
            if let Some(frame) = &run.frame {
                self.add_frame(&mut places, frame);
            }
            Ok(Next::More)
        })?;
        places.ranges.sort_unstable_by_key(|(blob, range, _)| (*blob, range.start));
        places.ranges.dedup_by(|next, last| {
            let same = next.0 == last.0 && next.2 == last.2 && next.1.start <= last.1.end;
            if same {
                last.1.end = last.1.end.max(next.1.end);
            }
            same
        });
        Ok(places)
    }

    fn add_frame(&self, places: &mut Places, frame: &FrameRef) {
        let blob = blob_of(frame.pack.session, frame.pack.number);
        let from = u64::from(frame.offset);
        let range = from..from + u64::from(frame.stored_len);
        let open = self.frames.holds(frame);
        places.packs.insert(frame.pack);
        match places.ranges.last_mut() {
            // Frames mostly follow each other: the list stays short.
            Some((last, before, was)) if (*last, before.end, *was) == (blob, from, open) => {
                before.end = range.end;
            }
            _ => places.ranges.push((blob, range, open)),
        }
    }

    pub(crate) fn nearness(&self, id: NodeId) -> Result<Nearness, VaultError> {
        let places = self.places(id)?;
        let fetcher = self.opener.fetcher();
        let mut near = Nearness::default();
        let mut counted: Option<(BlobKey, u32)> = None;
        let mut closed: BTreeSet<BlobKey> = BTreeSet::new();
        for (blob, range, open) in &places.ranges {
            near.stored += range.end - range.start;
            if *open {
                near.near += range.end - range.start;
                continue;
            }
            closed.insert(*blob);
            let here = fetcher.nearness(*blob, range);
            near.near += here.bytes;
            for (block, len) in here.missing {
                // The next range may begin in the block where this one ends.
                if counted.replace((*blob, block)) != Some((*blob, block)) {
                    near.to_fetch += len;
                }
            }
        }
        for pack in &places.packs {
            let blob = blob_of(pack.session, pack.number);
            if closed.contains(&blob) && !self.opener.has_key(pack) {
                near.to_fetch += fetcher.end_to_fetch(blob);
            }
        }
        Ok(near)
    }
}
