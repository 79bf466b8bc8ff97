//! News: snapshots that come and go while the mount is up, with everything else cached for ever.

use crate::face::Face;
use crate::world::{CREATED, FOLDER, Mount, World, at, fuse_is_wanted, on_both};
use backupengine_model::{Kind, Timestamp, TreePath};
use backupengine_testkit::oracle::{Content, Tree, disk, sample};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};

const LATER: Timestamp = Timestamp { secs: CREATED.secs + 60, nanos: 0 };
const NEW: &str = "2026-11-23T14-11-05Z_desk";

fn names(face: &dyn Face, path: &str) -> Vec<String> {
    let listed = face.list(&sample::path(path)).unwrap();
    let mut names: Vec<_> = listed.into_iter().map(|(name, ..)| String::from_utf8(name).unwrap()).collect();
    names.sort();
    names
}

fn latest(face: &dyn Face) -> String {
    String::from_utf8(face.read_link(&sample::path("latest")).unwrap()).unwrap()
}

#[test]
fn a_new_snapshot_appears_and_latest_moves() {
    let world = World::of(sample::everyday());
    on_both(&world, |face| {
        // Fill every cache there is with the old state, absent names included.
        assert_eq!(names(face, ""), [FOLDER, "by-device", "by-tag", "latest"]);
        assert_eq!(names(face, "by-device"), ["laptop"]);
        assert_eq!(names(face, "by-tag"), ["keep"]);
        assert_eq!(latest(face), FOLDER);
        for missing in [NEW.to_owned(), "by-device/desk".to_owned(), "by-tag/big".to_owned()] {
            assert_eq!(face.lstat(&sample::path(missing)), Err(Errno::NOENT));
        }
        let before = face.lstat(&TreePath::root()).unwrap();
        let inside = face.lstat(&at("sizes/1")).unwrap();

        let mut tree = Tree::new();
        tree.create_file(&sample::path("new"), Content::dense("news")).unwrap();
        let session = world.oracle.push(&tree, "desk", LATER, &["big", "keep"]);
        assert!(face.within_three_seconds(&|| {
            names(face, "") == [FOLDER, NEW, "by-device", "by-tag", "latest"]
                && latest(face) == NEW
                && names(face, "by-device") == ["desk", "laptop"]
                && names(face, "by-device/desk") == ["2026-11-23T14-11-05Z", "latest"]
                && names(face, "by-tag") == ["big", "keep"]
                && names(face, "by-tag/keep") == [FOLDER, NEW, "latest"]
                && face.lstat(&sample::path(format!("{NEW}/new"))).is_ok()
        }));
        assert_eq!(face.read(&sample::path(format!("{NEW}/new")), 0, 10).unwrap(), b"news");
        let after = face.lstat(&TreePath::root()).unwrap();
        assert_eq!(after.attributes.mtime, LATER);
        assert_eq!(after.attributes.nlink, before.attributes.nlink + 1);
        assert_eq!(face.lstat(&at("sizes/1")).unwrap(), inside);

        world.oracle.forget(session);
        assert!(face.within_three_seconds(&|| {
            names(face, "") == [FOLDER, "by-device", "by-tag", "latest"]
                && latest(face) == FOLDER
                && names(face, "by-device") == ["laptop"]
                && names(face, "by-tag") == ["keep"]
                && face.lstat(&sample::path(NEW)) == Err(Errno::NOENT)
                && face.lstat(&sample::path(format!("{NEW}/new"))) == Err(Errno::NOENT)
        }));
    });
}

#[test]
fn latest_always_leads_somewhere_while_it_moves() {
    let world = World::of(sample::everyday());
    if !fuse_is_wanted() {
        return;
    }
    let mount = Mount::of(&world.oracle);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looker = scope.spawn(|| {
            let mut seen = 0;
            while !done.load(Ordering::Relaxed) {
                let found = fs::metadata(mount.path().join("latest")).unwrap();
                assert!(found.is_dir());
                seen += 1;
            }
            seen
        });
        for number in 1..=15 {
            let created = Timestamp { secs: CREATED.secs + number, nanos: 0 };
            world.oracle.push(&Tree::new(), "laptop", created, &[]);
            std::thread::sleep(std::time::Duration::from_millis(120));
        }
        done.store(true, Ordering::Relaxed);
        assert!(looker.join().unwrap() > 100);
    });
    let last = mount.path().join("2026-11-23T14-10-20Z_laptop");
    let face = crate::face::KernelFace::new(mount.path());
    assert!(face.within_three_seconds(&|| {
        fs::metadata(mount.path().join("latest")).unwrap().ino() == fs::metadata(&last).unwrap().ino()
    }));
}

#[test]
fn what_was_just_looked_up_is_still_answered() {
    use backupengine_vfs::Ino;
    let world = World::of(sample::everyday());
    let core = crate::world::core(&world.oracle);
    let link = core.lookup(Ino::ROOT, b"latest").unwrap().ino;
    world.oracle.push(&Tree::new(), "desk", LATER, &[]);
    assert!(!core.refresh().unwrap().is_empty());
    // A reader between its look-up and its question.
    assert_eq!(core.readlink(link).unwrap(), FOLDER.as_bytes());
    assert!(core.getattr(link).is_ok());
    let moved = core.lookup(Ino::ROOT, b"latest").unwrap().ino;
    assert_eq!(core.readlink(moved).unwrap(), NEW.as_bytes());
    assert!(moved != link && core.refresh().unwrap().is_empty());
}

#[test]
fn files_of_a_removed_snapshot_end_in_a_clear_error() {
    let world = World::of(sample::everyday());
    if !fuse_is_wanted() {
        return;
    }
    let mount = Mount::of(&world.oracle);
    let mut file = File::open(mount.snapshot().join("sizes/5000000")).unwrap();
    let mut head = [0; 4096];
    file.read_exact(&mut head).unwrap();
    world.oracle.forget(world.session);
    let face = crate::face::KernelFace::new(mount.path());
    assert!(face.within_three_seconds(&|| face.lstat(&sample::path(FOLDER)) == Err(Errno::NOENT)));
    let mut rest = Vec::new();
    let error = file.read_to_end(&mut rest).unwrap_err();
    assert_eq!(crate::face::number(&error), Errno::STALE);
}

#[test]
fn one_snapshot_can_be_mounted_by_itself() {
    let world = World::of_oddities();
    let root = world.id("names");
    let whole = backupengine_model::NodeId::root(world.session);
    let core = |root| {
        backupengine_vfs::ReadOnlyFs::one(
            world.oracle.clone(),
            world.oracle.clone(),
            crate::world::config(),
            root,
        )
    };
    let check = |face: &dyn Face, expect: &str| {
        let listed = face.list(&TreePath::root()).unwrap();
        assert!(listed.iter().any(|(name, ..)| name == expect.as_bytes()), "{listed:?}");
        let seen = face.lstat(&TreePath::root()).unwrap();
        assert_eq!((seen.ino, seen.attributes.kind), (1, Kind::Directory));
    };
    check(&crate::face::CoreFace::new(core(root).unwrap()), "empty directory");
    check(&crate::face::CoreFace::new(core(whole).unwrap()), "names");
    assert!(core(world.id("sizes/1")).is_err());
    if fuse_is_wanted() {
        let mount = Mount::with(core(whole).unwrap(), |_| {});
        check(&crate::face::KernelFace::new(mount.path()), "names");
        let found = disk::differences(
            &world.tree,
            &sample::path("links"),
            &mount.path().join("links"),
            Default::default(),
        );
        assert_eq!(found, [""; 0]);
        let part = Mount::with(core(root).unwrap(), |_| {});
        check(&crate::face::KernelFace::new(part.path()), "empty directory");
    }
}
