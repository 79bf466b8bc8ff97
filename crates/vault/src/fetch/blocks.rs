//! Sealed blocks of the grid: those that are there, those that are on their way, and those to be fetched.
//!
//! **What it is.** The layer between the opener and a store across a network. A read is widened to blocks; what is
//! neither in memory, nor on this device's disk, nor on its way is asked for in one range, and the
//! [`Rent`] says what to ask for ahead. Who waits is served first: ranges fetched ahead queue behind a gate
//! whose width follows the store's answers. An answer that is late is asked for a second time.
//! **What it may not do.** See keys; know what bytes mean; give bytes it did not get from the store or the disk
//! cache (that those are right the seal above shows).
//! **What always holds.** A block is on its way once at most; what is on its way ahead stays within a budget; a
//! range comes back whole or as an error. **Where it is tested.** In `tests::far`; by counts in `tests/oracle`.

use super::Place;
use super::link::Link;
use super::reach::Reach;
use super::rent::{Access, Class, Rent};
use super::trip::{Gate, Trip};
use super::waits::Waits;
use crate::cache::{Weighed, weighed};
use crate::stats::{Counters, count};
use backupengine_store::{BlobKey, BlockCache, END_BLOCK, ErrorKind, Got, Readable, StoreError};
use bytes::{Bytes, BytesMut};
use quick_cache::Weighter;
use std::collections::{BTreeSet, HashMap};
use std::ops;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;

/// Blocks of one range fetched ahead: small enough that nobody waits long for one of them.
const PIECE: u32 = 16;
/// Bytes on their way ahead at most.
const AHEAD_MAX: u64 = 64 << 20;
/// The same, as so many times what sealed blocks may take in memory: what comes is in memory until it is put somewhere.
const IN_HAND: u64 = 5;
/// What one reader is led by at most, in time and, on the slowest line, in bytes.
const MOMENT: Duration = Duration::from_millis(700);
const MOMENT_MIN: u64 = 256 << 10;
/// Lengths of blobs that are remembered.
pub(super) const TOTALS: usize = 8192;
/// Bytes of sealed blocks in memory where no other budget was given.
const MEMORY: u64 = 4 << 20;

/// A block of a blob.
pub(crate) type Block = (BlobKey, u32);

#[derive(Clone)]
pub(super) struct BlockWeight;
impl Weighter<Block, Bytes> for BlockWeight {
    fn weight(&self, _: &Block, bytes: &Bytes) -> u64 {
        bytes.len() as u64 + 128
    }
}

/// What is kept besides what the store holds.
pub(super) struct Kept {
    pub(super) memory: Weighed<Block, Bytes, BlockWeight>,
    pub(super) disk: Option<Arc<dyn BlockCache>>,
    /// Whether anything is fetched ahead.
    pub(super) plans: bool,
    /// What was asked for, where that is noted.
    pub(super) touched: Option<Mutex<BTreeSet<Block>>>,
}

/// See the module.
pub(crate) struct Blocks {
    pub(super) core: Arc<Core>,
}

pub(super) struct Core {
    pub(super) store: Arc<dyn Readable>,
    pub(super) grid: u64,
    pub(super) runtime: Handle,
    pub(super) gate: Gate,
    pub(super) kept: OnceLock<Kept>,
    pub(super) state: Mutex<State>,
    pub(super) counters: Arc<Counters>,
    pub(super) waits: Arc<Waits>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) flying: HashMap<Block, Arc<Trip>>,
    /// Ends of blobs that are on their way.
    pub(super) tails: HashMap<BlobKey, Arc<Trip>>,
    pub(super) totals: HashMap<BlobKey, u64>,
    pub(super) rent: Rent,
    pub(super) link: Link,
    /// Blocks on their way ahead.
    pub(super) ahead: u64,
    pub(super) reach: Reach,
    /// Ranges on their way.
    pub(super) trips: usize,
    /// Answers that somebody waited for, and how many of those were asked for twice.
    pub(super) waited: u64,
    pub(super) twice: u64,
}

impl State {
    /// Remembers the length of a blob.
    pub(super) fn know(&mut self, blob: BlobKey, total: u64) {
        if self.totals.len() == TOTALS {
            self.totals.clear();
        }
        self.totals.insert(blob, total);
    }

    /// After how long an answer is asked for again: not where one in ten was already, for then the store is slow, not
    /// the answer late.
    pub(super) fn late(&mut self, len: u64) -> Option<Duration> {
        self.waited += 1;
        self.link.late(len).filter(|_| self.twice * 10 <= self.waited)
    }
}

impl Blocks {
    pub(crate) fn new(
        store: Arc<dyn Readable>,
        grid: u64,
        runtime: Handle,
        counters: Arc<Counters>,
        waits: Arc<Waits>,
    ) -> Self {
        let (gate, kept, state) = (Gate::new(), OnceLock::new(), Mutex::default());
        Self { core: Arc::new(Core { store, grid, runtime, gate, kept, state, counters, waits }) }
    }

    /// Ranges on their way, and bytes of those that are fetched ahead.
    pub(crate) fn under_way(&self) -> (usize, u64) {
        let state = self.core.lock();
        (state.trips, state.ahead * self.core.grid)
    }

    /// Sets the budget of blocks in memory, the disk cache, whether to fetch ahead, and whether to note what is asked
    /// for; counts only before the first read of blocks.
    pub(crate) fn keep(&self, memory: u64, disk: Option<Arc<dyn BlockCache>>, plans: bool, note: bool) {
        let memory = weighed(memory, self.core.grid, BlockWeight);
        let touched = note.then(Mutex::default);
        // Set twice: the first stands.
        drop(self.core.kept.set(Kept { memory, disk, plans, touched }));
    }

    /// Counts only before the first answer.
    pub(crate) fn expect_pace(&self, pace: u64) {
        self.core.lock().link.expect(pace);
    }

    /// Bytes a second, where that was seen.
    pub(crate) fn pace(&self) -> Option<u64> {
        self.core.lock().link.pace()
    }

    /// Exactly `len` bytes from `offset` on; fewer where the blob ends.
    pub(crate) fn range(
        &self,
        blob: BlobKey,
        offset: u64,
        len: u64,
        class: Class,
    ) -> Result<Bytes, StoreError> {
        let core = &self.core;
        let blocks = core.blocks(blob, offset, len)?;
        core.touch(blob, blocks.clone());
        let mut parts = Vec::with_capacity(blocks.len());
        for (block, part) in blocks.clone().zip(core.begin(blob, blocks, class)) {
            parts.push(match part {
                Part::Here(bytes) => bytes,
                Part::Coming(trip) => core.wait(&trip, block)?,
            });
        }
        Ok(core.join(&parts, offset, len))
    }

    /// Begins to fetch a range that is about to be asked for.
    pub(crate) fn start(&self, blob: BlobKey, offset: u64, len: u64, class: Class) {
        if let Ok(blocks) = self.core.blocks(blob, offset, len) {
            self.core.begin(blob, blocks, class);
        }
    }

    /// The end of a blob, one block at least or all of it: found by its length where that is known.
    pub(crate) fn tail(&self, blob: BlobKey) -> Result<Got, StoreError> {
        let core = &self.core;
        let (total, trip) = {
            let mut state = core.lock();
            let total = state.totals.get(&blob).copied();
            (total, if total.is_some() { None } else { core.send_tail(&mut state, blob, false) })
        };
        match (total, trip) {
            (Some(total), _) => {
                let offset = total.saturating_sub(core.grid);
                Ok(Got { bytes: self.range(blob, offset, total - offset, Class::Large)?, offset, total })
            }
            (None, Some(trip)) => match trip.wait() {
                Err(_) if trip.ahead => {
                    let again = core.send_tail(&mut core.lock(), blob, false);
                    again.unwrap_or(trip).wait()
                }
                answer => answer,
            },
            (None, None) => Err(StoreError::new(ErrorKind::Io, "nothing was asked for").about(blob)),
        }
    }

    /// Begins to fetch what is about to be read.
    pub(crate) fn want(&self, places: &[Place]) {
        let core = &self.core;
        let mut state = core.lock();
        for (blob, range) in places {
            core.send_tail(&mut state, *blob, true);
            if let Ok(blocks) = core.blocks(*blob, range.start, range.end - range.start) {
                core.send_missing(&mut state, *blob, blocks, false);
            }
        }
    }

    /// Fetches ranges that are likely to be asked for, nearest first, as far as the budget goes; whether all of them are
    /// there or on their way.
    pub(crate) fn ahead(&self, places: &[Place]) -> bool {
        let core = &self.core;
        let mut state = core.lock();
        for (blob, range) in places {
            let Ok(mut blocks) = core.blocks(*blob, range.start, range.end - range.start) else {
                return true;
            };
            let room = core.flying(&state).saturating_sub(state.ahead);
            let room = u32::try_from(room).unwrap_or(u32::MAX);
            let end = blocks.end;
            blocks.end = end.min(blocks.start.saturating_add(room));
            if !blocks.is_empty() {
                core.send_tail(&mut state, *blob, true);
                state.rent.named(*blob, blocks.clone(), true);
                core.send_missing(&mut state, *blob, blocks.clone(), true);
            }
            if blocks.end < end {
                return false;
            }
        }
        true
    }

    /// Drops what is kept of a range that did not authenticate.
    pub(crate) fn forget(&self, blob: BlobKey, offset: u64, len: u64) {
        let core = &self.core;
        let Ok(blocks) = core.blocks(blob, offset, len) else { return };
        for block in blocks.clone() {
            core.kept().memory.remove(&(blob, block));
        }
        if let Some(disk) = &core.kept().disk {
            disk.drop_blocks(blob, blocks.clone());
        }
        let mut state = core.lock();
        state.rent.named(blob, blocks, false);
        state.totals.remove(&blob);
    }

    /// Bytes that come in a moment and stay: no more is fetched ahead of one reader.
    pub(crate) fn moment(&self) -> u64 {
        let state = self.core.lock();
        state.link.carries(MOMENT).max(MOMENT_MIN).min(self.core.room(&state) * self.core.grid)
    }

    /// Bytes that may be fetched ahead of one reader: what comes must stay until it is read.
    pub(crate) fn stay(&self) -> u64 {
        self.core.most() * self.core.grid
    }
}

/// A block that is there, or the trip that brings it.
enum Part {
    Here(Bytes),
    Coming(Arc<Trip>),
}

impl Core {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn kept(&self) -> &Kept {
        let memory = || weighed(MEMORY, self.grid, BlockWeight);
        self.kept.get_or_init(|| Kept { memory: memory(), disk: None, plans: false, touched: None })
    }

    pub(super) fn touch(&self, blob: BlobKey, blocks: ops::Range<u32>) {
        if let Some(touched) = &self.kept().touched {
            let mut touched = touched.lock().unwrap_or_else(PoisonError::into_inner);
            touched.extend(blocks.map(|block| (blob, block)));
        }
    }

    /// Blocks on their way ahead at most.
    pub(super) fn most(&self) -> u64 {
        let memory = self.kept().memory.capacity() / 4;
        (if self.kept().disk.is_some() { AHEAD_MAX } else { memory.min(AHEAD_MAX) }) / self.grid
    }

    /// Blocks that one reader is led by: what is fetched must have a place to stay until it is read.
    fn room(&self, state: &State) -> u64 {
        state.reach.blocks(self.most())
    }

    /// Blocks that may be on their way ahead now.
    fn flying(&self, state: &State) -> u64 {
        let memory = self.kept().memory.capacity() * IN_HAND / self.grid;
        state.reach.flying(self.most()).min(memory)
    }

    pub(super) fn blocks(&self, blob: BlobKey, offset: u64, len: u64) -> Result<ops::Range<u32>, StoreError> {
        let end = offset.checked_add(len).map(|end| end.div_ceil(self.grid));
        match (u32::try_from(offset / self.grid), end.and_then(|end| u32::try_from(end).ok())) {
            (Ok(first), Some(end)) => Ok(first..end),
            _ => Err(StoreError::new(ErrorKind::BadRange, "no blob is so long").about(blob)),
        }
    }

    pub(super) fn here(&self, blob: BlobKey, block: u32) -> Option<Bytes> {
        let kept = self.kept();
        if let Some(bytes) = kept.memory.get(&(blob, block)) {
            count(&self.counters.memory_hits, 1);
            return Some(bytes);
        }
        let bytes = kept.disk.as_ref()?.get(blob, block)?;
        count(&self.counters.disk_hits, 1);
        Some(bytes)
    }

    pub(super) fn holds(&self, blob: BlobKey, block: u32) -> bool {
        let kept = self.kept();
        kept.memory.contains_key(&(blob, block)) || kept.disk.as_ref().is_some_and(|d| d.holds(blob, block))
    }

    /// The parts of a read; what is missing is on its way when this returns, and what the plan adds.
    fn begin(self: &Arc<Self>, blob: BlobKey, blocks: ops::Range<u32>, class: Class) -> Vec<Part> {
        let mut found: Vec<Option<Part>> =
            blocks.clone().map(|block| self.here(blob, block).map(Part::Here)).collect();
        let mut state = self.lock();
        let mut missing: Option<ops::Range<u32>> = None;
        let mut sent = false;
        for (block, part) in blocks.clone().zip(&mut found).filter(|(_, part)| part.is_none()) {
            // It may have come in the meantime.
            if let Some(bytes) = self.kept().memory.get(&(blob, block)) {
                *part = Some(Part::Here(bytes));
            } else if let Some(trip) = state.flying.get(&(blob, block)) {
                trip.want();
                *part = Some(Part::Coming(Arc::clone(trip)));
            } else {
                missing = Some(missing.map_or(block, |run| run.start)..block + 1);
            }
        }
        count(&self.counters.misses, found.iter().filter(|part| part.is_none()).count() as u64);
        if let Some(run) = missing {
            // One range over the gaps: blocks of one read lie together.
            let run = self.send(&mut state, blob, run, false);
            sent = true;
            for (block, part) in blocks.clone().zip(&mut found).filter(|(_, part)| part.is_none()) {
                *part = run.blocks.contains(&block).then(|| Part::Coming(Arc::clone(&run)));
            }
        }
        if self.kept().plans {
            let total = state.totals.get(&blob).map(|total| total.div_ceil(self.grid) as u32);
            let access = Access { blob, blocks, class, missed: sent, total };
            if !sent {
                let stayed = state.rent.unread(blob, access.blocks.clone());
                state.reach.stayed(stayed, self.most());
            }
            let (stay, room) = (self.room(&state), self.flying(&state).saturating_sub(state.ahead) as u32);
            let State { rent, link, .. } = &mut *state;
            for run in rent.read(&access, link, self.grid, room, stay as u32) {
                self.send_missing(&mut state, blob, run, true);
            }
        }
        found.into_iter().flatten().collect()
    }

    /// Sends for what is not there and not on its way of these blocks, in pieces.
    fn send_missing(
        self: &Arc<Self>,
        state: &mut State,
        blob: BlobKey,
        blocks: ops::Range<u32>,
        ahead: bool,
    ) {
        let end = state.totals.get(&blob).map_or(u32::MAX, |total| total.div_ceil(self.grid) as u32);
        let mut run: Option<ops::Range<u32>> = None;
        for block in blocks.start..blocks.end.min(end) {
            let flying = state.flying.get(&(blob, block));
            if let Some(trip) = flying.filter(|_| !ahead) {
                trip.want();
            }
            let idle = flying.is_none() && !self.holds(blob, block);
            match &mut run {
                Some(run) if idle && run.end - run.start < PIECE => run.end = block + 1,
                _ => {
                    if let Some(run) = run.take() {
                        self.send(state, blob, run, ahead);
                    }
                    run = idle.then_some(block..block + 1);
                }
            }
        }
        if let Some(run) = run {
            self.send(state, blob, run, ahead);
        }
    }

    /// Sends for the end of a pack whose length is not known: nothing of it opens before that was seen. The trip that
    /// brings it, if one does.
    fn send_tail(self: &Arc<Self>, state: &mut State, blob: BlobKey, ahead: bool) -> Option<Arc<Trip>> {
        if !matches!(blob, BlobKey::Pack(..)) || state.totals.contains_key(&blob) {
            return None;
        }
        if ahead && self.kept().disk.as_ref().is_some_and(|disk| disk.holds(blob, END_BLOCK)) {
            return None;
        }
        if let Some(trip) = state.tails.get(&blob) {
            return Some(Arc::clone(trip));
        }
        let trip = Arc::new(Trip::new(blob, 0..0, ahead));
        // It is small, and everything else of the pack waits for it.
        trip.want();
        state.tails.insert(blob, Arc::clone(&trip));
        let (core, sent) = (Arc::clone(self), Arc::clone(&trip));
        self.runtime.spawn(async move { core.travel(sent).await });
        Some(trip)
    }

    fn send(
        self: &Arc<Self>,
        state: &mut State,
        blob: BlobKey,
        blocks: ops::Range<u32>,
        ahead: bool,
    ) -> Arc<Trip> {
        if !ahead && state.rent.unread(blob, blocks.clone()) > 0 {
            // What came ahead did not stay.
            state.reach.lost(self.most());
        }
        let trip = Arc::new(Trip::new(blob, blocks.clone(), ahead));
        for block in blocks.clone() {
            // A gap's block may be on its way already: it keeps its trip.
            state.flying.entry((blob, block)).or_insert_with(|| Arc::clone(&trip));
        }
        state.ahead += if ahead { u64::from(blocks.end - blocks.start) } else { 0 };
        let (core, sent) = (Arc::clone(self), Arc::clone(&trip));
        self.runtime.spawn(async move { core.travel(sent).await });
        trip
    }

    /// Waits for a block on the calling thread.
    fn wait(self: &Arc<Self>, trip: &Arc<Trip>, block: u32) -> Result<Bytes, StoreError> {
        let waiting = self.waits.begin(Some(trip));
        let answer = trip.wait();
        drop(waiting);
        // What failed ahead, with nobody waiting, says little: it is asked for again by who needs it.
        let got = match answer {
            Err(_) if trip.ahead => {
                let own = {
                    let mut state = self.lock();
                    let flying = state.flying.get(&(trip.blob, block)).map(Arc::clone);
                    flying.unwrap_or_else(|| self.send(&mut state, trip.blob, block..block + 1, false))
                };
                own.want();
                let _waiting = self.waits.begin(Some(&own));
                return own.wait().map(|got| self.block_of(&got, block));
            }
            answer => answer?,
        };
        Ok(self.block_of(&got, block))
    }

    fn block_of(&self, got: &Got, block: u32) -> Bytes {
        let at =
            (u64::from(block) * self.grid).saturating_sub(got.offset).min(got.bytes.len() as u64) as usize;
        got.bytes.slice(at..got.bytes.len().min(at + self.grid as usize))
    }

    /// The wanted bytes of these blocks, in a buffer of their own, so that they can be opened in place.
    pub(super) fn join(&self, parts: &[Bytes], offset: u64, len: u64) -> Bytes {
        let mut skip = (offset % self.grid) as usize;
        let mut left = len as usize;
        let mut joined = BytesMut::with_capacity(left);
        for part in parts {
            let from = skip.min(part.len());
            let to = part.len().min(from + left);
            joined.extend_from_slice(&part[from..to]);
            left -= to - from;
            skip = 0;
            // A short block is the last.
            if part.len() < self.grid as usize {
                break;
            }
        }
        joined.freeze()
    }
}
