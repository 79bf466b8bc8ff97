//! Single flight: any number of threads that want the same thing cause one fetch.
//!
//! **What it may not do.** Keep an answer longer than somebody waits for it. **What always holds.** If the
//! fetching thread dies, those who wait fetch for themselves. **Where it is tested.** Below.

use super::deadline;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Fetches that are under way.
pub(crate) struct Flights<K, V> {
    open: Mutex<HashMap<K, Arc<Flight<V>>>>,
}

struct Flight<V> {
    state: Mutex<State<V>>,
    landed: Condvar,
}

enum State<V> {
    Flying,
    Landed(V),
    Lost,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Hash + Eq + Copy, V: Clone> Flights<K, V> {
    pub(crate) fn new() -> Self {
        Self { open: Mutex::new(HashMap::new()) }
    }

    /// What `fetch` gives, or what another thread that is just fetching `key` gets.
    pub(crate) fn fly(&self, key: K, fetch: impl FnOnce() -> V) -> V {
        let theirs = match lock(&self.open).entry(key) {
            Entry::Occupied(flight) => Some(Arc::clone(flight.get())),
            Entry::Vacant(place) => {
                let flight = Flight { state: Mutex::new(State::Flying), landed: Condvar::new() };
                place.insert(Arc::new(flight));
                None
            }
        };
        if let Some(flight) = theirs {
            // Whoever may wait no longer asks for themselves, and is told so.
            return flight.wait().unwrap_or_else(fetch);
        }
        let mut landing = Landing { flights: self, key, flying: true };
        let value = fetch();
        if let Some(flight) = landing.take_off_the_list() {
            // Nobody joins any more. Copied only when somebody waits: a value that is not shared can be
            // changed in place.
            if Arc::strong_count(&flight) > 1 {
                flight.end(State::Landed(value.clone()));
            }
        }
        value
    }
}

impl<V: Clone> Flight<V> {
    /// What it brings; `None` where it brings nothing, or not in the time this thread has.
    fn wait(&self) -> Option<V> {
        let mut state = lock(&self.state);
        loop {
            match &*state {
                State::Landed(value) => return Some(value.clone()),
                State::Lost => return None,
                State::Flying => {}
            }
            state = match deadline::until() {
                None => self.landed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    self.landed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

impl<V> Flight<V> {
    fn end(&self, state: State<V>) {
        *lock(&self.state) = state;
        self.landed.notify_all();
    }
}

/// Ends a flight however its thread leaves.
struct Landing<'a, K: Hash + Eq + Copy, V> {
    flights: &'a Flights<K, V>,
    key: K,
    flying: bool,
}

impl<K: Hash + Eq + Copy, V> Landing<'_, K, V> {
    fn take_off_the_list(&mut self) -> Option<Arc<Flight<V>>> {
        // Only once: the next flight of this key is not ours to end.
        std::mem::take(&mut self.flying).then(|| lock(&self.flights.open).remove(&self.key)).flatten()
    }
}

impl<K: Hash + Eq + Copy, V> Drop for Landing<'_, K, V> {
    fn drop(&mut self) {
        if let Some(flight) = self.take_off_the_list() {
            flight.end(State::Lost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    #[test]
    fn those_who_wait_share_one_fetch() {
        let (flights, calls, ready) = (Flights::new(), AtomicU32::new(0), Barrier::new(2));
        let fetched = thread::scope(|scope| {
            let leader = scope.spawn(|| {
                flights.fly(1, || {
                    ready.wait();
                    // The follower is now on its way: wait until it has joined.
                    while lock(&flights.open).get(&1).is_none_or(|f| Arc::strong_count(f) < 2) {
                        thread::yield_now();
                    }
                    calls.fetch_add(1, Ordering::Relaxed);
                    "bytes"
                })
            });
            ready.wait();
            let mine = flights.fly(1, || {
                calls.fetch_add(1, Ordering::Relaxed);
                "bytes"
            });
            (mine, leader.join().unwrap())
        });
        assert_eq!((fetched, calls.load(Ordering::Relaxed)), (("bytes", "bytes"), 1));
        assert!(lock(&flights.open).is_empty());
    }

    #[test]
    fn a_fetch_that_dies_leaves_nobody_waiting() {
        let flights: Flights<u8, u8> = Flights::new();
        let ready = Barrier::new(2);
        thread::scope(|scope| {
            let leader = scope.spawn(|| {
                flights.fly(1, || {
                    ready.wait();
                    while lock(&flights.open).get(&1).is_none_or(|f| Arc::strong_count(f) < 2) {
                        thread::yield_now();
                    }
                    std::panic::resume_unwind(Box::new("gone"))
                })
            });
            ready.wait();
            assert_eq!(flights.fly(1, || 9), 9);
            assert!(leader.join().is_err());
        });
        assert_eq!(flights.fly(1, || 3), 3);
    }
}
