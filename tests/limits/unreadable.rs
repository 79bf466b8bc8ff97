//! Files and folders that may not be read, with the rights of an ordinary user.

use crate::{push, shown};
use backupengine_model::Kind;
use backupengine_source::NoticeKind;
use backupengine_testkit::build::TestVault;
use backupengine_testkit::system::as_nobody;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn shut(path: &Path) {
    fs::set_permissions(path, Permissions::from_mode(0o000)).unwrap();
}

#[test]
fn what_may_not_be_read_is_told_and_the_rest_is_pushed() {
    let source = tempfile::tempdir().unwrap();
    fs::set_permissions(source.path(), Permissions::from_mode(0o755)).unwrap();
    let at = |name: &str| source.path().join(name);
    fs::create_dir(at("shut folder")).unwrap();
    fs::write(at("shut folder/inside"), b"secret").unwrap();
    fs::write(at("shut file"), b"secret").unwrap();
    fs::write(at("shut large file"), vec![1; 6 << 20]).unwrap();
    fs::write(at("open"), b"open").unwrap();
    for name in ["shut folder", "shut file", "shut large file"] {
        shut(&at(name));
    }
    let (report, tree) = as_nobody(|| {
        let vault = TestVault::in_memory();
        let pusher = vault.pusher("laptop");
        let (session, report) = push(&pusher, source.path());
        // Again, so that what could not be read is not taken for read before.
        let (second, again) = push(&pusher, source.path());
        assert_eq!(again.stats.errors, report.stats.errors);
        let tree = shown(&vault, session, source.path());
        assert!(shown(&vault, second, source.path()) == tree);
        (report, tree)
    });
    assert_eq!(report.stats.errors, 3);
    let mut told: Vec<_> = report.notices.iter().map(|notice| (notice.kind, notice.path.clone())).collect();
    told.sort_by(|a, b| a.1.cmp(&b.1));
    let unreadable = NoticeKind::Unreadable;
    let expected = ["shut file", "shut folder", "shut large file"].map(|name| (unreadable, at(name)));
    assert_eq!(told, expected);
    let file = &tree[at("open").as_os_str().as_bytes()];
    assert_eq!((file.attributes.kind, file.bytes.as_slice()), (Kind::File, &b"open"[..]));
    assert!(!tree.contains_key(at("shut folder/inside").as_os_str().as_bytes()));
    // A file without its bytes would be a lie.
    assert!(!tree.contains_key(at("shut file").as_os_str().as_bytes()));
    assert!(!tree.contains_key(at("shut large file").as_os_str().as_bytes()));
}
