//! Listings: resumed anywhere, of any size and depth.

use crate::face::Face;
use crate::world::{FOLDER, Mount, World, at, core, fuse_is_wanted, on_both};
use backupengine_model::TreePath;
use backupengine_testkit::oracle::{Content, Tree, sample};
use backupengine_vfs::{DirCursor, Handle, Ino};
use rustix::fs::{Mode, OFlags, RawDir, SeekFrom};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::path::Path;

fn many(count: usize) -> World {
    let mut tree = Tree::new();
    let dir = sample::path("many");
    tree.mkdir(&dir).unwrap();
    for number in 0..count {
        let name = dir.child(format!("entry {number:06}").as_bytes());
        if number % 10 == 0 {
            tree.mkdir(&name).unwrap();
        } else {
            tree.create_file(&name, Content::dense("x")).unwrap();
        }
    }
    World::of(tree)
}

/// Names from a cursor on, each with the cursor after it.
type Listed = Vec<(Vec<u8>, u64)>;

fn list_core(world: &World, ino: Ino, from: u64, most: usize) -> Listed {
    let mut out = Vec::new();
    core(&world.oracle)
        .readdir(Handle::of(ino), DirCursor(from), |entry| {
            if out.len() == most {
                return false;
            }
            out.push((entry.name.to_vec(), entry.next.0));
            true
        })
        .unwrap();
    out
}

fn list_kernel(dir: &Path, from: u64, most: usize) -> Listed {
    let file = rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    rustix::fs::seek(&file, SeekFrom::Start(from)).unwrap();
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut raw = RawDir::new(file, &mut buffer);
    let mut out = Vec::new();
    while let Some(entry) = raw.next() {
        let entry = entry.unwrap();
        out.push((entry.file_name().to_bytes().to_vec(), entry.next_entry_cookie()));
        if out.len() == most {
            break;
        }
    }
    out
}

/// Every cursor of a full listing leads to exactly the rest of it.
fn resumes_anywhere(list: &dyn Fn(u64, usize) -> Listed) {
    let whole = list(0, usize::MAX);
    let distinct: BTreeSet<_> = whole.iter().map(|(name, _)| name).collect();
    assert_eq!(distinct.len(), whole.len());
    assert_eq!((&whole[0].0[..], &whole[1].0[..]), (&b"."[..], &b".."[..]));
    for (index, (_, cursor)) in
        whole.iter().enumerate().step_by(7).chain([(whole.len() - 1, &whole[whole.len() - 1])])
    {
        let rest = list(*cursor, usize::MAX);
        assert_eq!(rest, whole[index + 1..], "after entry {index}");
    }
    let mut bit_by_bit = Vec::new();
    while let Some(last) = {
        let from = bit_by_bit.last().map_or(0, |(_, cursor)| *cursor);
        let part = list(from, 3);
        let last = part.last().cloned();
        bit_by_bit.extend(part);
        last
    } {
        assert!(bit_by_bit.contains(&last));
    }
    assert_eq!(bit_by_bit, whole);
}

#[test]
fn a_listing_resumes_anywhere() {
    let world = many(500);
    let dir = Ino(world.id("many").ino());
    eprintln!("on the core");
    resumes_anywhere(&|from, most| list_core(&world, dir, from, most));
    resumes_anywhere(&|from, most| list_core(&world, Ino::ROOT, from, most));
    if fuse_is_wanted() {
        eprintln!("on FUSE");
        let mount = Mount::of(&world.oracle);
        resumes_anywhere(&|from, most| list_kernel(&mount.snapshot().join("many"), from, most));
        resumes_anywhere(&|from, most| list_kernel(mount.path(), from, most));
    }
}

#[test]
fn cursors_of_the_top_survive_snapshots_that_come_and_go() {
    let world = many(1);
    for number in 1..40 {
        let created = backupengine_model::Timestamp { secs: number, nanos: 0 };
        world.oracle.push(&Tree::new(), "desk", created, &[]);
    }
    let fs = core(&world.oracle);
    let mut names = Vec::new();
    let mut cursor = DirCursor::START;
    for round in 0..20 {
        let mut taken = 0;
        fs.readdir(Handle::of(Ino::ROOT), cursor, |entry| {
            if taken == 4 {
                return false;
            }
            taken += 1;
            cursor = entry.next;
            names.push(entry.name.to_vec());
            true
        })
        .unwrap();
        // Between any two steps one goes that was listed and one comes.
        world.oracle.forget(backupengine_model::SessionNo(2 + round));
        let created = backupengine_model::Timestamp { secs: 1000 + i64::from(round), nanos: 0 };
        world.oracle.push(&Tree::new(), "attic", created, &[]);
        fs.refresh().unwrap();
    }
    let distinct: BTreeSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), names.len(), "nothing is listed twice");
    assert!(names.iter().any(|name| name == FOLDER.as_bytes()));
    // Those that stayed throughout are all there.
    for number in 22..40 {
        let name = format!("1970-01-01T00-00-{number:02}Z_desk");
        assert!(names.iter().any(|n| n == name.as_bytes()), "{name}");
    }
}

#[test]
fn a_hundred_thousand_entries_are_listed() {
    let world = many(100_000);
    on_both(&world, |face| {
        let listed = face.list(&at("many")).unwrap();
        assert_eq!(listed.len(), 100_000);
        let distinct: BTreeSet<_> = listed.iter().map(|(name, ..)| name).collect();
        assert_eq!(distinct.len(), 100_000);
        assert!(face.lstat(&at("many/entry 099999")).is_ok());
        assert_eq!(face.lstat(&at("many/entry 100000")), Err(Errno::NOENT));
    });
}

#[test]
fn attributes_come_with_the_listing() {
    let world = many(10_000);
    if !fuse_is_wanted() {
        return;
    }
    use std::sync::atomic::Ordering::Relaxed;
    let mount = Mount::of(&world.oracle);
    let calls = world.oracle.calls();
    // Not ls, which also asks every entry for its access list.
    let many = mount.snapshot().join("many");
    let output = std::process::Command::new("find").arg(many).args(["-printf", "%s"]).output().unwrap();
    assert!(output.status.success());
    let single = calls.node.load(Relaxed) + calls.lookup.load(Relaxed);
    // Without the listing's attributes it would be at least one question an entry.
    assert!(single < 2000, "{single} single questions for 10 000 entries");
}

#[test]
fn a_tree_a_thousand_deep_is_walked() {
    let mut tree = Tree::new();
    let mut path = TreePath::root();
    for _ in 0..1000 {
        path.push(b"d");
        tree.mkdir(&path).unwrap();
    }
    tree.create_file(&path.child(b"f"), Content::dense("reached")).unwrap();
    let world = World::of(tree);
    on_both(&world, |face: &dyn Face| {
        let mut bottom = sample::path(FOLDER);
        path.child(b"f").components().for_each(|part| bottom.push(part));
        assert_eq!(face.read(&bottom, 0, 100).unwrap(), b"reached");
    });
    if fuse_is_wanted() {
        let mount = Mount::of(&world.oracle);
        let output = std::process::Command::new("find").arg(mount.snapshot()).output().unwrap();
        assert!(output.status.success());
        assert_eq!(output.stdout.iter().filter(|&&b| b == b'\n').count(), 1002);
    }
}

#[test]
fn names_that_are_not_there_stay_missing() {
    let world = World::of(sample::everyday());
    on_both(&world, |face| {
        for _ in 0..2 {
            assert_eq!(face.lstat(&at("names/missing")), Err(Errno::NOENT));
            assert_eq!(face.lstat(&at("sizes/1/below a file")), Err(Errno::NOTDIR));
            assert_eq!(face.lstat(&at(&"n".repeat(256))), Err(Errno::NAMETOOLONG));
        }
        assert!(face.lstat(&at(&format!("names/{}", "n".repeat(255)))).is_ok());
        assert_eq!(face.list(&at("sizes/1")).unwrap_err(), Errno::NOTDIR);
        assert_eq!(face.read_link(&at("sizes/1")), Err(Errno::INVAL));
    });
}
