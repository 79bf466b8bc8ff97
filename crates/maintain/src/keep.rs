//! What an owner decides about snapshots, done to the ledger: into the trash and back, holds, tags.
//!
//! **What it is.** The steps around the ledger's own: labels are sealed here, and where the newest snapshots of a device
//! go, a label of one that stays says so before they do ([`Forgotten`]).
//!
//! **What it may not do.** Decide which snapshots: [`crate::retention`] and the person do. Ask for randomness: salts of
//! labels are handed in, one for each call of a function here.
//!
//! **What always holds.** Said before done: stopped anywhere, every device that looks at the vault still believes its list.
//! Each function may be called again with a new salt and goes on. One label never is sealed twice under one salt.
//!
//! **Where it is tested.** `tests/hostile` (a list that hides more than was forgotten), `tests/cli`.

use backupengine_format::label;
use backupengine_model::ledger::{Kept, RuleBroken, SnapshotRecord};
use backupengine_model::{DeviceId, Forgotten, SessionNo, SnapshotInfo};
use backupengine_store::{Keeper, StoreError};
use backupengine_vault::{Vault, VaultError};
use std::collections::BTreeSet;
use thiserror::Error;

/// Why it was not done.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeepError {
    /// The ledger did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The list does not read.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// More tags than a label holds.
    #[error("the tags of the snapshot are too long for its label")]
    TagsTooLong,
    /// The label of one that stays cannot name the newest snapshots of that many devices.
    #[error("the newest snapshots of too many devices would go at once")]
    TooManyDevices,
}

/// A snapshot that is not gone, as a person sees it.
#[derive(Clone, Debug)]
pub struct KeptSnapshot {
    /// What the list says of it.
    pub info: SnapshotInfo,
    /// What the ledger says of it.
    pub kept: Kept,
}

/// All snapshots that are not gone, oldest first: live ones and those in the trash.
///
/// # Errors
/// [`KeepError`].
pub fn kept(vault: &Vault, keeper: &dyn Keeper) -> Result<Vec<KeptSnapshot>, KeepError> {
    let all = vault.ask(keeper.kept())?.into_iter().map(|kept| {
        let info = vault.describe(&kept.snapshot)?;
        Ok(KeptSnapshot { info, kept })
    });
    let mut all = all.collect::<Result<Vec<_>, KeepError>>()?;
    all.sort_by_key(|one| (one.info.created, one.info.session));
    Ok(all)
}

/// Puts snapshots into the trash.
///
/// # Errors
/// [`KeepError`]; `RuleBroken(Held)` where one of them is held: then none went.
pub fn forget(
    vault: &Vault,
    keeper: &dyn Keeper,
    sessions: &[SessionNo],
    salt: [u8; 8],
) -> Result<(), KeepError> {
    if sessions.is_empty() {
        return Ok(());
    }
    say_forgotten(vault, keeper, &sessions.iter().copied().collect(), salt)?;
    Ok(vault.ask(keeper.trash(sessions))?)
}

/// Brings snapshots back from the trash.
///
/// # Errors
/// [`KeepError`].
pub fn bring_back(
    vault: &Vault,
    keeper: &dyn Keeper,
    sessions: &[SessionNo],
    salt: [u8; 8],
) -> Result<(), KeepError> {
    vault.ask(keeper.untrash(sessions))?;
    say_forgotten(vault, keeper, &BTreeSet::new(), salt)
}

/// Has the newest snapshot that stays say, once those in `going` are gone, which newest snapshots of devices were
/// forgotten; no other label says anything then. Does nothing where that is so already, which is the rule.
fn say_forgotten(
    vault: &Vault,
    keeper: &dyn Keeper,
    going: &BTreeSet<SessionNo>,
    salt: [u8; 8],
) -> Result<(), KeepError> {
    let listed = vault.listed()?.snapshots;
    let said: Vec<(&SnapshotRecord, Vec<Forgotten>)> =
        listed.iter().map(|record| (record, vault.forgotten(record))).collect();
    let before: Vec<Forgotten> = said.iter().flat_map(|(_, entries)| entries.iter().copied()).collect();
    let live: Vec<(DeviceId, SessionNo)> = listed.iter().map(|r| (r.device, r.session)).collect();
    let forgotten = Forgotten::after(&before, &live, going);
    let mut stay: Vec<_> = said.into_iter().filter(|(record, _)| !going.contains(&record.session)).collect();
    // The newest first: what it says anew is said before another is silent about it.
    stay.sort_by_key(|(record, _)| std::cmp::Reverse(record.session));
    for (at, (record, says)) in stay.into_iter().enumerate() {
        let wanted: &[Forgotten] = if at == 0 { &forgotten } else { &[] };
        if says != wanted {
            let plain = label::encode_with(&vault.describe(record)?, wanted);
            if plain.len() > label::LABEL_MAX {
                return Err(KeepError::TooManyDevices);
            }
            relabel(vault, keeper, record.session, salt, &plain)?;
        }
    }
    Ok(())
}

/// Gives a snapshot that is listed these tags instead of those it has, sorted and each once; gives them back.
///
/// # Errors
/// [`KeepError`].
pub fn retag(
    vault: &Vault,
    keeper: &dyn Keeper,
    session: SessionNo,
    tags: &BTreeSet<String>,
    salt: [u8; 8],
) -> Result<Vec<String>, KeepError> {
    let listed = vault.listed()?.snapshots;
    let unknown = || StoreError::rule(RuleBroken::UnknownSnapshot);
    let record = listed.iter().find(|record| record.session == session).ok_or_else(unknown)?;
    let before = vault.describe(record)?;
    let tags: Vec<String> = tags.iter().cloned().collect();
    if tags == before.tags {
        return Ok(tags);
    }
    let info = SnapshotInfo { tags: tags.clone(), ..before };
    let plain = label::encode_with(&info, &vault.forgotten(record));
    // Without any source in it a label may have lost tags, too: a reader could not tell that from tags that were taken.
    let whole =
        label::decode(&plain).is_ok_and(|read| read.tags == tags && !(read.cut && read.sources.is_empty()));
    if plain.len() > label::LABEL_MAX || !whole {
        return Err(KeepError::TagsTooLong);
    }
    relabel(vault, keeper, session, salt, &plain)?;
    Ok(tags)
}

fn relabel(
    vault: &Vault,
    keeper: &dyn Keeper,
    session: SessionNo,
    salt: [u8; 8],
    plain: &[u8],
) -> Result<(), KeepError> {
    let sealed = vault.keyring().seal_label(session, salt, plain);
    Ok(vault.ask(keeper.relabel(session, &sealed))?)
}
