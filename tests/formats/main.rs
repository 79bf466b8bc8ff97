//! Frozen vectors and what decoders make of them: nothing released becomes unreadable, nothing wrong is accepted.
#![allow(clippy::unwrap_used, reason = "the lint's exception for tests knows functions marked as tests only")]

mod build;
mod golden;
mod round;
mod say;
mod seal;
mod tree;
