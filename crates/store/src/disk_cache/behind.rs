//! Puts that nobody waits for.
//!
//! **What it is.** A [`BlockCache`] around another: a thread of its own puts, so that a disk that is slow, or a system
//! that makes writers wait for it, holds up no reader.
//! **What it may not do.** Queue without bound: what finds the queue full is not kept.
//! **What always holds.** What was dropped does not come back from the queue. What is queued is put before the cache
//! is gone. **Where it is tested.** Below.

use crate::{BLOCK_LEN, BlobKey, BlockCache};
use bytes::Bytes;
use std::collections::VecDeque;
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

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(BlobKey, u32, Bytes)>,
    /// What is being put, and whether it was dropped since.
    now: Option<(BlobKey, u32, bool)>,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts what comes, until nothing more can.
    fn work(&self, inner: &dyn BlockCache) {
        let mut queue = self.lock();
        loop {
            let Some((key, block, bytes)) = queue.waiting.pop_front() else {
                if queue.closed {
                    return;
                }
                queue = self.more.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            queue.now = Some((key, block, false));
            drop(queue);
            inner.put(key, block, &bytes);
            queue = self.lock();
            if let Some((_, _, true)) = queue.now.take() {
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
        self.inner.get(key, block)
    }

    fn put(&self, key: BlobKey, block: u32, bytes: &Bytes) {
        if self.thread.is_none() {
            return self.inner.put(key, block, bytes);
        }
        let mut queue = self.shared.lock();
        if queue.waiting.len() < self.most {
            queue.waiting.push_back((key, block, bytes.clone()));
            self.shared.more.notify_one();
        }
    }

    fn holds(&self, key: BlobKey, block: u32) -> bool {
        self.inner.holds(key, block)
    }

    fn drop_blocks(&self, key: BlobKey, blocks: Range<u32>) {
        let hit = |k: BlobKey, b: u32| k == key && blocks.contains(&b);
        {
            let mut queue = self.shared.lock();
            queue.waiting.retain(|(k, b, _)| !hit(*k, *b));
            if let Some((k, b, dropped)) = &mut queue.now {
                *dropped |= hit(*k, *b);
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
            assert!(!cache.holds(KEY, block) && cache.get(KEY, block).is_none());
        }
        (0..=WAITING_BLOCKS).for_each(|_| tell.send(()).unwrap());
        drop(cache);
        assert_eq!(*slow.held.lock().unwrap(), (0..=WAITING_BLOCKS as u32).collect());
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
