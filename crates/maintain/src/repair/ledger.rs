//! A folder's ledger from its blobs: the roots say which snapshots there are, relocation packs which frames they hold.
//!
//! **What it may not do.** Open a session for what no root tells of, or judge what is unused: everything that is stored
//! counts. **What always holds.** A snapshot is listed as its root says, or by its name alone where that does not read; a
//! pack that is gone is looked for in the relocation pack that has most of it. Nothing the ledger still says is changed.
//! **Where it is tested.** `tests/damage`, `tests/cli`.

use super::RepairError;
use crate::check::findings::problem_of;
use crate::collect::survey::PackId;
use backupengine_format::label;
use backupengine_format::reference::ReferenceSet;
use backupengine_format::trailer::{TRAILER_LEN, Trailer};
use backupengine_model::ledger::{Adopted, FoundSession, SnapshotRecord};
use backupengine_model::{DeviceId, FrameKind, SessionNo, SnapshotId, Timestamp};
use backupengine_store::{BlobKey, BlobKind, ErrorKind, FolderStore, LedgerReader, Range};
use backupengine_vault::{Vault, VaultError};
use std::collections::{BTreeMap, BTreeSet};

/// What became of a ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RebuiltLedger {
    /// It was missing or damaged: what only it knew is lost.
    pub was_lost: bool,
    /// What it knows now and did not before.
    pub adopted: Adopted,
}

impl RebuiltLedger {
    /// Whether it knew everything.
    pub fn is_unchanged(&self) -> bool {
        !self.was_lost && self.adopted == Adopted::default()
    }
}

/// Has a folder's ledger take in what is stored and it does not know; all of it where it does not read. `random` gives
/// salts for labels. Where `dry_run`, only says what it would be.
///
/// # Errors
/// [`RepairError`].
pub fn rebuild_ledger(
    vault: &Vault,
    store: &FolderStore,
    random: &(dyn Fn(&mut [u8]) + Sync),
    dry_run: bool,
) -> Result<RebuiltLedger, RepairError> {
    // Blobs first: whoever stores one has its session in the ledger by then.
    let sizes = Sizes::of(vault)?;
    let known = match vault.ask(store.sessions()) {
        Ok(list) => Some(list.sessions),
        Err(error) if error.kind == ErrorKind::LedgerDamaged => None,
        Err(error) => return Err(error.into()),
    };
    let knows = |session: &SessionNo| {
        known.as_ref().is_some_and(|known| known.iter().any(|record| record.session == *session))
    };
    let mut unknown: BTreeSet<SessionNo> = sizes.sessions().filter(|session| !knows(session)).collect();
    if unknown.is_empty() && known.is_some() {
        return Ok(RebuiltLedger::default());
    }
    let mut look = Look { vault, sizes: &sizes, packs: BTreeMap::new(), random };
    let snapshots: BTreeMap<SessionNo, SnapshotRecord> = sizes
        .roots
        .iter()
        .filter(|(session, _)| unknown.contains(session))
        .map(|(session, size)| Ok((*session, look.root(*session, *size)?)))
        .collect::<Result<_, RepairError>>()?;
    let gone = look.relocations(&unknown)?;
    // Of these nothing is stored any more but what was moved.
    unknown.extend(look.packs.keys().filter(|session| !knows(session)));
    let relocating: BTreeSet<SessionNo> = gone.values().flatten().map(|(to, _)| to.0).collect();
    let found: Vec<FoundSession> = unknown
        .iter()
        .map(|session| FoundSession {
            session: *session,
            snapshot: snapshots.get(session).cloned(),
            packs: look.packs.get(session).copied().unwrap_or(0).max(sizes.packs_of(*session)),
            bytes: sizes.bytes_of(*session),
            relocates: relocating.contains(session),
        })
        .collect();
    // What is stored is read where it is; if that is damaged, a repair finds the copies.
    let gone: BTreeMap<PackId, PackId> = gone
        .into_iter()
        .filter(|(from, _)| !sizes.packs.contains_key(from))
        .filter_map(|(from, to)| Some((from, best(&to)?)))
        .collect();
    if dry_run {
        let adopted = Adopted {
            sessions: found.len() as u64,
            snapshots: snapshots.len() as u64,
            moved: gone.len() as u64,
        };
        return Ok(RebuiltLedger { was_lost: known.is_none(), adopted });
    }
    let (adopted, was_lost) = store.adopt(&found, &gone)?;
    Ok(RebuiltLedger { was_lost, adopted })
}

/// The relocation pack that has most frames of a pack; of equal ones the newest.
fn best(to: &[(PackId, u64)]) -> Option<PackId> {
    to.iter().max_by_key(|(id, frames)| (*frames, *id)).map(|(id, _)| *id)
}

/// What is stored.
struct Sizes {
    packs: BTreeMap<PackId, u64>,
    roots: BTreeMap<SessionNo, u64>,
}

impl Sizes {
    fn of(vault: &Vault) -> Result<Self, RepairError> {
        let store = vault.store();
        let (mut packs, mut roots) = (BTreeMap::new(), BTreeMap::new());
        let stored = vault.ask(store.list(BlobKind::Packs))?.into_iter();
        for (key, size) in stored.chain(vault.ask(store.list(BlobKind::Roots))?) {
            match key {
                BlobKey::Pack(session, number) => drop(packs.insert((session, number), size)),
                BlobKey::Root(session) => drop(roots.insert(session, size)),
                BlobKey::Envelope(_) => {}
            }
        }
        Ok(Self { packs, roots })
    }

    /// Session 0 does not exist.
    fn sessions(&self) -> impl Iterator<Item = SessionNo> {
        let all = self.packs.keys().map(|(session, _)| *session).chain(self.roots.keys().copied());
        all.filter(|session| session.0 > 0)
    }

    fn of_session(&self, session: SessionNo) -> impl Iterator<Item = (u32, u64)> {
        let packs = self.packs.range((session, 0)..=(session, u32::MAX));
        packs.map(|((_, number), size)| (*number, *size))
    }

    fn packs_of(&self, session: SessionNo) -> u32 {
        self.of_session(session).map(|(number, _)| number.saturating_add(1)).max().unwrap_or(0)
    }

    fn bytes_of(&self, session: SessionNo) -> u64 {
        let root = self.roots.get(&session).copied().unwrap_or(0);
        self.of_session(session).fold(root, |sum, (_, size)| sum.saturating_add(size))
    }
}

struct Look<'a> {
    vault: &'a Vault,
    sizes: &'a Sizes,
    /// One more than the largest number of a pack that a root's reference set names.
    packs: BTreeMap<SessionNo, u32>,
    random: &'a (dyn Fn(&mut [u8]) + Sync),
}

impl Look<'_> {
    fn readable<T>(&self, read: Result<T, VaultError>) -> Result<Option<T>, RepairError> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(error) if problem_of(&error).is_none() => Err(error.into()),
            Err(_) => Ok(None),
        }
    }

    /// The ledger's record of a root.
    fn root(&mut self, session: SessionNo, size: u64) -> Result<SnapshotRecord, RepairError> {
        let nobody = DeviceId([0; DeviceId::LEN]);
        let mut record = SnapshotRecord {
            session,
            id: SnapshotId(u64::from(session.0).to_be_bytes()),
            device: nobody,
            created: Timestamp::default(),
            root_size: size,
            head_len: 0,
            label: Vec::new(),
        };
        let trailer = self.trailer(session)?;
        if let Some(trailer) = &trailer {
            (record.id, record.head_len) = (SnapshotId(trailer.pack.salt), trailer.head_len);
        }
        let Some(root) = self.readable(self.vault.root_of(&record))?.filter(|_| trailer.is_some()) else {
            return Ok(record);
        };
        let set =
            self.readable(self.vault.frame(FrameKind::ReferenceSet, &root.record.reference_set, None))?;
        if let Some(set) = set.and_then(|bytes| ReferenceSet::decode(&bytes).ok()) {
            for (session, numbers) in &set.packs {
                let most = numbers.iter().max().map_or(0, |number| number.saturating_add(1));
                let known = self.packs.entry(*session).or_default();
                *known = most.max(*known);
            }
        }
        (record.device, record.created) = (root.record.device, root.record.created);
        let info = self.vault.describe(&SnapshotRecord { device: nobody, ..record.clone() })?;
        let mut salt = [0; 8];
        (self.random)(&mut salt);
        record.label = self.vault.keyring().seal_label(session, salt, &label::encode(&info));
        Ok(record)
    }

    fn trailer(&self, session: SessionNo) -> Result<Option<Trailer>, RepairError> {
        let get = self.vault.store().get(BlobKey::Root(session), Range::Suffix(TRAILER_LEN as u64));
        let end = self.readable(self.vault.ask(get).map_err(VaultError::from))?;
        let trailer = end.and_then(|end| Trailer::decode(&end.bytes).ok());
        Ok(trailer.filter(|trailer| trailer.pack.session == session))
    }

    /// Packs of which relocation packs of unknown sessions hold frames: which those are, and how many frames.
    fn relocations(
        &self,
        unknown: &BTreeSet<SessionNo>,
    ) -> Result<BTreeMap<PackId, Vec<(PackId, u64)>>, RepairError> {
        let mut found: BTreeMap<PackId, Vec<(PackId, u64)>> = BTreeMap::new();
        let candidates = self
            .sizes
            .packs
            .keys()
            .filter(|(session, _)| unknown.contains(session) && !self.sizes.roots.contains_key(session));
        for id in candidates {
            for (pack, frames) in self.readable(self.vault.held_in(*id))?.into_iter().flatten() {
                found.entry(pack).or_default().push((*id, frames));
            }
        }
        Ok(found)
    }
}
