//! Nothing that a snapshot or the target holds leads out of the target.

use super::fake::Fake;
use super::{Ground, failed, run_on, with};
use crate::{Overwrite, RestoreConfig};
use backupengine_model::{Attributes, Kind};
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Mutex;

fn shape(fake: &mut Fake, kind: Kind) -> Attributes {
    let id = if kind == Kind::Directory { fake.dir(0, "shape") } else { fake.file(0, "shape", b"") };
    fake.at(id).attributes.clone()
}

#[test]
fn names_that_are_no_names_are_refused() {
    for kind in [Kind::Directory, Kind::File] {
        let mut fake = Fake::new();
        let attributes = shape(&mut fake, kind);
        for name in [&b".."[..], b".", b"", b"../up", b"/etc/evil", b"a/b", b"nul\0", &[b'n'; 256]] {
            let id = fake.add(0, name, attributes.clone());
            if kind == Kind::Directory {
                fake.file(id, "inside", b"escaped");
            }
        }
        let outer = Ground::new();
        let ground = outer.at("target");
        let into = crate::Destination::Into(ground.clone());
        let report = run_on(&fake, "/", &into, &RestoreConfig::default()).unwrap();
        assert_eq!(report.stats.errors, 8, "{:?}", report.failures);
        assert_eq!(outer.names(), ["target", "target/shape"]);
    }
}

#[test]
fn links_in_the_target_are_replaced_and_never_followed() {
    let mut fake = Fake::new();
    let dir = fake.dir(0, "dir");
    fake.file(dir, "f", b"from the snapshot");
    let file = fake.file(0, "file", b"from the snapshot");
    fake.hard(0, "hard", file);
    for overwrite in [Overwrite::Never, Overwrite::Changed, Overwrite::Always] {
        let (ground, outside) = (Ground::new(), Ground::new());
        fs::write(outside.at("file"), "precious").unwrap();
        symlink(&outside.base, ground.at("dir")).unwrap();
        symlink(outside.at("file"), ground.at("file")).unwrap();
        symlink(outside.at("file"), ground.at("hard")).unwrap();
        let report = run_on(&fake, "/", &ground.inside(), &with(|c| c.overwrite = overwrite)).unwrap();
        assert_eq!(outside.names(), ["file"]);
        assert_eq!(fs::read(outside.at("file")).unwrap(), b"precious");
        if overwrite == Overwrite::Never {
            assert_eq!(failed(&report), [ground.at("dir")]);
            assert_eq!(report.stats.files_skipped, 2);
        } else {
            assert!(report.failures.is_empty(), "{:?}", report.failures);
            assert!(!ground.at("dir").is_symlink() && !ground.at("file").is_symlink());
            assert_eq!(fs::read(ground.at("dir/f")).unwrap(), b"from the snapshot");
        }
    }
}

#[test]
fn a_link_swapped_in_while_it_runs_leads_nowhere() {
    let mut fake = Fake::new();
    let a = fake.dir(0, "a");
    let trigger = fake.file(a, "trigger", b"x");
    let deep = fake.dir(a, "deep");
    for i in 0..200 {
        fake.file(deep, &format!("f{i}"), b"escaped");
    }
    let (ground, outside) = (Ground::new(), Ground::new());
    fs::create_dir(outside.at("deep")).unwrap();
    // When the first file is read, its folder is moved away and a link put in its place.
    let (from, away, out) = (ground.at("a"), ground.at("moved"), outside.base.clone());
    let done = Mutex::new(false);
    fake.before_read = Box::new(move |id| {
        let mut done = done.lock().unwrap();
        if id == trigger && !*done {
            fs::rename(&from, &away).unwrap();
            symlink(&out, &from).unwrap();
            *done = true;
        }
    });
    let report = run_on(&fake, "/", &ground.inside(), &with(|c| c.threads = 1)).unwrap();
    assert_eq!(outside.names(), ["deep"], "something was written outside of the target");
    assert!(report.stats.errors > 0);
    assert!(ground.at("a").is_symlink());
}

#[test]
fn devices_and_pipes_in_the_target_are_not_opened() {
    let mut fake = Fake::new();
    fake.file(0, "pipe", b"x");
    let ground = Ground::new();
    for verify in [false, true] {
        drop(fs::remove_file(ground.at("pipe")));
        rustix::fs::mkfifoat(rustix::fs::CWD, ground.at("pipe"), rustix::fs::Mode::RUSR).unwrap();
        let report = run_on(&fake, "/", &ground.inside(), &with(|c| c.verify = verify)).unwrap();
        assert!(report.failures.is_empty());
        assert_eq!(fs::read(ground.at("pipe")).unwrap(), b"x");
    }
}
