//! Guards what users see: the built program, run as they run it.
//!
//! **What it is.** Cases as data files (`cases/*.case`, see `cases.rs`), one golden of all help, the field names of
//! `--json`, secrets absent from every output, bad input, and a whole round of push, mount and restore judged by
//! ordinary tools.
//!
//! **What it may not do.** Reach into the crates: only what the program prints, returns and leaves on the disk counts.
//!
//! **What always holds.** Every test has a home and folders of its own; its mounts are gone when it ends.
//!
//! Needs root for other users, device nodes and small filesystems, and /dev/fuse unless BACKUPENGINE_SKIP_FUSE=1.

// Tests may panic; clippy only knows the functions that are marked as tests.
#![allow(clippy::unwrap_used)]

mod account_cache;
mod account_devices;
mod account_faults;
mod account_first;
mod account_hard;
mod account_json;
mod account_keep;
mod account_keys;
mod account_keystore;
mod account_login;
mod account_near;
mod account_offline;
mod account_provider;
mod account_readable;
mod account_rebuilt;
mod account_regions;
mod account_repair;
mod account_secrets;
mod account_seeds;
mod account_world;
mod bad_input;
mod cases;
mod devices;
mod help;
mod json;
mod keeping;
mod keys;
mod keys_upkeep;
mod mounts;
mod program;
mod prune;
mod repair;
mod round_trip;
mod secrets;
mod seen;
mod signals;
mod suspicious;
