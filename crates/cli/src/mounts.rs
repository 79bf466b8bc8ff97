//! Mounts of this program as the system sees them, and what is wrong with a mountpoint.
//!
//! **What it may not do.** Touch a mount that is not this program's.
//! **What always holds.** Listing asks nothing of a mount, which may not answer.
//! **Where it is tested.** `tests/cli`.

use crate::error::{Failure, Kind};
use backupengine_fuse::{MountError, UnmountError, check_mountpoint};
use backupengine_source::{OwnMount, own_mounts};
use std::path::{Path, PathBuf};

/// Mounted vaults.
///
/// # Errors
/// When the system does not say.
pub(crate) fn mounted() -> Result<Vec<OwnMount>, Failure> {
    own_mounts().map_err(|e| Failure::io("read", Path::new("the list of mounts"), e))
}

/// The full path of a folder that can be mounted on.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check(path: &Path) -> Result<PathBuf, Failure> {
    Ok(check_mountpoint(path)?)
}

impl From<MountError> for Failure {
    fn from(error: MountError) -> Self {
        let (kind, hint) = match &error {
            MountError::Missing(path) => (Kind::Failed, format!("make it: mkdir -p {}", path.display())),
            MountError::NotAFolder(_) => (Kind::Failed, "give an empty folder".to_owned()),
            MountError::NotEmpty(_) => (Kind::InUse, "give an empty folder".to_owned()),
            MountError::AlreadyMounted(path) => {
                (Kind::InUse, format!("look in, or end it: backupengine unmount {}", path.display()))
            }
            MountError::DeadForeign { mountpoint, .. } => {
                (Kind::InUse, format!("clear it: fusermount3 -uz {}", mountpoint.display()))
            }
            MountError::Permission(_) => (Kind::Denied, "choose an empty folder of your own".to_owned()),
            MountError::NoDevice => (Kind::Failed, "as root: modprobe fuse".to_owned()),
            MountError::DeviceDenied => {
                (Kind::Denied, "ask root to let you use /dev/fuse, or run it as root".to_owned())
            }
            MountError::NoHelper => (Kind::Failed, "install it: apt-get install fuse3".to_owned()),
            MountError::AllowOtherRefused => {
                (Kind::Denied, "mount without --allow-other, or ask root for that line".to_owned())
            }
            _ => (Kind::Failed, "see the log: --log-level debug".to_owned()),
        };
        Self::new(kind, error).hint(hint)
    }
}

impl From<UnmountError> for Failure {
    fn from(error: UnmountError) -> Self {
        match &error {
            UnmountError::NotMounted(_) => {
                Self::new(Kind::Failed, error).hint("`backupengine status` lists what is mounted")
            }
            UnmountError::Busy { holders, .. } => {
                let held: Vec<String> = holders
                    .iter()
                    .map(|h| format!("{} has {} open", h, crate::output::shown_path(&h.path)))
                    .collect();
                let failure = Self::new(Kind::InUse, error);
                let failure = held.into_iter().fold(failure, Failure::hint);
                failure.hint("end it, or leave the folder, and unmount again")
            }
            _ => Self::new(Kind::Failed, error),
        }
    }
}
