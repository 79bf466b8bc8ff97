//! A node whose frames may not all have a place yet.
//!
//! May not place or look up anything. What always holds: a node is complete once every slot it holds is set,
//! which happens in the order bundles are closed. Tested in the tests of whole pushes.
use crate::assemble::{Assembler, no_xattrs};
use crate::error::PushError;
use crate::flow::{Draft, LinkDraft, Linked, XattrDraft};
use crate::packer::FrameSlot;
use crate::side_file::SideRecord;
use backupengine_format::page::{Content, HardLink, LeafEntry, Xattr, XattrValue};
use backupengine_model::{NodeFlags, NodeKey};
use backupengine_seal::ContentIdKey;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes that have a place, or will have one in a bundle.
pub(crate) enum Piece {
    /// They have.
    Ready(Content),
    /// The bundle's slot, and where they begin in it.
    Waiting(FrameSlot, u32),
}

impl Piece {
    fn is_placed(&self) -> bool {
        match self {
            Self::Ready(_) => true,
            Self::Waiting(slot, _) => slot.get().is_some(),
        }
    }

    fn content(self) -> Option<Content> {
        match self {
            Self::Ready(content) => Some(content),
            Self::Waiting(slot, inner) => slot.get().map(|frame| Content::Bundle { frame: *frame, inner }),
        }
    }
}

/// An extended attribute on its way.
pub(crate) struct WaitingXattr {
    pub(crate) name: Vec<u8>,
    pub(crate) value: Vec<u8>,
    /// Where a large value is; a small one stays in the page.
    pub(crate) at: Option<Piece>,
}

impl WaitingXattr {
    fn finish(self) -> Option<Xattr> {
        let value = match self.at {
            None => XattrValue::Inline(self.value),
            Some(piece) => match piece.content()? {
                Content::Bundle { frame, inner } => {
                    XattrValue::Stored { frame, inner, len: self.value.len() as u32 }
                }
                _ => return None,
            },
        };
        Some(Xattr { name: self.name, value })
    }
}

/// Turns attributes into what a page holds; `None` while one has no place.
pub(crate) fn finish_xattrs(waiting: Vec<WaitingXattr>) -> Option<Arc<[Xattr]>> {
    waiting.into_iter().map(WaitingXattr::finish).collect()
}

enum Xattrs {
    Ready(Arc<[Xattr]>),
    Waiting(Vec<WaitingXattr>),
}

/// See the module header.
pub(crate) struct Waiting {
    draft: Draft,
    content: Option<Piece>,
    xattrs: Xattrs,
}

impl Waiting {
    pub(crate) fn new(
        mut draft: Draft,
        content: Option<Piece>,
        assembler: &mut Assembler<'_>,
    ) -> Result<Self, PushError> {
        let xattrs = match std::mem::replace(&mut draft.xattrs, XattrDraft::Ready(no_xattrs())) {
            XattrDraft::Ready(xattrs) => Xattrs::Ready(xattrs),
            XattrDraft::Raw(raw) if raw.is_empty() => Xattrs::Ready(no_xattrs()),
            XattrDraft::Raw(raw) => Xattrs::Waiting(assembler.xattrs(&raw)?),
        };
        Ok(Self { draft, content, xattrs })
    }

    /// Whether nothing is missing but an earlier name, which stands before this one in the same queue.
    pub(crate) fn is_complete(&self) -> bool {
        let content = self.content.as_ref().is_none_or(Piece::is_placed);
        let xattrs = match &self.xattrs {
            Xattrs::Ready(_) => true,
            Xattrs::Waiting(list) => list.iter().filter_map(|x| x.at.as_ref()).all(Piece::is_placed),
        };
        content && xattrs
    }

    /// Where it is on this system, when the earlier name it stands for was left out.
    pub(crate) fn orphan(&self) -> Option<PathBuf> {
        match &self.draft.link {
            LinkDraft::Also(cell, _) if cell.get().is_none() => Some(self.draft.real_path()),
            _ => None,
        }
    }

    /// The node for its page, the keyed hash of its key, and the record for the side file. `None` unless it is
    /// complete and no orphan.
    pub(crate) fn finish(self, ids: &ContentIdKey) -> Option<(LeafEntry, u64, SideRecord)> {
        let Draft { parent, name, mut attributes, identity, link, key_hash, look, .. } = self.draft;
        let mut content = self.content.and_then(Piece::content);
        let hard_link = match link {
            LinkDraft::None => HardLink::None,
            LinkDraft::First(cell) => {
                let linked = Linked { content: content.clone()?, attributes: attributes.clone() };
                // Set once only: each group has one first name.
                drop(cell.set(linked));
                HardLink::First
            }
            LinkDraft::Also(cell, first) => {
                let linked = cell.get()?.clone();
                attributes = linked.attributes;
                content = Some(linked.content);
                HardLink::Also(first)
            }
        };
        let xattrs = match self.xattrs {
            Xattrs::Ready(xattrs) => xattrs,
            Xattrs::Waiting(list) => finish_xattrs(list)?,
        };
        let torn = attributes.flags.contains(NodeFlags::TORN);
        let entry = LeafEntry { parent, name, attributes, content: content?, xattrs, hard_link };
        let hash = key_hash.unwrap_or_else(|| {
            ids.hash64(NodeKey::new(entry.class(), &entry.parent, &entry.name).as_bytes())
        });
        let record = match torn {
            true => SideRecord::distrusted(hash),
            false => SideRecord { key_hash: hash, ctime: identity.ctime, inode: identity.inode, look },
        };
        Some((entry, hash, record))
    }
}
