//! Requests that are being answered now, for a person who asks what the mount is doing.
//!
//! May not decide anything or hold a request up: a slot a thread, written by that thread, looked at by whoever asks.
//! What always holds: a request stands here from when it was taken to when it was answered, however that ends.
//! Tested below, and through `status --top` in `tests/cli`.

use std::cell::OnceCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Instant;

/// A request that is being answered.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    /// What is asked for: `read`, `lookup`, `list`...
    pub what: &'static str,
    /// The process that asks, as the kernel says; 0 where that is none of this system's.
    pub pid: u32,
    /// The inode it is about; of a look-up the folder.
    pub ino: u64,
    /// The thread that answers.
    pub thread: ThreadId,
    /// When it was taken.
    pub since: Instant,
}

type Slot = Arc<Mutex<Option<Pending>>>;

/// All requests that are being answered. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    slots: Arc<Mutex<Vec<Slot>>>,
}

thread_local! {
    /// The slot of this thread; it serves one mount.
    static OWN: OnceCell<Slot> = const { OnceCell::new() };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Requests {
    /// What is being answered now.
    pub fn now(&self) -> Vec<Pending> {
        lock(&self.slots).iter().filter_map(|slot| *lock(slot)).collect()
    }

    /// This thread answers a request, until what comes back is dropped.
    pub(crate) fn begin(&self, what: &'static str, pid: u32, ino: u64) -> Answering {
        let slot = OWN.with(|own| own.get_or_init(|| self.add()).clone());
        let thread = thread::current().id();
        *lock(&slot) = Some(Pending { what, pid, ino, thread, since: Instant::now() });
        Answering(slot)
    }

    fn add(&self) -> Slot {
        let slot = Slot::default();
        lock(&self.slots).push(Arc::clone(&slot));
        slot
    }
}

/// A request being answered by this thread.
pub(crate) struct Answering(Slot);

impl Drop for Answering {
    fn drop(&mut self) {
        *lock(&self.0) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn a_request_stands_here_while_it_is_answered() {
        let (requests, both) = (Requests::default(), Barrier::new(2));
        thread::scope(|scope| {
            let other = scope.spawn(|| {
                for _ in 0..2 {
                    let answering = requests.begin("read", 7, 42);
                    both.wait();
                    both.wait();
                    drop(answering);
                }
            });
            for _ in 0..2 {
                both.wait();
                let now = requests.now();
                assert_eq!(now.len(), 1);
                assert_eq!((now[0].what, now[0].pid, now[0].ino), ("read", 7, 42));
                assert_eq!(now[0].thread, other.thread().id());
                both.wait();
            }
        });
        assert!(requests.now().is_empty());
        assert_eq!(lock(&requests.slots).len(), 1, "a slot a thread, not a request");
    }
}
