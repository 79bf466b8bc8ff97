//! Waits for an answer of the store on the caller's own thread.
//!
//! **What it may not do.** Start a runtime for a store that needs none. **What always holds.** A store that
//! answers in its first poll costs one poll. **Where it is tested.** Below.

use crate::VaultError;
use backupengine_store::{BoxFuture, ErrorKind, StoreError};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Handle, Runtime};

/// How answers are waited for. This crate's only runtime lives here.
pub(crate) enum Waiter {
    /// The store works on the calling thread or wakes it from a thread of its own.
    Near,
    /// The store needs a reactor for its sockets and timers.
    Far(Box<Runtime>),
}

impl Waiter {
    /// Stores that widen their reads (`grid` above 1) are those across a network.
    pub(crate) fn for_grid(grid: u64) -> Result<Self, VaultError> {
        if grid <= 1 {
            return Ok(Self::Near);
        }
        let built = Builder::new_multi_thread().worker_threads(1).thread_name("fetch").enable_all().build();
        let runtime = built.map_err(|error| {
            StoreError::new(ErrorKind::Io, "the threads that fetch could not be started").caused_by(error)
        })?;
        Ok(Self::Far(Box::new(runtime)))
    }

    /// The threads of a store that needs them.
    pub(crate) fn runtime(&self) -> Option<&Handle> {
        match self {
            Self::Near => None,
            Self::Far(runtime) => Some(runtime.handle()),
        }
    }

    /// Runs `answer` to its end, or drops it where it has not come by `until`. A store that works on the calling thread
    /// cannot be left before it is done.
    pub(crate) fn wait<T>(&self, mut answer: BoxFuture<'_, T>, until: Option<Instant>) -> Option<T> {
        if let Self::Far(runtime) = self {
            let Some(until) = until else { return Some(runtime.block_on(answer)) };
            return runtime.block_on(async { tokio::time::timeout_at(until.into(), answer).await.ok() });
        }
        let mut quick = Context::from_waker(Waker::noop());
        if let Poll::Ready(value) = answer.as_mut().poll(&mut quick) {
            return Some(value);
        }
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(value) = answer.as_mut().poll(&mut context) {
                return Some(value);
            }
            match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(Duration::ZERO) => return None,
                Some(left) => thread::park_timeout(left),
            }
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::Pin;

    /// Ready at the second poll, woken from another thread.
    struct Late(Option<thread::JoinHandle<()>>);

    impl Future for Late {
        type Output = u32;
        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<u32> {
            if let Some(running) = self.0.take() {
                running.join().unwrap();
                return Poll::Ready(7);
            }
            let waker = context.waker().clone();
            self.0 = Some(thread::spawn(move || waker.wake()));
            Poll::Pending
        }
    }

    #[test]
    fn an_answer_is_waited_for_with_and_without_a_runtime() {
        for grid in [1, 65_536] {
            let waiter = Waiter::for_grid(grid).unwrap();
            assert_eq!(waiter.wait(Box::pin(async { 5 }), None), Some(5));
            assert_eq!(waiter.wait(Box::pin(Late(None)), None), Some(7));
            let soon = Some(Instant::now() + Duration::from_millis(1));
            assert_eq!(waiter.wait(Box::pin(std::future::pending::<u32>()), soon), None);
            assert_eq!(waiter.wait(Box::pin(async { 5 }), soon), Some(5));
        }
        let far = Waiter::for_grid(2).unwrap();
        let sleep = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            1
        };
        assert_eq!(far.wait(Box::pin(sleep), None), Some(1));
    }
}
