//! The reference set of a snapshot: every pack it needs (FORMAT.md, *Reference set*).
//!
//! What always holds: pack numbers are kept as runs in memory too, so a set of any vault is small and a decoder
//! cannot be made to fill memory. Tested below, in `tests/golden/refset`, and by its fuzz target.

use crate::FormatError;
use crate::limits::HEAD_MAX;
use crate::varint::{Cursor, put};
use backupengine_model::{PackRef, SessionNo};
use std::collections::BTreeMap;

const WHAT: &str = "reference set";
const VERSION: u64 = 1;

/// A set of pack numbers, held as runs of neighbours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackSet {
    /// First and last number of each run; ascending, with at least one number missing between two.
    runs: Vec<(u32, u32)>,
}

impl PackSet {
    /// Adds a number; whether it is new. Cheapest in ascending order.
    pub fn insert(&mut self, number: u32) -> bool {
        let at = self.runs.partition_point(|&(first, _)| first <= number);
        let joins_before = match at.checked_sub(1).and_then(|before| self.runs.get(before)) {
            Some(&(_, last)) if number <= last => return false,
            Some(&(_, last)) => last + 1 == number,
            None => false,
        };
        let joins_after = self.runs.get(at).is_some_and(|&(first, _)| number.checked_add(1) == Some(first));
        match (joins_before, joins_after) {
            (true, true) => {
                self.runs[at - 1].1 = self.runs[at].1;
                self.runs.remove(at);
            }
            (true, false) => self.runs[at - 1].1 = number,
            (false, true) => self.runs[at].0 = number,
            (false, false) => self.runs.insert(at, (number, number)),
        }
        true
    }

    /// Whether a number is in it.
    pub fn contains(&self, number: u32) -> bool {
        let at = self.runs.partition_point(|&(first, _)| first <= number);
        at.checked_sub(1).and_then(|before| self.runs.get(before)).is_some_and(|&(_, last)| number <= last)
    }

    /// The numbers in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.runs.iter().flat_map(|&(first, last)| first..=last)
    }

    /// How many numbers are in it.
    pub fn len(&self) -> u64 {
        self.runs.iter().map(|&(first, last)| u64::from(last - first) + 1).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}

impl Extend<u32> for PackSet {
    fn extend<T: IntoIterator<Item = u32>>(&mut self, numbers: T) {
        for number in numbers {
            self.insert(number);
        }
    }
}

impl FromIterator<u32> for PackSet {
    fn from_iter<T: IntoIterator<Item = u32>>(numbers: T) -> Self {
        let mut set = Self::default();
        set.extend(numbers);
        set
    }
}

/// Every pack that any page or extent of a snapshot uses, by session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReferenceSet {
    /// Pack numbers by session, none of them empty. Live-share bytes are not written by version 1.
    pub packs: BTreeMap<SessionNo, PackSet>,
}

impl ReferenceSet {
    /// Adds one pack.
    pub fn insert(&mut self, session: SessionNo, number: u32) {
        self.packs.entry(session).or_default().insert(number);
    }

    /// Whether it names a pack.
    pub fn contains(&self, session: SessionNo, number: u32) -> bool {
        self.packs.get(&session).is_some_and(|set| set.contains(number))
    }

    /// Run-coded.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, VERSION);
        put(&mut out, self.packs.len() as u64);
        let mut before = 0;
        for (session, set) in &self.packs {
            put(&mut out, (session.0 - before).into());
            before = session.0;
            put(&mut out, set.runs.len() as u64);
            // How many numbers are missing before a run: at least 1 but for the first one.
            let mut next = 0u64;
            for &(first, last) in &set.runs {
                put(&mut out, u64::from(first) - next);
                put(&mut out, u64::from(last - first));
                next = u64::from(last) + 1;
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
            return Err(FormatError::TooNew { what: WHAT, feature: format!("set version {version}") });
        }
        let count = cursor.count(usize::MAX, 4)?;
        let mut packs = BTreeMap::new();
        let mut session = 0u32;
        for _ in 0..count {
            let delta = cursor.uv32()?;
            cursor.require(delta > 0, "sessions are not in ascending order")?;
            session = session
                .checked_add(delta)
                .ok_or_else(|| cursor.broken("a session number takes more than 32 bits"))?;
            packs.insert(SessionNo(session), decode_runs(&mut cursor)?);
        }
        cursor.finish()?;
        Ok(Self { packs })
    }
}

fn decode_runs(cursor: &mut Cursor<'_>) -> Result<PackSet, FormatError> {
    let count = cursor.count(usize::MAX, 2)?;
    cursor.require(count > 0, "a session has no packs")?;
    let mut runs = Vec::with_capacity(count);
    let mut next = 0u64;
    for at in 0..count {
        let (gap, more) = (u64::from(cursor.uv32()?), u64::from(cursor.uv32()?));
        cursor.require(at == 0 || gap > 0, "two runs are neighbours")?;
        let (first, last) = (next + gap, next + gap + more);
        cursor
            .require(last < u64::from(PackRef::ROOT), "a pack number is none of a pack of data or pages")?;
        runs.push((first as u32, last as u32));
        next = last + 1;
    }
    Ok(PackSet { runs })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_set_of_runs_is_a_set() {
        // A fixed scramble of 0..=96 with repeats, so that runs join from both sides.
        let numbers: Vec<u32> = (0..400u32).map(|n| (n * 37) % 97 * if n % 3 == 0 { 2 } else { 1 }).collect();
        let (mut set, mut model) = (PackSet::default(), BTreeSet::new());
        for &number in &numbers {
            assert_eq!(set.insert(number), model.insert(number));
            assert!(set.iter().eq(model.iter().copied()));
        }
        assert_eq!(set.len(), model.len() as u64);
        assert_eq!(numbers.iter().copied().collect::<PackSet>(), set);
        assert!(PackSet::default().is_empty() && !set.is_empty());
        assert!((0..300).all(|n| set.contains(n) == model.contains(&n)));
        assert!(set.runs.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
    }

    #[test]
    fn sets_go_both_ways_and_are_small() {
        let mut set = ReferenceSet::default();
        assert_eq!(ReferenceSet::decode(&set.encode()), Ok(set.clone()));
        for number in (0..300_000).chain([400_000, 400_002]) {
            set.insert(SessionNo(3), number);
        }
        set.insert(SessionNo(9), 0);
        let bytes = set.encode();
        assert!(bytes.len() < 24, "{}", bytes.len());
        assert_eq!(ReferenceSet::decode(&bytes), Ok(set.clone()));
        assert!(set.contains(SessionNo(3), 299_999) && !set.contains(SessionNo(3), 300_000));
    }

    #[test]
    fn root_packs_and_disorder_are_refused() {
        let mut root = ReferenceSet::default();
        root.insert(SessionNo(1), PackRef::ROOT);
        let bad: [&[u8]; 7] = [
            &root.encode(),
            &[2, 0],
            &[1, 1, 0, 1, 0, 0],
            &[1, 2, 1, 1, 0, 0, 0, 1, 0, 0],
            &[1, 1, 1, 0],
            &[1, 2, 1, 0, 1, 3, 0, 0, 1, 0, 1, 0],
            &[1, 1, 1, 2, 0, 0, 0, 0],
        ];
        assert!(ReferenceSet::decode(&[1, 2, 1, 1, 9, 0, 1, 3, 0, 0, 1, 0, 1, 0]).is_ok());
        for bytes in bad {
            assert!(ReferenceSet::decode(bytes).is_err(), "{bytes:?}");
        }
    }
}
