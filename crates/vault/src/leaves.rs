//! All leaves of a snapshot in key order, streaming.
//!
//! **What it is.** What a push compares its walk with, and what a check reads. **What it may not do.** Fill the
//! page cache: a whole tree passes through once. **What always holds.** Memory is one page per level.
//! **Where it is tested.** In the reader's tests.

use crate::VaultError;
use crate::cache::{Index, misplaced};
use crate::open::Opener;
use crate::tree::Tree;
use backupengine_format::page::LeafPage;
use backupengine_model::{FrameRef, NodeKey};
use bytes::Bytes;
use std::sync::Arc;

/// See [`crate::Vault::leaves`]. Ends after the first error.
pub struct Leaves {
    opener: Arc<Opener>,
    /// Open index pages, top first, each with the child that comes next.
    open: Vec<(Arc<Index>, usize)>,
    /// Where to begin, until the first leaf is reached.
    from: Option<NodeKey>,
}

/// A leaf and where it is.
pub struct LeafAt {
    /// Where it is.
    pub frame: FrameRef,
    /// The page as it was encoded.
    pub encoded: Bytes,
    /// The same, decoded.
    pub page: Arc<LeafPage>,
}

impl Leaves {
    pub(crate) fn new(opener: Arc<Opener>, tree: &Tree) -> Self {
        Self { opener, open: tree.top().map(|top| (Arc::clone(top), 0)).into_iter().collect(), from: None }
    }

    /// From the leaf on that holds `key`, or would.
    pub(crate) fn from(opener: Arc<Opener>, tree: &Tree, key: &NodeKey) -> Self {
        let open = tree.top().map(|top| (Arc::clone(top), first(top, key))).into_iter().collect();
        Self { opener, open, from: Some(key.clone()) }
    }

    fn step(&mut self) -> Result<Option<LeafAt>, VaultError> {
        loop {
            let Some((index, next)) = self.open.last_mut() else { return Ok(None) };
            let Some(child) = index.page.children.get(*next) else {
                self.open.pop();
                continue;
            };
            *next += 1;
            let (frame, entries, level) = (child.frame, child.entries, index.page.level);
            if level == 1 {
                let (encoded, page) = self.opener.leaf(&frame)?;
                if page.entries.len() as u64 != entries {
                    return Err(misplaced(&frame));
                }
                self.from = None;
                return Ok(Some(LeafAt { frame, encoded, page: Arc::new(page) }));
            }
            let below = self.opener.index(&frame)?;
            if Some(below.page.level) != level.checked_sub(1) || below.total != entries {
                return Err(misplaced(&frame));
            }
            let start = self.from.as_ref().map_or(0, |key| first(&below, key));
            self.open.push((Arc::new(below), start));
        }
    }
}

/// The child that holds `key`, or would.
fn first(index: &Index, key: &NodeKey) -> usize {
    let children = &index.page.children;
    children.partition_point(|child| child.separator.as_slice() <= key.as_bytes()).saturating_sub(1)
}

impl Iterator for Leaves {
    type Item = Result<LeafAt, VaultError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.open.clear();
        }
        step.transpose()
    }
}
