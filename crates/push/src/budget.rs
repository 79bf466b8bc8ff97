//! How many bytes of files may be between reading and packing: what keeps memory constant.
//!
//! May not know files. What always holds: a share is given back when it is dropped, so what is in flight is
//! never more than the total plus one share that was larger than it. Tested below.
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How often a waiting stage looks whether to stop.
pub(crate) const POLL: Duration = Duration::from_millis(50);

/// A number of bytes that shares are taken from.
pub(crate) struct Budget {
    total: u64,
    free: Mutex<u64>,
    freed: Condvar,
}

/// Bytes taken from a budget; dropping gives them back.
pub(crate) struct Share {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Budget {
    pub(crate) fn new(total: u64) -> Arc<Self> {
        Arc::new(Self { total, free: Mutex::new(total), freed: Condvar::new() })
    }

    /// Waits until `bytes` (at most the total) are free. `None` when `stop` says so meanwhile.
    pub(crate) fn take(self: &Arc<Self>, bytes: u64, stop: impl Fn() -> bool) -> Option<Share> {
        let bytes = bytes.min(self.total);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free < bytes {
            if stop() {
                return None;
            }
            free = self.freed.wait_timeout(free, POLL).unwrap_or_else(PoisonError::into_inner).0;
        }
        *free -= bytes;
        Some(Share { budget: Arc::clone(self), bytes })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        *self.budget.free.lock().unwrap_or_else(PoisonError::into_inner) += self.bytes;
        self.budget.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_come_back() {
        let budget = Budget::new(10);
        let first = budget.take(8, || false).unwrap();
        assert!(budget.take(3, || true).is_none());
        drop(first);
        assert_eq!(budget.take(100, || true).unwrap().bytes, 10);
        assert!(budget.take(10, || true).is_some());
    }

    #[test]
    fn a_waiting_stage_goes_on_when_bytes_are_given_back() {
        let budget = Budget::new(4);
        let held = budget.take(4, || false).unwrap();
        let waiting = {
            let budget = Arc::clone(&budget);
            std::thread::spawn(move || budget.take(2, || false).is_some())
        };
        drop(held);
        assert!(waiting.join().unwrap());
    }
}
