//! Trees with every oddity that mount, push and restore have to carry.
//!
//! What always holds: deterministic; everything in them can be written to a local Linux disk by root.

use super::content::Content;
use super::tree::{Refused, Tree};
use backupengine_model::{Kind, Timestamp, TreePath};

/// A path written with slashes.
///
/// # Panics
/// Where it is not usable in a snapshot: the text stands in a test.
pub fn path(text: impl AsRef<[u8]>) -> TreePath {
    match TreePath::from_slashes(text.as_ref()) {
        Ok(path) => path,
        Err(error) => panic!("{error}"),
    }
}

/// `len` bytes that look random (xorshift64*), the same for the same seed.
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        out.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    out.truncate(len);
    out
}

/// The value of an ACL extended attribute: version 2, then (tag, permissions, id) of each entry.
pub fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut out = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        out.extend_from_slice(&tag.to_le_bytes());
        out.extend_from_slice(&permissions.to_le_bytes());
        out.extend_from_slice(&id.to_le_bytes());
    }
    out
}

/// Tags of ACL entries as the kernel writes them, and the id of entries that have none.
const USER_OBJ: u16 = 1;
const USER: u16 = 2;
const GROUP_OBJ: u16 = 4;
const MASK: u16 = 16;
const OTHER: u16 = 32;
const NO_ID: u32 = u32::MAX;

/// Everything that ordinary users have: odd names, hard links, holes, links, user attributes, odd times.
pub fn everyday() -> Tree {
    let mut tree = Tree::new();
    fill_everyday(&mut tree).unwrap_or_else(|refused| panic!("{refused}"));
    tree
}

/// [`everyday`] and what only root can make: owners, devices, set-user-id, ACLs, security attributes.
pub fn oddities() -> Tree {
    let mut tree = everyday();
    fill_root_only(&mut tree).unwrap_or_else(|refused| panic!("{refused}"));
    tree
}

/// The most that this user can write to a disk and read back: for root [`oddities`], else [`everyday`] as the
/// user's own.
pub fn for_this_user() -> Tree {
    if rustix::process::geteuid().is_root() {
        return oddities();
    }
    let mut tree = everyday();
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    for path in tree.below(&TreePath::root()) {
        tree.chown(&path, uid, gid).unwrap_or_else(|refused| panic!("{refused}"));
    }
    tree
}

fn fill_everyday(t: &mut Tree) -> Result<(), Refused> {
    t.mkdir_all(&path("names/empty directory"))?;
    for name in [
        &b"newline\nin name"[..],
        b"raw\xff\xfe\x80bytes",
        b" leading and trailing ",
        b"-rf",
        b"*?[]\\'\"$`",
        b"...",
        "ü (precomposed)".as_bytes(),
        "u\u{308} (decomposed)".as_bytes(),
        "日本語".as_bytes(),
        &[b'n'; 255],
        b"user.backupengine.error",
    ] {
        t.create_file(&path("names").child(name), Content::dense(name.to_vec()))?;
    }
    t.mkdir_all(&path("sizes"))?;
    for len in [0, 1, 4095, 4096, 4097, 131_072, 1_048_577, 5_000_000] {
        t.create_file(&path(format!("sizes/{len}")), Content::dense(bytes(len as u64, len)))?;
    }
    t.create_file(&path("sizes/zeros"), Content::dense(vec![0; 300_000]))?;

    t.mkdir_all(&path("sparse"))?;
    t.create_file(&path("sparse/all hole"), Content::sparse(1 << 20, &[]))?;
    t.create_file(&path("sparse/hole first"), Content::sparse(1 << 20, &[((1 << 20) - 5, b"tail!")]))?;
    t.create_file(&path("sparse/hole last"), Content::sparse(1 << 20, &[(0, b"head")]))?;
    t.create_file(
        &path("sparse/three terabytes"),
        Content::sparse(3 << 40, &[(0, b"start"), (1 << 40, &bytes(7, 200_000)), ((3 << 40) - 3, b"end")]),
    )?;

    t.mkdir_all(&path("links/below"))?;
    t.create_file(&path("links/z first made"), Content::dense("one file, three names"))?;
    t.link(&path("links/z first made"), &path("links/a first in order"))?;
    t.link(&path("links/z first made"), &path("links/below/third"))?;
    t.symlink(&path("links/to file"), b"a first in order")?;
    t.symlink(&path("links/dangling"), b"/nowhere/\xff\n")?;
    t.symlink(&path("links/long"), &[b'l'; 4000])?;
    t.symlink(&path("links/up"), b"../names")?;
    t.link(&path("links/up"), &path("links/up again"))?;

    t.mkdir_all(&path("kinds"))?;
    t.mknod(&path("kinds/fifo"), Kind::Fifo, 0)?;
    t.mknod(&path("kinds/socket"), Kind::Socket, 0)?;

    t.mkdir_all(&path("xattrs"))?;
    t.create_file(&path("xattrs/file"), Content::dense("x"))?;
    t.set_xattr(&path("xattrs/file"), b"user.comment", b"short")?;
    t.set_xattr(&path("xattrs/file"), b"user.empty", b"")?;
    t.set_xattr(&path("xattrs/file"), b"user.binary", &[0, 255, 10, 0])?;
    t.set_xattr(&path("xattrs/file"), b"user.large", &bytes(3, 2500))?;
    t.mkdir(&path("xattrs/directory"))?;
    t.set_xattr(&path("xattrs/directory"), b"user.on.directory", b"yes")?;

    t.mkdir_all(&path("times"))?;
    for (name, secs, nanos) in [
        ("before 1970", -1_000_000_000, 999_999_999),
        ("just before 1970", -1, 1),
        ("at 1970", 0, 0),
        ("after 2038", 2_500_000_000, 123_456_789),
        ("far future", 10_000_000_000, 5),
    ] {
        t.create_file(&path(format!("times/{name}")), Content::dense(name))?;
        t.set_mtime(&path(format!("times/{name}")), Timestamp { secs, nanos })?;
    }
    t.mkdir(&path("times/directory"))?;
    t.set_mtime(&path("times/directory"), Timestamp { secs: 86_400, nanos: 1 })?;
    t.symlink(&path("times/link"), b"directory")?;
    t.set_mtime(&path("times/link"), Timestamp { secs: 172_800, nanos: 2 })?;

    t.mkdir_all(&path("modes"))?;
    for mode in [0o400, 0o644, 0o755, 0o777] {
        let name = path(format!("modes/{mode:04o}"));
        t.create_file(&name, Content::dense("m"))?;
        t.chmod(&name, mode)?;
    }
    t.mkdir(&path("modes/sticky"))?;
    t.chmod(&path("modes/sticky"), 0o1777)?;

    // Neighbours that sort differently by text, by component and by byte.
    for name in ["order/a", "order/a/b", "order/a-", "order/a.b", "order/B", "order/\u{7f}"] {
        t.mkdir_all(&path(name))?;
        t.create_file(&path(format!("{name}/file")), Content::dense(name))?;
    }
    t.create_file(&path("order/A"), Content::dense("file between directories"))?;

    let mut deep = path("deep");
    t.mkdir(&deep)?;
    for level in 0..200 {
        deep.push(format!("d{level}").as_bytes());
        t.mkdir(&deep)?;
    }
    t.create_file(&deep.child(b"bottom"), Content::dense("reached"))
}

fn fill_root_only(t: &mut Tree) -> Result<(), Refused> {
    t.mknod(&path("kinds/null"), Kind::CharDevice, device(1, 3))?;
    t.mknod(&path("kinds/disk"), Kind::BlockDevice, device(259, 70_000))?;
    t.link(&path("kinds/null"), &path("kinds/null again"))?;
    t.mkdir(&path("owners"))?;
    for (name, uid, gid) in [("someone", 1000, 1000), ("nobody", 65_534, 65_534), ("large", 4_000_000_000, 7)]
    {
        let name = path(format!("owners/{name}"));
        t.create_file(&name, Content::dense("o"))?;
        t.chown(&name, uid, gid)?;
    }
    t.symlink(&path("owners/link"), b"someone")?;
    t.chown(&path("owners/link"), 1000, 1001)?;
    for (name, mode) in [("nobody may", 0o000), ("setuid", 0o4755), ("setgid", 0o2755), ("both", 0o6711)] {
        let name = path(format!("modes/{name}"));
        t.create_file(&name, Content::dense("#!/bin/sh\n"))?;
        t.chmod(&name, mode)?;
    }
    let acl_file = path("xattrs/acl");
    t.create_file(&acl_file, Content::dense("guarded"))?;
    t.chmod(&acl_file, 0o660)?;
    let entries =
        [(USER_OBJ, 6, NO_ID), (USER, 6, 1000), (GROUP_OBJ, 0, NO_ID), (MASK, 6, NO_ID), (OTHER, 0, NO_ID)];
    t.set_xattr(&acl_file, b"system.posix_acl_access", &acl(&entries))?;
    let default =
        [(USER_OBJ, 7, NO_ID), (USER, 5, 1000), (GROUP_OBJ, 5, NO_ID), (MASK, 5, NO_ID), (OTHER, 0, NO_ID)];
    t.set_xattr(&path("xattrs/directory"), b"system.posix_acl_default", &acl(&default))?;
    t.set_xattr(&path("xattrs/file"), b"trusted.note", b"root only")?;
    t.symlink(&path("xattrs/link"), b"file")?;
    t.set_xattr(&path("xattrs/link"), b"trusted.on.link", b"on the link itself")
}

/// `st_rdev` as Linux encodes it.
pub fn device(major: u32, minor: u32) -> u64 {
    rustix::fs::makedev(major, minor)
}
