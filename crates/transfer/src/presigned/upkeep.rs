//! Giving space back, by the control plane: collections, and sessions of relocation packs.
//!
//! **What it may not do.** Decide what goes, or when: the server does, by its own clock. **What always holds.** What is more
//! than one call takes goes in several, each compared with the counters that the one before answered: whatever somebody
//! else does between two of them is heard of. What was remembered of the lists is forgotten. **Where it is tested.** By
//! the conformance suite in `tests/stores`.
use super::ledger::{of_run, record, word};
use super::{Core, PresignedStore, store_error};
use backupengine_api::{
    CommitSession, MovePacks, MovedPack, OfSession, OfVault, Opaque, OpenSession, PackSets, RetirePacks,
    SnapshotTime, op,
};
use backupengine_model::ledger::{Counters, Haste, Move, PackRun, RuleBroken, SessionKind};
use backupengine_model::{DeviceId, SessionNo, SnapshotId};
use backupengine_store::{BoxFuture, Collection, Collector, ErrorKind, StoreError};

/// Runs or moves of one call.
const CALL: usize = 4096;
/// Tries to end a session while others retire and move.
const ROUNDS: u32 = 16;

impl Core {
    async fn begin_collection(&self, haste: Haste) -> Result<Collection, StoreError> {
        patient(haste)?;
        let begun = self.account.ask::<op::GcBegin>(&OfVault { vault: self.vault }).await;
        // What was in the trash for long enough is gone now.
        self.answers.forget();
        let begun = begun.map_err(store_error)?;
        let counters = Counters { version: begun.version, gc_epoch: begun.gc_epoch };
        let mut snapshots = begun.snapshots.into_iter().map(record).collect::<Result<Vec<_>, _>>()?;
        snapshots.sort_unstable_by_key(|snapshot| snapshot.session);
        Ok(Collection { counters, snapshots })
    }

    async fn retire(&self, mut at: Counters, packs: &[PackRun]) -> Result<Counters, StoreError> {
        sound(packs)?;
        for part in calls(packs) {
            let request = RetirePacks {
                vault: self.vault,
                version: at.version,
                gc_epoch: at.gc_epoch,
                packs: part.iter().map(of_run).collect(),
                idem: word()?,
            };
            let now = self.account.ask::<op::GcRetire>(&request).await.map_err(store_error)?;
            at = Counters { version: now.version, gc_epoch: now.gc_epoch };
        }
        Ok(at)
    }

    async fn relocate(&self, mut at: Counters, moves: &[Move]) -> Result<Counters, StoreError> {
        for part in calls(moves) {
            let request = MovePacks {
                vault: self.vault,
                version: at.version,
                gc_epoch: at.gc_epoch,
                moves: part.iter().map(of_move).collect(),
                idem: word()?,
            };
            let now = self.account.ask::<op::GcMove>(&request).await.map_err(store_error)?;
            at = Counters { version: now.version, gc_epoch: now.gc_epoch };
        }
        Ok(at)
    }

    async fn purge(&self, packs: &[PackRun], haste: Haste) -> Result<Vec<PackRun>, StoreError> {
        patient(haste)?;
        sound(packs)?;
        let mut gone = Vec::new();
        for part in packs.chunks(CALL) {
            let request = PackSets { vault: self.vault, packs: part.iter().map(of_run).collect() };
            let answer = self.account.ask::<op::GcPurge>(&request).await.map_err(store_error)?;
            gone.extend(answer.packs.into_iter().map(|set| PackRun {
                session: SessionNo(set.session),
                from: set.from,
                count: set.count,
            }));
        }
        Ok(gone)
    }

    async fn open_relocation(&self, device: DeviceId, kind: SessionKind) -> Result<SessionNo, StoreError> {
        if device != self.account.device() {
            return Err(StoreError::new(ErrorKind::Denied, "this login belongs to another device"));
        }
        let kind = match kind {
            SessionKind::Push => "push",
            SessionKind::Compact => "compact",
            SessionKind::Heal => "heal",
        };
        let request = OpenSession { vault: self.vault, kind: kind.to_owned(), idem: word()? };
        let opened = self.account.ask::<op::SessionOpen>(&request).await.map_err(store_error)?;
        Ok(SessionNo(opened.session))
    }

    /// Refers to nothing: whatever was retired meanwhile is no matter, so it is taken in as it is.
    async fn end_relocation(
        &self,
        device: DeviceId,
        session: SessionNo,
        packs: u32,
        bytes: u64,
    ) -> Result<(), StoreError> {
        if device != self.account.device() {
            return Err(StoreError::rule(RuleBroken::UnknownSession));
        }
        let mut request = CommitSession {
            vault: self.vault,
            session: session.0,
            id: SnapshotId([0; SnapshotId::LEN]),
            device,
            created: SnapshotTime { secs: 0, nanos: 0 },
            root_size: 0,
            head_len: 0,
            label: Opaque(Vec::new()),
            packs,
            bytes,
            meta_packs: Vec::new(),
            gc_epoch: None,
            hold: None,
        };
        for _ in 0..ROUNDS {
            match self.account.ask::<op::SessionCommit>(&request).await.map_err(store_error) {
                Err(error) if error.kind == ErrorKind::RuleBroken(RuleBroken::CountersMoved) => {}
                ended => return ended.map(drop),
            }
            let beat = OfSession { vault: self.vault, session: session.0, gc_epoch: request.gc_epoch };
            let now = self.account.ask::<op::SessionHeartbeat>(&beat).await.map_err(store_error)?;
            request.gc_epoch = Some(now.gc_epoch);
        }
        Err(StoreError::rule(RuleBroken::CountersMoved))
    }
}

/// Whoever takes over a device cannot make the server forget sooner than it says it does.
fn patient(haste: Haste) -> Result<(), StoreError> {
    match haste {
        Haste::Wait => Ok(()),
        Haste::Now => Err(StoreError::new(
            ErrorKind::Denied,
            "an account keeps its trash and what was given up for as long as its server says, by the server's clock: \
             nothing is deleted at once",
        )),
    }
}

/// Runs of no packs and beyond all numbers are none of any session: the server would take the call for one that does not
/// read.
pub(super) fn sound(packs: &[PackRun]) -> Result<(), StoreError> {
    let good = |run: &PackRun| run.count > 0 && run.from.checked_add(run.count).is_some();
    if packs.iter().all(good) { Ok(()) } else { Err(StoreError::rule(RuleBroken::WrongPack)) }
}

/// One call at least: it is the server that says whether the counters are these.
pub(super) fn calls<T>(all: &[T]) -> impl Iterator<Item = &[T]> {
    all.is_empty().then_some(all).into_iter().chain(all.chunks(CALL))
}

fn of_move(one: &Move) -> MovedPack {
    let (from, to) = (one.from, one.to);
    MovedPack { from_session: from.0.0, from_number: from.1, to_session: to.0.0, to_number: to.1 }
}

impl Collector for PresignedStore {
    fn begin_collection(&self, haste: Haste) -> BoxFuture<'_, Result<Collection, StoreError>> {
        self.run(move |core| async move { core.begin_collection(haste).await })
    }

    /// At most 4096 runs go together; of more, some may be retired where it fails.
    fn retire<'a>(
        &'a self,
        at: Counters,
        packs: &'a [PackRun],
    ) -> BoxFuture<'a, Result<Counters, StoreError>> {
        let packs = packs.to_vec();
        self.run(move |core| async move { core.retire(at, &packs).await })
    }

    /// At most 4096 go together; of more, some may have been moved where it fails.
    fn relocate<'a>(
        &'a self,
        at: Counters,
        moves: &'a [Move],
    ) -> BoxFuture<'a, Result<Counters, StoreError>> {
        let moves = moves.to_vec();
        self.run(move |core| async move { core.relocate(at, &moves).await })
    }

    fn purge<'a>(
        &'a self,
        packs: &'a [PackRun],
        haste: Haste,
    ) -> BoxFuture<'a, Result<Vec<PackRun>, StoreError>> {
        let packs = packs.to_vec();
        self.run(move |core| async move { core.purge(&packs, haste).await })
    }

    fn open_relocation(
        &self,
        device: DeviceId,
        kind: SessionKind,
    ) -> BoxFuture<'_, Result<SessionNo, StoreError>> {
        self.run(move |core| async move { core.open_relocation(device, kind).await })
    }

    fn end_relocation(
        &self,
        device: DeviceId,
        session: SessionNo,
        packs: u32,
        bytes: u64,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.run(move |core| async move { core.end_relocation(device, session, packs, bytes).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_bounded_and_there_is_one_at_least() {
        let lengths = |count: usize| calls(&vec![0; count]).map(<[_]>::len).collect::<Vec<_>>();
        assert_eq!(lengths(0), [0]);
        assert_eq!(lengths(1), [1]);
        assert_eq!(lengths(CALL), [CALL]);
        assert_eq!(lengths(2 * CALL + 1), [CALL, CALL, 1]);
    }

    #[test]
    fn nothing_goes_at_once() {
        assert!(patient(Haste::Wait).is_ok());
        assert_eq!(patient(Haste::Now).unwrap_err().kind, ErrorKind::Denied);
    }
}
