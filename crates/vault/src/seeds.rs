//! Bytes from live files of this device instead of from the store.
//!
//! **What it is.** The port [`Seeds`], and the rule by which its bytes are believed: hashed whole, a chunk or a small
//! file at a time, their content id must be one that this device knows to lie at exactly the place that the snapshot's
//! pages name.
//! **What it may not do.** Fetch, or make a read fail: whatever is wrong with a seed, the store is asked.
//! **What always holds.** No byte is given that is not under a content id that was compared; bytes are hashed in the
//! buffer they are given from, so that who writes to the file meanwhile changes nothing. Nothing larger than a chunk is
//! read to serve a byte.
//! **Where it is tested.** Below, in the reader's tests, and `tests/cli` through a mount.

use crate::VaultError;
use crate::cache::Frames;
use crate::codec::Wiped;
use crate::content::{Next, Reading, Run};
use crate::fetch::flight::Flights;
use crate::stats::{Counters, count};
use backupengine_format::limits::DATA_FRAME_MAX;
use backupengine_model::{Attributes, ContentId, FrameLen, FrameRef, NodeFlags, NodeId, TreePath};
use backupengine_seal::ContentIdKey;
use bytes::{Bytes, BytesMut};
use quick_cache::sync::Cache;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Longest chunk that a seed is looked for, in bytes: what a writer stores longer than that is fetched.
pub const SEED_MAX: u64 = 4 << 20;
/// Bytes before a frame that are looked at for where its chunk begins: a whole chunk, and one of the longest before it.
const LOOK_BACK: u64 = 2 * SEED_MAX;
/// Writers end the frames of a chunk, but for its last, at multiples of this, in bytes; where content ends a chunk says
/// content.
pub const SEED_STEP: u64 = 32 << 10;
/// As many times a file may turn out not to hold what it should; then it is asked no more.
const MISSES: u8 = 3;
/// Files of which that is remembered.
const REMEMBERED: usize = 4096;
/// How far success and failure are counted.
const TRUST: i32 = 16;

/// Where content lies, as a snapshot's pages name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeedPlace<'a> {
    /// Whole frames, one behind the other in one pack.
    Chunk {
        /// The first.
        first: FrameRef,
        /// Their lengths, that of the first included.
        lens: &'a [FrameLen],
    },
    /// Part of a frame.
    Piece {
        /// The frame.
        frame: FrameRef,
        /// Where the part begins in its plaintext.
        inner: u32,
    },
}

/// Files of this device that may hold what a snapshot holds. Asked from many threads at once; nothing here fails.
pub trait Seeds: Send + Sync {
    /// Whether there is a file at this path of the snapshot that looks like the one that was pushed. Reads nothing.
    fn resembles(&self, path: &TreePath, attributes: &Attributes) -> bool;

    /// Fills `out` from `offset` of that file; false where there is none, or it ends before. What comes is not believed.
    fn read(&self, path: &TreePath, attributes: &Attributes, offset: u64, out: &mut [u8]) -> bool;

    /// Whether this device knows that content of this id lies at this place, by records that only the vault's keys can
    /// make.
    fn lies_at(&self, id: ContentId, at: &SeedPlace<'_>) -> bool;
}

/// The seeds of a vault, with what they proved to be worth.
pub(crate) struct Seedbed {
    seeds: Arc<dyn Seeds>,
    ids: ContentIdKey,
    counters: Arc<Counters>,
    misses: Cache<NodeId, u8>,
    flights: Flights<FrameRef, Option<Arc<[Bytes]>>>,
    /// So many chunks are read at once: what they take before it is known to be good stands in no budget.
    turns: [Mutex<()>; 2],
    trust: AtomicI32,
}

/// The seed of one file.
pub(crate) struct Seed<'a> {
    bed: &'a Seedbed,
    id: NodeId,
    path: TreePath,
    attributes: &'a Attributes,
}

impl Seedbed {
    pub(crate) fn new(seeds: Arc<dyn Seeds>, ids: ContentIdKey, counters: Arc<Counters>) -> Self {
        let (misses, flights) = (Cache::new(REMEMBERED), Flights::new());
        Self { seeds, ids, counters, misses, flights, turns: Default::default(), trust: AtomicI32::new(0) }
    }

    /// The seed of a file, unless it disappointed too often.
    pub(crate) fn seed<'a>(
        &'a self,
        id: NodeId,
        path: impl FnOnce() -> TreePath,
        attributes: &'a Attributes,
    ) -> Option<Seed<'a>> {
        // What mixed two states when it was pushed is no state a file is in.
        let hopeless = attributes.flags.contains(NodeFlags::TORN)
            || self.misses.get(&id).is_some_and(|misses| misses >= MISSES);
        (!hopeless).then(|| Seed { bed: self, id, path: path(), attributes })
    }

    fn note(&self, id: NodeId, len: Option<usize>) {
        let step = if len.is_some() { 1 } else { -4 };
        let stepped = |trust: i32| Some((trust + step).clamp(-TRUST, TRUST));
        // What it was before is nobody's matter.
        let (Ok(_) | Err(_)) = self.trust.fetch_update(Ordering::Relaxed, Ordering::Relaxed, stepped);
        match len {
            Some(len) => count(&self.counters.bytes_seeded, len as u64),
            None => self.misses.insert(id, self.misses.get(&id).unwrap_or(0).saturating_add(1)),
        }
    }
}

/// A buffer that is wiped when it is let go.
fn buffer(len: usize) -> Wiped<BytesMut> {
    Wiped(BytesMut::zeroed(len))
}

impl Seed<'_> {
    /// Whether it is likely to serve, so that nothing need be fetched ahead.
    pub(crate) fn will_do(&self) -> bool {
        self.bed.trust.load(Ordering::Relaxed) >= 0 && self.bed.seeds.resembles(&self.path, self.attributes)
    }

    /// The whole of a small file.
    pub(crate) fn piece(&self, frame: &FrameRef, inner: u32, len: u64) -> Option<Bytes> {
        let len = usize::try_from(len).ok().filter(|len| *len <= DATA_FRAME_MAX)?;
        let bed = self.bed;
        let mut out = buffer(len);
        let place = SeedPlace::Piece { frame: *frame, inner };
        let good = bed.seeds.read(&self.path, self.attributes, 0, &mut out.0)
            && bed.seeds.lies_at(bed.ids.content_id(&out.0), &place);
        bed.note(self.id, good.then_some(len));
        good.then(|| Bytes::from_owner(out))
    }

    /// The frame of one run of the file; the others of its chunk go to `frames`.
    pub(crate) fn frame(&self, reading: &Reading<'_>, run: &Run, frames: &Frames) -> Option<Bytes> {
        // Pages that do not read are the store's matter.
        let chunk = chunk_around(reading, run).ok()??;
        let first = chunk.first()?.frame?;
        let wanted = chunk.iter().position(|other| other.start == run.start)?;
        let all = self.bed.flights.fly(first, || self.chunk(&chunk, first, frames))?;
        all.get(wanted).cloned()
    }

    fn chunk(&self, chunk: &[Run], first: FrameRef, frames: &Frames) -> Option<Arc<[Bytes]>> {
        let bed = self.bed;
        let turn = bed.turns[first.offset as usize % bed.turns.len()].lock();
        let parts = self.read_chunk(chunk, first);
        drop(turn.unwrap_or_else(PoisonError::into_inner));
        bed.note(self.id, parts.as_ref().map(|parts| parts.iter().map(|(_, bytes)| bytes.len()).sum()));
        let parts = parts?;
        parts.iter().for_each(|(frame, bytes)| frames.put(frame, bytes));
        Some(parts.into_iter().map(|(_, bytes)| bytes).collect())
    }

    /// Each frame in a buffer of its own: one that stays in memory must not keep the whole chunk.
    fn read_chunk(&self, chunk: &[Run], first: FrameRef) -> Option<Vec<(FrameRef, Bytes)>> {
        let bed = self.bed;
        let mut hasher = bed.ids.hasher();
        let (mut parts, mut lens) = (Vec::with_capacity(chunk.len()), Vec::with_capacity(chunk.len()));
        for run in chunk {
            let frame = run.frame?;
            let mut out = buffer(run.len as usize);
            if !bed.seeds.read(&self.path, self.attributes, run.start, &mut out.0) {
                return None;
            }
            hasher.update(&out.0);
            lens.push(FrameLen { stored: frame.stored_len, plain: out.0.len() as u32 });
            parts.push((frame, Bytes::from_owner(out)));
        }
        bed.seeds.lies_at(hasher.finish(), &SeedPlace::Chunk { first, lens: &lens }).then_some(parts)
    }
}

/// The runs that are one chunk with `run`, as far as lengths and places tell; `None` where they leave it open.
fn chunk_around(reading: &Reading<'_>, run: &Run) -> Result<Option<Vec<Run>>, VaultError> {
    let from = run.start.saturating_sub(LOOK_BACK);
    let enough = (run.start + run.len).saturating_add(SEED_MAX);
    let mut runs: Vec<Run> = Vec::new();
    reading.visit(from, &mut |next| {
        runs.push(next);
        let ends = next.start >= run.start && !next.len.is_multiple_of(SEED_STEP);
        let over = ends || next.start >= enough;
        Ok(if over { Next::Enough } else { Next::More })
    })?;
    let at = runs.iter().position(|other| other.start == run.start);
    Ok(at.and_then(|at| one_chunk(&runs, at)).map(|range| runs[range].to_vec()))
}

/// Whether the second run goes on where the first ends, in the pack as in the file: a writer ends a chunk at some odd
/// place, or puts the next one elsewhere.
fn goes_on(one: &Run, two: &Run) -> bool {
    let (Some(a), Some(b)) = (one.frame, two.frame) else { return false };
    one.len.is_multiple_of(SEED_STEP)
        && one.start + one.len == two.start
        && a.pack == b.pack
        && a.offset.checked_add(a.stored_len) == Some(b.offset)
}

/// Which of `runs` are a chunk with the one at `at`. Where one ends at a multiple of [`SEED_STEP`] right before another, it is
/// taken for one of the longest, as in data that no content cuts; else the guess is wrong, and no content id fits.
fn one_chunk(runs: &[Run], at: usize) -> Option<std::ops::Range<usize>> {
    runs.get(at).filter(|run| run.frame.is_some() && run.len <= DATA_FRAME_MAX as u64)?;
    let mut first = at;
    while first > 0 && goes_on(&runs[first - 1], &runs[first]) {
        first -= 1;
    }
    // Where the list begins in the middle of the file, what is before its first run is not known.
    if (first == 0 && runs[0].start > 0) || runs[at].start - runs[first].start >= LOOK_BACK {
        return None;
    }
    let mut end = first;
    let mut len = 0;
    while end < runs.len() && (end == first || goes_on(&runs[end - 1], &runs[end])) {
        if len == SEED_MAX {
            if end > at {
                break;
            }
            (first, len) = (end, 0);
        }
        len += runs[end].len;
        end += 1;
    }
    // The last one may be of any length that a frame can have.
    (at < end && len <= SEED_MAX && runs[end - 1].len <= DATA_FRAME_MAX as u64).then_some(first..end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_model::{PackRef, SessionNo};

    const FULL: u64 = DATA_FRAME_MAX as u64;

    /// Runs of chunks of these lengths (0 is a hole), and of which chunk each run is; each second frame is cut into short
    /// ones, or none.
    fn runs_of(chunks: &[u64], mixed: bool) -> (Vec<Run>, Vec<usize>) {
        let pack = PackRef { session: SessionNo(1), number: 0, salt: [0; 8], epoch: 1 };
        let (mut runs, mut of) = (Vec::new(), Vec::new());
        let (mut start, mut offset) = (0, 0);
        for (n, &chunk) in chunks.iter().enumerate() {
            if chunk == 0 {
                runs.push(Run { start, len: 5000, frame: None });
                of.push(n);
                start += 5000;
            }
            let mut left = chunk;
            while left > 0 {
                let is_short = mixed && (chunk - left) / FULL % 2 == 1;
                let len = left.min(if is_short { SEED_STEP } else { FULL });
                runs.push(Run { start, len, frame: Some(FrameRef { pack, offset, stored_len: 77 }) });
                of.push(n);
                (start, offset, left) = (start + len, offset + 77, left - len);
            }
            // Each third chunk is followed by something else in the pack.
            offset += if n % 3 == 2 { 10 } else { 0 };
        }
        (runs, of)
    }

    #[test]
    fn chunks_are_told_apart_by_their_last_frames_and_places() {
        for mixed in [false, true] {
            told_apart(mixed);
        }
    }

    fn told_apart(mixed: bool) {
        let chunks = [5, FULL + 1, 3 * FULL - 1, FULL, 0, 7, 0, 16 * FULL, 4 * FULL + 9, 16 * FULL, 1];
        let (runs, of) = runs_of(&chunks, mixed);
        let mut told = 0;
        for (at, run) in runs.iter().enumerate() {
            let whole: Vec<usize> = (0..runs.len()).filter(|&other| of[other] == of[at]).collect();
            let expected = whole[0]..whole[whole.len() - 1] + 1;
            match one_chunk(&runs, at) {
                None => assert!(run.frame.is_none(), "run {at}"),
                Some(range) => {
                    told += 1;
                    assert_eq!(range, expected, "run {at}");
                }
            }
            // From the middle of the file on: the same, or nothing.
            for from in 1..=at {
                let range = one_chunk(&runs[from..], at - from);
                assert!(range.is_none_or(
                    |range| range.start + from == expected.start && range.end + from == expected.end
                ));
            }
        }
        assert_eq!(told, runs.len() - 2);
        // A writer with longer chunks, and frames longer than there are: left to the store.
        let (runs, _) = runs_of(&[40 * FULL + 5], mixed);
        assert!(one_chunk(&runs, runs.len() - 8).is_none() && one_chunk(&runs, runs.len() - 1).is_none());
        let long = [Run { len: FULL + 1, ..runs[0] }];
        assert!(one_chunk(&long, 0).is_none() && one_chunk(&runs, runs.len() + 9).is_none());
    }
}
