//! Section 11: names of one file. The first name in key order is marked, the others say its path.
//!
//! Bytes of a value: 0 for a first name; for another one 1, how many bytes the leader's path shares with the
//! own path, length of the rest, the rest.

use super::super::HardLink;
use super::super::shared_len;
use super::{LeafEntry, Room};
use crate::FormatError;
use crate::limits::{DEPTH_MAX, PATH_MAX};
use crate::varint::{Cursor, put};
use backupengine_model::{Kind, TreePath};

const FIRST: u8 = 0;
const ALSO: u8 = 1;

/// Appends the value of an entry that is hard-linked.
pub(super) fn encode(out: &mut Vec<u8>, entry: &LeafEntry) {
    match &entry.hard_link {
        HardLink::None => {}
        HardLink::First => out.push(FIRST),
        HardLink::Also(leader) => {
            let own = entry.parent.child(&entry.name);
            let path = leader.as_joined();
            let same = shared_len(own.as_joined(), path);
            out.push(ALSO);
            put(out, same as u64);
            put(out, (path.len() - same) as u64);
            out.extend_from_slice(&path[same..]);
        }
    }
}

/// Reads the value of the entry `name` in `parent`.
pub(super) fn decode(
    cursor: &mut Cursor<'_>,
    parent: &TreePath,
    name: &[u8],
    kind: Kind,
    room: &mut Room,
) -> Result<HardLink, FormatError> {
    cursor.require(kind != Kind::Directory, "a directory is hard-linked")?;
    match cursor.u8()? {
        FIRST => return Ok(HardLink::First),
        ALSO => {}
        _ => return Err(cursor.broken("a hard link is of unknown sort")),
    }
    let (same, len) = (cursor.uv32()? as usize, cursor.uv32()? as usize);
    let suffix = cursor.take(len)?;
    let own = parent.child(name);
    let Some(prefix) = own.as_joined().get(..same) else {
        return Err(cursor.broken("a leader's path shares more than there is"));
    };
    let least = match (suffix.first(), own.as_joined().get(same)) {
        (Some(next), Some(old)) => next != old,
        _ => true,
    };
    cursor.require(least, "a leader's path shares less than it could")?;
    cursor.require(same + len <= PATH_MAX, "a path is longer than 256 KiB")?;
    room.take(same + len, cursor)?;
    let leader = TreePath::from_joined([prefix, suffix].concat())
        .map_err(|_| cursor.broken("a leader's path holds an unusable name"))?;
    let Some((dir, leaf)) = leader.split_last() else {
        return Err(cursor.broken("a leader's path is empty"));
    };
    cursor.require(leader.components().count() <= DEPTH_MAX + 1, "a leader lies deeper than 4096")?;
    cursor.require((&dir, leaf) < (parent, name), "a leader does not come before its other names")?;
    Ok(HardLink::Also(leader))
}
