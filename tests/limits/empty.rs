//! Little or nothing to push.

use crate::{assert_pushed_whole, push, shown};
use backupengine_push::PushError;
use backupengine_testkit::build::TestVault;
use std::fs;

#[test]
fn an_empty_folder_makes_a_snapshot() {
    let source = tempfile::tempdir().unwrap();
    let stats = assert_pushed_whole(source.path());
    assert_eq!((stats.files_new, stats.bytes_read), (0, 0));
}

#[test]
fn an_empty_file_alone_makes_a_snapshot() {
    let source = tempfile::tempdir().unwrap();
    let path = source.path().join("empty");
    fs::write(&path, b"").unwrap();
    let stats = assert_pushed_whole(&path);
    assert_eq!((stats.files_new, stats.bytes_read), (1, 0));
}

#[test]
fn what_became_empty_is_shown_empty() {
    let source = tempfile::tempdir().unwrap();
    fs::write(source.path().join("file"), b"full").unwrap();
    fs::create_dir(source.path().join("folder")).unwrap();
    let vault = TestVault::in_memory();
    let pusher = vault.pusher("laptop");
    let (full, _) = push(&pusher, source.path());
    fs::remove_file(source.path().join("file")).unwrap();
    fs::remove_dir(source.path().join("folder")).unwrap();
    let (empty, _) = push(&pusher, source.path());
    assert_eq!(shown(&vault, full, source.path()).len(), 3);
    assert_eq!(shown(&vault, empty, source.path()).len(), 1);
}

#[test]
fn no_source_is_an_error_and_stores_nothing() {
    let source = tempfile::tempdir().unwrap();
    let vault = TestVault::in_folder();
    let pusher = vault.pusher("laptop");
    let absent = source.path().join("absent");
    let error = pusher.push_with(pusher.config(&absent)).unwrap_err();
    assert!(matches!(error, PushError::Source(_)), "{error:?}");
    let mut none = pusher.config(source.path());
    none.walk.roots.clear();
    assert!(matches!(pusher.push_with(none).unwrap_err(), PushError::Source(_)));
    assert!(vault.reader().list().unwrap().is_empty());
    let folder = vault.folder().unwrap();
    for sub in ["p", "r", "tmp"] {
        assert_eq!(fs::read_dir(folder.join(sub)).unwrap().count(), 0, "{sub}");
    }
}
