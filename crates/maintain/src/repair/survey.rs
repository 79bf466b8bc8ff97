//! What kept snapshots need of packs that are damaged, as far as their trees can be walked.
//!
//! **What it is.** A walk that goes on where something does not read: pages come from wherever they are had.
//! **What it may not do.** Conclude from what it did not see that it is not needed. **What always holds.** Memory grows
//! with the frames of damaged packs, not with the others. **Where it is tested.** `tests/damage`.

use super::{Heal, RepairError};
use crate::collect::survey::{PackId, id_of};
use backupengine_format::page::{
    Content, Extent, ExtentPage, ExtentPageRef, ExtentRows, IndexPage, LeafEntry, LeafPage, Xattr, XattrValue,
};
use backupengine_model::ledger::SnapshotRecord;
use backupengine_model::{FrameKind, FrameRef, PackRef, TreePath};
use backupengine_vault::{FrameUse, Root};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Files that are remembered for one part of a frame: if none of these is as it was, others hardly are.
const USES_MAX: usize = 4;

/// A frame that is needed.
#[derive(Debug)]
pub(super) struct Need {
    pub(super) kind: FrameKind,
    pub(super) at: FrameRef,
    /// Length of its plaintext, where a reference says it.
    pub(super) plain_len: Option<u32>,
    pub(super) uses: Vec<FrameUse>,
}

/// Frames by offset.
pub(super) type Needs = BTreeMap<u32, Need>;

/// What is needed of each damaged pack.
#[derive(Default)]
pub(super) struct Survey {
    pub(super) packs: BTreeMap<PackId, Needs>,
    walked: HashSet<(PackRef, u32)>,
    damaged: BTreeSet<PackId>,
}

/// A tree being walked.
struct Walk<'a, 'h> {
    heal: &'a Heal<'h>,
    survey: &'a mut Survey,
}

impl Survey {
    /// Walks the trees of these snapshots, newest first.
    pub(super) fn of(
        heal: &Heal<'_>,
        damaged: &BTreeSet<PackId>,
        snapshots: &[SnapshotRecord],
    ) -> Result<Self, RepairError> {
        let mut survey = Self { damaged: damaged.clone(), ..Self::default() };
        let mut newest: Vec<&SnapshotRecord> = snapshots.iter().collect();
        newest.sort_by_key(|record| std::cmp::Reverse(record.session));
        for record in newest {
            heal.go_on()?;
            if let Some(root) = heal.readable(heal.vault.root_of(record))? {
                Walk { heal, survey: &mut survey }.root(&root)?;
            }
        }
        Ok(survey)
    }
}

impl Walk<'_, '_> {
    fn root(&mut self, root: &Root) -> Result<(), RepairError> {
        if let Ok(top) = IndexPage::decode(&root.record.top) {
            self.index(&top)?;
        }
        self.xattrs(&TreePath::root(), &root.record.xattrs);
        Ok(())
    }

    fn is_damaged(&self, at: &FrameRef) -> bool {
        self.survey.damaged.contains(&id_of(&at.pack))
    }

    fn note(&mut self, kind: FrameKind, at: &FrameRef, plain_len: Option<u64>, used: Option<FrameUse>) {
        if !self.is_damaged(at) {
            return;
        }
        let needs = self.survey.packs.entry(id_of(&at.pack)).or_default();
        let plain_len = plain_len.and_then(|len| u32::try_from(len).ok());
        let need =
            needs.entry(at.offset).or_insert_with(|| Need { kind, at: *at, plain_len, uses: Vec::new() });
        let Some(used) = used.filter(|_| need.at == *at && need.kind == kind) else { return };
        need.plain_len = need.plain_len.or(plain_len);
        let known = need.uses.iter().filter(|other| part(other) == part(&used)).count();
        if known < USES_MAX && !need.uses.contains(&used) {
            need.uses.push(used);
        }
    }

    /// A page that was not walked yet, if it is to be had.
    fn page(&mut self, kind: FrameKind, at: &FrameRef) -> Result<Option<bytes::Bytes>, RepairError> {
        self.heal.go_on()?;
        self.note(kind, at, None, None);
        // Whatever pages say, no walk goes in a circle.
        if !self.survey.walked.insert((at.pack, at.offset)) {
            return Ok(None);
        }
        self.heal.page(kind, at)
    }

    fn index(&mut self, page: &IndexPage) -> Result<(), RepairError> {
        let kind = if page.level == 1 { FrameKind::Leaf } else { FrameKind::Index };
        for child in &page.children {
            let Some(bytes) = self.page(kind, &child.frame)? else { continue };
            if kind == FrameKind::Index {
                if let Ok(below) = IndexPage::decode(&bytes)
                    && below.level < page.level
                {
                    self.index(&below)?;
                }
            } else if let Ok(leaf) = LeafPage::decode(&bytes) {
                for entry in &leaf.entries {
                    self.entry(entry)?;
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: &LeafEntry) -> Result<(), RepairError> {
        let path = || entry.parent.child(&entry.name);
        match &entry.content {
            Content::None | Content::Inline(_) => {}
            Content::Bundle { frame, inner } => {
                if let Ok(len) = u32::try_from(entry.attributes.size)
                    && self.is_damaged(frame)
                {
                    let used = FrameUse::Piece { inner: *inner, len, path: path() };
                    self.note(FrameKind::Data, frame, None, Some(used));
                }
            }
            Content::Extents(rows) => {
                self.extents(rows, &path(), 0);
            }
            Content::Pages(rows) => self.extent_pages(rows, &path(), 0, u8::MAX)?,
        }
        if !entry.xattrs.is_empty() {
            self.xattrs(&path(), &entry.xattrs);
        }
        Ok(())
    }

    fn extents(&mut self, rows: &[Extent], path: &TreePath, mut start: u64) {
        for row in rows {
            if let Some(frame) = row.frame.filter(|frame| self.is_damaged(frame)) {
                let used = FrameUse::Run { path: path.clone(), start };
                self.note(FrameKind::Data, &frame, Some(row.len), Some(used));
            }
            start = start.saturating_add(row.len);
        }
    }

    fn extent_pages(
        &mut self,
        rows: &[ExtentPageRef],
        path: &TreePath,
        mut start: u64,
        above: u8,
    ) -> Result<(), RepairError> {
        for row in rows {
            let page = self.page(FrameKind::Extents, &row.frame)?;
            let page = page.and_then(|bytes| ExtentPage::decode(&bytes).ok());
            match page.filter(|page| page.level < above) {
                Some(ExtentPage { rows: ExtentRows::Extents(rows), .. }) => {
                    self.extents(&rows, path, start);
                }
                Some(ExtentPage { rows: ExtentRows::Pages(rows), level }) => {
                    self.extent_pages(&rows, path, start, level)?;
                }
                None => {}
            }
            start = start.saturating_add(row.len);
        }
        Ok(())
    }

    fn xattrs(&mut self, path: &TreePath, xattrs: &[Xattr]) {
        for xattr in xattrs {
            if let XattrValue::Stored { frame, inner, len } = &xattr.value {
                let name = xattr.name.clone();
                let used = FrameUse::Value { inner: *inner, len: *len, path: path.clone(), name };
                self.note(FrameKind::Data, frame, None, Some(used));
            }
        }
    }
}

/// Which part of a frame; `None` for all of it.
fn part(used: &FrameUse) -> Option<(u32, u32)> {
    match used {
        FrameUse::Run { .. } => None,
        FrameUse::Piece { inner, len, .. } | FrameUse::Value { inner, len, .. } => Some((*inner, *len)),
    }
}
