//! A tree of pages against a sorted map: look-up by key, rank, and ranges give what the map gives, wherever the
//! pages are cut.

use crate::build;
use backupengine_format::page::{IndexChild, IndexPage, LeafEntry, LeafPage, separator};
use backupengine_model::{Class, FrameRef, NodeKey, PackRef, SessionNo};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// An index page as a writer could make it.
pub(crate) fn index_page() -> impl Strategy<Value = IndexPage> {
    let child = (1..1000u64, build::frame());
    let children = btree_map(vec(0..4u8, 0..6), child, 1..20);
    (1..=8u8, children).prop_map(|(level, map)| IndexPage {
        level,
        children: map
            .into_iter()
            .map(|(separator, (entries, frame))| IndexChild { separator, entries, frame })
            .collect(),
    })
}

/// Encoded pages, found by offset.
#[derive(Default)]
struct Pages(Vec<Vec<u8>>);

impl Pages {
    fn put(&mut self, bytes: Vec<u8>) -> FrameRef {
        let pack = PackRef { session: SessionNo(1), number: 0, salt: [0; 8], epoch: 1 };
        let frame = FrameRef { pack, offset: self.0.len() as u32, stored_len: 1 };
        self.0.push(bytes);
        frame
    }

    fn index(&self, at: &FrameRef) -> IndexPage {
        IndexPage::decode(&self.0[at.offset as usize]).unwrap()
    }

    fn leaf(&self, at: &FrameRef) -> LeafPage {
        LeafPage::decode(&self.0[at.offset as usize]).unwrap()
    }
}

struct Tree {
    pages: Pages,
    top: FrameRef,
}

impl Tree {
    /// Cuts `entries` (sorted, both classes) after as many as `cuts` says in turn, and index pages likewise.
    fn build(entries: &[LeafEntry], cuts: &[usize]) -> Self {
        let mut pages = Pages::default();
        let mut cuts = cuts.iter().copied().cycle();
        let mut take = move || cuts.next().unwrap_or(1);
        let (mut children, mut before): (Vec<IndexChild>, Option<NodeKey>) = (Vec::new(), None);
        for class in entries.chunk_by(|a, b| a.class() == b.class()) {
            let mut rest = class;
            while let [first, ..] = rest {
                let (page, more) = rest.split_at(take().min(rest.len()));
                rest = more;
                let key = first.key();
                let separator = before.map_or(Vec::new(), |b| separator(b.as_bytes(), key.as_bytes()));
                before = page.last().map(LeafEntry::key);
                let frame = pages.put(LeafPage { entries: page.to_vec() }.encode());
                children.push(IndexChild { separator, entries: page.len() as u64, frame });
            }
        }
        let mut level = 0;
        while level == 0 || children.len() > 1 {
            level += 1;
            // Above level 6 pages are wide, so that the tree ends.
            let width = if level > 6 { usize::MAX } else { 2 };
            let mut above: Vec<IndexChild> = Vec::new();
            let mut rest = children.as_slice();
            while let [first, ..] = rest {
                let (page, more) = rest.split_at(take().max(width).min(rest.len()));
                rest = more;
                let entries = page.iter().map(|child| child.entries).sum();
                let frame = pages.put(IndexPage { level, children: page.to_vec() }.encode());
                above.push(IndexChild { separator: first.separator.clone(), entries, frame });
            }
            children = above;
        }
        let top = children[0].frame;
        Self { pages, top }
    }

    /// Rank of the first node not below `key`, and that node if it is in the same leaf.
    fn seek(&self, key: &[u8]) -> (u64, Option<LeafEntry>) {
        let (mut at, mut rank) = (self.top, 0);
        loop {
            let page = self.pages.index(&at);
            let next = page.children.partition_point(|c| c.separator.as_slice() <= key).saturating_sub(1);
            rank += page.children[..next].iter().map(|c| c.entries).sum::<u64>();
            at = page.children[next].frame;
            if page.level == 1 {
                break;
            }
        }
        let entries = self.pages.leaf(&at).entries;
        let within = entries.partition_point(|e| e.key().as_bytes() < key);
        (rank + within as u64, entries.get(within).cloned())
    }

    /// The node of a rank.
    fn by_rank(&self, mut rank: u64) -> Option<LeafEntry> {
        let mut at = self.top;
        loop {
            let page = self.pages.index(&at);
            let child = page.children.iter().find(|child| {
                let here = rank < child.entries;
                rank -= if here { 0 } else { child.entries };
                here
            })?;
            at = child.frame;
            if page.level == 1 {
                return self.pages.leaf(&at).entries.get(rank as usize).cloned();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_tree_of_pages_is_a_sorted_map(
        directories in build::directories(60),
        others in build::others(120),
        cuts in vec(1..12usize, 1..6),
        strangers in build::others(20),
    ) {
        let map: BTreeMap<NodeKey, LeafEntry> =
            directories.into_iter().chain(others).map(|entry| (entry.key(), entry)).collect();
        let sorted: Vec<_> = map.values().cloned().collect();
        let tree = Tree::build(&sorted, &cuts);
        for (rank, entry) in sorted.iter().enumerate() {
            prop_assert_eq!(tree.by_rank(rank as u64), Some(entry.clone()));
            prop_assert_eq!(tree.seek(entry.key().as_bytes()), (rank as u64, Some(entry.clone())));
        }
        prop_assert_eq!(tree.by_rank(sorted.len() as u64), None);
        // Keys that may not be there: the rank is how many are below.
        for key in strangers.iter().map(LeafEntry::key) {
            prop_assert_eq!(tree.seek(key.as_bytes()).0, map.range(..&key).count() as u64);
        }
        // A directory's listing is two ranges of ranks.
        for entry in &sorted {
            for class in [Class::Directory, Class::Other] {
                let from = NodeKey::first_child(class, &entry.parent);
                let to = NodeKey::after_children(class, &entry.parent);
                let ranks = tree.seek(from.as_bytes()).0..tree.seek(to.as_bytes()).0;
                prop_assert_eq!(ranks.count(), map.range(from..to).count());
            }
        }
    }
}
