//! Bytes that no rows encode to: each column's rules, broken in the bytes of a good page.

use super::*;
use crate::limits::{DEPTH_MAX, PATH_MAX};
use crate::varint::put;
use std::collections::BTreeMap;

type Columns = BTreeMap<u8, Vec<u8>>;

/// The sections of a page by number, as [`tag`] has them without their mark.
fn columns(entries: &[LeafEntry]) -> (BTreeMap<u8, u8>, Columns) {
    let page = LeafPage { entries: entries.to_vec() }.encode();
    let (mut tags, mut columns) = (BTreeMap::new(), Columns::new());
    let mut cursor = Cursor::new(&page[1..], WHAT);
    while cursor.left() > 0 {
        let tag = cursor.u8().unwrap();
        let len = cursor.uv32().unwrap() as usize;
        tags.insert(tag & !CRITICAL, tag);
        columns.insert(tag & !CRITICAL, cursor.take(len).unwrap().to_vec());
    }
    (tags, columns)
}

/// Decodes the page with one column changed, which has to be there.
fn changed(
    entries: &[LeafEntry],
    tag: u8,
    change: impl FnOnce(&mut Vec<u8>),
) -> Result<LeafPage, FormatError> {
    let (tags, mut all) = columns(entries);
    change(all.get_mut(&(tag & !CRITICAL)).unwrap());
    let mut page = vec![1];
    for (number, column) in all {
        page.push(tags[&number]);
        put(&mut page, column.len() as u64);
        page.extend_from_slice(&column);
    }
    LeafPage::decode(&page)
}

/// The rule that the page with this column breaks.
fn broken(entries: &[LeafEntry], tag: u8, column: &[u8]) -> &'static str {
    assert_eq!(decoded(entries), Ok(LeafPage { entries: entries.to_vec() }), "good before");
    match changed(entries, tag, |old| *old = column.to_vec()) {
        Err(FormatError::Broken { rule, .. }) => rule,
        other => panic!("{other:?}"),
    }
}

fn column(entries: &[LeafEntry], tag: u8) -> Vec<u8> {
    columns(entries).1.remove(&(tag & !CRITICAL)).unwrap()
}

#[test]
fn nothing_may_follow_the_last_value_of_a_column() {
    let entries = everything();
    for tag in tag::ALL {
        assert!(changed(&entries, tag, |column| column.push(0)).is_err(), "section {}", tag & !CRITICAL);
    }
    // One value more in a sparse column, beyond the last entry.
    for (tag, value) in [(tag::NLINK, 9), (tag::RDEV, 9), (tag::ALLOCATED, 0), (tag::FLAGS, 1)] {
        let more = changed(&entries, tag, |column| {
            column[0] += 1;
            column.extend([20, value]);
        });
        assert!(more.is_err(), "section {}", tag & !CRITICAL);
    }
}

#[test]
fn tables_hold_each_row_once_and_none_unused() {
    let a = path("a");
    let mut few = vec![file(&a, "x", b""), file(&a, "y", b"")];
    few[1].attributes.uid = 5;
    let mut many: Vec<_> = (10..30).map(|n| file(&a, &format!("f{n}"), b"")).collect();
    (0..).zip(&mut many).for_each(|(uid, entry)| entry.attributes.uid = uid);
    for entries in [few, many] {
        let table = column(&entries, tag::ATTRIBUTE_TABLE);
        let unused = [&table[..], &[0x80, 0x20, 7, 7]].concat();
        assert_eq!(broken(&entries, tag::ATTRIBUTE_TABLE, &unused), "attributes in the table are not used");
        let first = column(&entries[..1], tag::ATTRIBUTE_TABLE);
        let last = column(&entries[entries.len() - 1..], tag::ATTRIBUTE_TABLE);
        let same = [&table[..table.len() - last.len()], &first].concat();
        assert_eq!(broken(&entries, tag::ATTRIBUTE_TABLE, &same), "attributes stand in the table twice");
    }
}

#[test]
fn what_goes_without_saying_is_not_said() {
    let a = path("a");
    let mut usual = dir(&a, "x");
    usual.attributes.nlink = 2;
    assert!(!columns(&[usual]).1.contains_key(&tag::NLINK));
    assert!(!columns(&[file(&a, "x", b"")]).1.contains_key(&tag::NLINK));
    let mut odd = dir(&a, "x");
    odd.attributes.nlink = 3;
    assert_eq!(broken(&[odd], tag::NLINK, &[1, 0, 2]), "a link count goes without saying");
    let block = entry(&a, b"x", Kind::BlockDevice, 0, Content::None);
    assert!(round(vec![block]));
}

#[test]
fn names_and_paths_share_what_they_can() {
    let (a, b) = (path("dir/a"), path("dir/b"));
    let names = vec![file(&a, "n1", b""), file(&a, "n2", b"")];
    assert_eq!(column(&names, tag::NAMES), b"\0\x01\x02\x01n12");
    let rule = "names do not ascend, or share less than they could";
    assert_eq!(broken(&names, tag::NAMES, b"\0\0\x02\x02n1n2"), rule);
    let dirs = vec![file(&a, "n", b""), file(&b, "n", b"")];
    assert_eq!(column(&dirs, tag::DIRECTORIES), b"\x01\x02\0\x05dir\0a\x01\x04\x01b\x01");
    let rule = "directories do not ascend, or share less than they could";
    assert_eq!(broken(&dirs, tag::DIRECTORIES, b"\x01\x02\0\x05dir\0a\x01\x03\x02\0b\x01"), rule);
    let mut links = vec![file(&a, "n", b"x")];
    links[0].hard_link = HardLink::Also(TreePath::from_slashes(b"dir/a/m").unwrap());
    assert_eq!(column(&links, tag::HARD_LINKS), b"\x01\0\x01\x06\x01m");
    let rule = "a leader's path shares less than it could";
    assert_eq!(broken(&links, tag::HARD_LINKS, b"\x01\0\x01\x05\x02\0m"), rule);
}

#[test]
fn no_directory_is_empty_and_no_page() {
    let (a, b) = (path("a"), path("b"));
    let rule = "holds no entries";
    assert_eq!(decoded(&[]), Err(FormatError::Broken { what: WHAT, rule }));
    let dirs = vec![file(&a, "n", b""), file(&b, "n", b"")];
    assert_eq!(column(&dirs, tag::DIRECTORIES), b"\x01\x02\0\x01a\x01\0\x01b\x01");
    assert_eq!(
        broken(&dirs, tag::DIRECTORIES, b"\x01\x02\0\x01a\x02\0\x01b\0"),
        "a directory holds no entries"
    );
}

#[test]
fn inline_bytes_have_the_length_that_is_said_once() {
    let a = path("a");
    let target = || Content::Inline(Bytes::from_static(b"target"));
    let link = vec![entry(&a, b"l", Kind::Symlink, 6, target())];
    let plain = vec![file(&a, "f", b"inline")];
    let rule = "the length of inline bytes goes without saying";
    for (entries, column) in [(&link, [7, 6]), (&plain, [7, 6]), (&plain, [7, 5])] {
        assert_eq!(broken(entries, tag::CONTENT, &column), rule);
    }
    assert_eq!(broken(&plain, tag::BLOBS, b"inline+"), "inline bytes belong to no entry");
}

#[test]
fn sets_of_attributes_are_used_and_not_empty() {
    let mut entries = vec![file(&path("a"), "x", b"")];
    entries[0].xattrs = vec![xattr("user.a", b"v")].into();
    // One set of one attribute; the sparse column gives set 0 to entry 0.
    assert_eq!(column(&entries, tag::XATTRS), b"\x01\x01\x06user.a\x02v\x01\0\0");
    let unused = b"\x02\x01\x06user.a\x02v\x01\x06user.b\x02v\x01\0\0";
    assert_eq!(broken(&entries, tag::XATTRS, unused), "a set of extended attributes is not used");
    let empty = b"\x02\x01\x06user.a\x02v\0\x01\0\0";
    assert_eq!(broken(&entries, tag::XATTRS, empty), "a set of extended attributes is empty");
}

/// A path of so many bytes, of names as long as they may be.
fn long(len: usize) -> TreePath {
    let mut bytes = vec![b'n'; len];
    bytes.iter_mut().skip(4000).step_by(4001).for_each(|byte| *byte = 0);
    TreePath::from_joined(bytes).unwrap()
}

#[test]
fn paths_are_as_long_as_their_limit_and_no_longer() {
    let parent = Arc::new(long(PATH_MAX - 100));
    assert!(round(vec![file(&parent, &"x".repeat(99), b"")]));
    assert!(!round(vec![file(&parent, &"x".repeat(100), b"")]));
    let led = |leader: TreePath| {
        let mut entry = file(&path("z"), "x", b"x");
        entry.hard_link = HardLink::Also(leader);
        round(vec![entry])
    };
    assert!(led(long(PATH_MAX)) && !led(long(PATH_MAX + 1)));
    let deep = |depth: usize| TreePath::from_slashes("d/".repeat(depth).as_bytes()).unwrap();
    assert!(led(deep(DEPTH_MAX + 1)) && !led(deep(DEPTH_MAX + 2)));
}

#[test]
fn only_what_paths_take_in_memory_counts() {
    // 4000 bytes in common and 100 of their own: a fraction of 16 MiB.
    let text = |n: usize| format!("{}/{n:02}{}", "d".repeat(4000), "e".repeat(98));
    let dirs: Vec<_> = (10..99).map(|n| file(&path(&text(n)), "x", b"")).collect();
    assert!(round(dirs));
    let parent = path(&"d".repeat(4000));
    let links = (10..99).map(|n| {
        let mut entry = file(&parent, &format!("y{n}"), b"x");
        entry.hard_link = HardLink::Also(TreePath::from_slashes(text(n).as_bytes()).unwrap());
        entry
    });
    assert!(round(links.collect()));
}
