//! Whole pushes of real folders into vaults in memory, read back through the vault.
mod again;
mod believed;
mod broken_off;
mod faithful;
mod opening;
mod suspicious;

use crate::{Device, Observer, PushConfig, PushError, PushReport, PushStats, push};
use backupengine_model::{ContentReader, Kind, NodeId, SessionNo, Timestamp, TreePath, TreeReader, VaultId};
use backupengine_seal::{DedupSecret, DeviceKey, Keyring, MasterSecret, Role, RootKey};
use backupengine_source::{Notice, WalkConfig};
use backupengine_store::{BlobKind, MemoryStore, Writable};
use backupengine_vault::{Locked, Vault, VaultConfig};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const VAULT: VaultId = VaultId([3; 16]);

/// A vault in memory and a folder to push.
pub(crate) struct Bench {
    store: Arc<dyn Writable>,
    memory: MemoryStore,
    keyring: Keyring,
    device: Device,
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) struct Quiet;
impl Observer for Quiet {
    fn progress(&self, _: &PushStats, _: &Path) {}
    fn notice(&self, _: &Notice) {}
}

/// Distinct, not random: equal runs must not meet equal salts.
pub(crate) fn random(out: &mut [u8]) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    for part in out.chunks_mut(8) {
        let n = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        part.copy_from_slice(&n.to_le_bytes()[..part.len()]);
    }
}

/// Bytes that do not compress.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out.extend_from_slice(&x.to_le_bytes());
    }
    out.truncate(len);
    out
}

impl Bench {
    pub(crate) fn new() -> Self {
        let root_key = RootKey::from_seed([1; 32]);
        let key = DeviceKey::from_seed([2; 32]);
        let certificate = root_key.certify(VAULT, key.public(), Role::Owner, 0);
        let keyring = Keyring::new(
            VAULT,
            MasterSecret::from_bytes([4; 32]),
            DedupSecret::from_bytes([5; 32]),
            root_key.public(),
        );
        let memory = MemoryStore::new(VAULT);
        let store: Arc<dyn Writable> = Arc::new(memory.clone());
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("src")).unwrap();
        Self { store, memory, keyring, device: Device { key, certificate }, dir }
    }

    fn src(&self, path: &str) -> PathBuf {
        self.dir.path().join("src").join(path)
    }

    pub(crate) fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.src(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub(crate) fn vault(&self) -> Vault {
        let locked = Locked::open(Arc::new(self.memory.clone())).unwrap();
        locked.unlock_as(self.keyring.clone(), VaultConfig::default()).unwrap()
    }

    pub(crate) fn keys_and_store(&self) -> (&Keyring, &dyn Writable) {
        (&self.keyring, &*self.store)
    }

    fn config(&self) -> PushConfig {
        PushConfig {
            walk: WalkConfig { roots: vec![self.src("")], ..WalkConfig::default() },
            device_name: "here".into(),
            tags: vec!["b".into(), "a".into()],
            canaries: Vec::new(),
            created: Timestamp { secs: 1_700_000_000, nanos: 5 },
            state: self.state(),
            dry_run: false,
            threads: 2,
        }
    }

    fn try_push(&self, config: PushConfig, stop: &AtomicBool) -> Result<PushReport, PushError> {
        push(&self.vault(), Arc::clone(&self.store), &self.device, config, &random, stop, &Quiet)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(crate) fn push(&self) -> (SessionNo, PushStats) {
        let report = self.try_push(self.config(), &AtomicBool::new(false)).unwrap();
        assert!(report.notices.is_empty(), "{:?}", report.notices);
        (report.snapshot.unwrap().0, report.stats)
    }

    /// How many packs are stored.
    fn packs(&self) -> usize {
        let vault = self.vault();
        vault.ask(vault.store().list(BlobKind::Packs)).unwrap().len()
    }

    /// From now on another device pushes, with a state of its own.
    fn other_device(&mut self) {
        let key = DeviceKey::from_seed([8; 32]);
        let certificate = RootKey::from_seed([1; 32]).certify(VAULT, key.public(), Role::Writer, 0);
        self.device = Device { key, certificate };
        fs::remove_dir_all(self.dir.path().join("state")).unwrap();
    }
}

/// What a person would compare: everything about a node but its id.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    kind: Kind,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, u32),
    bytes: Vec<u8>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

fn resolve(vault: &Vault, session: SessionNo, path: &Path) -> Option<NodeId> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = TreePath::from_slashes(path.as_os_str().as_bytes()).unwrap();
    path.components().try_fold(NodeId::root(session), |at, name| Some(vault.lookup(at, name).unwrap()?.id))
}

fn read(vault: &Vault, id: NodeId) -> Vec<u8> {
    let mut bytes = vec![0; vault.node(id).unwrap().attributes.size as usize];
    assert_eq!(vault.read_at(id, 0, &mut bytes).unwrap(), bytes.len());
    bytes
}

/// The subtree at `path` as the vault shows it, by path below it.
fn stored(vault: &Vault, session: SessionNo, path: &Path) -> BTreeMap<PathBuf, Seen> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut out = BTreeMap::new();
    let mut todo = vec![(PathBuf::new(), resolve(vault, session, path).unwrap())];
    while let Some((path, dir)) = todo.pop() {
        let mut from = 0;
        loop {
            let page = TreeReader::list(vault, dir, from, 1000).unwrap();
            from += page.slots.len() as u64;
            for slot in page.slots {
                let at = path.join(std::ffi::OsStr::from_bytes(&slot.name));
                let (id, a) = (slot.node.id, &slot.node.attributes);
                let bytes = match a.kind {
                    Kind::File => read(vault, id),
                    Kind::Symlink => vault.read_link(id).unwrap().to_vec(),
                    _ => Vec::new(),
                };
                if a.kind == Kind::Directory {
                    todo.push((at.clone(), id));
                }
                let xattrs =
                    vault.xattrs(id).unwrap().into_iter().map(|(n, v)| (n, v.to_vec())).collect::<Vec<_>>();
                let owner = (a.uid, a.gid);
                let mtime = (a.mtime.secs, a.mtime.nanos);
                out.insert(at, Seen { kind: a.kind, mode: a.mode, owner, mtime, bytes, xattrs });
            }
            if page.end {
                break;
            }
        }
    }
    out
}

/// The same of a real folder.
fn real(folder: &Path) -> BTreeMap<PathBuf, Seen> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut out = BTreeMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        for entry in fs::read_dir(folder.join(&path)).unwrap() {
            let entry = entry.unwrap();
            let (at, meta) = (path.join(entry.file_name()), entry.metadata().unwrap());
            let (kind, bytes) = if meta.is_dir() {
                todo.push(at.clone());
                (Kind::Directory, Vec::new())
            } else if meta.is_symlink() {
                (Kind::Symlink, fs::read_link(entry.path()).unwrap().as_os_str().as_bytes().to_vec())
            } else {
                (Kind::File, fs::read(entry.path()).unwrap())
            };
            let mode = meta.mode() & 0o7777;
            let owner = (meta.uid(), meta.gid());
            let mtime = (meta.mtime(), meta.mtime_nsec() as u32);
            out.insert(at, Seen { kind, mode, owner, mtime, bytes, xattrs: Vec::new() });
        }
    }
    out
}

fn assert_shows(bench: &Bench, session: SessionNo) {
    let (is, should) = (stored(&bench.vault(), session, &bench.src("")), real(&bench.src("")));
    assert_eq!(is.keys().collect::<Vec<_>>(), should.keys().collect::<Vec<_>>());
    for (path, seen) in &should {
        assert!(is[path] == *seen, "{} differs: {:?}", path.display(), Seen { bytes: vec![], ..brief(seen) });
    }
}

fn brief(seen: &Seen) -> Seen {
    Seen { xattrs: seen.xattrs.clone(), bytes: Vec::new(), ..*seen }
}
