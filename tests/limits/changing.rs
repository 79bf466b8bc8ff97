//! Files that go or change under the push.
//!
//! The moment is exact: a folder that holds something to be skipped is told of when its listing is complete and
//! before any file of it is opened. What is done in that moment happens between listing and reading.

use crate::shown;
use backupengine_model::{NodeFlags, SessionNo};
use backupengine_push::{Observer, PushReport, PushStats};
use backupengine_source::{Notice, NoticeKind};
use backupengine_testkit::build::{Pusher, TestVault};
use backupengine_testkit::shown::differences_from_disk;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

const SKIPPED: &str = "skipped";

/// Does something once, when the folder is listed and nothing of it was read yet.
struct Between<'a>(Mutex<Option<Box<dyn FnOnce() + Send + 'a>>>);

impl Observer for Between<'_> {
    fn progress(&self, _stats: &PushStats, _current: &Path) {}
    fn notice(&self, notice: &Notice) {
        if notice.kind == NoticeKind::Skipped
            && let Some(step) = self.0.lock().unwrap().take()
        {
            step();
        }
    }
}

fn source() -> TempDir {
    let source = tempfile::tempdir().unwrap();
    fs::create_dir(source.path().join(SKIPPED)).unwrap();
    fs::write(source.path().join("steady"), b"steady").unwrap();
    source
}

/// Pushes with `step` between listing and reading; the folder to skip is the cue.
fn push_between<'a>(
    vault: &TestVault,
    pusher: &Pusher,
    source: &Path,
    step: impl FnOnce() + Send + 'a,
) -> (SessionNo, PushReport) {
    let mut config = pusher.config(source);
    config.walk.skip = vec![source.join(SKIPPED)];
    let between = Between(Mutex::new(Some(Box::new(step))));
    let report = pusher.push_to(&vault.store, config, &between).unwrap();
    assert!(between.0.lock().unwrap().is_none(), "the cue did not come");
    (report.snapshot.unwrap().0, report)
}

fn key(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// Kinds of the notices about one path.
fn told(report: &PushReport, path: &Path) -> Vec<NoticeKind> {
    report.notices.iter().filter(|notice| notice.path == path).map(|notice| notice.kind).collect()
}

/// Victims of every way a file is read: inline, bundled, whole, streamed.
const SIZES: [usize; 4] = [50, 20_000, 300_000, 9 << 20];

fn victims(source: &Path) -> Vec<PathBuf> {
    SIZES.iter().map(|size| source.join(format!("victim-{size}"))).collect()
}

#[test]
fn a_file_that_vanishes_is_left_out_and_told() {
    let (vault, source) = (TestVault::in_memory(), source());
    let pusher = vault.pusher("laptop");
    let victims = victims(source.path());
    for (path, size) in victims.iter().zip(SIZES) {
        fs::write(path, vec![1; size]).unwrap();
    }
    let (session, report) = push_between(&vault, &pusher, source.path(), || {
        victims.iter().for_each(|path| fs::remove_file(path).unwrap());
    });
    let tree = shown(&vault, session, source.path());
    for path in &victims {
        assert_eq!(told(&report, path), [NoticeKind::Vanished], "{}", path.display());
        assert!(!tree.contains_key(key(path)), "{} is shown", path.display());
    }
    assert_eq!(report.stats.errors, 0, "files come and go: that is no error");
    assert_eq!(tree[key(&source.path().join("steady"))].bytes, b"steady");
}

#[test]
fn a_file_that_vanishes_at_the_second_push_is_not_taken_over() {
    let (vault, source) = (TestVault::in_memory(), source());
    let pusher = vault.pusher("laptop");
    let path = source.path().join("victim");
    fs::write(&path, b"first").unwrap();
    let (first, _) = push_between(&vault, &pusher, source.path(), || {});
    fs::write(&path, b"second, longer").unwrap();
    let (second, _) = push_between(&vault, &pusher, source.path(), || fs::remove_file(&path).unwrap());
    assert_eq!(shown(&vault, first, source.path())[key(&path)].bytes, b"first");
    assert!(!shown(&vault, second, source.path()).contains_key(key(&path)));
}

/// What is stored is what was read, with the attributes it had then; and the next push knows.
#[test]
fn a_file_that_changes_after_it_was_listed_is_stored_as_read() {
    let (vault, source) = (TestVault::in_memory(), source());
    let pusher = vault.pusher("laptop");
    let victims = victims(source.path());
    for (path, size) in victims.iter().zip(SIZES) {
        fs::write(path, vec![1; size]).unwrap();
    }
    let (session, report) = push_between(&vault, &pusher, source.path(), || {
        for (path, size) in victims.iter().zip(SIZES) {
            fs::write(path, vec![2; size + 7]).unwrap();
        }
    });
    assert!(report.notices.iter().all(|notice| notice.kind == NoticeKind::Skipped), "{:?}", report.notices);
    let tree = shown(&vault, session, source.path());
    for (path, size) in victims.iter().zip(SIZES) {
        let file = &tree[key(path)];
        assert!(file.bytes == vec![2; size + 7], "{} was not stored as it was read", path.display());
        assert_eq!(file.attributes.size, size as u64 + 7);
        assert!(!file.attributes.flags.contains(NodeFlags::TORN));
    }
    let (again, _) = push_between(&vault, &pusher, source.path(), || {});
    fs::remove_dir(source.path().join(SKIPPED)).unwrap();
    let mut tree = shown(&vault, again, source.path());
    // The folder's own time moved when the folder to skip was removed just now.
    tree.remove(key(source.path()));
    let differences = differences_from_disk(&tree, source.path());
    assert_eq!(differences.len(), 1, "{differences:?}");
}

/// A pipe in its place must not block, a link must not be followed, a folder must not be read as a file.
#[test]
fn a_file_that_becomes_something_else_is_not_read() {
    let (vault, source) = (TestVault::in_memory(), source());
    let pusher = vault.pusher("laptop");
    let at = |name: &str| source.path().join(name);
    fs::write(at("elsewhere"), b"not asked for").unwrap();
    let names = ["became-pipe", "became-link", "became-folder"];
    for name in names {
        fs::write(at(name), vec![1; 30_000]).unwrap();
    }
    let (session, report) = push_between(&vault, &pusher, source.path(), || {
        for name in names {
            fs::remove_file(at(name)).unwrap();
        }
        mknodat(CWD, at("became-pipe"), FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
        symlink("elsewhere", at("became-link")).unwrap();
        fs::create_dir(at("became-folder")).unwrap();
    });
    let tree = shown(&vault, session, source.path());
    for name in names {
        assert_eq!(told(&report, &at(name)).len(), 1, "{name}: {:?}", report.notices);
        assert!(!tree.contains_key(key(&at(name))), "{name} is shown");
    }
    assert_eq!(tree[key(&at("steady"))].bytes, b"steady");
}

/// Whatever is read of it, its size and bytes agree, and it is marked.
#[test]
fn a_file_that_never_holds_still_is_marked() {
    let (vault, source) = (TestVault::in_memory(), source());
    let pusher = vault.pusher("laptop");
    let path = source.path().join("log");
    fs::write(&path, vec![b'.'; 24 << 20]).unwrap();
    let stop = AtomicBool::new(false);
    let (session, report) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut log = fs::OpenOptions::new().append(true).open(&path).unwrap();
            while !stop.load(Ordering::Relaxed) {
                log.write_all(b"x").unwrap();
            }
        });
        let pushed = push_between(&vault, &pusher, source.path(), || {});
        stop.store(true, Ordering::Relaxed);
        pushed
    });
    assert_eq!(told(&report, &path), [NoticeKind::Torn]);
    let file = &shown(&vault, session, source.path())[key(&path)];
    assert!(file.attributes.flags.contains(NodeFlags::TORN));
    assert_eq!(file.bytes.len() as u64, file.attributes.size);
    assert!(file.bytes.len() >= 24 << 20);
    assert!(file.bytes.iter().all(|byte| *byte == b'.' || *byte == b'x'));

    // Still again, it is read again and no longer marked, though nothing else tells that it was torn.
    let (again, report) = push_between(&vault, &pusher, source.path(), || {});
    assert_eq!(told(&report, &path), []);
    let file = &shown(&vault, again, source.path())[key(&path)];
    assert!(!file.attributes.flags.contains(NodeFlags::TORN));
    assert!(file.bytes == fs::read(&path).unwrap());
}

#[test]
fn a_folder_that_vanishes_does_not_end_the_push() {
    let (vault, source) = (TestVault::in_memory(), source());
    let pusher = vault.pusher("laptop");
    let folder = source.path().join("folder");
    for sub in 0..50 {
        fs::create_dir_all(folder.join(format!("{sub}/deeper"))).unwrap();
        fs::write(folder.join(format!("{sub}/deeper/file")), vec![1; 5000]).unwrap();
    }
    let (session, report) = push_between(&vault, &pusher, source.path(), || {
        fs::remove_dir_all(&folder).unwrap();
    });
    let tree = shown(&vault, session, source.path());
    assert_eq!(tree[key(&source.path().join("steady"))].bytes, b"steady");
    // Listing runs ahead, so some of it may have been seen; no file is shown whose bytes were not read.
    for (path, file) in tree.iter().filter(|(path, _)| path.ends_with(b"/deeper/file")) {
        assert!(file.bytes == vec![1; 5000], "{} is shown without its bytes", path.escape_ascii());
    }
    assert_eq!(report.stats.errors, 0, "{:?}", report.notices);
}
