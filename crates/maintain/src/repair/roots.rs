//! Roots that were lost and that this device had kept: stored again, byte for byte.
//!
//! **What it may not do.** Make a root: its id, its seal and its signature are the pushing device's. Put one over another.
//! **What always holds.** What is stored is the root pack that the ledger lists, whole: its length, its id, the commitment,
//! record and reference set open. (S, N, salt) seals one byte string, and these are its bytes.
//! **Where it is tested.** `tests/damage`.

use super::{Heal, RepairError};
use backupengine_format::pack::find_end;
use backupengine_format::root::RootRecord;
use backupengine_format::trailer::{TRAILER_LEN, Trailer};
use backupengine_model::ledger::SnapshotRecord;
use backupengine_model::{FrameKind, FrameRef, PackRef, SessionNo, SnapshotId};
use backupengine_store::{BlobKey, ErrorKind, StoreError};
use std::collections::BTreeSet;
use std::io::Write as _;

impl Heal<'_> {
    pub(super) fn roots(&self, damaged: &BTreeSet<SessionNo>) -> Result<(), RepairError> {
        if damaged.is_empty() {
            return Ok(());
        }
        let (_, _, snapshots) = self.now()?;
        for record in snapshots.iter().filter(|record| damaged.contains(&record.session)) {
            self.go_on()?;
            let Some(bytes) = self.config.remains.root(record.session) else { continue };
            if !self.is_root(record, &bytes) {
                continue;
            }
            if self.config.dry_run || self.put_root(record.session, &bytes)? {
                self.count(|stats| stats.roots_restored += 1);
            }
        }
        Ok(())
    }

    /// Whether these bytes are the root pack that is listed.
    fn is_root(&self, record: &SnapshotRecord, bytes: &[u8]) -> bool {
        let opened = || {
            let at = bytes.len().checked_sub(TRAILER_LEN)?;
            let trailer = Trailer::decode(bytes.get(at..)?).ok()?;
            let pack = trailer.pack;
            let named = (pack.session, pack.number) == (record.session, PackRef::ROOT)
                && SnapshotId(pack.salt) == record.id
                && bytes.len() as u64 == record.root_size;
            let key = self.vault.keyring().pack_key(&pack).ok().filter(|_| named)?;
            key.check_commitment(&trailer.commitment).ok()?;
            let (_, head_at) = find_end(&trailer, bytes.len() as u64).ok()?;
            let cut = |offset: u32, stored_len: u32| {
                let sealed = bytes.get(offset as usize..)?.get(..stored_len as usize)?.to_vec();
                Some((FrameRef { pack, offset, stored_len }, Some(sealed)))
            };
            let (at, sealed) = cut(u32::try_from(head_at).ok()?, trailer.head_len)?;
            let (_, plain) = self.vault.bare_frame(FrameKind::Root, &at, sealed).ok()?;
            let set = RootRecord::decode(&plain).ok()?.reference_set;
            let (at, sealed) = cut(set.offset, set.stored_len).filter(|(at, _)| *at == set)?;
            self.vault.bare_frame(FrameKind::ReferenceSet, &at, sealed).ok()
        };
        opened().is_some()
    }

    /// Stores it under its name; false where that is taken and may not be cleared.
    fn put_root(&self, session: SessionNo, bytes: &[u8]) -> Result<bool, RepairError> {
        let key = BlobKey::Root(session);
        let put = || {
            let mut spool = self.store.spool()?;
            spool.write_all(bytes).map_err(StoreError::from)?;
            self.vault.ask(self.store.put(key, spool))
        };
        match (put(), self.config.folder) {
            (Ok(()), _) => Ok(true),
            (Err(error), Some(folder)) if error.kind == ErrorKind::AlreadyExists => {
                folder.set_aside(key)?;
                put()?;
                Ok(true)
            }
            // An account gives no leave to store a root twice.
            (Err(error), _)
                if matches!(
                    error.kind,
                    ErrorKind::AlreadyExists | ErrorKind::Denied | ErrorKind::RuleBroken(_)
                ) =>
            {
                Ok(false)
            }
            (Err(error), _) => Err(error.into()),
        }
    }
}
