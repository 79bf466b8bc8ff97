//! One way to look at a mount, whether through the core or through the kernel.

use backupengine_model::{Attributes, Kind, TreePath};
use backupengine_testkit::oracle::disk;
use backupengine_vfs::{ContentReader, DirCursor, FsError, Handle, Ino, ReadOnlyFs, SeekTo, TreeReader};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What `lstat` shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) ino: u64,
    pub(crate) blocks: u64,
    pub(crate) attributes: Attributes,
}

/// Operations on paths from the root of the mount; none follows a link at the end.
pub(crate) trait Face {
    fn lstat(&self, path: &TreePath) -> Result<Seen, Errno>;
    /// Names with inode number and kind, in the order of the listing, dots left out.
    fn list(&self, path: &TreePath) -> Result<Vec<(Vec<u8>, u64, Kind)>, Errno>;
    fn read(&self, path: &TreePath, offset: u64, len: usize) -> Result<Vec<u8>, Errno>;
    fn read_link(&self, path: &TreePath) -> Result<Vec<u8>, Errno>;
    fn xattr(&self, path: &TreePath, name: &str) -> Result<Vec<u8>, Errno>;
    fn xattr_names(&self, path: &TreePath) -> Result<Vec<Vec<u8>>, Errno>;
    fn seek(&self, path: &TreePath, offset: u64, to: SeekTo) -> Result<u64, Errno>;
    /// Bytes and files of `statfs`.
    fn figures(&self) -> Result<(u64, u64), Errno>;
    /// Waits until `seen` holds, at most the three seconds in which news has to show.
    fn within_three_seconds(&self, seen: &dyn Fn() -> bool) -> bool;
}

/// The core, by path.
pub(crate) struct CoreFace<T, C>(ReadOnlyFs<T, C>);

impl<T: TreeReader, C: ContentReader> CoreFace<T, C> {
    pub(crate) fn new(core: ReadOnlyFs<T, C>) -> Self {
        Self(core)
    }

    fn ino(&self, path: &TreePath) -> Result<Ino, Errno> {
        self.0.resolve(path).map(|attr| attr.ino).map_err(code)
    }
}

/// The numbers a Unix shell has to give, written down a second time.
pub(crate) fn code(error: FsError) -> Errno {
    match error {
        FsError::NotFound => Errno::NOENT,
        FsError::NotADirectory => Errno::NOTDIR,
        FsError::IsADirectory => Errno::ISDIR,
        FsError::NotALink => Errno::INVAL,
        FsError::NoAttribute => Errno::NODATA,
        FsError::ReadOnly => Errno::ROFS,
        FsError::BadHandle => Errno::BADF,
        FsError::NoSuchOffset => Errno::NXIO,
        FsError::NameTooLong => Errno::NAMETOOLONG,
        FsError::TimedOut => Errno::TIMEDOUT,
        FsError::Stale => Errno::STALE,
        FsError::Damaged => Errno::IO,
        FsError::Denied => Errno::ACCESS,
        FsError::Interrupted => Errno::INTR,
    }
}

impl<T: TreeReader, C: ContentReader> Face for CoreFace<T, C> {
    fn lstat(&self, path: &TreePath) -> Result<Seen, Errno> {
        let attr = self.0.resolve(path).map_err(code)?;
        // What a look-up says and what the number says has to be the same.
        assert_eq!(self.0.getattr(attr.ino).map_err(code)?, attr, "{path}");
        Ok(Seen {
            ino: attr.ino.0,
            blocks: attr.blocks,
            attributes: Attributes {
                kind: attr.kind,
                mode: attr.mode,
                uid: attr.uid,
                gid: attr.gid,
                size: attr.size,
                mtime: attr.mtime,
                rdev: attr.rdev,
                nlink: attr.nlink,
                allocated: None,
                flags: Default::default(),
            },
        })
    }

    fn list(&self, path: &TreePath) -> Result<Vec<(Vec<u8>, u64, Kind)>, Errno> {
        let handle = self.0.opendir(self.ino(path)?).map_err(code)?;
        let mut out = Vec::new();
        let listed = self.0.readdir(handle, DirCursor::START, |entry| {
            if let Some(attr) = entry.attr {
                assert_eq!((attr.ino, attr.kind), (entry.ino, entry.kind));
                out.push((entry.name.to_vec(), entry.ino.0, entry.kind));
            }
            true
        });
        self.0.releasedir(handle);
        listed.map(|()| out).map_err(code)
    }

    fn read(&self, path: &TreePath, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let handle = self.0.open(self.ino(path)?).map_err(code)?;
        let mut out = vec![0xee; len];
        let n = self.0.read(handle, offset, &mut out).map_err(code)?;
        self.0.release(handle);
        out.truncate(n);
        Ok(out)
    }

    fn read_link(&self, path: &TreePath) -> Result<Vec<u8>, Errno> {
        self.0.readlink(self.ino(path)?).map(|target| target.to_vec()).map_err(code)
    }

    fn xattr(&self, path: &TreePath, name: &str) -> Result<Vec<u8>, Errno> {
        self.0.getxattr(self.ino(path)?, name.as_bytes()).map(|value| value.to_vec()).map_err(code)
    }

    fn xattr_names(&self, path: &TreePath) -> Result<Vec<Vec<u8>>, Errno> {
        self.0.listxattr(self.ino(path)?).map_err(code)
    }

    fn seek(&self, path: &TreePath, offset: u64, to: SeekTo) -> Result<u64, Errno> {
        self.0.seek(Handle::of(self.ino(path)?), offset, to).map_err(code)
    }

    fn figures(&self) -> Result<(u64, u64), Errno> {
        self.0.statfs().map(|figures| (figures.bytes, figures.nodes)).map_err(code)
    }

    fn within_three_seconds(&self, seen: &dyn Fn() -> bool) -> bool {
        self.0.refresh().unwrap();
        seen()
    }
}

/// A mountpoint, through the kernel.
pub(crate) struct KernelFace(PathBuf);

impl KernelFace {
    pub(crate) fn new(mountpoint: &Path) -> Self {
        Self(mountpoint.to_owned())
    }

    fn at(&self, path: &TreePath) -> PathBuf {
        disk::path_below(&self.0, path)
    }
}

/// The number behind an error of the standard library.
pub(crate) fn number(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or_else(|| panic!("{error} has no number"))
}

impl Face for KernelFace {
    fn lstat(&self, path: &TreePath) -> Result<Seen, Errno> {
        let found = fs::symlink_metadata(self.at(path)).map_err(|e| number(&e))?;
        Ok(Seen { ino: found.ino(), blocks: found.blocks(), attributes: disk::attributes_of(&found) })
    }

    fn list(&self, path: &TreePath) -> Result<Vec<(Vec<u8>, u64, Kind)>, Errno> {
        use std::os::unix::fs::DirEntryExt;
        let mut out = Vec::new();
        for entry in fs::read_dir(self.at(path)).map_err(|e| number(&e))? {
            let entry = entry.map_err(|e| number(&e))?;
            let kind = disk::attributes_of(&entry.metadata().map_err(|e| number(&e))?).kind;
            out.push((entry.file_name().into_vec(), entry.ino(), kind));
        }
        Ok(out)
    }

    fn read(&self, path: &TreePath, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let file = File::open(self.at(path)).map_err(|e| number(&e))?;
        let mut out = vec![0xee; len];
        let mut filled = 0;
        // The kernel may give less than asked before an error: only all or the end counts here.
        while filled < len {
            match file.read_at(&mut out[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) => return Err(number(&error)),
            }
        }
        out.truncate(filled);
        Ok(out)
    }

    fn read_link(&self, path: &TreePath) -> Result<Vec<u8>, Errno> {
        fs::read_link(self.at(path)).map(|target| target.into_os_string().into_vec()).map_err(|e| number(&e))
    }

    fn xattr(&self, path: &TreePath, name: &str) -> Result<Vec<u8>, Errno> {
        let mut out = vec![0; 65536];
        let len = rustix::fs::lgetxattr(self.at(path), OsStr::from_bytes(name.as_bytes()), &mut out[..])?;
        out.truncate(len);
        Ok(out)
    }

    fn xattr_names(&self, path: &TreePath) -> Result<Vec<Vec<u8>>, Errno> {
        disk::xattrs_of(&self.at(path)).map(|all| all.into_keys().collect()).map_err(|e| number(&e))
    }

    fn seek(&self, path: &TreePath, offset: u64, to: SeekTo) -> Result<u64, Errno> {
        let file = File::open(self.at(path)).map_err(|e| number(&e))?;
        let from = match to {
            SeekTo::Data => SeekFrom::Data(offset),
            SeekTo::Hole => SeekFrom::Hole(offset),
        };
        rustix::fs::seek(&file, from)
    }

    fn figures(&self) -> Result<(u64, u64), Errno> {
        let found = rustix::fs::statfs(&self.0)?;
        Ok((found.f_blocks * found.f_bsize as u64, found.f_files))
    }

    fn within_three_seconds(&self, seen: &dyn Fn() -> bool) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3) {
            if seen() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        seen()
    }
}
