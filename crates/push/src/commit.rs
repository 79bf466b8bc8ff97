//! The commit, against collections that go on at the same time (format.md 8.1, 8.4).
//!
//! **What it is.** A commit is made under the epoch of everything that was retired or moved. Where that moved on since
//! the session was opened, what the snapshot refers to is brought back first: retired packs, and moved ones, of which
//! the copy may lack just the frame that was taken for stored here. No data is sent again.
//! **What it may not do.** Say that it knows of an epoch it has not looked at. Acknowledge one before the commit: what
//! the session refers to is known whole only then.
//! What a repair moved is not brought back: what lies there is damaged, and whether the healed pack has all that was
//! taken for stored here nobody knows. The push ends without a snapshot, once.
//! **What always holds.** A pack that is retired or moved while a session is open is not deleted before the session
//! ends or is silent for three days; so bringing it back cannot come too late.
//! **Where it is tested.** Below; by random interleavings in `tests/protocol`.

use crate::error::PushError;
use backupengine_format::reference::ReferenceSet;
use backupengine_model::ledger::{Commit, Moved, PackRun, RuleBroken, SessionKind, SessionRecord};
use backupengine_model::{DeviceId, SessionNo};
use backupengine_store::{ErrorKind, SessionList, StoreError, Writable};
use backupengine_vault::Vault;

/// Collections that may come in between before the push gives up. Each is another device's whole run.
const ROUNDS: u32 = 32;

/// Commits a snapshot that refers to these packs.
///
/// # Errors
/// The store's; [`PushError::Gone`] where a pack that is referred to is gone, [`PushError::Healed`] where it was healed
/// meanwhile.
pub(crate) fn commit(
    vault: &Vault,
    store: &dyn Writable,
    device: DeviceId,
    commit: &mut Commit,
    references: &ReferenceSet,
) -> Result<(), PushError> {
    for _ in 0..ROUNDS {
        match vault.ask(store.commit(device, commit)) {
            Err(error) if error.kind == ErrorKind::RuleBroken(RuleBroken::CountersMoved) => {}
            answer => return Ok(answer?),
        }
        let list = vault.ask(store.sessions())?;
        let back = to_revive(&list, commit.snapshot.session, references)?;
        if back.is_empty() {
            commit.gc_epoch = Some(list.gc_epoch);
        } else {
            tracing::info!(packs = back.len(), "packs that were about to go are needed after all");
            // What else moved meanwhile shows in the next list.
            vault.ask(store.revive(&back))?;
        }
    }
    let message = "packs are retired faster than this push can take in; push again, nothing is sent twice";
    Err(StoreError::new(ErrorKind::Unavailable, message).into())
}

/// Packs that are referred to, and were retired, or moved since the session last knew.
fn to_revive(
    list: &SessionList,
    own: SessionNo,
    references: &ReferenceSet,
) -> Result<Vec<PackRun>, PushError> {
    let acked = list.iter().find(|s| s.session == own).map_or(0, |s| s.acked);
    let mut back = Vec::new();
    for record in list.iter() {
        let Some(packs) = references.packs.get(&record.session) else { continue };
        let needed: Vec<u32> = packs.iter().filter(|number| is_going(record, *number, acked)).collect();
        if let Some(number) = needed.iter().find(|number| is_gone(record, **number, acked)) {
            return Err(PushError::Gone { session: record.session, number: *number });
        }
        if let Some(number) = needed.iter().find(|number| is_healed(list, record, **number)) {
            return Err(PushError::Healed { session: record.session, number: *number });
        }
        back.extend(needed.into_iter().map(|from| PackRun { session: record.session, from, count: 1 }));
    }
    Ok(back)
}

fn is_going(record: &SessionRecord, number: u32, acked: u64) -> bool {
    record.deleted.contains(&number)
        || record.retired.contains_key(&number)
        || record.moved.get(&number).is_some_and(|moved| moved.since.epoch > acked)
}

/// Whether bringing it back comes too late. One that had been moved before the session was opened may be retired now: its
/// frames are where they were then, and stay with the pack.
fn is_gone(record: &SessionRecord, number: u32, acked: u64) -> bool {
    let left_behind = |moved: &Moved| moved.gone && moved.since.epoch > acked;
    record.deleted.contains(&number) || record.moved.get(&number).is_some_and(left_behind)
}

/// Whether it was moved because what lies at its place is lost or damaged: bringing that back would harm every snapshot
/// that needs it.
fn is_healed(list: &SessionList, record: &SessionRecord, number: u32) -> bool {
    let to = record.moved.get(&number).map(|moved| moved.to);
    to.is_some_and(|to| list.iter().any(|s| s.session == to && s.kind == SessionKind::Heal))
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_model::Timestamp;
    use backupengine_model::ledger::{SessionState, Since};

    const OWN: SessionNo = SessionNo(9);

    /// A list in which the session knows of epoch 5, and one earlier session of four packs is as `change` leaves it.
    fn list(change: impl FnOnce(&mut SessionRecord)) -> SessionList {
        let new = |n| SessionRecord::new(SessionNo(n), DeviceId([1; 16]), Timestamp::default());
        let mut earlier = SessionRecord { state: SessionState::Committed, packs: 4, ..new(1) };
        change(&mut earlier);
        let healed = SessionRecord { kind: SessionKind::Heal, ..new(4) };
        SessionList { gc_epoch: 7, sessions: vec![earlier, healed, SessionRecord { acked: 5, ..new(OWN.0) }] }
    }

    fn since(epoch: u64) -> Since {
        Since { epoch, at: Timestamp::default() }
    }

    fn moved(epoch: u64, gone: bool) -> Moved {
        Moved { to: SessionNo(3), number: 0, since: since(epoch), gone }
    }

    fn asked(change: impl FnOnce(&mut SessionRecord)) -> Result<Vec<u32>, u32> {
        let mut references = ReferenceSet::default();
        references.packs.entry(SessionNo(1)).or_default().extend([0, 2]);
        match to_revive(&list(change), OWN, &references) {
            Ok(runs) => Ok(runs.into_iter().map(|run| run.from).collect()),
            Err(PushError::Gone { number, .. }) => Err(number),
            Err(PushError::Healed { number, .. }) => Err(100 + number),
            Err(error) => panic!("{error:?}"),
        }
    }

    #[test]
    fn what_is_referred_to_and_going_is_brought_back() {
        assert_eq!(asked(|_| {}), Ok(vec![]));
        assert_eq!(asked(|s| s.retired.insert(0..2, since(6))), Ok(vec![0]));
        assert_eq!(
            asked(|s| {
                s.moved.insert(2, moved(6, false));
            }),
            Ok(vec![2])
        );
        assert_eq!(asked(|s| s.deleted.insert(2..3)), Err(2));
        assert_eq!(
            asked(|s| {
                s.moved.insert(2, moved(6, true));
            }),
            Err(2)
        );
        // It was known to lie elsewhere.
        assert_eq!(
            asked(|s| {
                s.moved.insert(2, moved(5, false));
            }),
            Ok(vec![])
        );
    }

    #[test]
    fn what_was_healed_meanwhile_is_not_brought_back() {
        let healed = |epoch| Moved { to: SessionNo(4), ..moved(epoch, false) };
        let change = |epoch| {
            move |s: &mut SessionRecord| {
                s.moved.insert(2, healed(epoch));
            }
        };
        assert_eq!(asked(change(6)), Err(102));
        assert_eq!(asked(change(5)), Ok(vec![]), "it was known");
    }

    /// The old blob of a pack that was moved long ago went in its time; then nothing needed the pack any more.
    #[test]
    fn a_pack_that_lies_elsewhere_can_be_brought_back_too() {
        let change = |s: &mut SessionRecord| {
            s.moved.insert(2, moved(4, true));
            s.retired.insert(2..3, since(6));
        };
        assert_eq!(asked(change), Ok(vec![2]));
    }
}
