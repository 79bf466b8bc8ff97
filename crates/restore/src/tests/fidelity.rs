//! Everything that a filesystem can hold comes back, as `lstat` and `getxattr` show it.

use super::fake::{Fake, Thing};
use super::{Ground, is_root, run, run_on, with};
use crate::RestoreConfig;
use backupengine_model::{Kind, Timestamp};
use bytes::Bytes;
use proptest::prelude::*;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// Extended attributes of a path, links not followed; what the system adds by itself is left out.
fn xattrs(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut list = Vec::with_capacity(1 << 16);
    rustix::fs::llistxattr(path, rustix::buffer::spare_capacity(&mut list)).unwrap();
    let names = list.split(|&b| b == 0).filter(|n| !n.is_empty() && *n != b"security.selinux");
    let mut out: Vec<_> = names
        .map(|name| {
            let mut value = Vec::with_capacity(1 << 16);
            rustix::fs::lgetxattr(path, name, rustix::buffer::spare_capacity(&mut value)).unwrap();
            (name.to_vec(), value)
        })
        .collect();
    out.sort();
    out
}

/// Compares one name on the disk with its thing.
fn same(path: &Path, thing: &Thing) {
    let seen = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let a = &thing.attributes;
    let kind = match seen.file_type() {
        t if t.is_dir() => Kind::Directory,
        t if t.is_symlink() => Kind::Symlink,
        t if t.is_fifo() => Kind::Fifo,
        t if t.is_socket() => Kind::Socket,
        t if t.is_char_device() => Kind::CharDevice,
        t if t.is_block_device() => Kind::BlockDevice,
        _ => Kind::File,
    };
    assert_eq!(kind, a.kind, "{path:?}");
    let owner = if is_root() { (a.uid, a.gid) } else { (seen.uid(), seen.gid()) };
    assert_eq!((seen.uid(), seen.gid()), owner, "{path:?}");
    if kind != Kind::Symlink {
        assert_eq!(format!("{:o}", seen.mode() & 0o7777), format!("{:o}", a.mode), "{path:?}");
    }
    assert_eq!(Timestamp { secs: seen.mtime(), nanos: seen.mtime_nsec() as u32 }, a.mtime, "{path:?}");
    if matches!(kind, Kind::CharDevice | Kind::BlockDevice) {
        assert_eq!(seen.rdev(), a.rdev, "{path:?}");
    }
    if kind != Kind::Directory {
        assert_eq!(seen.nlink(), u64::from(a.nlink), "{path:?}");
    }
    let mut expected: Vec<_> = thing.xattrs.iter().map(|(n, v)| (n.clone(), v.to_vec())).collect();
    expected.sort();
    assert_eq!(xattrs(path), expected, "{path:?}");
    match kind {
        Kind::File => {
            assert_eq!(seen.len(), a.size);
            if a.size < 1 << 30 {
                assert!(fs::read(path).unwrap() == thing.bytes(), "{path:?} has other bytes");
            }
        }
        Kind::Symlink => assert_eq!(fs::read_link(path).unwrap().as_os_str().as_bytes(), thing.target()),
        _ => {}
    }
}

/// Compares everything.
pub(super) fn same_tree(fake: &Fake, ground: &Ground) {
    let mut expected: Vec<_> = fake.all().map(|(path, _)| path).collect();
    expected.sort();
    assert_eq!(ground.names(), expected);
    for (path, thing) in fake.all() {
        same(&ground.at(&path), thing);
    }
}

fn acl() -> Bytes {
    // Version 2, then (tag, permissions, id): user, uid 1000, group, mask, others.
    let mut acl = 2u32.to_le_bytes().to_vec();
    let none = u32::MAX;
    for (tag, perm, id) in [(1u16, 6u16, none), (2, 4, 1000), (4, 4, none), (16, 4, none), (32, 0, none)] {
        acl.extend([tag.to_le_bytes(), perm.to_le_bytes()].concat());
        acl.extend(id.to_le_bytes());
    }
    acl.into()
}

/// A tree with every oddity. `rich`: also what only root can make.
pub(super) fn oddities(rich: bool) -> Fake {
    let mut fake = Fake::new();
    let home = fake.dir(0, "home");
    let me = fake.dir(home, "me");
    fake.at(me).attributes.mtime = Timestamp { secs: -1_000, nanos: 1 };
    let file = fake.file(me, "file", b"hello");
    fake.at(file).attributes.mode = 0o4751;
    fake.at(file).attributes.mtime = Timestamp { secs: -86_401, nanos: 999_999_999 };
    let later = fake.file(me, "later", &vec![7; 100_000]);
    fake.at(later).attributes.mtime = Timestamp { secs: 1 << 33, nanos: 5 };
    fake.file(me, "empty", b"");
    fake.link(me, "link", "../no/where");
    fake.link(me, "absolute", "/etc/passwd");
    fake.special(me, "fifo", Kind::Fifo, 0);
    fake.special(me, "socket", Kind::Socket, 0);
    fake.add(me, "new\nline \u{e9}".as_bytes(), fake_file_attributes(&fake));
    fake.file(me, &"n".repeat(255), b"long name");
    let shut = fake.dir(home, "shut");
    fake.file(shut, "inside", b"secret");
    fake.at(shut).attributes.mode = 0o500;
    let sticky = fake.dir(home, "sticky");
    fake.at(sticky).attributes.mode = 0o1777;
    fake.sparse(home, "sparse", 3 << 20, &[(1 << 20, &[1; 5000]), ((3 << 20) - 4096, &[2; 4096])]);
    fake.sparse(home, "hole", 1 << 20, &[]);
    fake.sparse(home, "huge", 3 << 40, &[(2 << 40, b"deep inside")]);
    let tagged = fake.file(me, "tagged", b"x");
    fake.at(tagged).attributes.mode = 0o440;
    fake.at(tagged).xattrs = vec![
        (b"user.a".to_vec(), Bytes::from_static(&[0, 255])),
        (b"user.big".to_vec(), vec![b'v'; 2000].into()),
        (b"user.empty".to_vec(), Bytes::new()),
    ];
    let acled = fake.file(me, "acled", b"x");
    fake.at(acled).xattrs = vec![(b"system.posix_acl_access".to_vec(), acl())];
    let handing = fake.dir(home, "handing");
    fake.at(handing).xattrs =
        vec![(b"system.posix_acl_default".to_vec(), acl()), (b"user.d".to_vec(), "1".into())];
    fake.file(handing, "plain", b"no acl of its own");
    fake.dir(handing, "plain dir");
    let first = fake.file(me, "first", b"shared");
    fake.at(first).xattrs = vec![(b"user.shared".to_vec(), "yes".into())];
    fake.hard(home, "second", first);
    fake.hard(handing, "third", first);
    let pipe = fake.special(home, "pipe", Kind::Fifo, 0);
    fake.hard(home, "pipe too", pipe);
    if rich {
        fake.special(home, "char", Kind::CharDevice, rustix::fs::makedev(259, 70_000));
        fake.special(home, "block", Kind::BlockDevice, rustix::fs::makedev(7, 300));
        let owned = fake.file(me, "owned", b"x");
        (fake.at(owned).attributes.uid, fake.at(owned).attributes.gid) = (12_345, 67_890);
        fake.at(owned).attributes.mode = 0o6755;
        // cap_net_raw+ep
        let mut caps = 0x0200_0001u32.to_le_bytes().to_vec();
        caps.extend([1 << 13, 0, 0, 0].map(u32::to_le_bytes).concat());
        fake.at(owned).xattrs =
            vec![(b"security.capability".to_vec(), caps.into()), (b"trusted.x".to_vec(), "t".into())];
        let theirs = fake.link(me, "their link", "x");
        (fake.at(theirs).attributes.uid, fake.at(theirs).attributes.gid) = (4, 5);
        fake.at(theirs).xattrs = vec![(b"trusted.of-link".to_vec(), "l".into())];
        fake.at(sticky).attributes.uid = 99;
        fake.at(sticky).attributes.mode = 0o2775;
    }
    fake
}

fn fake_file_attributes(fake: &Fake) -> backupengine_model::Attributes {
    let (_, file) = fake.all().find(|(path, _)| path.ends_with("/empty")).unwrap();
    file.attributes.clone()
}

#[test]
fn everything_comes_back() {
    let fake = oddities(is_root());
    for threads in [1, 4] {
        let ground = Ground::new();
        let report = run(&fake, &ground, &with(|c| c.threads = threads));
        same_tree(&fake, &ground);
        assert_eq!(report.stats.hard_links, 3);
        assert_eq!((report.stats.owners_refused, report.stats.xattrs_refused), (0, 0));
        let blocks = |name: &str| fs::metadata(ground.at(name)).unwrap().blocks() * 512;
        assert!(
            blocks("home/sparse") < 64 << 10 && blocks("home/hole") == 0 && blocks("home/huge") < 64 << 10
        );
    }
}

#[test]
fn a_second_run_finds_everything_done() {
    let fake = oddities(is_root());
    let ground = Ground::new();
    let first = run(&fake, &ground, &RestoreConfig::default());
    let read = fake.read.load(std::sync::atomic::Ordering::Relaxed);
    let inode = fs::metadata(ground.at("home/me/file")).unwrap().ino();
    let second = run(&fake, &ground, &RestoreConfig::default());
    same_tree(&fake, &ground);
    assert_eq!(fake.read.load(std::sync::atomic::Ordering::Relaxed), read, "content was read again");
    assert_eq!((second.stats.files_written, second.stats.specials, second.stats.hard_links), (0, 0, 0));
    assert_eq!(
        second.stats.files_unchanged,
        first.stats.files_written + first.stats.specials + first.stats.hard_links
    );
    assert_eq!(fs::metadata(ground.at("home/me/file")).unwrap().ino(), inode);
}

#[test]
fn inherited_acls_do_not_stick() {
    let ground = Ground::new();
    let set = |name: &str| {
        rustix::fs::setxattr(&ground.base, name, &acl(), rustix::fs::XattrFlags::empty()).unwrap();
    };
    set("system.posix_acl_default");
    let mut fake = Fake::new();
    let dir = fake.dir(0, "dir");
    fake.file(dir, "deep", b"x");
    fake.file(0, "file", b"x");
    fake.special(0, "fifo", Kind::Fifo, 0);
    run(&fake, &ground, &RestoreConfig::default());
    same_tree(&fake, &ground);
}

#[test]
fn zeros_become_holes_where_asked() {
    let mut fake = Fake::new();
    let mut bytes = vec![0; 1 << 20];
    bytes[500_000..500_010].fill(9);
    fake.file(0, "zeros", &bytes);
    for (sparse, least, most) in [(false, 1 << 20, 2 << 20), (true, 4096, 64 << 10)] {
        let ground = Ground::new();
        run(&fake, &ground, &with(|c| c.sparse = sparse));
        same_tree(&fake, &ground);
        let blocks = fs::metadata(ground.at("zeros")).unwrap().blocks() * 512;
        assert!((least..most).contains(&blocks), "{blocks}");
    }
}

#[test]
fn large_files_are_written_by_several_threads() {
    let mut fake = Fake::new();
    let bytes: Vec<u8> = (0..70u64 << 20).map(|i| (i / 4096 % 251) as u8).collect();
    fake.file(0, "large", &bytes);
    fake.file(0, "small", b"beside");
    let ground = Ground::new();
    let report = run(&fake, &ground, &with(|c| c.verify = true));
    same_tree(&fake, &ground);
    assert_eq!(report.stats.bytes_written, (70 << 20) + 6);
    assert_eq!(report.stats.bytes_verified, (70 << 20) + 6);
}

#[test]
fn a_wide_folder_and_many_small_ones() {
    let mut fake = Fake::new();
    let wide = fake.dir(0, "wide");
    for i in 0..700 {
        let dir = fake.dir(wide, &format!("d{i}"));
        fake.file(dir, "f", format!("{i}").as_bytes());
        fake.file(wide, &format!("f{i}"), b"x");
    }
    let ground = Ground::new();
    let report = run(&fake, &ground, &RestoreConfig::default());
    same_tree(&fake, &ground);
    assert_eq!((report.stats.files_written, report.stats.directories), (1400, 701));
}

#[test]
fn a_thousand_levels() {
    let mut fake = Fake::new();
    let name = "n".repeat(250);
    let mut at = 0;
    for _ in 0..1000 {
        at = fake.dir(at, &name);
    }
    fake.file(at, "bottom", b"down here");
    fake.sources = vec![b"/".to_vec()];
    let ground = Ground::new();
    // std cannot remove a tree this deep with few handles.
    struct Deep<'a>(&'a Ground);
    impl Drop for Deep<'_> {
        fn drop(&mut self) {
            for name in self.0.base.read_dir().unwrap() {
                drop(std::process::Command::new("rm").arg("-rf").arg(name.unwrap().path()).status());
            }
        }
    }
    let _deep = Deep(&ground);
    let report = run(&fake, &ground, &RestoreConfig::default());
    assert_eq!((report.stats.directories, report.stats.files_written), (1000, 1));
    let again = run(&fake, &ground, &with(|c| c.verify = true));
    assert_eq!((again.stats.files_unchanged, again.stats.bytes_verified), (1, 9));
}

#[test]
fn one_path_lands_under_its_own_name() {
    let fake = oddities(false);
    let ground = Ground::new();
    let report = run_on(&fake, "/home/me", &ground.inside(), &RestoreConfig::default()).unwrap();
    assert!(report.failures.is_empty());
    assert!(ground.at("me/file").exists() && !ground.at("home").exists());
    let (_, me) = fake.all().find(|(path, _)| path == "home/me").unwrap();
    same(&ground.at("me"), me);
    let report = run_on(&fake, "/home/me/later", &ground.inside(), &RestoreConfig::default()).unwrap();
    assert_eq!(report.stats.files_written, 1);
    let (_, later) = fake.all().find(|(path, _)| path == "home/me/later").unwrap();
    same(&ground.at("later"), later);
}

#[test]
fn the_target_itself_keeps_its_attributes() {
    let ground = Ground::new();
    fs::set_permissions(&ground.base, fs::Permissions::from_mode(0o700)).unwrap();
    let mut fake = Fake::new();
    fake.file(0, "f", b"x");
    run(&fake, &ground, &RestoreConfig::default());
    assert_eq!(fs::metadata(&ground.base).unwrap().mode() & 0o7777, 0o700);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn any_file_with_any_holes_comes_back(
        runs in prop::collection::vec((1u64..20_000, 1usize..20_000), 0..6),
        tail in 0u64..20_000,
        sparse in any::<bool>(),
        zeros in any::<bool>(),
    ) {
        let (mut data, mut at) = (Vec::new(), 0);
        for (gap, len) in runs {
            at += gap;
            data.push((at, vec![if zeros { 0 } else { 1 + (at % 255) as u8 }; len]));
            at += len as u64;
        }
        let borrowed: Vec<_> = data.iter().map(|(at, bytes)| (*at, bytes.as_slice())).collect();
        let mut fake = Fake::new();
        fake.sparse(0, "f", at + tail, &borrowed);
        let ground = Ground::new();
        let report = run(&fake, &ground, &with(|c| (c.sparse, c.verify) = (sparse, true)));
        prop_assert_eq!(report.stats.files_written, 1);
        same_tree(&fake, &ground);
    }
}
