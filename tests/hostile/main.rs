//! Guards: the server cannot lie unnoticed. It swaps, cuts, replays, withholds, offers weaker costs and devices of
//! its own; the client never shows wrong bytes, never lowers its floor, and says what happened.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to stop")]

// The built program and people who run it, as in tests/cli.
#[allow(dead_code, reason = "shared with tests/cli, which uses all of it")]
#[path = "../cli/account_world.rs"]
mod account_world;
mod approval;
mod blobs;
mod devices;
mod envelopes;
mod forgotten;
mod http_blobs;
mod http_faults;
mod http_grants;
mod http_keys;
mod http_lists;
mod http_program;
mod http_room;
mod http_writes;
mod liar;
mod lists;
#[allow(dead_code, reason = "shared with tests/cli, which uses all of it")]
#[path = "../cli/program.rs"]
mod program;
mod world;
mod writer;
