//! Subtrees that were found whole: what several snapshots share is walked once.
//!
//! **What always holds.** Only whole subtrees are kept, so that damage is met again under every snapshot; the
//! memory is bounded, and what was pushed out is walked again.

use backupengine_model::{FrameRef, SessionNo};
use quick_cache::{Weighter, unsync};
use std::collections::BTreeSet;
use std::rc::Rc;

/// Bytes of summaries that are kept.
const MEMO: u64 = 32 << 20;

/// What is known of a whole subtree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) nodes: u64,
    pub(super) directories: u64,
    /// Plain bytes of all files.
    pub(super) bytes: u64,
    /// Smallest and largest key.
    pub(super) first: Vec<u8>,
    pub(super) last: Vec<u8>,
    /// Every pack that the subtree's pages and files use, the one of its own page not counted.
    pub(super) packs: BTreeSet<(SessionNo, u32)>,
}

impl Summary {
    /// Takes in the next subtree in key order.
    pub(super) fn join(&mut self, next: &Self) {
        if self.nodes == 0 {
            self.first.clone_from(&next.first);
        }
        self.nodes += next.nodes;
        self.directories += next.directories;
        self.bytes = self.bytes.saturating_add(next.bytes);
        self.last.clone_from(&next.last);
        self.packs.extend(&next.packs);
    }
}

#[derive(Clone)]
struct SummaryWeight;
impl Weighter<FrameRef, Rc<Summary>> for SummaryWeight {
    fn weight(&self, _: &FrameRef, summary: &Rc<Summary>) -> u64 {
        (summary.first.len() + summary.last.len() + summary.packs.len() * 24 + 256) as u64
    }
}

/// Summaries of whole subtrees, by the place of their top page.
pub(super) struct Memo {
    cache: unsync::Cache<FrameRef, Rc<Summary>, SummaryWeight>,
}

impl Default for Memo {
    fn default() -> Self {
        Self { cache: unsync::Cache::with_weighter(64 << 10, MEMO, SummaryWeight) }
    }
}

impl Memo {
    pub(super) fn get(&self, at: &FrameRef) -> Option<Rc<Summary>> {
        self.cache.get(at).cloned()
    }

    pub(super) fn keep(&mut self, at: FrameRef, summary: Rc<Summary>) {
        self.cache.insert(at, summary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_join_in_order() {
        let part = |first: &[u8], last: &[u8], pack| Summary {
            nodes: 2,
            directories: 1,
            bytes: 10,
            first: first.to_vec(),
            last: last.to_vec(),
            packs: BTreeSet::from([(SessionNo(1), pack)]),
        };
        let mut all = Summary::default();
        all.join(&part(b"a", b"b", 0));
        all.join(&part(b"c", b"d", 1));
        assert_eq!((all.nodes, all.directories, all.bytes), (4, 2, 20));
        assert_eq!((&*all.first, &*all.last, all.packs.len()), (&b"a"[..], &b"d"[..], 2));
    }
}
