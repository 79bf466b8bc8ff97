//! What becomes of what is there already, and where things land.

use super::fake::Fake;
use super::fidelity::{oddities, same_tree};
use super::{Ground, Listener, failed, is_root, run, run_on, select, with};
use crate::{Destination, Overwrite, RestoreConfig, RestoreError, Selection, restore};
use backupengine_model::{SessionNo, TreePath};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

fn small() -> Fake {
    let mut fake = Fake::new();
    let dir = fake.dir(0, "dir");
    fake.file(dir, "a", b"from the snapshot");
    fake.file(dir, "b", b"b");
    fake.link(dir, "link", "a");
    fake
}

#[test]
fn never_leaves_what_is_there() {
    let fake = small();
    let ground = Ground::new();
    fs::create_dir(ground.at("dir")).unwrap();
    fs::write(ground.at("dir/a"), "mine").unwrap();
    symlink("mine", ground.at("dir/link")).unwrap();
    fs::set_permissions(ground.at("dir"), fs::Permissions::from_mode(0o711)).unwrap();
    let report = run(&fake, &ground, &with(|c| c.overwrite = Overwrite::Never));
    assert_eq!((report.stats.files_skipped, report.stats.files_written), (2, 1));
    assert_eq!(fs::read(ground.at("dir/a")).unwrap(), b"mine");
    assert_eq!(fs::read(ground.at("dir/b")).unwrap(), b"b");
    assert_eq!(fs::read_link(ground.at("dir/link")).unwrap().to_str(), Some("mine"));
    assert_eq!(fs::metadata(ground.at("dir")).unwrap().mode() & 0o7777, 0o711);
}

#[test]
fn changed_replaces_what_differs_and_puts_attributes_right() {
    let fake = small();
    let ground = Ground::new();
    run(&fake, &ground, &RestoreConfig::default());
    fs::write(ground.at("dir/a"), "changed").unwrap();
    fs::set_permissions(ground.at("dir/b"), fs::Permissions::from_mode(0o777)).unwrap();
    let extra = (b"user.extra".as_slice(), b"x".as_slice());
    rustix::fs::setxattr(ground.at("dir/b"), extra.0, extra.1, rustix::fs::XattrFlags::empty()).unwrap();
    fs::remove_file(ground.at("dir/link")).unwrap();
    symlink("elsewhere", ground.at("dir/link")).unwrap();
    fs::write(ground.at("dir/not in the snapshot"), "stays").unwrap();
    let report = run(&fake, &ground, &RestoreConfig::default());
    assert_eq!((report.stats.files_written, report.stats.files_unchanged, report.stats.specials), (1, 1, 1));
    assert_eq!(fs::read(ground.at("dir/not in the snapshot")).unwrap(), b"stays");
    fs::remove_file(ground.at("dir/not in the snapshot")).unwrap();
    run(&fake, &ground, &RestoreConfig::default());
    same_tree(&fake, &ground);
}

#[test]
fn always_writes_again() {
    let fake = small();
    let ground = Ground::new();
    run(&fake, &ground, &RestoreConfig::default());
    let before = fs::metadata(ground.at("dir/a")).unwrap().ino();
    let keep = fs::File::open(ground.at("dir/a")).unwrap();
    let report = run(&fake, &ground, &with(|c| c.overwrite = Overwrite::Always));
    assert_eq!((report.stats.files_written, report.stats.specials), (2, 1));
    assert_ne!(fs::metadata(ground.at("dir/a")).unwrap().ino(), before);
    assert_eq!(keep.metadata().unwrap().nlink(), 0, "the old file is replaced, not written over");
    same_tree(&fake, &ground);
}

#[test]
fn other_kinds_in_the_way_go_only_if_one_step_removes_them() {
    let fake = small();
    let ground = Ground::new();
    fs::create_dir_all(ground.at("dir/a")).unwrap();
    fs::create_dir_all(ground.at("dir/b/full")).unwrap();
    fs::create_dir_all(ground.at("dir/link")).unwrap();
    let report = run_on(&fake, "/", &ground.inside(), &RestoreConfig::default()).unwrap();
    assert_eq!(failed(&report), [ground.at("dir/b")]);
    assert!(ground.at("dir/b/full").is_dir(), "a full folder was removed");
    assert_eq!(fs::read(ground.at("dir/a")).unwrap(), b"from the snapshot");
    // A file where a folder should be.
    let ground = Ground::new();
    fs::write(ground.at("dir"), "in the way").unwrap();
    let never = run_on(&fake, "/", &ground.inside(), &with(|c| c.overwrite = Overwrite::Never)).unwrap();
    assert_eq!(failed(&never), [ground.at("dir")]);
    assert_eq!(fs::read(ground.at("dir")).unwrap(), b"in the way");
    run(&fake, &ground, &RestoreConfig::default());
    same_tree(&fake, &ground);
}

#[test]
fn hard_links_are_made_again_where_copies_lie() {
    let mut fake = Fake::new();
    let first = fake.file(0, "first", b"shared");
    fake.hard(0, "second", first);
    fake.file(0, "third", b"shared");
    let ground = Ground::new();
    run(&fake, &ground, &RestoreConfig::default());
    // All equal by size and time, but linked in another way.
    fs::remove_file(ground.at("second")).unwrap();
    fs::remove_file(ground.at("third")).unwrap();
    fs::hard_link(ground.at("first"), ground.at("third")).unwrap();
    fs::copy(ground.at("first"), ground.at("second")).unwrap();
    run(&fake, &ground, &RestoreConfig::default());
    same_tree(&fake, &ground);
    let ino = |name: &str| fs::metadata(ground.at(name)).unwrap().ino();
    assert_eq!(ino("first"), ino("second"));
    assert_ne!(ino("first"), ino("third"));
}

#[test]
fn in_place_puts_back_what_was_pushed_and_leaves_what_is_above() {
    let ground = Ground::new();
    let mut fake = Fake::new();
    let (mut at, mut leading) = (0, Vec::new());
    for name in ground.base.components().skip(1) {
        at = fake.dir(at, name.as_os_str().to_str().unwrap());
        leading.push(at);
    }
    let home = fake.dir(at, "home");
    let docs = fake.dir(home, "docs");
    fake.file(docs, "f", b"back again");
    let path = |name: &str| ground.at(name).into_os_string().into_encoded_bytes();
    fake.sources = vec![path("home/docs")];
    fs::create_dir(ground.at("home")).unwrap();
    fs::set_permissions(ground.at("home"), fs::Permissions::from_mode(0o701)).unwrap();
    let base_mode = fs::metadata(&ground.base).unwrap().mode();
    let place = Destination::InPlace;
    for selection in ["/".to_owned(), ground.at("home/docs").to_str().unwrap().to_owned()] {
        let report = run_on(&fake, &selection, &place, &RestoreConfig::default()).unwrap();
        assert!(report.failures.is_empty(), "{:?}", report.failures);
        assert_eq!(fs::read(ground.at("home/docs/f")).unwrap(), b"back again");
        assert_eq!(fs::metadata(ground.at("home")).unwrap().mode() & 0o7777, 0o701);
        assert_eq!(fs::metadata(ground.at("home/docs")).unwrap().mode() & 0o7777, 0o750);
        assert_eq!(fs::metadata(&ground.base).unwrap().mode(), base_mode);
        fs::remove_dir_all(ground.at("home/docs")).unwrap();
    }
    // What leads there is made where it is missing, with its attributes.
    fs::remove_dir(ground.at("home")).unwrap();
    run_on(&fake, ground.at("home/docs/f").to_str().unwrap(), &place, &RestoreConfig::default()).unwrap();
    assert_eq!(fs::metadata(ground.at("home")).unwrap().mode() & 0o7777, 0o750);
    // And never written through, where it is a link now.
    let elsewhere = Ground::new();
    fs::remove_dir_all(ground.at("home")).unwrap();
    symlink(&elsewhere.base, ground.at("home")).unwrap();
    let report = run_on(&fake, "/", &place, &RestoreConfig::default()).unwrap();
    assert_eq!(failed(&report), [ground.at("home")]);
    assert!(elsewhere.names().is_empty() && ground.at("home").is_symlink());
}

#[test]
fn selections_that_make_no_sense_are_refused_before_anything_is_written() {
    let fake = small();
    let ground = Ground::new();
    let run = |selections: &[Selection]| {
        let listener = Listener::default();
        let config = RestoreConfig::default();
        restore(&fake, &fake, selections, &ground.inside(), &config, &listener.stop, &listener)
    };
    assert!(matches!(run(&[select("/dir/none")]), Err(RestoreError::NotFound { .. })));
    assert!(matches!(run(&[select("/dir/a/below")]), Err(RestoreError::NotFound { .. })));
    let other = Selection { session: SessionNo(99), path: TreePath::root() };
    assert!(matches!(run(&[other]), Err(RestoreError::NotFound { .. })));
    let twice = [select("/dir/a"), select("/dir/a")];
    assert!(matches!(run(&twice), Err(RestoreError::SameName { path }) if path == ground.at("a")));
    assert!(ground.names().is_empty());
    let both = run(&[select("/dir/a"), select("/dir/b")]).unwrap();
    assert_eq!(both.stats.files_written, 2);
    assert_eq!(ground.names(), ["a", "b"]);
    // A target that cannot be made.
    let into = Destination::Into(ground.at("a/below"));
    let error = run_on(&fake, "/", &into, &RestoreConfig::default()).unwrap_err();
    assert!(matches!(&error, RestoreError::Target { path, .. } if *path == ground.at("a/below")), "{error}");
}

/// Root may do everything, so this test runs itself again as somebody else.
#[test]
fn without_privilege_all_but_the_owner_comes_back() {
    const ENV: &str = "BACKUPENGINE_TEST_UNPRIVILEGED";
    const NAME: &str = "tests::policy::without_privilege_all_but_the_owner_comes_back";
    if is_root() {
        let ground = Ground::new();
        // The test binary may lie where only root gets to.
        fs::set_permissions(&ground.base, fs::Permissions::from_mode(0o777)).unwrap();
        fs::copy(std::env::current_exe().unwrap(), ground.at("test")).unwrap();
        let mut child = std::process::Command::new(ground.at("test"));
        child
            .args(["--exact", NAME, "--nocapture"])
            .env(ENV, "1")
            .env("TMPDIR", &ground.base)
            .current_dir("/");
        std::os::unix::process::CommandExt::gid(&mut child, 65_534);
        std::os::unix::process::CommandExt::uid(&mut child, 65_534);
        let output = child.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let ground = Ground::new();
    let mut fake = oddities(false);
    run(&fake, &ground, &RestoreConfig::default());
    same_tree(&fake, &ground);
    // Again: folders that its owner may not write to are no obstacle.
    run(&fake, &ground, &with(|c| c.overwrite = Overwrite::Always));
    same_tree(&fake, &ground);
    let theirs = fake.file(0, "theirs", b"x");
    fake.at(theirs).attributes.uid = 0;
    fake.at(theirs).attributes.mode = 0o6755;
    fake.at(theirs).xattrs = vec![(b"trusted.x".to_vec(), "t".into())];
    let report = run(&fake, &ground, &RestoreConfig::default());
    assert_eq!((report.stats.owners_refused, report.stats.xattrs_refused), (1, 1));
    let mode = fs::metadata(ground.at("theirs")).unwrap().mode() & 0o7777;
    assert_eq!(mode, 0o755, "setuid was given to another owner");
}
