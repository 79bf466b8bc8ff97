//! A vault whose disk is full, or that may not be written, and one that lies in what is pushed.

use crate::{push, shown};
use backupengine_push::PushError;
use backupengine_source::NoticeKind;
use backupengine_store::{ErrorKind, FolderStore};
use backupengine_testkit::Seeded;
use backupengine_testkit::build::{TestVault, VAULT};
use backupengine_testkit::shown::differences_from_disk;
use backupengine_testkit::system::Tmpfs;
use std::fs;
use std::path::Path;
use std::sync::Arc;

fn noise(path: &Path, len: usize) {
    let mut bytes = vec![0; len];
    Seeded::new(len as u64).fill(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn store_kind(error: &PushError) -> Option<ErrorKind> {
    match error {
        PushError::Store(error) => Some(error.kind),
        _ => None,
    }
}

#[test]
fn a_vault_without_room_keeps_what_it_has() {
    let disk = Tmpfs::new("size=4m");
    let folder = disk.path().join("vault");
    let vault = TestVault::around(Arc::new(FolderStore::create(&folder, VAULT).unwrap()));
    let source = tempfile::tempdir().unwrap();
    noise(&source.path().join("small"), 100_000);
    let pusher = vault.pusher("laptop");
    let (first, _) = push(&pusher, source.path());
    let before = shown(&vault, first, source.path());

    noise(&source.path().join("large"), 6 << 20);
    for _ in 0..3 {
        let error = pusher.push_with(pusher.config(source.path())).unwrap_err();
        assert_eq!(store_kind(&error), Some(ErrorKind::Full), "{error:?}");
        assert_eq!(fs::read_dir(folder.join("tmp")).unwrap().count(), 0, "a spool was left");
        assert_eq!(vault.reader().list().unwrap().len(), 1);
        assert!(shown(&vault, first, source.path()) == before);
    }
    // With less to push it goes on.
    noise(&source.path().join("large"), 200_000);
    let (second, _) = push(&pusher, source.path());
    let tree = shown(&vault, second, source.path());
    assert_eq!(differences_from_disk(&tree, source.path()), Vec::<String>::new());
}

#[test]
fn a_vault_that_may_not_be_written_says_so() {
    let disk = Tmpfs::new("size=4m");
    let folder = disk.path().join("vault");
    let vault = TestVault::around(Arc::new(FolderStore::create(&folder, VAULT).unwrap()));
    let source = tempfile::tempdir().unwrap();
    noise(&source.path().join("small"), 100_000);
    let pusher = vault.pusher("laptop");
    let (first, _) = push(&pusher, source.path());
    // What is open there would keep the disk writable.
    drop((pusher, vault));
    disk.read_only(true);
    let vault = TestVault::around(Arc::new(FolderStore::open(&folder).unwrap()));
    let pusher = vault.pusher("laptop");
    let error = pusher.push_with(pusher.config(source.path())).unwrap_err();
    assert_eq!(store_kind(&error), Some(ErrorKind::Denied), "{error:?}");
    assert_eq!(shown(&vault, first, source.path()).len(), 2);
}

#[test]
fn a_vault_in_the_pushed_folder_is_skipped_and_named() {
    let source = tempfile::tempdir().unwrap();
    let folder = source.path().join("backups/vault");
    let vault = TestVault::around(Arc::new(FolderStore::create(&folder, VAULT).unwrap()));
    noise(&source.path().join("file"), 1000);
    let pusher = vault.pusher("laptop");
    let mut config = pusher.config(source.path());
    config.walk.skip = vec![folder.clone()];
    let report = pusher.push_with(config).unwrap();
    let told: Vec<_> = report.notices.iter().map(|notice| (notice.kind, notice.path.as_path())).collect();
    assert_eq!(told, [(NoticeKind::Skipped, folder.as_path())]);
    let tree = shown(&vault, report.snapshot.unwrap().0, source.path());
    assert!(tree.keys().all(|path| !path.ends_with(b"/ledger") && !path.ends_with(b"/BACKUPENGINE")));
    assert!(tree.keys().any(|path| path.ends_with(b"/file")));
}
