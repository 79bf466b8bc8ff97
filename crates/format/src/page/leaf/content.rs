//! Sections 8 and 9: where the bytes of files and links are.
//!
//! Bytes of section 8 (only in pages of the other class): one code per entry, then what the codes need, in the
//! order of entries. Section 9 holds inline bytes one after another.

use super::super::packs::{PackReader, PackWriter};
use super::super::runs::{Chain, put_page, read_page};
use super::super::section::Sections;
use super::super::{Content, Extent};
use super::tag;
use crate::FormatError;
use crate::limits::{DATA_FRAME_MAX, EXTENTS_MAX, INLINE_MAX, LINK_TARGET_MAX};
use crate::varint::{Cursor, put};
use backupengine_model::{Attributes, Class, FrameRef, Kind};
use bytes::Bytes;

/// No bytes.
const NONE: u8 = 0;
/// In the same frame as the bundled file before, right behind it.
const BEHIND: u8 = 1;
/// In the same frame as the bundled file before; offset in its plaintext.
const SAME_FRAME: u8 = 2;
/// In a frame; reference, offset in its plaintext.
const NEW_FRAME: u8 = 3;
/// Inline, as many bytes as the size says.
const INLINE: u8 = 4;
/// Runs; their number, and each.
const EXTENTS: u8 = 5;
/// Pages of runs; their number, and each: plain length, reference.
const PAGES: u8 = 6;
/// Inline bytes of a link whose size is not the length of its target; length.
const ODD_LINK: u8 = 7;

/// Frame and end of the bundled file before.
type Bundle = Option<(FrameRef, u64)>;

#[derive(Default)]
pub(super) struct ContentWriter {
    codes: Vec<u8>,
    more: Vec<u8>,
    blobs: Vec<u8>,
    bundle: Bundle,
    chain: Chain,
}

impl ContentWriter {
    pub(super) fn put(&mut self, attributes: &Attributes, content: &Content, packs: &mut PackWriter) {
        let code = match content {
            Content::None => NONE,
            Content::Inline(bytes) => {
                self.blobs.extend_from_slice(bytes);
                if attributes.kind == Kind::Symlink && bytes.len() as u64 != attributes.size {
                    put(&mut self.more, bytes.len() as u64);
                    ODD_LINK
                } else {
                    INLINE
                }
            }
            Content::Bundle { frame, inner } => {
                let code = match self.bundle {
                    Some((last, end)) if last == *frame && end == u64::from(*inner) => BEHIND,
                    Some((last, _)) if last == *frame => SAME_FRAME,
                    _ => NEW_FRAME,
                };
                if code == NEW_FRAME {
                    packs.put(&mut self.more, frame);
                }
                if code != BEHIND {
                    put(&mut self.more, (*inner).into());
                }
                self.bundle = Some((*frame, u64::from(*inner).wrapping_add(attributes.size)));
                code
            }
            Content::Extents(extents) => {
                put(&mut self.more, extents.len() as u64);
                extents.iter().for_each(|extent| self.chain.put(&mut self.more, packs, extent));
                EXTENTS
            }
            Content::Pages(pages) => {
                put(&mut self.more, pages.len() as u64);
                pages.iter().for_each(|page| put_page(&mut self.more, packs, page));
                PAGES
            }
        };
        self.codes.push(code);
    }

    /// Sections 8 and 9.
    pub(super) fn finish(mut self) -> (Vec<u8>, Vec<u8>) {
        self.codes.append(&mut self.more);
        (self.codes, self.blobs)
    }
}

pub(super) struct ContentReader<'a> {
    class: Class,
    codes: &'a [u8],
    more: Cursor<'a>,
    /// Section 9, copied once and shared by all inline contents of the page.
    blobs: Bytes,
    bundle: Bundle,
    chain: Chain,
}

impl<'a> ContentReader<'a> {
    pub(super) fn new(sections: &Sections<'a>, class: Class, entries: usize) -> Result<Self, FormatError> {
        let mut more = sections.or_empty(tag::CONTENT);
        if class == Class::Directory {
            more.require(sections.get(tag::CONTENT).is_none(), "directories have content")?;
        }
        let codes = if class == Class::Directory { &[] } else { more.take(entries)? };
        let blobs = Bytes::copy_from_slice(sections.or_empty(tag::BLOBS).remainder());
        Ok(Self { class, codes, more, blobs, bundle: None, chain: Chain::default() })
    }

    pub(super) fn read(
        &mut self,
        at: usize,
        attributes: &Attributes,
        packs: &mut PackReader,
    ) -> Result<Content, FormatError> {
        if self.class == Class::Directory {
            return Ok(Content::None);
        }
        let code = self.codes.get(at).copied().unwrap_or(u8::MAX);
        let size = attributes.size;
        match attributes.kind {
            Kind::File => {
                self.more.require((code == NONE) == (size == 0), "only empty files have no content")?
            }
            Kind::Symlink => self.more.require(matches!(code, INLINE | ODD_LINK), "a link has no target")?,
            _ => self.more.require(code == NONE, "a node that is no file has content")?,
        }
        match code {
            NONE => Ok(Content::None),
            INLINE => {
                let max = if attributes.kind == Kind::File { INLINE_MAX } else { LINK_TARGET_MAX };
                self.inline(size, max)
            }
            ODD_LINK => {
                let len = self.more.uv()?;
                let odd = attributes.kind == Kind::Symlink && len != size;
                self.more.require(odd, "the length of inline bytes goes without saying")?;
                self.inline(len, LINK_TARGET_MAX)
            }
            BEHIND | SAME_FRAME | NEW_FRAME => self.bundle(code, size, packs),
            EXTENTS => self.extents(size, packs),
            PAGES => self.pages(size, packs),
            _ => Err(self.more.broken("a content code is unknown")),
        }
    }

    fn inline(&mut self, len: u64, max: usize) -> Result<Content, FormatError> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.more.require((1..=max).contains(&len), "inline bytes are none or longer than the limit")?;
        self.more.require(len <= self.blobs.len(), "inline bytes end too early")?;
        Ok(Content::Inline(self.blobs.split_to(len)))
    }

    fn bundle(&mut self, code: u8, size: u64, packs: &mut PackReader) -> Result<Content, FormatError> {
        let (frame, inner) = match (code, self.bundle) {
            (NEW_FRAME, last) => {
                let frame = packs.frame(&mut self.more)?;
                let moved = last.is_none_or(|(last, _)| last != frame);
                self.more.require(moved, "a frame goes without saying")?;
                (frame, self.more.uv32()?)
            }
            (SAME_FRAME, Some((frame, end))) => {
                let inner = self.more.uv32()?;
                self.more.require(u64::from(inner) != end, "an offset in a frame goes without saying")?;
                (frame, inner)
            }
            // The end lies within the frame, which the file before has shown.
            (_, Some((frame, end))) if code == BEHIND => (frame, end as u32),
            _ => return Err(self.more.broken("a file lies in no frame")),
        };
        let end = u64::from(inner).checked_add(size).filter(|&end| end <= DATA_FRAME_MAX as u64);
        let end = end.ok_or_else(|| self.more.broken("a file lies beyond its frame"))?;
        self.bundle = Some((frame, end));
        Ok(Content::Bundle { frame, inner })
    }

    fn extents(&mut self, size: u64, packs: &mut PackReader) -> Result<Content, FormatError> {
        // A hole of the length that goes without saying takes one byte.
        let count = self.more.count(EXTENTS_MAX, 1)?;
        let mut extents: Vec<Extent> = Vec::with_capacity(count);
        let mut left = Some(size);
        for _ in 0..count {
            let extent = self.chain.read(&mut self.more, packs)?;
            left = left.and_then(|left| left.checked_sub(extent.len));
            extents.push(extent);
        }
        self.more.require(left == Some(0), "runs do not add up to the size")?;
        Ok(Content::Extents(extents))
    }

    fn pages(&mut self, size: u64, packs: &mut PackReader) -> Result<Content, FormatError> {
        let count = self.more.count(EXTENTS_MAX, 4)?;
        let mut pages = Vec::with_capacity(count);
        let mut left = Some(size);
        for _ in 0..count {
            let page = read_page(&mut self.more, packs)?;
            left = left.and_then(|left| left.checked_sub(page.len));
            pages.push(page);
        }
        self.more.require(left == Some(0), "extent pages do not add up to the size")?;
        Ok(Content::Pages(pages))
    }

    pub(super) fn finish(self) -> Result<(), FormatError> {
        self.more.require(self.blobs.is_empty(), "inline bytes belong to no entry")?;
        self.more.finish()
    }
}
