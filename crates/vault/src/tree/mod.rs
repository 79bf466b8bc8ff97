//! The tree of one snapshot: nodes by rank and by key.
//!
//! **What it is.** [`Tree`] is a verified root with its top index page and its copy of the listing of "/";
//! [`Spot`] is a node found in a leaf. Everything else is fetched page by page, through the page cache.
//! **What it may not do.** Know what a file's bytes are. **What always holds.** A page is used only where its
//! parent counts on it: level and number of nodes agree. Listing "/" needs nothing but the root where the root
//! holds the copy. **Where it is tested.** In the reader's tests.

mod list;
mod walk;

pub(crate) use list::Runs;

use crate::cache::{Index, index_weight, leaf_weight};
use crate::{Root, VaultError};
use backupengine_format::page::{IndexPage, LeafEntry, LeafPage};
use backupengine_model::{Class, FrameRef, Node, NodeId, SessionNo, TreePath};
use backupengine_store::BlobKey;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A snapshot that was opened.
pub(crate) struct Tree {
    pub(crate) root: Arc<Root>,
    pub(crate) session: SessionNo,
    top: Option<Arc<Index>>,
    listing: Option<Listing>,
    /// Whether [`Tree::strays`] was asked.
    asked: AtomicBool,
}

/// Most leaves that are taken for strays: one for each push since the pages were last written together.
const STRAYS_MAX: usize = 64;

/// The root's copy of the listing of "/".
struct Listing {
    directories: Option<Arc<LeafPage>>,
    others: Option<Arc<LeafPage>>,
    /// Rank of the first node that is no directory.
    others_start: u64,
}

/// A node found in a leaf; or, where `at` is the leaf's length, the place after its last.
#[derive(Clone)]
pub(crate) struct Spot {
    pub(crate) leaf: Arc<LeafPage>,
    /// Rank of the leaf's first node.
    pub(crate) start: u64,
    pub(crate) at: usize,
}

impl Spot {
    pub(crate) fn rank(&self) -> u64 {
        self.start + self.at as u64
    }
}

/// A spot that holds a node.
pub(crate) struct Found {
    leaf: Arc<LeafPage>,
    at: usize,
    pub(crate) rank: u64,
}

impl Found {
    /// `None` where the spot lies after its leaf's last node.
    pub(crate) fn at(spot: Spot) -> Option<Self> {
        let rank = spot.rank();
        (spot.at < spot.leaf.entries.len()).then_some(Self { leaf: spot.leaf, at: spot.at, rank })
    }

    pub(crate) fn entry(&self) -> &LeafEntry {
        &self.leaf.entries[self.at]
    }

    /// The path of this node.
    pub(crate) fn path(&self) -> TreePath {
        let entry = self.entry();
        entry.parent.child(&entry.name)
    }
}

impl Tree {
    /// Decodes what a root holds of its tree.
    pub(crate) fn new(root: Arc<Root>) -> Result<Self, VaultError> {
        let record = &root.record;
        let session = record.session;
        let broken = |what| VaultError::damaged(BlobKey::Root(session), root.size, what);
        let decode = |bytes: &Vec<u8>| {
            LeafPage::decode(bytes).map_err(|error| {
                let (blob, what) = (BlobKey::Root(session), "the listing of / does not decode");
                VaultError::damaged_by(blob, root.size, what, error)
            })
        };
        let top = if record.top.is_empty() {
            None
        } else {
            let page = IndexPage::decode(&record.top).map_err(|error| {
                let (blob, what) = (BlobKey::Root(session), "the top page does not decode");
                VaultError::damaged_by(blob, root.size, what, error)
            })?;
            Some(Arc::new(Index::new(page).ok_or_else(|| broken("the top page counts no nodes"))?))
        };
        let total = top.as_ref().map_or(0, |top| top.total);
        let others_start = record.totals.directories;
        if record.totals.files.checked_add(others_start) != Some(total) {
            return Err(broken("the totals do not fit the tree"));
        }
        let mut listing = Listing { directories: None, others: None, others_start };
        for bytes in &record.root_listing {
            let page = Arc::new(decode(bytes)?);
            let (slot, room) = match page.entries.first().map(LeafEntry::class) {
                Some(Class::Directory) => (&mut listing.directories, others_start),
                _ => (&mut listing.others, record.totals.files),
            };
            let of_root = page.entries.iter().all(|entry| entry.parent.is_root());
            if !of_root || page.entries.len() as u64 > room || slot.replace(page).is_some() {
                return Err(broken("the listing of / does not fit the tree"));
            }
        }
        let listed = !record.root_listing.is_empty() || total == 0;
        Ok(Self { session, top, listing: listed.then_some(listing), root, asked: AtomicBool::new(false) })
    }

    /// The top page; `None` for a snapshot without nodes.
    pub(crate) fn top(&self) -> Option<&Arc<Index>> {
        self.top.as_ref()
    }

    /// Leaves that lie in other packs than most do, the first time this is asked: none of them comes along with its
    /// neighbours. Empty where there is more than one level of index pages.
    pub(crate) fn strays(&self) -> Vec<FrameRef> {
        let Some(top) = self.top.as_ref().filter(|top| top.page.level == 1) else { return Vec::new() };
        if self.asked.swap(true, Ordering::Relaxed) {
            return Vec::new();
        }
        let mut packs: HashMap<(SessionNo, u32), usize> = HashMap::new();
        for child in &top.page.children {
            *packs.entry((child.frame.pack.session, child.frame.pack.number)).or_default() += 1;
        }
        let most = packs.into_iter().max_by_key(|(pack, leaves)| (*leaves, *pack)).map(|(pack, _)| pack);
        let apart = |frame: &FrameRef| Some((frame.pack.session, frame.pack.number)) != most;
        top.page.children.iter().map(|child| child.frame).filter(apart).take(STRAYS_MAX).collect()
    }

    /// Number of nodes, "/" not counted.
    pub(crate) fn len(&self) -> u64 {
        self.top.as_ref().map_or(0, |top| top.total)
    }

    /// Bytes it takes in memory, about.
    pub(crate) fn weight(&self) -> u64 {
        let record = &self.root.record;
        let raw = record.top.len() + record.root_listing.iter().map(Vec::len).sum::<usize>();
        let pages = self.listing.iter().flat_map(|l| [&l.directories, &l.others]).flatten();
        let decoded = pages.map(|page| leaf_weight(page)).sum::<usize>();
        (raw + decoded + self.top.as_deref().map_or(0, index_weight) + 4096) as u64
    }

    /// "/" as a node.
    pub(crate) fn root_node(&self) -> Node {
        let id = NodeId::root(self.session);
        let record = &self.root.record;
        Node { id, attributes: record.attributes.clone(), inode: id, has_xattrs: !record.xattrs.is_empty() }
    }

    /// The id of the node of this rank.
    pub(crate) fn id(&self, rank: u64) -> Result<NodeId, VaultError> {
        NodeId::from_rank(self.session, rank).ok_or_else(|| {
            let (blob, what) =
                (BlobKey::Root(self.session), "the snapshot holds more nodes than can be shown");
            VaultError::damaged(blob, self.root.size, what)
        })
    }
}
