//! Requests that are being answered now, for a person who asks what the mount is doing.
//!
//! May not decide anything or hold a request up: a slot a thread, written by that thread, looked at by whoever asks.
//! What always holds: a request stands here from when it was taken to when its thread is done with it, however that
//! ends; it is answered once, by its thread or by who gives it up for a signal (`signals`).
//! Tested below, and through `status --top` in `tests/cli`.

use std::cell::OnceCell;
use std::fmt;
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

/// What a thread is answering, and how to answer in its place that a signal came between.
#[derive(Default)]
struct Slot {
    pending: Option<Pending>,
    give_up: Option<Box<dyn FnOnce() + Send>>,
}

/// An answer that can say that a signal came between.
pub(crate) trait Interruptible: Send + 'static {
    /// Answers with EINTR.
    fn interrupted(self);
}

/// An answer that is still to be given, by whoever comes first.
pub(crate) struct Reply<R>(Arc<Mutex<Option<R>>>);

impl<R> Reply<R> {
    /// To give it; `None` where it was given up.
    pub(crate) fn take(&self) -> Option<R> {
        lock(&self.0).take()
    }

    /// To add to it; `None` where it was given up.
    pub(crate) fn add<T>(&self, add: impl FnOnce(&mut R) -> T) -> Option<T> {
        lock(&self.0).as_mut().map(add)
    }
}

/// All requests that are being answered. Cheap to clone.
#[derive(Clone, Default)]
pub struct Requests {
    slots: Arc<Mutex<Vec<Arc<Mutex<Slot>>>>>,
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.now()).finish()
    }
}

thread_local! {
    /// The slot of this thread; it serves one mount.
    static OWN: OnceCell<Arc<Mutex<Slot>>> = const { OnceCell::new() };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Requests {
    /// What is being answered now.
    pub fn now(&self) -> Vec<Pending> {
        lock(&self.slots).iter().filter_map(|slot| lock(slot).pending).collect()
    }

    /// Answers what `wanted` chooses with EINTR; the threads that were at it go on and answer nothing.
    pub(crate) fn give_up(&self, wanted: impl Fn(&Pending) -> bool) {
        let slots = lock(&self.slots).clone();
        for slot in slots {
            let mut slot = lock(&slot);
            if slot.give_up.is_some() && slot.pending.as_ref().is_some_and(&wanted) {
                let give_up = slot.give_up.take();
                drop(slot);
                give_up.into_iter().for_each(|give_up| give_up());
            }
        }
    }

    /// This thread answers a request, until what comes back is dropped.
    pub(crate) fn begin(&self, what: &'static str, pid: u32, ino: u64) -> Answering {
        let slot = OWN.with(|own| own.get_or_init(|| self.add()).clone());
        let thread = thread::current().id();
        lock(&slot).pending = Some(Pending { what, pid, ino, thread, since: Instant::now() });
        Answering(slot)
    }

    /// The same of one that may be given up for a signal.
    pub(crate) fn answer<R: Interruptible>(
        &self,
        what: &'static str,
        pid: u32,
        ino: u64,
        reply: R,
    ) -> (Answering, Reply<R>) {
        let answering = self.begin(what, pid, ino);
        let reply = Reply(Arc::new(Mutex::new(Some(reply))));
        let own = Reply(Arc::clone(&reply.0));
        lock(&answering.0).give_up = Some(Box::new(move || {
            if let Some(reply) = own.take() {
                reply.interrupted();
            }
        }));
        (answering, reply)
    }

    fn add(&self) -> Arc<Mutex<Slot>> {
        let slot = Arc::<Mutex<Slot>>::default();
        lock(&self.slots).push(Arc::clone(&slot));
        slot
    }
}

/// A request being answered by this thread.
pub(crate) struct Answering(Arc<Mutex<Slot>>);

impl Drop for Answering {
    fn drop(&mut self) {
        *lock(&self.0) = Slot::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Told(Arc<AtomicU32>);

    impl Interruptible for Told {
        fn interrupted(self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn an_answer_is_given_once_by_who_comes_first() {
        let (requests, told) = (Requests::default(), Arc::new(AtomicU32::new(0)));
        let (answering, reply) = requests.answer("read", 7, 42, Told(Arc::clone(&told)));
        requests.give_up(|pending| pending.pid == 8);
        assert!(reply.add(|_| ()).is_some());
        requests.give_up(|pending| pending.pid == 7);
        requests.give_up(|_| true);
        assert!(reply.add(|_| ()).is_none() && reply.take().is_none());
        assert_eq!(told.load(Ordering::SeqCst), 1);
        assert_eq!(requests.now().len(), 1, "its thread is still at it");
        drop(answering);

        let (_answering, reply) = requests.answer("read", 7, 42, Told(Arc::clone(&told)));
        assert!(reply.take().is_some());
        requests.give_up(|_| true);
        assert_eq!(told.load(Ordering::SeqCst), 1);
    }

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
        requests.give_up(|_| true);
        assert_eq!(lock(&requests.slots).len(), 1, "a slot a thread, not a request");
    }
}
