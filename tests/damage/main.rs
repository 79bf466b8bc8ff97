//! One bad blob costs only what it held.
//!
//! Guards: whatever happens to a stored blob, no reader ever shows wrong bytes, nothing panics, the other files
//! can still be read, and `check` finds the damage and names what it costs. `matrix` does to each kind of blob
//! what disks and people do; `forged` writes vaults that are authentic and wrong.

mod fixture;
mod forged;
mod matrix;
mod targets;
