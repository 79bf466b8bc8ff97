//! Leaf pages: runs of nodes.
//!
//! **What it is.** Rows ([`LeafEntry`]) in memory, columns in bytes; each column has a file here with both
//! directions.
//!
//! **What it may not do.** Decide where pages are cut: that is the writer's.
//!
//! **What always holds.** Entries ascend by key, all of one class; equal rows give equal bytes; rows that break
//! a rule give bytes that `decode` refuses, so a writer that decodes what it encoded has checked it.
//!
//! **Where it is tested.** `tests.rs` beside this, `tests/golden/leaf`, `tests/formats`, its fuzz target.

mod attributes;
mod content;
mod decode;
mod directories;
mod encode;
mod hard_links;
mod sparse;
#[cfg(test)]
mod tests;
mod xattrs;

use super::section::CRITICAL;
use super::{Content, HardLink, Xattr};
use crate::FormatError;
use crate::varint::Cursor;
use backupengine_model::{Attributes, Class, NodeKey, TreePath};
use std::sync::Arc;

const WHAT: &str = "leaf page";

/// Section tags. 12 (birth times) and 13 (content digests) are reserved.
mod tag {
    use super::CRITICAL;
    pub(super) const DIRECTORIES: u8 = 1 | CRITICAL;
    pub(super) const NAMES: u8 = 2 | CRITICAL;
    pub(super) const ATTRIBUTE_TABLE: u8 = 3 | CRITICAL;
    pub(super) const ATTRIBUTES: u8 = 4 | CRITICAL;
    pub(super) const SIZES: u8 = 5 | CRITICAL;
    pub(super) const MTIMES: u8 = 6 | CRITICAL;
    pub(super) const PACKS: u8 = 7 | CRITICAL;
    pub(super) const CONTENT: u8 = 8 | CRITICAL;
    pub(super) const BLOBS: u8 = 9 | CRITICAL;
    pub(super) const XATTRS: u8 = 10 | CRITICAL;
    pub(super) const HARD_LINKS: u8 = 11 | CRITICAL;
    pub(super) const NLINK: u8 = 14;
    pub(super) const RDEV: u8 = 15 | CRITICAL;
    pub(super) const ALLOCATED: u8 = 16;
    pub(super) const FLAGS: u8 = 17;
    pub(super) const ALL: [u8; 15] = [
        DIRECTORIES,
        NAMES,
        ATTRIBUTE_TABLE,
        ATTRIBUTES,
        SIZES,
        MTIMES,
        PACKS,
        CONTENT,
        BLOBS,
        XATTRS,
        HARD_LINKS,
        NLINK,
        RDEV,
        ALLOCATED,
        FLAGS,
    ];
}

/// One node in a leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafEntry {
    /// Directory that holds it; shared between neighbours.
    pub parent: Arc<TreePath>,
    /// Its name.
    pub name: Vec<u8>,
    /// Attributes.
    pub attributes: Attributes,
    /// Where its bytes are. Later names of a hard-linked file say it like the first one does.
    pub content: Content,
    /// Extended attributes, sorted by name; shared between nodes that have the same.
    pub xattrs: Arc<[Xattr]>,
    /// Hard links.
    pub hard_link: HardLink,
}

impl LeafEntry {
    /// Its place in the order.
    pub fn key(&self) -> NodeKey {
        NodeKey::new(self.class(), &self.parent, &self.name)
    }

    /// Its class.
    pub fn class(&self) -> Class {
        if self.attributes.kind == backupengine_model::Kind::Directory {
            Class::Directory
        } else {
            Class::Other
        }
    }
}

/// A run of nodes of one class, in key order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafPage {
    /// At least one, all of one class.
    pub entries: Vec<LeafEntry>,
}

impl LeafPage {
    /// Encodes it. Rows that break a rule of FORMAT.md give bytes that [`LeafPage::decode`] refuses.
    pub fn encode(&self) -> Vec<u8> {
        encode::encode(&self.entries)
    }

    /// Decodes it.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        decode::decode(bytes).map(|entries| Self { entries })
    }
}

/// Bytes of names and paths a page may still take in memory.
struct Room(usize);

impl Room {
    fn take(&mut self, len: usize, cursor: &Cursor<'_>) -> Result<(), FormatError> {
        self.0 = self.0.checked_sub(len).ok_or_else(|| cursor.broken("names and paths take over 16 MiB"))?;
        Ok(())
    }
}
