//! Guards the layout of the house: which package may name which, where a system may be asked for, that every
//! promise in a text names a test that exists and that no test file lies about unused.
//!
//! **What it may not do.** Run any of the code: it reads manifests and source text only.
//!
//! **What always holds.** Each check first makes sure that it looked at something.
//!
//! **Where the rules stand.** `crates/README.md`, `tests/arch/edges.txt`.
mod edges;
mod files;
mod promises;
mod purity;
mod tree;
