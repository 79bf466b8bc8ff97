//! Holds the vault against what was seen of it before (security.md 6).
//!
//! **What it may not do.** Store what it learned: the face keeps the [`Floor`] in its state folder.
//! **What always holds.** Work is bounded: at most the newest root of each device that moved, and the newest
//! of all, which every reader loads next anyway. A remembered session that has not moved is pinned and compared
//! when its root is loaded.
//! **Where it is tested.** In the reader's tests.

use crate::{Root, Vault, VaultError};
use backupengine_model::ledger::SnapshotRecord;
use backupengine_model::{DeviceId, RootHash, SessionNo};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

/// The newest root this device has seen of each device: kept by the face in the state folder (security.md 6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    /// Device, its newest session, the hash of that session's root; by device.
    pub seen: Vec<(DeviceId, SessionNo, RootHash)>,
}

/// Root hashes that sessions must have.
#[derive(Default)]
pub(crate) struct Pins {
    pins: Mutex<HashMap<SessionNo, RootHash>>,
}

impl Pins {
    fn set(&self, session: SessionNo, hash: RootHash) {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner).insert(session, hash);
    }

    /// Refuses a root that is not the one seen before.
    pub(crate) fn check(&self, root: &Root) -> Result<(), VaultError> {
        let session = root.record.session;
        let pinned = self.pins.lock().unwrap_or_else(PoisonError::into_inner).get(&session).copied();
        match pinned {
            Some(seen) if seen != root.hash => {
                Err(VaultError::Forked { device: root.record.device, session, seen, found: root.hash })
            }
            _ => Ok(()),
        }
    }
}

impl Vault {
    /// Compares the list with the newest roots this device remembers, and says what to remember from now on.
    ///
    /// # Errors
    /// [`VaultError::RolledBack`], [`VaultError::Forked`], and whatever keeps a newest root from being
    /// believed.
    pub fn check_floor(&self, floor: &Floor) -> Result<Floor, VaultError> {
        let listed = self.core.snapshots.list()?;
        let mut newest: BTreeMap<DeviceId, &SnapshotRecord> = BTreeMap::new();
        for record in listed.records.iter() {
            let entry = newest.entry(record.device).or_insert(record);
            if entry.session < record.session {
                *entry = record;
            }
        }
        let mut raised: BTreeMap<DeviceId, (SessionNo, RootHash)> = BTreeMap::new();
        for &(device, session, hash) in &floor.seen {
            let now = newest.get(&device).map(|record| record.session);
            if now.is_none_or(|now| now < session) {
                return Err(VaultError::RolledBack { device, seen: (session, hash), listed: now });
            }
            self.core.pins.set(session, hash);
            raised.insert(device, (session, hash));
        }
        // Trees that were opened before the floor was known.
        for &(_, session, _) in &floor.seen {
            if let Some(tree) = self.core.trees.get(&session) {
                self.core.pins.check(&tree.root)?;
            }
        }
        let latest = listed.records.last().map(|record| record.session);
        for (&device, record) in &newest {
            let moved = raised.get(&device).is_none_or(|seen| seen.0 != record.session);
            if !moved && latest != Some(record.session) {
                continue;
            }
            let root = self.root(record.session)?;
            chains_to(&root, device, raised.get(&device))?;
            knows_no_more(&root, &newest)?;
            raised.insert(device, (record.session, root.hash));
        }
        Ok(Floor { seen: raised.into_iter().map(|(device, (s, hash))| (device, s, hash)).collect() })
    }
}

/// Where the newest root follows directly on the one remembered, it must name it by its hash.
fn chains_to(root: &Root, device: DeviceId, seen: Option<&(SessionNo, RootHash)>) -> Result<(), VaultError> {
    match (root.record.parent, seen) {
        (Some((parent, found)), Some(&(session, seen))) if parent == session && found != seen => {
            Err(VaultError::Forked { device, session, seen, found })
        }
        _ => Ok(()),
    }
}

/// What a root says its device has seen of the others must be there.
fn knows_no_more(root: &Root, newest: &BTreeMap<DeviceId, &SnapshotRecord>) -> Result<(), VaultError> {
    for &(device, session, hash) in &root.record.others {
        let now = newest.get(&device).map(|record| record.session);
        if now.is_none_or(|now| now < session) {
            return Err(VaultError::RolledBack { device, seen: (session, hash), listed: now });
        }
    }
    Ok(())
}
