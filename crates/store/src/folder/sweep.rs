//! Private files in `tmp/`, and clearing away those whose process died.
//!
//! May not touch a file that is still written: every private file is locked by the process that writes it, and
//! is made and locked under a shared hold of the vault's lock, while sweeping holds that lock alone. What always
//! holds: no clock and no process number decides, so machines and containers that share a vault do not sweep
//! each other's work away. Tested below and in `tests/stores`.

use super::durable;
use crate::{ErrorKind, StoreError};
use rustix::fs::FlockOperation;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes a private file in `tmp`, which is made again if somebody cleaned it away. Not locked yet.
pub(crate) fn private_file(tmp: &Path, what: &str) -> Result<(PathBuf, File), StoreError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = tmp.join(format!("{what}-{}-{number}", std::process::id()));
        match durable::new_file(&path) {
            Ok(file) => return Ok((path, file)),
            // Another container with the same process number, or one that died.
            Err(e) if e.kind == ErrorKind::AlreadyExists => {}
            Err(e) if e.kind == ErrorKind::NotFound => match DirBuilder::new().mode(0o700).create(tmp) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(StoreError::from_io("create", tmp, e));
                }
                _ => {}
            },
            Err(e) => return Err(e),
        }
    }
}

/// Makes a spool's file, marked as in use.
pub(crate) fn spool_file(tmp: &Path, lock_path: &Path) -> Result<(PathBuf, File), StoreError> {
    let held = durable::lock(lock_path, FlockOperation::LockShared)?;
    let (path, file) = private_file(tmp, "spool")?;
    let ours = durable::try_lock(&file);
    drop(held);
    if ours {
        return Ok((path, file));
    }
    drop(fs::remove_file(&path));
    let message = format!("cannot lock {}: its filesystem knows no locks", path.display());
    Err(StoreError::new(ErrorKind::Io, message))
}

/// Removes the private files of processes that died. To be called under the vault's exclusive lock. What cannot
/// be removed costs room, nothing else, and is tried again by the next session.
pub(crate) fn stale_spools(tmp: &Path) {
    let Ok(entries) = fs::read_dir(tmp) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let stale = fs::symlink_metadata(&path).is_ok_and(|found| found.is_file())
            && File::open(&path).is_ok_and(|file| durable::try_lock(&file));
        if stale {
            drop(fs::remove_file(&path));
        }
    }
}

/// [`stale_spools`] of a folder that has no vault around it.
pub(crate) fn sweep_spools(tmp: &Path, lock_path: &Path) -> Result<(), StoreError> {
    let held = durable::lock(lock_path, FlockOperation::LockExclusive)?;
    stale_spools(tmp);
    drop(held);
    Ok(())
}

/// Makes a folder for its owner only, with those above it.
pub(crate) fn private_folder(path: &Path) -> Result<(), StoreError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|e| StoreError::from_io("create", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_holds_is_swept() {
        let temp = tempfile::tempdir().unwrap();
        let tmp = temp.path().join("tmp");
        let (held_path, held) = spool_file(&tmp, &temp.path().join("lock")).unwrap();
        let (dead_path, dead) = spool_file(&tmp, &temp.path().join("lock")).unwrap();
        drop(dead);
        stale_spools(&tmp);
        assert!(held_path.exists());
        assert!(!dead_path.exists());
        drop(held);
        stale_spools(&tmp);
        assert!(!held_path.exists());
    }

    #[test]
    fn private_names_are_never_given_twice() {
        let temp = tempfile::tempdir().unwrap();
        let (first, _a) = private_file(temp.path(), "x").unwrap();
        let (second, _b) = private_file(temp.path(), "x").unwrap();
        assert_ne!(first, second);
    }
}
