//! What becomes of a range that was sent for: it passes the gate, is asked for, and lands.
//!
//! **What it is.** The asynchronous half of [`super::blocks`]. **What it may not do.** Choose what is fetched.
//! **What always holds.** Whatever ends a trip, its readers are woken and its blocks are no longer on their way; what
//! came is kept before that. **Where it is tested.** With the blocks, in `tests::far`.

use super::blocks::Core;
use super::end;
use super::trip::Trip;
use crate::stats::count;
use backupengine_store::{END_BLOCK, ErrorKind, Got, Range, StoreError};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Instant;

impl Core {
    /// Fetches one trip, from the gate to the ground.
    pub(super) async fn travel(self: Arc<Self>, trip: Arc<Trip>) {
        let mut under_way = UnderWay { core: &self, trip: &trip, begun: None, landed: false };
        let pass = if trip.ahead { self.gate.pass(&trip).await } else { None };
        let flying = {
            let mut state = self.lock();
            state.trips += 1;
            state.trips - 1
        };
        under_way.begun = Some((Instant::now(), flying));
        tracing::trace!(blob = %trip.blob, blocks = ?trip.blocks, ahead = trip.ahead, flying, "asking");
        trip.begin();
        let answer = self.fetch(&trip).await;
        tracing::trace!(blob = %trip.blob, blocks = ?trip.blocks, good = answer.is_ok(), "answered");
        self.gate.learn(answer.as_ref().err());
        self.waits.learn(answer.as_ref().err());
        drop(pass);
        under_way.land(answer);
    }

    /// Asks; where somebody waits and the answer is late, asks once more and takes what comes first.
    async fn fetch(&self, trip: &Trip) -> Result<Got, StoreError> {
        let offset = u64::from(trip.blocks.start) * self.grid;
        let len = u64::from(trip.blocks.end) * self.grid - offset;
        let tail = trip.blocks.is_empty();
        let range = if tail { Range::Suffix(self.grid) } else { Range::At { offset, len } };
        let ask = || {
            count(&self.counters.store_calls, 1);
            let answer = self.store.get(trip.blob, range);
            let elsewhere =
                || StoreError::new(ErrorKind::Io, "the store sent another part than was asked for");
            Box::pin(async move {
                let got = answer.await?;
                if tail || got.offset == offset { Ok(got) } else { Err(elsewhere().about(trip.blob)) }
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
            if let (true, Some(disk)) = (trip.blocks.is_empty(), &self.kept().disk) {
                disk.put(trip.blob, END_BLOCK, &end::encode(got));
            }
            // An end begins amid a block; only what is whole from its first byte on is kept.
            let first = got.offset.div_ceil(self.grid);
            let skip = (first * self.grid - got.offset).min(got.bytes.len() as u64) as usize;
            for (block, bytes) in (first as u32..).zip(got.bytes[skip..].chunks(self.grid as usize)) {
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
                state.know(trip.blob, got.total);
            } else if answer.is_err() {
                state.rent.named(trip.blob, trip.blocks.clone(), false);
            }
            for block in trip.blocks.clone() {
                let place = (trip.blob, block);
                if state.flying.get(&place).is_some_and(|flying| std::ptr::eq(&**flying, trip)) {
                    state.flying.remove(&place);
                }
            }
            if state.tails.get(&trip.blob).is_some_and(|tail| std::ptr::eq(&**tail, trip)) {
                state.tails.remove(&trip.blob);
            }
            let came = trip.blocks.len() as u64;
            state.ahead -= if trip.ahead { came } else { 0 };
            if !trip.ahead {
                state.reach.waited(came, self.most());
            }
        }
        trip.land(answer);
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
