//! The system's table of mounts.
//!
//! May not touch what is mounted: a dead or slow mount must not hold up whoever asks about it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// One line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableEntry {
    /// Device as `major:minor`.
    pub(crate) device: String,
    pub(crate) mountpoint: PathBuf,
    pub(crate) fs_type: String,
    pub(crate) source: String,
}

impl TableEntry {
    pub(crate) fn is_ours(&self) -> bool {
        self.is_fuse() && (self.source == crate::NAME || self.fs_type == format!("fuse.{}", crate::NAME))
    }

    pub(crate) fn is_fuse(&self) -> bool {
        self.fs_type == "fuse" || self.fs_type.starts_with("fuse.")
    }
}

/// What is mounted at `mountpoint` (the topmost, where several lie on each other).
pub(crate) fn mounted_at(mountpoint: &Path) -> io::Result<Option<TableEntry>> {
    let text = fs::read("/proc/self/mountinfo")?;
    Ok(text.split(|&b| b == b'\n').filter_map(parse).rfind(|entry| entry.mountpoint == mountpoint))
}

/// Requests of a mount that are not answered yet, those included that no thread took up; `None` where the system does
/// not say.
pub fn waiting(mountpoint: &Path) -> Option<u64> {
    let entry = mounted_at(mountpoint).ok()??;
    let minor = entry.device.split_once(':')?.1.to_owned();
    fs::read_to_string(format!("/sys/fs/fuse/connections/{minor}/waiting")).ok()?.trim().parse().ok()
}

/// `36 35 98:0 / /mnt rw,noatime master:1 - ext3 /dev/root rw,errors=continue` (proc(5)).
fn parse(line: &[u8]) -> Option<TableEntry> {
    let mut fields = line.split(|&b| b == b' ');
    let device = String::from_utf8(fields.nth(2)?.to_vec()).ok()?;
    let mountpoint = PathBuf::from(OsString::from_vec(unescape(fields.nth(1)?)));
    let mut after_dash = fields.skip_while(|field| *field != b"-").skip(1);
    let text = |field: &[u8]| String::from_utf8_lossy(&unescape(field)).into_owned();
    Some(TableEntry {
        device,
        mountpoint,
        fs_type: text(after_dash.next()?),
        source: text(after_dash.next()?),
    })
}

/// Space, tab, newline and backslash stand in the table as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = tail;
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_table_are_understood() {
        let line = br"190 29 0:52 / /home/me/my\040snapshots\134x ro,nosuid,nodev shared:104 - fuse.backupengine backupengine ro,user_id=0";
        let entry = parse(line).unwrap();
        assert_eq!(entry.device, "0:52");
        assert_eq!(entry.mountpoint, Path::new("/home/me/my snapshots\\x"));
        assert!(entry.is_ours());
        let other = parse(b"36 35 98:0 / /mnt rw - fuse.sshfs host:/ rw").unwrap();
        assert!(other.is_fuse() && !other.is_ours());
        assert!(!parse(b"36 35 98:0 / /mnt rw - ext4 backupengine rw").unwrap().is_ours());
        assert_eq!(parse(b"36 35"), None);
    }

    #[test]
    fn the_root_is_mounted() {
        assert!(mounted_at(Path::new("/")).unwrap().is_some());
        assert_eq!(mounted_at(Path::new("/no/such/mount")).unwrap(), None);
    }
}
