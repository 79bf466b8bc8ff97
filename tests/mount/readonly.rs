//! Read-only: whatever would change something gets EROFS.

use crate::world::{Mount, World, fuse_is_wanted};
use backupengine_testkit::oracle::{disk, sample};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid,
    XattrFlags,
};
use rustix::io::Errno;
use std::path::Path;

/// Every call that would change something at or below `dir`, with what it answered. `file`, `folder` and
/// `link` exist.
fn attempts(dir: &Path) -> Vec<(&'static str, Result<(), Errno>)> {
    let (file, folder, new) = (dir.join("file"), dir.join("folder"), dir.join("new"));
    let time = Timespec { tv_sec: 1, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    let mode = Mode::from_raw_mode(0o644);
    let open = |flags: OFlags| rustix::fs::open(&file, flags, Mode::empty()).map(drop);
    let mut out = vec![
        ("open for writing", open(OFlags::WRONLY)),
        ("open for both", open(OFlags::RDWR)),
        ("open to truncate", open(OFlags::WRONLY | OFlags::TRUNC)),
        ("open to append", open(OFlags::WRONLY | OFlags::APPEND)),
        ("create", rustix::fs::open(&new, OFlags::WRONLY | OFlags::CREATE, mode).map(drop)),
        ("tmpfile", rustix::fs::open(dir, OFlags::WRONLY | OFlags::TMPFILE, mode).map(drop)),
        ("mkdir", rustix::fs::mkdir(&new, mode)),
        ("rmdir", rustix::fs::rmdir(&folder)),
        ("unlink", rustix::fs::unlink(&file)),
        ("rename", rustix::fs::rename(&file, &new)),
        (
            "rename without replacing",
            rustix::fs::renameat_with(CWD, &file, CWD, &new, RenameFlags::NOREPLACE),
        ),
        ("exchange", rustix::fs::renameat_with(CWD, &file, CWD, &folder, RenameFlags::EXCHANGE)),
        ("link", rustix::fs::link(&file, &new)),
        ("symlink", rustix::fs::symlink("target", &new)),
        ("mkfifo", rustix::fs::mknodat(CWD, &new, FileType::Fifo, mode, 0)),
        ("chmod", rustix::fs::chmod(&file, mode)),
        ("chown", rustix::fs::chown(&file, Some(Uid::from_raw(0)), Some(Gid::from_raw(0)))),
        ("utimens", rustix::fs::utimensat(CWD, &file, &times, AtFlags::empty())),
        ("setxattr", rustix::fs::setxattr(&file, "user.x", b"y", XattrFlags::empty())),
        ("removexattr", rustix::fs::removexattr(&file, "user.x")),
        ("setxattr on a folder", rustix::fs::setxattr(dir, "user.x", b"y", XattrFlags::empty())),
    ];
    if disk::is_root() {
        out.push(("mknod", rustix::fs::mknodat(CWD, &new, FileType::CharacterDevice, mode, 0x103)));
    }
    // What is open for reading cannot be changed through its descriptor either.
    let read = rustix::fs::open(&file, OFlags::RDONLY, Mode::empty()).unwrap();
    out.push(("fchmod", rustix::fs::fchmod(&read, mode)));
    out.push(("futimens", rustix::fs::futimens(&read, &times)));
    out.push(("fsetxattr", rustix::fs::fsetxattr(&read, "user.x", b"y", XattrFlags::empty())));
    out
}

fn tree() -> World {
    let mut tree = sample::everyday();
    tree.create_file(&sample::path("file"), Default::default()).unwrap();
    tree.set_xattr(&sample::path("file"), b"user.x", b"x").unwrap();
    tree.mkdir(&sample::path("folder")).unwrap();
    World::of(tree)
}

#[test]
fn every_change_is_refused() {
    if !fuse_is_wanted() {
        return;
    }
    let world = tree();
    let mount = Mount::of(&world.oracle);
    for (what, answer) in attempts(&mount.snapshot()) {
        assert_eq!(answer, Err(Errno::ROFS), "{what}");
    }
    // In the mount's own folders too.
    let top = mount.path();
    assert_eq!(rustix::fs::mkdir(top.join("new"), Mode::empty()), Err(Errno::ROFS));
    assert_eq!(rustix::fs::unlink(top.join("latest")), Err(Errno::ROFS));
    assert_eq!(rustix::fs::rmdir(top.join("by-device")), Err(Errno::ROFS));
    assert_eq!(rustix::fs::rename(top.join("by-tag"), top.join("x")), Err(Errno::ROFS));
    let flags = rustix::fs::statvfs(top).unwrap().f_flag;
    assert!(flags.contains(rustix::fs::StatVfsMountFlags::RDONLY));
    assert!(flags.contains(rustix::fs::StatVfsMountFlags::NOSUID));
    assert!(flags.contains(rustix::fs::StatVfsMountFlags::NODEV));
}

#[test]
fn the_shell_refuses_even_where_the_kernel_would_let_it_pass() {
    if !fuse_is_wanted() || !disk::is_root() {
        return;
    }
    let world = tree();
    let mount = Mount::of(&world.oracle);
    let flags = rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NODEV;
    rustix::mount::mount_remount(mount.path(), flags, "").unwrap();
    for (what, answer) in attempts(&mount.snapshot()) {
        // The kernel opens without asking and finds out at the first write; it answers some by itself.
        match what {
            "open for writing" | "open for both" | "open to append" => {
                assert!(matches!(answer, Ok(()) | Err(Errno::ROFS)), "{what}: {answer:?}");
            }
            "tmpfile" => assert!(matches!(answer, Err(Errno::OPNOTSUPP | Errno::ROFS)), "{answer:?}"),
            _ => assert_eq!(answer, Err(Errno::ROFS), "{what}"),
        }
    }
    let file = rustix::fs::open(mount.snapshot().join("file"), OFlags::RDWR, Mode::empty()).unwrap();
    assert_eq!(rustix::io::write(&file, b"x"), Err(Errno::ROFS));
    assert_eq!(rustix::fs::ftruncate(&file, 5), Err(Errno::ROFS));
    assert_eq!(rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 10), Err(Errno::ROFS));
    assert_eq!(std::fs::read(mount.snapshot().join("file")).unwrap(), b"");
}
