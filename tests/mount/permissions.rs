//! Private: who gets in, and as whom files are shown.

use crate::face::{CoreFace, Face};
use crate::world::{Mount, World, at, config, core, fuse_is_wanted};
use backupengine_testkit::oracle::{Content, disk, sample};
use backupengine_vfs::{Owner, ReadOnlyFs};
use std::path::Path;
use std::process::Command;

/// Runs a program as a user without rights and says whether it worked.
fn nobody(program: &str, path: &Path) -> bool {
    Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", program])
        .arg(path)
        .output()
        .unwrap()
        .status
        .success()
}

fn world() -> World {
    let mut tree = sample::for_this_user();
    for (name, mode, owner) in [("open", 0o644, 0), ("closed", 0o600, 0), ("theirs", 0o600, 65_534)] {
        let name = sample::path(name);
        tree.create_file(&name, Content::dense("content")).unwrap();
        tree.chmod(&name, mode).unwrap();
        tree.chown(&name, owner, 0).unwrap();
    }
    // The group may read by the bits of the mode, which with a list are its mask; the list says it may not.
    let listed = sample::path("listed");
    tree.create_file(&listed, Content::dense("content")).unwrap();
    tree.chmod(&listed, 0o660).unwrap();
    tree.chown(&listed, 0, 65_534).unwrap();
    let none = u32::MAX;
    let acl = sample::acl(&[(1, 6, none), (2, 6, 1000), (4, 0, none), (16, 6, none), (32, 0, none)]);
    tree.set_xattr(&listed, b"system.posix_acl_access", &acl).unwrap();
    World::of(tree)
}

#[test]
fn only_the_mounting_user_can_look_in() {
    if !fuse_is_wanted() || !disk::is_root() {
        return;
    }
    let world = world();
    let mount = Mount::of(&world.oracle);
    assert!(!nobody("ls", mount.path()));
    assert!(!nobody("cat", &mount.snapshot().join("open")));
    assert!(std::fs::read(mount.snapshot().join("open")).is_ok());
}

#[test]
fn other_users_are_held_to_the_permissions_of_the_files() {
    if !fuse_is_wanted() || !disk::is_root() {
        return;
    }
    let world = world();
    let mount = Mount::with(core(&world.oracle), |serve| serve.allow_other = true);
    let top = mount.snapshot();
    assert!(nobody("ls", mount.path()));
    assert!(nobody("cat", &top.join("open")));
    assert!(nobody("cat", &top.join("theirs")));
    assert!(!nobody("cat", &top.join("closed")));
    assert!(!nobody("cat", &top.join("listed")), "access lists are held to as well");
    assert!(std::fs::read(top.join("listed")).is_ok());
    // And are shown as they were.
    let found =
        disk::differences(&world.tree, &sample::path("xattrs"), &top.join("xattrs"), Default::default());
    assert_eq!(found, [""; 0]);
}

#[test]
fn files_can_be_shown_as_ones_own() {
    let world = world();
    let mut config = config();
    config.owner = Owner::Fixed { uid: 1234, gid: 5678 };
    let core = ReadOnlyFs::all(world.oracle.clone(), world.oracle.clone(), config).unwrap();
    let face = CoreFace::new(core);
    for path in ["theirs", "sizes/1", "links/dangling", "names"] {
        let seen = face.lstat(&at(path)).unwrap().attributes;
        assert_eq!((seen.uid, seen.gid), (1234, 5678), "{path}");
    }
}
