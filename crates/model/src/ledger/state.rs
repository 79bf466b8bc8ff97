//! Everything a ledger says at one moment; sessions and commits.
//!
//! **What always holds.** Session numbers rise; a commit word for word the same is no error, any other second one is.
//! **Where it is tested.** Below.

use super::collect::GRACE_SECS;
use super::{
    Commit, Counters, EnvelopeNo, LABEL_MAX, Lease, RuleBroken, SessionKind, SessionRecord, SessionState,
    SnapshotRecord, Trashed,
};
use crate::{DeviceId, SessionNo, Timestamp};
use std::collections::BTreeSet;

/// Everything the ledger says, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerState {
    /// The number the next session gets is one more.
    pub last_session: u32,
    /// Moves with every change of `snapshots`, `trash` and `held`.
    pub version: u64,
    /// Moves whenever packs are retired, brought back or moved.
    pub gc_epoch: u64,
    /// Sessions, by number.
    pub sessions: Vec<SessionRecord>,
    /// Live snapshots, by session number.
    pub snapshots: Vec<SnapshotRecord>,
    /// Snapshots that can still be brought back, by session number.
    pub trash: Vec<Trashed>,
    /// Snapshots nobody may remove, live ones and such in the trash.
    pub held: BTreeSet<SessionNo>,
    /// Which snapshots are mounted.
    pub leases: Vec<Lease>,
    /// Numbers of the key envelopes that count, ascending. `None` until they are changed for the first time: then all
    /// that are stored count.
    pub envelopes: Option<Vec<EnvelopeNo>>,
}

impl LedgerState {
    /// Both counters.
    pub fn counters(&self) -> Counters {
        Counters { version: self.version, gc_epoch: self.gc_epoch }
    }

    /// The record of a session.
    pub fn session(&self, number: SessionNo) -> Option<&SessionRecord> {
        let at = self.sessions.binary_search_by_key(&number, |s| s.session).ok()?;
        self.sessions.get(at)
    }

    pub(super) fn session_mut(&mut self, number: SessionNo) -> Option<&mut SessionRecord> {
        let at = self.sessions.binary_search_by_key(&number, |s| s.session).ok()?;
        self.sessions.get_mut(at)
    }

    /// Opens a session: the next number, never one that was given before.
    ///
    /// # Errors
    /// [`RuleBroken::NumbersUsedUp`].
    pub fn open(
        &mut self,
        device: DeviceId,
        kind: SessionKind,
        now: Timestamp,
    ) -> Result<SessionNo, RuleBroken> {
        let next = self.last_session.checked_add(1).ok_or(RuleBroken::NumbersUsedUp)?;
        self.last_session = next;
        let session = SessionNo(next);
        let acked = self.gc_epoch;
        self.sessions.push(SessionRecord { kind, acked, ..SessionRecord::new(session, device, now) });
        Ok(session)
    }

    /// Ends an open session of `device` in a snapshot.
    ///
    /// Repeating a commit that already happened, word for word, is no error: the answer may have been lost.
    ///
    /// # Errors
    /// [`RuleBroken`] where the session is unknown, another device's, or ended otherwise; `CountersMoved` where packs
    /// were retired or moved that the writer does not know of.
    pub fn commit(&mut self, device: DeviceId, commit: &Commit) -> Result<(), RuleBroken> {
        let number = commit.snapshot.session;
        if commit.snapshot.device != device {
            return Err(RuleBroken::WrongSession);
        }
        if commit.snapshot.label.len() > LABEL_MAX {
            return Err(RuleBroken::LabelTooLong);
        }
        let record = self.session(number).filter(|s| s.device == device).ok_or(RuleBroken::UnknownSession)?;
        match record.state {
            SessionState::Committed if self.snapshots.contains(&commit.snapshot) => return Ok(()),
            SessionState::Open if record.kind == SessionKind::Push => {}
            _ => return Err(RuleBroken::NotOpen),
        }
        self.end(number, commit.packs, commit.bytes, commit.gc_epoch)?;
        let at = self.snapshots.partition_point(|s| s.session < number);
        self.snapshots.insert(at, commit.snapshot.clone());
        let trashed = self.trash.iter().map(|trashed| &trashed.snapshot);
        let own = self.snapshots.iter().chain(trashed).filter(|snapshot| snapshot.device == device);
        let held = own.map(|snapshot| snapshot.session).find(|session| Some(*session) == commit.hold);
        self.held.extend(held);
        self.version += 1;
        Ok(())
    }

    /// Ends an open session of `device` that makes no snapshot: its packs count from now on.
    ///
    /// # Errors
    /// [`RuleBroken`] where the session is unknown, another device's, ended, or one of a push; `CountersMoved` as at a
    /// commit.
    pub fn end_relocation(
        &mut self,
        device: DeviceId,
        session: SessionNo,
        packs: u32,
        bytes: u64,
    ) -> Result<(), RuleBroken> {
        let record =
            self.session(session).filter(|s| s.device == device).ok_or(RuleBroken::UnknownSession)?;
        match record.state {
            SessionState::Committed if (record.packs, record.bytes) == (packs, bytes) => return Ok(()),
            SessionState::Open if record.kind != SessionKind::Push => {}
            _ => return Err(RuleBroken::NotOpen),
        }
        // It refers to nothing: what was retired meanwhile is no matter.
        self.end(session, packs, bytes, Some(self.gc_epoch))
    }

    fn end(
        &mut self,
        session: SessionNo,
        packs: u32,
        bytes: u64,
        acked: Option<u64>,
    ) -> Result<(), RuleBroken> {
        let epoch = self.gc_epoch;
        let record = self.session_mut(session).ok_or(RuleBroken::UnknownSession)?;
        if acked.unwrap_or(record.acked) != epoch {
            return Err(RuleBroken::CountersMoved);
        }
        record.state = SessionState::Committed;
        record.acked = epoch;
        (record.packs, record.bytes) = (packs, bytes);
        Ok(())
    }

    /// Ends what gave no sign of life for [`GRACE_SECS`]. `seen` is when something was last stored of a session.
    pub fn expire(&mut self, now: Timestamp, seen: &dyn Fn(SessionNo) -> Option<Timestamp>) {
        for record in self.sessions.iter_mut().filter(|s| s.state == SessionState::Open) {
            let alive = seen(record.session).map_or(record.opened, |at| at.max(record.opened));
            if alive.secs.saturating_add(GRACE_SECS) <= now.secs {
                record.state = SessionState::Expired;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Moved, Since};
    use super::*;
    use crate::SnapshotId;

    const ME: DeviceId = DeviceId([1; 16]);
    const OTHER: DeviceId = DeviceId([2; 16]);

    fn commit(session: SessionNo, device: DeviceId) -> Commit {
        Commit {
            snapshot: SnapshotRecord {
                session,
                id: SnapshotId([9; 8]),
                device,
                created: Timestamp::default(),
                root_size: 4096,
                head_len: 100,
                label: Vec::new(),
            },
            packs: 2,
            bytes: 7,
            meta_packs: Vec::new(),
            gc_epoch: None,
            hold: None,
        }
    }

    #[test]
    fn numbers_are_never_given_twice() {
        let mut ledger = LedgerState::default();
        let first = ledger.open(ME, SessionKind::Push, Timestamp::default()).unwrap();
        let second = ledger.open(OTHER, SessionKind::Push, Timestamp::default()).unwrap();
        assert_eq!((first, second), (SessionNo(1), SessionNo(2)));
        ledger.last_session = u32::MAX;
        assert_eq!(ledger.open(ME, SessionKind::Push, Timestamp::default()), Err(RuleBroken::NumbersUsedUp));
    }

    #[test]
    fn only_the_commit_makes_a_snapshot() {
        let mut ledger = LedgerState::default();
        let session = ledger.open(ME, SessionKind::Push, Timestamp::default()).unwrap();
        assert!(ledger.snapshots.is_empty());
        assert_eq!(ledger.commit(OTHER, &commit(session, OTHER)), Err(RuleBroken::UnknownSession));
        assert_eq!(ledger.commit(OTHER, &commit(session, ME)), Err(RuleBroken::WrongSession));
        let mut long = commit(session, ME);
        long.snapshot.label = vec![0; LABEL_MAX + 1];
        assert_eq!(ledger.commit(ME, &long), Err(RuleBroken::LabelTooLong));
        ledger.commit(ME, &commit(session, ME)).unwrap();
        assert_eq!((ledger.snapshots.len(), ledger.version), (1, 1));
        // The answer was lost and the device asks again: nothing changes.
        ledger.commit(ME, &commit(session, ME)).unwrap();
        assert_eq!((ledger.snapshots.len(), ledger.version), (1, 1));
        let mut other = commit(session, ME);
        other.snapshot.head_len += 1;
        assert_eq!(ledger.commit(ME, &other), Err(RuleBroken::NotOpen));
    }

    #[test]
    fn snapshots_stand_in_the_order_of_their_sessions() {
        let mut ledger = LedgerState { gc_epoch: 4, ..LedgerState::default() };
        let all: Vec<SessionNo> =
            (0..3).map(|_| ledger.open(ME, SessionKind::Push, Timestamp::default()).unwrap()).collect();
        assert!(ledger.sessions.iter().all(|record| record.acked == 4));
        for at in [1, 2, 0] {
            let mut made = commit(all[at], ME);
            made.gc_epoch = Some(4);
            made.snapshot.label = vec![1; LABEL_MAX];
            ledger.commit(ME, &made).unwrap();
        }
        let listed: Vec<SessionNo> = ledger.snapshots.iter().map(|snapshot| snapshot.session).collect();
        assert_eq!(listed, all);
    }

    #[test]
    fn a_session_ends_as_what_it_was_opened_for() {
        let mut ledger = LedgerState::default();
        let push = ledger.open(ME, SessionKind::Push, Timestamp::default()).unwrap();
        let copies = ledger.open(ME, SessionKind::Compact, Timestamp::default()).unwrap();
        assert_eq!(ledger.commit(ME, &commit(copies, ME)), Err(RuleBroken::NotOpen));
        assert_eq!(ledger.end_relocation(ME, push, 1, 1), Err(RuleBroken::NotOpen));
        ledger.end_relocation(ME, copies, 2, 7).unwrap();
        // The answer was lost; with other figures it is another end.
        ledger.end_relocation(ME, copies, 2, 7).unwrap();
        assert_eq!(ledger.end_relocation(ME, copies, 2, 8), Err(RuleBroken::NotOpen));
        assert_eq!(ledger.end_relocation(ME, copies, 3, 7), Err(RuleBroken::NotOpen));
        assert_eq!(ledger.end_relocation(OTHER, copies, 2, 7), Err(RuleBroken::UnknownSession));
    }

    #[test]
    fn what_is_retired_gone_or_moved_is_going() {
        let mut record = SessionRecord::new(SessionNo(1), ME, Timestamp::default());
        assert!(!record.is_going(3));
        record.deleted.insert(3..4);
        record.retired.insert(5..6, Since::default());
        let since = Since::default();
        record.moved.insert(7, Moved { to: SessionNo(2), number: 0, since, gone: false });
        let going: Vec<u32> = (0..9).filter(|number| record.is_going(*number)).collect();
        assert_eq!(going, [3, 5, 7]);
        let mut snapshot = commit(SessionNo(1), ME).snapshot;
        assert!(!snapshot.is_rebuilt());
        snapshot.device = DeviceId([0; 16]);
        assert!(snapshot.is_rebuilt());
    }

    /// More is kept by it and nothing less: it can be said by a device that may not let go.
    #[test]
    fn a_commit_holds_a_snapshot_of_its_own_device_and_no_other() {
        let mut ledger = LedgerState::default();
        let push = |ledger: &mut LedgerState, device, hold| {
            let session = ledger.open(device, SessionKind::Push, Timestamp::default()).unwrap();
            ledger.commit(device, &Commit { hold, ..commit(session, device) }).unwrap();
            session
        };
        let first = push(&mut ledger, ME, None);
        let other = push(&mut ledger, OTHER, Some(first));
        push(&mut ledger, ME, Some(other));
        push(&mut ledger, ME, Some(SessionNo(99)));
        assert!(ledger.held.is_empty(), "another device's, and one that is not there");
        ledger.trash(&[first], Timestamp::default()).unwrap();
        let version = ledger.version;
        push(&mut ledger, ME, Some(first));
        assert_eq!(ledger.held.iter().copied().collect::<Vec<_>>(), [first], "from the trash as well");
        assert_eq!(ledger.version, version + 1);
    }

    #[test]
    fn a_commit_knows_of_everything_that_was_retired() {
        let mut ledger = LedgerState::default();
        let session = ledger.open(ME, SessionKind::Push, Timestamp::default()).unwrap();
        ledger.gc_epoch = 3;
        assert_eq!(ledger.commit(ME, &commit(session, ME)), Err(RuleBroken::CountersMoved));
        let taken_in = |epoch| Commit { gc_epoch: Some(epoch), ..commit(session, ME) };
        for other in [2, 4] {
            assert_eq!(ledger.commit(ME, &taken_in(other)), Err(RuleBroken::CountersMoved));
        }
        assert!(ledger.snapshots.is_empty());
        ledger.commit(ME, &taken_in(3)).unwrap();
        assert_eq!(ledger.session(session).unwrap().acked, 3);
    }

    #[test]
    fn only_what_is_silent_expires() {
        let mut ledger = LedgerState::default();
        let at = |secs| Timestamp { secs, nanos: 0 };
        let sessions: Vec<_> =
            (0..3).map(|_| ledger.open(ME, SessionKind::Push, at(1000)).unwrap()).collect();
        ledger.commit(ME, &commit(sessions[0], ME)).unwrap();
        let seen = |session| (session == sessions[2]).then_some(at(5000));
        ledger.expire(at(1000 + GRACE_SECS - 1), &seen);
        assert!(ledger.sessions.iter().all(|s| s.state != SessionState::Expired));
        ledger.expire(at(1000 + GRACE_SECS), &seen);
        let states: Vec<_> = ledger.sessions.iter().map(|s| s.state).collect();
        assert_eq!(states, [SessionState::Committed, SessionState::Expired, SessionState::Open]);
        assert_eq!(ledger.commit(ME, &commit(sessions[1], ME)), Err(RuleBroken::NotOpen));
    }
}
