//! Answers of the core as error numbers of the system.
//!
//! One exhaustive match: a new answer stops this from compiling until it has a number.

use backupengine_vfs::FsError;
use fuser::Errno;

pub(crate) fn errno(error: FsError) -> Errno {
    match error {
        FsError::NotFound => Errno::ENOENT,
        FsError::NotADirectory => Errno::ENOTDIR,
        FsError::IsADirectory => Errno::EISDIR,
        FsError::NotALink => Errno::EINVAL,
        FsError::NoAttribute => Errno::NO_XATTR,
        FsError::ReadOnly => Errno::EROFS,
        FsError::BadHandle => Errno::EBADF,
        FsError::NoSuchOffset => Errno::ENXIO,
        FsError::NameTooLong => Errno::ENAMETOOLONG,
        FsError::TimedOut => Errno::ETIMEDOUT,
        FsError::Stale => Errno::ESTALE,
        FsError::Damaged => Errno::EIO,
        FsError::Denied => Errno::EACCES,
        FsError::Interrupted => Errno::EINTR,
    }
}
