//! Section 10: sets of extended attributes, shared between the nodes that have the same.
//!
//! Bytes: number of sets; per set the number of its attributes, and per attribute: length of the name, name,
//! and either `1 + length` and an inline value, or 0, reference, offset in the frame's plaintext, length. Then
//! a sparse column of set indexes, in the order of first use.

use super::super::packs::{PackReader, PackWriter};
use super::super::section::Sections;
use super::super::{Xattr, XattrValue};
use super::sparse::{SparseReader, SparseWriter};
use super::{LeafEntry, tag};
use crate::FormatError;
use crate::limits::{DATA_FRAME_MAX, XATTR_INLINE_MAX, XATTR_NAME_MAX};
use crate::varint::{Cursor, put};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The section's bytes; empty where no entry has attributes. First to use the pack table.
pub(super) fn encode(entries: &[LeafEntry], packs: &mut PackWriter) -> Vec<u8> {
    let mut index: HashMap<&[Xattr], u64> = HashMap::new();
    let (mut sets, mut column) = (Vec::new(), SparseWriter::default());
    let mut last: Option<(&Arc<[Xattr]>, u64)> = None;
    for (at, entry) in entries.iter().enumerate().filter(|(_, entry)| !entry.xattrs.is_empty()) {
        let set = match last {
            Some((set, number)) if Arc::ptr_eq(set, &entry.xattrs) => number,
            _ => {
                let next = index.len() as u64;
                *index.entry(&entry.xattrs).or_insert_with(|| {
                    encode_set(&mut sets, &entry.xattrs, packs);
                    next
                })
            }
        };
        last = Some((&entry.xattrs, set));
        put(column.at(at), set);
    }
    let mut out = Vec::new();
    if !index.is_empty() {
        put(&mut out, index.len() as u64);
        out.extend_from_slice(&sets);
        column.append_to(&mut out);
    }
    out
}

fn encode_set(out: &mut Vec<u8>, set: &[Xattr], packs: &mut PackWriter) {
    put(out, set.len() as u64);
    for xattr in set {
        put(out, xattr.name.len() as u64);
        out.extend_from_slice(&xattr.name);
        match &xattr.value {
            XattrValue::Inline(value) => {
                put(out, value.len() as u64 + 1);
                out.extend_from_slice(value);
            }
            XattrValue::Stored { frame, inner, len } => {
                put(out, 0);
                packs.put(out, frame);
                put(out, (*inner).into());
                put(out, (*len).into());
            }
        }
    }
}

pub(super) struct XattrsReader<'a> {
    sets: Vec<Arc<[Xattr]>>,
    seen: usize,
    none: Arc<[Xattr]>,
    column: SparseReader<'a>,
}

impl<'a> XattrsReader<'a> {
    pub(super) fn new(sections: &Sections<'a>, packs: &mut PackReader) -> Result<Self, FormatError> {
        // The standard library shares one empty `Arc<[T]>` among all of a program.
        let none = Arc::default();
        let Some(mut cursor) = sections.get(tag::XATTRS) else {
            let column = SparseReader::section(sections, tag::XATTRS)?;
            return Ok(Self { sets: Vec::new(), seen: 0, none, column });
        };
        let count = cursor.count(usize::MAX, 4)?;
        cursor.require(count > 0, "no sets of extended attributes are written")?;
        let mut sets = Vec::with_capacity(count);
        for _ in 0..count {
            sets.push(decode_set(&mut cursor, packs)?);
        }
        let distinct = count == 1 || sets.iter().collect::<HashSet<_>>().len() == count;
        cursor.require(distinct, "a set of extended attributes stands there twice")?;
        Ok(Self { sets, seen: 0, none, column: SparseReader::new(cursor)? })
    }

    pub(super) fn read(&mut self, at: usize) -> Result<Arc<[Xattr]>, FormatError> {
        let (sets, seen) = (&self.sets, &mut self.seen);
        let set = self.column.value(at, |cursor| {
            let index = cursor.uv32()? as usize;
            let set = sets.get(index).ok_or_else(|| cursor.broken("a set index is out of range"))?;
            if index >= *seen {
                cursor.require(index == *seen, "sets are not in the order of first use")?;
                *seen += 1;
            }
            Ok(Arc::clone(set))
        })?;
        Ok(set.unwrap_or_else(|| Arc::clone(&self.none)))
    }

    pub(super) fn finish(self, cursor: &Cursor<'_>) -> Result<(), FormatError> {
        cursor.require(self.seen == self.sets.len(), "a set of extended attributes is not used")?;
        self.column.finish()
    }
}

fn decode_set(cursor: &mut Cursor<'_>, packs: &mut PackReader) -> Result<Arc<[Xattr]>, FormatError> {
    let count = cursor.count(usize::MAX, 3)?;
    cursor.require(count > 0, "a set of extended attributes is empty")?;
    let mut set: Vec<Xattr> = Vec::with_capacity(count);
    for _ in 0..count {
        let len = cursor.uv32()? as usize;
        cursor.require(
            (1..=XATTR_NAME_MAX).contains(&len),
            "the name of an extended attribute is not 1 to 255 bytes",
        )?;
        let name = cursor.take(len)?.to_vec();
        cursor.require(!name.contains(&0), "the name of an extended attribute holds a zero byte")?;
        cursor.require(
            set.last().is_none_or(|before| before.name < name),
            "extended attributes do not ascend by name",
        )?;
        let value = match cursor.uv32()? {
            0 => decode_stored(cursor, packs)?,
            more => {
                let len = more as usize - 1;
                cursor.require(len <= XATTR_INLINE_MAX, "an inline value is longer than 256 bytes")?;
                XattrValue::Inline(cursor.take(len)?.to_vec())
            }
        };
        set.push(Xattr { name, value });
    }
    Ok(set.into())
}

fn decode_stored(cursor: &mut Cursor<'_>, packs: &mut PackReader) -> Result<XattrValue, FormatError> {
    let frame = packs.frame(cursor)?;
    let (inner, len) = (cursor.uv32()?, cursor.uv32()?);
    cursor.require(len as usize > XATTR_INLINE_MAX, "a stored value is not longer than 256 bytes")?;
    let end = u64::from(inner) + u64::from(len);
    cursor.require(end <= DATA_FRAME_MAX as u64, "a stored value lies beyond its frame")?;
    Ok(XattrValue::Stored { frame, inner, len })
}
