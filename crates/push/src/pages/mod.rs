//! Builds the tree of a snapshot: leaves of nodes, index pages above them.
pub(crate) mod index;
pub(crate) mod leaf;
