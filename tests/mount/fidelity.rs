//! Faithful: everything `lstat` and friends showed at push is shown again.

use crate::face::Face;
use crate::world::{CREATED, FOLDER, Mount, World, at, fuse_is_wanted, on_both, shown};
use backupengine_model::{Kind, NodeFlags, Timestamp, TreePath, allocated_blocks};
use backupengine_testkit::oracle::{Body, Leniency, Tree, disk, sample};
use backupengine_vfs::SeekTo;
use rustix::io::Errno;
use std::collections::BTreeSet;

/// Every name of the tree, field by field.
fn compare(face: &dyn Face, world: &World) {
    for (path, file) in world.tree.names().skip(1) {
        let node = world.tree.file(file).unwrap();
        let here = shown(path);
        let seen = face.lstat(&here).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut expected = node.attributes.clone();
        (expected.allocated, expected.flags) = (None, NodeFlags::default());
        assert_eq!(seen.attributes, expected, "{path}");
        assert_eq!(seen.blocks, allocated_blocks(&node.attributes), "{path}");
        let inode = world.oracle.at(world.session, path).unwrap().inode;
        assert_eq!(seen.ino, inode.ino(), "{path}");
        let names: Vec<Vec<u8>> = node.xattrs.keys().cloned().collect();
        assert_eq!(face.xattr_names(&here).unwrap(), names, "{path}");
        for (name, value) in &node.xattrs {
            let name = std::str::from_utf8(name).unwrap();
            assert_eq!(face.xattr(&here, name).unwrap(), value[..], "{path}: {name}");
        }
        match &node.body {
            Body::Symlink(target) => assert_eq!(face.read_link(&here).unwrap(), target[..], "{path}"),
            Body::Directory => {
                let listed: BTreeSet<_> =
                    face.list(&here).unwrap().into_iter().map(|(n, i, k)| (n, i, k as u8)).collect();
                let below = world.tree.below(path);
                let children =
                    below.iter().filter_map(|below| below.split_last().map(|(p, n)| (below, p, n)));
                let expected: BTreeSet<_> = children
                    .filter(|(_, parent, _)| parent == path)
                    .map(|(below, _, name)| {
                        let node = world.oracle.at(world.session, below).unwrap();
                        (name.to_vec(), node.inode.ino(), node.attributes.kind as u8)
                    })
                    .collect();
                assert_eq!(listed, expected, "{path}");
            }
            Body::File(content) if content.len() <= 6_000_000 => {
                let mut expected = vec![0; content.len() as usize];
                content.read_at(0, &mut expected);
                assert!(face.read(&here, 0, expected.len() + 1).unwrap() == expected, "{path}");
            }
            Body::File(_) | Body::Other => {}
        }
    }
}

#[test]
fn every_field_is_as_it_was_at_push() {
    let world = World::of_oddities();
    on_both(&world, |face| compare(face, &world));
}

#[test]
fn a_disk_with_the_same_tree_shows_no_difference() {
    let world = World::of_oddities();
    if fuse_is_wanted() {
        let mount = Mount::of(&world.oracle);
        for top in world.tree.names().map(|(path, _)| path).filter(|path| path.components().count() == 1) {
            let found = disk::differences(
                &world.tree,
                top,
                &disk::path_below(&mount.snapshot(), top),
                Leniency::default(),
            );
            assert_eq!(found, [""; 0]);
        }
    }
}

#[test]
fn all_names_of_a_hard_link_show_one_inode() {
    let world = World::of(sample::everyday());
    on_both(&world, |face| {
        let see = |path: &str| face.lstat(&at(path)).unwrap();
        let first = see("links/a first in order");
        assert_eq!(first.attributes.nlink, 3);
        assert_eq!(first.ino, world.id("links/a first in order").ino());
        assert_eq!(see("links/z first made"), first);
        assert_eq!(see("links/below/third"), first);
        assert_eq!(see("links/up").ino, see("links/up again").ino);
        assert_ne!(see("sizes/1").ino, first.ino);
    });
}

#[test]
fn holes_are_where_they_were() {
    let world = World::of(sample::everyday());
    on_both(&world, |face| {
        let file = at("sparse/three terabytes");
        let (first, middle, last) = (4096, 1_u64 << 40, (3_u64 << 40) - 4096);
        let middle_end = middle + 200_000_u64.next_multiple_of(4096);
        for (offset, data, hole) in [
            (0, Ok(0), Ok(first)),
            (100, Ok(100), Ok(first)),
            (first, Ok(middle), Ok(first)),
            (1 << 39, Ok(middle), Ok(1 << 39)),
            (middle + 5, Ok(middle + 5), Ok(middle_end)),
            (last + 1, Ok(last + 1), Ok(3 << 40)),
            (3 << 40, Err(Errno::NXIO), Err(Errno::NXIO)),
        ] {
            assert_eq!(face.seek(&file, offset, SeekTo::Data), data, "data from {offset}");
            assert_eq!(face.seek(&file, offset, SeekTo::Hole), hole, "hole from {offset}");
        }
        assert_eq!(face.seek(&at("sparse/all hole"), 0, SeekTo::Data), Err(Errno::NXIO));
        assert_eq!(face.seek(&at("sizes/5000000"), 0, SeekTo::Hole), Ok(5_000_000));
        assert_eq!(face.read(&file, 1 << 39, 5000).unwrap(), vec![0; 5000]);
        assert_eq!(face.read(&file, (3 << 40) - 3, 10).unwrap(), b"end");
        assert_eq!(face.lstat(&file).unwrap().blocks, (first + (middle_end - middle) + 4096) / 512);
    });
}

#[test]
fn virtual_attributes_answer_by_name_and_are_never_listed() {
    let mut tree = sample::everyday();
    let torn = sample::path("sizes/4096");
    tree.set_flags(&torn, NodeFlags::TORN).unwrap();
    let world = World::of(tree);
    on_both(&world, |face| {
        let value = face.xattr(&shown(&torn), "user.backupengine.torn").unwrap();
        assert_eq!(value, b"changed while it was pushed");
        assert_eq!(face.xattr_names(&shown(&torn)).unwrap(), Vec::<Vec<u8>>::new());
        for name in ["user.backupengine.torn", "user.backupengine.error", "user.none"] {
            assert_eq!(face.xattr(&at("sizes/1"), name), Err(Errno::NODATA), "{name}");
        }
        // How near a file is answers for every file, and for nothing else.
        for (name, value) in [("user.backupengine.cached", "25%"), ("user.backupengine.fetch_bytes", "3072")]
        {
            assert_eq!(face.xattr(&at("sizes/4096"), name).unwrap(), value.as_bytes(), "{name}");
            for other in ["sizes", "links/to file"] {
                assert!(face.lstat(&at(other)).is_ok(), "{other}");
                assert_eq!(face.xattr(&at(other), name), Err(Errno::NODATA), "{name} of {other}");
            }
        }
        assert_eq!(face.xattr(&at("sizes/0"), "user.backupengine.cached").unwrap(), b"100%");
        // Asked for what is not there, the mount goes on answering for what is.
        assert_eq!(face.xattr(&at("xattrs/file"), "user.comment").unwrap(), b"short");
    });
}

#[test]
fn inode_numbers_are_the_same_after_a_remount() {
    let world = World::of(sample::everyday());
    if !fuse_is_wanted() {
        return;
    }
    let numbers = |mount: &Mount| -> Vec<(String, u64)> {
        let output = std::process::Command::new("find")
            .arg(mount.path())
            .args(["-printf", "%P %i\\0"])
            .output()
            .unwrap();
        assert!(output.status.success());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut all: Vec<_> = text
            .split_terminator('\0')
            .map(|line| line.rsplit_once(' ').map(|(path, ino)| (path.into(), ino.parse().unwrap())).unwrap())
            .collect();
        all.sort();
        all
    };
    let first = numbers(&Mount::of(&world.oracle));
    let second = numbers(&Mount::of(&world.oracle));
    assert!(first.len() > world.tree.len());
    assert_eq!(first, second);
}

#[test]
fn the_top_of_the_mount_shows_time_device_and_tag() {
    let world = World::of(sample::everyday());
    on_both(&world, |face| {
        let names = |path: &str| -> Vec<String> {
            let listed = face.list(&sample::path(path)).unwrap();
            let mut names: Vec<_> =
                listed.into_iter().map(|(name, ..)| String::from_utf8(name).unwrap()).collect();
            names.sort();
            names
        };
        assert_eq!(names(""), [FOLDER, "by-device", "by-tag", "latest"]);
        assert_eq!(names("by-device"), ["laptop"]);
        assert_eq!(names("by-device/laptop"), ["2026-11-23T14-10-05Z", "latest"]);
        assert_eq!(names("by-tag/keep"), [FOLDER, "latest"]);
        let link = |path: &str| String::from_utf8(face.read_link(&sample::path(path)).unwrap()).unwrap();
        assert_eq!(link("latest"), FOLDER);
        assert_eq!(link("by-device/laptop/latest"), format!("../../{FOLDER}"));
        assert_eq!(link(&format!("by-tag/keep/{FOLDER}")), format!("../../{FOLDER}"));
        let root = face.lstat(&TreePath::root()).unwrap();
        assert_eq!((root.ino, root.attributes.kind, root.attributes.mode), (1, Kind::Directory, 0o555));
        for own in ["by-device", "by-tag", "by-device/laptop", "latest"] {
            let seen = face.lstat(&sample::path(own)).unwrap();
            assert!(seen.ino > 1 && seen.ino < 1 << 32, "{own}");
        }
        // A snapshot's folder shows when it was pushed.
        assert_eq!(face.lstat(&sample::path(FOLDER)).unwrap().attributes.mtime, CREATED);
        assert_eq!(face.list(&sample::path("missing")), Err(Errno::NOENT));
    });
}

#[test]
fn figures_of_the_mount_are_never_zero() {
    let world = World::of(sample::everyday());
    on_both(&world, |face| {
        let (bytes, nodes) = face.figures().unwrap();
        assert!(bytes > 3 << 40, "{bytes}");
        assert_eq!(nodes, world.tree.len() as u64);
    });
}

#[test]
fn listing_the_top_asks_nothing_of_the_snapshots() {
    let world = World::of(sample::everyday());
    for number in 0..50 {
        let created = Timestamp { secs: CREATED.secs + number, nanos: 0 };
        world.oracle.push(&Tree::new(), "desk", created, &[]);
    }
    on_both(&world, |face| {
        use std::sync::atomic::Ordering::Relaxed;
        let calls = world.oracle.calls();
        let before = (calls.node.load(Relaxed), calls.list.load(Relaxed), calls.lookup.load(Relaxed));
        assert_eq!(face.list(&TreePath::root()).unwrap().len(), 54);
        let after = (calls.node.load(Relaxed), calls.list.load(Relaxed), calls.lookup.load(Relaxed));
        assert_eq!(after, before);
    });
}
