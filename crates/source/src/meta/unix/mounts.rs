//! Which of the mounted filesystems are ours.
//!
//! May not look at the mount points themselves: a look at a mount that this process serves would wait for
//! itself. Tested below.

use super::bytes_to_path;
use std::io;
use std::path::PathBuf;

/// A mounted vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnMount {
    /// Where it is mounted.
    pub path: PathBuf,
    /// Its device number, as `st_dev` shows it.
    pub device: u64,
}

/// Vaults that are mounted on this system, by whichever process: filesystems of type `fuse.backupengine` or
/// with the source `backupengine`. None where there is no `/proc`.
///
/// # Errors
/// When `/proc/self/mountinfo` exists and cannot be read.
pub fn own_mounts() -> io::Result<Vec<OwnMount>> {
    let own = |mount: &Mount<'_>| mount.kind == b"fuse.backupengine" || mount.source == b"backupengine";
    mounts(own)
}

/// Where filesystems with these device numbers are mounted.
pub(crate) fn mounts_of(devices: &[u64]) -> io::Result<Vec<OwnMount>> {
    mounts(|mount| devices.contains(&mount.device))
}

fn mounts(wanted: impl Fn(&Mount<'_>) -> bool) -> io::Result<Vec<OwnMount>> {
    let text = match std::fs::read("/proc/self/mountinfo") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let found = text.split(|&b| b == b'\n').filter_map(parse).filter(|mount| wanted(mount));
    Ok(found.map(|m| OwnMount { path: bytes_to_path(unescape(m.path)), device: m.device }).collect())
}

pub(super) struct Mount<'a> {
    pub(super) id: u64,
    /// The mount it is mounted on.
    pub(super) parent: u64,
    device: u64,
    /// Escaped: see [`unescape`].
    pub(super) path: &'a [u8],
    pub(super) kind: &'a [u8],
    source: &'a [u8],
}

/// One line of mountinfo (proc(5)): id, parent, major:minor, root, mount point, options, any number of
/// optional fields, "-", type, source, options of the filesystem.
pub(super) fn parse(line: &[u8]) -> Option<Mount<'_>> {
    let mut fields = line.split(|&b| b == b' ');
    let mut text = || std::str::from_utf8(fields.next()?).ok();
    let (id, parent, device) = (text()?.parse().ok()?, text()?.parse().ok()?, text()?);
    let (major, minor) = device.split_once(':')?;
    let device = rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?);
    let path = fields.nth(1)?;
    fields.find(|field| *field == b"-")?;
    Some(Mount { id, parent, device, path, kind: fields.next()?, source: fields.next()? })
}

/// Undoes `\040` and its like.
pub(super) fn unescape(text: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((&first, tail)) = rest.split_first() {
        let octal =
            tail.get(..3).filter(|digits| first == b'\\' && digits.iter().all(|d| (b'0'..b'8').contains(d)));
        if let Some(digits) = octal {
            out.push(digits.iter().fold(0u8, |sum, d| sum.wrapping_mul(8).wrapping_add(d - b'0')));
            rest = &tail[3..];
        } else {
            out.push(first);
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_and_without_optional_fields() {
        let line = b"36 35 0:52 / /home/me/my\\040snaps rw,nosuid shared:1 master:2 - fuse.backupengine backupengine rw";
        let mount = parse(line).unwrap();
        assert_eq!((mount.id, mount.parent), (36, 35));
        assert_eq!((mount.kind, mount.source), (&b"fuse.backupengine"[..], &b"backupengine"[..]));
        assert_eq!(mount.device, rustix::fs::makedev(0, 52));
        assert_eq!(unescape(mount.path), b"/home/me/my snaps");
        let plain = parse(b"22 1 254:0 / / rw,relatime - ext4 /dev/vda rw").unwrap();
        assert_eq!((plain.path, plain.kind), (&b"/"[..], &b"ext4"[..]));
        assert!(parse(b"").is_none() && parse(b"1 2 3").is_none());
        assert_eq!(unescape(b"a\\134b\\n\\01"), b"a\\b\\n\\01");
    }

    #[test]
    fn device_numbers_are_those_of_stat() {
        use std::os::unix::fs::MetadataExt;
        // Not every "/" is in the list under its st_dev (overlays, btrfs), but /proc always is.
        let device = std::fs::metadata("/proc").unwrap().dev();
        assert!(mounts_of(&[device]).unwrap().iter().any(|m| m.path == std::path::Path::new("/proc")));
    }
}
