//! Holds the vault against what was seen of it before (security.md 6).
//!
//! **What it may not do.** Store what it learned: the face keeps the [`Floor`] in its state folder.
//! **What always holds.** Work is bounded: at most the newest root of each device that moved, and the newest
//! of all, which every reader loads next anyway. A remembered session that has not moved is pinned and compared
//! when its root is loaded.
//! Snapshots that an owner forgot need not be there: a sealed label of one that stays names them ([`Forgotten`]).
//! **Where it is tested.** In the reader's tests; `tests/hostile`.

use crate::{Root, Vault, VaultError};
use backupengine_model::ledger::SnapshotRecord;
use backupengine_model::{DeviceId, Forgotten, ReadFailure, RootHash, SessionNo};
use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use thiserror::Error;

/// The newest root this device has seen of each device: kept by the face in the state folder (security.md 6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    /// Device, its newest session, the hash of that session's root; by device.
    pub seen: Vec<(DeviceId, SessionNo, RootHash)>,
}

/// Bytes that are no floor.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("what was seen of the vault does not read: it is malformed")]
pub struct FloorMalformed;

/// Version of the encoded form.
const VERSION: u8 = 1;
/// Device, session, hash.
const ENTRY_LEN: usize = DeviceId::LEN + 4 + RootHash::LEN;

impl Floor {
    /// For an enrolment envelope: a version byte, then each device with its session (little-endian) and hash, by
    /// device.
    pub fn encode(&self) -> Vec<u8> {
        let mut seen = self.seen.clone();
        seen.sort_unstable();
        let mut out = Vec::with_capacity(1 + seen.len() * ENTRY_LEN);
        out.push(VERSION);
        for (device, session, hash) in seen {
            out.extend_from_slice(&device.0);
            out.extend_from_slice(&session.0.to_le_bytes());
            out.extend_from_slice(&hash.0);
        }
        out
    }

    /// Reads what [`Floor::encode`] gives, and nothing else. No bytes at all are the floor of a device that has
    /// seen nothing.
    ///
    /// # Errors
    /// [`FloorMalformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FloorMalformed> {
        let Some((version, entries)) = bytes.split_first() else { return Ok(Self::default()) };
        let (entries, rest) = entries.as_chunks::<ENTRY_LEN>();
        if *version != VERSION || !rest.is_empty() {
            return Err(FloorMalformed);
        }
        let mut seen = Vec::with_capacity(entries.len());
        for entry in entries {
            let (device, entry) = entry.split_first_chunk().ok_or(FloorMalformed)?;
            let (session, hash) = entry.split_first_chunk().ok_or(FloorMalformed)?;
            let hash = RootHash(hash.try_into().map_err(|_| FloorMalformed)?);
            seen.push((DeviceId(*device), SessionNo(u32::from_le_bytes(*session)), hash));
        }
        let ascending = seen.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if ascending { Ok(Self { seen }) } else { Err(FloorMalformed) }
    }

    /// The higher of both for every device. Of two hashes of one session the own one stays: what was seen first
    /// is what a later look is held against.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Self {
        let mut seen: BTreeMap<DeviceId, (SessionNo, RootHash)> = BTreeMap::new();
        for &(device, session, hash) in self.seen.iter().chain(&other.seen) {
            let entry = seen.entry(device).or_insert((session, hash));
            if entry.0 < session {
                *entry = (session, hash);
            }
        }
        Self { seen: seen.into_iter().map(|(device, (session, hash))| (device, session, hash)).collect() }
    }
}

/// How the list is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// As the store shows it now.
    Near,
    /// The list alone.
    List,
    /// As it was seen last: the store is not reached.
    Away,
    /// As it is, whatever was seen before.
    Accepting,
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
        self.hold_against(floor, Look::Near, None)
    }

    /// The part of [`Vault::check_floor`] that takes no root: that the list reaches as far as it did. For who has that
    /// checked later, beside something else.
    ///
    /// # Errors
    /// [`VaultError::RolledBack`]; [`VaultError::Forked`] by a root that was opened before; [`VaultError::Store`].
    pub fn check_floor_list(&self, floor: &Floor) -> Result<(), VaultError> {
        self.hold_against(floor, Look::List, None).map(drop)
    }

    /// As [`Vault::check_floor`], for who wants what is left of a vault whose newest roots are damaged: these are told
    /// instead of refused, and nothing that was remembered of their devices is let go. Nobody shows what they hold.
    ///
    /// # Errors
    /// See [`Vault::check_floor`]; damage is none of them.
    pub fn check_floor_past_damage(&self, floor: &Floor) -> Result<(Floor, Vec<VaultError>), VaultError> {
        let mut damaged = Vec::new();
        let shown = self.hold_against(floor, Look::Near, Some(&mut damaged))?;
        Ok((shown, damaged))
    }

    /// What there is to remember of a vault whose past is accepted, whatever was seen of it before: by this device or by
    /// those that pushed. Newest roots that are damaged are told beside it.
    ///
    /// # Errors
    /// See [`Vault::check_floor_past_damage`].
    pub fn accept_floor(&self) -> Result<(Floor, Vec<VaultError>), VaultError> {
        let mut damaged = Vec::new();
        let shown = self.hold_against(&Floor::default(), Look::Accepting, Some(&mut damaged))?;
        Ok((shown, damaged))
    }

    /// The same for a vault whose store is not reached: the newest root of all, which is looked at even where it has not
    /// moved, may be away. It was checked when it was first seen, and stays pinned.
    ///
    /// # Errors
    /// See [`Vault::check_floor`].
    pub fn check_floor_away(&self, floor: &Floor) -> Result<Floor, VaultError> {
        self.hold_against(floor, Look::Away, None)
    }

    /// Newest roots that are damaged are put among `damaged`, where that is given.
    fn hold_against(
        &self,
        floor: &Floor,
        look: Look,
        mut damaged: Option<&mut Vec<VaultError>>,
    ) -> Result<Floor, VaultError> {
        let listed = self.core.snapshots.list()?;
        let forgotten = OnceCell::new();
        // Labels are opened only where something seems to be missing.
        let forgotten = || {
            forgotten.get_or_init(|| {
                listed.records.iter().flat_map(|record| self.forgotten(record)).collect::<Vec<_>>()
            })
        };
        let mut newest: BTreeMap<DeviceId, &SnapshotRecord> = BTreeMap::new();
        // Of an unreadable root in a rebuilt ledger nobody knows whose it is: it stands for no device.
        for record in listed.records.iter().filter(|record| !record.is_rebuilt()) {
            let entry = newest.entry(record.device).or_insert(record);
            if entry.session < record.session {
                *entry = record;
            }
        }
        let mut raised: BTreeMap<DeviceId, (SessionNo, RootHash)> = BTreeMap::new();
        for &(device, session, hash) in &floor.seen {
            reaches(&newest, (device, session, hash), &forgotten)?;
            self.core.pins.set(session, hash);
            raised.insert(device, (session, hash));
        }
        // Trees that were opened before the floor was known.
        for &(_, session, _) in &floor.seen {
            if let Some(tree) = self.core.trees.get(&session) {
                self.core.pins.check(&tree.root)?;
            }
        }
        if look == Look::List {
            return Ok(floor.clone());
        }
        let latest = listed.records.iter().rfind(|record| !record.is_rebuilt()).map(|record| record.session);
        for (&device, record) in &newest {
            let moved = raised.get(&device).is_none_or(|seen| seen.0 < record.session);
            if !moved && latest != Some(record.session) {
                continue;
            }
            let root = match self.root(record.session) {
                // It shows nothing that could be older than it should be, and reading it says the same again.
                Err(VaultError::UnknownEpoch { .. }) => continue,
                Err(error) if look == Look::Away && !moved && error.failure() == ReadFailure::TimedOut => {
                    continue;
                }
                Err(error) if error.is_damage() => match &mut damaged {
                    Some(damaged) => {
                        damaged.push(error);
                        continue;
                    }
                    None => return Err(error),
                },
                root => root?,
            };
            chains_to(&root, device, raised.get(&device))?;
            if look != Look::Accepting {
                knows_no_more(&root, &newest, &forgotten)?;
            }
            // What was seen and then forgotten stays remembered: nothing else may come back in its place.
            let entry = raised.entry(device).or_insert((record.session, root.hash));
            if entry.0 < record.session {
                *entry = (record.session, root.hash);
            }
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
fn knows_no_more<'a>(
    root: &Root,
    newest: &BTreeMap<DeviceId, &SnapshotRecord>,
    forgotten: &impl Fn() -> &'a Vec<Forgotten>,
) -> Result<(), VaultError> {
    root.record.others.iter().try_for_each(|seen| reaches(newest, *seen, forgotten))
}

/// The list reaches as far as was seen of a device, but for what an owner forgot.
fn reaches<'a>(
    newest: &BTreeMap<DeviceId, &SnapshotRecord>,
    (device, session, hash): (DeviceId, SessionNo, RootHash),
    forgotten: &impl Fn() -> &'a Vec<Forgotten>,
) -> Result<(), VaultError> {
    let now = newest.get(&device).map(|record| record.session);
    let short = |needed: SessionNo| now.unwrap_or(SessionNo(0)) < needed;
    if short(session) && short(Forgotten::needed(forgotten(), device, session)) {
        return Err(VaultError::RolledBack { device, seen: (session, hash), listed: now });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floor(seen: &[(u8, u32, u8)]) -> Floor {
        let seen = seen.iter().map(|(d, s, r)| (DeviceId([*d; 16]), SessionNo(*s), RootHash([*r; 32])));
        Floor { seen: seen.collect() }
    }

    #[test]
    fn a_floor_reads_back_and_nothing_else_does() {
        for seen in [&[][..], &[(1, 5, 50)], &[(1, 5, 50), (2, u32::MAX, 30), (3, 0, 0)]] {
            assert_eq!(Floor::decode(&floor(seen).encode()), Ok(floor(seen)));
        }
        let unsorted = floor(&[(2, 3, 30), (1, 5, 50)]);
        let good = unsorted.encode();
        assert_eq!(Floor::decode(&good), Ok(floor(&[(1, 5, 50), (2, 3, 30)])));
        assert_eq!(Floor::decode(&[]), Ok(Floor::default()));
        for len in 2..good.len() {
            assert_eq!(Floor::decode(&good[..len]).is_ok(), len == 1 + ENTRY_LEN, "{len}");
        }
        let mut newer = good.clone();
        newer[0] = 2;
        let swapped = [&good[..1], &good[1 + ENTRY_LEN..], &good[1..=ENTRY_LEN]].concat();
        let doubled = [&good[..], &good[1 + ENTRY_LEN..]].concat();
        for bad in [newer, swapped, doubled] {
            assert_eq!(Floor::decode(&bad), Err(FloorMalformed));
        }
    }

    #[test]
    fn merging_only_raises() {
        let own = floor(&[(1, 5, 50), (2, 3, 30)]);
        let other = floor(&[(1, 4, 40), (2, 9, 90), (3, 1, 10)]);
        let both = floor(&[(1, 5, 50), (2, 9, 90), (3, 1, 10)]);
        assert_eq!(own.merged(&other), both);
        assert_eq!(other.merged(&own), both);
        assert_eq!(own.merged(&Floor::default()), own);
        // A fork is not settled here: what was seen first stays, and the check says so.
        assert_eq!(own.merged(&floor(&[(1, 5, 51)])), own);
    }
}
