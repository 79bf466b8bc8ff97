//! Taking in what the blobs say and the ledger does not know: after it was lost, or an older one was put back
//! (format.md 8.6).
//!
//! **What it may not do.** Change a record that is there, or let anything go: every session that is found counts as one
//! that ended, so that nothing a snapshot may refer to is called unused before a collection has looked.
//! **What always holds.** Numbers that may have been given are not given again; both counters move, so that whoever
//! remembers the old ones sees it. What only the ledger knew does not come back: what was in the trash is listed, nothing
//! is held, labels are those the roots tell. **Where it is tested.** Below; `tests/damage`.

use super::{LABEL_MAX, LedgerState, Moved, SessionKind, SessionRecord, SessionState, Since, SnapshotRecord};
use crate::{DeviceId, SessionNo, Timestamp};
use std::collections::BTreeMap;

/// Numbers that are passed over after those that were found: sessions that were opened and left no blob.
const PASSED_OVER: u32 = 256;

/// A session of which blobs are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundSession {
    /// Its number.
    pub session: SessionNo,
    /// Its snapshot, where its root is stored: as the root says, or with the device of zeros where it does not read.
    pub snapshot: Option<SnapshotRecord>,
    /// One more than the largest number of a pack that is stored or referred to.
    pub packs: u32,
    /// Bytes of its blobs.
    pub bytes: u64,
    /// Whether it wrote relocation packs.
    pub relocates: bool,
}

/// What was taken in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Sessions the ledger did not know.
    pub sessions: u64,
    /// Snapshots among them, which are listed now.
    pub snapshots: u64,
    /// Packs whose frames lie elsewhere.
    pub moved: u64,
}

impl LedgerState {
    /// Takes in every session of `found` that it does not know, and where packs lie that are `gone`: each with its
    /// relocation pack. Changes nothing where it knows all.
    pub fn adopt(
        &mut self,
        found: &[FoundSession],
        gone: &BTreeMap<(SessionNo, u32), (SessionNo, u32)>,
        now: Timestamp,
    ) -> Adopted {
        let mut adopted = Adopted::default();
        let seconds = u64::try_from(now.secs).unwrap_or_default();
        let counters = ((self.version + 1).max(seconds), (self.gc_epoch + 1).max(seconds));
        let mut unknown: Vec<&FoundSession> =
            found.iter().filter(|one| one.session.0 > 0 && self.session(one.session).is_none()).collect();
        unknown.sort_by_key(|one| one.session);
        unknown.dedup_by_key(|one| one.session);
        let moved: Vec<_> = gone.iter().filter(|(from, to)| self.is_lost(found, **from, **to)).collect();
        if unknown.is_empty() && moved.is_empty() {
            return adopted;
        }
        (self.version, self.gc_epoch) = counters;
        for one in unknown {
            self.take_in(one, now, &mut adopted);
        }
        self.sessions.sort_by_key(|record| record.session);
        self.snapshots.sort_by_key(|record| record.session);
        let since = Since { epoch: self.gc_epoch, at: now };
        for (from, to) in moved {
            if let Some(record) = self.session_mut(from.0) {
                record.moved.insert(from.1, Moved { to: to.0, number: to.1, since, gone: true });
                adopted.moved += 1;
            }
        }
        adopted
    }

    /// Whether a pack is known to be, or was found, and nothing says where its frames lie.
    fn is_lost(&self, found: &[FoundSession], from: (SessionNo, u32), to: (SessionNo, u32)) -> bool {
        let there = |session: SessionNo, number: u32, relocates: bool| match self.session(session) {
            Some(record) => {
                let kind = (record.kind != SessionKind::Push) == relocates;
                kind && record.state == SessionState::Committed
                    && number < record.packs
                    && !record.deleted.contains(&number)
            }
            None => found
                .iter()
                .any(|one| one.session == session && one.relocates == relocates && number < one.packs),
        };
        let known = self.session(from.0).is_some_and(|record| record.moved.contains_key(&from.1));
        !known && there(from.0, from.1, false) && there(to.0, to.1, true)
    }

    fn take_in(&mut self, one: &FoundSession, now: Timestamp, adopted: &mut Adopted) {
        let nobody = DeviceId([0; DeviceId::LEN]);
        let device = one.snapshot.as_ref().map_or(nobody, |snapshot| snapshot.device);
        let kind = if one.relocates { SessionKind::Heal } else { SessionKind::Push };
        self.sessions.push(SessionRecord {
            state: SessionState::Committed,
            packs: one.packs,
            bytes: one.bytes,
            kind,
            acked: self.gc_epoch,
            ..SessionRecord::new(one.session, device, now)
        });
        self.last_session = self.last_session.max(one.session.0.saturating_add(PASSED_OVER));
        adopted.sessions += 1;
        let fits = |snapshot: &&SnapshotRecord| {
            snapshot.session == one.session && snapshot.label.len() <= LABEL_MAX && !one.relocates
        };
        if let Some(snapshot) = one.snapshot.as_ref().filter(fits) {
            self.snapshots.push(snapshot.clone());
            adopted.snapshots += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Commit, Haste, Move, PackRun};
    use super::*;
    use crate::SnapshotId;

    const ME: DeviceId = DeviceId([1; 16]);
    const NOW: Timestamp = Timestamp { secs: 5000, nanos: 0 };

    fn snapshot(session: u32) -> SnapshotRecord {
        SnapshotRecord {
            session: SessionNo(session),
            id: SnapshotId([session as u8; 8]),
            device: ME,
            created: NOW,
            root_size: 64,
            head_len: 10,
            label: vec![1],
        }
    }

    fn pushed(session: u32) -> FoundSession {
        let snapshot = Some(snapshot(session));
        FoundSession { session: SessionNo(session), snapshot, packs: 2, bytes: 9, relocates: false }
    }

    fn relocation(session: u32) -> FoundSession {
        FoundSession { snapshot: None, relocates: true, ..pushed(session) }
    }

    fn at(session: u32, number: u32) -> (SessionNo, u32) {
        (SessionNo(session), number)
    }

    #[test]
    fn an_empty_ledger_takes_everything_in() {
        let mut ledger = LedgerState::default();
        let left = FoundSession { snapshot: None, ..pushed(4) };
        let gone = BTreeMap::from([(at(2, 1), at(9, 0)), (at(2, 7), at(9, 0)), (at(2, 0), at(4, 0))]);
        let adopted = ledger.adopt(&[pushed(7), pushed(2), relocation(9), left, pushed(0)], &gone, NOW);
        assert_eq!(adopted, Adopted { sessions: 4, snapshots: 2, moved: 1 });
        assert_eq!((ledger.version, ledger.gc_epoch), (5000, 5000));
        assert_eq!(ledger.snapshots.iter().map(|s| s.session.0).collect::<Vec<_>>(), [2, 7]);
        assert!(ledger.sessions.iter().all(|s| s.state == SessionState::Committed));
        assert_eq!(ledger.session(SessionNo(9)).unwrap().kind, SessionKind::Heal);
        let moved = ledger.session(SessionNo(2)).unwrap().moved[&1];
        assert_eq!((moved.to, moved.number, moved.gone), (SessionNo(9), 0, true));
        // Numbers that were given and left nothing are not given again.
        assert!(ledger.open(ME, SessionKind::Push, NOW).unwrap().0 > 200);
        let before = ledger.clone();
        let adopted = ledger.adopt(&[pushed(7), pushed(2), relocation(9)], &gone, NOW);
        assert_eq!((adopted, ledger), (Adopted::default(), before));
    }

    #[test]
    fn what_a_ledger_knows_stays_as_it_is() {
        let mut ledger = LedgerState::default();
        for _ in 0..2 {
            let session = ledger.open(ME, SessionKind::Push, NOW).unwrap();
            let snapshot = SnapshotRecord { label: vec![7; 9], ..snapshot(session.0) };
            let commit =
                Commit { snapshot, packs: 3, bytes: 1, meta_packs: Vec::new(), gc_epoch: None, hold: None };
            ledger.commit(ME, &commit).unwrap();
        }
        ledger.trash(&[SessionNo(2)], NOW).unwrap();
        ledger
            .retire(ledger.counters(), &[PackRun { session: SessionNo(1), from: 2, count: 1 }], NOW)
            .unwrap();
        let before = ledger.clone();
        let adopted = ledger.adopt(&[pushed(1), pushed(2), pushed(3)], &BTreeMap::new(), NOW);
        assert_eq!((adopted.sessions, adopted.snapshots), (1, 1));
        assert_eq!((&ledger.trash, &ledger.sessions[..2]), (&before.trash, &before.sessions[..]));
        assert_eq!(ledger.snapshots[0], before.snapshots[0]);
        assert!(ledger.version > before.version && ledger.gc_epoch > before.gc_epoch);
    }

    #[test]
    fn a_pack_lies_where_the_ledger_says_and_not_where_it_was_deleted() {
        let mut ledger = LedgerState::default();
        ledger.adopt(&[pushed(1), relocation(2), relocation(3)], &BTreeMap::new(), NOW);
        let to = |session| Move { from: at(1, 0), to: at(session, 0) };
        ledger.relocate(ledger.counters(), &[to(3)], NOW).unwrap();
        let run = PackRun { session: SessionNo(1), from: 1, count: 1 };
        ledger.retire(ledger.counters(), &[run], NOW).unwrap();
        ledger.purge(&[run], NOW, Haste::Now, &|_, _| 1).unwrap();
        let gone = BTreeMap::from([(at(1, 0), at(2, 0)), (at(1, 1), at(2, 0))]);
        assert_eq!(ledger.adopt(&[], &gone, NOW), Adopted::default());
        assert_eq!(ledger.session(SessionNo(1)).unwrap().moved[&0].to, SessionNo(3));
    }

    /// A ledger that knows: 1, a push; 2, a relocation; 3 and 5, these two kinds, still open; 4, a relocation, and 6, a
    /// push, of which the first pack was deleted.
    fn that_knows_some() -> LedgerState {
        let mut ledger = LedgerState::default();
        ledger.adopt(&[pushed(1), relocation(2), pushed(6), relocation(4)], &BTreeMap::new(), NOW);
        for (session, kind) in [(3, SessionKind::Push), (5, SessionKind::Compact)] {
            let record = SessionRecord { kind, packs: 2, ..SessionRecord::new(SessionNo(session), ME, NOW) };
            ledger.sessions.push(record);
        }
        ledger.sessions.sort_by_key(|record| record.session);
        for session in [4, 6] {
            ledger.session_mut(SessionNo(session)).unwrap().deleted.insert(0..1);
        }
        ledger
    }

    #[test]
    fn only_packs_that_are_there_are_moved_and_only_to_relocation_packs_that_are_there() {
        let known = that_knows_some();
        let found = [pushed(7), relocation(8)];
        let mut all = known.clone();
        all.adopt(&found, &BTreeMap::new(), NOW);
        let cases = [
            // Both known, both found, one of each.
            (at(1, 0), at(2, 0), true),
            (at(1, 1), at(2, 1), true),
            (at(7, 0), at(8, 0), true),
            (at(7, 1), at(8, 1), true),
            (at(1, 0), at(8, 1), true),
            (at(7, 1), at(2, 0), true),
            // Beyond the last pack.
            (at(1, 2), at(2, 0), false),
            (at(1, 0), at(2, 2), false),
            (at(7, 2), at(8, 0), false),
            (at(7, 0), at(8, 2), false),
            // Sessions of the wrong kind.
            (at(1, 0), at(1, 1), false),
            (at(2, 0), at(2, 1), false),
            (at(7, 0), at(7, 1), false),
            (at(8, 0), at(8, 1), false),
            (at(1, 0), at(7, 0), false),
            (at(8, 0), at(2, 0), false),
            // Sessions that did not end, and such that nobody knows.
            (at(3, 0), at(2, 0), false),
            (at(1, 0), at(5, 0), false),
            (at(9, 0), at(2, 0), false),
            (at(9, 0), at(8, 0), false),
            (at(1, 0), at(9, 0), false),
            (at(7, 0), at(9, 0), false),
            // Deleted packs, and their neighbours.
            (at(6, 0), at(2, 0), false),
            (at(6, 1), at(2, 0), true),
            (at(1, 0), at(4, 0), false),
            (at(1, 0), at(4, 1), true),
        ];
        for (from, to, lost) in cases {
            let mut ledger = known.clone();
            let adopted = ledger.adopt(&found, &BTreeMap::from([(from, to)]), NOW);
            assert_eq!(adopted, Adopted { sessions: 2, snapshots: 1, moved: u64::from(lost) }, "{from:?}");
            let moved = ledger.session(from.0).and_then(|record| record.moved.get(&from.1));
            assert_eq!(moved.map(|moved| (moved.to, moved.number)), lost.then_some(to), "{from:?} {to:?}");
            // Once more, where nothing but the move is new.
            let mut ledger = all.clone();
            let adopted = ledger.adopt(&found, &BTreeMap::from([(from, to)]), NOW);
            assert_eq!(adopted, Adopted { moved: u64::from(lost), ..Adopted::default() }, "{from:?} {to:?}");
            let step = u64::from(lost);
            assert_eq!((ledger.version, ledger.gc_epoch), (all.version + step, all.gc_epoch + step));
        }
    }

    #[test]
    fn counters_move_also_where_they_are_ahead_of_the_clock() {
        let mut ledger = LedgerState { version: 9000, gc_epoch: 7000, ..LedgerState::default() };
        ledger.adopt(&[pushed(1)], &BTreeMap::new(), NOW);
        assert_eq!((ledger.version, ledger.gc_epoch), (9001, 7001));
        // A clock before 1970 says nothing.
        ledger.adopt(&[pushed(2)], &BTreeMap::new(), Timestamp { secs: -5, nanos: 0 });
        assert_eq!((ledger.version, ledger.gc_epoch), (9002, 7002));
    }

    #[test]
    fn sessions_come_with_what_was_found_of_them() {
        let mut ledger = LedgerState::default();
        ledger.adopt(&[pushed(5)], &BTreeMap::new(), NOW);
        let other = FoundSession { packs: 3, bytes: 77, ..pushed(2) };
        let found = [other.clone(), other, FoundSession { snapshot: None, ..pushed(3) }];
        let adopted = ledger.adopt(&found, &BTreeMap::new(), NOW);
        assert_eq!(adopted, Adopted { sessions: 2, snapshots: 1, moved: 0 });
        let said = |record: &SessionRecord| (record.session.0, record.packs, record.bytes, record.device);
        let nobody = DeviceId([0; 16]);
        let sessions = ledger.sessions.iter().map(said).collect::<Vec<_>>();
        assert_eq!(sessions, [(2, 3, 77, ME), (3, 2, 9, nobody), (5, 2, 9, ME)]);
        assert_eq!(ledger.snapshots.iter().map(|s| s.session.0).collect::<Vec<_>>(), [2, 5]);
        // Nothing of them was there at a collection of before.
        assert_eq!(ledger.session(SessionNo(2)).unwrap().acked, ledger.gc_epoch);
        assert_eq!(ledger.last_session, 5 + PASSED_OVER);
        ledger.adopt(&[pushed(u32::MAX)], &BTreeMap::new(), NOW);
        assert_eq!(ledger.open(ME, SessionKind::Push, NOW), Err(super::super::RuleBroken::NumbersUsedUp));
    }

    #[test]
    fn a_snapshot_is_listed_where_its_root_fits_its_session() {
        let labelled = |len| {
            let snapshot = SnapshotRecord { label: vec![7; len], ..snapshot(1) };
            FoundSession { snapshot: Some(snapshot), ..pushed(1) }
        };
        let other = FoundSession { snapshot: Some(snapshot(2)), ..pushed(1) };
        let relocates = FoundSession { relocates: true, ..pushed(1) };
        for (found, listed) in
            [(labelled(LABEL_MAX), 1), (labelled(LABEL_MAX + 1), 0), (other, 0), (relocates, 0)]
        {
            let mut ledger = LedgerState::default();
            let adopted = ledger.adopt(&[found], &BTreeMap::new(), NOW);
            assert_eq!((adopted.sessions, adopted.snapshots), (1, listed));
            assert_eq!(ledger.snapshots.len() as u64, listed);
        }
    }
}
