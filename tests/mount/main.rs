//! Guards mount/SEMANTICS.md: what the mount promises, on the core and on real FUSE.
//!
//! Scenarios that need nothing of a system run on both, through one [`face::Face`]; what only a kernel can do
//! runs on FUSE alone. Trees come from the oracle filesystem, so no keys or stores are in play here. Without
//! /dev/fuse the tests fail and say so, unless BACKUPENGINE_SKIP_FUSE=1 is set; then the core is still tested.
// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used)]

mod alive;
mod dirs;
mod face;
mod fidelity;
mod lifecycle;
mod permissions;
mod readonly;
mod reads;
mod tools;
mod world;
