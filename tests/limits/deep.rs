//! A thousand folders one in the other, with short names and with names whose path no system call takes.

use crate::{push, restored};
use backupengine_model::{ContentReader, Node, NodeId, SessionNo, TreeReader};
use backupengine_push::PushReport;
use backupengine_testkit::build::TestVault;
use backupengine_vault::Vault;
use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, open, openat, renameat, unlinkat};
use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;
use tempfile::TempDir;

const DEPTH: usize = 1000;
/// A file lies in every so many folders.
const EVERY: usize = 100;

/// Removes a chain of folders without recursion, and without a path that is too long.
struct Chain {
    temp: TempDir,
    name: String,
}

fn folder(path: &Path) -> OwnedFd {
    open(path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

impl Chain {
    fn new(name: &str) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let mut at = folder(temp.path());
        for level in 1..=DEPTH {
            mkdirat(&at, name, Mode::from_raw_mode(0o755)).unwrap();
            at = openat(&at, name, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
            if level % EVERY == 0 {
                let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
                let file = openat(&at, "file", flags, Mode::from_raw_mode(0o644)).unwrap();
                fs::File::from(file).write_all(level.to_string().as_bytes()).unwrap();
            }
        }
        Self { temp, name: name.to_owned() }
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        let top = folder(self.temp.path());
        for _ in 0..DEPTH {
            let Ok(first) = openat(&top, &self.name, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            else {
                break;
            };
            unlinkat(&first, "file", AtFlags::empty()).ok();
            renameat(&first, &self.name, &top, "next").ok();
            unlinkat(&top, &self.name, AtFlags::REMOVEDIR).ok();
            renameat(&top, "next", &top, &self.name).ok();
        }
    }
}

fn pushed(chain: &Chain) -> (TestVault, SessionNo, PushReport) {
    let vault = TestVault::in_memory();
    let (session, report) = push(&vault.pusher("laptop"), chain.temp.path());
    (vault, session, report)
}

/// Goes down the chain as far as the snapshot shows it, reading the files on the way.
fn depth_shown(reader: &Vault, session: SessionNo, chain: &Chain) -> usize {
    let step = |from: &Node, name: &[u8]| reader.lookup(from.id, name).unwrap();
    let mut at = reader.node(NodeId::root(session)).unwrap();
    for component in chain.temp.path().strip_prefix("/").unwrap() {
        at = step(&at, component.as_encoded_bytes()).unwrap();
    }
    let mut level = 0;
    while let Some(next) = step(&at, chain.name.as_bytes()) {
        assert_eq!(reader.parent(next.id).unwrap(), at.id);
        at = next;
        level += 1;
        if level % EVERY == 0 {
            let Some(file) = step(&at, b"file") else { return level };
            let mut out = [0; 10];
            let read = reader.read_at(file.id, 0, &mut out).unwrap();
            assert_eq!(&out[..read], level.to_string().as_bytes());
        }
    }
    level
}

#[test]
fn a_thousand_folders_one_in_the_other() {
    let chain = Chain::new("d");
    let (vault, session, report) = pushed(&chain);
    assert!(report.notices.is_empty(), "{:?}", report.notices.first());
    assert_eq!(report.stats.files_new, (DEPTH / EVERY) as u64);
    assert_eq!(depth_shown(&vault.reader(), session, &chain), DEPTH);

    // Restored, it is pushed again from there, and shows the same.
    let again = Chain { temp: tempfile::tempdir().unwrap(), name: "d".to_owned() };
    let copy = restored(&vault, session, &chain.temp.path().join("d"), again.temp.path());
    assert_eq!(copy, again.temp.path().join("d"));
    let (vault, session, report) = pushed(&again);
    assert!(report.notices.is_empty(), "{:?}", report.notices.first());
    assert_eq!(depth_shown(&vault.reader(), session, &again), DEPTH);
}

/// Their path has 101 000 bytes: far more than a system call takes.
#[test]
fn a_thousand_folders_with_long_names() {
    let chain = Chain::new(&"long-name-".repeat(10));
    fs::write(chain.temp.path().join("beside"), b"still there").unwrap();
    let (vault, session, report) = pushed(&chain);
    let depth = depth_shown(&vault.reader(), session, &chain);
    // Either all of it is there, or what is missing was told.
    assert!(depth == DEPTH || report.stats.errors > 0, "{depth} levels are shown, and no word of the others");
    assert!(depth >= 30, "{depth} levels are shown: those a path reaches must be there");
    assert!(report.stats.files_new >= 1);
    let again = Chain { temp: tempfile::tempdir().unwrap(), name: chain.name.clone() };
    restored(&vault, session, &chain.temp.path().join(&chain.name), again.temp.path());
    let (vault, session, _) = pushed(&again);
    assert_eq!(depth_shown(&vault.reader(), session, &again), depth);
}
