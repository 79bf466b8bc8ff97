//! Linux: every look is relative to the handle of a directory, and no link is followed to get there.
//!
//! May not follow symbolic links. Paths of any length work. Tested in each part.

mod file;
mod folder;
mod local;
mod mounts;
mod open;

pub use file::SourceFile;
pub(crate) use folder::{Folder, Found, Look, NameKind};
pub use local::LocalFiles;
pub(crate) use mounts::mounts_of;
pub use mounts::{OwnMount, own_mounts};

use crate::change::Identity;
use backupengine_model::{Attributes, Kind, NodeFlags, Timestamp, TreePath};
use rustix::fs::{FileType, Stat};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The bytes of a path.
pub(crate) fn path_to_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// A path of these bytes.
pub(crate) fn bytes_to_path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

/// Where a path of the snapshot lies on this system.
pub fn real_path(path: &TreePath) -> PathBuf {
    bytes_to_path(path.to_slashes())
}

/// What a `stat` says, in the words of the model.
#[allow(clippy::unnecessary_cast, reason = "the fields differ in width between architectures")]
fn describe(stat: &Stat) -> (Attributes, Identity) {
    let kind = match FileType::from_raw_mode(stat.st_mode as _) {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::RegularFile | FileType::Unknown => Kind::File,
    };
    let size = match kind {
        Kind::File | Kind::Directory | Kind::Symlink => stat.st_size as u64,
        _ => 0,
    };
    let blocks = (stat.st_blocks as u64).saturating_mul(512);
    let attributes = Attributes {
        kind,
        mode: stat.st_mode as u32 & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size,
        mtime: Timestamp { secs: stat.st_mtime as i64, nanos: stat.st_mtime_nsec as u32 },
        rdev: if matches!(kind, Kind::CharDevice | Kind::BlockDevice) { stat.st_rdev as u64 } else { 0 },
        nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        allocated: (kind == Kind::File && blocks < size).then_some(blocks),
        flags: NodeFlags::default(),
    };
    let identity = Identity {
        device: stat.st_dev as u64,
        inode: stat.st_ino as u64,
        ctime: Timestamp { secs: stat.st_ctime as i64, nanos: stat.st_ctime_nsec as u32 },
    };
    (attributes, identity)
}
