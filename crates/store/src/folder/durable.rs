//! Steps on the disk that a power cut does not undo, and locks between processes.
//!
//! May not know what the files mean. What always holds: what returned is on the disk, file and name; nothing is
//! ever written over by [`place`]. Tested below; under real races in `tests/stores`.

use crate::StoreError;
use rustix::fs::{CWD, FlockOperation, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Makes a file that must not exist yet, for its owner only.
pub(crate) fn new_file(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| StoreError::from_io("create", path, e))
}

/// Writes all of a small file and brings it to the disk.
pub(crate) fn write_synced(mut file: &File, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|e| StoreError::from_io("write", path, e))
}

/// Brings the names in a folder to the disk.
pub(crate) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    match synced {
        // Some filesystems have nothing to sync for a folder and say so.
        Err(e) if e.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(()),
        other => other.map_err(|e| StoreError::from_io("sync", path, e)),
    }
}

/// Waits for the lock that `path` stands for, held until the file is dropped.
pub(crate) fn lock(path: &Path, how: FlockOperation) -> Result<File, StoreError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|e| StoreError::from_io("lock", path, e))?;
    loop {
        match rustix::fs::flock(&file, how) {
            Ok(()) => return Ok(file),
            Err(Errno::INTR) => {}
            Err(e) => return Err(StoreError::from_io("lock", path, e.into())),
        }
    }
}

/// Takes the lock of a file that is open if nobody holds it.
pub(crate) fn try_lock(file: &File) -> bool {
    rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// The ways to give a file its name without taking anybody's, best first.
#[derive(Clone, Copy, Debug)]
enum Placing {
    /// One call that says so.
    RenameNoReplace,
    /// A second name, which is never given twice, then the first is taken away.
    LinkUnlink,
    /// Where neither works: look and rename under the vault's lock. Whoever writes on such a filesystem
    /// gets here, so they exclude each other.
    UnderLock,
}

/// Gives the file `from` the name `to`, which must be free (`AlreadyExists`, nothing changed). The folder is
/// not synced yet. `lock_path` guards the last resort and must not be locked by the caller's own file.
pub(crate) fn place(from: &Path, to: &Path, lock_path: &Path) -> Result<(), StoreError> {
    for way in [Placing::RenameNoReplace, Placing::LinkUnlink] {
        match place_by(way, from, to, lock_path) {
            Err(e) if is_unsupported(&e) => {}
            done => return named(done, from, to),
        }
    }
    named(place_by(Placing::UnderLock, from, to, lock_path), from, to)
}

fn named(done: io::Result<()>, from: &Path, to: &Path) -> Result<(), StoreError> {
    done.map_err(|e| {
        let culprit = if e.kind() == io::ErrorKind::NotFound && !from.exists() { from } else { to };
        StoreError::from_io("write", culprit, e)
    })
}

fn is_unsupported(error: &io::Error) -> bool {
    let unsupported =
        [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOTSUP, Errno::PERM, Errno::MLINK];
    unsupported.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn place_by(way: Placing, from: &Path, to: &Path, lock_path: &Path) -> io::Result<()> {
    match way {
        Placing::RenameNoReplace => Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?),
        Placing::LinkUnlink => {
            std::fs::hard_link(from, to)?;
            std::fs::remove_file(from)
        }
        Placing::UnderLock => {
            let held = lock(lock_path, FlockOperation::LockExclusive)?;
            match std::fs::symlink_metadata(to) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
                Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
            }
            let done = std::fs::rename(from, to);
            drop(held);
            done
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use std::fs;

    #[test]
    fn no_way_of_placing_takes_a_name() {
        for way in [Placing::RenameNoReplace, Placing::LinkUnlink, Placing::UnderLock] {
            let temp = tempfile::tempdir().unwrap();
            let at = |name: &str| temp.path().join(name);
            fs::write(at("new"), b"new").unwrap();
            fs::write(at("old"), b"old").unwrap();
            let taken = place_by(way, &at("new"), &at("old"), &at("lock")).unwrap_err();
            assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists, "{way:?}");
            assert_eq!(fs::read(at("old")).unwrap(), b"old", "{way:?}");
            assert_eq!(fs::read(at("new")).unwrap(), b"new", "{way:?}");
            place_by(way, &at("new"), &at("free"), &at("lock")).unwrap();
            assert_eq!(fs::read(at("free")).unwrap(), b"new", "{way:?}");
            assert!(!at("new").exists(), "{way:?}");
        }
    }

    #[test]
    fn a_lock_keeps_others_out_until_it_is_dropped() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("lock");
        let held = lock(&path, FlockOperation::LockExclusive).unwrap();
        let other = File::open(&path).unwrap();
        assert!(!try_lock(&other));
        drop(held);
        assert!(try_lock(&other));
    }

    #[test]
    fn an_absent_file_cannot_be_placed() {
        let temp = tempfile::tempdir().unwrap();
        let error =
            place(&temp.path().join("a"), &temp.path().join("b"), &temp.path().join("l")).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound);
    }
}
