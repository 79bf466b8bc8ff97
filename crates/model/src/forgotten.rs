//! Newest snapshots of a device that an owner let go: what tells an owner's decision from a list that hides something.
//!
//! A device remembers the newest session it has seen of each other one, and refuses a list that does not reach so far.
//! Where an owner forgets just these snapshots, the list says so in a sealed label of one that stays: whoever has no keys
//! cannot say it. May not know labels. What always holds: an entry excuses nothing but the sessions it names. Tested
//! below; with a server that lies in `tests/hostile`.

use crate::{DeviceId, SessionNo};
use std::collections::{BTreeMap, BTreeSet};

/// The sessions of a device after `stays`, up to `gone`, were forgotten, and were its newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Forgotten {
    /// Whose.
    pub device: DeviceId,
    /// Its newest session that stayed; 0 where none did.
    pub stays: SessionNo,
    /// Its newest session that went.
    pub gone: SessionNo,
}

impl Forgotten {
    /// How far a list has to reach for who has seen `seen` of `device`: its newest session that was not forgotten.
    /// Session 0 where the device need not be listed at all.
    pub fn needed(all: &[Self], device: DeviceId, seen: SessionNo) -> SessionNo {
        let mut needed = seen;
        // Each step goes down, so that it ends.
        while let Some(entry) =
            all.iter().find(|e| e.device == device && e.stays < needed && needed <= e.gone)
        {
            needed = entry.stays;
        }
        needed
    }

    /// What has to be said once the snapshots in `going` are gone from `live` (device and session of each), where
    /// `before` was said until now: by device, once each, and only where a device's newest are concerned.
    pub fn after(before: &[Self], live: &[(DeviceId, SessionNo)], going: &BTreeSet<SessionNo>) -> Vec<Self> {
        let mut gone: BTreeMap<DeviceId, SessionNo> = BTreeMap::new();
        let mut stays: BTreeMap<DeviceId, SessionNo> = BTreeMap::new();
        let went = live.iter().filter(|(_, session)| going.contains(session)).copied();
        for (device, session) in went.chain(before.iter().map(|entry| (entry.device, entry.gone))) {
            let newest = gone.entry(device).or_insert(session);
            *newest = session.max(*newest);
        }
        for (device, session) in live.iter().filter(|(_, session)| !going.contains(session)) {
            let newest = stays.entry(*device).or_insert(*session);
            *newest = (*session).max(*newest);
        }
        gone.into_iter()
            .map(|(device, gone)| {
                let stays = stays.get(&device).copied().unwrap_or(SessionNo(0));
                Self { device, stays, gone }
            })
            .filter(|entry| entry.stays < entry.gone)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: DeviceId = DeviceId([1; 16]);
    const B: DeviceId = DeviceId([2; 16]);

    fn entry(device: DeviceId, stays: u32, gone: u32) -> Forgotten {
        Forgotten { device, stays: SessionNo(stays), gone: SessionNo(gone) }
    }

    fn after(before: &[Forgotten], live: &[(DeviceId, u32)], going: &[u32]) -> Vec<Forgotten> {
        let live: Vec<_> = live.iter().map(|(device, session)| (*device, SessionNo(*session))).collect();
        Forgotten::after(before, &live, &going.iter().copied().map(SessionNo).collect())
    }

    #[test]
    fn only_what_is_named_is_excused() {
        let needed = |all: &[Forgotten], seen| Forgotten::needed(all, A, SessionNo(seen)).0;
        assert_eq!(needed(&[], 8), 8);
        let all = [entry(A, 6, 8)];
        assert_eq!([6, 7, 8, 9].map(|seen| needed(&all, seen)), [6, 6, 6, 9]);
        assert_eq!(needed(&[entry(B, 6, 8)], 8), 8);
        assert_eq!(needed(&[entry(A, 0, 8)], 8), 0);
        // One after the other, in whatever order they are found.
        assert_eq!(needed(&[entry(A, 6, 7), entry(A, 7, 8)], 8), 6);
        assert_eq!(needed(&[entry(A, 7, 8), entry(A, 3, 7)], 8), 3);
        // Nonsense ends as well.
        assert_eq!(needed(&[entry(A, 9, 3), entry(A, 8, 8)], 8), 8);
    }

    #[test]
    fn only_the_newest_of_a_device_are_said() {
        let live = [(A, 1), (B, 2), (A, 3), (A, 5)];
        assert_eq!(after(&[], &live, &[1, 3]), []);
        assert_eq!(after(&[], &live, &[5]), [entry(A, 3, 5)]);
        assert_eq!(after(&[], &live, &[5, 3]), [entry(A, 1, 5)]);
        assert_eq!(after(&[], &live, &[2]), [entry(B, 0, 2)]);
        assert_eq!(after(&[], &live, &[1, 2, 3, 5]), [entry(A, 0, 5), entry(B, 0, 2)]);
    }

    #[test]
    fn what_was_said_goes_on_until_the_device_has_moved_on() {
        let said = [entry(A, 3, 5)];
        assert_eq!(after(&said, &[(A, 1), (A, 3)], &[]), said);
        assert_eq!(after(&said, &[(A, 1), (A, 3)], &[3]), [entry(A, 1, 5)]);
        assert_eq!(after(&said, &[(A, 3), (A, 7)], &[]), []);
        assert_eq!(after(&said, &[(A, 3), (A, 7)], &[7]), [entry(A, 3, 7)]);
        // Brought back.
        assert_eq!(after(&said, &[(A, 3), (A, 5)], &[]), []);
        assert_eq!(after(&[entry(A, 3, 5)], &[(A, 3), (A, 4)], &[]), [entry(A, 4, 5)]);
    }
}
