//! One thing of the target, to set its metadata: by its open handle, or by one that only names it.
//!
//! May not follow links: a handle is the thing itself. Tested in `tests`.

use super::{Existing, again, describe};
use backupengine_model::Timestamp;
use rustix::buffer::spare_capacity;
use rustix::fs::{
    AtFlags, CWD, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmod, chownat, fchmod,
    fchown, fgetxattr, flistxattr, fremovexattr, fsetxattr, fstat, futimens, getxattr, listxattr,
    removexattr, setxattr, utimensat,
};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// A handle of one thing.
#[derive(Debug)]
pub(crate) enum Object {
    /// Opened for reading or writing.
    Open(OwnedFd),
    /// Opened with `O_PATH`: works for every kind, links themselves included, and needs no right to read.
    /// The calls then go by its name in `/proc/self/fd`, which leads to the thing itself.
    Seen(OwnedFd),
}

impl Object {
    /// A path that leads to what a handle stands for.
    pub(super) fn path(fd: &OwnedFd) -> String {
        format!("/proc/self/fd/{}", fd.as_raw_fd())
    }

    /// What it is now.
    pub(crate) fn look(&self) -> io::Result<Existing> {
        let (Self::Open(fd) | Self::Seen(fd)) = self;
        Ok(describe(&again(|| fstat(fd))?))
    }

    /// Sets owner and group, or only one of them.
    pub(crate) fn set_owner(&self, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        match self {
            Self::Open(fd) => again(|| fchown(fd, uid, gid)),
            Self::Seen(fd) => again(|| chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH)),
        }
    }

    /// Sets the permission bits.
    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        let mode = Mode::from_bits_truncate(mode);
        match self {
            Self::Open(fd) => again(|| fchmod(fd, mode)),
            Self::Seen(fd) => again(|| chmod(Self::path(fd), mode)),
        }
    }

    /// Sets the time of last modification; that of access stays as it is.
    pub(crate) fn set_mtime(&self, mtime: Timestamp) -> io::Result<()> {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: mtime.secs, tv_nsec: mtime.nanos.into() },
        };
        match self {
            Self::Open(fd) => again(|| futimens(fd, &times)),
            Self::Seen(fd) => again(|| utimensat(CWD, Self::path(fd), &times, AtFlags::empty())),
        }
    }

    /// Names of its extended attributes; none where the filesystem keeps none.
    pub(crate) fn xattr_names(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut list = Vec::with_capacity(1024);
        loop {
            list.clear();
            let listed = match self {
                Self::Open(fd) => flistxattr(fd, spare_capacity(&mut list)),
                Self::Seen(fd) => listxattr(Self::path(fd), spare_capacity(&mut list)),
            };
            match listed {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(Errno::RANGE) => list.reserve(list.capacity() * 4),
                Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            }
        }
        let names = list.split(|&b| b == 0).filter(|name| !name.is_empty());
        Ok(names.map(<[u8]>::to_vec).collect())
    }

    /// Whether an extended attribute has exactly this value.
    pub(crate) fn xattr_is(&self, name: &[u8], value: &[u8]) -> bool {
        // One byte more than expected tells a longer value from an equal one.
        let mut out = Vec::with_capacity(value.len() + 1);
        let read = match self {
            Self::Open(fd) => fgetxattr(fd, name, spare_capacity(&mut out)),
            Self::Seen(fd) => getxattr(Self::path(fd), name, spare_capacity(&mut out)),
        };
        read.is_ok() && out == value
    }

    /// Sets an extended attribute.
    pub(crate) fn set_xattr(&self, name: &[u8], value: &[u8]) -> io::Result<()> {
        match self {
            Self::Open(fd) => again(|| fsetxattr(fd, name, value, XattrFlags::empty())),
            Self::Seen(fd) => again(|| setxattr(Self::path(fd), name, value, XattrFlags::empty())),
        }
    }

    /// Removes an extended attribute.
    pub(crate) fn remove_xattr(&self, name: &[u8]) -> io::Result<()> {
        match self {
            Self::Open(fd) => again(|| fremovexattr(fd, name)),
            Self::Seen(fd) => again(|| removexattr(Self::path(fd), name)),
        }
    }
}
