//! Several devices, and one device several times, side by side on one vault.

use crate::fixture::{Source, Tree, assert_same_as_disk};
use backupengine_model::SessionNo;
use backupengine_push::{Observer, PushStats};
use backupengine_source::{Notice, NoticeKind};
use backupengine_store::FolderStore;
use backupengine_testkit::build::{TestVault, VAULT};
use backupengine_testkit::shown::{differences_from_disk, everything};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Barrier, Mutex};

/// Pushes a changing source `rounds` times and says what each snapshot showed right after. The state is kept in
/// `state`, as different runs of one device share it.
pub(crate) fn push_rounds(
    vault: &TestVault,
    device: &str,
    state: &Path,
    source: &Source,
    rounds: usize,
) -> Vec<(SessionNo, Tree)> {
    let pusher = vault.pusher(device);
    let mut made = Vec::new();
    for round in 0..rounds {
        if round > 0 {
            source.change();
        }
        let mut config = pusher.config(source.path());
        config.state = state.to_owned();
        let report = pusher.push_with(config).unwrap_or_else(|e| panic!("{device}, round {round}: {e:?}"));
        let session = report.snapshot.unwrap().0;
        let shown = source.part_of(everything(&vault.reader(), session).unwrap());
        assert_same_as_disk(&shown, source.path());
        made.push((session, shown));
    }
    made
}

/// Every snapshot is there, whole, and shows what it showed when it was made.
pub(crate) fn assert_all_unchanged(vault: &TestVault, made: &[(&Source, SessionNo, Tree)]) {
    let reader = vault.reader();
    let listed: BTreeSet<SessionNo> = reader.list().unwrap().iter().map(|s| s.session).collect();
    assert_eq!(listed, made.iter().map(|(_, session, _)| *session).collect());
    for (source, session, shown) in made {
        assert!(
            source.part_of(everything(&reader, *session).unwrap()) == *shown,
            "snapshot {session} changed"
        );
    }
}

fn side_by_side(names: [&str; 3]) {
    // One state folder for each device, whichever thread it runs in.
    let states = tempfile::tempdir().unwrap();
    let state = |name: &str| states.path().join(name);
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("vault");
    FolderStore::create(&folder, VAULT).unwrap();
    let open = || TestVault::around(Arc::new(FolderStore::open(&folder).unwrap()));
    let sources = [1, 2, 3].map(Source::new);
    let made: Vec<(&Source, SessionNo, Tree)> = std::thread::scope(|scope| {
        let threads: Vec<_> = names
            .iter()
            .zip(&sources)
            .map(|(name, source)| {
                (source, scope.spawn(move || push_rounds(&open(), name, &state(name), source, 3)))
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|(source, thread)| thread.join().unwrap().into_iter().map(move |(s, t)| (source, s, t)))
            .collect()
    });
    assert_eq!(made.len(), 9);
    assert_all_unchanged(&open(), &made);
}

#[test]
fn three_devices_push_side_by_side() {
    side_by_side(["laptop", "desktop", "server"]);
}

/// Two runs of one device overlap: a timer and a person.
#[test]
fn one_device_pushes_side_by_side_with_itself() {
    side_by_side(["laptop", "laptop", "laptop"]);
}

/// Two machines that are copies of each other: one device, two state folders that do not know of each other. A
/// push may then fail because the other one was faster, but nothing is lost and pushing again helps.
#[test]
fn a_copied_device_loses_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("vault");
    FolderStore::create(&folder, VAULT).unwrap();
    let open = || TestVault::around(Arc::new(FolderStore::open(&folder).unwrap()));
    let sources = [4, 5].map(Source::new);
    let start = Barrier::new(2);
    let made: Vec<(&Source, SessionNo, Tree)> = std::thread::scope(|scope| {
        let threads = sources.each_ref().map(|source| {
            scope.spawn(|| {
                let vault = open();
                let pusher = vault.pusher("laptop");
                let mut made = Vec::new();
                for _ in 0..4 {
                    source.change();
                    start.wait();
                    let Ok(report) = pusher.push_with(pusher.config(source.path())) else { continue };
                    let session = report.snapshot.unwrap().0;
                    let shown = source.part_of(everything(&vault.reader(), session).unwrap());
                    assert_same_as_disk(&shown, source.path());
                    made.push((session, shown));
                }
                made
            })
        });
        let with_source = threads.into_iter().zip(&sources);
        with_source
            .flat_map(|(thread, source)| thread.join().unwrap().into_iter().map(move |(s, t)| (source, s, t)))
            .collect()
    });
    let vault = open();
    let reader = vault.reader();
    for (source, session, shown) in &made {
        assert!(
            source.part_of(everything(&reader, *session).unwrap()) == *shown,
            "snapshot {session} changed"
        );
    }
    for source in &sources {
        let session = vault.pusher("laptop").push(source.path());
        let shown = source.part_of(everything(&vault.reader(), session).unwrap());
        assert_same_as_disk(&shown, source.path());
    }
    // Whatever else was committed reads to the end.
    for snapshot in vault.reader().list().unwrap().iter() {
        everything(&vault.reader(), snapshot.session).unwrap();
    }
}

/// Another device's push comes and goes in the middle of a push.
#[test]
fn a_push_within_a_push() {
    struct Interloper<'a> {
        vault: &'a TestVault,
        source: &'a Source,
        made: Mutex<Option<SessionNo>>,
    }
    impl Observer for Interloper<'_> {
        fn progress(&self, _stats: &PushStats, _current: &Path) {}
        /// The cue is a folder to skip, told while the walk is under way.
        fn notice(&self, notice: &Notice) {
            assert_eq!(notice.kind, NoticeKind::Skipped);
            *self.made.lock().unwrap() = Some(self.vault.pusher("desktop").push(self.source.path()));
        }
    }

    let vault = TestVault::in_folder();
    let (outer, inner) = (Source::new(5), Source::new(6));
    let pusher = vault.pusher("laptop");
    let mut config = pusher.config(outer.path());
    config.walk.skip = vec![outer.path().join("empty")];
    let watcher = Interloper { vault: &vault, source: &inner, made: Mutex::new(None) };
    let report = pusher.push_to(&vault.store, config, &watcher).unwrap();
    let (outer_session, _) = report.snapshot.unwrap();
    let inner_session = watcher.made.into_inner().unwrap().expect("the cue did not come");
    std::fs::remove_dir(outer.path().join("empty")).unwrap();
    let reader = vault.reader();
    let mut tree = outer.part_of(everything(&reader, outer_session).unwrap());
    // Its time moved when the skipped folder was removed just now.
    tree.remove(outer.path().as_os_str().as_encoded_bytes());
    assert_eq!(differences_from_disk(&tree, outer.path()).len(), 1);
    assert_same_as_disk(&inner.part_of(everything(&reader, inner_session).unwrap()), inner.path());
    assert_eq!(reader.list().unwrap().len(), 2);
}
