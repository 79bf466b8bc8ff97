//! One bad blob costs only what it held.
//!
//! Guards: whatever happens to a stored blob, no reader ever shows wrong bytes, nothing panics, the other files
//! can still be read, and `check` finds the damage and names what it costs. `matrix` does to each kind of blob
//! what disks and people do; `repair` has it made whole again; `forged` writes vaults that are authentic and wrong; `flips` damages everything at random.
#![allow(clippy::unwrap_used)] // A test may; clippy knows only functions marked as such, not what they call.

mod fixture;
mod flips;
mod forged;
mod forger;
mod matrix;
mod repair;
mod repair_beside;
mod targets;
