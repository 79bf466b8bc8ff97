//! Records and rules of the ledger: which blobs count.
//!
//! The ledger is kept by files in a folder vault and by the control plane in an account vault; both keep
//! the rules here. Pure: no I/O, no clock. Tested below and by the one conformance suite in `tests/stores`.

use crate::{DeviceId, SessionNo, SnapshotId, Timestamp};

/// A session of writing as the ledger knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its number.
    pub session: SessionNo,
    /// Who writes.
    pub device: DeviceId,
    /// When it was opened, by the ledger's clock.
    pub opened: Timestamp,
    /// How far it got.
    pub state: SessionState,
    /// Packs of a committed session: numbers `0..packs` may exist (some may have been given up). Of an open one:
    /// numbers that are used up already, although nothing may be stored there; `u32::MAX` where its root is.
    pub packs: u32,
    /// Bytes of those packs and the root.
    pub bytes: u64,
}

/// How far a session got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SessionState {
    /// Writing goes on, or was broken off.
    Open = 0,
    /// Ended in a snapshot.
    Committed = 1,
}

/// A snapshot as the ledger lists it. What can be read here is what a control plane may know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRecord {
    /// The session that made it; its root blob has this number.
    pub session: SessionNo,
    /// Id: the salt of the root pack.
    pub id: SnapshotId,
    /// The device that pushed.
    pub device: DeviceId,
    /// When the push began.
    pub created: Timestamp,
    /// Size of the root blob in bytes.
    pub root_size: u64,
    /// Length of the sealed root record at the end of the root blob; `head_len + 64` bytes from its end on
    /// are all that a first listing needs.
    pub head_len: u32,
    /// Sealed label: device name, tags and sources, so that a list needs no roots. At most
    /// [`LABEL_MAX`] bytes.
    pub label: Vec<u8>,
}

impl SnapshotRecord {
    /// Whether the ledger was rebuilt from the blobs and knows nothing but which root there is: neither device nor
    /// time nor label. The root says them.
    pub fn is_rebuilt(&self) -> bool {
        self.device == DeviceId([0; DeviceId::LEN]) && self.label.is_empty()
    }
}

/// What commits a session: the only moment a snapshot begins to exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The snapshot to list.
    pub snapshot: SnapshotRecord,
    /// See [`SessionRecord::packs`].
    pub packs: u32,
    /// See [`SessionRecord::bytes`].
    pub bytes: u64,
    /// The packs its metadata lies in, top levels first, at most [`META_RUNS_MAX`] runs: what a reader fetches first.
    /// A hint; a ledger of files keeps it not.
    pub meta_packs: Vec<PackRun>,
}

/// A run of packs of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackRun {
    /// The session.
    pub session: SessionNo,
    /// The first number.
    pub from: u32,
    /// How many.
    pub count: u32,
}

impl PackRun {
    /// Packs as runs, in their order, at most [`META_RUNS_MAX`]; what is more is left out from the end.
    pub fn of(packs: impl IntoIterator<Item = (SessionNo, u32)>) -> Vec<Self> {
        let mut runs: Vec<Self> = Vec::new();
        for (session, number) in packs {
            let full = runs.len() == META_RUNS_MAX;
            match runs.last_mut() {
                Some(run) if run.session == session && run.from.checked_add(run.count) == Some(number) => {
                    run.count += 1;
                }
                _ if full => break,
                _ => runs.push(Self { session, from: number, count: 1 }),
            }
        }
        runs
    }
}

/// Most runs of [`Commit::meta_packs`].
pub const META_RUNS_MAX: usize = 64;

/// Everything the ledger says, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerState {
    /// The number the next session gets is one more.
    pub last_session: u32,
    /// Moves with every change of `snapshots`.
    pub version: u64,
    /// Sessions, by number.
    pub sessions: Vec<SessionRecord>,
    /// Live snapshots, by session number.
    pub snapshots: Vec<SnapshotRecord>,
}

/// Why the ledger's rules forbid a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuleBroken {
    /// All 2^32 - 1 numbers are used up.
    NumbersUsedUp,
    /// No such session, or another device's.
    UnknownSession,
    /// The session has ended already.
    NotOpen,
    /// The commit names another session than the one it ends.
    WrongSession,
    /// The label is longer than [`LABEL_MAX`].
    LabelTooLong,
    /// The root blob is not stored, or not with the length the commit names. The store's part of the rules:
    /// this state knows no blobs.
    RootNotStored,
}

/// The longest sealed label a list holds, in bytes.
pub const LABEL_MAX: usize = 1024;

impl LedgerState {
    /// Opens a session: the next number, never one that was given before.
    ///
    /// # Errors
    /// [`RuleBroken::NumbersUsedUp`].
    pub fn open(&mut self, device: DeviceId, now: Timestamp) -> Result<SessionNo, RuleBroken> {
        let next = self.last_session.checked_add(1).ok_or(RuleBroken::NumbersUsedUp)?;
        self.last_session = next;
        let session = SessionNo(next);
        self.sessions.push(SessionRecord {
            session,
            device,
            opened: now,
            state: SessionState::Open,
            packs: 0,
            bytes: 0,
        });
        Ok(session)
    }

    /// Ends an open session of `device` in a snapshot.
    ///
    /// Repeating a commit that already happened, word for word, is no error: the answer may have been lost.
    ///
    /// # Errors
    /// [`RuleBroken`] where the session is unknown, another device's, or ended otherwise.
    pub fn commit(&mut self, device: DeviceId, commit: &Commit) -> Result<(), RuleBroken> {
        let number = commit.snapshot.session;
        if commit.snapshot.device != device {
            return Err(RuleBroken::WrongSession);
        }
        if commit.snapshot.label.len() > LABEL_MAX {
            return Err(RuleBroken::LabelTooLong);
        }
        let record = self
            .sessions
            .iter_mut()
            .find(|s| s.session == number && s.device == device)
            .ok_or(RuleBroken::UnknownSession)?;
        if record.state == SessionState::Committed {
            let same = self.snapshots.contains(&commit.snapshot);
            return if same { Ok(()) } else { Err(RuleBroken::NotOpen) };
        }
        record.state = SessionState::Committed;
        record.packs = commit.packs;
        record.bytes = commit.bytes;
        let at = self.snapshots.partition_point(|s| s.session < number);
        self.snapshots.insert(at, commit.snapshot.clone());
        self.version += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        }
    }

    #[test]
    fn packs_become_runs_in_their_order() {
        let of = |packs: &[(u32, u32)]| {
            let runs = PackRun::of(packs.iter().map(|(session, number)| (SessionNo(*session), *number)));
            runs.iter().map(|run| (run.session.0, run.from, run.count)).collect::<Vec<_>>()
        };
        assert_eq!(of(&[]), []);
        assert_eq!(of(&[(7, 3), (7, 4), (7, 2), (8, 3), (8, 4)]), [(7, 3, 2), (7, 2, 1), (8, 3, 2)]);
        assert_eq!(of(&[(7, u32::MAX), (8, 0)]), [(7, u32::MAX, 1), (8, 0, 1)]);
        let many: Vec<_> = (0..100).map(|n| (7, 2 * n)).collect();
        assert_eq!(of(&many).len(), META_RUNS_MAX);
    }

    #[test]
    fn numbers_are_never_given_twice() {
        let mut ledger = LedgerState::default();
        let first = ledger.open(ME, Timestamp::default()).unwrap();
        let second = ledger.open(OTHER, Timestamp::default()).unwrap();
        assert_eq!((first, second), (SessionNo(1), SessionNo(2)));
        ledger.last_session = u32::MAX;
        assert_eq!(ledger.open(ME, Timestamp::default()), Err(RuleBroken::NumbersUsedUp));
    }

    #[test]
    fn only_the_commit_makes_a_snapshot() {
        let mut ledger = LedgerState::default();
        let session = ledger.open(ME, Timestamp::default()).unwrap();
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
}
