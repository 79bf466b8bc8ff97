//! A clock that stands at 1970, or before, and files with times from anywhere.

use crate::{push, shown};
use backupengine_model::{SnapshotSelector, Timestamp, select};
use backupengine_testkit::build::TestVault;
use backupengine_testkit::oracle::disk::set_mtime;
use backupengine_testkit::shown::differences_from_disk;
use std::fs;

#[test]
fn pushes_by_a_clock_at_1970() {
    let source = tempfile::tempdir().unwrap();
    let vault = TestVault::in_folder();
    let pusher = vault.pusher("laptop");
    // Right, then reset to 1970, then before it, then right again.
    let times = [(1_700_000_000, 5), (0, 0), (-1, 999_999_999), (1_700_000_100, 0)];
    let mut sessions = Vec::new();
    for (round, (secs, nanos)) in times.into_iter().enumerate() {
        fs::write(source.path().join(format!("file-{round}")), [round as u8]).unwrap();
        let mut config = pusher.config(source.path());
        config.created = Timestamp { secs, nanos };
        let report = pusher.push_with(config).unwrap();
        assert!(report.notices.is_empty(), "{:?}", report.notices);
        assert_eq!(report.stats.files_new, 1, "each push goes on from the one before, whatever its time");
        sessions.push(report.snapshot.unwrap().0);
    }
    let reader = vault.reader();
    let list = reader.list().unwrap();
    let found: Vec<_> = list.iter().map(|s| (s.created.secs, s.created.nanos, s.session)).collect();
    let made = times.into_iter().zip(&sessions);
    let mut expected: Vec<_> = made.map(|((secs, nanos), session)| (secs, nanos, *session)).collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
    for (count, session) in (2..).zip(&sessions) {
        assert_eq!(shown(&vault, *session, source.path()).len(), count);
    }
    let latest = select(&list, &SnapshotSelector::Latest(0), None).unwrap();
    assert_eq!(latest.session, sessions[3]);
    let early = SnapshotSelector::AtOrBefore(Timestamp { secs: 0, nanos: 0 });
    assert_eq!(select(&list, &early, None).unwrap().session, sessions[1]);
}

#[test]
fn times_of_files_from_anywhere_are_kept() {
    let source = tempfile::tempdir().unwrap();
    for (number, secs) in
        [-2_000_000_000, -1, 0, 1, i64::from(u32::MAX), 15_000_000_000].into_iter().enumerate()
    {
        for nanos in [0, 1, 999_999_999] {
            let path = source.path().join(format!("{number}-{nanos}"));
            fs::write(&path, b"x").unwrap();
            set_mtime(&path, Timestamp { secs, nanos }).unwrap();
        }
    }
    let vault = TestVault::in_memory();
    let (session, _) = push(&vault.pusher("laptop"), source.path());
    let tree = shown(&vault, session, source.path());
    assert_eq!(differences_from_disk(&tree, source.path()), Vec::<String>::new());
}
