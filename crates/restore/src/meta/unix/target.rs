//! The target: one handle, and the folders beneath it.
//!
//! May not leave the target: links, magic links and `..` end the way. Tested in `tests`.

use super::{Folder, again};
use backupengine_model::TreePath;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

/// Longest path handed to the kernel in one call; it refuses 4096 bytes and more.
const SEGMENT: usize = 4000;

/// A handle that looks, and is where relative steps begin.
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The folder everything is written below.
#[derive(Debug)]
pub(crate) struct Target {
    root: OwnedFd,
}

impl Target {
    /// Makes the folder where it is missing, and opens it. Links on the way are followed: the user named it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        Ok(Self { root: again(|| openat(CWD, path, FOLDER, Mode::empty()))? })
    }

    /// The folder at `path` below the target.
    pub(crate) fn folder(&self, path: &TreePath) -> io::Result<Folder> {
        let slashes = path.to_slashes();
        let mut rest = slashes.get(1..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(Folder::new(step(self.root.as_fd(), b".")?));
        }
        let mut at: Option<OwnedFd> = None;
        while rest.len() > SEGMENT {
            // Names are at most 255 bytes on Linux, so there is a slash in every segment.
            let cut = rest[..SEGMENT].iter().rposition(|&b| b == b'/').ok_or(Errno::NAMETOOLONG)?;
            at = Some(step(at.as_ref().unwrap_or(&self.root).as_fd(), &rest[..cut])?);
            rest = &rest[cut + 1..];
        }
        Ok(Folder::new(step(at.as_ref().unwrap_or(&self.root).as_fd(), rest)?))
    }
}

/// Opens a folder beneath another, through no link.
fn step(from: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    let flags = FOLDER | OFlags::NOFOLLOW;
    if knows_openat2() {
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        return again(|| match openat2(from, path, flags, Mode::empty(), beneath) {
            // A rename elsewhere made the kernel unsure; it asks to try again.
            Err(Errno::AGAIN) => Err(Errno::INTR),
            other => other,
        });
    }
    // Name by name; names hold no `..`, so this stays beneath as well.
    let mut at: Option<OwnedFd> = None;
    for name in path.split(|&b| b == b'/') {
        let here = at.as_ref().map_or(from, AsFd::as_fd);
        at = Some(again(|| openat(here, name, flags, Mode::empty()))?);
    }
    at.ok_or_else(|| Errno::NOENT.into())
}

/// Kernels before 5.6 and some sandboxes lack `openat2`.
fn knows_openat2() -> bool {
    static KNOWS: OnceLock<bool> = OnceLock::new();
    *KNOWS.get_or_init(|| openat2(CWD, c"/", FOLDER, Mode::empty(), ResolveFlags::NO_SYMLINKS).is_ok())
}
