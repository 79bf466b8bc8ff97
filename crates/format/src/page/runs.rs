//! Runs of a file's bytes, as leaves (content code 5) and extent pages hold them.
//!
//! Frames of a large file mostly follow each other in one pack and are full, so a run mostly takes one byte of
//! flags and its stored length. What always holds: one way to write a run. Tested through both kinds of page.

use super::packs::{PackReader, PackWriter, frame_at};
use super::{Extent, ExtentPageRef};
use crate::FormatError;
use crate::limits::DATA_FRAME_MAX;
use crate::varint::{Cursor, put};
use backupengine_model::{FrameRef, PackRef};

/// Zeros without a frame.
const HOLE: u8 = 1;
/// In another pack than the run before; its index and the offset follow.
const NEW_PACK: u8 = 2;
/// In the same pack, but not right behind the run before; the offset follows.
const APART: u8 = 4;
/// Not [`FULL`] bytes; the plain length follows.
const LENGTH: u8 = 8;
/// The length that goes without saying.
const FULL: u64 = DATA_FRAME_MAX as u64;

/// Where the frame of the run before ended; lasts over the files of a page.
#[derive(Default)]
pub(super) struct Chain {
    end: Option<(PackRef, u32)>,
}

impl Chain {
    fn follow(&mut self, frame: &FrameRef) {
        self.end = Some((frame.pack, frame.offset.wrapping_add(frame.stored_len)));
    }

    /// Writes a run.
    pub(super) fn put(&mut self, out: &mut Vec<u8>, packs: &mut PackWriter, extent: &Extent) {
        let length = if extent.len == FULL { 0 } else { LENGTH };
        let Some(frame) = &extent.frame else {
            out.push(HOLE | length);
            if length != 0 {
                put(out, extent.len);
            }
            return;
        };
        let place = match self.end {
            Some((pack, _)) if pack != frame.pack => NEW_PACK,
            None => NEW_PACK,
            Some((_, end)) if end != frame.offset => APART,
            Some(_) => 0,
        };
        out.push(length | place);
        if length != 0 {
            put(out, extent.len);
        }
        if place == NEW_PACK {
            put(out, packs.index(&frame.pack).into());
        }
        if place != 0 {
            put(out, frame.offset.into());
        }
        put(out, frame.stored_len.into());
        self.follow(frame);
    }

    /// Reads a run.
    pub(super) fn read(
        &mut self,
        cursor: &mut Cursor<'_>,
        packs: &mut PackReader,
    ) -> Result<Extent, FormatError> {
        let flags = cursor.u8()?;
        cursor.require(flags & !(HOLE | NEW_PACK | APART | LENGTH) == 0, "a run carries an unknown flag")?;
        let len = if flags & LENGTH == 0 { FULL } else { cursor.uv()? };
        cursor.require(len > 0, "a run is empty")?;
        cursor.require(flags & LENGTH == 0 || len != FULL, "a run says a length that goes without saying")?;
        if flags & HOLE != 0 {
            cursor.require(flags & (NEW_PACK | APART) == 0, "a hole has a place")?;
            return Ok(Extent { len, frame: None });
        }
        cursor.require(len <= FULL, "a run is longer than a frame can be")?;
        let (pack, offset) = match (flags & (NEW_PACK | APART), self.end) {
            (NEW_PACK, end) => {
                let pack = packs.pack(cursor)?;
                let moved = end.is_none_or(|(before, _)| before != pack);
                cursor.require(moved, "a run says a pack that goes without saying")?;
                (pack, cursor.uv32()?)
            }
            (APART, Some((pack, end))) => {
                let offset = cursor.uv32()?;
                cursor.require(offset != end, "a run says an offset that goes without saying")?;
                (pack, offset)
            }
            (0, Some(end)) => end,
            _ => return Err(cursor.broken("a run has no place")),
        };
        let frame = frame_at(cursor, pack, offset)?;
        self.follow(&frame);
        Ok(Extent { len, frame: Some(frame) })
    }
}

/// Writes a reference to an extent page.
pub(super) fn put_page(out: &mut Vec<u8>, packs: &mut PackWriter, page: &ExtentPageRef) {
    put(out, page.len);
    packs.put(out, &page.frame);
}

/// Reads a reference to an extent page.
pub(super) fn read_page(
    cursor: &mut Cursor<'_>,
    packs: &mut PackReader,
) -> Result<ExtentPageRef, FormatError> {
    let len = cursor.uv()?;
    cursor.require(len > 0, "an extent page is empty")?;
    Ok(ExtentPageRef { len, frame: packs.frame(cursor)? })
}
