//! Answers of stores that answer at once.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// The answer of a store that needs no waiting: a folder and a memory store answer within the first poll, and
/// so do the wrappers here.
///
/// # Panics
/// Where the answer is not there yet: then the store broke that promise.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("a store that should answer within the first poll did not"),
    }
}
