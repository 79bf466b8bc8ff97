//! A thousand folders one in the other; and fewer, with names whose path no system call takes.

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
/// With names of a hundred bytes the path has ten times the length that a system call takes.
const DEPTH_OF_LONG: usize = 400;
/// A file lies in every so many folders.
const EVERY: usize = 100;

/// Removes a chain of folders without recursion, and without a path that is too long.
struct Chain {
    temp: TempDir,
    name: String,
    depth: usize,
}

fn folder(path: &Path) -> OwnedFd {
    open(path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

impl Chain {
    fn new(name: &str, depth: usize) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let mut at = folder(temp.path());
        for level in 1..=depth {
            mkdirat(&at, name, Mode::from_raw_mode(0o755)).unwrap();
            at = openat(&at, name, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
            if level % EVERY == 0 {
                let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
                let file = openat(&at, "file", flags, Mode::from_raw_mode(0o644)).unwrap();
                fs::File::from(file).write_all(level.to_string().as_bytes()).unwrap();
            }
        }
        Self { temp, name: name.to_owned(), depth }
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        let top = folder(self.temp.path());
        for _ in 0..self.depth {
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
    let chain = Chain::new("d", DEPTH);
    let (vault, session, report) = pushed(&chain);
    assert!(report.notices.is_empty(), "{:?}", report.notices.first());
    assert_eq!(report.stats.files_new, (DEPTH / EVERY) as u64);
    assert_eq!(depth_shown(&vault.reader(), session, &chain), DEPTH);

    // Restored, it is pushed again from there, and shows the same.
    let again = Chain { temp: tempfile::tempdir().unwrap(), name: "d".to_owned(), depth: DEPTH };
    let copy = restored(&vault, session, &chain.temp.path().join("d"), again.temp.path());
    assert_eq!(copy, again.temp.path().join("d"));
    let (vault, session, report) = pushed(&again);
    assert!(report.notices.is_empty(), "{:?}", report.notices.first());
    assert_eq!(depth_shown(&vault.reader(), session, &again), DEPTH);
}

#[test]
fn folders_whose_path_is_longer_than_a_system_call_takes() {
    let chain = Chain::new(&"long-name-".repeat(10), DEPTH_OF_LONG);
    fs::write(chain.temp.path().join("beside"), b"still there").unwrap();
    let (vault, session, report) = pushed(&chain);
    let depth = depth_shown(&vault.reader(), session, &chain);
    assert!(report.notices.is_empty(), "{:?}", report.notices.first());
    assert_eq!(depth, DEPTH_OF_LONG);
    assert_eq!(report.stats.files_new, (DEPTH_OF_LONG / EVERY + 1) as u64);
    let again = Chain { temp: tempfile::tempdir().unwrap(), name: chain.name.clone(), depth: DEPTH_OF_LONG };
    restored(&vault, session, &chain.temp.path().join(&chain.name), again.temp.path());
    let (vault, session, _) = pushed(&again);
    assert_eq!(depth_shown(&vault.reader(), session, &again), depth);
}
