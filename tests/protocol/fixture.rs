//! A source that changes, a vault with a first snapshot of it, and what must hold whatever happens next.

use backupengine_model::SessionNo;
use backupengine_store::{BlobKey, FolderStore, MemoryStore, Range, Readable, Writable};
use backupengine_testkit::build::{TestVault, VAULT};
use backupengine_testkit::shown::{Shown, below, differences_from_disk, everything};
use backupengine_testkit::{Seeded, Strict, now};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// What a snapshot shows of a source, by full path.
pub(crate) type Tree = BTreeMap<Vec<u8>, Shown>;

/// A folder to push: small files, a large one, one that compresses, links, an empty folder.
pub(crate) struct Source {
    temp: TempDir,
    random: Seeded,
    /// Length of the file that is rewritten with every change, in bytes.
    large: usize,
}

impl Source {
    pub(crate) fn new(seed: u64) -> Self {
        Self::sized(seed, 3 << 20)
    }

    /// A tenth of that, for what is done many times.
    pub(crate) fn small(seed: u64) -> Self {
        Self::sized(seed, 300 << 10)
    }

    fn sized(seed: u64, large: usize) -> Self {
        let source = Self { temp: tempfile::tempdir().unwrap(), random: Seeded::new(seed), large };
        let at = |name: &str| source.path().join(name);
        fs::create_dir_all(at("a/deep/er")).unwrap();
        fs::create_dir(at("empty")).unwrap();
        for number in 0..20 {
            source.write(&format!("a/small-{number}"), 100 + number * 37);
        }
        source.write("a/deep/er/middle", 90_000);
        source.write("large", large);
        fs::write(at("text"), format!("{seed}: the same line again\n").repeat(large / 52)).unwrap();
        fs::hard_link(at("a/small-1"), at("linked")).unwrap();
        symlink("a/small-2", at("pointer")).unwrap();
        source
    }

    pub(crate) fn path(&self) -> &Path {
        self.temp.path()
    }

    fn write(&self, name: &str, len: usize) {
        let mut bytes = vec![0; len];
        self.random.fill(&mut bytes);
        fs::write(self.path().join(name), bytes).unwrap();
    }

    /// Changes, adds, removes and renames something.
    pub(crate) fn change(&self) {
        let mark = self.random.next();
        self.write("a/small-3", 500);
        self.write(&format!("a/new-{mark:x}"), 40_000);
        self.write("large", self.large / 3 * 2);
        let mut names: Vec<PathBuf> =
            fs::read_dir(self.path().join("a")).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.retain(|path| path.is_file() && !path.ends_with("small-3") && !path.ends_with("small-1"));
        names.sort();
        fs::remove_file(&names[0]).unwrap();
        fs::rename(&names[1], self.path().join(format!("moved-{mark:x}"))).unwrap();
    }

    /// Lets it change a thousand times: what was moved away comes back.
    pub(crate) fn move_back(&self) {
        let names = fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path());
        let moved = |path: &PathBuf| path.file_name().unwrap().as_encoded_bytes().starts_with(b"moved-");
        let mut moved: Vec<PathBuf> = names.filter(moved).collect();
        moved.sort();
        let old = moved.len().saturating_sub(5);
        let back = |path: &PathBuf| self.path().join("a").join(path.file_name().unwrap());
        moved[..old].iter().for_each(|path| fs::rename(path, back(path)).unwrap());
    }

    /// Only what lies below the source: folders above it change as other tests come and go.
    pub(crate) fn part_of(&self, tree: Tree) -> Tree {
        below(tree, self.path())
    }
}

/// Compares a snapshot with the folder it was made of, byte by byte.
pub(crate) fn assert_same_as_disk(tree: &Tree, root: &Path) {
    assert_eq!(differences_from_disk(tree, root), Vec::<String>::new());
}

/// Copies a folder of files and folders.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

enum Kept {
    Memory(MemoryStore),
    Folder(TempDir),
}

/// A vault with one snapshot of a source that has changed since.
pub(crate) struct Base {
    pub(crate) source: Source,
    /// The snapshot that is committed.
    pub(crate) first: SessionNo,
    /// What it shows.
    pub(crate) before: Tree,
    /// What a snapshot of the source as it is now must show.
    pub(crate) after: Tree,
    kept: Kept,
    state: TempDir,
}

/// A copy of a [`Base`] to break something in.
pub(crate) struct Trial {
    pub(crate) vault: TestVault,
    /// The local state of the device that made the first snapshot.
    pub(crate) state: TempDir,
    _folder: Option<TempDir>,
}

impl Base {
    pub(crate) fn in_memory() -> Self {
        let memory = MemoryStore::new(VAULT);
        Self::new(Arc::new(memory.clone()), Kept::Memory(memory))
    }

    pub(crate) fn in_folder() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let store = FolderStore::create(&temp.path().join("vault"), VAULT).unwrap();
        Self::new(Arc::new(store), Kept::Folder(temp))
    }

    fn new(store: Arc<dyn Writable>, kept: Kept) -> Self {
        let source = Source::new(1);
        let vault = TestVault::around(store);
        let pusher = vault.pusher("laptop");
        let first = pusher.push(source.path());
        let before = source.part_of(everything(&vault.reader(), first).unwrap());
        assert_same_as_disk(&before, source.path());
        let state = tempfile::tempdir().unwrap();
        copy_folder(pusher.state(), state.path());
        source.change();
        let mut base = Self { source, first, before, after: Tree::new(), kept, state };
        let trial = base.trial();
        let second = trial.vault.pusher("laptop").push(base.source.path());
        base.after = base.source.part_of(everything(&trial.vault.reader(), second).unwrap());
        assert_same_as_disk(&base.after, base.source.path());
        base
    }

    pub(crate) fn trial(&self) -> Trial {
        let state = tempfile::tempdir().unwrap();
        copy_folder(self.state.path(), state.path());
        let (store, folder): (Arc<dyn Writable>, _) = match &self.kept {
            Kept::Memory(memory) => (Arc::new(memory.duplicate()), None),
            Kept::Folder(kept) => {
                let temp = tempfile::tempdir().unwrap();
                copy_folder(kept.path(), temp.path());
                (Arc::new(FolderStore::open(&temp.path().join("vault")).unwrap()), Some(temp))
            }
        };
        Trial { vault: TestVault::around(store), state, _folder: folder }
    }

    /// What must hold after anything: the vault opens, the first snapshot is there and unchanged, and whatever
    /// else is listed is a whole snapshot of the changed source. Says which those are.
    pub(crate) fn check(&self, trial: &Trial) -> Vec<SessionNo> {
        // As a store that gives out nothing of sessions that are not committed.
        let strict = Arc::new(Strict::new(Arc::clone(&trial.vault.store)));
        let reader = trial.vault.reader_on(strict as Arc<dyn Readable>);
        let mut others: Vec<SessionNo> = reader.list().unwrap().iter().map(|s| s.session).collect();
        let at = others.iter().position(|s| *s == self.first).expect("a committed snapshot is lost");
        others.remove(at);
        let shown = |session| self.source.part_of(everything(&reader, session).unwrap());
        assert!(shown(self.first) == self.before, "a committed snapshot changed");
        for other in &others {
            assert!(shown(*other) == self.after, "snapshot {other} is not what was pushed");
        }
        for record in now(trial.vault.store.snapshots()).unwrap().snapshots {
            let root = now(trial.vault.store.get(BlobKey::Root(record.session), Range::Whole)).unwrap();
            assert_eq!(root.total, record.root_size);
        }
        others
    }
}
