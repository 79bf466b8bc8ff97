//! Unlocks a vault and reads it: snapshots, trees, contents.
//!
//! **What it is.** A blocking reader ([`Vault`], which fills the two read ports of `model`) over an async
//! fetcher. A locked and an unlocked vault are two types.
//!
//! **What it may not do.** Put blobs, speak HTTP, write user files. It asks for the reading traits only.
//!
//! **What always holds.** Nothing is returned that was not authenticated; memory stays within the configured
//! budget; nothing opened rests on disk.
//!
//! **Where it is tested.** Beside the code; `tests/oracle`, `tests/damage`, `tests/mount`; fetch counts there.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod cache;
mod codec;
mod content;
mod core;
mod error;
mod fetch;
mod floor;
mod forward;
mod leaves;
mod open;
mod ports;
mod root;
mod snapshots;
mod stats;
mod tree;
mod unlock;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use core::{Vault, VaultConfig};
pub use error::VaultError;
pub use floor::Floor;
pub use forward::Relocations;
pub use leaves::{LeafAt, Leaves};
pub use root::Root;
pub use stats::VaultStats;
pub use unlock::{Locked, Unlocked};
