//! Who waits for the store, and since when the store does not answer: for a person who asks why reading takes so long.
//!
//! **What it may not do.** Hold anybody up, or hold what was read. **What always holds.** A thread stands here while it
//! waits and no longer, however its wait ends. **Where it is tested.** Below, and through `status --top` in `tests/cli`.

use super::trip::Trip;
use backupengine_store::{ErrorKind, StoreError};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Instant;

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// An answer of the store.
    Answer,
    /// Its turn: others are asked for first.
    Turn,
}

/// A thread that waits.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// Which.
    pub thread: ThreadId,
    /// For what.
    pub what: WaitsFor,
    /// When it began to.
    pub since: Instant,
}

/// What a vault is doing at one moment.
#[derive(Clone, Debug, Default)]
pub struct Activity {
    /// Threads that wait for the store.
    pub waits: Vec<Wait>,
    /// Ranges on their way.
    pub under_way: usize,
    /// Bytes on their way that nobody asked for yet, or waiting to be asked for.
    pub bytes_ahead: u64,
    /// When the store first did not answer, where it has not answered since.
    pub away_since: Option<Instant>,
}

/// Since when a thread waits, and for which trip, where it is one.
type Begun = (Instant, Option<Arc<Trip>>);

/// All threads that wait.
#[derive(Default)]
pub(crate) struct Waits {
    threads: Mutex<HashMap<ThreadId, Begun>>,
    away_since: Mutex<Option<Instant>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Waits {
    /// This thread waits, for this trip where it is one, until what comes back is dropped.
    pub(crate) fn begin(&self, trip: Option<&Arc<Trip>>) -> Waiting<'_> {
        let thread = thread::current().id();
        lock(&self.threads).insert(thread, (Instant::now(), trip.map(Arc::clone)));
        Waiting { waits: self, thread }
    }

    /// Notes how the store answered.
    pub(crate) fn learn(&self, error: Option<&StoreError>) {
        let away = error.is_some_and(|e| matches!(e.kind, ErrorKind::Unavailable | ErrorKind::TimedOut));
        let mut since = lock(&self.away_since);
        *since = if away { since.or_else(|| Some(Instant::now())) } else { None };
    }

    /// Who waits now, and since when nobody answers.
    pub(crate) fn now(&self) -> (Vec<Wait>, Option<Instant>) {
        let what = |trip: &Option<Arc<Trip>>| match trip {
            Some(trip) if !trip.is_begun() => WaitsFor::Turn,
            _ => WaitsFor::Answer,
        };
        let waits = lock(&self.threads)
            .iter()
            .map(|(&thread, (since, trip))| Wait { thread, what: what(trip), since: *since })
            .collect();
        (waits, *lock(&self.away_since))
    }
}

/// A thread's place among those that wait.
pub(crate) struct Waiting<'a> {
    waits: &'a Waits,
    thread: ThreadId,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.waits.threads).remove(&self.thread);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_model::SessionNo;
    use backupengine_store::BlobKey;

    #[test]
    fn a_thread_stands_here_while_it_waits() {
        let waits = Waits::default();
        let trip = Arc::new(Trip::new(BlobKey::Root(SessionNo(1)), 0..1, true));
        let waiting = waits.begin(Some(&trip));
        let (now, _) = waits.now();
        assert_eq!(now.len(), 1);
        assert_eq!((now[0].thread, now[0].what), (thread::current().id(), WaitsFor::Turn));
        trip.begin();
        assert_eq!(waits.now().0[0].what, WaitsFor::Answer);
        drop(waiting);
        assert!(waits.now().0.is_empty());
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _waiting = waits.begin(None);
            std::panic::resume_unwind(Box::new("gone"));
        }));
        assert!(panicked.is_err() && waits.now().0.is_empty());
    }

    #[test]
    fn a_store_is_away_from_the_first_failure_to_the_next_answer() {
        let waits = Waits::default();
        let error = |kind| StoreError::new(kind, "x");
        assert!(waits.now().1.is_none());
        waits.learn(Some(&error(ErrorKind::Unavailable)));
        let since = waits.now().1.unwrap();
        waits.learn(Some(&error(ErrorKind::TimedOut)));
        assert_eq!(waits.now().1, Some(since));
        // Whoever says no has answered.
        waits.learn(Some(&error(ErrorKind::NotFound)));
        assert!(waits.now().1.is_none());
        waits.learn(Some(&error(ErrorKind::Unavailable)));
        waits.learn(None);
        assert!(waits.now().1.is_none());
    }
}
