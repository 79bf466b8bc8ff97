//! Ordinary tools find no difference between the mount and a disk with the same tree.

use crate::world::{Mount, World, fuse_is_wanted};
use backupengine_testkit::oracle::disk;
use std::path::Path;
use std::process::Command;

struct Both {
    mount: Mount,
    local: tempfile::TempDir,
    _world: World,
}

/// The oddities mounted, and written to a local disk.
fn both() -> Option<Both> {
    if !fuse_is_wanted() {
        return None;
    }
    let world = World::of_oddities();
    let local = tempfile::tempdir().unwrap();
    disk::write(&world.tree, local.path()).unwrap();
    let mount = Mount::of(&world.oracle);
    Some(Both { mount, local, _world: world })
}

/// Runs a program and gives what it said; fails where it did.
fn run(program: &str, arguments: &[&str], paths: &[&Path]) -> String {
    let output = Command::new(program).args(arguments).args(paths).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{program}: {}{}", said(&output.stdout), said(&output.stderr));
    said(&output.stdout)
}

#[test]
fn rsync_with_checksums_finds_no_difference() {
    let Some(both) = both() else { return };
    // Top folders: the mount's folder for the snapshot itself is not part of the tree. Three terabytes of
    // zeros are compared by other means.
    for top in ["names", "sizes", "links", "kinds", "xattrs", "times", "modes", "order", "deep", "owners"] {
        let there = both.local.path().join(top);
        if !there.exists() {
            continue;
        }
        for (from, to) in
            [(both.mount.snapshot().join(top), there.clone()), (there, both.mount.snapshot().join(top))]
        {
            let said = run(
                "rsync",
                &["-aHAXS", "--checksum", "--dry-run", "--itemize-changes", "--delete"],
                &[&from.join(""), &to],
            );
            assert_eq!(said, "", "{from:?} to {to:?}");
        }
    }
}

#[test]
fn diff_finds_no_difference() {
    let Some(both) = both() else { return };
    for top in ["names", "sizes", "links", "times", "order", "deep"] {
        let said = run(
            "diff",
            &["-r", "--no-dereference"],
            &[&both.mount.snapshot().join(top), &both.local.path().join(top)],
        );
        assert_eq!(said, "");
    }
}

#[test]
fn a_copy_is_what_was_pushed() {
    let Some(both) = both() else { return };
    let copy = tempfile::tempdir().unwrap();
    let top = both.mount.snapshot();
    let folders: Vec<_> = std::fs::read_dir(&top).unwrap().map(|entry| entry.unwrap().path()).collect();
    let folders: Vec<&Path> = folders.iter().map(|path| &**path).collect();
    run("cp", &["-a", "-t", &copy.path().display().to_string()], &folders);
    // All in one comparison, hard links across folders included; directories were written to by the copying.
    let leniency = backupengine_testkit::oracle::Leniency { directories: false, holes: false, blocks: true };
    for folder in folders {
        let name = folder.file_name().unwrap();
        let path = backupengine_testkit::oracle::sample::path(name.as_encoded_bytes());
        let found = disk::differences(&both._world.tree, &path, &copy.path().join(name), leniency);
        let real: Vec<_> = found.iter().filter(|line| !line.contains("kind: Directory")).collect();
        assert_eq!(real, [""; 0]);
    }
}

#[test]
fn tar_and_find_see_the_same_on_both() {
    let Some(both) = both() else { return };
    let format = "%y %m %U %G %s %T@ %n %l %P\\0";
    for top in ["names", "sizes", "sparse", "links", "kinds", "xattrs", "times", "modes", "order", "deep"] {
        let see = |root: &Path| {
            let said = run("find", &[], &[&root.join(top), Path::new("-printf"), Path::new(format)]);
            let mut lines: Vec<_> = said.split('\0').map(str::to_owned).collect();
            lines.sort();
            // Sizes of directories are the disk's own.
            lines.retain(|line| !line.starts_with("d "));
            lines
        };
        assert_eq!(see(&both.mount.snapshot()), see(both.local.path()));
    }
    let archive = |root: &Path| {
        run(
            "sh",
            &[
                "-c",
                "cd \"$0\" && tar --create --acls --xattrs --pax-option=delete=atime,delete=ctime --sort=name --exclude=kinds/socket --sparse \
                 names sizes links kinds times modes order | sha256sum",
            ],
            &[root],
        )
    };
    assert_eq!(archive(&both.mount.snapshot()), archive(both.local.path()));
}

#[test]
fn access_lists_are_shown_by_getfacl() {
    let Some(both) = both() else { return };
    if !disk::is_root() {
        return;
    }
    let see = |root: &Path| {
        run("getfacl", &["--absolute-names", "--omit-header", "--numeric"], &[&root.join("xattrs/acl")])
    };
    let shown = see(&both.mount.snapshot());
    assert!(shown.contains("user:1000:rw-"), "{shown}");
    assert_eq!(shown, see(both.local.path()));
}
