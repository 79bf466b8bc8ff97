//! The list of snapshots: one call to the ledger, kept while its version stands.
//!
//! **What it may not do.** Fetch roots, except where a label does not open or was cut, where the ledger was rebuilt
//! from the blobs and knows no more than which roots there are (one call each, once), or where it does not read:
//! then the list is rebuilt from the roots themselves, which hold everything.
//! **What always holds.** Oldest first; records and infos stand in the same order.
//! **Where it is tested.** In the reader's tests.

use crate::VaultError;
use crate::error::describe;
use crate::open::Opener;
use crate::root;
use backupengine_format::label;
use backupengine_model::ledger::SnapshotRecord;
use backupengine_model::{Forgotten, ReadFailure, SessionNo, SnapshotInfo};
use backupengine_store::{BlobKey, BlobKind, ErrorKind, SnapshotList, StoreError};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The list as last seen.
pub(crate) struct Snapshots {
    opener: Arc<Opener>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    listed: Option<Listed>,
    /// Sessions that were listed once and are not any more.
    removed: BTreeSet<SessionNo>,
}

/// The list at one version.
#[derive(Clone)]
pub(crate) struct Listed {
    pub(crate) version: u64,
    /// How far the keys reached it was read with: with newer ones there may be more to say.
    epoch: u16,
    pub(crate) records: Arc<Vec<SnapshotRecord>>,
    pub(crate) infos: Arc<Vec<SnapshotInfo>>,
}

impl Snapshots {
    pub(crate) fn new(opener: Arc<Opener>) -> Self {
        Self { opener, state: Mutex::default() }
    }

    /// The list now: from memory while the ledger's version stands.
    pub(crate) fn list(&self) -> Result<Listed, VaultError> {
        let mut state = self.lock();
        if let Some(listed) = &state.listed
            && listed.epoch == self.opener.keys().epoch()
            && self.version()? == listed.version
        {
            return Ok(listed.clone());
        }
        self.refresh(&mut state)
    }

    /// Version of the list read last.
    pub(crate) fn last_version(&self) -> Option<u64> {
        self.lock().listed.as_ref().map(|listed| listed.version)
    }

    /// A number that moves with the list.
    pub(crate) fn version(&self) -> Result<u64, VaultError> {
        match self.opener.fetcher().version() {
            Ok(version) => Ok(version),
            Err(error) if error.kind == ErrorKind::LedgerDamaged => Ok(fingerprint(&self.roots()?)),
            Err(error) => Err(error.into()),
        }
    }

    /// The ledger's record of one snapshot, from memory where it is known.
    pub(crate) fn record(&self, session: SessionNo) -> Result<SnapshotRecord, VaultError> {
        let mut state = self.lock();
        let known = state.listed.as_ref().and_then(|listed| listed.find(session).cloned());
        if let Some(record) = known {
            return Ok(record);
        }
        let listed = self.refresh(&mut state)?;
        listed.find(session).cloned().ok_or_else(|| state.absent(session))
    }

    /// Whether a snapshot is listed now, as the ledger says this moment.
    pub(crate) fn is_listed(&self, session: SessionNo) -> Result<bool, VaultError> {
        Ok(self.list()?.find(session).is_some())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refresh(&self, state: &mut State) -> Result<Listed, VaultError> {
        let listed = match self.opener.fetcher().snapshots() {
            Ok(list) => self.read(list, state.listed.as_ref())?,
            Err(error) if error.kind == ErrorKind::LedgerDamaged => self.rebuild(&error)?,
            Err(error) => return Err(error.into()),
        };
        if let Some(before) = state.listed.replace(listed.clone()) {
            let gone = before.records.iter().map(|r| r.session).filter(|s| listed.find(*s).is_none());
            state.removed.extend(gone);
        }
        Ok(listed)
    }

    fn read(&self, list: SnapshotList, before: Option<&Listed>) -> Result<Listed, VaultError> {
        // Keys that come while it is read say more than is known of what was read before.
        let epoch = self.opener.keys().epoch();
        let mut both = Vec::with_capacity(list.snapshots.len());
        for record in list.snapshots {
            both.push(match before.and_then(|before| before.known(&record)) {
                Some(known) => known,
                None => self.of_root_or_label(record)?,
            });
        }
        Ok(Listed::new(list.version, epoch, both))
    }

    fn of_root_or_label(&self, record: SnapshotRecord) -> Result<(SnapshotRecord, SnapshotInfo), VaultError> {
        if record.is_rebuilt()
            && let Ok(root) = root::load(&self.opener, record.session, Some(record.head_len))
            && root.id == record.id
        {
            let mut info = root.info();
            if let Some(label) = self.label(&record) {
                info.tags = tags_of(label, &info);
            }
            return Ok((SnapshotRecord { label: record.label, ..root.listed() }, info));
        }
        // A root that does not read keeps its line in the list; reading it will say what is wrong.
        let info = self.info(&record)?;
        Ok((record, info))
    }

    fn info(&self, record: &SnapshotRecord) -> Result<SnapshotInfo, VaultError> {
        let label = self.label(record);
        let labelled = |label: label::Label| SnapshotInfo {
            session: record.session,
            id: record.id,
            created: record.created,
            device: record.device,
            device_name: label.device_name,
            tags: label.tags,
            sources: label.sources,
        };
        let cut = match label {
            Some(label) if !label.cut => return Ok(labelled(label)),
            cut => cut,
        };
        match (root::load(&self.opener, record.session, Some(record.head_len)), cut) {
            (Ok(root), cut) => {
                let mut info = root.info();
                if let Some(label) = cut {
                    info.tags = tags_of(label, &info);
                }
                Ok(info)
            }
            // Without a network the rest of a long list of paths is not worth all the snapshots.
            (Err(error), Some(cut)) if error.failure() == ReadFailure::TimedOut => Ok(labelled(cut)),
            // One snapshot that cannot be read must not hide the others; reading it will say what is wrong.
            (Err(error), _)
                if error.failure() == ReadFailure::Damaged
                    || matches!(error, VaultError::UnknownEpoch { .. }) =>
            {
                tracing::warn!(session = %record.session, error = describe(&error), "no label and no root");
                Ok(SnapshotInfo {
                    session: record.session,
                    id: record.id,
                    created: record.created,
                    device: record.device,
                    device_name: record.device.to_string(),
                    tags: Vec::new(),
                    sources: Vec::new(),
                })
            }
            (Err(error), _) => Err(error),
        }
    }

    fn label(&self, record: &SnapshotRecord) -> Option<label::Label> {
        let plain = self.opener.keys().open_label(record.session, &record.label)?;
        label::decode(&plain).ok()
    }

    /// What a record says, whether it is listed or in the trash.
    pub(crate) fn describe(&self, record: SnapshotRecord) -> Result<SnapshotInfo, VaultError> {
        Ok(self.of_root_or_label(record)?.1)
    }

    /// What the label of a record says was forgotten.
    pub(crate) fn forgotten(&self, record: &SnapshotRecord) -> Vec<Forgotten> {
        self.label(record).map(|label| label.forgotten).unwrap_or_default()
    }

    fn roots(&self) -> Result<Vec<(BlobKey, u64)>, StoreError> {
        self.opener.fetcher().list(BlobKind::Roots)
    }

    fn rebuild(&self, why: &StoreError) -> Result<Listed, VaultError> {
        tracing::warn!(error = describe(why), "the ledger does not read: listing the roots instead");
        let (roots, epoch) = (self.roots()?, self.opener.keys().epoch());
        let mut both = Vec::with_capacity(roots.len());
        for (blob, _) in &roots {
            let BlobKey::Root(session) = blob else { continue };
            match root::load(&self.opener, *session, None) {
                Ok(root) => both.push((root.listed(), root.info())),
                Err(error) => {
                    tracing::warn!(%session, error = describe(&error), "a root was left out of the list");
                }
            }
        }
        Ok(Listed::new(fingerprint(&roots), epoch, both))
    }
}

impl State {
    fn absent(&self, session: SessionNo) -> VaultError {
        if self.removed.contains(&session) {
            VaultError::Removed(session)
        } else {
            VaultError::NoSnapshot(session)
        }
    }
}

impl Listed {
    fn new(version: u64, epoch: u16, mut both: Vec<(SnapshotRecord, SnapshotInfo)>) -> Self {
        both.sort_by_key(|(record, _)| (record.created, record.session));
        let (records, infos) = both.into_iter().unzip();
        Self { version, epoch, records: Arc::new(records), infos: Arc::new(infos) }
    }

    /// What a root told before, where the ledger still tells nothing.
    fn known(&self, record: &SnapshotRecord) -> Option<(SnapshotRecord, SnapshotInfo)> {
        let at = self.records.iter().position(|known| known.session == record.session)?;
        let (known, info) = (&self.records[at], &self.infos[at]);
        let same = known.id == record.id && known.label == record.label;
        let told = record.is_rebuilt() && !known.is_rebuilt() && same;
        told.then(|| (known.clone(), info.clone()))
    }

    pub(crate) fn find(&self, session: SessionNo) -> Option<&SnapshotRecord> {
        self.records.iter().find(|record| record.session == session)
    }
}

/// A label's tags are the ones that count: an owner may have replaced those of the root. Where sources did not fit into
/// it, tags may have been left out as well, from the end.
fn tags_of(label: label::Label, root: &SnapshotInfo) -> Vec<String> {
    let left_out = label.cut && label.sources.is_empty() && root.tags.starts_with(&label.tags);
    if left_out { root.tags.clone() } else { label.tags }
}

/// A version for a list that has none: FNV-1a over the names, marked in its highest bit.
fn fingerprint(roots: &[(BlobKey, u64)]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for (blob, size) in roots {
        let session = if let BlobKey::Root(session) = blob { session.0 } else { 0 };
        for byte in session.to_le_bytes().into_iter().chain(size.to_le_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash | 1 << 63
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_moves_with_the_roots() {
        let one = [(BlobKey::Root(SessionNo(1)), 4096)];
        let two = [(BlobKey::Root(SessionNo(1)), 4096), (BlobKey::Root(SessionNo(2)), 4096)];
        assert_eq!(fingerprint(&one), fingerprint(&one));
        assert_ne!(fingerprint(&one), fingerprint(&two));
        assert_ne!(fingerprint(&[]), 0);
    }
}
