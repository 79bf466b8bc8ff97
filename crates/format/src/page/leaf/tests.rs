//! Leaf pages: both ways, sharing, determinism, and each rule broken once.

mod spelled;

use super::*;
use crate::page::tests::frame;
use crate::page::{Extent, ExtentPageRef, XattrValue};
use backupengine_model::{Kind, NodeFlags, Timestamp};
use bytes::Bytes;

fn path(text: &str) -> Arc<TreePath> {
    Arc::new(TreePath::from_slashes(text.as_bytes()).unwrap())
}

fn entry(parent: &Arc<TreePath>, name: &[u8], kind: Kind, size: u64, content: Content) -> LeafEntry {
    let attributes = Attributes {
        kind,
        mode: 0o644,
        uid: 1000,
        gid: 1000,
        size,
        mtime: Timestamp { secs: 1_700_000_000, nanos: 5 },
        rdev: 0,
        nlink: 1,
        allocated: None,
        flags: NodeFlags::default(),
    };
    LeafEntry {
        parent: Arc::clone(parent),
        name: name.to_vec(),
        attributes,
        content,
        xattrs: Arc::default(),
        hard_link: HardLink::None,
    }
}

fn file(parent: &Arc<TreePath>, name: &str, bytes: &[u8]) -> LeafEntry {
    let content =
        if bytes.is_empty() { Content::None } else { Content::Inline(Bytes::copy_from_slice(bytes)) };
    entry(parent, name.as_bytes(), Kind::File, bytes.len() as u64, content)
}

fn dir(parent: &Arc<TreePath>, name: &str) -> LeafEntry {
    entry(parent, name.as_bytes(), Kind::Directory, 4096, Content::None)
}

fn bundled(parent: &Arc<TreePath>, name: &str, size: u64, offset: u32, inner: u32) -> LeafEntry {
    let content = Content::Bundle { frame: frame(1, 0, offset, 100), inner };
    entry(parent, name.as_bytes(), Kind::File, size, content)
}

fn xattr(name: &str, value: &[u8]) -> Xattr {
    Xattr { name: name.as_bytes().to_vec(), value: XattrValue::Inline(value.to_vec()) }
}

/// Everything a page of the other class can hold.
fn everything() -> Vec<LeafEntry> {
    let (a, ab, b) = (path("a"), path("a/b"), path("b"));
    let run = |len, frame| Extent { len, frame };
    let mut entries = vec![
        file(&a, "IMG_0001", b""),
        file(&a, "IMG_0002", b"inline"),
        bundled(&a, "b1", 500, 0, 0),
        bundled(&a, "b2", 500, 0, 500),
        bundled(&a, "b3", 500, 0, 2000),
        bundled(&a, "b4", 500, 100, 7),
        bundled(&a, "b5", 262_144 - 507, 100, 507),
        entry(&a, b"chr", Kind::CharDevice, 0, Content::None),
        entry(
            &ab,
            b"IMG_0001",
            Kind::File,
            262_144 + 10 + (3 << 40),
            Content::Extents(vec![
                run(262_144, Some(frame(2, 0, 0, 1000))),
                run(3 << 40, None),
                run(10, Some(frame(2, 0, 1000, 30))),
            ]),
        ),
        entry(
            &ab,
            b"big",
            Kind::File,
            u64::MAX,
            Content::Pages(vec![
                ExtentPageRef { len: 1, frame: frame(1, 0, 0, 9) },
                ExtentPageRef { len: u64::MAX - 1, frame: frame(1, 1, 0, 9) },
            ]),
        ),
        entry(&ab, b"fifo", Kind::Fifo, 0, Content::None),
        entry(&b, b"\x01\n\xff", Kind::Socket, 0, Content::None),
        entry(&b, b"link", Kind::Symlink, 9, Content::Inline(Bytes::from_static(b"../target"))),
        entry(&b, b"long", Kind::Symlink, 5000, Content::Inline(vec![b'x'; 5000].into())),
        entry(&b, b"odd", Kind::Symlink, 0, Content::Inline(Bytes::from_static(b"/proc/1"))),
        bundled(&b, "z", 1, 100, 0),
    ];
    entries[7].attributes.rdev = 0x0103;
    entries[8].attributes.allocated = Some(262_154);
    entries[9].attributes.flags = NodeFlags::TORN;
    entries[10].attributes.mtime = Timestamp { secs: i64::MIN, nanos: 999_999_999 };
    entries[11].attributes.mtime = Timestamp { secs: i64::MAX, nanos: 0 };
    entries[12].attributes.mode = 0o7777;
    entries[12].attributes.uid = u32::MAX;
    let set: Arc<[Xattr]> = vec![xattr("security.x", b""), xattr("user.a", &[0; 256])].into();
    let stored = XattrValue::Stored { frame: frame(5, 5, 0, 9), inner: 7, len: 257 };
    entries[0].xattrs = Arc::clone(&set);
    entries[1].xattrs = vec![Xattr { name: b"user.big".to_vec(), value: stored }].into();
    entries[3].xattrs = set;
    entries[2].hard_link = HardLink::First;
    entries[15].hard_link = HardLink::Also(TreePath::from_slashes(b"a/b1").unwrap());
    entries[3].attributes.nlink = 7;
    entries
}

fn decoded(entries: &[LeafEntry]) -> Result<LeafPage, FormatError> {
    LeafPage::decode(&LeafPage { entries: entries.to_vec() }.encode())
}

/// Whether these rows come back as they were.
fn round(entries: Vec<LeafEntry>) -> bool {
    decoded(&entries) == Ok(LeafPage { entries })
}

#[test]
fn pages_go_both_ways() {
    let entries = everything();
    assert_eq!(decoded(&entries), Ok(LeafPage { entries }));
    let root = path("");
    assert!(round(vec![file(&root, "a", b"")]));
    let mut dirs = vec![dir(&root, "a"), dir(&root, "b"), dir(&path("a"), "a")];
    dirs[1].attributes.nlink = 2;
    dirs[2].attributes.kind = Kind::Directory;
    assert!(round(dirs));
}

#[test]
fn neighbours_share_what_they_have_in_common() {
    let page = decoded(&everything()).unwrap();
    assert!(Arc::ptr_eq(&page.entries[0].parent, &page.entries[7].parent));
    assert!(Arc::ptr_eq(&page.entries[0].xattrs, &page.entries[3].xattrs));
    assert!(Arc::ptr_eq(&page.entries[4].xattrs, &page.entries[5].xattrs));
}

#[test]
fn equal_rows_give_equal_bytes() {
    // However parents and sets are shared in memory.
    let mut apart = everything();
    for entry in &mut apart {
        entry.parent = Arc::new(TreePath::clone(&entry.parent));
        entry.xattrs = entry.xattrs.to_vec().into();
    }
    assert_eq!(LeafPage { entries: apart }.encode(), LeafPage { entries: everything() }.encode());
}

#[test]
fn a_plain_file_takes_few_bytes() {
    let a = path("usr/share/doc");
    let entries: Vec<_> = (0..1000).map(|n| bundled(&a, &format!("file{n:04}"), 200, 0, n * 200)).collect();
    let len = LeafPage { entries }.encode().len();
    assert!(len < 1000 * 14, "{len}");
}

#[test]
fn order_and_class_are_kept() {
    let (a, b) = (path("a"), path("b"));
    assert!(!round(vec![]));
    assert!(!round(vec![file(&a, "x", b""), file(&a, "x", b"")]));
    assert!(!round(vec![file(&a, "y", b""), file(&a, "x", b"")]));
    assert!(!round(vec![file(&a, "xy", b""), file(&a, "x", b"")]));
    assert!(!round(vec![file(&b, "x", b""), file(&a, "x", b"")]));
    assert!(!round(vec![file(&a, "x", b""), file(&b, "x", b""), file(&a, "y", b"")]));
    assert!(!round(vec![dir(&a, "x"), file(&a, "y", b"")]));
    assert!(!round(vec![file(&a, "x", b""), dir(&a, "y")]));
}

#[test]
fn names_are_checked() {
    let a = path("a");
    for name in ["", ".", "..", "a/b", "a\0b", &"x".repeat(4097)] {
        assert!(!round(vec![file(&a, name, b"")]), "{name:?}");
    }
    assert!(round(vec![file(&a, &"x".repeat(4096), b"")]));
    let deep = |depth: usize| Arc::new(TreePath::from_slashes("d/".repeat(depth).as_bytes()).unwrap());
    assert!(round(vec![file(&deep(4096), "x", b"")]));
    assert!(!round(vec![file(&deep(4097), "x", b"")]));
}

#[test]
fn sizes_and_contents_agree() {
    let a = path("a");
    let spoiled = |at: usize, spoil: &dyn Fn(&mut LeafEntry)| {
        let mut entries = everything();
        spoil(&mut entries[at]);
        !round(entries)
    };
    assert!(!round(vec![file(&a, "x", &[0; 129])]) && round(vec![file(&a, "x", &[0; 128])]));
    assert!(spoiled(0, &|e| e.attributes.size = 1));
    assert!(spoiled(1, &|e| e.attributes.size = 5));
    assert!(spoiled(6, &|e| e.attributes.size += 1));
    assert!(spoiled(8, &|e| e.attributes.size += 1));
    assert!(spoiled(9, &|e| e.attributes.size -= 1));
    assert!(spoiled(12, &|e| e.content = Content::None));
    assert!(spoiled(10, &|e| e.content = Content::Inline(Bytes::from_static(b"x"))));
    assert!(spoiled(8, &|e| e.attributes.allocated = Some(e.attributes.size + 1)));
    assert!(spoiled(10, &|e| e.attributes.allocated = Some(0)));
    assert!(spoiled(10, &|e| e.attributes.rdev = 1));
    assert!(spoiled(1, &|e| e.attributes.flags = NodeFlags(2)));
    assert!(spoiled(1, &|e| e.attributes.mtime.nanos = 1_000_000_000));
    assert!(spoiled(8, &|e| e.content = Content::Extents(Vec::new())));
}

#[test]
fn attributes_are_sorted_and_sized() {
    let with = |set: Vec<Xattr>| {
        let mut entry = file(&path("a"), "x", b"");
        entry.xattrs = set.into();
        round(vec![entry])
    };
    assert!(with(vec![xattr("user.a", &[0; 256])]));
    assert!(!with(vec![xattr("user.a", &[0; 257])]));
    assert!(!with(vec![xattr("user.b", b""), xattr("user.a", b"")]));
    assert!(!with(vec![xattr("user.a", b""), xattr("user.a", b"")]));
    assert!(!with(vec![xattr("", b"")]) && !with(vec![xattr(&"x".repeat(256), b"")]));
    let stored = |inner, len| {
        with(vec![Xattr {
            name: b"u".to_vec(),
            value: XattrValue::Stored { frame: frame(1, 0, 0, 9), inner, len },
        }])
    };
    assert!(stored(262_144 - 257, 257) && !stored(262_144 - 256, 257));
    assert!(stored(0, 257) && !stored(0, 256) && !stored(262_144, 257));
}

#[test]
fn leaders_come_first() {
    let also = |parent: &str, name: &str, leader: &str| {
        let mut entry = file(&path(parent), name, b"x");
        entry.hard_link = HardLink::Also(TreePath::from_slashes(leader.as_bytes()).unwrap());
        round(vec![entry])
    };
    assert!(also("b", "x", "b/w") && also("b", "x", "a/z") && also("b/c", "x", "b/x") && also("a", "b", "z"));
    assert!(
        !also("b", "x", "b/x") && !also("b", "x", "b/y") && !also("b", "x", "b/c/a") && !also("b", "x", "")
    );
    let mut entry = dir(&path("a"), "x");
    entry.hard_link = HardLink::First;
    assert!(!round(vec![entry]));
}

#[test]
fn every_cut_and_every_flipped_bit_is_refused_or_read_exactly() {
    let bytes = LeafPage { entries: everything() }.encode();
    for len in 0..bytes.len() {
        if let Ok(page) = LeafPage::decode(&bytes[..len]) {
            // Only whole optional sections at the end can be missed unnoticed; the seal notices.
            assert_eq!(page.encode(), bytes[..len]);
        }
    }
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        if let Ok(page) = LeafPage::decode(&damaged)
            && damaged != page.encode()
        {
            let unknown = damaged.len() - page.encode().len();
            assert!(unknown >= 2, "bit {bit}");
        }
    }
}

#[test]
fn text_is_bounded() {
    // 70 000 bytes of path for a few bytes per directory: the limit is on memory, not on bytes.
    let long = "d/".repeat(4000) + &"n".repeat(4000);
    let entries: Vec<_> = (0..2000).map(|n| file(&path(&format!("{long}{n:04}")), "x", b"")).collect();
    let broken = FormatError::Broken { what: "leaf page", rule: "names and paths take over 16 MiB" };
    assert_eq!(decoded(&entries), Err(broken));
    assert!(round(entries[..1000].to_vec()));
}
