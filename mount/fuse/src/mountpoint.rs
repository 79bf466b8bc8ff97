//! Whether a folder can be mounted on, and what a person is told when not.
//!
//! What always holds: a mount of ours whose process died is recognised and cleared; one of another program
//! is never touched.

use crate::table::{TableEntry, mounted_at};
use crate::unmount::{UnmountHow, detach};
use rustix::fs::{Access, AtFlags, CWD, StatxFlags, access, statx};
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::{fs, io};
use thiserror::Error;

/// Why nothing was mounted. Each message says what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MountError {
    /// No such folder.
    #[error("the mountpoint {0:?} does not exist: create it with mkdir")]
    Missing(PathBuf),
    /// Something else than a folder.
    #[error("the mountpoint {0:?} is not a folder")]
    NotAFolder(PathBuf),
    /// Files would be hidden.
    #[error("the mountpoint {0:?} is not empty: mount on an empty folder, so that nothing is hidden")]
    NotEmpty(PathBuf),
    /// A vault is mounted there and answers.
    #[error("a vault is already mounted on {0:?}: end that mount first with backupengine unmount")]
    AlreadyMounted(PathBuf),
    /// Another program's mount that no longer answers.
    #[error("{mountpoint:?} is a dead mount of another program ({fs_type}): clear it with fusermount3 -uz")]
    DeadForeign {
        /// Where.
        mountpoint: PathBuf,
        /// What the system says it is.
        fs_type: String,
    },
    /// Not allowed on this folder.
    #[error("no permission to mount on {0:?}: choose a folder of your own")]
    Permission(PathBuf),
    /// The kernel's side is missing.
    #[error("/dev/fuse is missing: load the module (modprobe fuse), or give the container that device")]
    NoDevice,
    /// The kernel's side may not be used.
    #[error("/dev/fuse may not be opened by this user")]
    DeviceDenied,
    /// Needed by everyone but root.
    #[error("fusermount3 is missing: install the package fuse3")]
    NoHelper,
    /// Set by root alone.
    #[error("--allow-other needs the line user_allow_other in /etc/fuse.conf, which root can add")]
    AllowOtherRefused,
    /// Anything else the system says.
    #[error("mounting on {mountpoint:?} did not work")]
    System {
        /// Where.
        mountpoint: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Checks that `path` is a folder that can be mounted on, and gives it in full. Changes nothing; a dead mount
/// of ours passes, for [`mount`](crate::mount) clears it.
///
/// # Errors
/// See [`MountError`].
pub fn check_mountpoint(path: &Path) -> Result<PathBuf, MountError> {
    let system = |source| MountError::System { mountpoint: path.to_owned(), source };
    let full = full_path(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => MountError::Missing(path.to_owned()),
        io::ErrorKind::NotADirectory => MountError::NotAFolder(path.to_owned()),
        io::ErrorKind::PermissionDenied => MountError::Permission(path.to_owned()),
        _ => system(error),
    })?;
    let there = mounted_at(&full).map_err(system)?;
    match (&there, answers(&full)) {
        (Some(entry), Answers::Dead) if entry.is_ours() => return Ok(full),
        (Some(entry), Answers::Dead) => {
            return Err(MountError::DeadForeign { mountpoint: full, fs_type: entry.fs_type.clone() });
        }
        (Some(entry), _) if entry.is_ours() => return Err(MountError::AlreadyMounted(full)),
        _ => {}
    }
    if !fs::metadata(&full).map_err(system)?.is_dir() {
        return Err(MountError::NotAFolder(full));
    }
    match fs::read_dir(&full).map(|mut list| list.next().is_some()) {
        Ok(false) => {}
        Ok(true) => return Err(MountError::NotEmpty(full)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(MountError::Permission(full));
        }
        Err(error) => return Err(system(error)),
    }
    if access(&full, Access::WRITE_OK).is_err() {
        return Err(MountError::Permission(full));
    }
    Ok(full)
}

/// Clears what is left at `full` of mounts of ours whose processes died.
pub(crate) fn clear_dead(full: &Path) -> Result<(), MountError> {
    let system = |source| MountError::System { mountpoint: full.to_owned(), source };
    // Several may lie on each other; every round takes one away, or ends in an error.
    while let Some(entry) = mounted_at(full).map_err(system)? {
        if !(entry.is_ours() && answers(full) == Answers::Dead) {
            break;
        }
        tracing::info!(mountpoint = ?full, "clearing a mount whose process died");
        detach(full, UnmountHow::Detach).map_err(system)?;
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answers {
    Alive,
    Dead,
}

/// Whether the process behind a mount is there. Asks it, for what the kernel knows of the root it would go on
/// telling long after; the answer of a live one needs nothing of the vault.
fn answers(full: &Path) -> Answers {
    match statx(CWD, full, AtFlags::STATX_FORCE_SYNC, StatxFlags::BASIC_STATS) {
        Err(Errno::NOTCONN | Errno::CONNABORTED) => Answers::Dead,
        _ => Answers::Alive,
    }
}

/// The path from the root on, links followed; the last component is left alone where its mount is dead.
pub(crate) fn full_path(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Ok(full) => Ok(full),
        Err(error) => {
            let absolute = std::path::absolute(path)?;
            match (absolute.parent(), absolute.file_name()) {
                (Some(parent), Some(name)) => {
                    let full = fs::canonicalize(parent)?.join(name);
                    match mounted_at(&full)? {
                        Some(_) => Ok(full),
                        None => Err(error),
                    }
                }
                _ => Err(error),
            }
        }
    }
}

/// What is mounted of ours at `path`, if anything, and the path in full.
pub(crate) fn ours_at(path: &Path) -> io::Result<(PathBuf, Option<TableEntry>)> {
    let full = full_path(path)?;
    let entry = mounted_at(&full)?;
    Ok((full, entry))
}
