//! What tests across crates are built from.
//!
//! **What it is.** Builders, the oracle filesystem, recording and faulty stores.
//!
//! **What it may not do.** Be a normal dependency of anything; share code with what it judges.
//!
//! **What always holds.** Fakes are stricter than the real thing.
//!
//! **Where it is tested.** Beside the code.
#![forbid(unsafe_code)]

pub mod oracle;
