//! One folder of the target: its names are looked at, made, put in place and removed.
//!
//! May not follow links or remove what is not empty. Tested in `tests`.

use super::{Existing, NewFile, Object, again, describe};
use backupengine_model::Kind;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, getxattr, linkat, mkdirat, mknodat, openat, readlinkat, renameat,
    statat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use std::cell::OnceCell;
use std::io;
use std::os::fd::OwnedFd;

/// A folder of the target.
#[derive(Debug)]
pub(crate) struct Folder {
    fd: OwnedFd,
    hands_down_acl: OnceCell<bool>,
}

impl Folder {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self { fd, hands_down_acl: OnceCell::new() }
    }

    /// What stands under a name, by `lstat`.
    pub(crate) fn look(&self, name: &[u8]) -> io::Result<Option<Existing>> {
        match again(|| statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)) {
            Ok(stat) => Ok(Some(describe(&stat))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where the link under a name points to.
    pub(crate) fn target(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(again(|| readlinkat(&self.fd, name, Vec::new()))?.into_bytes())
    }

    /// Makes a folder that only its owner can enter, until it gets its attributes.
    pub(crate) fn make_folder(&self, name: &[u8]) -> io::Result<()> {
        again(|| mkdirat(&self.fd, name, Mode::RWXU))
    }

    /// Makes a file that only its owner can read. What an earlier run left under this temporary name goes.
    pub(crate) fn make_file(&self, temporary: &[u8]) -> io::Result<NewFile> {
        let flags = OFlags::CREATE
            | OFlags::EXCL
            | OFlags::RDWR
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC
            | OFlags::NONBLOCK;
        let mode = Mode::RUSR | Mode::WUSR;
        self.make(temporary, || openat(&self.fd, temporary, flags, mode)).map(NewFile::new)
    }

    /// Makes a symbolic link.
    pub(crate) fn make_link(&self, temporary: &[u8], target: &[u8]) -> io::Result<()> {
        self.make(temporary, || symlinkat(target, &self.fd, temporary))
    }

    /// Makes a pipe, a socket or a device node.
    pub(crate) fn make_special(&self, temporary: &[u8], kind: Kind, rdev: u64) -> io::Result<()> {
        let (kind, rdev) = match kind {
            Kind::Fifo => (FileType::Fifo, 0),
            Kind::Socket => (FileType::Socket, 0),
            Kind::CharDevice => (FileType::CharacterDevice, rdev),
            Kind::BlockDevice => (FileType::BlockDevice, rdev),
            Kind::Directory | Kind::File | Kind::Symlink => return Err(Errno::INVAL.into()),
        };
        self.make(temporary, || mknodat(&self.fd, temporary, kind, Mode::RUSR | Mode::WUSR, rdev))
    }

    /// Makes another name of a file in `other`.
    pub(crate) fn make_hard_link(&self, temporary: &[u8], other: &Folder, name: &[u8]) -> io::Result<()> {
        self.make(temporary, || linkat(&other.fd, name, &self.fd, temporary, AtFlags::empty()))
    }

    fn make<T>(&self, temporary: &[u8], mut call: impl FnMut() -> Result<T, Errno>) -> io::Result<T> {
        match again(&mut call) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.remove(temporary)?;
                again(call)
            }
            other => other,
        }
    }

    /// Puts what is complete in its place. What stood there goes, unless it is a folder that holds something.
    pub(crate) fn put(&self, temporary: &[u8], name: &[u8]) -> io::Result<()> {
        match again(|| renameat(&self.fd, temporary, &self.fd, name)) {
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                again(|| unlinkat(&self.fd, name, AtFlags::REMOVEDIR))?;
                again(|| renameat(&self.fd, temporary, &self.fd, name))
            }
            other => other,
        }
    }

    /// Removes one name that is no folder.
    pub(crate) fn remove(&self, name: &[u8]) -> io::Result<()> {
        again(|| unlinkat(&self.fd, name, AtFlags::empty()))
    }

    /// What stands under a name, to set its attributes.
    pub(crate) fn object(&self, name: &[u8]) -> io::Result<Object> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Object::Seen(again(|| openat(&self.fd, name, flags, Mode::empty()))?))
    }

    /// Opens a file that is there, to read it back.
    pub(crate) fn open_file(&self, name: &[u8]) -> io::Result<NewFile> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(NewFile::new(again(|| openat(&self.fd, name, flags, Mode::empty()))?))
    }

    /// The folder itself, to set its attributes.
    pub(crate) fn into_object(self) -> Object {
        Object::Seen(self.fd)
    }

    /// Whether what is made in this folder inherits an ACL.
    pub(crate) fn hands_down_acl(&self) -> bool {
        *self.hands_down_acl.get_or_init(|| {
            let mut none = [0; 0];
            getxattr(Object::path(&self.fd), c"system.posix_acl_default", &mut none[..]).is_ok()
        })
    }
}
