//! Changing which key envelopes count.
//!
//! May not look into one. What always holds: new files are whole and on the disk before the ledger names them, and old
//! ones go after it names them no more; the one replacement of the ledger is the moment. All of it is done under the
//! vault's lock, so that nobody sweeps away what another is about to name. Tested below, stopped after every step;
//! between processes in `tests/protocol`.

use super::blobs::BlobFiles;
use super::layout::{self, TMP};
use super::ledger::LedgerFile;
use super::{durable, sweep};
use crate::port::{EnvelopeChange, EnvelopeInfo};
use crate::{BlobKey, BlobKind, EnvelopeId, ErrorKind, StoreError};
use backupengine_model::Timestamp;
use backupengine_model::ledger::{EnvelopeNo, EnvelopesChange, LedgerState, RuleBroken};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Called after each step that leaves something on the disk; where it fails, everything ends as if the process had.
pub(super) type Step<'a> = &'a dyn Fn() -> Result<(), StoreError>;

/// Names and sizes of those that count; of all there are, where the ledger does not read or never named any.
pub(super) fn list(blobs: &BlobFiles, ledger: &LedgerFile) -> Result<Vec<(BlobKey, u64)>, StoreError> {
    let mut found = blobs.list(BlobKind::Envelopes)?;
    if let Ok(Some(counting)) = ledger.state().map(|state| state.envelopes.clone()) {
        found.retain(|(key, _)| matches!(key, BlobKey::Envelope(id) if counting.contains(&id.0)));
    }
    Ok(found)
}

/// Those that count, with the time their file was written.
pub(super) fn infos(
    folder: &Path,
    blobs: &BlobFiles,
    ledger: &LedgerFile,
) -> Result<Vec<EnvelopeInfo>, StoreError> {
    let listed = list(blobs, ledger)?.into_iter();
    Ok(listed
        .filter_map(|(key, _)| {
            let BlobKey::Envelope(id) = key else { return None };
            let found = fs::metadata(layout::blob_path(folder, key)).ok();
            let stored = found.map(|f| Timestamp { secs: f.mtime(), nanos: f.mtime_nsec() as u32 });
            Some(EnvelopeInfo { id, stored })
        })
        .collect())
}

/// Refuses to put an envelope beside those that were chosen.
pub(super) fn refuse_beside(ledger: &LedgerFile, key: BlobKey) -> Result<(), StoreError> {
    match ledger.state() {
        Ok(state) if state.envelopes.is_some() => {
            let text = "which key envelopes count was decided already: one more is a change of them";
            let kind = ErrorKind::RuleBroken(RuleBroken::EnvelopesMoved);
            Err(StoreError::new(kind, text).about(key))
        }
        _ => Ok(()),
    }
}

/// See [`EnvelopeKeeper::change_envelopes`](crate::port::EnvelopeKeeper::change_envelopes).
pub(super) fn change(
    folder: &Path,
    blobs: &BlobFiles,
    ledger: &LedgerFile,
    change: &EnvelopeChange,
    step: Step<'_>,
) -> Result<(), StoreError> {
    let expected: Vec<EnvelopeNo> = change.expected.iter().map(|id| id.0).collect();
    let after: Vec<EnvelopeNo> = change.after().map(|id| id.0).collect();
    let rules = EnvelopesChange { expected: &expected, after: &after };
    let would_be = |state: &LedgerState, stored: &[EnvelopeNo]| {
        let mut after = state.clone();
        after.change_envelopes(stored, &rules).map_err(StoreError::rule).map(|()| after)
    };
    // Once, before the first file is there: until the ledger names some, all that are stored count.
    ledger.change(false, |state| {
        let stored = numbers(blobs)?;
        would_be(state, &stored)?;
        if state.envelopes.is_none() && !stored.is_empty() {
            let mut all = stored;
            all.sort_unstable();
            state.envelopes = Some(all);
        }
        Ok(())
    })?;
    step()?;
    ledger.change(false, |state| {
        let stored = numbers(blobs)?;
        let changed = would_be(state, &stored)?;
        let before = state.envelopes.clone().unwrap_or_default();
        let stays = |number: &EnvelopeNo| before.contains(number) || after.contains(number);
        remove(folder, stored.iter().copied().filter(|number| !stays(number)));
        for (id, bytes) in &change.add {
            place(folder, *id, bytes)?;
            step()?;
        }
        for id in &change.keep {
            let path = layout::blob_path(folder, BlobKey::Envelope(*id));
            fs::metadata(&path).map_err(|e| StoreError::from_io("read", &path, e))?;
        }
        *state = changed;
        Ok(())
    })?;
    step()?;
    // Names that only this change took away: nobody gives them again.
    remove(folder, expected.iter().copied().filter(|number| !after.contains(number)));
    step()
}

fn numbers(blobs: &BlobFiles) -> Result<Vec<EnvelopeNo>, StoreError> {
    let found = blobs.list(BlobKind::Envelopes)?.into_iter();
    Ok(found.filter_map(|(key, _)| if let BlobKey::Envelope(id) = key { Some(id.0) } else { None }).collect())
}

/// A file under its name, durably. The vault's lock is held already, so none of the ways of a `put` is open.
fn place(folder: &Path, id: EnvelopeId, bytes: &[u8]) -> Result<(), StoreError> {
    let key = BlobKey::Envelope(id);
    let path = layout::blob_path(folder, key);
    match fs::read(&path) {
        // Of a try before.
        Ok(there) if there == bytes => return Ok(()),
        Ok(_) => {
            return Err(
                StoreError::new(ErrorKind::AlreadyExists, "an envelope of this name is there").about(key)
            );
        }
        Err(_) => {}
    }
    let (draft, file) = sweep::private_file(&folder.join(TMP), "envelope")?;
    let placed = durable::write_synced(&file, &draft, bytes).and_then(|()| {
        fs::rename(&draft, &path).map_err(|e| StoreError::from_io("write", &path, e).about(key))
    });
    if placed.is_err() {
        // Best effort: the next session sweeps what is left.
        drop(fs::remove_file(&draft));
    }
    placed?;
    durable::sync_folder(&folder.join("k"))
}

/// Takes files away that count no more. One that stays counts all the same not: the ledger does not name it.
fn remove(folder: &Path, envelopes: impl Iterator<Item = EnvelopeNo>) {
    let mut gone = false;
    for number in envelopes {
        let path = layout::blob_path(folder, BlobKey::Envelope(EnvelopeId(number)));
        gone |= fs::remove_file(path).is_ok();
    }
    if gone {
        // Without it a power cut may bring the files back, not their counting.
        drop(durable::sync_folder(&folder.join("k")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::{BlobReader, BlobWriter, EnvelopeKeeper, Range};
    use crate::{FolderStore, Spool};
    use backupengine_model::VaultId;
    use std::cell::Cell;
    use std::future::Future;
    use std::io::Write;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn now<T>(answer: impl Future<Output = T>) -> T {
        match pin!(answer).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => answer,
            Poll::Pending => panic!("a folder answers at once"),
        }
    }

    fn id(number: u8) -> EnvelopeId {
        EnvelopeId([number; 8])
    }

    fn bytes(number: u8) -> Vec<u8> {
        vec![number; 300]
    }

    /// A vault with the envelopes 1 and 2.
    fn vault(folder: &Path) -> FolderStore {
        let store = FolderStore::create(folder, VaultId([5; 16])).unwrap();
        for number in [1, 2] {
            let mut spool: Spool = store.spool().unwrap();
            spool.write_all(&bytes(number)).unwrap();
            now(store.put(BlobKey::Envelope(id(number)), spool)).unwrap();
        }
        store
    }

    /// 2 stays, 1 goes, 3 and 4 come.
    fn some_change() -> EnvelopeChange {
        let add = vec![(id(3), bytes(3)), (id(4), bytes(4))];
        EnvelopeChange { expected: vec![id(2), id(1)], keep: vec![id(2)], add, ..EnvelopeChange::default() }
    }

    fn listed(store: &FolderStore) -> Vec<u8> {
        let found = now(store.list(BlobKind::Envelopes)).unwrap();
        let all = found.iter().map(|(key, size)| {
            let BlobKey::Envelope(id) = key else { panic!("{key} is none") };
            assert_eq!(*size, 300);
            assert_eq!(now(store.get(*key, Range::Whole)).unwrap().bytes, bytes(id.0[0]));
            id.0[0]
        });
        all.collect()
    }

    fn files(folder: &Path) -> usize {
        fs::read_dir(folder.join("k")).unwrap().count()
    }

    #[test]
    fn a_change_that_is_stopped_anywhere_has_not_happened_or_has() {
        let mut steps = 0;
        for stop in 0_i64.. {
            let temp = tempfile::tempdir().unwrap();
            let folder = temp.path().join("vault");
            let store = vault(&folder);
            let left = Cell::new(stop);
            let dying = || match left.replace(left.get() - 1) {
                0 => Err(StoreError::new(ErrorKind::Io, "the process is gone")),
                _ => Ok(()),
            };
            let inner = &store.inner;
            let done = change(&inner.folder, &inner.blobs, &inner.ledger, &some_change(), &dying);
            // As the next process sees it.
            let next = FolderStore::open(&folder).unwrap();
            let seen = listed(&next);
            assert!(seen == [1, 2] || seen == [2, 3, 4], "stopped after step {stop}: {seen:?}");
            assert!(done.is_err() || seen == [2, 3, 4]);
            // Running it again ends it, and takes away what the broken one left.
            now(next.change_envelopes(&some_change())).unwrap();
            assert_eq!(listed(&next), [2, 3, 4]);
            assert_eq!(files(&folder), 3, "stopped after step {stop}");
            if done.is_ok() {
                steps = stop;
                break;
            }
        }
        assert_eq!(steps, 5, "steps: the first naming, two files, the change, taking away");
    }

    #[test]
    fn what_a_stopped_change_left_is_swept_by_another() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("vault");
        let store = vault(&folder);
        let left = Cell::new(2);
        let dying = || match left.replace(left.get() - 1) {
            0 => Err(StoreError::new(ErrorKind::Io, "the process is gone")),
            _ => Ok(()),
        };
        let inner = &store.inner;
        change(&inner.folder, &inner.blobs, &inner.ledger, &some_change(), &dying).unwrap_err();
        assert_eq!((files(&folder), listed(&store)), (4, vec![1, 2]));
        let other = EnvelopeChange { add: vec![(id(9), bytes(9))], ..some_change() };
        now(store.change_envelopes(&other)).unwrap();
        assert_eq!((files(&folder), listed(&store)), (2, vec![2, 9]));
    }

    #[test]
    fn of_two_changes_one_comes_through() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("vault");
        let store = vault(&folder);
        let other = EnvelopeChange { add: vec![(id(9), bytes(9))], ..some_change() };
        now(store.change_envelopes(&some_change())).unwrap();
        let refused = now(FolderStore::open(&folder).unwrap().change_envelopes(&other)).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::RuleBroken(RuleBroken::EnvelopesMoved));
        assert_eq!((files(&folder), listed(&store)), (3, vec![2, 3, 4]));
    }

    #[test]
    fn nothing_is_put_beside_what_was_decided() {
        let temp = tempfile::tempdir().unwrap();
        let store = vault(&temp.path().join("vault"));
        now(store.change_envelopes(&some_change())).unwrap();
        let mut spool = store.spool().unwrap();
        spool.write_all(&bytes(8)).unwrap();
        let refused = now(store.put(BlobKey::Envelope(id(8)), spool)).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::RuleBroken(RuleBroken::EnvelopesMoved));
        assert_eq!(listed(&store), [2, 3, 4]);
        let infos = now(store.envelopes()).unwrap();
        assert_eq!(infos.iter().map(|info| info.id.0[0]).collect::<Vec<_>>(), [2, 3, 4]);
        assert!(infos.iter().all(|info| info.stored.is_some()));
    }

    /// A kept one that is gone would leave a vault with fewer ways in than whoever changes them was told.
    #[test]
    fn a_kept_envelope_has_to_be_there() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("vault");
        let store = vault(&folder);
        fs::remove_file(layout::blob_path(&folder, BlobKey::Envelope(id(2)))).unwrap();
        let change = EnvelopeChange { expected: vec![id(1)], ..some_change() };
        assert_eq!(now(store.change_envelopes(&change)).unwrap_err().kind, ErrorKind::NotFound);
        assert_eq!(listed(&store), [1]);
    }

    #[test]
    fn where_the_ledger_does_not_read_all_that_are_stored_open() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("vault");
        let store = vault(&folder);
        now(store.change_envelopes(&some_change())).unwrap();
        fs::write(folder.join("ledger"), b"spoilt").unwrap();
        assert_eq!(listed(&FolderStore::open(&folder).unwrap()), [2, 3, 4]);
    }
}
