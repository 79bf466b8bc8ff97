//! Sparse columns: values of the few entries that differ from what goes without saying.
//!
//! Bytes: count (at least 1), then per value the number of entries skipped since the last, and the value. A
//! column without values is left out of the page.

use super::super::section::{Sections, Writer};
use crate::FormatError;
use crate::varint::{Cursor, put};

/// Collects a sparse column.
#[derive(Default)]
pub(super) struct SparseWriter {
    count: u64,
    next: usize,
    bytes: Vec<u8>,
}

impl SparseWriter {
    /// Says that entry `at` has a value, which the caller appends to what it gets.
    pub(super) fn at(&mut self, at: usize) -> &mut Vec<u8> {
        put(&mut self.bytes, (at - self.next) as u64);
        self.next = at + 1;
        self.count += 1;
        &mut self.bytes
    }

    /// Appends the column to `head`, or nothing where it is empty.
    pub(super) fn append_to(&self, head: &mut Vec<u8>) {
        if self.count > 0 {
            put(head, self.count);
            head.extend_from_slice(&self.bytes);
        }
    }

    /// Writes the column as a section of its own.
    pub(super) fn finish(self, out: &mut Writer, tag: u8) {
        let mut bytes = Vec::with_capacity(self.bytes.len() + 4);
        self.append_to(&mut bytes);
        out.put_some(tag, &bytes);
    }
}

/// Reads a sparse column while entries are gone through in order.
pub(super) struct SparseReader<'a> {
    cursor: Cursor<'a>,
    left: u64,
    /// The next entry that has a value; beyond all entries where there is none.
    next: usize,
}

impl<'a> SparseReader<'a> {
    /// The column in an own section, which may be missing.
    pub(super) fn section(sections: &Sections<'a>, tag: u8) -> Result<Self, FormatError> {
        match sections.get(tag) {
            Some(cursor) => Self::new(cursor),
            None => Ok(Self { cursor: sections.or_empty(tag), left: 0, next: usize::MAX }),
        }
    }

    /// The column at the end of a section.
    pub(super) fn new(mut cursor: Cursor<'a>) -> Result<Self, FormatError> {
        let left = cursor.count(usize::MAX, 2)? as u64;
        cursor.require(left > 0, "a column without values is written")?;
        let next = cursor.uv32()? as usize;
        Ok(Self { cursor, left, next })
    }

    /// The value of entry `at`, read by `read`, if it has one. To be asked for each entry in turn.
    #[inline]
    pub(super) fn value<T>(
        &mut self,
        at: usize,
        read: impl FnOnce(&mut Cursor<'a>) -> Result<T, FormatError>,
    ) -> Result<Option<T>, FormatError> {
        if at != self.next {
            return Ok(None);
        }
        let value = read(&mut self.cursor)?;
        self.left -= 1;
        self.next = if self.left == 0 { usize::MAX } else { at + 1 + self.cursor.uv32()? as usize };
        Ok(Some(value))
    }

    /// Fails where values are left.
    pub(super) fn finish(self) -> Result<(), FormatError> {
        self.cursor.require(self.left == 0, "a column has values beyond the last entry")?;
        self.cursor.finish()
    }
}
