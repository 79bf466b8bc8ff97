//! An open source folder: its names, what `lstat` says of them, link targets, extended attributes.
//!
//! May not follow links or decide what is walked. Nothing here depends on how deep the folder lies. Tested in
//! `walk`.

use super::open::{open_path, open_quietly};
use super::{describe, path_to_bytes};
use crate::change::Identity;
use backupengine_model::{Attributes, Kind};
use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, FileType, OFlags, RawDir, lgetxattr, llistxattr, readlinkat, statat};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// What starts a tag file of a cache folder (<https://bford.info/cachedir/>).
const CACHEDIR_SIGNATURE: &[u8; 43] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// Extended attributes of one file, sorted by name.
pub(crate) type Xattrs = Arc<[(Vec<u8>, Vec<u8>)]>;

/// What a listing says of a name without a look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameKind {
    /// A directory.
    Directory,
    /// Something else.
    Other,
    /// The filesystem does not say.
    Unknown,
}

/// One name of a listing.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: NameKind,
}

/// An open folder.
#[derive(Debug)]
pub(crate) struct Folder {
    fd: OwnedFd,
}

impl Folder {
    /// Opens without following links.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { fd: open_path(path, OFlags::RDONLY | OFlags::DIRECTORY)? })
    }

    /// Opens only to look at names that are known; works without the right to list.
    pub(crate) fn open_to_look(path: &Path) -> io::Result<Self> {
        Ok(Self { fd: open_path(path, OFlags::PATH | OFlags::DIRECTORY)? })
    }

    /// All names, unsorted, without `.` and `..`.
    pub(crate) fn names(&self) -> io::Result<Vec<Found>> {
        let mut buffer = Vec::with_capacity(64 << 10);
        let mut listing = RawDir::new(&self.fd, buffer.spare_capacity_mut());
        let mut out = Vec::new();
        while let Some(entry) = listing.next() {
            let entry = match entry {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Directory => NameKind::Directory,
                FileType::Unknown => NameKind::Unknown,
                _ => NameKind::Other,
            };
            out.push(Found { name: name.to_vec(), kind });
        }
        Ok(out)
    }

    /// `lstat` of a name, or of the folder itself by `.`.
    pub(crate) fn stat(&self, name: &[u8]) -> io::Result<(Attributes, Identity)> {
        Ok(describe(&statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)?))
    }

    /// Where a link points to.
    pub(crate) fn target(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(readlinkat(&self.fd, name, Vec::new())?.into_bytes())
    }

    /// Whether the sub-folder `name` holds something called `.nobackup`.
    pub(crate) fn has_nobackup(&self, name: &[u8]) -> bool {
        self.stat(&[name, b"/.nobackup"].concat()).is_ok()
    }

    /// Whether the sub-folder `name` holds a `CACHEDIR.TAG` with its signature.
    pub(crate) fn is_cache(&self, name: &[u8]) -> bool {
        let tag = [name, b"/CACHEDIR.TAG"].concat();
        if !self.stat(&tag).is_ok_and(|(attributes, _)| attributes.kind == Kind::File) {
            return false;
        }
        let Ok(fd) = open_quietly(self.fd.as_fd(), &tag, OFlags::RDONLY) else { return false };
        let mut start = [0; CACHEDIR_SIGNATURE.len()];
        rustix::io::pread(&fd, &mut start, 0) == Ok(start.len()) && start == *CACHEDIR_SIGNATURE
    }

    /// The content of a small file of this folder.
    pub(crate) fn read_small(&self, name: &[u8], max: usize) -> io::Result<Vec<u8>> {
        let fd = open_quietly(self.fd.as_fd(), name, OFlags::RDONLY)?;
        let mut out = Vec::with_capacity(4096);
        io::Read::read_to_end(&mut io::Read::take(std::fs::File::from(fd), max as u64), &mut out)?;
        Ok(out)
    }

    /// A look at many names of this folder, whose path is `real`.
    pub(crate) fn look(&self, real: &Path) -> Look<'_> {
        let mut direct = path_to_bytes(real).to_vec();
        if !direct.ends_with(b"/") {
            direct.push(b'/');
        }
        let safe = format!("/proc/self/fd/{}/", self.fd.as_raw_fd()).into_bytes();
        let (list_by, read_by) = match (has_proc(), direct.len() < DIRECT_MAX) {
            (true, true) => (direct, safe),
            (true, false) => (safe.clone(), safe),
            (false, _) => (direct.clone(), direct),
        };
        let names = Vec::with_capacity(4096);
        Look {
            folder: self,
            list_by: Place::new(list_by),
            read_by: Place::new(read_by),
            names,
            none: Arc::from([]),
        }
    }
}

/// Longest path of a folder by which extended attributes are listed directly.
const DIRECT_MAX: usize = 3800;

/// The path of a folder, to which names are put in turn.
#[derive(Debug)]
struct Place {
    path: Vec<u8>,
    folder: usize,
}

impl Place {
    fn new(path: Vec<u8>) -> Self {
        Self { folder: path.len(), path }
    }

    fn of(&mut self, name: &[u8]) -> &[u8] {
        self.path.truncate(self.folder);
        self.path.extend_from_slice(name);
        &self.path
    }
}

/// Looks at names of one folder with the same buffers.
///
/// Extended attributes are asked for by path: before Linux 6.13 there is no call relative to a handle. A path
/// through `/proc/self/fd` is as good, but takes twice the time. So the names are listed by the plain path,
/// and the few values there are come by the safe one: who swaps a folder for a link meanwhile can hide
/// attributes of his own files, and never slip in those of another.
#[derive(Debug)]
pub(crate) struct Look<'a> {
    pub(crate) folder: &'a Folder,
    list_by: Place,
    read_by: Place,
    names: Vec<u8>,
    none: Xattrs,
}

impl Look<'_> {
    /// Extended attributes of a name, of the link itself where it is one.
    ///
    /// What the kernel refuses to read (`trusted.*` without privilege and the like) is left out, and so is
    /// what vanishes meanwhile.
    pub(crate) fn xattrs(&mut self, name: &[u8]) -> io::Result<Xattrs> {
        let path = self.list_by.of(name);
        let len = loop {
            self.names.clear();
            match llistxattr(path, spare_capacity(&mut self.names)) {
                Ok(len) => break len,
                Err(Errno::RANGE) => self.names.reserve(self.names.capacity() * 4),
                Err(Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS | Errno::NOSYS) => break 0,
                Err(error) => return Err(error.into()),
            }
        };
        if len == 0 {
            return Ok(Arc::clone(&self.none));
        }
        let path = self.read_by.of(name);
        let mut out = Vec::new();
        for name in self.names.split(|&b| b == 0).filter(|name| !name.is_empty()) {
            if let Some(value) = value(path, name)? {
                out.push((name.to_vec(), value));
            }
        }
        out.sort_unstable();
        Ok(out.into())
    }
}

/// One value; `None` where it is not to be had.
fn value(path: &[u8], name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut out = Vec::with_capacity(256);
    loop {
        out.clear();
        match lgetxattr(path, name, spare_capacity(&mut out)) {
            Ok(_) => return Ok(Some(out)),
            // Values end at 64 KiB in the kernel (XATTR_SIZE_MAX).
            Err(Errno::RANGE) if out.capacity() < 1 << 20 => out.reserve(out.capacity() * 8),
            Err(Errno::RANGE | Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn has_proc() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| Path::new("/proc/self/fd").is_dir())
}
