//! What processes can do to each other: real ones, this very binary run again.

use crate::folder::put;
use backupengine_model::{DeviceId, Timestamp};
use backupengine_store::{
    BlobKey, BlobReader, BlobWriter, EnvelopeId, ErrorKind, FolderStore, LedgerReader, LedgerWriter, Range,
};
use backupengine_testkit::{conformance::VAULT, now};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Tells a process that it is the child of a test, and which vault it works on.
const FOLDER: &str = "STORES_CHILD_FOLDER";
const NUMBER: &str = "STORES_CHILD_NUMBER";

fn run_again(test: &str, folder: &Path, number: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--test-threads=1"])
        .env(FOLDER, folder)
        .env(NUMBER, number.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// The vault and the child's number, if this process is a child.
fn child() -> Option<(FolderStore, usize)> {
    let folder = PathBuf::from(std::env::var_os(FOLDER)?);
    let number = std::env::var(NUMBER).unwrap().parse().unwrap();
    Some((FolderStore::open(&folder).unwrap(), number))
}

/// Runs the named test in `count` processes at once on a fresh vault.
fn in_processes(test: &str, count: usize) -> (tempfile::TempDir, FolderStore) {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("vault");
    let store = FolderStore::create(&folder, VAULT).unwrap();
    let children: Vec<Child> = (0..count).map(|number| run_again(test, &folder, number)).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success(), "a child failed");
    }
    (temp, store)
}

#[test]
fn processes_never_get_the_same_session() {
    if let Some((store, number)) = child() {
        let mut last = 0;
        for _ in 0..25 {
            let session =
                now(store.open_session(DeviceId([number as u8; 16]), Timestamp::default())).unwrap().session;
            assert!(session.0 > last);
            last = session.0;
        }
        return;
    }
    let (_temp, store) = in_processes("processes::processes_never_get_the_same_session", 4);
    let sessions = now(store.sessions()).unwrap();
    assert_eq!(sessions.iter().map(|s| s.session.0).collect::<Vec<_>>(), (1..=100).collect::<Vec<_>>());
    for device in 0..4u8 {
        assert_eq!(sessions.iter().filter(|s| s.device == DeviceId([device; 16])).count(), 25);
    }
}

#[test]
fn of_racing_processes_one_gets_the_name() {
    let won = |folder: &Path, number: usize| folder.with_file_name(format!("won-{number}"));
    if let Some((store, number)) = child() {
        let mut mine = Vec::new();
        for key in 0..50u8 {
            let bytes = vec![number as u8; 10_000];
            match put(&store, BlobKey::Envelope(EnvelopeId([key; 8])), &bytes) {
                Ok(()) => mine.push(key),
                Err(e) => assert_eq!(e.kind, ErrorKind::AlreadyExists, "{e}"),
            }
        }
        fs::write(won(store.folder(), number), mine).unwrap();
        return;
    }
    let (_temp, store) = in_processes("processes::of_racing_processes_one_gets_the_name", 3);
    let mut winners = [None; 50];
    for number in 0..3 {
        for key in fs::read(won(store.folder(), number)).unwrap() {
            assert_eq!(winners[usize::from(key)].replace(number), None, "two processes put {key}");
        }
    }
    for (key, winner) in winners.into_iter().enumerate() {
        let got = now(store.get(BlobKey::Envelope(EnvelopeId([key as u8; 8])), Range::Whole)).unwrap();
        assert_eq!(got.bytes, vec![winner.unwrap() as u8; 10_000]);
    }
    assert_eq!(fs::read_dir(store.folder().join("tmp")).unwrap().count(), 0);
}

#[test]
fn what_a_killed_process_left_is_swept_but_not_what_a_living_one_writes() {
    if let Some((store, _)) = child() {
        let mut spool = store.spool().unwrap();
        spool.write_all(&[1; 3 << 20]).unwrap();
        fs::write(store.folder().with_file_name("ready"), b"").unwrap();
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("vault");
    let store = FolderStore::create(&folder, VAULT).unwrap();
    let spools = || fs::read_dir(folder.join("tmp")).unwrap().count();
    let test = "processes::what_a_killed_process_left_is_swept_but_not_what_a_living_one_writes";
    let mut child = run_again(test, &folder, 0);
    while !temp.path().join("ready").exists() {
        assert!(child.try_wait().unwrap().is_none(), "the child ended early");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut own = store.spool().unwrap();
    own.write_all(b"mine").unwrap();
    now(store.open_session(DeviceId([1; 16]), Timestamp::default())).unwrap();
    assert_eq!(spools(), 2, "the child lives and writes");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(spools(), 2, "a killed process cleans nothing up");
    now(store.open_session(DeviceId([1; 16]), Timestamp::default())).unwrap();
    assert_eq!(spools(), 1, "our own spool stays");
    now(store.put(BlobKey::Envelope(EnvelopeId([1; 8])), own)).unwrap();
}

/// A process killed while it opens session after session leaves a ledger that reads, each time.
#[test]
fn killing_a_writer_of_the_ledger_never_damages_it() {
    if let Some((store, _)) = child() {
        loop {
            now(store.open_session(DeviceId([9; 16]), Timestamp::default())).unwrap();
        }
    }
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("vault");
    let store = FolderStore::create(&folder, VAULT).unwrap();
    let mut seen = 0;
    for round in 0..10u64 {
        let mut child = run_again("processes::killing_a_writer_of_the_ledger_never_damages_it", &folder, 0);
        while now(store.sessions()).unwrap().len() <= seen {
            assert!(child.try_wait().unwrap().is_none(), "the child ended early");
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_micros(200 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let last = now(store.open_session(DeviceId([1; 16]), Timestamp::default())).unwrap().session;
        let sessions = now(store.sessions()).unwrap();
        assert_eq!(sessions.len(), last.0 as usize, "a number was lost or given twice");
        seen = sessions.len();
    }
    assert_eq!(fs::read_dir(folder.join("tmp")).unwrap().count(), 0);
}
