//! Asks the store: exact ranges where nobody watches, blocks of the grid where somebody does.
//!
//! **What it is.** The only place of this crate that knows the store port is async. Stores that widen their reads
//! (a grid above 1) are those across a network: these are read through [`blocks`], with what that keeps and
//! fetches ahead.
//! **What it may not do.** See keys; know what bytes mean.
//! **What always holds.** A range comes back whole or as an error; equal ranges wanted at one moment are
//! fetched once. **Where it is tested.** In its modules, and by the fetch counts of `tests/oracle`.
//!
//! *Decisions.* 2026-11-24, against format.md 9: what is fetched ahead is chosen by place in the packs, with one rule for
//! reading in order and one for reading here and there ([`rent`]), instead of a class of pages and a fixed unit of
//! metadata: measured over 40 ms, a thousand small files in random order came 48 times as fast as without, `find` 12
//! times. Ranges fetched ahead are of 1 MiB, not 8: whoever comes to need one of their blocks waits for the whole
//! range. A pack's trailer is fetched beside its first frame, not before it, and ahead of a reader that comes to the
//! next pack. What may be ahead is learnt from whether what came stayed until it was read ([`reach`]): with a fixed
//! budget a disk that keeps nothing made everything be fetched twice. 2026-11-29: a stream's window is refilled in steps of
//! 4 MiB and not by halves, which let the line run dry; it begins with four times what was asked for; answers smaller than
//! a block hardly count for the rate, since a connection that was new made a fast line seem slow; what waits to be put on
//! the disk is given from there. A file of 128 MiB over 40 ms came 1.17 times as fast with a store that reads its disk, 1.29
//! with one that does not. Telling the system of this machine's own disk what will be read (posix_fadvise over the same
//! plan) was tried for stores that are near and brought nothing: small files 2 500 a second with and without it.
//! 2026-11-30: what a stream begins with is 16 times what was asked for (4 before), as far as comes in a moment ([`blocks`]):
//! of 1 MiB that keeps the line busy for half a round trip, and the connections that it takes are made one round trip
//! earlier; of 128 KiB or less it is no more than before. The same file came 1.11 times as fast (medians of nine in turn;
//! with 32 times no faster, and more in vain where nothing stays). From the first answers on both cores are busy.
//! What was asked for too far is taken back from the cursor that asked, by its number: another thread that read out of order
//! had begun a second one in the same file, and a part of the file was left to be asked for by whoever came to it, a round
//! trip for each read. The line is believed to be what it was when the vault was last mounted,
//! and the store makes connections when somebody comes to a snapshot: 347 to 388 MiB/s, medians of 15 in turn.

pub(crate) mod ahead;
mod block_on;
mod blocks;
pub(crate) mod deadline;
mod end;
pub(crate) mod flight;
mod here;
mod link;
pub(crate) mod plan;
mod reach;
mod rent;
mod travel;
mod trip;
mod waits;

pub(crate) use here::Near;
pub(crate) use rent::Class;
pub use waits::{Activity, Wait, WaitsFor};

use crate::VaultError;
use crate::stats::{Counters, count};
use backupengine_model::{PackRef, SessionNo, VaultId};
use backupengine_store::{
    BlobKey, BlobKind, BlockCache, BoxFuture, END_BLOCK, Got, Range, Readable, SnapshotList, StoreError,
};
use block_on::Waiter;
use blocks::Blocks;
use bytes::Bytes;
use flight::Flights;
use std::sync::Arc;
use waits::Waits;

/// A range of a blob.
pub(crate) type Place = (BlobKey, std::ops::Range<u64>);

/// A blob and a range of it; `u64::MAX` as offset means the end of the blob.
type Wanted = (BlobKey, u64, u64);

/// Blocking reads of one store.
pub(crate) struct Fetcher {
    store: Arc<dyn Readable>,
    waiter: Waiter,
    grid: u64,
    flights: Flights<Wanted, Result<Got, StoreError>>,
    counters: Arc<Counters>,
    waits: Arc<Waits>,
    /// Of stores across a network.
    blocks: Option<Blocks>,
}

/// The blob a pack lies in.
pub(crate) fn blob_of(session: SessionNo, number: u32) -> BlobKey {
    if number == PackRef::ROOT { BlobKey::Root(session) } else { BlobKey::Pack(session, number) }
}

impl Fetcher {
    pub(crate) fn new(store: Arc<dyn Readable>) -> Result<Self, VaultError> {
        let grid = store.grid().max(1);
        let waiter = Waiter::for_grid(grid)?;
        let counters: Arc<Counters> = Arc::default();
        let waits: Arc<Waits> = Arc::default();
        let blocks = waiter.runtime().map(|runtime| {
            let (counters, waits) = (Arc::clone(&counters), Arc::clone(&waits));
            Blocks::new(Arc::clone(&store), grid, runtime.clone(), counters, waits)
        });
        Ok(Self { waiter, grid, flights: Flights::new(), counters, waits, blocks, store })
    }

    /// Sets what is kept of sealed blocks (bytes in memory, a cache on this device's disk), whether to fetch ahead, and
    /// whether to note what is asked for.
    pub(crate) fn keep(&self, memory: u64, disk: Option<Arc<dyn BlockCache>>, plans: bool, note: bool) {
        if let Some(blocks) = &self.blocks {
            blocks.keep(memory, disk, plans, note);
        }
    }

    /// Believes that the way to the store carries so many bytes a second, until something says better.
    pub(crate) fn expect_pace(&self, pace: Option<u64>) {
        if let (Some(blocks), Some(pace)) = (&self.blocks, pace) {
            blocks.expect_pace(pace);
        }
    }

    /// Bytes a second that the way to the store carries, where that was seen.
    pub(crate) fn pace(&self) -> Option<u64> {
        self.blocks.as_ref().and_then(Blocks::pace)
    }

    /// Blocks that were asked for so far, where that is noted.
    pub(crate) fn touched(&self) -> Vec<blocks::Block> {
        self.blocks.as_ref().map_or_else(Vec::new, Blocks::touched)
    }

    /// Whether the store is across a network.
    pub(crate) fn is_far(&self) -> bool {
        self.blocks.is_some()
    }

    pub(crate) fn store(&self) -> &Arc<dyn Readable> {
        &self.store
    }

    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Waits for an answer of the store on the calling thread.
    pub(crate) fn ask<T>(&self, answer: BoxFuture<'_, Result<T, StoreError>>) -> Result<T, StoreError> {
        count(&self.counters.store_calls, 1);
        let _waiting = self.waits.begin(None);
        let answer = self.waiter.wait(answer, deadline::until()).unwrap_or_else(|| Err(deadline::passed()));
        self.waits.learn(answer.as_ref().err());
        answer
    }

    /// Who waits for the store, and what is on its way.
    pub(crate) fn activity(&self) -> Activity {
        let (waits, away_since) = self.waits.now();
        let (under_way, bytes_ahead) = self.blocks.as_ref().map_or((0, 0), Blocks::under_way);
        Activity { waits, under_way, bytes_ahead, away_since }
    }

    fn get(&self, blob: BlobKey, range: Range) -> Result<Got, StoreError> {
        let (offset, len) = match range {
            Range::Whole => (0, u64::MAX),
            Range::At { offset, len } => (offset, len),
            Range::Suffix(len) => (u64::MAX, len),
        };
        self.flights.fly((blob, offset, len), || {
            let got = self.ask(self.store.get(blob, range))?;
            count(&self.counters.bytes_fetched, got.bytes.len() as u64);
            Ok(got)
        })
    }

    /// Exactly `len` bytes from `offset` on.
    pub(crate) fn range(
        &self,
        blob: BlobKey,
        offset: u64,
        len: u64,
        class: Class,
    ) -> Result<Bytes, VaultError> {
        let short = || VaultError::damaged(blob, offset, "the blob ends too early");
        if let Some(blocks) = &self.blocks {
            let bytes = blocks.range(blob, offset, len, class)?;
            return if bytes.len() as u64 == len { Ok(bytes) } else { Err(short()) };
        }
        let got = self.get(blob, Range::At { offset, len })?;
        cut(&got, offset, len).ok_or_else(short)
    }

    /// Begins to fetch a range that is about to be asked for, where that takes time.
    pub(crate) fn start(&self, blob: BlobKey, offset: u64, len: u64, class: Class) {
        if let Some(blocks) = &self.blocks {
            blocks.start(blob, offset, len, class);
        }
    }

    /// Begins to fetch ranges that are about to be read, all at once, where that takes time.
    pub(crate) fn want(&self, places: &[Place]) {
        if let Some(blocks) = &self.blocks {
            blocks.want(places);
        }
    }

    /// Fetches ranges that are likely to be asked for, as far as the budget goes; whether all are there or on their way.
    pub(crate) fn ahead(&self, places: &[Place]) -> bool {
        self.blocks.as_ref().is_none_or(|blocks| blocks.ahead(places))
    }

    /// Bytes that come in a moment: one reader is led by no more.
    pub(crate) fn moment(&self) -> u64 {
        self.blocks.as_ref().map_or(u64::MAX, Blocks::moment)
    }

    /// Bytes that may be fetched ahead of one reader.
    pub(crate) fn stay(&self) -> u64 {
        self.blocks.as_ref().map_or(0, Blocks::stay)
    }

    /// Drops what is kept of a range that did not authenticate.
    pub(crate) fn forget(&self, blob: BlobKey, offset: u64, len: u64) {
        if let Some(blocks) = &self.blocks {
            blocks.forget(blob, offset, len);
        }
    }

    /// At least the last `len` bytes (the whole blob if it is shorter).
    pub(crate) fn suffix(&self, blob: BlobKey, len: u64) -> Result<Got, VaultError> {
        if let Some(kept) = self.blocks.as_ref().and_then(|blocks| blocks.end(blob, len)) {
            return Ok(kept);
        }
        let got = match (&self.blocks, blob) {
            (Some(blocks), BlobKey::Pack(..)) if len <= self.grid => blocks.tail(blob)?,
            _ => self.get(blob, Range::Suffix(len.next_multiple_of(self.grid)))?,
        };
        if let Some(blocks) = &self.blocks {
            blocks.keep_end(blob, &got);
        }
        Ok(got)
    }

    /// Loads something that lies at the end of a blob and says itself where it is damaged; once more where what this
    /// device kept of that end may be to blame.
    pub(crate) fn load_end<T>(
        &self,
        blob: BlobKey,
        load: impl Fn() -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        match load() {
            Err(VaultError::Damaged { offset, .. }) if self.forget_from(blob, offset) => load(),
            done => done,
        }
    }

    /// Drops what this device keeps of the end of a blob; whether it kept any.
    pub(crate) fn forget_end(&self, blob: BlobKey) -> bool {
        self.blocks.as_ref().is_some_and(|blocks| blocks.forget_end(blob))
    }

    /// Drops what this device keeps of a blob from this byte on; whether it kept any.
    fn forget_from(&self, blob: BlobKey, offset: u64) -> bool {
        self.blocks.as_ref().is_some_and(|blocks| blocks.forget_from(blob, offset))
    }

    /// The parts of a range that are on this device, and the blocks that are not; none of either where the store is
    /// near.
    pub(crate) fn nearness(&self, blob: BlobKey, range: &std::ops::Range<u64>) -> Near {
        match &self.blocks {
            Some(blocks) => blocks.nearness(blob, range),
            None => Near { bytes: range.end - range.start, missing: Vec::new() },
        }
    }

    /// Numbers of the blocks that a range lies in.
    pub(crate) fn blocks_of(&self, blob: BlobKey, range: &std::ops::Range<u64>) -> std::ops::Range<u32> {
        self.blocks.as_ref().map_or(0..0, |blocks| blocks.blocks_of(blob, range))
    }

    /// Brings a block, or the end of a blob, into the disk cache; whether it is there now.
    pub(crate) fn bring(&self, blob: BlobKey, block: u32) -> Result<bool, VaultError> {
        let Some(blocks) = &self.blocks else { return Ok(false) };
        if block == END_BLOCK {
            self.suffix(blob, 1)?;
            return Ok(blocks.holds_end(blob));
        }
        Ok(blocks.bring(blob, block)?)
    }

    /// Bytes that fetching the end of a blob costs; 0 where it is on this device.
    pub(crate) fn end_to_fetch(&self, blob: BlobKey) -> u64 {
        self.blocks.as_ref().filter(|blocks| !blocks.holds_end(blob)).map_or(0, |_| self.grid)
    }

    /// A whole small blob.
    pub(crate) fn whole(&self, blob: BlobKey) -> Result<Bytes, VaultError> {
        Ok(self.get(blob, Range::Whole)?.bytes)
    }

    pub(crate) fn list(&self, kind: BlobKind) -> Result<Vec<(BlobKey, u64)>, StoreError> {
        self.ask(self.store.list(kind))
    }

    pub(crate) fn vault(&self) -> Result<VaultId, StoreError> {
        self.ask(self.store.vault())
    }

    pub(crate) fn version(&self) -> Result<u64, StoreError> {
        self.ask(self.store.version())
    }

    pub(crate) fn snapshots(&self) -> Result<SnapshotList, StoreError> {
        self.ask(self.store.snapshots())
    }

    pub(crate) fn space(&self) -> Result<(u64, Option<u64>), StoreError> {
        self.ask(self.store.space())
    }
}

/// `len` bytes from `offset` of the blob, if `got` holds them all.
pub(crate) fn cut(got: &Got, offset: u64, len: u64) -> Option<Bytes> {
    let from = usize::try_from(offset.checked_sub(got.offset)?).ok()?;
    let to = from.checked_add(usize::try_from(len).ok()?)?;
    if (from, to) == (0, got.bytes.len()) {
        return Some(got.bytes.clone());
    }
    (to <= got.bytes.len()).then(|| got.bytes.slice(from..to))
}
