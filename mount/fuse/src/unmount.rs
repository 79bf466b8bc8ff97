//! Ending a mount.
//!
//! What always holds: only mounts of ours are ended; a busy one is left alone unless it is told to be
//! detached, and who keeps it busy is said.

use crate::holders::{Holder, who_holds};
use crate::mountpoint::ours_at;
use crate::table::mounted_at;
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{fmt, io};
use thiserror::Error;

/// How often a mount is tried to be ended that is in use while nobody is seen to use it, and how long between: what a
/// program had open lives on for a moment in a child that has not begun its own program yet, and in messages.
const TRIES: u32 = 11;
const PAUSE: Duration = Duration::from_millis(100);

/// What to do with a mount that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnmountHow {
    /// Leave it and say who uses it.
    UnlessBusy,
    /// Take the name away now; what is open stays readable until it is closed.
    Detach,
}

/// Why a mount was not ended.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UnmountError {
    /// Nothing of ours there.
    #[error("no vault is mounted on {0:?}")]
    NotMounted(PathBuf),
    /// In use.
    #[error("{mountpoint:?} is in use{}", Named(.holders))]
    Busy {
        /// Where.
        mountpoint: PathBuf,
        /// Who is seen to use it; none where that is another user's process, or what is mounted in it.
        holders: Vec<Holder>,
    },
    /// Anything else the system says.
    #[error("ending the mount on {mountpoint:?} did not work")]
    System {
        /// Where.
        mountpoint: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

struct Named<'a>(&'a [Holder]);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str(
                " by what cannot be seen from here: a process of another user, or another mount in it",
            ),
            [first, rest @ ..] => {
                write!(f, " by {first}")?;
                rest.iter().try_for_each(|holder| write!(f, ", {holder}"))
            }
        }
    }
}

/// Ends the mount of ours at `path`, whoever serves it.
///
/// # Errors
/// See [`UnmountError`].
pub fn unmount(path: &Path, how: UnmountHow) -> Result<(), UnmountError> {
    let system = |source| UnmountError::System { mountpoint: path.to_owned(), source };
    let (full, entry) = match ours_at(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(UnmountError::NotMounted(path.to_owned()));
        }
        Err(error) => return Err(system(error)),
    };
    if !entry.is_some_and(|entry| entry.is_ours()) {
        return Err(UnmountError::NotMounted(full));
    }
    let mut left = TRIES;
    loop {
        left -= 1;
        match detach(&full, how) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                let holders = who_holds(&full);
                if left == 0 || !holders.is_empty() {
                    return Err(UnmountError::Busy { holders, mountpoint: full });
                }
                std::thread::sleep(PAUSE);
            }
            ended => return ended.map_err(system),
        }
    }
}

/// Takes away what is mounted at `full`: directly as root, else through the helper of the package fuse3.
pub(crate) fn detach(full: &Path, how: UnmountHow) -> io::Result<()> {
    let flags = match how {
        UnmountHow::UnlessBusy => UnmountFlags::NOFOLLOW,
        UnmountHow::Detach => UnmountFlags::NOFOLLOW | UnmountFlags::DETACH,
    };
    match rustix::mount::unmount(full, flags) {
        Ok(()) => return Ok(()),
        Err(Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let before = mounted_at(full)?;
    let mut helper = Command::new("fusermount3");
    helper.arg(if how == UnmountHow::Detach { "-uz" } else { "-u" }).arg("--").arg(full);
    let output = helper.output()?;
    if output.status.success() || mounted_at(full)? != before {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let kind = if said.contains("busy") { io::ErrorKind::ResourceBusy } else { io::ErrorKind::Other };
    Err(io::Error::new(kind, said))
}
