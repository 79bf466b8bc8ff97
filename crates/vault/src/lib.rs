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
//!
//! # Decisions
//! 2026-11-24:
//! - The trailer of a pack is read once (64 bytes) before its first frame, because the commitment must be compared
//!   before anything is decrypted; the checked key is kept. On a folder that is one small read per pack; across
//!   a network it costs a trip per pack on first touch, which can later be joined with the frame's own request.
//! - Opened buffers are wiped when their last holder lets go, by a plain fill: `zeroize` writes byte by byte and
//!   would cost a third of what opening costs. Decoded pages are not wiped: names in thousands of small pieces,
//!   which the kernel keeps in its own caches anyway. Where a thread answers a mount, its reply is sent
//!   first and the buffers (four at most) are wiped after it (2026-11-30): random reads of an image +3 %, eight readers of
//!   small files +5 %, medians of seven and five cold runs in turn.
//! - A store on a grid of 1 is polled on the calling thread and gets no runtime; any other gets one with a single
//!   worker, and its reads are widened to the grid. Retries belong to wrappers of the store, and so
//!   does the time one answer may take; how long a question waits in all is this crate's (2026-11-29, `fetch/deadline.rs`).
//! - Caches are `quick_cache` (figures in `cache.rs`). Frames take half of the budget, pages a quarter, streams
//!   that are opened ahead an eighth at a time, roots and places in lists the rest.
//! - Look-ups ask for a directory first: the directories' leaves are few and shared by all look-ups.
//! - A hard-linked name whose first name cannot be found (damage) shows its own id as inode, with a warning: one
//!   damaged page must not take the listings of others along. Everything else that fails is an error.
//! - A ledger's record that contradicts its root (id, device, time) is refused when the root is read; its lengths
//!   may be wrong and cost one more call.
//! - The floor: a device's newest session must not be older than remembered, nor than what the newest root of
//!   another device has seen of it. Hashes are compared for roots that are read; a remembered one that has not
//!   moved is pinned, so that reading it later fails if it was exchanged. Retention that removes a newest
//!   snapshot needs signed records of removal (security.md 6), which do not exist yet.
//! - A newest root that is damaged or gone could hide what its device has seen, so [`Vault::check_floor`] refuses it. It
//!   must not take all other snapshots with it: who looks for damage, or says so, goes past it
//!   ([`Vault::check_floor_past_damage`]), and nothing that was remembered is let go.
//! - A ledger that was rebuilt from the blobs knows neither device nor time nor label: such a record is filled in from its
//!   root, which costs one call a snapshot, once. Only the id is held against it.
//! - Equal envelopes are tried once; at most eight of a kind, so a store cannot multiply the passphrase hash.
//! - Seeds are a port of this crate, not of `model`: places and content ids are the format's words, which no reader above
//!   has. What was moved by compaction keeps the place that pages name, and so its seeds.
//! - Where moved packs went is asked of [`Relocations`] and only when a pack is missing or a frame of it does not open;
//!   the ledger fills it when there is a compaction or a repair.
//!
//! 2026-11-29:
//! - Of several envelopes that a secret opens, the one with the newest keys counts: after a rotation that was broken off,
//!   or where a store shows an old one again, the old keys are not taken for the vault's.
//! - Something sealed under an epoch that the keys do not reach is an error of its own, of that snapshot alone. A mount
//!   that is held open over a rotation asks for the newer keys then ([`NewerKeys`]), and takes none that are no
//!   continuation of its own.
//! - How the envelopes change is worked out here ([`Ways`]), and put by whoever may write.
//! - A frame that does not open at its place is looked for where the ledger says its pack was moved to. A
//!   repair moves what is damaged and still stored: nothing is deleted for it, and no reader waits for that.
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
mod keys;
mod leaves;
mod near;
mod open;
mod ports;
mod remains;
mod root;
mod seeds;
mod snapshots;
mod stats;
mod tree;
mod unlock;
mod ways;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use core::{Vault, VaultConfig};
pub use error::VaultError;
pub use fetch::{Activity, Wait, WaitsFor};
pub use floor::{Floor, FloorMalformed};
pub use forward::Relocations;
pub use keys::NewerKeys;
pub use leaves::{LeafAt, Leaves};
pub use remains::{FoundFrame, FrameUse, LostFrame, NoRemains, Remains};
pub use root::Root;
pub use seeds::{SEED_MAX, SEED_STEP, SeedPlace, Seeds};
pub use stats::VaultStats;
pub use unlock::{Locked, Unlocked};
pub use ways::{WayIn, Ways, WaysIn};
