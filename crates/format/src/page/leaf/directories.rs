//! Section 1: the directories whose children a page holds, and how many of each.
//!
//! Bytes: class, number of directories, then per directory: bytes shared with the path before, length of the
//! rest, the rest, number of entries.

use super::super::shared_len;
use super::{LeafEntry, Room};
use crate::FormatError;
use crate::limits::{DEPTH_MAX, PAGE_ENTRIES_MAX, PATH_MAX};
use crate::varint::{Cursor, put};
use backupengine_model::{Class, TreePath};
use std::sync::Arc;

/// Whether two neighbours lie in one directory; by address first, since neighbours share their parent.
pub(super) fn same_parent(a: &LeafEntry, b: &LeafEntry) -> bool {
    Arc::ptr_eq(&a.parent, &b.parent) || a.parent == b.parent
}

pub(super) fn encode(entries: &[LeafEntry]) -> Vec<u8> {
    let class = entries.first().map_or(Class::Directory, LeafEntry::class);
    let mut rows = Vec::new();
    let (mut before, mut count): (&[u8], u64) = (&[], 0);
    for group in entries.chunk_by(same_parent) {
        let path = group[0].parent.as_joined();
        let same = shared_len(before, path);
        put(&mut rows, same as u64);
        put(&mut rows, (path.len() - same) as u64);
        rows.extend_from_slice(&path[same..]);
        put(&mut rows, group.len() as u64);
        before = path;
        count += 1;
    }
    let mut out = vec![class as u8];
    put(&mut out, count);
    out.extend_from_slice(&rows);
    out
}

/// Class, directories with the number of their entries, and the number of all entries.
pub(super) struct Directories {
    pub(super) class: Class,
    pub(super) list: Vec<(Arc<TreePath>, usize)>,
    pub(super) entries: usize,
}

pub(super) fn decode(mut cursor: Cursor<'_>, room: &mut Room) -> Result<Directories, FormatError> {
    let class = match cursor.u8()? {
        0 => Class::Directory,
        1 => Class::Other,
        _ => return Err(cursor.broken("the class is unknown")),
    };
    let count = cursor.count(PAGE_ENTRIES_MAX, 3)?;
    cursor.require(count > 0, "holds no entries")?;
    let mut list: Vec<(Arc<TreePath>, usize)> = Vec::with_capacity(count);
    let mut entries = 0usize;
    for _ in 0..count {
        let before = list.last().map_or(&[][..], |(path, _)| path.as_joined());
        let (same, len) = (cursor.uv32()? as usize, cursor.uv32()? as usize);
        let suffix = cursor.take(len)?;
        let Some(prefix) = before.get(..same) else {
            return Err(cursor.broken("a directory shares more than there is"));
        };
        let ascends = match (suffix.first(), before.get(same)) {
            (Some(next), Some(old)) => next > old,
            (Some(_), None) => true,
            (None, _) => list.is_empty(),
        };
        cursor.require(ascends, "directories do not ascend, or share less than they could")?;
        cursor.require(same + len <= PATH_MAX, "a path is longer than 256 KiB")?;
        room.take(same + len, &cursor)?;
        let path = TreePath::from_joined([prefix, suffix].concat())
            .map_err(|_| cursor.broken("a path holds an unusable name"))?;
        let depth = path.components().count();
        cursor.require(depth <= DEPTH_MAX, "a directory lies deeper than 4096")?;
        let held = cursor.uv32()? as usize;
        cursor.require(held > 0, "a directory holds no entries")?;
        entries = entries.saturating_add(held);
        cursor.require(entries <= PAGE_ENTRIES_MAX, "holds more than 65 536 entries")?;
        list.push((Arc::new(path), held));
    }
    cursor.finish()?;
    Ok(Directories { class, list, entries })
}
