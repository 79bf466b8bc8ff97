//! Small filesystems and other users, for tests of what a system can refuse. Needs root.
//!
//! May not leave a mount behind: a [`Tmpfs`] unmounts itself. Where the rights are missing the test that wants
//! them fails and says so; it is not skipped.

use rustix::fs::{Gid, Uid};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use std::ffi::CString;
use std::path::Path;
use tempfile::TempDir;

/// A filesystem in memory of a size of its own, mounted on a temporary folder until dropped.
#[derive(Debug)]
pub struct Tmpfs {
    folder: TempDir,
}

impl Tmpfs {
    /// Mounts one with these options, as `mount -t tmpfs -o` takes them: `size=1m`, `nr_inodes=8`.
    ///
    /// # Panics
    /// Where it cannot be mounted.
    pub fn new(options: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let data = CString::new(options).expect("options hold no zero byte");
        mount("tmpfs", folder.path(), "tmpfs", MountFlags::empty(), data.as_c_str())
            .expect("this test mounts a tmpfs: run it as root");
        Self { folder }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Makes it read-only, or writable again.
    ///
    /// # Panics
    /// Where it cannot be remounted, as while a file in it is open for writing.
    pub fn read_only(&self, on: bool) {
        let flags = if on { MountFlags::RDONLY } else { MountFlags::empty() };
        mount_remount(self.path(), flags, "").expect("the filesystem can be remounted");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Detached, so that an open file does not keep it; the folder goes with it.
        unmount(self.folder.path(), UnmountFlags::DETACH).ok();
    }
}

/// Runs `work` in a thread that has the rights of nobody (user and group 65534); threads it starts have them
/// too.
///
/// # Panics
/// Where `work` does, and where the rights cannot be given up.
pub fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let (user, group) = (Uid::from_raw(65534), Gid::from_raw(65534));
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            // On Linux these calls change the calling thread alone.
            rustix::thread::set_thread_groups(&[]).expect("this test changes its user: run it as root");
            rustix::thread::set_thread_res_gid(group, group, group).expect("the group can be changed");
            rustix::thread::set_thread_res_uid(user, user, user).expect("the user can be changed");
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn nobody_cannot_read_what_is_roots_alone() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("secret");
        fs::write(&path, b"x").unwrap();
        // Whatever this process's umask is.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let refused = as_nobody(|| fs::read(&path).map_err(|e| e.kind()));
        assert_eq!(refused, Err(std::io::ErrorKind::PermissionDenied));
        assert_eq!(fs::read(&path).unwrap(), b"x");
    }

    #[test]
    fn a_small_filesystem_fills_up_and_goes_away() {
        let small = Tmpfs::new("size=64k");
        let path = small.path().join("large");
        let full = fs::write(&path, vec![0; 1 << 20]).map_err(|e| e.kind());
        assert_eq!(full, Err(std::io::ErrorKind::StorageFull));
        small.read_only(true);
        assert!(fs::write(&path, b"").is_err());
        let folder = small.path().to_owned();
        drop(small);
        assert!(!folder.exists());
    }
}
