//! Real processes that push into one vault, and that are killed while they do: this very binary run again.

use crate::devices::push_rounds;
use crate::fixture::{Source, Tree};
use backupengine_model::SessionNo;
use backupengine_store::FolderStore;
use backupengine_testkit::build::{TestVault, VAULT};
use backupengine_testkit::now;
use backupengine_testkit::shown::everything;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Tells a process that it is the child of a test, and where to work.
const FOLDER: &str = "PROTOCOL_CHILD_FOLDER";
const SOURCE: &str = "PROTOCOL_CHILD_SOURCE";
const DEVICE: &str = "PROTOCOL_CHILD_DEVICE";

fn run_again(test: &str, folder: &Path, source: &Path, device: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--test-threads=1"])
        .env(FOLDER, folder)
        .env(SOURCE, source)
        .env(DEVICE, device)
        // A killed child's temporary folders go with the vault's.
        .env("TMPDIR", folder.parent().unwrap())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn child() -> Option<(TestVault, PathBuf, String)> {
    let folder = std::env::var_os(FOLDER)?;
    let source = PathBuf::from(std::env::var_os(SOURCE)?);
    Some((open(Path::new(&folder)), source, std::env::var(DEVICE).unwrap()))
}

fn vault_folder() -> PathBuf {
    std::env::var_os(FOLDER).unwrap().into()
}

/// Beside the vault: one state folder for each device, whichever process it runs in.
fn state_of(vault: PathBuf, device: &str) -> PathBuf {
    vault.with_file_name(format!("state-{device}"))
}

fn open(folder: &Path) -> TestVault {
    TestVault::around(Arc::new(FolderStore::open(folder).unwrap()))
}

#[test]
fn processes_push_side_by_side() {
    if let Some((vault, seed, device)) = child() {
        let seed = seed.to_str().unwrap().parse().unwrap();
        let made = push_rounds(&vault, &device, &state_of(vault_folder(), &device), &Source::new(seed), 3);
        assert_eq!(made.len(), 3);
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("vault");
    FolderStore::create(&folder, VAULT).unwrap();
    let test = "processes::processes_push_side_by_side";
    // Two processes are one device, as when a timer and a person push at once.
    let children: Vec<Child> = [("1", "laptop"), ("2", "laptop"), ("3", "desktop")]
        .map(|(seed, device)| run_again(test, &folder, Path::new(seed), device))
        .into();
    for mut child in children {
        assert!(child.wait().unwrap().success(), "a child failed");
    }
    let reader = open(&folder).reader();
    let list = reader.list().unwrap();
    assert_eq!(list.len(), 9);
    for snapshot in list.iter() {
        assert!(everything(&reader, snapshot.session).unwrap().len() > 25);
    }
    assert_eq!(fs::read_dir(folder.join("tmp")).unwrap().count(), 0, "a spool was left");
}

/// Where a push has got to, seen from outside.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Begun,
    Spooling,
    PackPut,
    RootPut,
}

fn reached(stage: Stage, folder: &Path, session: u32) -> bool {
    let spooled = |entry: fs::DirEntry| entry.metadata().is_ok_and(|found| found.len() > 0);
    match stage {
        Stage::Begun => fs::metadata(folder.join("ledger")).is_ok(),
        Stage::Spooling => fs::read_dir(folder.join("tmp")).unwrap().flatten().any(spooled),
        Stage::PackPut => folder.join(format!("p/{session:08x}/00000000")).exists(),
        Stage::RootPut => folder.join(format!("r/{session:08x}")).exists(),
    }
}

/// What a snapshot of the source as it is now must show.
pub(crate) fn expected_now(source: &Source) -> Tree {
    let vault = TestVault::in_memory();
    let session = vault.pusher("laptop").push(source.path());
    source.part_of(everything(&vault.reader(), session).unwrap())
}

#[test]
fn a_push_killed_anywhere_loses_nothing() {
    if let Some((vault, source, device)) = child() {
        let pusher = vault.pusher(&device);
        let mut config = pusher.config(&source);
        config.state = state_of(vault_folder(), &device);
        pusher.push_with(config).unwrap();
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("vault");
    FolderStore::create(&folder, VAULT).unwrap();
    let source = Source::new(9);
    let state = state_of(folder.clone(), "laptop");
    let mut known: Vec<(SessionNo, Tree)> = push_rounds(&open(&folder), "laptop", &state, &source, 1);
    let mut states_of_source = vec![expected_now(&source)];
    // Every snapshot that is known is there and unchanged; one that is new shows what the source once was.
    let mut check = |states_of_source: &[Tree]| {
        let reader = open(&folder).reader();
        let list = reader.list().unwrap();
        for (session, _) in &known {
            assert!(list.iter().any(|s| s.session == *session), "snapshot {session} is lost");
        }
        for snapshot in list.iter() {
            let shown = source.part_of(everything(&reader, snapshot.session).unwrap());
            match known.iter().find(|(session, _)| *session == snapshot.session) {
                Some((session, before)) => assert!(shown == *before, "snapshot {session} changed"),
                None => {
                    assert!(states_of_source.contains(&shown), "snapshot {} was never so", snapshot.session);
                    known.push((snapshot.session, shown));
                }
            }
        }
        known.len()
    };
    let stages = [Stage::Begun, Stage::Spooling, Stage::PackPut, Stage::RootPut];
    let mut killed = 0;
    for round in 0..12u64 {
        source.change();
        states_of_source.push(expected_now(&source));
        let session = now(open(&folder).store.sessions()).unwrap().len() as u32 + 1;
        let stage = stages[round as usize % stages.len()];
        let test = "processes::a_push_killed_anywhere_loses_nothing";
        let mut child = run_again(test, &folder, source.path(), "laptop");
        while !reached(stage, &folder, session) && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_micros(700 * (round / 4)));
        child.kill().unwrap();
        killed += usize::from(!child.wait().unwrap().success());
        let before = check(&states_of_source);
        if round % 3 == 2 {
            push_rounds(&open(&folder), "laptop", &state, &source, 1);
            assert!(check(&states_of_source) > before);
        }
    }
    assert!(killed >= 6, "only {killed} of 12 pushes were killed before their end");
    let other = state_of(folder.clone(), "desktop");
    push_rounds(&open(&folder), "desktop", &other, &source, 1);
    check(&states_of_source);
    assert_eq!(fs::read_dir(folder.join("tmp")).unwrap().count(), 0, "a killed push's spool was not swept");
}
