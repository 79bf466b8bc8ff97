//! Pack tables: a page names each pack it refers to once, in the order of first use, and then by index.
//!
//! What always holds: no pack stands in a table twice, none is unused, so equal references give equal bytes.
//! Tested through the pages.

use crate::FormatError;
use crate::limits::PACK_MAX;
use crate::varint::{Cursor, put};
use backupengine_model::{FrameRef, PackRef, SessionNo};
use std::collections::{HashMap, HashSet};

/// Bytes of a pack in a table: session u32, number u32, salt, epoch u16.
const ROW: usize = 18;

/// Collects the pack table while references are written.
#[derive(Default)]
pub(super) struct PackWriter {
    table: Vec<u8>,
    index: HashMap<PackRef, u32>,
    last: Option<(PackRef, u32)>,
}

impl PackWriter {
    /// Index of a pack, which is added where it is new.
    pub(super) fn index(&mut self, pack: &PackRef) -> u32 {
        if let Some((last, index)) = self.last
            && last == *pack
        {
            return index;
        }
        let next = self.index.len() as u32;
        let index = *self.index.entry(*pack).or_insert_with(|| {
            self.table.extend_from_slice(&pack.session.0.to_le_bytes());
            self.table.extend_from_slice(&pack.number.to_le_bytes());
            self.table.extend_from_slice(&pack.salt);
            self.table.extend_from_slice(&pack.epoch.to_le_bytes());
            next
        });
        self.last = Some((*pack, index));
        index
    }

    /// Writes a reference: pack index, offset, stored length.
    pub(super) fn put(&mut self, out: &mut Vec<u8>, frame: &FrameRef) {
        put(out, self.index(&frame.pack).into());
        put(out, frame.offset.into());
        put(out, frame.stored_len.into());
    }

    /// The section's bytes.
    pub(super) fn finish(self) -> Vec<u8> {
        self.table
    }
}

/// A decoded pack table, which watches that packs are used in its order.
pub(super) struct PackReader {
    packs: Vec<PackRef>,
    seen: usize,
}

impl PackReader {
    pub(super) fn decode(mut cursor: Cursor<'_>) -> Result<Self, FormatError> {
        cursor.require(cursor.left().is_multiple_of(ROW), "the pack table ends within a pack")?;
        let mut packs = Vec::with_capacity(cursor.left() / ROW);
        while cursor.left() > 0 {
            let session = SessionNo(u32::from_le_bytes(cursor.array()?));
            let number = u32::from_le_bytes(cursor.array()?);
            let salt = cursor.array()?;
            let epoch = u16::from_le_bytes(cursor.array()?);
            cursor.require(session.0 != 0, "session 0 does not exist")?;
            cursor.require(number != PackRef::ROOT, "a page refers to a root pack")?;
            packs.push(PackRef { session, number, salt, epoch });
        }
        let distinct = match packs.as_slice() {
            [] | [_] => true,
            [one, two] => one != two,
            many => many.iter().collect::<HashSet<_>>().len() == many.len(),
        };
        cursor.require(distinct, "a pack stands in the table twice")?;
        Ok(Self { packs, seen: 0 })
    }

    /// Reads an index.
    pub(super) fn pack(&mut self, cursor: &mut Cursor<'_>) -> Result<PackRef, FormatError> {
        let index = cursor.uv32()? as usize;
        let pack = *self.packs.get(index).ok_or_else(|| cursor.broken("a pack index is out of range"))?;
        if index >= self.seen {
            cursor.require(index == self.seen, "packs are not in the order of first use")?;
            self.seen += 1;
        }
        Ok(pack)
    }

    /// Reads what [`PackWriter::put`] wrote.
    pub(super) fn frame(&mut self, cursor: &mut Cursor<'_>) -> Result<FrameRef, FormatError> {
        let pack = self.pack(cursor)?;
        let offset = cursor.uv32()?;
        frame_at(cursor, pack, offset)
    }

    /// Fails where the table names packs that nothing used.
    pub(super) fn finish(&self, cursor: &Cursor<'_>) -> Result<(), FormatError> {
        cursor.require(self.seen == self.packs.len(), "a pack in the table is not used")
    }
}

/// Reads the stored length of a frame whose place is known.
pub(super) fn frame_at(cursor: &mut Cursor<'_>, pack: PackRef, offset: u32) -> Result<FrameRef, FormatError> {
    let stored_len = cursor.uv32()?;
    cursor.require(stored_len > 0, "a frame is empty")?;
    let end = u64::from(offset) + u64::from(stored_len);
    cursor.require(end <= PACK_MAX, "a frame lies beyond 256 MiB")?;
    Ok(FrameRef { pack, offset, stored_len })
}
