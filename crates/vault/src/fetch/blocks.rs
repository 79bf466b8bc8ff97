//! Sealed blocks of the grid: those that are there, those that are on their way, and those to be fetched.
//!
//! **What it is.** The layer between the opener and a store across a network. A read is widened to blocks; what is
//! neither in memory, nor on this device's disk, nor on its way is asked for in one range, and the
//! [`Rent`] says what to ask for ahead. Who waits is served first: ranges fetched ahead queue behind a gate
//! whose width follows the store's answers. An answer that is late is asked for a second time.
//! **What it may not do.** See keys; know what bytes mean; give bytes it did not get from the store or the disk
//! cache (that those are right the seal above shows).
//! **What always holds.** A block is on its way once at most; what is on its way ahead stays within a budget; a
//! range comes back whole or as an error. **Where it is tested.** Below; by counts in `tests/oracle`.

use super::link::Link;
use super::rent::{Access, Class, Rent};
use super::trip::{Gate, Trip};
use crate::cache::{Weighed, weighed};
use crate::stats::{Counters, count};
use backupengine_store::{BlobKey, BlockCache, ErrorKind, Got, Range, Readable, StoreError};
use bytes::{Bytes, BytesMut};
use quick_cache::Weighter;
use std::collections::HashMap;
use std::ops;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// Blocks of one range fetched ahead: small enough that nobody waits long for one of them.
const PIECE: u32 = 16;
/// Bytes on their way ahead at most.
const AHEAD_MAX: u64 = 64 << 20;
/// Lengths of blobs that are remembered.
const TOTALS: usize = 8192;
/// Bytes of sealed blocks in memory where no other budget was given.
const MEMORY: u64 = 4 << 20;

type Block = (BlobKey, u32);

#[derive(Clone)]
struct BlockWeight;
impl Weighter<Block, Bytes> for BlockWeight {
    fn weight(&self, _: &Block, bytes: &Bytes) -> u64 {
        bytes.len() as u64 + 128
    }
}

/// What is kept besides what the store holds.
struct Kept {
    memory: Weighed<Block, Bytes, BlockWeight>,
    disk: Option<Arc<dyn BlockCache>>,
    /// Whether anything is fetched ahead.
    plans: bool,
}

/// See the module.
pub(crate) struct Blocks {
    core: Arc<Core>,
}

struct Core {
    store: Arc<dyn Readable>,
    grid: u64,
    runtime: Handle,
    gate: Gate,
    kept: OnceLock<Kept>,
    state: Mutex<State>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct State {
    flying: HashMap<Block, Arc<Trip>>,
    totals: HashMap<BlobKey, u64>,
    rent: Rent,
    link: Link,
    /// Blocks on their way ahead.
    ahead: u64,
    /// Ranges on their way.
    trips: usize,
    /// Answers that somebody waited for, and how many of those were asked for twice.
    waited: u64,
    twice: u64,
}

impl State {
    /// After how long an answer is asked for again: not where one in ten was already, for then the store is slow, not
    /// the answer late.
    fn late(&mut self, len: u64) -> Option<Duration> {
        self.waited += 1;
        self.link.late(len).filter(|_| self.twice * 10 <= self.waited)
    }
}

impl Blocks {
    pub(crate) fn new(store: Arc<dyn Readable>, grid: u64, runtime: Handle, counters: Arc<Counters>) -> Self {
        let (gate, kept, state) = (Gate::new(), OnceLock::new(), Mutex::default());
        Self { core: Arc::new(Core { store, grid, runtime, gate, kept, state, counters }) }
    }

    /// Sets the budget of blocks in memory, the disk cache, and whether to fetch ahead; counts only before the first
    /// read of blocks.
    pub(crate) fn keep(&self, memory: u64, disk: Option<Arc<dyn BlockCache>>, plans: bool) {
        let memory = weighed(memory, self.core.grid, BlockWeight);
        // Set twice: the first stands.
        drop(self.core.kept.set(Kept { memory, disk, plans }));
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

    /// Fetches ranges that are likely to be asked for, as far as the budget goes; whether all was begun.
    pub(crate) fn ahead(&self, ranges: &[(BlobKey, ops::Range<u64>)]) -> bool {
        let core = &self.core;
        let mut state = core.lock();
        for (blob, range) in ranges {
            let Ok(blocks) = core.blocks(*blob, range.start, range.end - range.start) else { return false };
            if state.ahead + blocks.len() as u64 > core.room() {
                return false;
            }
            state.rent.named(*blob, blocks.clone(), true);
            core.send_ahead(&mut state, *blob, blocks);
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
        core.lock().rent.named(blob, blocks, false);
    }

    /// Bytes that may be fetched ahead of one reader: what comes must stay until it is read.
    pub(crate) fn stay(&self) -> u64 {
        self.core.room() * self.core.grid
    }
}

/// A block that is there, or the trip that brings it.
enum Part {
    Here(Bytes),
    Coming(Arc<Trip>),
}

impl Core {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> &Kept {
        let memory = || weighed(MEMORY, self.grid, BlockWeight);
        self.kept.get_or_init(|| Kept { memory: memory(), disk: None, plans: false })
    }

    /// Bytes on their way ahead, in blocks: what is fetched must have a place to stay until it is read.
    fn room(&self) -> u64 {
        let bytes = match &self.kept().disk {
            Some(_) => AHEAD_MAX,
            None => (self.kept().memory.capacity() / 4).min(AHEAD_MAX),
        };
        bytes / self.grid
    }

    fn blocks(&self, blob: BlobKey, offset: u64, len: u64) -> Result<ops::Range<u32>, StoreError> {
        let end = offset.checked_add(len).map(|end| end.div_ceil(self.grid));
        match (u32::try_from(offset / self.grid), end.and_then(|end| u32::try_from(end).ok())) {
            (Ok(first), Some(end)) => Ok(first..end),
            _ => Err(StoreError::new(ErrorKind::BadRange, "no blob is so long").about(blob)),
        }
    }

    fn here(&self, blob: BlobKey, block: u32) -> Option<Bytes> {
        let kept = self.kept();
        let found = kept.memory.get(&(blob, block));
        found.or_else(|| {
            let bytes = kept.disk.as_ref()?.get(blob, block)?;
            count(&self.counters.disk_hits, 1);
            Some(bytes)
        })
    }

    fn holds(&self, blob: BlobKey, block: u32) -> bool {
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
            let room = self.room().saturating_sub(state.ahead) as u32;
            let State { rent, link, .. } = &mut *state;
            for run in rent.read(&access, link, self.grid, room, self.room() as u32) {
                self.send_ahead(&mut state, blob, run);
            }
        }
        found.into_iter().flatten().collect()
    }

    /// Sends for what is not there and not on its way of these blocks, in pieces.
    fn send_ahead(self: &Arc<Self>, state: &mut State, blob: BlobKey, blocks: ops::Range<u32>) {
        let end = state.totals.get(&blob).map_or(u32::MAX, |total| total.div_ceil(self.grid) as u32);
        let mut run: Option<ops::Range<u32>> = None;
        for block in blocks.start..blocks.end.min(end) {
            let idle = !state.flying.contains_key(&(blob, block)) && !self.holds(blob, block);
            match &mut run {
                Some(run) if idle && run.end - run.start < PIECE => run.end = block + 1,
                _ => {
                    if let Some(run) = run.take() {
                        self.send(state, blob, run, true);
                    }
                    run = idle.then_some(block..block + 1);
                }
            }
        }
        if let Some(run) = run {
            self.send(state, blob, run, true);
        }
    }

    fn send(
        self: &Arc<Self>,
        state: &mut State,
        blob: BlobKey,
        blocks: ops::Range<u32>,
        ahead: bool,
    ) -> Arc<Trip> {
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

    async fn travel(self: Arc<Self>, trip: Arc<Trip>) {
        let mut under_way = UnderWay { core: &self, trip: &trip, begun: None, landed: false };
        let pass = if trip.ahead { self.gate.pass(&trip).await } else { None };
        let flying = {
            let mut state = self.lock();
            state.trips += 1;
            state.trips - 1
        };
        under_way.begun = Some((Instant::now(), flying));
        let answer = self.fetch(&trip).await;
        self.gate.learn(answer.as_ref().err());
        drop(pass);
        under_way.land(answer);
    }

    /// Asks; where somebody waits and the answer is late, asks once more and takes what comes first.
    async fn fetch(&self, trip: &Trip) -> Result<Got, StoreError> {
        let offset = u64::from(trip.blocks.start) * self.grid;
        let len = u64::from(trip.blocks.end) * self.grid - offset;
        let ask = || {
            count(&self.counters.store_calls, 1);
            let answer = self.store.get(trip.blob, Range::At { offset, len });
            let elsewhere =
                || StoreError::new(ErrorKind::Io, "the store sent another part than was asked for");
            Box::pin(async move {
                let got = answer.await?;
                if got.offset == offset { Ok(got) } else { Err(elsewhere().about(trip.blob)) }
            })
        };
        let late = if trip.ahead { None } else { self.lock().late(len) };
        let mut first = ask();
        let Some(late) = late else { return first.await };
        if let Ok(answer) = tokio::time::timeout(late, &mut first).await {
            return answer;
        }
        self.lock().twice += 1;
        count(&self.counters.hedged, 1);
        let mut second = ask();
        tokio::select! {
            answer = &mut first => match answer { Ok(got) => Ok(got), Err(_) => second.await },
            answer = &mut second => match answer { Ok(got) => Ok(got), Err(_) => first.await },
        }
    }

    /// `begun`: when it was asked for, if it was, and how many others were under way.
    fn land(&self, trip: &Trip, answer: Result<Got, StoreError>, begun: Option<(Instant, usize)>) {
        if let Ok(got) = &answer {
            count(&self.counters.bytes_fetched, got.bytes.len() as u64);
            count(&self.counters.bytes_ahead, if trip.ahead { got.bytes.len() as u64 } else { 0 });
            for (block, bytes) in trip.blocks.clone().zip(got.bytes.chunks(self.grid as usize)) {
                // Copied, so that one block that stays does not keep its whole range in memory.
                let bytes = Bytes::copy_from_slice(bytes);
                if let Some(disk) = &self.kept().disk {
                    disk.put(trip.blob, block, &bytes);
                }
                self.kept().memory.insert((trip.blob, block), bytes);
            }
        }
        {
            let mut state = self.lock();
            state.trips -= usize::from(begun.is_some());
            if let (Ok(got), Some((begun, flying))) = (&answer, begun) {
                state.link.landed(got.bytes.len() as u64, begun.elapsed(), flying);
                if state.totals.len() == TOTALS {
                    state.totals.clear();
                }
                state.totals.insert(trip.blob, got.total);
            } else {
                state.rent.named(trip.blob, trip.blocks.clone(), false);
            }
            for block in trip.blocks.clone() {
                let place = (trip.blob, block);
                if state.flying.get(&place).is_some_and(|flying| std::ptr::eq(&**flying, trip)) {
                    state.flying.remove(&place);
                }
            }
            state.ahead -= if trip.ahead { u64::from(trip.blocks.end - trip.blocks.start) } else { 0 };
        }
        trip.land(answer);
    }

    /// Waits for a block on the calling thread.
    fn wait(self: &Arc<Self>, trip: &Trip, block: u32) -> Result<Bytes, StoreError> {
        let answer = trip.wait();
        // What failed ahead, with nobody waiting, says little: it is asked for again by who needs it.
        let got = match answer {
            Err(_) if trip.ahead => {
                let own = {
                    let mut state = self.lock();
                    let flying = state.flying.get(&(trip.blob, block)).map(Arc::clone);
                    flying.unwrap_or_else(|| self.send(&mut state, trip.blob, block..block + 1, false))
                };
                own.want();
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
    fn join(&self, parts: &[Bytes], offset: u64, len: u64) -> Bytes {
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

/// Lands a trip however its task ends: one that broke off would leave its readers waiting, and its blocks on their way,
/// for ever.
struct UnderWay<'a> {
    core: &'a Core,
    trip: &'a Trip,
    begun: Option<(Instant, usize)>,
    landed: bool,
}

impl UnderWay<'_> {
    fn land(mut self, answer: Result<Got, StoreError>) {
        self.landed = true;
        self.core.land(self.trip, answer, self.begun);
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if !self.landed {
            let broken = StoreError::new(ErrorKind::Io, "the fetch broke off").about(self.trip.blob);
            self.core.land(self.trip, Err(broken), self.begun);
        }
    }
}
