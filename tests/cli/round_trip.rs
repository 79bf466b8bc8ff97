//! The main job, end to end: push a tree with every oddity, mount it, copy out with ordinary tools, restore.
use crate::program::{Person, fuse_is_wanted, shell};
use backupengine_testkit::oracle::sample::{oddities, path};
use backupengine_testkit::oracle::{Leniency, Tree, disk};
use std::path::{Path, PathBuf};

/// The oddities on disk in `src`, three terabytes of zeros apart: tools would read them all.
fn oddities_in(person: &Person) -> Tree {
    let mut tree = oddities();
    tree.remove(&path("sparse/three terabytes")).unwrap();
    disk::write(&tree, &person.at("src")).unwrap();
    tree
}

/// Where the mount shows what was pushed from `real`.
fn shown(mnt: &Path, real: &Path) -> PathBuf {
    mnt.join("latest").join(real.strip_prefix("/").unwrap())
}

/// What the tools say of the difference between two folders, as seen from both sides.
fn differences(person: &Person, one: &Path, other: &Path) -> String {
    let (one, other) = (one.display(), other.display());
    let rsync = "rsync -aHAXS --checksum -n --delete -i";
    let there = shell(person.path(), &format!("{rsync} '{one}/' '{other}/'"));
    let back = shell(person.path(), &format!("{rsync} '{other}/' '{one}/'"));
    format!("{there}{back}")
}

#[test]
fn a_tree_of_oddities_comes_out_as_it_went_in() {
    if !fuse_is_wanted() {
        return;
    }
    let person = Person::with_vault();
    let src = person.at("src");
    let tree = oddities_in(&person);
    person.run(["push", src.to_str().unwrap()]).expect(0);
    let mnt = person.mount(&[]);
    let seen = shown(&mnt, &src);

    assert_eq!(differences(&person, &src, &seen), "");
    // diff opens what it compares, so pipes, sockets and devices are left to rsync.
    let diff = "diff -r --no-dereference -x kinds -x devices -x owners src";
    assert_eq!(shell(person.path(), &format!("{diff} '{}'", seen.display())), "");

    let copy = person.at("copy");
    shell(person.path(), &format!("cp -a '{}' copy", seen.display()));
    assert_eq!(differences(&person, &src, &copy), "");

    let tar = format!(
        "mkdir untarred && tar -C '{}' --xattrs --acls -cf - . | tar -C untarred --xattrs --acls -xf -",
        seen.display()
    );
    shell(person.path(), &tar);
    shell(person.path(), "diff -r --no-dereference -x kinds -x devices -x owners src untarred");
    person.run(["unmount", mnt.to_str().unwrap()]).expect(0);

    let out = person.at("out");
    person
        .run(["restore", &format!("latest:{}", src.display()), "--to", out.to_str().unwrap(), "--verify"])
        .expect(0);
    let strict = Leniency { directories: true, holes: true, blocks: true };
    assert_eq!(disk::differences(&tree, &path(""), &out.join("src"), strict), Vec::<String>::new());
}

#[test]
fn restore_in_place_puts_back_what_was_lost() {
    let person = Person::with_vault();
    let src = person.at("src");
    person.write("src/keep", "keep");
    person.write("src/lost", "lost");
    person.write("src/spoilt", "as it was");
    person.run(["push", src.to_str().unwrap()]).expect(0);
    std::fs::remove_file(src.join("lost")).unwrap();
    person.write("src/spoilt", "as it should not be");
    person.write("src/new", "new");
    let what = format!("latest:{}", src.display());
    person.run(["restore", &what, "--in-place"]).expect(0);
    let read = |name: &str| std::fs::read_to_string(src.join(name)).unwrap();
    assert_eq!(
        (read("lost").as_str(), read("spoilt").as_str(), read("new").as_str()),
        ("lost", "as it was", "new")
    );
    person.write("src/spoilt", "mine now");
    let left = person.run(["restore", &what, "--in-place", "--overwrite", "never"]).expect(0);
    assert!(left.stdout.contains("left alone"), "{}", left.stdout);
    assert_eq!(read("spoilt"), "mine now");
}

#[test]
fn git_works_inside_the_mount() {
    if !fuse_is_wanted() {
        return;
    }
    let person = Person::with_vault();
    let src = person.at("src");
    let git = "git -c user.name=me -c user.email=me@example.org -c init.defaultBranch=main";
    shell(&src, &format!("{git} init -q . && seq 1000 > numbers && mkdir d && echo x > d/x && chmod +x d/x"));
    shell(
        &src,
        &format!("{git} add . && {git} commit -qm first && echo more >> numbers && {git} commit -qam second"),
    );
    person.run(["push", src.to_str().unwrap()]).expect(0);
    let mnt = person.mount(&[]);
    let seen = shown(&mnt, &src);
    let git = format!("{git} -c safe.directory='*' --no-optional-locks");
    assert_eq!(shell(&seen, &format!("{git} status --porcelain")), "");
    assert_eq!(shell(&seen, &format!("{git} log --format=%s")), "second\nfirst\n");
    shell(&seen, &format!("{git} fsck --strict --no-dangling"));
    person.run(["unmount", mnt.to_str().unwrap()]).expect(0);
}
