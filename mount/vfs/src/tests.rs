//! The operations of the mount on a small tree: every answer and every refusal.

use crate::testing::*;
use crate::*;
use backupengine_model::{DataSpan, SpanKind};
use std::sync::Arc;

type Fs = ReadOnlyFs<Arc<Small>, Arc<Small>>;

/// Two snapshots; the folders of the second are `1970-01-01T00-00-02Z_desk` and so on.
fn two() -> (Fs, Arc<Small>) {
    all(&[info(1, "laptop", &["keep"]), info(2, "desk", &[])])
}

fn ino(session: u32, place: u32) -> Ino {
    Ino(id(session, place).ino())
}

fn path(text: &str) -> TreePath {
    TreePath::from_slashes(text.as_bytes()).unwrap()
}

fn at(fs: &Fs, text: &str) -> Attr {
    fs.resolve(&path(text)).unwrap()
}

/// One directory of the first snapshot as the root of the mount.
fn one(place: u32, owner: Owner) -> Result<Fs, FsError> {
    let small = Arc::new(Small::default());
    ReadOnlyFs::one(small.clone(), small, Config { owner, ..CONFIG }, id(1, place))
}

/// Names, numbers and cursors of a listing from a cursor on, at most so many.
fn listed(fs: &Fs, dir: Ino, from: u64, most: usize) -> Vec<(String, Ino, u64)> {
    let mut out = Vec::new();
    fs.readdir(Handle::of(dir), DirCursor(from), |entry| {
        if out.len() == most {
            return false;
        }
        assert!(entry.attr.is_none_or(|attr| (attr.ino, attr.kind) == (entry.ino, entry.kind)));
        assert_eq!(entry.attr.is_none(), [&b"."[..], b".."].contains(&entry.name));
        out.push((String::from_utf8_lossy(entry.name).into_owned(), entry.ino, entry.next.0));
        true
    })
    .unwrap();
    out
}

#[test]
fn the_mounts_own_folders_belong_to_who_mounts() {
    let (fs, _) = two();
    let root = fs.getattr(Ino::ROOT).unwrap();
    // by-device, by-tag and two snapshots; `latest` is a link.
    let expected = Attr {
        ino: Ino::ROOT,
        kind: Kind::Directory,
        mode: 0o555,
        nlink: 2 + 4,
        uid: 7,
        gid: 8,
        size: 0,
        blocks: 0,
        mtime: Timestamp { secs: 2, nanos: 0 },
        rdev: 0,
    };
    assert_eq!(root, expected);
    assert_eq!(at(&fs, "by-device").nlink, 2 + 2);
    assert_eq!(at(&fs, "by-device/desk").nlink, 2, "it holds links");
    let latest = at(&fs, "latest");
    let text = "1970-01-01T00-00-02Z_desk";
    let expected =
        Attr { ino: latest.ino, kind: Kind::Symlink, mode: 0o777, nlink: 1, size: text.len() as u64, ..root };
    assert_eq!(latest, expected);
    assert_eq!(fs.readlink(latest.ino).unwrap(), text);
    assert_eq!(fs.getattr(latest.ino), Ok(latest));
    let folder = at(&fs, text);
    let expected = Attr { ino: ino(2, TOP), nlink: 1, ..root };
    assert_eq!(folder, expected);
    // By number as well, and for none the node is asked: all lists can be shown without fetching any.
    assert_eq!(fs.getattr(ino(2, TOP)), Ok(folder));
}

#[test]
fn nodes_show_what_was_stored() {
    let (fs, _) = two();
    let expected = Attr {
        ino: ino(1, FILE),
        kind: Kind::File,
        mode: 0o4751,
        nlink: 2,
        uid: 1000,
        gid: 1001,
        size: 100,
        blocks: 8,
        mtime: MTIME,
        rdev: 0x0103,
    };
    assert_eq!(at(&fs, "1970-01-01T00-00-01Z_laptop/file"), expected);
    // Another name of the same file, the same inode.
    assert_eq!(at(&fs, "1970-01-01T00-00-01Z_laptop/second"), expected);
    assert_eq!(at(&fs, "1970-01-01T00-00-01Z_laptop/dir/inner").kind, Kind::Directory);
    assert_eq!(fs.getattr(ino(2, DIR)).unwrap().ino, ino(2, DIR));
    let fixed = one(TOP, Owner::Fixed { uid: 3, gid: 4 }).unwrap();
    assert_eq!((at(&fixed, "file").uid, at(&fixed, "file").gid), (3, 4));
}

#[test]
fn look_ups_are_refused_with_the_right_word() {
    let (fs, small) = two();
    let top = "1970-01-01T00-00-01Z_laptop";
    assert_eq!(fs.lookup(Ino::ROOT, b"missing"), Err(FsError::NotFound));
    assert_eq!(fs.lookup(ino(1, TOP), b"missing"), Err(FsError::NotFound));
    assert_eq!(fs.lookup(ino(1, FILE), b"x"), Err(FsError::NotADirectory));
    assert_eq!(fs.lookup(at(&fs, "latest").ino, b"x"), Err(FsError::NotADirectory));
    assert_eq!(fs.lookup(Ino(2), b"x"), Err(FsError::NotFound), "no such folder");
    // The reader would know it; a system does not show such names.
    assert_eq!(fs.lookup(ino(1, TOP), &[b'x'; 256]), Err(FsError::NameTooLong));
    assert_eq!(fs.lookup(ino(1, TOP), &[b'x'; 255]), Err(FsError::NotFound));
    assert_eq!(fs.getattr(Ino(2)), Err(FsError::NotFound));
    assert_eq!(fs.getattr(ino(1, 9999)), Err(FsError::NotFound));
    assert_eq!(fs.resolve(&path(&format!("{top}/file/x"))), Err(FsError::NotADirectory));
    assert_eq!(fs.resolve(&path("latest/dir")), Err(FsError::NotADirectory), "links are not followed");
    for (failure, answer) in [
        (ReadFailure::NotFound, FsError::NotFound),
        (ReadFailure::Damaged, FsError::Damaged),
        (ReadFailure::TimedOut, FsError::TimedOut),
        (ReadFailure::Gone, FsError::Stale),
        (ReadFailure::Denied, FsError::Denied),
        (ReadFailure::Interrupted, FsError::Interrupted),
    ] {
        small.fail(id(1, DIR), failure);
        assert_eq!(fs.getattr(ino(1, DIR)), Err(answer));
        assert_eq!(fs.lookup(ino(1, DIR), b"inner"), Err(answer));
    }
}

#[test]
fn a_snapshot_that_is_not_listed_is_asked_for() {
    let (fs, small) = two();
    assert_eq!(fs.getattr(ino(3, TOP)).unwrap().uid, 1000, "the node's own attributes");
    small.fail(id(3, TOP), ReadFailure::Gone);
    assert_eq!(fs.getattr(ino(3, TOP)), Err(FsError::Stale));
}

#[test]
fn links_are_read_and_nothing_else_is_one() {
    let (fs, small) = two();
    assert_eq!(fs.readlink(ino(1, LINK)).unwrap(), "file");
    for other in [Ino::ROOT, ino(1, FILE), ino(1, TOP)] {
        assert_eq!(fs.readlink(other), Err(FsError::NotALink));
    }
    assert_eq!(fs.readlink(Ino(2)), Err(FsError::NotFound));
    small.fail(id(1, LINK), ReadFailure::Damaged);
    assert_eq!(fs.readlink(ino(1, LINK)), Err(FsError::Damaged));
}

#[test]
fn files_and_directories_open_as_what_they_are() {
    let (fs, _) = two();
    assert_eq!(fs.open(ino(1, FILE)), Ok(Handle::of(ino(1, FILE))));
    assert_eq!(fs.open(ino(1, DIR)), Err(FsError::IsADirectory));
    assert_eq!(fs.open(Ino::ROOT), Err(FsError::IsADirectory));
    assert_eq!(fs.open(ino(1, PIPE)), Err(FsError::BadHandle));
    assert_eq!(fs.opendir(ino(1, DIR)), Ok(Handle::of(ino(1, DIR))));
    assert_eq!(fs.opendir(Ino::ROOT).unwrap().ino(), Ino::ROOT);
    assert_eq!(fs.opendir(ino(1, FILE)), Err(FsError::NotADirectory));
    assert_eq!(fs.opendir(ino(1, 9999)), Err(FsError::NotFound));
}

#[test]
fn reads_give_all_that_was_asked_for_up_to_the_end_or_an_error() {
    let (fs, small) = two();
    let read = |place, offset, len| {
        let mut out = vec![0xee; len];
        let n = fs.read(Handle::of(ino(1, place)), offset, &mut out)?;
        out.truncate(n);
        Ok(out)
    };
    assert_eq!(read(FILE, 58, 4), Ok(vec![0, 0, 60, 61]));
    assert_eq!(read(FILE, 97, 10), Ok(vec![97, 98, 99]));
    assert_eq!(read(FILE, 100, 10), Ok(vec![]));
    assert_eq!(read(FILE, u64::MAX, 10), Ok(vec![]));
    assert_eq!(read(DIR, 0, 10), Err(FsError::BadHandle));
    assert_eq!(fs.read(Handle::of(Ino::ROOT), 0, &mut [0; 10]), Err(FsError::IsADirectory));
    // 60 bytes are there, 100 are told: never a short read in their place.
    assert_eq!(read(SHORT, 0, 60).unwrap().len(), 60);
    assert_eq!(fs.getxattr(ino(1, SHORT), b"user.backupengine.error"), Err(FsError::NoAttribute));
    for (offset, len) in [(0, 61), (50, 20), (60, 1), (99, 1)] {
        assert_eq!(read(SHORT, offset, len), Err(FsError::Damaged), "{offset}");
    }
    let reason = fs.getxattr(ino(1, SHORT), b"user.backupengine.error").unwrap();
    assert_eq!(reason, "fewer bytes are stored than the file has");
    assert_eq!(read(SHORT, 100, 1), Ok(vec![]));
    small.fail(id(1, FILE), ReadFailure::Damaged);
    assert_eq!(read(FILE, 0, 10), Err(FsError::Damaged));
    assert_eq!(fs.getxattr(ino(1, FILE), b"user.backupengine.error").unwrap(), "4 fails");
    // Only damage has a reason: the others say it all.
    small.fail(id(1, ZERO), ReadFailure::TimedOut);
    assert_eq!(read(ZERO, 0, 10), Err(FsError::TimedOut));
    assert_eq!(fs.getxattr(ino(1, ZERO), b"user.backupengine.error"), Err(FsError::TimedOut));
}

#[test]
fn who_reads_file_by_file_gets_the_next_ones_hinted_at() {
    let (fs, small) = two();
    let begin = |place, offset| {
        fs.read(Handle::of(ino(2, place)), offset, &mut [0; 4]).unwrap();
        std::mem::take(&mut *small.hinted.lock().unwrap())
    };
    for place in WIDE + 1..WIDE + 4 {
        assert_eq!(begin(place, 0), []);
        assert_eq!(begin(place, 4), []);
    }
    // What lies in the middle of a file is no step.
    assert_eq!(begin(WIDE + 4, 4), []);
    let hinted = begin(WIDE + 4, 0);
    assert_eq!(hinted.first(), Some(&id(2, WIDE + 5)));
    assert!(hinted.windows(2).all(|pair| pair[0].place + 1 == pair[1].place));
}

#[test]
fn data_and_holes_are_found() {
    let (fs, small) = two();
    let seek = |place, offset, to| fs.seek(Handle::of(ino(1, place)), offset, to);
    for (offset, data, hole) in [
        (0, Ok(0), Ok(10)),
        (5, Ok(5), Ok(10)),
        (10, Ok(60), Ok(10)),
        (29, Ok(60), Ok(29)),
        (59, Ok(60), Ok(59)),
        (60, Ok(60), Ok(95)),
        (95, Err(FsError::NoSuchOffset), Ok(95)),
        (99, Err(FsError::NoSuchOffset), Ok(99)),
        (100, Err(FsError::NoSuchOffset), Err(FsError::NoSuchOffset)),
        (u64::MAX, Err(FsError::NoSuchOffset), Err(FsError::NoSuchOffset)),
    ] {
        assert_eq!(seek(FILE, offset, SeekTo::Data), data, "data from {offset}");
        assert_eq!(seek(FILE, offset, SeekTo::Hole), hole, "a hole from {offset}");
    }
    assert_eq!(fs.seek(Handle::of(Ino::ROOT), 0, SeekTo::Data), Err(FsError::IsADirectory));
    small.fail(id(1, FILE), ReadFailure::WrongKind);
    assert_eq!(seek(FILE, 0, SeekTo::Data), Err(FsError::BadHandle));
}

#[test]
fn the_end_of_a_file_without_holes_counts_as_one() {
    // The sample ends in a hole; this is 50 bytes of data, in runs.
    struct Dense;
    impl ContentReader for Dense {
        fn read_at(&self, _: NodeId, _: u64, _: &mut [u8]) -> Result<usize, ReadError> {
            Ok(0)
        }

        fn span(&self, _: NodeId, offset: u64) -> Result<Option<DataSpan>, ReadError> {
            let kind = SpanKind::Data;
            let len = 50_u64.saturating_sub(offset).min(20);
            Ok((len > 0).then_some(DataSpan { offset, len, kind }))
        }
    }
    let fs = ReadOnlyFs::all(Arc::new(Small::default()), Dense, CONFIG).unwrap();
    let seek = |offset| fs.seek(Handle::of(ino(1, FILE)), offset, SeekTo::Hole);
    assert_eq!((seek(0), seek(49), seek(50)), (Ok(50), Ok(50), Err(FsError::NoSuchOffset)));
}

#[test]
fn figures_are_those_of_the_newest() {
    let figures = |nodes| Ok(VolumeFigures { bytes: 12_345, nodes, name_max: 255 });
    assert_eq!(two().0.statfs(), figures(205));
    assert_eq!(all(&[]).0.statfs(), figures(0));
    assert_eq!(one(DIR, Owner::Stored).unwrap().statfs(), figures(105));
}

#[test]
fn listings_begin_with_the_dots_and_go_on_anywhere() {
    let (fs, _) = two();
    let by_device = at(&fs, "by-device").ino;
    let desk = at(&fs, "by-device/desk").ino;
    for (dir, parent) in [
        (Ino::ROOT, Ino::ROOT),
        (by_device, Ino::ROOT),
        (desk, by_device),
        (ino(1, TOP), Ino::ROOT),
        (ino(1, DIR), ino(1, TOP)),
        (ino(1, INNER), ino(1, DIR)),
        (ino(1, WIDE), ino(1, TOP)),
    ] {
        let whole = listed(&fs, dir, 0, usize::MAX);
        assert_eq!(whole[0], (".".into(), dir, 1));
        assert_eq!(whole[1], ("..".into(), parent, 2));
        for (index, (_, _, cursor)) in whole.iter().enumerate() {
            assert_eq!(listed(&fs, dir, *cursor, usize::MAX), whole[index + 1..]);
            assert_eq!(listed(&fs, dir, 0, index), whole[..index]);
        }
    }
    let names = |dir| listed(&fs, dir, 2, usize::MAX).into_iter().map(|(name, ..)| name).collect::<Vec<_>>();
    let first = "1970-01-01T00-00-01Z_laptop";
    let second = "1970-01-01T00-00-02Z_desk";
    assert_eq!(names(Ino::ROOT), ["by-device", "by-tag", "latest", first, second]);
    // Without the name of 256 bytes.
    let top = ["dir", "file", "link", "pipe", "second", "short", "torn", "zero", "wide"];
    assert_eq!(names(ino(1, TOP)), top);
    assert_eq!(listed(&fs, ino(1, TOP), 2, usize::MAX)[4].1, ino(1, FILE), "the inode of `second`");
    assert_eq!(names(ino(1, WIDE)).len(), WIDE_COUNT as usize);
}

#[test]
fn a_listing_that_goes_on_asks_for_no_parent() {
    let (fs, small) = two();
    listed(&fs, ino(1, INNER), 0, usize::MAX);
    assert_eq!(*small.parents.lock().unwrap(), 1);
    listed(&fs, ino(1, INNER), 2, usize::MAX);
    assert_eq!(*small.parents.lock().unwrap(), 1);
}

#[test]
fn listings_of_what_is_none_are_refused() {
    let (fs, small) = two();
    let list = |ino, from| fs.readdir(Handle::of(ino), DirCursor(from), |_| true);
    assert_eq!(list(ino(1, FILE), 2), Err(FsError::NotADirectory));
    assert_eq!(list(at(&fs, "latest").ino, 0), Err(FsError::NotADirectory));
    assert_eq!(list(Ino(2), 0), Err(FsError::NotFound));
    small.fail(id(1, DIR), ReadFailure::Damaged);
    assert_eq!(list(ino(1, DIR), 0), Err(FsError::Damaged));
    assert_eq!(fs.getxattr(ino(1, DIR), b"user.backupengine.error").unwrap(), "1 fails");
}

#[test]
fn a_reader_that_stops_short_ends_the_listing() {
    // Neither slots nor the end: asking again would go on for ever.
    let small = Arc::new(Small { endless: true, ..Small::default() });
    let fs = ReadOnlyFs::all(small.clone(), small, CONFIG).unwrap();
    let mut count = 0;
    let end = fs.readdir(Handle::of(ino(1, WIDE)), DirCursor::START, |_| {
        count += 1;
        true
    });
    assert_eq!((end, count), (Ok(()), WIDE_COUNT + 2));
}

#[test]
fn one_directory_is_the_root_of_its_mount() {
    let fs = one(DIR, Owner::Stored).unwrap();
    let root = fs.getattr(Ino::ROOT).unwrap();
    assert_eq!((root.ino, root.kind, root.uid), (Ino::ROOT, Kind::Directory, 1000));
    assert_eq!(at(&fs, "inner").ino, ino(1, INNER));
    assert_eq!(at(&fs, "inner/deep").kind, Kind::File);
    assert_eq!(fs.resolve(&path("file")), Err(FsError::NotFound));
    let names: Vec<_> = listed(&fs, Ino::ROOT, 0, usize::MAX);
    let expected = [(".", Ino::ROOT, 1), ("..", Ino::ROOT, 2), ("inner", ino(1, INNER), 3)];
    assert_eq!(names, expected.map(|(name, ino, next)| (name.to_owned(), ino, next)));
    assert_eq!(listed(&fs, ino(1, INNER), 1, 1), [("..".to_owned(), Ino::ROOT, 2)]);
    assert_eq!(fs.refresh().unwrap(), Invalidations::default());
    // A snapshot's "/" is a node there like any other.
    let top = one(TOP, Owner::Stored).unwrap();
    assert_eq!(top.getattr(Ino::ROOT).unwrap().mode, 0o4751);
    assert_eq!(listed(&top, ino(1, INNER), 1, 1), [("..".to_owned(), ino(1, DIR), 2)]);
    assert_eq!(listed(&top, ino(1, DIR), 1, 1), [("..".to_owned(), Ino::ROOT, 2)]);
    assert_eq!(one(FILE, Owner::Stored).err(), Some(FsError::NotADirectory));
    assert_eq!(one(9999, Owner::Stored).err(), Some(FsError::NotFound));
}

#[test]
fn extended_attributes_are_the_stored_ones_and_the_virtual_ones_by_name() {
    let (fs, small) = two();
    let get = |place, name: &str| {
        fs.getxattr(ino(1, place), name.as_bytes()).map(|v| String::from_utf8_lossy(&v).into_owned())
    };
    let cached = "user.backupengine.cached";
    let fetch = "user.backupengine.fetch_bytes";
    let torn = "user.backupengine.torn";
    assert_eq!(get(TORN, "user.a").unwrap(), "value of user.a");
    assert_eq!(get(TORN, "user.b"), Err(FsError::NoAttribute));
    assert_eq!(get(TORN, cached).unwrap(), "value of user.backupengine.cached", "a stored one wins");
    assert_eq!(get(TORN, torn).unwrap(), "changed while it was pushed");
    assert_eq!(get(FILE, torn), Err(FsError::NoAttribute));
    assert_eq!(get(FILE, "user.a"), Err(FsError::NoAttribute));
    assert_eq!((get(FILE, cached).unwrap(), get(FILE, fetch).unwrap()), ("25%".into(), "150".into()));
    assert_eq!((get(ZERO, cached).unwrap(), get(ZERO, fetch).unwrap()), ("100%".into(), "0".into()));
    assert_eq!(get(SHORT, cached), Err(FsError::NoAttribute), "it is not known");
    assert_eq!(get(DIR, cached), Err(FsError::NoAttribute));
    assert_eq!(fs.getxattr(Ino::ROOT, b"user.a"), Err(FsError::NoAttribute));
    let list = |place| fs.listxattr(ino(1, place)).unwrap();
    assert_eq!(list(TORN), [&b"user.a"[..], b"user.backupengine.cached", b"user.c"]);
    assert!(list(FILE).is_empty() && fs.listxattr(Ino::ROOT).unwrap().is_empty());
    small.fail(id(1, TORN), ReadFailure::Denied);
    assert_eq!(fs.listxattr(ino(1, TORN)), Err(FsError::Denied));
}

#[test]
fn news_are_shown_once_and_what_was_is_still_known() {
    let (fs, small) = two();
    let latest = at(&fs, "latest").ino;
    let tag = at(&fs, "by-tag/keep").ino;
    assert_eq!(fs.refresh().unwrap(), Invalidations::default());
    assert_eq!(*small.listed.lock().unwrap(), 1, "the version alone was looked at");
    small.set(&[info(2, "desk", &[]), info(5, "laptop", &[])]);
    let changes = fs.refresh().unwrap();
    assert!(!changes.is_empty());
    assert!(changes.inodes.contains(&Ino::ROOT));
    for name in ["latest", "1970-01-01T00-00-01Z_laptop", "1970-01-01T00-00-05Z_laptop"] {
        assert!(changes.entries.contains(&(Ino::ROOT, name.into())), "{name}");
    }
    assert_eq!(fs.readlink(at(&fs, "latest").ino).unwrap(), "1970-01-01T00-00-05Z_laptop");
    assert_eq!(fs.resolve(&path("1970-01-01T00-00-01Z_laptop")), Err(FsError::NotFound));
    // Whoever looked a name up just before may go on with it.
    assert_eq!(fs.readlink(latest).unwrap(), "1970-01-01T00-00-02Z_desk");
    assert_eq!(listed(&fs, tag, 0, usize::MAX).len(), 4);
    assert_eq!(fs.refresh().unwrap(), Invalidations::default());
    // One change later it is forgotten.
    small.set(&[info(2, "desk", &[])]);
    fs.refresh().unwrap();
    assert_eq!(fs.readlink(tag), Err(FsError::NotFound));
    assert_eq!(fs.statfs().unwrap().nodes, 205);
}

#[test]
fn changes_are_none_only_where_neither_kind_is_there() {
    let inodes = Invalidations { inodes: vec![Ino::ROOT], entries: Vec::new() };
    let entries = Invalidations { inodes: Vec::new(), entries: vec![(Ino::ROOT, b"a".into())] };
    assert!(Invalidations::default().is_empty());
    assert!(!inodes.is_empty() && !entries.is_empty());
}
