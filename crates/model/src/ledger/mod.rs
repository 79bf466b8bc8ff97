//! Records and rules of the ledger: which blobs count, which snapshots stay, what may be given back.
//!
//! **What it is.** The records; [`LedgerState`] and its rules: sessions and commits here in `state`, what an owner
//! decides in `keep`, giving space back in `collect`, what is taken in after a loss in `adopt`. The ledger is kept by a file in a folder vault and by the
//! control plane in an account vault; both keep these rules, the latter in SQL.
//! **What it may not do.** I/O, read a clock: times are handed in, and are the ledger's.
//! **What always holds.** A session number is given once. A snapshot begins to exist by a commit, and by a commit that
//! knows of everything that was retired. Nothing that may be referred to is deleted (`collect`).
//! **Where it is tested.** Beside the rules, by the one conformance suite in `tests/stores`, and by random
//! interleavings in `tests/protocol`.

mod adopt;
mod collect;
mod envelopes;
mod keep;
mod state;

use crate::{DeviceId, SessionNo, SnapshotId, Timestamp};
pub use adopt::{Adopted, FoundSession};
pub use collect::{Counters, GRACE_SECS, Haste, Move};
pub use envelopes::{ENVELOPES_MAX, EnvelopeNo, EnvelopesChange};
pub use keep::{Kept, Lease, TRASH_DAYS, Trashed};
use rangemap::{RangeMap, RangeSet};
pub use state::LedgerState;
use std::collections::BTreeMap;

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
    /// Bytes of those packs and the root, without what was given back.
    pub bytes: u64,
    /// What it is for.
    pub kind: SessionKind,
    /// Its writer knows of everything that was retired or moved up to this epoch.
    pub acked: u64,
    /// Packs that nobody may newly refer to, and since when.
    pub retired: RangeMap<u32, Since>,
    /// Packs that are gone for good.
    pub deleted: RangeSet<u32>,
    /// Packs whose frames were copied elsewhere.
    pub moved: BTreeMap<u32, Moved>,
}

impl SessionRecord {
    /// A session in which nothing has happened.
    pub fn new(session: SessionNo, device: DeviceId, opened: Timestamp) -> Self {
        Self {
            session,
            device,
            opened,
            state: SessionState::Open,
            packs: 0,
            bytes: 0,
            kind: SessionKind::Push,
            acked: 0,
            retired: RangeMap::new(),
            deleted: RangeSet::new(),
            moved: BTreeMap::new(),
        }
    }
}

impl SessionRecord {
    /// Whether nobody may newly refer to one of its packs: it is retired or gone, or its frames lie elsewhere, and not
    /// all of them.
    pub fn is_going(&self, number: u32) -> bool {
        self.retired.contains_key(&number)
            || self.deleted.contains(&number)
            || self.moved.contains_key(&number)
    }
}

/// What a session writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SessionKind {
    /// A snapshot.
    Push = 0,
    /// Copies of frames that are still needed, out of packs that mostly are not.
    Compact = 1,
    /// Frames that were lost, from files that are still there.
    Heal = 2,
}

/// When something about packs was decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Since {
    /// The epoch that began with it.
    pub epoch: u64,
    /// By the ledger's clock.
    pub at: Timestamp,
}

/// Where the frames of a pack lie now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Session of the relocation pack.
    pub to: SessionNo,
    /// Its number.
    pub number: u32,
    /// Since when.
    pub since: Since,
    /// Whether the old blob is gone: until then the move can be taken back.
    pub gone: bool,
}

/// How far a session got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SessionState {
    /// Writing goes on, or was broken off.
    Open = 0,
    /// Ended: in a snapshot, or in relocation packs that count.
    Committed = 1,
    /// Ended in nothing: given up, or silent for [`GRACE_SECS`].
    Expired = 2,
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
    /// time, and no label but one that an owner gave it since. The root says them.
    pub fn is_rebuilt(&self) -> bool {
        self.device == DeviceId([0; DeviceId::LEN])
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
    /// The epoch the writer has taken in: nothing it refers to was retired or moved up to there. `None`: the one the
    /// session was opened under.
    pub gc_epoch: Option<u64>,
    /// A snapshot of the same device that is held from now on: the last one before a push that looks like the work of
    /// ransomware. One that is gone or another device's is left as it is: a commit is never refused for it.
    pub hold: Option<SessionNo>,
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
    /// Packs were retired or moved, or the list changed, since the caller last asked.
    CountersMoved,
    /// No such snapshot, or it is gone.
    UnknownSnapshot,
    /// The snapshot is held against removal.
    Held,
    /// No such pack, its session was not committed, or it is of a kind this cannot be done to.
    WrongPack,
    /// The pack is gone, or going.
    PackGone,
    /// The pack holds what was moved there, or what an open push may refer to.
    InUse,
    /// The key envelopes are not those that were looked at: somebody else changed them meanwhile.
    EnvelopesMoved,
    /// A vault without key envelopes, or with more than [`ENVELOPES_MAX`].
    EnvelopesOutOfRange,
}

/// The longest sealed label a list holds, in bytes.
pub const LABEL_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

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
}
