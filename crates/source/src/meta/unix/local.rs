//! Which paths lie on disks of this machine.
//!
//! **What it is.** The tree of mounts, walked along a path, as the kernel would. For whoever serves a filesystem and
//! opens other files meanwhile: what this process serves would wait for itself, and a network may not answer.
//! **What it may not do.** Look at the path itself, or at a mount point.
//! **What always holds.** What is not known to be a local disk is none. A mount made within the last second may be
//! missed. **Where it is tested.** Below.
use super::file::SourceFile;
use super::mounts::{parse, unescape};
use super::{path_to_bytes, real_path};
use backupengine_model::{Attributes, Kind, TreePath};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Types of filesystems that lie on this machine and answer without any other process.
const LOCAL: &[&[u8]] = &[
    b"bcachefs",
    b"btrfs",
    b"erofs",
    b"exfat",
    b"ext2",
    b"ext3",
    b"ext4",
    b"f2fs",
    b"hfsplus",
    b"jfs",
    b"nilfs2",
    b"ntfs3",
    b"overlay",
    b"ramfs",
    b"reiserfs",
    b"squashfs",
    b"tmpfs",
    b"udf",
    b"vfat",
    b"xfs",
    b"zfs",
];
/// For how long the list of mounts is believed.
const BELIEVED: Duration = Duration::from_secs(1);

/// Opens files by their paths in a snapshot where they lie on a local disk.
#[derive(Debug, Default)]
pub struct LocalFiles {
    seen: Mutex<Option<(Instant, Mounts)>>,
}

impl LocalFiles {
    /// The file at a path of a snapshot on this system, if it is on a local disk, not behind a symbolic link, a regular
    /// file, and of the size and modification time that are wanted. Does not wait for a pipe, a network, or a
    /// filesystem that another process (or this one) serves.
    pub fn open(&self, path: &TreePath, wanted: &Attributes) -> Option<SourceFile> {
        let path = real_path(path);
        if wanted.kind != Kind::File || !self.is_local(&path) {
            return None;
        }
        let file = SourceFile::open_file(&path).ok()?;
        let (now, _) = file.stat().ok()?;
        (now.size == wanted.size && now.mtime == wanted.mtime).then_some(file)
    }

    fn is_local(&self, path: &Path) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match &*seen {
            Some((when, mounts)) if when.elapsed() < BELIEVED => mounts.is_local(path),
            _ => {
                // Without a list nothing is local.
                let mounts = Mounts::parse(&std::fs::read("/proc/self/mountinfo").unwrap_or_default());
                let local = mounts.is_local(path);
                *seen = Some((Instant::now(), mounts));
                local
            }
        }
    }
}

#[derive(Debug, Default)]
struct Mounts(Vec<Point>);

#[derive(Debug)]
struct Point {
    id: u64,
    parent: u64,
    path: Vec<u8>,
    local: bool,
}

impl Mounts {
    fn parse(text: &[u8]) -> Self {
        let point = |line| {
            let mount = parse(line)?;
            let (id, parent, local) = (mount.id, mount.parent, LOCAL.contains(&mount.kind));
            Some(Point { id, parent, path: unescape(mount.path), local })
        };
        Self(text.split(|&b| b == b'\n').filter_map(point).collect())
    }

    fn is_local(&self, path: &Path) -> bool {
        let path = path_to_bytes(path);
        let is_there = |id| self.0.iter().any(|point| point.id == id);
        // The root is mounted on what this process does not see.
        let root = self.0.iter().find(|point| point.path == b"/" && !is_there(point.parent));
        let Some(mut at) = root else { return false };
        // Each step goes to another mount; a list that leads in a circle is nobody's.
        for _ in 0..self.0.len() {
            let on_the_way = self
                .0
                .iter()
                .filter(|point| point.parent == at.id && point.id != at.id && is_below(path, &point.path));
            // The one that is met first hides what was mounted below it before.
            match on_the_way.min_by_key(|point| point.path.len()) {
                Some(next) => at = next,
                None => return at.local,
            }
        }
        false
    }
}

/// Whether a path is `folder` or lies below it.
fn is_below(path: &[u8], folder: &[u8]) -> bool {
    folder == b"/" || path.strip_prefix(folder).is_some_and(|rest| rest.first().is_none_or(|&b| b == b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_model::Timestamp;
    use std::fs;
    use std::os::unix::fs::symlink;

    const LIST: &str = "\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
23 22 0:5 / /proc rw - proc proc rw
24 22 8:2 / /home rw shared:1 - btrfs /dev/sda2 rw
25 24 0:40 / /home/me/snaps rw - fuse.backupengine backupengine rw
26 24 0:41 / /home/me/my\\040nas rw - nfs4 nas:/me rw
27 22 8:3 / /hidden/below rw - ext4 /dev/sda3 rw
28 22 0:42 / /hidden rw - fuse.sshfs far: rw
29 22 8:4 / /over rw - nfs nas:/over rw
30 29 8:5 / /over rw - xfs /dev/sda5 rw
31 24 0:43 / /home/me/nets rw - autofs systemd-1 rw
";

    #[test]
    fn mounts_are_followed_as_the_kernel_does() {
        let mounts = Mounts::parse(LIST.as_bytes());
        for (path, local) in [
            ("/", true),
            ("/etc/passwd", true),
            ("/homeless", true),
            ("/home", true),
            ("/home/me/file", true),
            ("/home/me/snaps", false),
            ("/home/me/snaps/latest/home/me/file", false),
            ("/home/me/snapshots", true),
            ("/home/me/my nas/file", false),
            ("/home/me/nets/host/file", false),
            ("/proc/self/status", false),
            // Mounted before, and now behind what was mounted over its parent.
            ("/hidden/below/file", false),
            // The upper of two mounts on one folder.
            ("/over/file", true),
        ] {
            assert_eq!(mounts.is_local(Path::new(path)), local, "{path}");
        }
        assert!(!Mounts::parse(b"").is_local(Path::new("/")));
        // Lists that no kernel writes.
        assert!(
            !Mounts::parse(b"1 2 8:1 / / rw - ext4 a rw\n2 1 8:1 / / rw - ext4 b rw\n")
                .is_local(Path::new("/a"))
        );
        assert!(Mounts::parse(b"1 1 8:1 / / rw - ext4 a rw\n").0.len() == 1);
    }

    #[test]
    fn only_a_regular_file_of_that_size_and_time_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let at = |name: &str| TreePath::from_slashes(path_to_bytes(&dir.join(name))).unwrap();
        fs::create_dir(dir.join("sub")).unwrap();
        fs::write(dir.join("sub/f"), b"hello").unwrap();
        let wanted = SourceFile::open_file(&dir.join("sub/f")).unwrap().stat().unwrap().0;
        let files = LocalFiles::default();
        assert!(files.open(&at("sub/f"), &wanted).is_some());
        let mtime = Timestamp { nanos: wanted.mtime.nanos ^ 1, ..wanted.mtime };
        assert!(files.open(&at("sub/f"), &Attributes { mtime, ..wanted.clone() }).is_none());
        assert!(files.open(&at("sub/f"), &Attributes { size: 4, ..wanted.clone() }).is_none());
        assert!(files.open(&at("sub/f"), &Attributes { kind: Kind::Fifo, ..wanted.clone() }).is_none());
        assert!(files.open(&at("sub/none"), &wanted).is_none());
        assert!(files.open(&at("sub"), &wanted).is_none());
        // Links: to the file itself, and among its parents.
        symlink(dir.join("sub/f"), dir.join("link")).unwrap();
        symlink(dir.join("sub"), dir.join("way")).unwrap();
        assert!(files.open(&at("link"), &wanted).is_none() && files.open(&at("way/f"), &wanted).is_none());
        // A pipe nobody writes to, of the same size and time as an empty file.
        fs::write(dir.join("empty"), b"").unwrap();
        let empty = SourceFile::open_file(&dir.join("empty")).unwrap().stat().unwrap().0;
        fs::remove_file(dir.join("empty")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, dir.join("empty"), rustix::fs::Mode::RUSR).unwrap();
        assert!(files.open(&at("empty"), &empty).is_none());
        // What the kernel makes up as it is read.
        let made_up = SourceFile::open_file(Path::new("/proc/version")).unwrap().stat().unwrap().0;
        let path = TreePath::from_slashes(b"/proc/version").unwrap();
        assert!(files.open(&path, &made_up).is_none());
    }

    #[test]
    fn what_this_user_may_not_read_is_not_opened() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let file = |name: &str| {
            fs::write(dir.join(name), b"bytes").unwrap();
            let wanted = SourceFile::open_file(&dir.join(name)).unwrap().stat().unwrap().0;
            (TreePath::from_slashes(path_to_bytes(&dir.join(name))).unwrap(), wanted)
        };
        let (closed, open) = (file("closed"), file("open"));
        mode(&dir, 0o755);
        mode(&dir.join("closed"), 0o200);
        mode(&dir.join("open"), 0o644);
        // As a user without special rights, in a thread that ends with it.
        let tried = std::thread::spawn(move || {
            if rustix::process::geteuid().is_root() {
                rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(65534)).unwrap();
            }
            [closed, open].map(|(path, wanted)| LocalFiles::default().open(&path, &wanted).is_some())
        });
        assert_eq!(tried.join().unwrap(), [false, true]);
    }
}
