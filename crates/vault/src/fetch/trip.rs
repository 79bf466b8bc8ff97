//! One range on its way, and the gate that ranges fetched ahead pass.
//!
//! **What it may not do.** Choose what is fetched. **What always holds.** Whoever waits for a trip is woken when it
//! lands, however it lands; a trip that somebody waits for waits at no gate.
//! **Where it is tested.** Below.

use super::deadline;
use backupengine_store::{BlobKey, ErrorKind, Got, StoreError};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::Instant;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

/// Ranges fetched ahead at once: first, fewest, most.
const WIDTH_FIRST: usize = 16;
const WIDTH_MIN: usize = 2;
const WIDTH_MAX: usize = 32;

/// A range of blocks that is on its way, or the end of a blob.
pub(crate) struct Trip {
    pub(crate) blob: BlobKey,
    /// None of a blob's end, whose place is not known before it comes.
    pub(crate) blocks: Range<u32>,
    /// Nobody waited for it when it was sent.
    pub(crate) ahead: bool,
    wanted: Notify,
    begun: OnceLock<Instant>,
    answer: Mutex<Option<Result<Got, StoreError>>>,
    landed: Condvar,
}

impl Trip {
    pub(crate) fn new(blob: BlobKey, blocks: Range<u32>, ahead: bool) -> Self {
        let (wanted, begun) = (Notify::new(), OnceLock::new());
        Self { blob, blocks, ahead, wanted, begun, answer: Mutex::new(None), landed: Condvar::new() }
    }

    /// It is asked for now.
    pub(crate) fn begin(&self) {
        self.begun.get_or_init(Instant::now);
    }

    /// Whether it was asked for.
    pub(crate) fn is_begun(&self) -> bool {
        self.begun.get().is_some()
    }

    /// Somebody waits for it now.
    pub(crate) fn want(&self) {
        self.wanted.notify_one();
    }

    pub(crate) fn land(&self, answer: Result<Got, StoreError>) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        self.landed.notify_all();
    }

    /// Waits on the calling thread, as long as it may.
    pub(crate) fn wait(&self) -> Result<Got, StoreError> {
        let mut answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(answer) = &*answer {
                return answer.clone();
            }
            // Asked anew each time: a trip that waited at the gate may have begun.
            answer = match deadline::until_of(self.begun.get().copied()) {
                None => self.landed.wait(answer).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(deadline::passed().about(self.blob));
                    }
                    self.landed.wait_timeout(answer, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// Lets so many through at once; wider while answers come, half as wide when the store is overloaded.
pub(crate) struct Gate {
    permits: Semaphore,
    width: AtomicUsize,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self { permits: Semaphore::new(WIDTH_FIRST), width: AtomicUsize::new(WIDTH_FIRST) }
    }

    /// Waits for a place, or until somebody wants this trip.
    pub(crate) async fn pass(&self, trip: &Trip) -> Option<SemaphorePermit<'_>> {
        tokio::select! {
            permit = self.permits.acquire() => permit.ok(),
            () = trip.wanted.notified() => None,
        }
    }

    /// Notes how an answer went.
    pub(crate) fn learn(&self, error: Option<&StoreError>) {
        let width = self.width.load(Ordering::Relaxed);
        match error {
            None if width < WIDTH_MAX => {
                self.width.fetch_add(1, Ordering::Relaxed);
                self.permits.add_permits(1);
            }
            Some(error) if error.kind == ErrorKind::Unavailable && width > WIDTH_MIN => {
                // Places in use are given back later: then the gate is wider than it should be for a moment.
                let taken = self.permits.forget_permits(width - (width / 2).max(WIDTH_MIN));
                self.width.fetch_sub(taken, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_model::SessionNo;
    use std::sync::Arc;

    fn trip() -> Arc<Trip> {
        Arc::new(Trip::new(BlobKey::Root(SessionNo(1)), 0..1, true))
    }

    #[tokio::test]
    async fn the_gate_holds_back_what_nobody_waits_for() {
        let gate = Gate::new();
        let mut held = Vec::new();
        for _ in 0..WIDTH_FIRST {
            held.push(gate.pass(&trip()).await.expect("a place is free"));
        }
        let wanted = trip();
        wanted.want();
        assert!(gate.pass(&wanted).await.is_none(), "who waits passes without a place");
        drop(held.pop());
        assert!(gate.pass(&trip()).await.is_some());
    }

    #[test]
    fn the_gate_narrows_when_the_store_is_overloaded_and_widens_again() {
        let gate = Gate::new();
        let overloaded = StoreError::new(ErrorKind::Unavailable, "busy");
        (0..50).for_each(|_| gate.learn(Some(&overloaded)));
        assert_eq!(gate.width.load(Ordering::Relaxed), WIDTH_MIN);
        assert_eq!(gate.permits.available_permits(), WIDTH_MIN);
        (0..50).for_each(|_| gate.learn(None));
        assert_eq!(gate.permits.available_permits(), WIDTH_MAX);
    }

    #[test]
    fn all_who_wait_get_the_answer() {
        let trip = trip();
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..4).map(|_| scope.spawn(|| trip.wait())).collect();
            trip.land(Err(StoreError::new(ErrorKind::NotFound, "gone")));
            assert!(waiting.into_iter().all(|w| w.join().unwrap().is_err()));
        });
    }
}
