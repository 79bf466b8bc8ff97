//! Numbers of the mount's own folders and links: below 2^32, derived from their paths, never two alike.
//!
//! What always holds: the same set of paths gets the same numbers in every mount; a path that was there
//! before a change keeps its number through it.

use std::collections::{BTreeMap, BTreeSet};

/// The first number that is given out; those below are kept for the root and for later.
const FIRST: u32 = 16;

/// FNV-1a with a final mix (of MurmurHash3), so that short paths spread over all bits.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut state = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |state, byte| {
        (state ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    state ^= state >> 33;
    state = state.wrapping_mul(0xff51_afd7_ed55_8ccd);
    state ^= state >> 33;
    state = state.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    state ^ (state >> 33)
}

/// One number for each key: its hash, or the next free one. Keys of `before` keep theirs.
pub(crate) fn assign(
    keys: &BTreeSet<Vec<u8>>,
    before: &BTreeMap<Vec<u8>, u32>,
    hash: impl Fn(&[u8]) -> u64,
) -> BTreeMap<Vec<u8>, u32> {
    let mut out: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    let mut taken: BTreeSet<u32> = BTreeSet::new();
    for (key, number) in before.iter().filter(|(key, _)| keys.contains(*key)) {
        out.insert(key.clone(), *number);
        taken.insert(*number);
    }
    let span = u64::from(u32::MAX - FIRST);
    for key in keys {
        if out.contains_key(key) {
            continue;
        }
        let mut number = FIRST + (hash(key) % span) as u32;
        while !taken.insert(number) {
            number = number.checked_add(1).unwrap_or(FIRST);
        }
        out.insert(key.clone(), number);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> BTreeSet<Vec<u8>> {
        names.iter().map(|name| name.as_bytes().to_vec()).collect()
    }

    #[test]
    fn colliding_hashes_still_give_different_numbers() {
        let set = keys(&["a", "b", "c"]);
        let all = assign(&set, &BTreeMap::new(), |_| u64::from(u32::MAX - FIRST) - 1);
        let numbers: BTreeSet<u32> = all.values().copied().collect();
        assert_eq!(numbers, BTreeSet::from([u32::MAX - 1, u32::MAX, FIRST]));
        assert_eq!(all, assign(&set, &BTreeMap::new(), |_| u64::from(u32::MAX - FIRST) - 1));
    }

    #[test]
    fn numbers_are_kept_through_a_change() {
        let first = assign(&keys(&["b", "c"]), &BTreeMap::new(), |_| 5);
        let second = assign(&keys(&["a", "b", "c"]), &first, |_| 5);
        assert_eq!((second[&b"b"[..]], second[&b"c"[..]]), (first[&b"b"[..]], first[&b"c"[..]]));
        let third = assign(&keys(&["a", "c"]), &second, |_| 5);
        assert_eq!((third[&b"a"[..]], third[&b"c"[..]]), (second[&b"a"[..]], second[&b"c"[..]]));
    }

    #[test]
    fn numbers_are_those_of_earlier_mounts() {
        // Frozen: scripts and indexers remember inode numbers.
        let all = assign(&keys(&["by-device", "by-device/laptop"]), &BTreeMap::new(), hash);
        assert_eq!(all.values().copied().collect::<Vec<_>>(), [1_865_910_649, 195_133_138]);
    }
}
