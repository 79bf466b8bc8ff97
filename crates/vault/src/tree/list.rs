//! Listings: two runs of ranks, directories and others, read leaf by leaf.
//!
//! **What it may not do.** Descend once per name. **What always holds.** A listing can begin at any slot and
//! gives the same slots each time. **Where it is tested.** In the reader's tests.

use super::Tree;
use crate::VaultError;
use crate::cache::Pages;
use backupengine_model::{Class, DirPage, DirSlot, TreePath};
use std::ops::Range;

/// Slots made in one go at most, whatever the caller asks for.
const SLOTS_MAX: usize = 65_536;

/// Where the children of a directory stand.
pub(crate) struct Runs {
    pub(crate) path: TreePath,
    /// Ranks of its directories.
    directories: Range<u64>,
    /// Rank of the first of the others.
    others: u64,
    /// Rank after the last of the others, where that is known without a fetch.
    others_end: Option<u64>,
}

impl Runs {
    /// Bytes it takes, about.
    pub(crate) fn weight(&self) -> u64 {
        self.path.as_joined().len() as u64 + 160
    }
}

impl Tree {
    /// The runs of the directory at `path`.
    pub(crate) fn runs(&self, pages: &Pages, path: TreePath) -> Result<Runs, VaultError> {
        if let Some(listing) = self.listing.as_ref().filter(|_| path.is_root()) {
            let others = listing.others();
            return Ok(Runs {
                path,
                directories: 0..listing.directories(),
                others: others.start,
                others_end: Some(others.end),
            });
        }
        let first = self.first_child(pages, Class::Directory, &path)?;
        let after = self.after_children(pages, Class::Directory, &path)?;
        let others = self.first_child(pages, Class::Other, &path)?;
        Ok(Runs { path, directories: first..after.max(first), others, others_end: None })
    }

    /// Slots of a directory from `from` on, at most `max`.
    pub(crate) fn list(
        &self,
        pages: &Pages,
        runs: &Runs,
        from: u64,
        max: usize,
    ) -> Result<DirPage, VaultError> {
        let max = max.clamp(1, SLOTS_MAX);
        let directories = runs.directories.end - runs.directories.start;
        let mut page = DirPage { slots: Vec::with_capacity(max.min(256)), end: false };
        if from < directories {
            let rank = runs.directories.start + from;
            self.run(pages, runs, Class::Directory, rank, Some(runs.directories.end), max, &mut page)?;
        }
        if page.slots.len() < max {
            let rank = runs.others.saturating_add(from.saturating_sub(directories));
            page.end = self.run(pages, runs, Class::Other, rank, runs.others_end, max, &mut page)?;
        }
        Ok(page)
    }

    /// Appends slots of one run; whether the run ends there.
    #[allow(clippy::too_many_arguments)]
    fn run(
        &self,
        pages: &Pages,
        runs: &Runs,
        class: Class,
        mut rank: u64,
        end: Option<u64>,
        max: usize,
        page: &mut DirPage,
    ) -> Result<bool, VaultError> {
        loop {
            if end.is_some_and(|end| rank >= end) {
                return Ok(true);
            }
            if page.slots.len() == max {
                return Ok(false);
            }
            let Some(spot) = self.by_rank(pages, rank)? else { return Ok(true) };
            let mut same_parent = None;
            for entry in &spot.leaf.entries[spot.at..] {
                // Neighbours share the parent's allocation: its bytes are compared once per run and leaf.
                let parent = std::sync::Arc::as_ptr(&entry.parent);
                if same_parent != Some(parent) {
                    if entry.class() != class || *entry.parent != runs.path {
                        return Ok(true);
                    }
                    same_parent = Some(parent);
                }
                if page.slots.len() == max {
                    return Ok(false);
                }
                let node = self.node(pages, entry, rank)?;
                page.slots.push(DirSlot { name: entry.name.clone(), node });
                rank += 1;
            }
        }
    }
}
