//! Interruptions, damage, verification.

use super::fake::Fake;
use super::fidelity::{oddities, same_tree};
use super::{Ground, Listener, failed, is_root, run, run_on, select, with};
use crate::{Destination, RestoreConfig, RestoreError, restore};
use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

#[test]
fn an_interrupted_restore_leaves_no_half_file_and_goes_on() {
    let fake = oddities(is_root());
    let places: Vec<_> = fake.all().map(|(path, _)| path).collect();
    for stop_at in places.iter().step_by(4) {
        let ground = Ground::new();
        let listener = Listener { stop_at: Some(ground.at(stop_at)), ..Listener::default() };
        let config = with(|c| c.threads = 2);
        let result =
            restore(&fake, &fake, &[select("/")], &ground.inside(), &config, &listener.stop, &listener);
        assert!(matches!(result, Err(RestoreError::Interrupted)), "{result:?}");
        assert!(listener.failures.into_inner().unwrap().is_empty());
        assert!(!ground.names().iter().any(|name| name.contains(".backupengine-restore")));
        run(&fake, &ground, &config);
        same_tree(&fake, &ground);
    }
}

#[test]
fn stopping_inside_a_large_file_removes_it() {
    let mut fake = Fake::new();
    fake.file(0, "large", &vec![1; 9 << 20]);
    let ground = Ground::new();
    let listener = Listener { stop_at: Some(ground.at("large")), ..Listener::default() };
    let config = RestoreConfig::default();
    let result = restore(&fake, &fake, &[select("/")], &ground.inside(), &config, &listener.stop, &listener);
    assert!(matches!(result, Err(RestoreError::Interrupted)));
    assert!(ground.names().is_empty(), "{:?}", ground.names());
}

#[test]
fn what_a_killed_run_left_is_replaced() {
    let mut fake = Fake::new();
    let file = fake.file(0, "f", b"whole");
    let ground = Ground::new();
    let left = ground.at(&format!(".backupengine-restore.00000007.{file:08x}"));
    fs::write(&left, "hal").unwrap();
    run(&fake, &ground, &RestoreConfig::default());
    same_tree(&fake, &ground);
}

#[test]
fn damage_costs_what_is_damaged() {
    let mut fake = Fake::new();
    let dir = fake.dir(0, "dir");
    let bad = fake.file(dir, "bad", b"unreadable");
    fake.file(dir, "good", b"fine");
    let lost = fake.dir(0, "lost");
    fake.file(lost, "inside", b"x");
    let link = fake.link(0, "link", "dir");
    let tagged = fake.file(0, "tagged", b"");
    fake.at(tagged).xattrs = vec![(b"user.x".to_vec(), "1".into())];
    fake.damaged.extend([bad, lost, link, tagged]);
    let ground = Ground::new();
    let report = run_on(&fake, "/", &ground.inside(), &RestoreConfig::default()).unwrap();
    assert_eq!(failed(&report), ["dir/bad", "link", "lost", "tagged"].map(|name| ground.at(name)));
    assert_eq!(ground.names(), ["dir", "dir/good", "lost", "tagged"]);
    assert!(report.failures.iter().all(|f| f.message.contains("pack 3 is damaged")), "{:?}", report.failures);
}

#[test]
fn the_next_name_is_written_when_the_first_of_a_hard_link_fails() {
    let mut fake = Fake::new();
    let first = fake.file(0, "a", b"shared");
    fake.hard(0, "b", first);
    fake.hard(0, "c", first);
    let ground = Ground::new();
    fs::create_dir_all(ground.at("a/full")).unwrap();
    let report = run_on(&fake, "/", &ground.inside(), &RestoreConfig::default()).unwrap();
    assert_eq!(failed(&report), [ground.at("a")]);
    assert_eq!((report.stats.files_written, report.stats.hard_links), (2, 1));
    assert_eq!(fs::read(ground.at("c")).unwrap(), b"shared");
    // All fail: each is listed, once.
    let mut fake = Fake::new();
    let first = fake.file(0, "a", b"shared");
    for i in 0..200 {
        let id = fake.hard(0, &format!("b{i}"), first);
        fake.damaged.insert(id);
    }
    fake.damaged.insert(first);
    let report = run_on(&fake, "/", &Ground::new().inside(), &RestoreConfig::default()).unwrap();
    assert_eq!(report.stats.errors, 201);
}

#[test]
fn verification_finds_what_looks_the_same_and_is_not() {
    let mut fake = Fake::new();
    fake.file(0, "f", &vec![1; 5 << 20]);
    fake.sparse(0, "s", 1 << 20, &[(0, b"start")]);
    let ground = Ground::new();
    run(&fake, &ground, &RestoreConfig::default());
    for (name, at) in [("f", 4_500_000), ("s", 700_000)] {
        let file = fs::File::options().write(true).open(ground.at(name)).unwrap();
        let mtime = file.metadata().unwrap().modified().unwrap();
        file.write_all_at(b"x", at).unwrap();
        file.set_modified(mtime).unwrap();
    }
    let blind = run(&fake, &ground, &RestoreConfig::default());
    assert_eq!(blind.stats.files_unchanged, 2);
    let verified = run(&fake, &ground, &with(|c| c.verify = true));
    assert_eq!((verified.stats.files_unchanged, verified.stats.files_written), (0, 2));
    same_tree(&fake, &ground);
    assert_eq!(run(&fake, &ground, &with(|c| c.verify = true)).stats.files_unchanged, 2);
}

#[test]
fn what_reads_back_differently_is_not_put_in_place() {
    let mut fake = Fake::new();
    fake.file(0, "f", &vec![1; 100_000]);
    let ground = Ground::new();
    // Once the bytes are written and asked for again, something else has changed them on the disk.
    let (reads, base) = (AtomicUsize::new(0), ground.base.clone());
    fake.before_read = Box::new(move |_| {
        if reads.fetch_add(1, Relaxed) == 1 {
            let temporary = fs::read_dir(&base).unwrap().next().unwrap().unwrap().path();
            fs::File::options().write(true).open(temporary).unwrap().write_all_at(b"!", 50_000).unwrap();
        }
    });
    let report = run_on(&fake, "/", &ground.inside(), &with(|c| c.verify = true)).unwrap();
    assert_eq!(failed(&report), [ground.at("f")]);
    assert!(report.failures[0].message.contains("byte 50000"), "{:?}", report.failures);
    assert!(ground.names().is_empty());
}

/// /dev/full is no folder, so the full disk is a filesystem of one page.
#[test]
fn a_full_disk_ends_it() {
    if !is_root() {
        eprintln!("mounting a small filesystem needs root: not tested");
        return;
    }
    let ground = Ground::new();
    fs::create_dir(ground.at("small")).unwrap();
    struct Mounted(std::path::PathBuf);
    impl Drop for Mounted {
        fn drop(&mut self) {
            rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).unwrap();
        }
    }
    let at = Mounted(ground.at("small"));
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("none", &at.0, "tmpfs", flags, c"size=64k").unwrap();
    let mut fake = Fake::new();
    for i in 0..20 {
        fake.file(0, &format!("f{i}"), &vec![1; 30_000]);
    }
    let into = Destination::Into(at.0.clone());
    let error = run_on(&fake, "/", &into, &RestoreConfig::default()).unwrap_err();
    assert!(matches!(&error, RestoreError::Full { path, .. } if path.starts_with(&at.0)), "{error:?}");
    for entry in fs::read_dir(&at.0).unwrap() {
        let entry = entry.unwrap();
        assert!(entry.file_name().to_str().unwrap().starts_with('f'));
        assert_eq!(entry.metadata().unwrap().len(), 30_000);
    }
}
