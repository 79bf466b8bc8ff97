//! The kernel's requests, turned into calls of the core and back.
//!
//! May not decide, cache or retry. What always holds: every request is answered exactly once; a read is
//! answered whole or with an error, because the kernel shows zeros for what a short answer leaves out.

use crate::errno::errno;
use crate::requests::{Interruptible, Requests};
use backupengine_vfs::{
    Attr, ContentReader, DirCursor, DirEntry, FsError, Handle, Ino, Kind, ReadOnlyFs, SeekTo, Timestamp,
    TreeReader,
};
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek,
    ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The answer to everything that would change something.
const REFUSED: Errno = Errno::EROFS;
/// Lifetime of names and attributes: about 136 years. What does change is told by notification.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);
/// Inode numbers are never used twice, so there is one generation.
const GENERATION: Generation = Generation(0);
/// What offsets and preferred reads are aligned to; larger would make every C program's buffer as large.
const BLOCK: u32 = 4096;
/// Requests of the kernel's own read-ahead that may wait at once.
const BACKGROUND: u16 = 64;

pub(crate) struct Shell<T, C> {
    core: Arc<ReadOnlyFs<T, C>>,
    requests: Requests,
    /// Whether the mount is open to users whom access lists may concern.
    others: bool,
    /// Whether the kernel takes "not implemented" for an open as "do not ask again".
    opens_unasked: bool,
    lists_unasked: bool,
}

impl<T: TreeReader, C: ContentReader> Shell<T, C> {
    pub(crate) fn new(core: Arc<ReadOnlyFs<T, C>>, requests: Requests, others: bool) -> Self {
        Self { core, requests, others, opens_unasked: false, lists_unasked: false }
    }
}

thread_local! {
    /// One buffer a thread: a read of 1 MiB then costs neither an allocation nor zeroing.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

macro_rules! interruptible {
    ($($reply:ty),*) => {
        $(impl Interruptible for $reply {
            fn interrupted(self) {
                self.error(Errno::EINTR);
            }
        })*
    };
}

interruptible!(
    ReplyAttr,
    ReplyData,
    ReplyDirectory,
    ReplyDirectoryPlus,
    ReplyEntry,
    ReplyLseek,
    ReplyOpen,
    ReplyStatfs,
    ReplyXattr
);

/// Answers with what `result` holds, or its error number.
macro_rules! answer {
    ($result:expr, $reply:ident, $ok:pat => $answer:expr) => {{
        let result = $result;
        // Where it was given up for a signal nobody waits for this.
        let Some($reply) = $reply.take() else { return };
        match result {
            Ok($ok) => $answer,
            Err(error) => $reply.error(answered(error)),
        }
    }};
}

/// The error number; what a person should know of is logged, by what it is and without names.
fn answered(error: FsError) -> Errno {
    match error {
        FsError::Damaged | FsError::TimedOut | FsError::Stale | FsError::Denied => {
            tracing::warn!(%error, "a request could not be answered");
        }
        FsError::NotFound
        | FsError::NotADirectory
        | FsError::IsADirectory
        | FsError::NotALink
        | FsError::NoAttribute
        | FsError::ReadOnly
        | FsError::BadHandle
        | FsError::NoSuchOffset
        | FsError::NameTooLong
        | FsError::Interrupted => {}
    }
    errno(error)
}

fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::File => FileType::RegularFile,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
    }
}

fn system_time(time: Timestamp) -> SystemTime {
    let whole = Duration::from_secs(time.secs.unsigned_abs());
    let second = if time.secs < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    second
        .and_then(|second| second.checked_add(Duration::from_nanos(time.nanos.into())))
        .unwrap_or(UNIX_EPOCH)
}

fn file_attr(attr: &Attr) -> FileAttr {
    let time = system_time(attr.mtime);
    FileAttr {
        ino: INodeNo(attr.ino.0),
        size: attr.size,
        blocks: attr.blocks,
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: file_type(attr.kind),
        perm: attr.mode as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        // Linux keeps 12 bits of major and 20 of minor; in its encoding they are the lower half.
        rdev: attr.rdev as u32,
        blksize: BLOCK,
        flags: 0,
    }
}

/// Says that a name does not exist, for as long as nothing else is told.
fn absent() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    }
}

/// For `.` and `..`, of which the kernel takes number and kind alone.
fn dot(entry: &DirEntry<'_>) -> FileAttr {
    FileAttr { ino: INodeNo(entry.ino.0), kind: file_type(entry.kind), perm: 0o555, nlink: 1, ..absent() }
}

fn send_xattr(value: &[u8], size: u32, reply: ReplyXattr) {
    match (u32::try_from(value.len()), size) {
        (Ok(len), 0) => reply.size(len),
        (Ok(len), room) if len <= room => reply.data(value),
        _ => reply.error(Errno::ERANGE),
    }
}

impl<T: TreeReader + 'static, C: ContentReader + 'static> Filesystem for Shell<T, C> {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let offered = config.capabilities();
        // Listings always bring attributes: left to the kernel's guess (READDIRPLUS_AUTO), programs that list
        // a large folder before they look at its files get those one by one.
        let mut wanted = InitFlags::FUSE_ASYNC_READ
            | InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_MAX_PAGES
            | InitFlags::FUSE_NO_OPEN_SUPPORT
            | InitFlags::FUSE_NO_OPENDIR_SUPPORT;
        if self.others {
            // Costs a question per inode on the way, so only where somebody else could be let in.
            wanted |= InitFlags::FUSE_POSIX_ACL;
        }
        // Only what the kernel offers is asked for, so nothing is refused.
        let refused = config.add_capabilities(wanted & offered);
        debug_assert!(refused.is_ok());
        self.opens_unasked = offered.contains(InitFlags::FUSE_NO_OPEN_SUPPORT);
        self.lists_unasked = offered.contains(InitFlags::FUSE_NO_OPENDIR_SUPPORT);
        if config.set_max_background(BACKGROUND).is_err() {
            tracing::debug!("the kernel keeps its own number of background requests");
        }
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (_answering, reply) = self.requests.answer("look up", req.pid(), parent.0, reply);
        let found = self.core.lookup(Ino(parent.0), name.as_bytes());
        let Some(reply) = reply.take() else { return };
        match found {
            Ok(attr) => reply.entry(&FOREVER, &file_attr(&attr), GENERATION),
            Err(FsError::NotFound) => reply.entry(&FOREVER, &absent(), GENERATION),
            Err(error) => reply.error(answered(error)),
        }
    }

    // forget: inode numbers are derived, so there is no table to shrink.

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let (_answering, reply) = self.requests.answer("attributes", req.pid(), ino.0, reply);
        answer!(self.core.getattr(Ino(ino.0)), reply, attr => reply.attr(&FOREVER, &file_attr(&attr)));
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        let (_answering, reply) = self.requests.answer("link", req.pid(), ino.0, reply);
        answer!(self.core.readlink(Ino(ino.0)), reply, target => reply.data(&target));
    }

    fn open(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        if self.opens_unasked {
            return reply.error(Errno::ENOSYS);
        }
        let (_answering, reply) = self.requests.answer("open", req.pid(), ino.0, reply);
        answer!(self.core.open(Ino(ino.0)), reply, handle => {
            reply.opened(FileHandle(handle.ino().0), FopenFlags::FOPEN_KEEP_CACHE);
        });
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let (_answering, reply) = self.requests.answer("read", req.pid(), ino.0, reply);
        // Opened unasked, so the handle says nothing: what counts is the inode.
        BUFFER.with_borrow_mut(|buffer| {
            let size = size as usize;
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            self.core.read_for(Handle::of(Ino(ino.0)), offset, &mut buffer[..size], |read| {
                answer!(read, reply, bytes => reply.data(bytes));
            });
        });
    }

    fn lseek(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        /// `SEEK_DATA` and `SEEK_HOLE` of lseek(2) on Linux; the kernel answers the others itself.
        const DATA: i32 = 3;
        const HOLE: i32 = 4;
        let (Ok(from), Some(to)) = (
            u64::try_from(offset),
            match whence {
                DATA => Some(SeekTo::Data),
                HOLE => Some(SeekTo::Hole),
                _ => None,
            },
        ) else {
            return reply.error(Errno::EINVAL);
        };
        let (_answering, reply) = self.requests.answer("seek", req.pid(), ino.0, reply);
        let found = self.core.seek(Handle::of(Ino(ino.0)), from, to).map(i64::try_from);
        let Some(reply) = reply.take() else { return };
        match found {
            Ok(Ok(found)) => reply.offset(found),
            Ok(Err(_)) => reply.error(Errno::EOVERFLOW),
            Err(error) => reply.error(answered(error)),
        }
    }

    fn opendir(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        if self.lists_unasked {
            return reply.error(Errno::ENOSYS);
        }
        let (_answering, reply) = self.requests.answer("open", req.pid(), ino.0, reply);
        answer!(self.core.opendir(Ino(ino.0)), reply, handle => {
            let flags = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR;
            reply.opened(FileHandle(handle.ino().0), flags);
        });
    }

    fn readdir(&self, req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, reply: ReplyDirectory) {
        let (_answering, reply) = self.requests.answer("list", req.pid(), ino.0, reply);
        let listed = self.core.readdir(Handle::of(Ino(ino.0)), DirCursor(offset), |entry| {
            let name = OsStr::from_bytes(entry.name);
            let kind = file_type(entry.kind);
            let full = reply.add(|reply| reply.add(INodeNo(entry.ino.0), entry.next.0, kind, name));
            full == Some(false)
        });
        answer!(listed, reply, () => reply.ok());
    }

    fn readdirplus(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let (_answering, reply) = self.requests.answer("list", req.pid(), ino.0, reply);
        let listed = self.core.readdir(Handle::of(Ino(ino.0)), DirCursor(offset), |entry| {
            let attr = entry.attr.map_or_else(|| dot(&entry), file_attr);
            let name = OsStr::from_bytes(entry.name);
            let add = |reply: &mut ReplyDirectoryPlus| {
                reply.add(attr.ino, entry.next.0, name, &FOREVER, &attr, GENERATION)
            };
            reply.add(add) == Some(false)
        });
        answer!(listed, reply, () => reply.ok());
    }

    fn statfs(&self, req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let (_answering, reply) = self.requests.answer("figures", req.pid(), ino.0, reply);
        answer!(self.core.statfs(), reply, figures => {
            let blocks = figures.bytes.div_ceil(u64::from(BLOCK));
            reply.statfs(blocks, 0, 0, figures.nodes, 0, BLOCK, figures.name_max, BLOCK);
        });
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let (_answering, reply) = self.requests.answer("attributes", req.pid(), ino.0, reply);
        answer!(self.core.getxattr(Ino(ino.0), name.as_bytes()), reply, value => send_xattr(&value, size, reply));
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let (_answering, reply) = self.requests.answer("attributes", req.pid(), ino.0, reply);
        answer!(self.core.listxattr(Ino(ino.0)), reply, names => {
            let mut joined = Vec::new();
            for name in names {
                joined.extend_from_slice(&name);
                joined.push(0);
            }
            send_xattr(&joined, size, reply);
        });
    }

    fn access(&self, _req: &Request, _ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        // Permissions are the kernel's to check (default_permissions); this is only ever asked without it.
        if mask.contains(AccessFlags::W_OK) { reply.error(REFUSED) } else { reply.ok() }
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        // Nothing is ever to be flushed: answered so once, it is not asked again.
        reply.error(Errno::ENOSYS);
    }

    fn fsync(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsyncdir(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn setattr(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.error(REFUSED);
    }

    fn mknod(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        reply.error(REFUSED);
    }

    fn mkdir(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        reply.error(REFUSED);
    }

    fn unlink(&self, _req: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(REFUSED);
    }

    fn rmdir(&self, _req: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(REFUSED);
    }

    fn symlink(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _link_name: &OsStr,
        _target: &Path,
        reply: ReplyEntry,
    ) {
        reply.error(REFUSED);
    }

    fn rename(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _newparent: INodeNo,
        _newname: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(REFUSED);
    }

    fn link(&self, _req: &Request, _ino: INodeNo, _newparent: INodeNo, _newname: &OsStr, reply: ReplyEntry) {
        reply.error(REFUSED);
    }

    fn write(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: u64,
        _data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        reply.error(REFUSED);
    }

    fn create(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        reply.error(REFUSED);
    }

    fn setxattr(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _name: &OsStr,
        _value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        reply.error(REFUSED);
    }

    fn removexattr(&self, _req: &Request, _ino: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(REFUSED);
    }

    fn fallocate(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: u64,
        _length: u64,
        _mode: i32,
        reply: ReplyEmpty,
    ) {
        reply.error(REFUSED);
    }

    fn copy_file_range(
        &self,
        _req: &Request,
        _ino_in: INodeNo,
        _fh_in: FileHandle,
        _offset_in: u64,
        _ino_out: INodeNo,
        _fh_out: FileHandle,
        _offset_out: u64,
        _len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        reply.error(REFUSED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_and_beyond_2038_keep_their_nanoseconds() {
        for (secs, nanos) in [(-1, 1), (-1_000_000_000, 999_999_999), (0, 0), (10_000_000_000, 5)] {
            let time = system_time(Timestamp { secs, nanos });
            let back = match time.duration_since(UNIX_EPOCH) {
                Ok(after) => i128::from(after.as_secs()) * 1_000_000_000 + i128::from(after.subsec_nanos()),
                Err(before) => -(before.duration().as_nanos() as i128),
            };
            assert_eq!(back, i128::from(secs) * 1_000_000_000 + i128::from(nanos));
        }
    }
}
