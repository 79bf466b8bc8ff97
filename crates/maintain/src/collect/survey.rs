//! What snapshots need: the packs by their reference sets, the frames by their pages.
//!
//! **What it may not do.** Guess: where a root, a set or a page does not read nobody knows what it needs, and nothing of
//! it may go. **What always holds.** Frames stand in the order in which the newest snapshots' trees name them: what is
//! read together is laid together. **Where it is tested.** In `tests/protocol`.

use super::PruneError;
use backupengine_format::page::{
    Content, ExtentPage, ExtentPageRef, ExtentRows, IndexPage, LeafPage, Xattr, XattrValue,
};
use backupengine_format::reference::ReferenceSet;
use backupengine_model::ledger::SnapshotRecord;
use backupengine_model::{FrameKind, FrameRef, PackRef, SessionNo};
use backupengine_vault::{Root, Vault, VaultError};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Name of a pack.
pub(crate) type PackId = (SessionNo, u32);

pub(crate) fn id_of(pack: &PackRef) -> PackId {
    (pack.session, pack.number)
}

/// A frame that is needed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needed {
    pub(crate) kind: FrameKind,
    pub(crate) at: FrameRef,
    /// Place in the order of reading.
    pub(crate) rank: u64,
}

/// What a set of snapshots needs.
#[derive(Default)]
pub(super) struct Survey {
    roots: HashMap<SessionNo, Arc<Root>>,
    /// Every pack that a reference set names.
    pub(super) packs: ReferenceSet,
    /// Pages that were walked.
    walked: HashSet<(PackId, u32)>,
    /// Frames that pages name, by pack and offset.
    pub(super) frames: HashMap<PackId, HashMap<u32, Needed>>,
    ranks: u64,
}

impl Survey {
    /// Takes these snapshots in; those that were taken in before cost nothing. What is not among them any more is
    /// forgotten as far as packs go, and stays as far as frames go: copying a frame too many harms nobody.
    pub(super) fn packs_of(&mut self, vault: &Vault, snapshots: &[SnapshotRecord]) -> Result<(), PruneError> {
        let mut packs = ReferenceSet::default();
        for record in snapshots {
            let unreadable = |error| PruneError::Unreadable { session: record.session, source: error };
            let root = match self.roots.get(&record.session) {
                Some(root) => Arc::clone(root),
                None => Arc::new(vault.root_of(record).map_err(unreadable)?),
            };
            self.roots.insert(record.session, Arc::clone(&root));
            let bytes =
                vault.frame(FrameKind::ReferenceSet, &root.record.reference_set, None).map_err(unreadable)?;
            let set = ReferenceSet::decode(&bytes).map_err(|error| unreadable(error.into()))?;
            for (session, numbers) in &set.packs {
                packs.packs.entry(*session).or_default().extend(numbers.iter());
            }
        }
        self.packs = packs;
        Ok(())
    }

    /// Walks the trees of these snapshots, newest first.
    pub(super) fn frames_of(
        &mut self,
        vault: &Vault,
        snapshots: &[SnapshotRecord],
    ) -> Result<(), PruneError> {
        let mut newest: Vec<&SnapshotRecord> = snapshots.iter().collect();
        newest.sort_by_key(|record| std::cmp::Reverse(record.session));
        for record in newest {
            let Some(root) = self.roots.get(&record.session).map(Arc::clone) else { continue };
            let unreadable = |error| PruneError::Unreadable { session: record.session, source: error };
            self.root(vault, &root).map_err(unreadable)?;
        }
        Ok(())
    }

    fn root(&mut self, vault: &Vault, root: &Root) -> Result<(), VaultError> {
        if !root.record.top.is_empty() {
            self.index(vault, &IndexPage::decode(&root.record.top)?)?;
        }
        self.xattrs(&root.record.xattrs);
        Ok(())
    }

    /// Notes a frame.
    fn note(&mut self, kind: FrameKind, at: &FrameRef) {
        let rank = self.ranks;
        self.ranks += 1;
        let frames = self.frames.entry(id_of(&at.pack)).or_default();
        frames.entry(at.offset).or_insert(Needed { kind, at: *at, rank });
    }

    /// Whether a page was not walked yet: whatever pages say, no walk goes in a circle.
    fn is_new(&mut self, at: &FrameRef) -> bool {
        self.walked.insert((id_of(&at.pack), at.offset))
    }

    fn index(&mut self, vault: &Vault, page: &IndexPage) -> Result<(), VaultError> {
        let kind = if page.level == 1 { FrameKind::Leaf } else { FrameKind::Index };
        for child in &page.children {
            self.note(kind, &child.frame);
            if !self.is_new(&child.frame) {
                continue;
            }
            let bytes = vault.frame(kind, &child.frame, None)?;
            if kind == FrameKind::Leaf {
                self.leaf(vault, &LeafPage::decode(&bytes)?)?;
            } else {
                self.index(vault, &IndexPage::decode(&bytes)?)?;
            }
        }
        Ok(())
    }

    fn leaf(&mut self, vault: &Vault, page: &LeafPage) -> Result<(), VaultError> {
        for entry in &page.entries {
            match &entry.content {
                Content::None | Content::Inline(_) => {}
                Content::Bundle { frame, .. } => self.note(FrameKind::Data, frame),
                Content::Extents(rows) => {
                    let frames: Vec<FrameRef> = rows.iter().filter_map(|row| row.frame).collect();
                    frames.iter().for_each(|frame| self.note(FrameKind::Data, frame));
                }
                Content::Pages(rows) => self.extent_pages(vault, rows)?,
            }
            self.xattrs(&entry.xattrs);
        }
        Ok(())
    }

    fn extent_pages(&mut self, vault: &Vault, rows: &[ExtentPageRef]) -> Result<(), VaultError> {
        for row in rows {
            self.note(FrameKind::Extents, &row.frame);
            if !self.is_new(&row.frame) {
                continue;
            }
            match ExtentPage::decode(&vault.frame(FrameKind::Extents, &row.frame, None)?)?.rows {
                ExtentRows::Extents(rows) => {
                    for frame in rows.iter().filter_map(|row| row.frame) {
                        self.note(FrameKind::Data, &frame);
                    }
                }
                ExtentRows::Pages(rows) => self.extent_pages(vault, &rows)?,
            }
        }
        Ok(())
    }

    fn xattrs(&mut self, xattrs: &[Xattr]) {
        for xattr in xattrs {
            if let XattrValue::Stored { frame, .. } = &xattr.value {
                self.note(FrameKind::Data, frame);
            }
        }
    }
}
