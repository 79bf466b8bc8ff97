//! A vault with three snapshots in a folder, copies of it to be damaged, and a reader that goes on after errors.

use backupengine_maintain::{CheckConfig, CheckObserver, CheckReport, Finding, Object, ReadData, check};
use backupengine_model::{
    ContentReader, DirSlot, Kind, NodeId, ReadError, ReadFailure, SessionNo, TreeReader,
};
use backupengine_store::FolderStore;
use backupengine_testkit::build::{Pusher, TestVault};
use backupengine_testkit::oracle::sample;
use backupengine_testkit::shown::Shown;
use backupengine_vault::Vault;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tempfile::TempDir;

/// What a reader showed of a snapshot: nodes that could be read, and what failed.
pub(crate) type Seen = BTreeMap<Vec<u8>, Result<Shown, ReadFailure>>;

/// The sound vault, what it shows, and the folder that was pushed.
pub(crate) struct Base {
    pub(crate) vault: TestVault,
    pub(crate) pusher: Pusher,
    pub(crate) source: TempDir,
    pub(crate) sessions: Vec<SessionNo>,
    pub(crate) shown: BTreeMap<SessionNo, Seen>,
    /// The ledger as it was before the last push.
    pub(crate) old_ledger: Vec<u8>,
}

impl Base {
    pub(crate) fn new() -> Self {
        Self::pushed(&[
            |at| {
                fs::write(at.join("large"), sample::bytes(2, 900_000)).unwrap();
                fs::write(at.join("notes/new"), b"second").unwrap();
            },
            |at| {
                fs::remove_file(at.join("notes/5")).unwrap();
                fs::write(at.join("notes/newer"), vec![b'3'; 40_000]).unwrap();
            },
        ])
    }

    /// One whose source only grew: everything that was ever pushed is still there.
    pub(crate) fn growing() -> Self {
        Self::pushed(&[
            |at| {
                fs::write(at.join("larger"), sample::bytes(2, 900_000)).unwrap();
                fs::write(at.join("notes/new"), vec![b'2'; 300]).unwrap();
            },
            |at| fs::write(at.join("notes/newer"), vec![b'3'; 40_000]).unwrap(),
        ])
    }

    /// A first push, and one after each of these changes.
    pub(crate) fn pushed(changes: &[fn(&Path)]) -> Self {
        let vault = TestVault::in_folder();
        vault.put_envelopes();
        let source = tempfile::tempdir().unwrap();
        let pusher = vault.pusher("laptop");
        fill(source.path());
        let mut sessions = vec![pusher.push(source.path())];
        let mut old_ledger = Vec::new();
        for change in changes {
            old_ledger = fs::read(vault.folder().unwrap().join("ledger")).unwrap();
            change(source.path());
            sessions.push(pusher.push(source.path()));
        }
        let reader = vault.reader();
        let shown = sessions.iter().map(|session| (*session, read_all(&reader, *session))).collect();
        let base = Self { vault, pusher, source, sessions, shown, old_ledger };
        assert!(base.shown.values().flat_map(BTreeMap::values).all(Result::is_ok));
        let report = checked(&reader);
        assert!(report.findings.is_empty(), "{:#?}", report.findings);
        base
    }

    /// A copy of the vault's folder.
    pub(crate) fn copy(&self) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(&self.vault.folder().unwrap(), copy.path());
        copy
    }

    /// A fresh reader on a copy; the error where it does not even open.
    pub(crate) fn reader_on(&self, folder: &Path) -> Result<Vault, String> {
        let store = FolderStore::open(folder).map_err(|error| error.to_string())?;
        let locked = backupengine_vault::Locked::open(Arc::new(store)).map_err(|error| error.to_string())?;
        let config = backupengine_vault::VaultConfig::default();
        locked.unlock_as(self.vault.keyring.clone(), config).map_err(|error| error.to_string())
    }

    /// Every listed snapshot read on a copy holds what it held, where it holds anything: what cannot be read,
    /// per snapshot.
    pub(crate) fn lost(&self, reader: &Vault, case: &str) -> BTreeMap<SessionNo, Vec<Vec<u8>>> {
        let mut lost = BTreeMap::new();
        let listed = reader.snapshots().unwrap();
        for (session, before) in self.shown.iter().filter(|(s, _)| listed.iter().any(|i| i.session == **s)) {
            let now = read_all(reader, *session);
            let mut missing = Vec::new();
            for (path, node) in &now {
                match (node, before.get(path)) {
                    (Ok(node), Some(Ok(old))) => {
                        assert!(node == old, "{case}: {} differs in {session}", text(path));
                    }
                    (Ok(_), _) => panic!("{case}: {} in {session} was never pushed", text(path)),
                    (Err(failure), _) => {
                        assert_eq!(*failure, ReadFailure::Damaged, "{case}: {}", text(path));
                    }
                }
            }
            for path in before.keys() {
                if !now.get(path).is_some_and(Result::is_ok) {
                    missing.push(path.clone());
                }
            }
            lost.insert(*session, missing);
        }
        lost
    }
}

/// Every kind of content: inline, bundled, chunks of several frames, holes, links, large attributes; enough
/// names for several leaves.
fn fill(at: &Path) {
    fs::create_dir_all(at.join("notes/deep/er")).unwrap();
    for number in 0..500 {
        let len = number * 37 % 3000;
        fs::write(at.join(format!("notes/{number}")), sample::bytes(number as u64, len)).unwrap();
    }
    for number in 0..200 {
        fs::create_dir(at.join(format!("notes/deep/er/{number}"))).unwrap();
    }
    fs::write(at.join("large"), sample::bytes(1, 1_500_000)).unwrap();
    fs::write(at.join("text"), "compressible ".repeat(60_000)).unwrap();
    let sparse = fs::File::create(at.join("sparse")).unwrap();
    sparse.set_len(10 << 20).unwrap();
    // Of frames that are not full: of such a file what does not shrink is read here and there.
    std::os::unix::fs::FileExt::write_all_at(&sparse, &sample::bytes(3, 700_001), 5 << 20).unwrap();
    std::os::unix::fs::symlink("large", at.join("link")).unwrap();
    fs::hard_link(at.join("large"), at.join("notes/same")).unwrap();
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// Reads all there is and notes what fails, instead of stopping there. A folder that cannot be listed stands
/// for everything in it.
pub(crate) fn read_all(reader: &Vault, session: SessionNo) -> Seen {
    let mut seen = Seen::new();
    let root = match reader.node(NodeId::root(session)) {
        Ok(root) => root,
        Err(error) => return Seen::from([(Vec::new(), Err(error.failure))]),
    };
    seen.insert(Vec::new(), Ok(Shown { attributes: root.attributes, bytes: Vec::new(), xattrs: Vec::new() }));
    let mut folders = vec![(Vec::new(), root.id)];
    while let Some((path, folder)) = folders.pop() {
        let (slots, failure) = list_all(reader, folder);
        if let Some(failure) = failure {
            seen.insert([&path[..], b"/*"].concat(), Err(failure));
        }
        for slot in slots {
            let below = [&path[..], b"/", &slot.name].concat();
            if slot.node.attributes.kind == Kind::Directory {
                folders.push((below.clone(), slot.node.id));
            }
            let found = reader.lookup(folder, &slot.name).map(|node| node.map(|node| node.id));
            if let Ok(found) = found {
                assert_eq!(found, Some(slot.node.id), "{}: listed and not found", text(&below));
            }
            seen.insert(below, show(reader, &slot).map_err(|error| error.failure));
        }
    }
    seen
}

fn list_all(reader: &Vault, folder: NodeId) -> (Vec<DirSlot>, Option<ReadFailure>) {
    let mut slots = Vec::new();
    loop {
        match TreeReader::list(reader, folder, slots.len() as u64, 100) {
            Ok(page) => {
                let end = page.end || page.slots.is_empty();
                slots.extend(page.slots);
                if end {
                    return (slots, None);
                }
            }
            Err(error) => return (slots, Some(error.failure)),
        }
    }
}

fn show(reader: &Vault, slot: &DirSlot) -> Result<Shown, ReadError> {
    let (id, attributes) = (slot.node.id, slot.node.attributes.clone());
    let bytes = match attributes.kind {
        Kind::File => {
            let mut bytes = vec![0xee; attributes.size as usize];
            let (mut done, len) = (0, bytes.len());
            while done < len {
                let to = len.min(done + 300_000);
                let read = reader.read_at(id, done as u64, &mut bytes[done..to])?;
                assert!(read > 0, "a file ended before its size");
                done += read;
            }
            bytes
        }
        Kind::Symlink => reader.read_link(id)?.to_vec(),
        _ => Vec::new(),
    };
    Ok(Shown { attributes, bytes, xattrs: reader.xattrs(id)? })
}

pub(crate) fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

struct Quiet;
impl CheckObserver for Quiet {}

/// A whole check, data included.
pub(crate) fn checked(reader: &Vault) -> CheckReport {
    check_with(reader, Some(ReadData { percent: 100, seed: 0 }))
}

pub(crate) fn check_with(reader: &Vault, read_data: Option<ReadData>) -> CheckReport {
    let config = CheckConfig { read_data, threads: 2, passphrase: true };
    check(reader, &config, &AtomicBool::new(false), &Quiet).unwrap()
}

/// Whether a report says that a node cannot be read. Runs of nodes and whole snapshots say it of all theirs.
pub(crate) fn names(findings: &[Finding], session: SessionNo, path: &[u8]) -> bool {
    let mut affected = findings.iter().flat_map(|finding| &finding.affected);
    affected.any(|affected| affected.session == session && (affected.to.is_some() || affected.path == path))
}

pub(crate) fn objects(findings: &[Finding]) -> Vec<Object> {
    findings.iter().map(|finding| finding.object).collect()
}

/// Path of a blob in a vault's folder.
pub(crate) fn at(folder: &Path, name: impl std::fmt::Display) -> PathBuf {
    folder.join(name.to_string())
}
