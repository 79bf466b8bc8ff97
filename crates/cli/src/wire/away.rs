//! A vault whose server is not reached: opened as it was last seen, and handed its server when that is there again.
//!
//! **What it may not do.** Begin a push, or answer what only the server can say.
//! **What always holds.** What was seen is held against the floor like everything else; a server that comes back is
//! believed only after its list was.
//! **Where it is tested.** `tests/cli` (a pinned tree is read without a server).

use super::{Blocks, How, Opened, Wire, keys};
use crate::error::{Failure, Kind};
use crate::output::tell;
use crate::place::Place;
use crate::seen::{self, Seen};
use backupengine_model::ledger::SnapshotRecord;
use backupengine_model::{Timestamp, VaultId};
use backupengine_store::{BLOCK_LEN, LastSeen, Readable};
use backupengine_transfer::PresignedStore;
use backupengine_vault::{Locked, Vault};
use std::sync::Arc;

/// A list that did not change is remembered anew after so many seconds, for the time it was seen at.
const SEEN_AGAIN: i64 = 600;

/// A vault as it was last seen, because its server is not reached.
pub(crate) struct Away {
    /// To be told when it is.
    pub(crate) store: Arc<LastSeen>,
    /// When it was seen.
    pub(crate) seen: Timestamp,
}

/// What to tell a person where the server is not reached.
pub(crate) fn away_text(seen: Timestamp) -> String {
    format!(
        "the server is not reached: this is the vault as it was last seen, {}; what is not on this device has to wait",
        crate::time::local(seen)
    )
}

impl Wire {
    /// Opens the vault for looking only. Where the server is not reached, and this device has the keys: as it was last
    /// seen, with what lies on this device.
    ///
    /// # Errors
    /// See [`Wire::open_how`].
    pub(crate) fn open_to_look(&self, how: &How) -> Result<Opened, Failure> {
        match self.open_how(how) {
            Err(failure) if failure.kind == Kind::Unreachable => {
                tracing::info!("the server is not reached: {}", failure.message());
                self.open_as_seen(how)?.ok_or(failure)
            }
            other => other,
        }
    }

    /// The same, for commands that look and end: says on stderr where the server is not reached.
    ///
    /// # Errors
    /// See [`Wire::open_how`].
    pub(crate) fn open_and_tell(&self) -> Result<Opened, Failure> {
        let opened = self.open_to_look(&How::default())?;
        if let Some(away) = &opened.away {
            tell(away_text(away.seen));
        }
        Ok(opened)
    }

    fn open_as_seen(&self, how: &How) -> Result<Option<Opened>, Failure> {
        let place = self.place(None)?;
        let Place::Server(base) = &place else { return Ok(None) };
        let Some(device) = self.account_at(base)?.device()? else { return Ok(None) };
        let vault = device.certificate.vault;
        let Some(seen) = seen::load(&seen::path(&self.places.state, vault)) else { return Ok(None) };
        let at = seen.at;
        let store = Arc::new(LastSeen::new(vault, seen.list, seen.used, BLOCK_LEN as u64));
        let readable: Arc<dyn Readable> = store.clone();
        let config = self.config_of(how, Some(vault))?;
        let locked = Locked::open(readable.clone())?;
        let how = &How { of_account: true, ..how.clone() };
        let unlocked = self.unlock(locked, &readable, Some(&device), None, how, config)?;
        self.hold_against_floor(&unlocked.vault, true, false)?;
        let away = Some(Away { store: store.clone(), seen: at });
        let (vault, device) = (unlocked.vault, Some(device));
        let epochs = keys::Epochs::default();
        Ok(Some(Opened {
            vault,
            store,
            keeper: None,
            place,
            online: None,
            away,
            device,
            ways: None,
            root_key: None,
            epochs,
        }))
    }

    /// Looks whether the server is reached again. Its store is given only after the list it shows was held against the
    /// floor, by a vault of its own.
    ///
    /// # Errors
    /// See [`Wire::open`].
    pub(crate) fn reach_again(&self) -> Result<PresignedStore, Failure> {
        let how = How { memory: 1 << 20, blocks: Blocks::None, ..How::default() };
        let opened = self.open_how(&how)?;
        let (_, store) = opened.online.ok_or_else(|| Failure::usage("this vault has no server"))?;
        Ok(store)
    }

    /// Adds a snapshot that this device made to the list that is kept: without it the list would show an older past than
    /// the floor allows.
    pub(crate) fn remember_own(&self, vault: VaultId, record: SnapshotRecord, stored: u64) {
        let path = seen::path(&self.places.state, vault);
        let Some(mut seen) = seen::load(&path) else { return };
        // The version stays as it was: the next time the server is asked, its list is another.
        seen.list.snapshots.retain(|known| known.session != record.session);
        seen.list.snapshots.push(record);
        (seen.used, seen.at) = (seen.used.saturating_add(stored), crate::time::now());
        if let Err(failure) = seen::save(&path, &seen) {
            tracing::warn!("the new snapshot cannot be remembered: {}", failure.message());
        }
    }

    /// Keeps the list of snapshots for when the server is not reached.
    pub(super) fn remember(&self, vault: &Vault, store: &PresignedStore) {
        let path = seen::path(&self.places.state, vault.keyring().vault());
        let kept = vault.listed().map_err(Failure::from).and_then(|list| {
            let at = crate::time::now();
            let known = |seen: Seen| seen.list.version == list.version && at.secs - seen.at.secs < SEEN_AGAIN;
            if seen::load(&path).is_some_and(known) {
                return Ok(());
            }
            seen::save(&path, &Seen { list, used: store.mounted().vault.used, at })
        });
        if let Err(failure) = kept {
            tracing::warn!("the list of snapshots cannot be remembered: {}", failure.message());
        }
    }
}
