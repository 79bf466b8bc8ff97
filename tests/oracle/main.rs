//! Guards: mount and restore give back what was pushed.
//!
//! Random histories of changes are made on a real folder, pushed, and read back through the vault's read ports,
//! without a kernel; the oracle filesystem says what must be there, in every field and byte. Then restored and
//! compared with the disk again. Seeds are fixed: a failure repeats.
// The helpers of the tests are not #[test] functions themselves.
#![allow(clippy::unwrap_used)]

mod change;
mod histories;
mod restored;
mod trips;
mod world;
