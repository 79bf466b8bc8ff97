//! Puts that nobody waits for.
//!
//! **What it is.** A [`BlockCache`] around another: a thread of its own puts, so that a disk that is slow, or a system
//! that makes writers wait for it, holds up no reader.
//! **What it may not do.** Queue without bound: what finds the queue full is not kept.
//! **What always holds.** What is queued is given as if it were put. What was dropped does not come back from the queue.
//! What is queued is put before the cache is gone. **Where it is tested.** Below.
//!
//! *Decisions.* 2026-11-29: gives what is queued. Before, a stream that came faster than the disk took it lost blocks that
//! were queued and out of memory already, and asked the store for them again: a round trip each time.

use crate::{BLOCK_LEN, BlobKey, BlockCache};
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// See the module.
pub struct WriteBehind {
    inner: Arc<dyn BlockCache>,
    shared: Arc<Shared>,
    /// Blocks that may wait to be put.
    most: usize,
    /// `None` where there is no thread: then puts are waited for.
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    more: Condvar,
}

/// A block and whose it is.
type Place = (BlobKey, u32);

#[derive(Default)]
struct Queue {
    /// The order in which blocks came.
    order: VecDeque<Place>,
    waiting: HashMap<Place, Bytes>,
    /// What is being put, until it was dropped.
    now: Option<(Place, Option<Bytes>)>,
    closed: bool,
}

impl Queue {
    fn get(&self, place: Place) -> Option<&Bytes> {
        let now = self.now.as_ref().filter(|(now, _)| *now == place);
        self.waiting.get(&place).or_else(|| now?.1.as_ref())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts what comes, until nothing more can.
    fn work(&self, inner: &dyn BlockCache) {
        let mut queue = self.lock();
        loop {
            let Some(place) = queue.order.pop_front() else {
                if queue.closed {
                    return;
                }
                queue = self.more.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let Some(bytes) = queue.waiting.remove(&place) else { continue };
            queue.now = Some((place, Some(bytes.clone())));
            drop(queue);
            let (key, block) = place;
            inner.put(key, block, &bytes);
            queue = self.lock();
            if let Some((_, None)) = queue.now.take() {
                drop(queue);
                inner.drop_blocks(key, block..block.saturating_add(1));
                queue = self.lock();
            }
        }
    }
}

impl WriteBehind {
    /// A cache that is written to behind its readers; so many bytes may wait for that, one block at least.
    pub fn new(inner: Arc<dyn BlockCache>, bytes: u64) -> Self {
        let most = usize::try_from(bytes / BLOCK_LEN as u64).unwrap_or(usize::MAX).max(1);
        let shared = Arc::<Shared>::default();
        let (of_thread, to_write) = (shared.clone(), inner.clone());
        let thread =
            thread::Builder::new().name("disk cache".into()).spawn(move || of_thread.work(&*to_write));
        Self { inner, shared, most, thread: thread.ok() }
    }
}

impl BlockCache for WriteBehind {
    fn get(&self, key: BlobKey, block: u32) -> Option<Bytes> {
        // First the queue: what leaves it was put before.
        let queued = self.shared.lock().get((key, block)).cloned();
        queued.or_else(|| self.inner.get(key, block))
    }

    fn put(&self, key: BlobKey, block: u32, bytes: &Bytes) {
        if self.thread.is_none() {
            return self.inner.put(key, block, bytes);
        }
        let place = (key, block);
        let mut queue = self.shared.lock();
        if queue.waiting.len() < self.most && queue.get(place).is_none() {
            queue.order.push_back(place);
            queue.waiting.insert(place, bytes.clone());
            self.shared.more.notify_one();
        }
    }

    fn holds(&self, key: BlobKey, block: u32) -> bool {
        let queued = self.shared.lock().get((key, block)).is_some();
        queued || self.inner.holds(key, block)
    }

    fn drop_blocks(&self, key: BlobKey, blocks: Range<u32>) {
        let hit = |(k, b): Place| k == key && blocks.contains(&b);
        {
            let mut queue = self.shared.lock();
            queue.order.retain(|place| !hit(*place));
            queue.waiting.retain(|place, _| !hit(*place));
            if let Some((_, bytes)) = queue.now.as_mut().filter(|(place, _)| hit(*place)) {
                *bytes = None;
            }
        }
        self.inner.drop_blocks(key, blocks);
    }
}

impl Drop for WriteBehind {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.more.notify_one();
        if let Some(thread) = self.thread.take() {
            // It panics only where the inner cache does, which has told of it.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_model::SessionNo;
    use std::collections::BTreeSet;
    use std::sync::mpsc::{Receiver, Sender, channel};

    const KEY: BlobKey = BlobKey::Root(SessionNo(1));
    const WAITING_BLOCKS: usize = 40;
    const WAITING: u64 = (WAITING_BLOCKS * BLOCK_LEN) as u64;

    /// Says when a put begins, and ends it when told to.
    struct Slow {
        held: Mutex<BTreeSet<u32>>,
        begun: Mutex<Sender<u32>>,
        end: Mutex<Receiver<()>>,
    }

    impl BlockCache for Slow {
        fn get(&self, _: BlobKey, block: u32) -> Option<Bytes> {
            self.holds(KEY, block).then(|| Bytes::from_static(b"x"))
        }
        fn put(&self, _: BlobKey, block: u32, _: &Bytes) {
            self.begun.lock().unwrap().send(block).unwrap();
            self.end.lock().unwrap().recv().unwrap();
            self.held.lock().unwrap().insert(block);
        }
        fn holds(&self, _: BlobKey, block: u32) -> bool {
            self.held.lock().unwrap().contains(&block)
        }
        fn drop_blocks(&self, _: BlobKey, blocks: Range<u32>) {
            self.held.lock().unwrap().retain(|block| !blocks.contains(block));
        }
    }

    fn slow() -> (Arc<Slow>, Receiver<u32>, Sender<()>) {
        let ((begun, hear), (tell, end)) = (channel(), channel());
        let slow = Slow { held: Mutex::default(), begun: Mutex::new(begun), end: Mutex::new(end) };
        (Arc::new(slow), hear, tell)
    }

    #[test]
    fn nobody_waits_for_a_put_and_what_is_queued_is_put_in_the_end() {
        let (slow, hear, tell) = slow();
        let cache = WriteBehind::new(slow.clone(), WAITING);
        cache.put(KEY, 0, &Bytes::from_static(b"x"));
        assert_eq!(hear.recv().unwrap(), 0);
        // The one being put does not count.
        for block in 1..=WAITING_BLOCKS as u32 + 10 {
            cache.put(KEY, block, &Bytes::from_static(b"x"));
            // What is there already takes no second place.
            cache.put(KEY, block.min(5) - 1, &Bytes::from_static(b"x"));
        }
        (0..=WAITING_BLOCKS).for_each(|_| tell.send(()).unwrap());
        drop(cache);
        assert_eq!(*slow.held.lock().unwrap(), (0..=WAITING_BLOCKS as u32).collect());
    }

    #[test]
    fn what_is_queued_is_given() {
        let (slow, hear, tell) = slow();
        let cache = WriteBehind::new(slow.clone(), WAITING);
        let other = BlobKey::Root(SessionNo(2));
        let given = |block: u32| cache.get(KEY, block).map(|bytes| bytes[0]);
        for block in 0..WAITING_BLOCKS as u8 + 10 {
            cache.put(KEY, block.into(), &Bytes::from(vec![block]));
            if block == 0 {
                assert_eq!(hear.recv().unwrap(), 0);
            }
        }
        assert!(slow.held.lock().unwrap().is_empty());
        for block in 0..WAITING_BLOCKS as u8 + 10 {
            // The one being put, and so many that wait for it.
            let queued = usize::from(block) <= WAITING_BLOCKS;
            assert_eq!(cache.holds(KEY, block.into()), queued, "{block}");
            assert_eq!(given(block.into()), queued.then_some(block));
            assert!(!cache.holds(other, block.into()) && cache.get(other, block.into()).is_none());
        }
        cache.drop_blocks(KEY, 0..2);
        assert_eq!((given(0), given(1), given(2)), (None, None, Some(2)));
        (0..WAITING_BLOCKS).for_each(|_| tell.send(()).unwrap());
        drop(cache);
        assert_eq!(*slow.held.lock().unwrap(), (2..=WAITING_BLOCKS as u32).collect());
    }

    #[test]
    fn what_was_dropped_does_not_come_back_from_the_queue() {
        let (slow, hear, tell) = slow();
        let cache = WriteBehind::new(slow.clone(), WAITING);
        for block in 0..4 {
            cache.put(KEY, block, &Bytes::from_static(b"x"));
        }
        assert_eq!(hear.recv().unwrap(), 0);
        cache.drop_blocks(KEY, 0..1);
        cache.drop_blocks(KEY, 2..3);
        cache.drop_blocks(BlobKey::Root(SessionNo(2)), 0..9);
        (0..3).for_each(|_| tell.send(()).unwrap());
        drop(cache);
        assert_eq!(*slow.held.lock().unwrap(), [1, 3].into());
    }
}
