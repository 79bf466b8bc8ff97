//! Guards: no mix of devices and crashes loses or changes a committed snapshot, and no (key, nonce) pair is used
//! twice.
//!
//! Pushes are stopped after every single call of the store, lose the answer of every single call, run side by
//! side in threads and processes, and are killed; the power is cut under them. What must hold afterwards is in `fixture::Base::check`.

// Tests may panic; clippy only knows the functions that are marked as tests.
#![allow(clippy::unwrap_used)]

mod check_between;
mod checker;
mod collect;
mod collect_stops;
mod devices;
mod epochs;
mod fixture;
mod killed;
mod nested;
mod nonces;
mod packs;
mod power;
mod processes;
mod repair_between;
mod repair_stops;
mod stepped;
mod stops;
mod year;
