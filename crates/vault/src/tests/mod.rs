//! Tests of the whole reader on vaults written by hand (see [`crate::fixture`]).

mod contents;
mod damage;
mod far;
mod forwards;
mod patience;
mod rotation;
mod seeds;
mod snapshots;
mod trees;
mod trust;
