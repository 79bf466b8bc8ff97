//! Columns to rows: all columns are read side by side, one entry at a time.

use super::super::HardLink;
use super::super::packs::PackReader;
use super::super::section::Sections;
use super::attributes::AttributesReader;
use super::content::ContentReader;
use super::sparse::SparseReader;
use super::xattrs::XattrsReader;
use super::{LeafEntry, Room, WHAT, directories, hard_links, tag};
use crate::FormatError;
use crate::limits::{PAGE_TEXT_MAX, PATH_MAX};
use crate::varint::Cursor;
use backupengine_model::{Timestamp, check_name};
use std::sync::Arc;

pub(super) fn decode(bytes: &[u8]) -> Result<Vec<LeafEntry>, FormatError> {
    let sections = Sections::parse(bytes, WHAT, &tag::ALL)?;
    let mut room = Room(PAGE_TEXT_MAX);
    let directories = directories::decode(sections.need(tag::DIRECTORIES)?, &mut room)?;
    let (class, count) = (directories.class, directories.entries);
    let mut names = Names::new(sections.need(tag::NAMES)?, count)?;
    let mut attributes = AttributesReader::new(&sections, class)?;
    let mut sizes = sections.need(tag::SIZES)?;
    let mut mtimes = Mtimes::new(sections.need(tag::MTIMES)?, count)?;
    let mut packs = PackReader::decode(sections.or_empty(tag::PACKS))?;
    let mut xattrs = XattrsReader::new(&sections, &mut packs)?;
    let mut content = ContentReader::new(&sections, class, count)?;
    let mut links = SparseReader::section(&sections, tag::HARD_LINKS)?;

    // The columns above have shown that there are bytes for so many entries.
    let mut entries: Vec<LeafEntry> = Vec::with_capacity(count);
    for (parent, held) in directories.list {
        for nth in 0..held {
            let at = entries.len();
            let before = if nth == 0 { None } else { entries.last().map(|e| e.name.as_slice()) };
            let name = names.read(before, parent.as_joined().len(), &mut room)?;
            let attributes = attributes.read(at, sizes.uv()?, mtimes.read()?)?;
            let kind = attributes.kind;
            let link =
                links.value(at, |cursor| hard_links::decode(cursor, &parent, &name, kind, &mut room))?;
            entries.push(LeafEntry {
                content: content.read(at, &attributes, &mut packs)?,
                parent: Arc::clone(&parent),
                name,
                attributes,
                xattrs: xattrs.read(at)?,
                hard_link: link.unwrap_or(HardLink::None),
            });
        }
    }
    packs.finish(&sizes)?;
    names.bytes.finish()?;
    attributes.finish()?;
    xattrs.finish(&sizes)?;
    sizes.finish()?;
    mtimes.secs.finish()?;
    mtimes.nanos.finish()?;
    content.finish()?;
    links.finish()?;
    Ok(entries)
}

struct Names<'a> {
    shared: Cursor<'a>,
    lengths: Cursor<'a>,
    bytes: Cursor<'a>,
}

impl<'a> Names<'a> {
    fn new(mut bytes: Cursor<'a>, count: usize) -> Result<Self, FormatError> {
        Ok(Self { shared: bytes.column(count)?, lengths: bytes.column(count)?, bytes })
    }

    /// Reads a name; `before` is the one before it in the same directory.
    fn read(
        &mut self,
        before: Option<&[u8]>,
        parent_len: usize,
        room: &mut Room,
    ) -> Result<Vec<u8>, FormatError> {
        let (same, len) = (self.shared.uv32()? as usize, self.lengths.uv32()? as usize);
        let suffix = self.bytes.take(len)?;
        let Some(prefix) = before.unwrap_or(&[]).get(..same) else {
            return Err(self.bytes.broken("a name shares more than there is"));
        };
        if let Some(before) = before {
            let ascends = match (suffix.first(), before.get(same)) {
                (Some(next), Some(old)) => next > old,
                (next, _) => next.is_some(),
            };
            self.bytes.require(ascends, "names do not ascend, or share less than they could")?;
        }
        let mut name = Vec::with_capacity(same + len);
        name.extend_from_slice(prefix);
        name.extend_from_slice(suffix);
        if check_name(&name).is_err() {
            return Err(self.bytes.broken("a name is unusable"));
        }
        self.bytes.require(parent_len + 1 + name.len() <= PATH_MAX, "a path is longer than 256 KiB")?;
        room.take(name.len(), &self.bytes)?;
        Ok(name)
    }
}

struct Mtimes<'a> {
    last: i64,
    secs: Cursor<'a>,
    nanos: Cursor<'a>,
}

impl<'a> Mtimes<'a> {
    fn new(mut cursor: Cursor<'a>, count: usize) -> Result<Self, FormatError> {
        Ok(Self { last: 0, secs: cursor.column(count)?, nanos: cursor })
    }

    fn read(&mut self) -> Result<Timestamp, FormatError> {
        self.last = self.last.wrapping_add(self.secs.zz()?);
        let nanos = u32::from_le_bytes(self.nanos.array()?);
        self.nanos.require(nanos < 1_000_000_000, "nanoseconds reach a whole second")?;
        Ok(Timestamp { secs: self.last, nanos })
    }
}
