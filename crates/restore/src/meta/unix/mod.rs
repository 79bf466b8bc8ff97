//! Linux: every step below the target is relative to a handle, beneath it, and through no link.
//!
//! May not follow symbolic links below the target. Paths of any length work. Tested with the rest.

mod file;
mod folder;
mod object;
mod target;

pub(crate) use file::NewFile;
pub(crate) use folder::Folder;
pub(crate) use object::Object;
pub(crate) use target::Target;

use backupengine_model::{Attributes, Kind, NodeFlags, Timestamp};
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// What is there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Existing {
    pub(crate) attributes: Attributes,
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// A path of these bytes.
pub(crate) fn to_path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

/// Whether this process may give files away.
pub(crate) fn is_privileged() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether an error says that no more can be written at all.
pub(crate) fn is_full(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [Errno::NOSPC, Errno::DQUOT].iter().any(|full| code == Some(full.raw_os_error()))
}

/// What a `stat` says, in the words of the model.
#[allow(clippy::unnecessary_cast, reason = "the fields differ in width between architectures")]
fn describe(stat: &Stat) -> Existing {
    let kind = match FileType::from_raw_mode(stat.st_mode as _) {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::RegularFile | FileType::Unknown => Kind::File,
    };
    let attributes = Attributes {
        kind,
        mode: stat.st_mode as u32 & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: stat.st_size as u64,
        mtime: Timestamp { secs: stat.st_mtime as i64, nanos: stat.st_mtime_nsec as u32 },
        rdev: stat.st_rdev as u64,
        nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        allocated: None,
        flags: NodeFlags::default(),
    };
    Existing { attributes, device: stat.st_dev as u64, inode: stat.st_ino as u64 }
}

/// Runs a call again while a signal interrupts it.
fn again<T>(mut call: impl FnMut() -> Result<T, Errno>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}
