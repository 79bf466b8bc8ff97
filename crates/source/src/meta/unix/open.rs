//! Opens a path without following a single link, however long the path is.
//!
//! May not follow links, touch access times where the kernel allows to leave them, or wait for the other end
//! of a pipe. Tested in `file` and `walk`.

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

use super::path_to_bytes;

/// Longest path handed to the kernel in one call; it refuses 4096 bytes and more.
const SEGMENT: usize = 4000;

/// What every open carries.
const ALWAYS: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK);

/// Opens for reading, without changing the access time where that is allowed (owner or root).
pub(super) fn open_path(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let bytes = path_to_bytes(path);
    let mut at: Option<OwnedFd> = None;
    let mut rest = bytes;
    while rest.len() > SEGMENT {
        // Names are at most 255 bytes on Linux, so there is a slash in every segment.
        let cut = rest[..SEGMENT].iter().rposition(|&b| b == b'/').filter(|&cut| cut > 0);
        let cut = cut.ok_or(Errno::NAMETOOLONG)?;
        let folder = OFlags::PATH | OFlags::DIRECTORY;
        let next = open_at(at.as_ref().map_or(CWD, |fd| fd.as_fd()), &rest[..cut], folder)?;
        at = Some(next);
        rest = &rest[cut..];
        rest = &rest[rest.iter().take_while(|&&b| b == b'/').count()..];
    }
    open_quietly(at.as_ref().map_or(CWD, |fd| fd.as_fd()), rest, flags)
}

/// Opens a name of a directory, or a short path below it.
pub(super) fn open_quietly(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    if flags.contains(OFlags::PATH) {
        return open_at(dir, path, flags);
    }
    match open_at(dir, path, flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open_at(dir, path, flags),
        other => other,
    }
}

fn open_at(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    // O_PATH refuses flags that speak of reading.
    let extra = if flags.contains(OFlags::PATH) { OFlags::CLOEXEC | OFlags::NOFOLLOW } else { ALWAYS };
    loop {
        let opened = if knows_openat2() {
            openat2(dir, path, flags | extra, Mode::empty(), ResolveFlags::NO_SYMLINKS)
        } else {
            openat(dir, path, flags | extra, Mode::empty())
        };
        match opened {
            // EAGAIN: a rename elsewhere made the kernel unsure; it asks to try again.
            Err(Errno::INTR | Errno::AGAIN) => {}
            other => return other,
        }
    }
}

/// Kernels before 5.6 and some sandboxes lack `openat2`; then only the last component is guarded.
fn knows_openat2() -> bool {
    static KNOWS: OnceLock<bool> = OnceLock::new();
    *KNOWS.get_or_init(|| {
        openat2(CWD, c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_SYMLINKS).is_ok()
    })
}
