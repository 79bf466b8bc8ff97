//! A folder that follows a tree, pushed into a vault and remembered by the oracle.

use backupengine_model::{ContentReader, NodeId, SessionNo, Timestamp, TreePath, TreeReader};
use backupengine_testkit::build::{Pusher, TestVault};
use backupengine_testkit::oracle::{Leniency, Oracle, Tree, differences, disk};
use backupengine_vault::Vault;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A directory's size is the disk's own matter; it is compared with the disk itself.
pub(crate) const LENIENT: Leniency = Leniency { directories: true, holes: false, blocks: true };

pub(crate) struct World {
    pub(crate) vault: TestVault,
    pub(crate) pusher: Pusher,
    pub(crate) oracle: Oracle,
    pub(crate) tree: Tree,
    /// Snapshots so far: the oracle's session and the vault's.
    pub(crate) sessions: Vec<(SessionNo, SessionNo)>,
    folder: TempDir,
    on_disk: Tree,
}

impl World {
    pub(crate) fn new(vault: TestVault) -> Self {
        let pusher = vault.pusher("laptop");
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("source")).unwrap();
        Self {
            vault,
            pusher,
            oracle: Oracle::new(),
            tree: Tree::new(),
            sessions: Vec::new(),
            folder,
            on_disk: Tree::new(),
        }
    }

    /// The pushed folder, by its real name.
    pub(crate) fn source(&self) -> PathBuf {
        self.folder.path().join("source").canonicalize().unwrap()
    }

    /// Where it stands in a snapshot.
    pub(crate) fn source_path(&self) -> TreePath {
        TreePath::from_slashes(self.source().as_os_str().as_bytes()).unwrap()
    }

    /// A folder of its own for other things.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        let at = self.folder.path().join(name);
        std::fs::create_dir(&at).unwrap();
        at
    }

    /// Brings the disk to the tree and pushes it.
    pub(crate) fn push(&mut self) -> SessionNo {
        let source = self.source();
        disk::bring_to(&self.on_disk, &self.tree, &source).unwrap();
        assert_eq!(disk_differences(&self.tree, &source, LENIENT), [""; 0], "the disk does not follow");
        self.on_disk = self.tree.clone();
        let session = self.pusher.push(&source);
        let created = Timestamp { secs: 1 + self.sessions.len() as i64, nanos: 0 };
        let theirs = self.oracle.push(&self.tree, "laptop", created, &[]);
        self.sessions.push((theirs, session));
        session
    }

    /// The node of the pushed folder in a snapshot.
    pub(crate) fn top(&self, vault: &Vault, session: SessionNo) -> NodeId {
        resolve(vault, session, &self.source_path())
    }

    /// Holds every snapshot against the oracle, with a reader that knows nothing yet.
    pub(crate) fn check_all(&self) {
        let vault = self.vault.reader();
        for &(theirs, ours) in &self.sessions {
            let top = self.top(&vault, ours);
            let found = differences(&self.oracle, NodeId::root(theirs), &vault, top, LENIENT);
            assert!(found.is_empty(), "session {ours}:\n{}", found.join("\n"));
            assert_eq!(vault.node(top).unwrap().id, top);
        }
    }

    /// Holds the newest snapshot against the disk: every attribute as `lstat` shows it, directories too.
    pub(crate) fn check_against_disk(&self) {
        let vault = self.vault.reader();
        let session = self.sessions.last().unwrap().1;
        let mut open = vec![(self.top(&vault, session), self.source())];
        while let Some((id, at)) = open.pop() {
            let node = vault.node(id).unwrap();
            let mut shown = node.attributes.clone();
            let lstat = disk::attributes_of(&std::fs::symlink_metadata(&at).unwrap());
            shown.allocated = lstat.allocated;
            assert_eq!(shown, lstat, "{}", at.display());
            if node.attributes.kind == backupengine_model::Kind::Directory {
                for slot in list(&vault, id) {
                    open.push((slot.node.id, at.join(std::ffi::OsStr::from_bytes(&slot.name))));
                }
            }
        }
    }
}

/// Follows a path from "/".
pub(crate) fn resolve<R: TreeReader>(reader: &R, session: SessionNo, path: &TreePath) -> NodeId {
    path.components().fold(NodeId::root(session), |dir, name| {
        reader.lookup(dir, name).unwrap().unwrap_or_else(|| panic!("{path} is not in {session}")).id
    })
}

/// A whole listing.
pub(crate) fn list<R: TreeReader>(reader: &R, dir: NodeId) -> Vec<backupengine_model::DirSlot> {
    let mut slots = Vec::new();
    loop {
        let page = reader.list(dir, slots.len() as u64, 100).unwrap();
        slots.extend(page.slots);
        if page.end {
            return slots;
        }
    }
}

/// A whole file.
pub(crate) fn read<R: ContentReader>(reader: &R, id: NodeId, size: u64) -> Vec<u8> {
    let mut out = vec![0; size as usize];
    assert_eq!(reader.read_at(id, 0, &mut out).unwrap() as u64, size);
    out
}

/// The tree with every oddity this user can make.
pub(crate) fn odd_tree() -> Tree {
    use backupengine_testkit::oracle::sample;
    if disk::is_root() { sample::oddities() } else { sample::everyday() }
}

/// What the folder `at` differs in from the tree.
pub(crate) fn disk_differences(tree: &Tree, at: &Path, leniency: Leniency) -> Vec<String> {
    disk::differences(tree, &TreePath::root(), at, leniency)
}
