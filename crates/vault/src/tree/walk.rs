//! Descents: from the top page to one leaf, by rank or by key.
//!
//! **What it may not do.** Fetch a page that the question does not need. **What always holds.** One page per
//! level; the copy in the root answers for "/" without any.
//! **Where it is tested.** In the reader's tests.

use super::{Found, Listing, Spot, Tree};
use crate::VaultError;
use crate::cache::{Index, Pages, misplaced};
use backupengine_format::page::{HardLink, IndexChild, LeafEntry, LeafPage};
use backupengine_model::{Class, Node, NodeId, NodeKey, TreePath};
use std::sync::Arc;

/// What a descent ends at.
enum Below {
    Index(Arc<Index>),
    Leaf(Arc<LeafPage>),
}

fn below(pages: &Pages, level: u8, child: &IndexChild) -> Result<Below, VaultError> {
    match level {
        0 => Err(misplaced(&child.frame)),
        1 => Ok(Below::Leaf(pages.leaf(&child.frame, child.entries)?)),
        _ => Ok(Below::Index(pages.index(&child.frame, level - 1, child.entries)?)),
    }
}

/// The order inside a leaf, without building keys.
fn order(entry: &LeafEntry) -> (Class, &[u8], &[u8]) {
    (entry.class(), entry.parent.as_joined(), &entry.name)
}

impl Tree {
    /// The leaf that holds the node of this rank; `None` at the end of the tree.
    pub(crate) fn by_rank(&self, pages: &Pages, rank: u64) -> Result<Option<Spot>, VaultError> {
        if rank >= self.len() {
            return Ok(None);
        }
        if let Some(spot) = self.listing.as_ref().and_then(|listing| listing.by_rank(rank)) {
            return Ok(Some(spot));
        }
        let Some(mut index) = self.top.clone() else { return Ok(None) };
        let mut start = 0;
        loop {
            // Children hold at least one node each, so the last that begins at or before `rank` holds it.
            let child = index.starts.partition_point(|&first| first <= rank - start).saturating_sub(1);
            let found = below(pages, index.page.level, &index.page.children[child])?;
            start += index.starts[child];
            match found {
                Below::Index(next) => index = next,
                Below::Leaf(leaf) => {
                    let at = (rank - start) as usize;
                    return Ok(Some(Spot { leaf, start, at }));
                }
            }
        }
    }

    /// The first place whose node is not `before`; `key` is a key to descend by: no node at or after it is
    /// `before`, and every node before it is.
    fn by_key(
        &self,
        pages: &Pages,
        key: &NodeKey,
        before: impl Fn(&LeafEntry) -> bool,
    ) -> Result<Option<Spot>, VaultError> {
        let Some(mut index) = self.top.clone() else { return Ok(None) };
        let mut start = 0;
        loop {
            let children = &index.page.children;
            let child = children.partition_point(|child| child.separator.as_slice() <= key.as_bytes());
            let child = child.saturating_sub(1);
            let found = below(pages, index.page.level, &children[child])?;
            start += index.starts[child];
            match found {
                Below::Index(next) => index = next,
                Below::Leaf(leaf) => {
                    let at = leaf.entries.partition_point(before);
                    return Ok(Some(Spot { leaf, start, at }));
                }
            }
        }
    }

    /// A node by directory and name in one class.
    pub(crate) fn find(
        &self,
        pages: &Pages,
        class: Class,
        parent: &TreePath,
        name: &[u8],
    ) -> Result<Option<Found>, VaultError> {
        let wanted = (class, parent.as_joined(), name);
        let spot = match &self.listing {
            Some(listing) if parent.is_root() => listing.find(class, name),
            _ => self.by_key(pages, &NodeKey::new(class, parent, name), |entry| order(entry) < wanted)?,
        };
        Ok(spot.and_then(Found::at).filter(|found| order(found.entry()) == wanted))
    }

    /// Rank of the first child of `parent` in `class`, or of the node after its place.
    pub(crate) fn first_child(
        &self,
        pages: &Pages,
        class: Class,
        parent: &TreePath,
    ) -> Result<u64, VaultError> {
        let wanted = (class, parent.as_joined());
        let key = NodeKey::first_child(class, parent);
        let spot = self.by_key(pages, &key, |e| (e.class(), e.parent.as_joined()) < wanted)?;
        Ok(spot.map_or(0, |spot| spot.rank()))
    }

    /// Rank of the first node after the children of `parent` in `class`.
    pub(crate) fn after_children(
        &self,
        pages: &Pages,
        class: Class,
        parent: &TreePath,
    ) -> Result<u64, VaultError> {
        let wanted = (class, parent.as_joined());
        let key = NodeKey::after_children(class, parent);
        let spot = self.by_key(pages, &key, |e| (e.class(), e.parent.as_joined()) <= wanted)?;
        Ok(spot.map_or(0, |spot| spot.rank()))
    }

    /// The node behind an id that is not "/".
    pub(crate) fn found(&self, pages: &Pages, id: NodeId) -> Result<Found, VaultError> {
        let rank = id.rank().ok_or(VaultError::NoNode(id))?;
        let spot = self.by_rank(pages, rank)?;
        spot.and_then(Found::at).ok_or(VaultError::NoNode(id))
    }

    /// An entry as readers see it.
    pub(crate) fn node(&self, pages: &Pages, entry: &LeafEntry, rank: u64) -> Result<Node, VaultError> {
        let id = self.id(rank)?;
        let inode = match &entry.hard_link {
            HardLink::None | HardLink::First => id,
            HardLink::Also(first) => self.first_name(pages, first).unwrap_or_else(|error| {
                // Where the first name lies in a damaged page, this one can still be read.
                let (path, error) = (entry.parent.child(&entry.name), crate::error::describe(&error));
                tracing::warn!(%path, error, "a hard link is shown as a file of its own");
                id
            }),
        };
        Ok(Node { id, attributes: entry.attributes.clone(), inode, has_xattrs: !entry.xattrs.is_empty() })
    }

    fn first_name(&self, pages: &Pages, path: &TreePath) -> Result<NodeId, VaultError> {
        let gone = || VaultError::NoNode(NodeId::root(self.session));
        let (parent, name) = path.split_last().ok_or_else(gone)?;
        let found = self.find(pages, Class::Other, &parent, name)?.ok_or_else(gone)?;
        self.id(found.rank)
    }
}

impl Listing {
    fn by_rank(&self, rank: u64) -> Option<Spot> {
        let spot = |leaf: &Arc<LeafPage>, start: u64| {
            let at = usize::try_from(rank.checked_sub(start)?).ok()?;
            (at < leaf.entries.len()).then(|| Spot { leaf: Arc::clone(leaf), start, at })
        };
        let directories = self.directories.as_ref().and_then(|leaf| spot(leaf, 0));
        directories.or_else(|| self.others.as_ref().and_then(|leaf| spot(leaf, self.others_start)))
    }

    fn find(&self, class: Class, name: &[u8]) -> Option<Spot> {
        let (leaf, start) = match class {
            Class::Directory => (self.directories.as_ref()?, 0),
            Class::Other => (self.others.as_ref()?, self.others_start),
        };
        let at = leaf.entries.binary_search_by(|entry| entry.name.as_slice().cmp(name)).ok()?;
        Some(Spot { leaf: Arc::clone(leaf), start, at })
    }

    pub(super) fn directories(&self) -> u64 {
        self.directories.as_ref().map_or(0, |leaf| leaf.entries.len() as u64)
    }

    pub(super) fn others(&self) -> std::ops::Range<u64> {
        let len = self.others.as_ref().map_or(0, |leaf| leaf.entries.len() as u64);
        self.others_start..self.others_start + len
    }
}
