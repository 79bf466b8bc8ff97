//! Every field of an entry is what the system shows.

use super::{Ground, Walked, is_root};
use backupengine_model::{Kind, Timestamp};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lsetxattr, mknodat, utimensat,
};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

fn set_mtime(path: &Path, secs: i64, nanos: u32) {
    let time = Timespec { tv_sec: secs, tv_nsec: nanos.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

#[test]
fn attributes_are_those_of_lstat() {
    let ground = Ground::new();
    ground.plant(&["dir/file", "dir/other"]);
    symlink("../somewhere/else", ground.at("dir/link")).unwrap();
    fs::hard_link(ground.at("dir/file"), ground.at("hard")).unwrap();
    mknodat(CWD, ground.at("fifo"), FileType::Fifo, Mode::from(0o640), 0).unwrap();
    mknodat(CWD, ground.at("socket"), FileType::Socket, Mode::from(0o600), 0).unwrap();
    fs::set_permissions(ground.at("dir/file"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(ground.at("dir"), fs::Permissions::from_mode(0o1777)).unwrap();
    set_mtime(&ground.at("dir/file"), -86_401, 999_999_999);
    set_mtime(&ground.at("dir/other"), 1 << 33, 1);
    set_mtime(&ground.at("dir/link"), 5, 7);
    let walked = Walked::of(ground.config());
    assert!(walked.notices.is_empty(), "{:?}", walked.notices);
    assert_eq!(walked.names(&ground.base).len(), 7);
    for (path, entry) in &walked.entries {
        let seen = fs::symlink_metadata(path).unwrap();
        let a = &entry.attributes;
        assert_eq!((a.mode, a.uid, a.gid), (seen.mode() & 0o7777, seen.uid(), seen.gid()), "{path:?}");
        assert_eq!((entry.identity.inode, entry.identity.device), (seen.ino(), seen.dev()), "{path:?}");
        // Folders above the ground change while other tests run.
        if path.starts_with(&ground.base) {
            assert_eq!(
                (a.mtime.secs, i64::from(a.mtime.nanos)),
                (seen.mtime(), seen.mtime_nsec()),
                "{path:?}"
            );
            assert_eq!(u64::from(a.nlink), seen.nlink(), "{path:?}");
            let ctime = Timestamp { secs: seen.ctime(), nanos: seen.ctime_nsec() as u32 };
            assert_eq!(entry.identity.ctime, ctime);
            assert_eq!(a.size, seen.len());
        }
    }
    let file = walked.get(ground.at("dir/file"));
    assert_eq!(file.attributes.mtime, Timestamp { secs: -86_401, nanos: 999_999_999 });
    assert_eq!(file.identity, walked.get(ground.at("hard")).identity);
    assert_eq!(walked.get(ground.at("dir/link")).target.as_deref(), Some(&b"../somewhere/else"[..]));
    assert_eq!(walked.get(ground.at("dir/link")).attributes.size, 17);
    let kind = |name: &str| walked.get(ground.at(name)).attributes.kind;
    assert_eq!([kind("fifo"), kind("socket"), kind("dir")], [Kind::Fifo, Kind::Socket, Kind::Directory]);
}

#[test]
fn device_nodes_keep_their_numbers() {
    if !is_root() {
        eprintln!("making device nodes needs root: not tested");
        return;
    }
    let ground = Ground::new();
    let number = rustix::fs::makedev(259, 70_000);
    mknodat(CWD, ground.at("block"), FileType::BlockDevice, Mode::from(0o660), number).unwrap();
    mknodat(CWD, ground.at("char"), FileType::CharacterDevice, Mode::from(0o666), number).unwrap();
    let walked = Walked::of(ground.config());
    for (name, kind) in [("block", Kind::BlockDevice), ("char", Kind::CharDevice)] {
        let a = &walked.get(ground.at(name)).attributes;
        assert_eq!((a.kind, a.rdev, a.size), (kind, number, 0));
    }
}

#[test]
fn extended_attributes_and_acls_come_sorted() {
    let ground = Ground::new();
    ground.plant(&["file", "plain", "dir/"]);
    symlink("file", ground.at("link")).unwrap();
    let set = |path: &Path, name: &str, value: &[u8]| lsetxattr(path, name, value, XattrFlags::empty());
    let file = ground.at("file");
    set(&file, "user.z", b"").unwrap();
    set(&file, "user.a", &[0, 255, 10]).unwrap();
    set(&file, "user.big", &[b'x'; 3000]).unwrap();
    // More names than fit into the first buffer.
    for i in 0..30 {
        set(&ground.at("dir"), &format!("user.{i:0100}"), b"1").unwrap();
    }
    // Version 2, then (tag, permissions, id): user, uid 1000, group, mask, others.
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in
        [(1u16, 6u16, u32::MAX), (2, 4, 1000), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
    {
        acl.extend([tag.to_le_bytes(), perm.to_le_bytes()].concat());
        acl.extend(id.to_le_bytes());
    }
    set(&file, "system.posix_acl_access", &acl).unwrap();
    set(&ground.at("dir"), "system.posix_acl_default", &acl).unwrap();
    if is_root() {
        set(&ground.at("link"), "trusted.of-the-link", b"itself").unwrap();
        set(&file, "trusted.file", b"t").unwrap();
    }
    let walked = Walked::of(ground.config());
    assert!(walked.notices.is_empty(), "{:?}", walked.notices);
    let found = walked.get(&file);
    assert!(found.xattrs.is_sorted());
    let value = |path: &Path, name: &str| {
        walked.get(path).xattrs.iter().find(|x| x.0 == name.as_bytes()).map(|x| x.1.clone())
    };
    assert_eq!(value(&file, "user.z"), Some(Vec::new()));
    assert_eq!(value(&file, "user.a"), Some(vec![0, 255, 10]));
    assert_eq!(value(&file, "user.big"), Some(vec![b'x'; 3000]));
    assert_eq!(value(&file, "system.posix_acl_access"), Some(acl.clone()));
    assert_eq!(value(&ground.at("dir"), "system.posix_acl_default"), Some(acl));
    assert_eq!(walked.get(ground.at("dir")).xattrs.iter().filter(|x| x.0.starts_with(b"user.0")).count(), 30);
    if is_root() {
        assert_eq!(value(&file, "trusted.file"), Some(b"t".to_vec()));
        assert_eq!(value(&ground.at("link"), "trusted.of-the-link"), Some(b"itself".to_vec()));
        assert_eq!(value(&file, "trusted.of-the-link"), None);
    }
    assert!(walked.get(ground.at("plain")).xattrs.iter().all(|x| x.0.starts_with(b"security.")));
}

#[test]
fn sparse_files_are_marked_for_a_look() {
    let ground = Ground::new();
    ground.plant(&["dense"]);
    fs::File::create(ground.at("sparse")).unwrap().set_len(3 << 40).unwrap();
    let walked = Walked::of(ground.config());
    let sparse = &walked.get(ground.at("sparse")).attributes;
    assert_eq!(sparse.size, 3 << 40);
    assert!(sparse.allocated.is_some_and(|bytes| bytes < 1 << 20));
    assert_eq!(walked.get(ground.at("dense")).attributes.allocated, None);
}

#[test]
fn raw_names_come_as_they_are() {
    use std::os::unix::ffi::OsStrExt;
    let ground = Ground::new();
    let names: [&[u8]; 6] = [b"new\nline", b"\xff\xfe\x01", b" ", b"...", b"-rf", &[b'\xc3'; 255]];
    for name in names {
        fs::write(ground.base.join(std::ffi::OsStr::from_bytes(name)), b"").unwrap();
    }
    let walked = Walked::of(ground.config());
    for name in names {
        assert_eq!(walked.get(ground.base.join(std::ffi::OsStr::from_bytes(name))).name, name);
    }
}
