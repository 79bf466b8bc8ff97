//! How many slots there may be: within the size that was given, and never the last of the disk.
//!
//! May not touch the disk but to ask how much of it is free. What always holds: what is answered leaves the share
//! free, or is less than there is now. Tested below.

use super::record::RECORD;
use crate::{BLOCK_LEN, ErrorKind, StoreError};
use std::io;
use std::path::Path;

/// Besides slots and their records: the head, and the news at their longest.
const BESIDES: u64 = RECORD as u64 + super::files::NEWS_MAX;
/// Of the disk, what stays free.
const KEEP_FREE_PERCENT: u64 = 5;

/// A disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// Bytes there are.
    pub(super) total: u64,
    /// Bytes this user may still write.
    pub(super) available: u64,
}

impl Room {
    pub(super) fn of(folder: &Path) -> io::Result<Self> {
        let is = rustix::fs::statvfs(folder)?;
        let bytes = |blocks: u64| blocks.saturating_mul(is.f_frsize);
        Ok(Self { total: bytes(is.f_blocks), available: bytes(is.f_bavail) })
    }
}

/// The size of a cache that nobody gave one, on this disk: 10 GiB or a tenth of it, whichever is less.
pub(super) fn default_size(room: Room) -> u64 {
    (10 << 30).min(room.total / 10)
}

/// Slots that fit into a size in bytes.
pub(super) fn slots_in(size: u64) -> u32 {
    let slots = size.saturating_sub(BESIDES) / (BLOCK_LEN + RECORD) as u64;
    u32::try_from(slots).unwrap_or(u32::MAX - 1).min(u32::MAX - 1)
}

/// Whether so many blocks may be pinned in a cache of this size: three quarters of it, so that the rest can be read too.
pub(super) fn fits(pinned: usize, size: u64) -> Result<(), StoreError> {
    let most = slots_in(size) as usize / 4 * 3;
    if pinned <= most {
        return Ok(());
    }
    let slot = (BLOCK_LEN + RECORD) as u64;
    let mib = |blocks: usize| (blocks as u64 * slot).div_ceil(1 << 20);
    let enough = ((pinned as u64).div_ceil(3) * 4 * slot + BESIDES).div_ceil(1 << 20);
    Err(StoreError::new(
        ErrorKind::Full,
        format!(
            "what is pinned would take {} MiB, and a cache of {} MiB keeps {} MiB of that at most: {} MiB too much \
             (a cache of {enough} MiB is large enough)",
            mib(pinned),
            size >> 20,
            (most as u64 * slot) >> 20,
            mib(pinned - most),
        ),
    ))
}

/// Slots there may be where there are `now`.
pub(super) fn allowed(size: u64, now: u32, room: Room) -> u32 {
    let slot = (BLOCK_LEN + RECORD) as u64;
    let keep = room.total / 100 * KEEP_FREE_PERCENT;
    let by_disk = match room.available.checked_sub(keep) {
        Some(more) => u64::from(now) + more / slot,
        None => u64::from(now).saturating_sub((keep - room.available).div_ceil(slot)),
    };
    slots_in(size).min(u32::try_from(by_disk).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 10 << 30;

    #[test]
    fn within_the_size_all_told() {
        for size in [0, 1, BESIDES, 1 << 20, 3 << 20, SIZE, SIZE + 1] {
            let slots = u64::from(slots_in(size));
            let used = if slots == 0 { 0 } else { slots * (BLOCK_LEN + RECORD) as u64 + BESIDES };
            assert!(used <= size, "{size}");
        }
        assert_eq!(slots_in(64 << 10), 0);
        assert!(slots_in(u64::MAX) < u32::MAX);
    }

    #[test]
    fn never_the_last_of_the_disk() {
        let total = 1 << 30;
        let keep = total / 100 * 5;
        let slot = (BLOCK_LEN + RECORD) as u64;
        let at = |now, available| allowed(SIZE, now, Room { total, available });
        assert_eq!(at(0, keep), 0);
        assert_eq!(at(0, keep + slot - 1), 0);
        assert_eq!(at(0, keep + slot), 1);
        assert_eq!(at(100, keep), 100);
        assert_eq!(at(100, keep - 1), 99, "what is missing is given back");
        assert_eq!(at(100, 0), 0);
        assert_eq!(at(100, total), 100 + u32::try_from((total - keep) / slot).unwrap());
        assert_eq!(allowed(1 << 20, 5, Room { total, available: total }), slots_in(1 << 20));
    }

    #[test]
    fn pins_that_do_not_fit_are_told_by_how_much() {
        let most = slots_in(64 << 20) as usize / 4 * 3;
        assert!(fits(most, 64 << 20).is_ok() && fits(0, 0).is_ok());
        let error = fits(most + 16, 64 << 20).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Full);
        assert!(error.message.contains(": 2 MiB too much (a cache of 66 MiB is large enough)"), "{error}");
        assert!(fits(most + 16, 66 << 20).is_ok());
        assert!(fits(1, 0).is_err());
    }

    #[test]
    fn a_real_disk_is_asked() {
        let room = Room::of(&std::env::temp_dir()).unwrap();
        assert!(room.total > 0 && room.available <= room.total);
        assert!(Room::of(Path::new("/nonexistent")).is_err());
    }
}
