//! Threads that open frames before they are asked for.
//!
//! **What it may not do.** Decide what is worth opening (that is [`super::plan`]); report errors: a frame that
//! does not open is met again, and reported, by the read that needs it.
//! **What always holds.** Bytes queued and in work stay within the budget; dropping it ends the threads.
//! **Where it is tested.** Below, and with streams in the reader's tests.

use crate::cache::Frames;
use backupengine_model::FrameRef;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// The queue and its threads; these start with the first frame.
pub(crate) struct ReadAhead {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    wanted: usize,
}

struct Shared {
    frames: Arc<Frames>,
    budget: u64,
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Plaintext bytes of queued and running jobs.
    bytes: u64,
    closed: bool,
}

#[derive(Clone, Copy)]
struct Job {
    frame: FrameRef,
    plain_len: Option<usize>,
    cost: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ReadAhead {
    /// `threads` 0 opens nothing ahead; `budget` in bytes of plaintext.
    pub(crate) fn new(frames: Arc<Frames>, threads: usize, budget: u64) -> Self {
        let shared = Shared { frames, budget, queue: Mutex::default(), filled: Condvar::new() };
        Self { shared: Arc::new(shared), threads: Mutex::default(), wanted: threads }
    }

    /// Whether anything is opened ahead at all.
    pub(crate) fn is_on(&self) -> bool {
        self.wanted > 0
    }

    /// Queues a frame; `false` when the budget is used up.
    pub(crate) fn push(&self, frame: FrameRef, plain_len: Option<usize>) -> bool {
        if !self.is_on() || self.shared.frames.holds(&frame) {
            return self.is_on();
        }
        let cost = plain_len.map_or(u64::from(frame.stored_len) * 2, |len| len as u64);
        {
            let mut queue = lock(&self.shared.queue);
            if queue.bytes + cost > self.shared.budget {
                return false;
            }
            queue.bytes += cost;
            queue.jobs.push_back(Job { frame, plain_len, cost });
        }
        self.shared.filled.notify_one();
        self.start();
        true
    }

    fn start(&self) {
        let mut threads = lock(&self.threads);
        while threads.len() < self.wanted {
            let shared = Arc::clone(&self.shared);
            let built = thread::Builder::new().name("read-ahead".into()).spawn(move || shared.work());
            match built {
                Ok(running) => threads.push(running),
                // Without threads the queue fills and refuses: slower, not wrong.
                Err(error) => {
                    tracing::warn!(%error, "a thread that reads ahead could not be started");
                    return;
                }
            }
        }
    }
}

impl Shared {
    fn work(&self) {
        while let Some(job) = self.next() {
            match self.frames.get_ahead(&job.frame, job.plain_len) {
                Ok(()) => {}
                Err(error) => tracing::debug!(error = crate::error::describe(&error), "read ahead failed"),
            }
            lock(&self.queue).bytes -= job.cost;
        }
    }

    fn next(&self) -> Option<Job> {
        let waiting = |queue: &mut Queue| queue.jobs.is_empty() && !queue.closed;
        let queue = self.filled.wait_while(lock(&self.queue), waiting);
        let mut queue = queue.unwrap_or_else(PoisonError::into_inner);
        if queue.closed { None } else { queue.jobs.pop_front() }
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        {
            let mut queue = lock(&self.shared.queue);
            queue.closed = true;
            queue.jobs.clear();
        }
        self.shared.filled.notify_all();
        for running in lock(&self.threads).drain(..) {
            // A thread that panicked has said so already.
            drop(running.join());
        }
    }
}
