//! The ledger of a folder vault: one file, replaced whole.
//!
//! May not decide what is allowed (that is `model::ledger`) or know how the bytes look (that is [`record`]).
//! What always holds: writers take turns by flock(2) on `lock`; readers need no lock, they see the file before
//! or after a change, never in between; a ledger that is missing or damaged is an error, never an empty one,
//! or session numbers would be given twice. Tested in `tests/stores` and `tests/protocol`.
//!
//! [`record`]: super::record

use super::layout::{LEDGER, LEDGER_DAMAGED, LOCK, TMP};
use super::record::{self, RecordError};
use super::{durable, sweep};
use crate::{ErrorKind, StoreError};
use backupengine_model::VaultId;
use backupengine_model::ledger::LedgerState;
use rustix::fs::FlockOperation;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Access to the ledger file, with the last state read.
pub(crate) struct LedgerFile {
    folder: PathBuf,
    path: PathBuf,
    vault: VaultId,
    last: Mutex<Option<Seen>>,
}

/// A state and the file it was read from. The file stays open so that its inode number cannot be given to a
/// successor: as long as the name leads to the same inode, the state is current.
struct Seen {
    _open: File,
    stamp: Stamp,
    state: Arc<LedgerState>,
}

/// What tells that a file was replaced or changed.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    mtime: (i64, i64),
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            mtime: (found.mtime(), found.mtime_nsec()),
        }
    }
}

impl LedgerFile {
    /// The bytes of a new vault's ledger.
    pub(crate) fn empty(vault: VaultId) -> Vec<u8> {
        record::encode(vault, &LedgerState::default())
    }

    pub(crate) fn new(folder: &Path, vault: VaultId) -> Self {
        Self { folder: folder.to_owned(), path: folder.join(LEDGER), vault, last: Mutex::new(None) }
    }

    /// The state now; read only if the file changed since the last time.
    pub(crate) fn state(&self) -> Result<Arc<LedgerState>, StoreError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let found = fs::metadata(&self.path).map_err(|e| self.unreadable(e))?;
        if let Some(seen) = last.as_ref().filter(|seen| seen.stamp == Stamp::of(&found)) {
            return Ok(Arc::clone(&seen.state));
        }
        // Not kept on failure: a damaged ledger must not hide behind the last good one.
        *last = None;
        let seen = self.read()?;
        let state = Arc::clone(&seen.state);
        *last = Some(seen);
        Ok(state)
    }

    fn read(&self) -> Result<Seen, StoreError> {
        let mut file = File::open(&self.path).map_err(|e| self.unreadable(e))?;
        let stamp = file.metadata().map(|found| Stamp::of(&found)).map_err(|e| self.unreadable(e))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|e| self.unreadable(e))?;
        let state = record::decode(self.vault, &bytes).map_err(|e| self.damaged(e))?;
        Ok(Seen { _open: file, stamp, state: Arc::new(state) })
    }

    fn unreadable(&self, error: io::Error) -> StoreError {
        if error.kind() == io::ErrorKind::NotFound {
            let message = format!("the vault's ledger {} is missing", self.path.display());
            return StoreError::new(ErrorKind::LedgerDamaged, message).caused_by(error);
        }
        StoreError::from_io("read", &self.path, error)
    }

    fn damaged(&self, error: RecordError) -> StoreError {
        let at = self.path.display();
        match error {
            RecordError::TooNew(_) => {
                let message = format!("the vault's ledger {at} was written by a newer program");
                StoreError::new(ErrorKind::TooNew, message).caused_by(error)
            }
            _ => {
                let message = format!("the vault's ledger {at} is damaged");
                StoreError::new(ErrorKind::LedgerDamaged, message).caused_by(error)
            }
        }
    }

    /// Changes the state by `step`, alone among all processes, durably. Nothing is written where `step` fails
    /// or changes nothing. `sweeping` also clears away what dead processes left in `tmp/`.
    pub(crate) fn change<T>(
        &self,
        sweeping: bool,
        step: impl FnOnce(&mut LedgerState) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let held = durable::lock(&self.folder.join(LOCK), FlockOperation::LockExclusive)?;
        let before = self.state()?;
        let mut after = LedgerState::clone(&before);
        let answer = step(&mut after)?;
        if after != *before {
            self.replace(&after)?;
        }
        if sweeping {
            sweep::stale_spools(&self.folder.join(TMP));
        }
        drop(held);
        Ok(answer)
    }

    /// As [`Self::change`], and from an empty ledger where it is missing or damaged; what is damaged is put aside. Whether it
    /// was so.
    pub(crate) fn rebuild<T>(
        &self,
        step: impl FnOnce(&mut LedgerState) -> Result<T, StoreError>,
    ) -> Result<(T, bool), StoreError> {
        let held = durable::lock(&self.folder.join(LOCK), FlockOperation::LockExclusive)?;
        let (before, lost) = match self.state() {
            Ok(state) => (state, false),
            Err(error) if error.kind == ErrorKind::LedgerDamaged => (Arc::default(), true),
            Err(error) => return Err(error),
        };
        let mut after = LedgerState::clone(&before);
        let answer = step(&mut after)?;
        if lost {
            match fs::rename(&self.path, self.folder.join(LEDGER_DAMAGED)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::from_io("put aside", &self.path, e));
                }
                _ => {}
            }
        }
        if lost || after != *before {
            self.replace(&after)?;
        }
        drop(held);
        Ok((answer, lost))
    }

    fn replace(&self, state: &LedgerState) -> Result<(), StoreError> {
        let tmp = self.folder.join(TMP);
        let (draft, file) = sweep::private_file(&tmp, "ledger")?;
        let written =
            durable::write_synced(&file, &draft, &record::encode(self.vault, state)).and_then(|()| {
                fs::rename(&draft, &self.path).map_err(|e| StoreError::from_io("replace", &self.path, e))
            });
        if written.is_err() {
            // Best effort: the next session sweeps what is left.
            drop(fs::remove_file(&draft));
        }
        written?;
        durable::sync_folder(&self.folder)
    }
}
