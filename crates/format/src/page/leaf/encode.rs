//! Rows to columns.

use super::super::packs::PackWriter;
use super::super::section::Writer;
use super::super::{HardLink, shared_len};
use super::attributes::AttributesWriter;
use super::content::ContentWriter;
use super::directories::same_parent;
use super::sparse::SparseWriter;
use super::{LeafEntry, directories, hard_links, tag, xattrs};
use crate::varint::{put, put_zz};
use backupengine_model::{Class, Timestamp};

pub(super) fn encode(entries: &[LeafEntry]) -> Vec<u8> {
    let count = entries.len();
    let mut names = Names::with_capacity(count);
    let (mut sizes, mut mtimes) = (Vec::with_capacity(count * 2), Mtimes::with_capacity(count));
    let (mut attributes, mut content) = (AttributesWriter::default(), ContentWriter::default());
    let (mut links, mut packs) = (SparseWriter::default(), PackWriter::default());
    // Extended attributes are the first to use the pack table: a decoder needs their sets before any entry.
    let sets = xattrs::encode(entries, &mut packs);
    let mut before: Option<&LeafEntry> = None;
    for (at, entry) in entries.iter().enumerate() {
        names.put(before.filter(|before| same_parent(before, entry)).map_or(&[], |e| &e.name), &entry.name);
        attributes.put(at, &entry.attributes);
        put(&mut sizes, entry.attributes.size);
        mtimes.put(entry.attributes.mtime);
        content.put(&entry.attributes, &entry.content, &mut packs);
        if entry.hard_link != HardLink::None {
            hard_links::encode(links.at(at), entry);
        }
        before = Some(entry);
    }
    let (codes, blobs) = content.finish();
    let mut out = Writer::new(names.bytes.len() + codes.len() + blobs.len() + count * 12 + 256);
    out.put(tag::DIRECTORIES, &directories::encode(entries));
    out.put_some(tag::NAMES, &names.finish());
    attributes.finish_table(&mut out);
    out.put_some(tag::SIZES, &sizes);
    out.put_some(tag::MTIMES, &mtimes.finish());
    out.put_some(tag::PACKS, &packs.finish());
    if entries.first().is_some_and(|entry| entry.class() == Class::Other) {
        out.put_some(tag::CONTENT, &codes);
    }
    out.put_some(tag::BLOBS, &blobs);
    out.put_some(tag::XATTRS, &sets);
    links.finish(&mut out, tag::HARD_LINKS);
    attributes.finish_sparse(&mut out);
    out.finish()
}

/// Section 2: bytes shared with the name before, lengths of the rest, the rests. A directory begins anew.
struct Names {
    shared: Vec<u8>,
    lengths: Vec<u8>,
    bytes: Vec<u8>,
}

impl Names {
    fn with_capacity(count: usize) -> Self {
        let column = || Vec::with_capacity(count);
        Self { shared: column(), lengths: column(), bytes: Vec::with_capacity(count * 12) }
    }

    fn put(&mut self, before: &[u8], name: &[u8]) {
        let same = shared_len(before, name);
        put(&mut self.shared, same as u64);
        put(&mut self.lengths, (name.len() - same) as u64);
        self.bytes.extend_from_slice(&name[same..]);
    }

    fn finish(self) -> Vec<u8> {
        [self.shared, self.lengths, self.bytes].concat()
    }
}

/// Section 6: differences of whole seconds, then nanoseconds as u32.
struct Mtimes {
    last: i64,
    secs: Vec<u8>,
    nanos: Vec<u8>,
}

impl Mtimes {
    fn with_capacity(count: usize) -> Self {
        Self { last: 0, secs: Vec::with_capacity(count * 2), nanos: Vec::with_capacity(count * 4) }
    }

    fn put(&mut self, time: Timestamp) {
        put_zz(&mut self.secs, time.secs.wrapping_sub(self.last));
        self.nanos.extend_from_slice(&time.nanos.to_le_bytes());
        self.last = time.secs;
    }

    fn finish(mut self) -> Vec<u8> {
        self.secs.append(&mut self.nanos);
        self.secs
    }
}
