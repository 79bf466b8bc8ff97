//! What several test binaries share; the tests are the binaries beside this.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to stop")]

pub mod account;
pub mod program;
pub mod provider;
pub mod regions;
pub mod relay;
pub mod tls;
