//! The account's two planes: the client of the control plane, and the store port over presigned URLs.
//!
//! **What it is.** [`Account`] calls the control plane as one device; [`Identity`] logs in; [`PresignedStore`] is
//! the store port on top of both. Above it everything is the same as for a folder.
//!
//! **What it may not do.** Hold the device's keys (a [`Signer`] is handed in), know formats, keep secrets where
//! no [`Keeper`] said, print a token or a grant.
//!
//! **What always holds.** TLS 1.3, plain HTTP on loopback only; one refresh at a time per account, the new token
//! durable before it is used; nothing that got a 4xx is tried again, but for one renewal of an expired grant and
//! one correction of the clock; all work runs on this crate's own runtime, so that any thread may wait for it.
//!
//! **Where it is tested.** Beside the code against a scripted server; `tests/stores`, `tests/server`,
//! `tests/hostile` and `tests/cli` against the real one.
#![forbid(unsafe_code)]

mod account;
mod backoff;
mod clock;
mod error;
mod http;
mod identity;
mod keeper;
mod presigned;
mod reach;
mod runtime;
#[cfg(test)]
mod tests;
mod tokens;

pub use account::{Account, AccountConfig};
pub use error::{Refusal, StorageError, TransferError};
pub use identity::{Identity, Login, fetch_directory};
pub use keeper::{Keeper, Signer, Tokens};
pub use presigned::{PresignedConfig, PresignedStore};
