//! What an owner decides: which snapshots go, which stay. And which are mounted.
//!
//! **What it may not do.** Delete: a snapshot in the trash is as good as live for a collection until its time is over.
//! **What always holds.** What is in the trash keeps its time; what is held goes nowhere. **Where it is tested.** Below.

use super::{LABEL_MAX, LedgerState, RuleBroken, SnapshotRecord};
use crate::{SessionNo, Timestamp};

/// Days a forgotten snapshot can be brought back.
pub const TRASH_DAYS: u32 = 14;

/// A snapshot in the trash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trashed {
    /// It.
    pub snapshot: SnapshotRecord,
    /// Until then it can be brought back.
    pub purge_after: Timestamp,
}

/// A snapshot that is not gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// It.
    pub snapshot: SnapshotRecord,
    /// In the trash until then; `None` where it is live.
    pub purge_after: Option<Timestamp>,
    /// Nobody may remove it.
    pub held: bool,
}

/// What a mount keeps from being purged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Drawn by who holds it.
    pub id: [u8; 16],
    /// Until then, unless it is renewed.
    pub expires: Timestamp,
    /// Snapshots it has opened, by number.
    pub snapshots: Vec<SessionNo>,
}

/// How long a lease lasts, in seconds.
const LEASE_SECS: i64 = 60 * 60;

impl LedgerState {
    /// Everything that is not gone, by session number.
    pub fn kept(&self) -> Vec<Kept> {
        let held = |s: &SnapshotRecord| self.held.contains(&s.session);
        let live =
            self.snapshots.iter().map(|s| Kept { snapshot: s.clone(), purge_after: None, held: held(s) });
        let trashed = self.trash.iter().map(|t| Kept {
            snapshot: t.snapshot.clone(),
            purge_after: Some(t.purge_after),
            held: held(&t.snapshot),
        });
        let mut all: Vec<Kept> = live.chain(trashed).collect();
        all.sort_by_key(|kept| kept.snapshot.session);
        all
    }

    fn need(&self, sessions: &[SessionNo]) -> Result<(), RuleBroken> {
        let there = |session: &SessionNo| {
            self.snapshots.iter().any(|s| s.session == *session)
                || self.trash.iter().any(|t| t.snapshot.session == *session)
        };
        if sessions.iter().all(there) { Ok(()) } else { Err(RuleBroken::UnknownSnapshot) }
    }

    /// Puts snapshots into the trash; what is there already keeps its time. All of them or none.
    ///
    /// # Errors
    /// `UnknownSnapshot`, `Held`.
    pub fn trash(&mut self, sessions: &[SessionNo], now: Timestamp) -> Result<(), RuleBroken> {
        self.need(sessions)?;
        if sessions.iter().any(|session| self.held.contains(session)) {
            return Err(RuleBroken::Held);
        }
        let secs = now.secs.saturating_add(i64::from(TRASH_DAYS) * 24 * 60 * 60);
        let purge_after = Timestamp { secs, ..now };
        let before = self.trash.len();
        let goes = |s: &SnapshotRecord| sessions.contains(&s.session);
        self.trash.extend(
            self.snapshots.extract_if(.., |s| goes(s)).map(|snapshot| Trashed { snapshot, purge_after }),
        );
        self.trash.sort_by_key(|t| t.snapshot.session);
        self.version += u64::from(self.trash.len() != before);
        Ok(())
    }

    /// Brings snapshots back from the trash. All of them or none.
    ///
    /// # Errors
    /// `UnknownSnapshot`.
    pub fn untrash(&mut self, sessions: &[SessionNo]) -> Result<(), RuleBroken> {
        self.need(sessions)?;
        let before = self.snapshots.len();
        let comes = |t: &Trashed| sessions.contains(&t.snapshot.session);
        self.snapshots.extend(self.trash.extract_if(.., |t| comes(t)).map(|t| t.snapshot));
        self.snapshots.sort_by_key(|s| s.session);
        self.version += u64::from(self.snapshots.len() != before);
        Ok(())
    }

    /// Holds snapshots against removal, or lets them go.
    ///
    /// # Errors
    /// `UnknownSnapshot`.
    pub fn hold(&mut self, sessions: &[SessionNo], hold: bool) -> Result<(), RuleBroken> {
        self.need(sessions)?;
        let mut changed = false;
        for session in sessions {
            changed |= if hold { self.held.insert(*session) } else { self.held.remove(session) };
        }
        self.version += u64::from(changed);
        Ok(())
    }

    /// Replaces a sealed label.
    ///
    /// # Errors
    /// `UnknownSnapshot`, `LabelTooLong`.
    pub fn relabel(&mut self, session: SessionNo, label: &[u8]) -> Result<(), RuleBroken> {
        if label.len() > LABEL_MAX {
            return Err(RuleBroken::LabelTooLong);
        }
        let all = self.snapshots.iter_mut().chain(self.trash.iter_mut().map(|t| &mut t.snapshot));
        let found = all.into_iter().find(|s| s.session == session).ok_or(RuleBroken::UnknownSnapshot)?;
        if found.label != label {
            label.clone_into(&mut found.label);
            self.version += 1;
        }
        Ok(())
    }

    /// Makes a lease or renews it: what was opened before and what is opened now stays for an hour.
    pub fn lease(&mut self, id: [u8; 16], opened: &[SessionNo], now: Timestamp) {
        let expires = Timestamp { secs: now.secs.saturating_add(LEASE_SECS), ..now };
        let at = self.leases.iter().position(|lease| lease.id == id).unwrap_or_else(|| {
            self.leases.push(Lease { id, expires, snapshots: Vec::new() });
            self.leases.len() - 1
        });
        let lease = &mut self.leases[at];
        lease.expires = expires;
        lease.snapshots.extend_from_slice(opened);
        lease.snapshots.sort_unstable();
        lease.snapshots.dedup();
    }

    /// Ends a lease.
    pub fn release(&mut self, id: [u8; 16]) {
        self.leases.retain(|lease| lease.id != id);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Commit, SessionKind};
    use super::*;
    use crate::{DeviceId, SnapshotId};

    const ME: DeviceId = DeviceId([1; 16]);
    const NOW: Timestamp = Timestamp { secs: 1000, nanos: 7 };

    fn three() -> (LedgerState, Vec<SessionNo>) {
        let mut ledger = LedgerState::default();
        let mut one = || {
            let session = ledger.open(ME, SessionKind::Push, NOW).unwrap();
            let snapshot = SnapshotRecord {
                session,
                id: SnapshotId([session.0 as u8; 8]),
                device: ME,
                created: NOW,
                root_size: 64,
                head_len: 10,
                label: Vec::new(),
            };
            let commit =
                Commit { snapshot, packs: 1, bytes: 1, meta_packs: Vec::new(), gc_epoch: None, hold: None };
            ledger.commit(ME, &commit).unwrap();
            session
        };
        let sessions = vec![one(), one(), one()];
        (ledger, sessions)
    }

    fn live(ledger: &LedgerState) -> Vec<u32> {
        ledger.snapshots.iter().map(|s| s.session.0).collect()
    }

    #[test]
    fn holds_and_labels_change_the_list_when_they_change_something() {
        let (mut ledger, s) = three();
        let before = ledger.version;
        ledger.hold(&[s[0], s[1]], true).unwrap();
        assert_eq!((ledger.held.len(), ledger.version), (2, before + 1));
        // One of them anew, one as it was; then nothing new at all.
        ledger.hold(&[s[2], s[0]], true).unwrap();
        assert_eq!((ledger.held.len(), ledger.version), (3, before + 2));
        ledger.hold(&[s[0], s[2]], true).unwrap();
        assert_eq!(ledger.version, before + 2);
        ledger.hold(&s, false).unwrap();
        assert_eq!((ledger.held.len(), ledger.version), (0, before + 3));
        assert_eq!(ledger.hold(&[SessionNo(99)], true), Err(RuleBroken::UnknownSnapshot));

        ledger.relabel(s[0], &[7; LABEL_MAX]).unwrap();
        assert_eq!(ledger.version, before + 4);
        ledger.relabel(s[0], &[7; LABEL_MAX]).unwrap();
        assert_eq!(ledger.version, before + 4);
        assert_eq!(ledger.relabel(s[0], &[7; LABEL_MAX + 1]), Err(RuleBroken::LabelTooLong));
    }

    #[test]
    fn a_lease_that_ends_leaves_the_others() {
        let (mut ledger, s) = three();
        ledger.lease([1; 16], &s[..1], NOW);
        ledger.lease([2; 16], &s[1..], NOW);
        ledger.release([1; 16]);
        let left: Vec<[u8; 16]> = ledger.leases.iter().map(|lease| lease.id).collect();
        assert_eq!(left, [[2; 16]]);
    }

    #[test]
    fn what_is_forgotten_can_be_brought_back_and_keeps_its_time() {
        let (mut ledger, s) = three();
        let before = ledger.version;
        ledger.trash(&[s[1], s[0]], NOW).unwrap();
        assert_eq!((live(&ledger), ledger.version), (vec![3], before + 1));
        let purge_after = Timestamp { secs: 1000 + 14 * 86400, nanos: 7 };
        assert!(ledger.trash.iter().all(|t| t.purge_after == purge_after));
        // Again is no new time and no change.
        ledger.trash(&[s[0]], Timestamp { secs: 9000, nanos: 0 }).unwrap();
        assert_eq!((ledger.trash[0].purge_after, ledger.version), (purge_after, before + 1));
        let kept: Vec<_> = ledger.kept().iter().map(|k| (k.snapshot.session.0, k.purge_after)).collect();
        assert_eq!(kept, [(1, Some(purge_after)), (2, Some(purge_after)), (3, None)]);
        ledger.untrash(&[s[0], s[2]]).unwrap();
        assert_eq!((live(&ledger), ledger.version), (vec![1, 3], before + 2));
        ledger.untrash(&[s[0]]).unwrap();
        assert_eq!(ledger.version, before + 2);
    }

    #[test]
    fn all_or_none_is_done() {
        let (mut ledger, s) = three();
        ledger.hold(&[s[1]], true).unwrap();
        let before = ledger.clone();
        let unknown = SessionNo(9);
        assert_eq!(ledger.trash(&s, NOW), Err(RuleBroken::Held));
        assert_eq!(ledger.trash(&[s[0], unknown], NOW), Err(RuleBroken::UnknownSnapshot));
        assert_eq!(ledger.untrash(&[s[0], unknown]), Err(RuleBroken::UnknownSnapshot));
        assert_eq!(ledger.hold(&[s[0], unknown], true), Err(RuleBroken::UnknownSnapshot));
        assert_eq!(ledger.relabel(unknown, b"x"), Err(RuleBroken::UnknownSnapshot));
        assert_eq!(ledger.relabel(s[0], &[0; LABEL_MAX + 1]), Err(RuleBroken::LabelTooLong));
        assert_eq!(ledger, before);
        ledger.hold(&[s[1]], false).unwrap();
        ledger.trash(&s, NOW).unwrap();
        assert!(live(&ledger).is_empty());
        ledger.relabel(s[2], b"x").unwrap();
        assert_eq!(ledger.trash[2].snapshot.label, b"x");
    }

    #[test]
    fn a_lease_gathers_what_is_opened() {
        let (mut ledger, s) = three();
        ledger.lease([1; 16], &[s[2]], NOW);
        ledger.lease([1; 16], &[s[0], s[2]], Timestamp { secs: 5000, nanos: 0 });
        ledger.lease([2; 16], &[], NOW);
        let lease = &ledger.leases[0];
        assert_eq!((lease.expires.secs, &lease.snapshots), (8600, &vec![s[0], s[2]]));
        ledger.release([1; 16]);
        assert_eq!(ledger.leases.len(), 1);
    }
}
