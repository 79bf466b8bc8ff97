//! Where a node's bytes lie: lengths add up, and every reference leads to a frame of the right length and kind.

use super::finding::{Affected, Object, Problem};
use super::findings::{FindingNo, describe};
use super::tree::{Walk, object_of};
use super::{CheckError, Phase};
use backupengine_format::page::{
    Content, Extent, ExtentPage, ExtentPageRef, ExtentRows, LeafEntry, Xattr, XattrValue,
};
use backupengine_model::{FrameKind, FrameRef, Kind, SessionNo, TreePath};
use std::collections::BTreeSet;

/// Packs of a subtree.
type Packs = BTreeSet<(SessionNo, u32)>;

impl Walk<'_, '_> {
    /// Whether a node is whole; what is not is noted with its path.
    pub(super) fn check_entry(&mut self, entry: &LeafEntry, packs: &mut Packs) -> Result<bool, CheckError> {
        let size = entry.attributes.size;
        let content = match &entry.content {
            Content::None => Ok(if entry.attributes.kind == Kind::File { 0 } else { size }),
            Content::Inline(bytes) => Ok(bytes.len() as u64),
            Content::Bundle { frame, inner } => {
                packs.insert((frame.pack.session, frame.pack.number));
                self.piece(frame, *inner, size)?.map(|()| size)
            }
            Content::Extents(rows) => self.extents(rows, packs)?,
            Content::Pages(rows) => self.pages(rows, None, packs)?,
        };
        let harm = match content {
            Ok(held) if held == size => None,
            Ok(held) => {
                let detail = format!("a file of {size} bytes has content for {held}");
                Some(self.check.found(Object::Snapshot(self.info.session), Problem::Inconsistent, detail))
            }
            Err(finding) => Some(finding),
        };
        if let Some(finding) = harm {
            self.lose_node(finding, &entry.parent.child(&entry.name));
        }
        let xattrs = entry.xattrs.is_empty()
            || self.check_xattrs(&entry.parent.child(&entry.name), &entry.xattrs, packs)?;
        Ok(harm.is_none() && xattrs)
    }

    /// Whether all values of a node's extended attributes are there.
    pub(super) fn check_xattrs(
        &mut self,
        path: &TreePath,
        xattrs: &[Xattr],
        packs: &mut Packs,
    ) -> Result<bool, CheckError> {
        let mut sound = true;
        for xattr in xattrs {
            let XattrValue::Stored { frame, inner, len } = &xattr.value else { continue };
            packs.insert((frame.pack.session, frame.pack.number));
            if let Err(finding) = self.piece(frame, *inner, u64::from(*len))? {
                self.lose_node(finding, path);
                sound = false;
            }
        }
        Ok(sound)
    }

    /// A part of a bundle frame.
    fn piece(&mut self, frame: &FrameRef, inner: u32, len: u64) -> Result<Result<(), FindingNo>, CheckError> {
        let plain_len = match self.data_frame(frame, None)? {
            Ok(plain_len) => u64::from(plain_len),
            Err(finding) => return Ok(Err(finding)),
        };
        if u64::from(inner).checked_add(len).is_some_and(|end| end <= plain_len) {
            return Ok(Ok(()));
        }
        let detail = format!("a piece reaches beyond the end of its frame ({})", object_of(frame));
        Ok(Err(self.check.found(Object::Snapshot(self.info.session), Problem::Inconsistent, detail)))
    }

    fn data_frame(
        &mut self,
        frame: &FrameRef,
        plain_len: Option<u64>,
    ) -> Result<Result<u32, FindingNo>, CheckError> {
        if let Some((_, known)) = self.last_frame.filter(|(at, _)| at == frame && plain_len.is_none()) {
            return Ok(known);
        }
        let found = self.check.locate(self.book, self.info.session, FrameKind::Data, frame, plain_len)?;
        self.last_frame = Some((*frame, found));
        Ok(found)
    }

    /// Plain bytes of these runs, or the first finding that concerns one of them; all are looked at.
    fn extents(&mut self, rows: &[Extent], packs: &mut Packs) -> Result<Result<u64, FindingNo>, CheckError> {
        let mut result = Ok(0_u64);
        for row in rows {
            if let Some(frame) = &row.frame {
                packs.insert((frame.pack.session, frame.pack.number));
                if let Err(finding) = self.data_frame(frame, Some(row.len))? {
                    result = result.and(Err(finding));
                }
            }
            result = result.map(|sum| sum.saturating_add(row.len));
        }
        Ok(result)
    }

    /// The same for pages of runs. `level` is that of the pages behind `rows`, where a page above said so.
    fn pages(
        &mut self,
        rows: &[ExtentPageRef],
        level: Option<u8>,
        packs: &mut Packs,
    ) -> Result<Result<u64, FindingNo>, CheckError> {
        let mut result = Ok(0_u64);
        for row in rows {
            packs.insert((row.frame.pack.session, row.frame.pack.number));
            let below = match self.extent_page(&row.frame, level)? {
                Ok(page) => match &page.rows {
                    ExtentRows::Extents(rows) => self.extents(rows, packs)?,
                    ExtentRows::Pages(rows) => self.pages(rows, Some(page.level - 1), packs)?,
                },
                Err(finding) => Err(finding),
            };
            let below = match below {
                Ok(sum) if sum != row.len => {
                    let detail = format!("{} does not cover the bytes it should", object_of(&row.frame));
                    let object = Object::Snapshot(self.info.session);
                    Err(self.check.found(object, Problem::Inconsistent, detail))
                }
                other => other,
            };
            result = match (result, below) {
                (Ok(sum), Ok(more)) => Ok(sum.saturating_add(more)),
                (Err(first), _) | (_, Err(first)) => Err(first),
            };
        }
        Ok(result)
    }

    /// Loads a page of runs. Levels fall by one each time, so that pages cannot lead in a circle.
    fn extent_page(
        &mut self,
        at: &FrameRef,
        level: Option<u8>,
    ) -> Result<Result<ExtentPage, FindingNo>, CheckError> {
        let plain_len = match self.check.locate(self.book, self.info.session, FrameKind::Extents, at, None)? {
            Ok(plain_len) => usize::try_from(plain_len).ok(),
            Err(finding) => return Ok(Err(finding)),
        };
        let bytes = match self.check.vault.frame(FrameKind::Extents, at, plain_len) {
            Ok(bytes) => bytes,
            Err(error) => return Ok(Err(self.check.found_error(object_of(at), error)?)),
        };
        self.check.advance(Phase::Trees, |stats| stats.pages += 1)?;
        match ExtentPage::decode(&bytes) {
            Ok(page) if level.is_none_or(|level| level == page.level) => Ok(Ok(page)),
            Ok(_) => {
                let detail = format!("{} is of another level than its parent says", object_of(at));
                let object = Object::Snapshot(self.info.session);
                Ok(Err(self.check.found(object, Problem::Inconsistent, detail)))
            }
            Err(error) => Ok(Err(self.check.found(object_of(at), Problem::Damaged, describe(&error)))),
        }
    }

    fn lose_node(&mut self, finding: FindingNo, path: &TreePath) {
        let affected = Affected {
            session: self.info.session,
            snapshot: self.info.id,
            path: path.to_slashes(),
            to: None,
            nodes: 1,
            below: false,
        };
        self.check.findings().affects(finding, affected);
    }
}
