//! Sections 3 and 4: kind, mode and owners, which few nodes have of their own; and the sparse columns 14 to 17
//! of what most nodes do not have: link counts, device numbers, allocated bytes, marks.
//!
//! Bytes of the table: per row `kind << 12 | mode`, uid, gid; rows in the order of first use, to its end.

use super::super::section::{Sections, Writer};
use super::sparse::{SparseReader, SparseWriter};
use super::tag;
use crate::FormatError;
use crate::varint::{Cursor, put};
use backupengine_model::{Attributes, Class, Kind, NodeFlags, Timestamp};
use std::collections::{HashMap, HashSet};

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Row {
    kind: Kind,
    mode: u32,
    uid: u32,
    gid: u32,
}

/// Link count that goes without saying: that of an empty directory, or of a file with one name.
const fn usual_nlink(kind: Kind) -> u32 {
    if matches!(kind, Kind::Directory) { 2 } else { 1 }
}

#[derive(Default)]
pub(super) struct AttributesWriter {
    rows: HashMap<Row, u32>,
    last: Option<(Row, u32)>,
    table: Vec<u8>,
    index: Vec<u8>,
    nlink: SparseWriter,
    rdev: SparseWriter,
    allocated: SparseWriter,
    flags: SparseWriter,
}

impl AttributesWriter {
    pub(super) fn put(&mut self, at: usize, a: &Attributes) {
        let row = Row { kind: a.kind, mode: a.mode, uid: a.uid, gid: a.gid };
        let index = match self.last {
            Some((last, index)) if last == row => index,
            _ => self.index_of(row),
        };
        put(&mut self.index, index.into());
        if a.nlink != usual_nlink(a.kind) {
            put(self.nlink.at(at), a.nlink.into());
        }
        if a.rdev != 0 {
            put(self.rdev.at(at), a.rdev);
        }
        if let Some(allocated) = a.allocated {
            put(self.allocated.at(at), allocated);
        }
        if a.flags.0 != 0 {
            put(self.flags.at(at), a.flags.0.into());
        }
    }

    fn index_of(&mut self, row: Row) -> u32 {
        let next = self.rows.len() as u32;
        let index = *self.rows.entry(row).or_insert_with(|| {
            put(&mut self.table, u64::from(row.kind as u8) << 12 | u64::from(row.mode));
            put(&mut self.table, row.uid.into());
            put(&mut self.table, row.gid.into());
            next
        });
        self.last = Some((row, index));
        index
    }

    /// Writes sections 3 and 4; the sparse ones come later in the page.
    pub(super) fn finish_table(&mut self, out: &mut Writer) {
        out.put_some(tag::ATTRIBUTE_TABLE, &self.table);
        out.put_some(tag::ATTRIBUTES, &self.index);
    }

    /// Writes sections 14 to 17.
    pub(super) fn finish_sparse(self, out: &mut Writer) {
        self.nlink.finish(out, tag::NLINK);
        self.rdev.finish(out, tag::RDEV);
        self.allocated.finish(out, tag::ALLOCATED);
        self.flags.finish(out, tag::FLAGS);
    }
}

pub(super) struct AttributesReader<'a> {
    class: Class,
    table: Vec<Row>,
    seen: usize,
    index: Cursor<'a>,
    nlink: SparseReader<'a>,
    rdev: SparseReader<'a>,
    allocated: SparseReader<'a>,
    flags: SparseReader<'a>,
}

impl<'a> AttributesReader<'a> {
    pub(super) fn new(sections: &Sections<'a>, class: Class) -> Result<Self, FormatError> {
        Ok(Self {
            class,
            table: decode_table(sections.need(tag::ATTRIBUTE_TABLE)?)?,
            seen: 0,
            index: sections.need(tag::ATTRIBUTES)?,
            nlink: SparseReader::section(sections, tag::NLINK)?,
            rdev: SparseReader::section(sections, tag::RDEV)?,
            allocated: SparseReader::section(sections, tag::ALLOCATED)?,
            flags: SparseReader::section(sections, tag::FLAGS)?,
        })
    }

    pub(super) fn read(&mut self, at: usize, size: u64, mtime: Timestamp) -> Result<Attributes, FormatError> {
        let index = self.index.uv32()? as usize;
        let Some(&Row { kind, mode, uid, gid }) = self.table.get(index) else {
            return Err(self.index.broken("an attribute index is out of range"));
        };
        if index >= self.seen {
            self.index.require(index == self.seen, "attributes are not in the order of first use")?;
            self.index.require(
                (kind == Kind::Directory) == (self.class == Class::Directory),
                "a node's kind is not of the page's class",
            )?;
            self.seen += 1;
        }
        let nlink = self.nlink.value(at, |cursor| {
            let nlink = cursor.uv32()?;
            cursor.require(nlink != usual_nlink(kind), "a link count goes without saying")?;
            Ok(nlink)
        })?;
        let rdev = self.rdev.value(at, |cursor| {
            let rdev = cursor.uv()?;
            cursor.require(rdev != 0, "a device number is 0")?;
            let device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
            cursor.require(device, "a node that is no device has a device number")?;
            Ok(rdev)
        })?;
        let allocated = self.allocated.value(at, |cursor| {
            let allocated = cursor.uv()?;
            cursor.require(kind == Kind::File, "a node that is no file has holes")?;
            cursor.require(allocated <= size, "more bytes are allocated than the file has")?;
            Ok(allocated)
        })?;
        let flags = self.flags.value(at, |cursor| {
            let flags = cursor.uv()?;
            cursor.require(flags != 0, "no marks are written")?;
            cursor.require(flags & !u64::from(NodeFlags::TORN.0) == 0, "a mark is unknown")?;
            cursor.require(kind == Kind::File, "a node that is no file is marked as torn")?;
            Ok(NodeFlags(flags as u8))
        })?;
        Ok(Attributes {
            kind,
            mode,
            uid,
            gid,
            size,
            mtime,
            rdev: rdev.unwrap_or(0),
            nlink: nlink.unwrap_or(usual_nlink(kind)),
            allocated,
            flags: flags.unwrap_or_default(),
        })
    }

    pub(super) fn finish(self) -> Result<(), FormatError> {
        self.index.require(self.seen == self.table.len(), "attributes in the table are not used")?;
        self.index.finish()?;
        self.nlink.finish()?;
        self.rdev.finish()?;
        self.allocated.finish()?;
        self.flags.finish()
    }
}

fn decode_table(mut cursor: Cursor<'_>) -> Result<Vec<Row>, FormatError> {
    let mut table = Vec::new();
    while cursor.left() > 0 {
        let (kind_mode, uid, gid) = (cursor.uv32()?, cursor.uv32()?, cursor.uv32()?);
        let kind = match kind_mode >> 12 {
            0 => Kind::Directory,
            1 => Kind::File,
            2 => Kind::Symlink,
            3 => Kind::Fifo,
            4 => Kind::Socket,
            5 => Kind::CharDevice,
            6 => Kind::BlockDevice,
            _ => return Err(cursor.broken("a kind is unknown")),
        };
        table.push(Row { kind, mode: kind_mode & 0o7777, uid, gid });
    }
    let distinct = match table.as_slice() {
        [] | [_] => true,
        few if few.len() <= 8 => few.iter().enumerate().all(|(at, row)| !few[..at].contains(row)),
        many => many.iter().collect::<HashSet<_>>().len() == many.len(),
    };
    cursor.require(distinct, "attributes stand in the table twice")?;
    Ok(table)
}
