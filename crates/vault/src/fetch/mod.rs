//! Asks the store: exact ranges where nobody watches, ranges on the grid where somebody does.
//!
//! **What it is.** The only place of this crate that knows the store port is async.
//! **What it may not do.** See keys; know what bytes mean.
//! **What always holds.** A range comes back whole or as an error; equal ranges wanted at one moment are
//! fetched once. **Where it is tested.** Below, and by the fetch counts of `tests/oracle`.

pub(crate) mod ahead;
mod block_on;
mod flight;
pub(crate) mod plan;

use crate::VaultError;
use crate::stats::{Counters, count};
use backupengine_model::{PackRef, SessionNo, VaultId};
use backupengine_store::{BlobKey, BlobKind, BoxFuture, Got, Range, Readable, SnapshotList, StoreError};
use block_on::Waiter;
use bytes::Bytes;
use flight::Flights;
use std::sync::Arc;

/// A blob and a range of it; `u64::MAX` as offset means the end of the blob.
type Wanted = (BlobKey, u64, u64);

/// Blocking reads of one store.
pub(crate) struct Fetcher {
    store: Arc<dyn Readable>,
    waiter: Waiter,
    grid: u64,
    flights: Flights<Wanted, Result<Got, StoreError>>,
    counters: Arc<Counters>,
}

/// The blob a pack lies in.
pub(crate) fn blob_of(session: SessionNo, number: u32) -> BlobKey {
    if number == PackRef::ROOT { BlobKey::Root(session) } else { BlobKey::Pack(session, number) }
}

impl Fetcher {
    pub(crate) fn new(store: Arc<dyn Readable>) -> Result<Self, VaultError> {
        let grid = store.grid().max(1);
        Ok(Self {
            waiter: Waiter::for_grid(grid)?,
            grid,
            flights: Flights::new(),
            counters: Arc::default(),
            store,
        })
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
        self.waiter.wait(answer)
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
    pub(crate) fn range(&self, blob: BlobKey, offset: u64, len: u64) -> Result<Bytes, VaultError> {
        let from = offset / self.grid * self.grid;
        let to = (offset + len).next_multiple_of(self.grid);
        let got = self.get(blob, Range::At { offset: from, len: to - from })?;
        cut(&got, offset, len).ok_or_else(|| VaultError::damaged(blob, offset, "the blob ends too early"))
    }

    /// At least the last `len` bytes (the whole blob if it is shorter).
    pub(crate) fn suffix(&self, blob: BlobKey, len: u64) -> Result<Got, VaultError> {
        Ok(self.get(blob, Range::Suffix(len.next_multiple_of(self.grid)))?)
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
