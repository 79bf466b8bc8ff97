//! What the ledger said at one moment, and whether anything was given up since.
//!
//! **What it is.** A vault may be in use while it is looked at. What is added meanwhile does no harm; what is given up may
//! make something look damaged that nobody needs any more, or that lies elsewhere now.
//! **What always holds.** A ledger that does not read is no moment, and nothing is concluded from it.
//! **Where it is tested.** Below; at every call of a check in `tests/protocol`.

use super::{CheckError, Checker};
use backupengine_model::SessionNo;
use backupengine_model::ledger::{SessionRecord, SnapshotRecord};
use backupengine_store::{ErrorKind, StoreError};
use std::collections::{BTreeMap, BTreeSet};

/// See the module header.
#[derive(Default)]
pub(super) struct Moment {
    pub(super) snapshots: Vec<SnapshotRecord>,
    pub(super) sessions: BTreeMap<SessionNo, SessionRecord>,
}

impl Checker<'_> {
    /// The ledger now, or why it does not read.
    pub(super) fn moment(&self) -> Result<Result<Moment, StoreError>, CheckError> {
        let store = self.vault.store();
        // Sessions last: each that a snapshot in the list was made by has ended in it.
        let both = self
            .vault
            .ask(store.snapshots())
            .and_then(|list| Ok((list.snapshots, self.vault.ask(store.sessions())?.sessions)));
        match both {
            Ok((snapshots, sessions)) => {
                let sessions = sessions.into_iter().map(|record| (record.session, record)).collect();
                Ok(Ok(Moment { snapshots, sessions }))
            }
            Err(error) if error.kind == ErrorKind::LedgerDamaged => Ok(Err(error)),
            Err(error) => self.ask(Err(error)),
        }
    }
}

impl Moment {
    /// Whether at a later moment a snapshot is listed no more, or packs are deleted or lie elsewhere.
    pub(super) fn gave_up(&self, later: &Self) -> bool {
        let left: BTreeSet<SessionNo> = later.snapshots.iter().map(|record| record.session).collect();
        let listed = |one: &SnapshotRecord| left.contains(&one.session);
        let as_before = |one: &SessionRecord| {
            later
                .sessions
                .get(&one.session)
                .is_some_and(|other| other.deleted == one.deleted && other.moved == one.moved)
        };
        !(self.snapshots.iter().all(listed) && self.sessions.values().all(as_before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_model::ledger::{Moved, Since};
    use backupengine_model::{DeviceId, SnapshotId, Timestamp};

    fn moment() -> Moment {
        let session = |number| SessionRecord::new(SessionNo(number), DeviceId([1; 16]), Timestamp::default());
        let snapshot = |number| SnapshotRecord {
            session: SessionNo(number),
            id: SnapshotId([1; 8]),
            device: DeviceId([1; 16]),
            created: Timestamp::default(),
            root_size: 1,
            head_len: 1,
            label: Vec::new(),
        };
        let both = [1, 2].into_iter();
        Moment {
            snapshots: both.clone().map(snapshot).collect(),
            sessions: both.map(|number| (SessionNo(number), session(number))).collect(),
        }
    }

    #[test]
    fn what_goes_or_moves_is_given_up_and_what_comes_is_not() {
        let later = |change: &dyn Fn(&mut Moment)| {
            let mut later = moment();
            change(&mut later);
            moment().gave_up(&later)
        };
        assert!(!later(&|_| {}));
        assert!(later(&|later| drop(later.snapshots.remove(0))));
        assert!(later(&|later| drop(later.sessions.remove(&SessionNo(1)))));
        let one = |later: &mut Moment, change: &dyn Fn(&mut SessionRecord)| {
            change(later.sessions.get_mut(&SessionNo(1)).unwrap());
        };
        assert!(later(&|later| one(later, &|record| record.deleted.insert(0..1))));
        let since = Since { epoch: 1, at: Timestamp::default() };
        let moved = Moved { to: SessionNo(2), number: 0, since, gone: false };
        assert!(later(&|later| one(later, &|record| assert_eq!(record.moved.insert(0, moved), None))));
        // What is only promised to go is still there.
        assert!(!later(&|later| one(later, &|record| record.retired.insert(0..1, since))));
        let mut fewer = moment();
        drop((fewer.snapshots.pop(), fewer.sessions.remove(&SessionNo(2))));
        assert!(!fewer.gave_up(&moment()), "a push came to its end");
    }
}
