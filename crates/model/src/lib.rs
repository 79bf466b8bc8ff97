//! The nouns of `backupengine`, named once.
//!
//! **What it is.** Ids, names and their order, nodes, snapshots, the records and rules of the ledger, and
//! the two read ports ([`TreeReader`], [`ContentReader`]) that the mount and restore stand on.
//!
//! **What it may not do.** No I/O, no clock, no threads, no keys, no encoding.
//!
//! **What always holds.** Names are bytes, never text. A [`NodeId`] is derived from what a snapshot holds
//! (session and rank), so two look-ups of one node agree, today and after a remount.
//!
//! **Where it is tested.** Beside the code; through the ports in `tests/oracle` and `tests/mount`.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod forgotten;
mod id;
pub mod ledger;
mod name;
pub mod name_policy;
mod node;
mod ports;
mod snapshot;

pub use forgotten::Forgotten;
pub use id::{
    ContentId, DeviceId, FrameKind, FrameLen, FrameRef, IdError, NodeId, PackRef, RootHash, SessionNo,
    SnapshotId, VaultId,
};
pub use name::{Class, NAME_MAX, NameError, NodeKey, TreePath, check_name};
pub use node::{
    Attributes, DataSpan, Kind, Node, NodeFlags, SpanKind, Timestamp, Totals, XattrName, allocated_blocks,
};
pub use ports::{ContentReader, DirPage, DirSlot, Nearness, ReadError, ReadFailure, TreeReader};
pub use snapshot::{SUSPICIOUS, SelectError, SnapshotInfo, SnapshotSelector, select};
