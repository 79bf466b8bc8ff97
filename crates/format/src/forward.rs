//! Forwarding tables: where frames of a moved pack lie now (FORMAT.md, *Forwarding table*).
//!
//! What always holds: sorted, without duplicates, so [`ForwardTable::find`] is a binary search.
//! Tested below, in `tests/golden/forward`, and by its fuzz target.

use crate::FormatError;
use crate::limits::{HEAD_MAX, PACK_MAX};
use crate::varint::{Cursor, put};
use backupengine_model::{PackRef, SessionNo};

const WHAT: &str = "forwarding table";
const VERSION: u64 = 1;

/// One moved frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forward {
    /// Session of the old pack.
    pub session: SessionNo,
    /// Number of the old pack.
    pub number: u32,
    /// Old offset.
    pub old_offset: u32,
    /// Offset in the relocation pack.
    pub new_offset: u32,
    /// Stored length there, at least 1.
    pub new_len: u32,
}

/// The head of a relocation pack, sorted by (session, number, old offset).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardTable {
    /// Sorted, without duplicates.
    pub entries: Vec<Forward>,
}

impl ForwardTable {
    /// Encodes it.
    pub fn encode(&self) -> Vec<u8> {
        let same_pack = |a: &Forward, b: &Forward| (a.session, a.number) == (b.session, b.number);
        let mut out = Vec::with_capacity(8 + self.entries.len() * 10);
        put(&mut out, VERSION);
        put(&mut out, self.entries.chunk_by(same_pack).count() as u64);
        for group in self.entries.chunk_by(same_pack) {
            put(&mut out, group[0].session.0.into());
            put(&mut out, group[0].number.into());
            put(&mut out, group.len() as u64);
            let mut before = 0;
            for entry in group {
                put(&mut out, entry.old_offset.wrapping_sub(before).into());
                put(&mut out, entry.new_offset.into());
                put(&mut out, entry.new_len.into());
                before = entry.old_offset;
            }
        }
        out
    }

    /// Decodes it.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut cursor = Cursor::new(bytes, WHAT);
        cursor.require(bytes.len() <= HEAD_MAX, "is larger than 16 MiB")?;
        let version = cursor.uv()?;
        if version != VERSION {
            return Err(FormatError::TooNew { what: WHAT, feature: format!("table version {version}") });
        }
        let groups = cursor.count(usize::MAX, 6)?;
        let mut entries = Vec::new();
        let mut last = None;
        for _ in 0..groups {
            let pack = (SessionNo(cursor.uv32()?), cursor.uv32()?);
            cursor.require(pack.0.0 != 0, "session 0 does not exist")?;
            cursor.require(pack.1 != PackRef::ROOT, "a root pack was moved")?;
            cursor.require(last.is_none_or(|last| last < pack), "packs are not in ascending order")?;
            last = Some(pack);
            decode_group(&mut cursor, pack, &mut entries)?;
        }
        cursor.finish()?;
        Ok(Self { entries })
    }

    /// New offset and length of a frame.
    pub fn find(&self, session: SessionNo, number: u32, old_offset: u32) -> Option<(u32, u32)> {
        let wanted = (session, number, old_offset);
        let at = self.entries.binary_search_by_key(&wanted, |e| (e.session, e.number, e.old_offset)).ok()?;
        self.entries.get(at).map(|e| (e.new_offset, e.new_len))
    }
}

fn decode_group(
    cursor: &mut Cursor<'_>,
    (session, number): (SessionNo, u32),
    entries: &mut Vec<Forward>,
) -> Result<(), FormatError> {
    let count = cursor.count(usize::MAX, 3)?;
    cursor.require(count > 0, "a pack has no frames")?;
    entries.reserve(count);
    let mut old_offset = 0u32;
    for at in 0..count {
        let delta = cursor.uv32()?;
        cursor.require(at == 0 || delta > 0, "offsets are not in ascending order")?;
        old_offset = old_offset
            .checked_add(delta)
            .filter(|&offset| u64::from(offset) < PACK_MAX)
            .ok_or_else(|| cursor.broken("an old offset lies beyond 256 MiB"))?;
        let (new_offset, new_len) = (cursor.uv32()?, cursor.uv32()?);
        cursor.require(new_len > 0, "a frame is empty")?;
        cursor
            .require(u64::from(new_offset) + u64::from(new_len) <= PACK_MAX, "a frame lies beyond 256 MiB")?;
        entries.push(Forward { session, number, old_offset, new_offset, new_len });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(session: u32, number: u32, old_offset: u32, new_offset: u32) -> Forward {
        Forward { session: SessionNo(session), number, old_offset, new_offset, new_len: 40 }
    }

    #[test]
    fn tables_go_both_ways_and_are_searched() {
        let entries =
            vec![forward(1, 0, 0, 90), forward(1, 0, 500, 0), forward(1, 3, 0, 50), forward(2, 0, 7, 200)];
        let table = ForwardTable { entries };
        let back = ForwardTable::decode(&table.encode()).unwrap();
        assert_eq!(back, table);
        assert_eq!(back.find(SessionNo(1), 0, 500), Some((0, 40)));
        assert_eq!(back.find(SessionNo(1), 0, 501), None);
        assert_eq!(back.find(SessionNo(3), 0, 0), None);
        assert_eq!(ForwardTable::decode(&ForwardTable::default().encode()), Ok(ForwardTable::default()));
    }

    #[test]
    fn disorder_is_refused() {
        for entries in [
            vec![forward(1, 0, 5, 0), forward(1, 0, 5, 9)],
            vec![forward(1, 0, 5, 0), forward(1, 0, 4, 9)],
            vec![forward(1, 1, 0, 0), forward(1, 0, 0, 9)],
            vec![forward(0, 1, 0, 0)],
            vec![forward(1, 1, 0, PACK_MAX as u32)],
            vec![forward(1, 1, 0, PACK_MAX as u32 - 39)],
            vec![forward(1, 1, PACK_MAX as u32, 0)],
            vec![Forward { new_len: 0, ..forward(1, 1, 0, 0) }],
            vec![forward(1, PackRef::ROOT, 0, 0)],
        ] {
            assert!(ForwardTable::decode(&ForwardTable { entries }.encode()).is_err());
        }
        let last = vec![forward(1, 1, PACK_MAX as u32 - 1, PACK_MAX as u32 - 40)];
        assert!(ForwardTable::decode(&ForwardTable { entries: last }.encode()).is_ok());
        // Session, number, count, then offset, new offset and length of each: a pack twice, and one without frames.
        let good = [1, 2, 1, 0, 1, 5, 0, 40, 1, 1, 1, 6, 0, 40];
        assert!(ForwardTable::decode(&good).is_ok());
        assert!(ForwardTable::decode(&[1, 2, 1, 0, 1, 5, 0, 40, 1, 0, 1, 6, 0, 40]).is_err());
        assert!(ForwardTable::decode(&[1, 2, 1, 0, 0, 1, 1, 2, 5, 0, 40, 1, 0, 40]).is_err());
    }
}
