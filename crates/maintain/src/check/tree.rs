//! Fourth step: the trees of all live snapshots, page by page.
//!
//! **What always holds.** A page is where its parent says, of the level, with the number of nodes and inside the
//! keys that its parent counts on. Memory is one page per level and the two bounded caches.

use super::finding::{Affected, Object, Problem, blob_of};
use super::findings::{FindingNo, describe};
use super::memo::{Memo, Summary};
use super::packs::PackBook;
use super::roots::{Snapshots, whole};
use super::{CheckError, Checker, Phase};
use backupengine_format::page::{IndexChild, IndexPage, LeafEntry, LeafPage};
use backupengine_model::{Class, FrameKind, FrameRef, Kind, NodeKey, SnapshotInfo, TreePath};
use backupengine_vault::Root;
use std::rc::Rc;
use std::sync::Arc;

/// One snapshot's tree being walked.
pub(super) struct Walk<'a, 'c> {
    pub(super) check: &'a Checker<'c>,
    pub(super) book: &'a mut PackBook,
    pub(super) memo: &'a mut Memo,
    pub(super) info: &'a SnapshotInfo,
    /// The frame asked for last: small files stand many to a frame.
    pub(super) last_frame: Option<(FrameRef, Result<u32, FindingNo>)>,
    /// Nodes of "/", where the root holds a copy of them to compare with.
    listing: Option<Vec<LeafEntry>>,
}

/// Keys that a page may hold: from `low` on, below `high`.
#[derive(Clone, Copy)]
struct Bounds<'a> {
    low: &'a [u8],
    high: Option<&'a [u8]>,
}

impl Checker<'_> {
    pub(super) fn walk_trees(&self, snapshots: &Snapshots, mut book: PackBook) -> Result<(), CheckError> {
        let mut memo = Memo::default();
        for info in &snapshots.live {
            let root = match self.vault.root(info.session) {
                Ok(root) => root,
                Err(error) => {
                    let number = self.found_error(Object::Root(info.session), error)?;
                    self.findings().affects(number, whole(info, 0));
                    continue;
                }
            };
            let listing = (!root.record.root_listing.is_empty()).then(Vec::new);
            let mut walk =
                Walk { check: self, book: &mut book, memo: &mut memo, info, last_frame: None, listing };
            walk.snapshot(&root)?;
            self.advance(Phase::Trees, |stats| stats.snapshots += 1)?;
        }
        Ok(())
    }
}

impl Walk<'_, '_> {
    fn snapshot(&mut self, root: &Arc<Root>) -> Result<(), CheckError> {
        let record = &root.record;
        let object = Object::Snapshot(self.info.session);
        let mut summary = Summary::default();
        let mut sound = true;
        if !record.top.is_empty() {
            let top = match IndexPage::decode(&record.top) {
                Ok(top) => top,
                Err(error) => {
                    let number =
                        self.check.found(Object::Root(self.info.session), Problem::Damaged, describe(&error));
                    self.check.findings().affects(number, whole(self.info, 0));
                    return Ok(());
                }
            };
            sound = self.children(&top, Bounds { low: &[], high: None }, &mut summary)?;
        }
        let mut packs = std::mem::take(&mut summary.packs);
        self.check_xattrs(&TreePath::root(), &record.xattrs, &mut packs)?;
        let set = self.check.reference_set(root)?;
        let unnamed = set.and_then(|set| packs.into_iter().find(|(s, n)| !set.contains(*s, *n)));
        if let Some((session, number)) = unnamed {
            let detail =
                format!("its reference set does not name {}, which it needs", blob_of(session, number));
            self.check.found(object, Problem::Inconsistent, detail);
        }
        if !sound {
            // What is missing would only be counted as missing once more.
            return Ok(());
        }
        let totals = &record.totals;
        let counted = (summary.directories, summary.nodes - summary.directories, summary.bytes);
        if counted != (totals.directories, totals.files, totals.bytes) {
            let detail = "its totals are not those of its tree";
            self.check.found(object, Problem::Inconsistent, detail);
        }
        if let Some(listed) = self.listing.take() {
            let copies = record.root_listing.iter().map(|bytes| LeafPage::decode(bytes));
            let copied: Result<Vec<LeafPage>, _> = copies.collect();
            let same = copied.is_ok_and(|pages| pages.iter().flat_map(|page| &page.entries).eq(&listed));
            if !same {
                let detail = "the copy of the listing of / in its root is not that of its tree";
                self.check.found(object, Problem::Inconsistent, detail);
            }
        }
        Ok(())
    }

    /// Walks the children of an index page; whether all below is whole.
    fn children(
        &mut self,
        page: &IndexPage,
        bounds: Bounds<'_>,
        summary: &mut Summary,
    ) -> Result<bool, CheckError> {
        let mut sound = true;
        for (at, child) in page.children.iter().enumerate() {
            let low = if at == 0 { bounds.low } else { &child.separator };
            let high = page.children.get(at + 1).map(|next| next.separator.as_slice()).or(bounds.high);
            let pack = child.frame.pack;
            match self.child(child, page.level - 1, Bounds { low, high })? {
                Some(below) => summary.join(&below),
                None => sound = false,
            }
            summary.packs.insert((pack.session, pack.number));
        }
        Ok(sound)
    }

    /// Walks one child; `None` where something below is not whole.
    fn child(
        &mut self,
        child: &IndexChild,
        level: u8,
        bounds: Bounds<'_>,
    ) -> Result<Option<Rc<Summary>>, CheckError> {
        let wanted_again = self.listing.is_some() && bounds.hold_root_children();
        if let Some(known) = self.memo.get(&child.frame).filter(|_| !wanted_again) {
            let fits = known.nodes == child.entries && bounds.hold(&known.first, &known.last);
            return if fits { Ok(Some(known)) } else { self.misfit(child, bounds).map(|()| None) };
        }
        let kind = if level == 0 { FrameKind::Leaf } else { FrameKind::Index };
        let bytes = match self.check.locate(self.book, self.info.session, kind, &child.frame, None)? {
            Err(finding) => return self.lose(finding, child, bounds).map(|()| None),
            Ok(plain_len) => {
                match self.check.vault.frame(kind, &child.frame, usize::try_from(plain_len).ok()) {
                    Ok(bytes) => bytes,
                    Err(error) => {
                        let finding = self.check.found_error(object_of(&child.frame), error)?;
                        return self.lose(finding, child, bounds).map(|()| None);
                    }
                }
            }
        };
        let mut summary = Summary::default();
        let decoded = if level == 0 {
            LeafPage::decode(&bytes).map(|leaf| self.leaf(&leaf, &mut summary))
        } else {
            IndexPage::decode(&bytes).map(|index| {
                if index.level != level {
                    return Ok(Page::Misfit);
                }
                Ok(if self.children(&index, bounds, &mut summary)? { Page::Whole } else { Page::Harmed })
            })
        };
        drop(bytes);
        let page = match decoded {
            Ok(page) => page?,
            Err(error) => {
                let finding = self.check.found(object_of(&child.frame), Problem::Damaged, describe(&error));
                return self.lose(finding, child, bounds).map(|()| None);
            }
        };
        self.check.advance(Phase::Trees, |stats| {
            stats.pages += 1;
            stats.nodes += if level == 0 { summary.nodes } else { 0 };
        })?;
        match page {
            Page::Harmed => Ok(None),
            Page::Whole if summary.nodes == child.entries && bounds.hold(&summary.first, &summary.last) => {
                let summary = Rc::new(summary);
                self.memo.keep(child.frame, Rc::clone(&summary));
                Ok(Some(summary))
            }
            _ => self.misfit(child, bounds).map(|()| None),
        }
    }

    fn leaf(&mut self, leaf: &LeafPage, summary: &mut Summary) -> Result<Page, CheckError> {
        let mut page = Page::Whole;
        for entry in &leaf.entries {
            if !self.check_entry(entry, &mut summary.packs)? {
                page = Page::Harmed;
            }
            summary.nodes += 1;
            summary.directories += u64::from(entry.class() == Class::Directory);
            if entry.attributes.kind == Kind::File {
                summary.bytes = summary.bytes.saturating_add(entry.attributes.size);
            }
            if let Some(listing) = self.listing.as_mut().filter(|_| entry.parent.is_root()) {
                listing.push(entry.clone());
            }
        }
        let key = |entry: Option<&LeafEntry>| entry.map(|e| e.key().as_bytes().to_vec()).unwrap_or_default();
        (summary.first, summary.last) = (key(leaf.entries.first()), key(leaf.entries.last()));
        Ok(page)
    }

    /// A page that is whole in itself and not what its parent counts on.
    fn misfit(&mut self, child: &IndexChild, bounds: Bounds<'_>) -> Result<(), CheckError> {
        let detail =
            format!("the page at byte {} of {} is not the one its parent counts on", child.frame.offset, {
                super::finding::blob_of(child.frame.pack.session, child.frame.pack.number)
            });
        let finding = self.check.found(Object::Snapshot(self.info.session), Problem::Inconsistent, detail);
        self.lose(finding, child, bounds)
    }

    /// Notes that the nodes of a page cannot be read.
    fn lose(&mut self, finding: FindingNo, child: &IndexChild, bounds: Bounds<'_>) -> Result<(), CheckError> {
        let affected = Affected {
            session: self.info.session,
            snapshot: self.info.id,
            path: shown(bounds.low),
            // A border between the classes is no path: the run ends with the directories.
            to: Some(bounds.high.filter(|high| high.len() > 1).map_or_else(Vec::new, shown)),
            nodes: child.entries,
            below: bounds.low.first().is_none_or(|class| *class == Class::Directory as u8),
        };
        self.check.findings().affects(finding, affected);
        self.check.advance(Phase::Trees, |_| {})
    }
}

/// What became of a page that was decoded.
enum Page {
    Whole,
    /// Something in it or below it is lost; that is noted.
    Harmed,
    /// It is of another level.
    Misfit,
}

impl Bounds<'_> {
    fn hold(&self, first: &[u8], last: &[u8]) -> bool {
        self.low <= first && self.high.is_none_or(|high| last < high)
    }

    /// Whether children of "/" may stand between these keys.
    fn hold_root_children(&self) -> bool {
        let root = TreePath::root();
        [Class::Directory, Class::Other].into_iter().any(|class| {
            self.low < NodeKey::after_children(class, &root).as_bytes()
                && self.high.is_none_or(|high| high > NodeKey::first_child(class, &root).as_bytes())
        })
    }
}

pub(super) fn object_of(at: &FrameRef) -> Object {
    Object::Frame { session: at.pack.session, number: at.pack.number, offset: at.offset }
}

/// A separator as a path: it may be cut anywhere, so this is what a name begins with.
fn shown(separator: &[u8]) -> Vec<u8> {
    let mut out = vec![b'/'];
    for byte in separator.get(1..).unwrap_or_default() {
        match byte {
            0 if out.ends_with(b"/") => {}
            0 => out.push(b'/'),
            other => out.push(*other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_their_keys_and_show_as_paths() {
        let home = TreePath::from_slashes(b"home").unwrap();
        let key =
            |class, parent: &TreePath, name: &[u8]| NodeKey::new(class, parent, name).as_bytes().to_vec();
        let (a, b) = (key(Class::Other, &home, b"a"), key(Class::Other, &home, b"b"));
        assert!(Bounds { low: &a, high: Some(&b) }.hold(&a, &a));
        assert!(!Bounds { low: &a, high: Some(&b) }.hold(&a, &b));
        assert!(!Bounds { low: &b, high: None }.hold(&a, &b));
        assert!(!Bounds { low: &a, high: Some(&b) }.hold_root_children());
        let last = key(Class::Other, &TreePath::root(), b"z");
        assert!(Bounds { low: &last, high: None }.hold_root_children());
        assert!(Bounds { low: &[], high: Some(&b) }.hold_root_children());
        assert_eq!(shown(&a), b"/home/a");
        assert_eq!(shown(&last), b"/z");
        assert_eq!(shown(&[]), b"/");
    }
}
