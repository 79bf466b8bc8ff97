//! Whole pushes through grants: what was pushed reads back, and a broken-off push goes on where it stopped.
use backupengine_api::{Announced, ListSessions, Opaque, WantPuts, op};
use backupengine_model::ledger::{Commit, Counters, PackRun};
use backupengine_model::{DeviceId, NodeId, SessionNo, Timestamp, TreePath, TreeReader, VaultId};
use backupengine_push::{Device as Pushing, PushError, PushReport, push};
use backupengine_seal::Role;
use backupengine_store::{
    BlobKey, BlobKind, BlobReader, BlobWriter, BoxFuture, ErrorKind, Got, LedgerReader, LedgerWriter, Opened,
    Range, Readable, SessionList, SnapshotList, Spool, StoreError, Writable,
};
use backupengine_testkit::build::{Pusher, TestVault, Unwatched, VAULT};
use backupengine_testkit::oracle::sample::{self, path};
use backupengine_testkit::oracle::{Content, Leniency, Oracle, Tree, differences, disk};
use backupengine_tests::account::{Server, base64, idem};
use backupengine_transfer::{Account, PresignedConfig, PresignedStore};
use backupengine_vault::{Locked, Vault, VaultConfig};
use serde_json::json;
use std::collections::{BTreeSet, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

/// A directory's size is the disk's own matter.
const LENIENT: Leniency = Leniency { directories: true, holes: false, blocks: true };

/// How a push breaks off.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Breaks {
    Never,
    /// The flag is raised when a pack was stored.
    AfterPack,
    /// A pack is announced and not sent, as where the machine dies in the middle of a PUT.
    InPack,
    /// The same with the root.
    InRoot,
}

/// The store, with an eye on what is sent and what storage said yes to.
struct Watched {
    inner: PresignedStore,
    breaks: Breaks,
    stop: AtomicBool,
    /// What was asked for, each once: an answer that is late is asked for a second time.
    asked: Mutex<HashSet<(BlobKey, Range)>>,
    sent: Mutex<Vec<BlobKey>>,
    stored: Mutex<BTreeSet<BlobKey>>,
}

impl Watched {
    /// Announces other bytes than will ever be sent under that name again.
    fn announce(&self, key: BlobKey) {
        let (kind, session, number) = match key {
            BlobKey::Pack(session, number) => ("pack", session, number),
            BlobKey::Root(session) => ("root", session, 0),
            BlobKey::Envelope(_) => unreachable!("a push puts no envelope"),
        };
        let kind = kind.to_owned();
        let blob = Announced { kind, number, length: 77, sha256: Opaque(vec![0x5a; 32]), md5: None };
        let asked = WantPuts { vault: VAULT, session: session.0, blobs: vec![blob] };
        self.inner.account().call::<op::SessionUrls>(&asked).unwrap();
    }

    fn sent(&self) -> Vec<BlobKey> {
        self.sent.lock().unwrap().clone()
    }

    fn stored(&self) -> BTreeSet<BlobKey> {
        self.stored.lock().unwrap().clone()
    }
}

impl BlobReader for Watched {
    fn get(&self, key: BlobKey, range: Range) -> BoxFuture<'_, Result<Got, StoreError>> {
        self.asked.lock().unwrap().insert((key, range));
        self.inner.get(key, range)
    }
    fn list(&self, kind: BlobKind) -> BoxFuture<'_, Result<Vec<(BlobKey, u64)>, StoreError>> {
        self.inner.list(kind)
    }
    fn grid(&self) -> u64 {
        self.inner.grid()
    }
}

impl BlobWriter for Watched {
    fn spool(&self) -> Result<Spool, StoreError> {
        self.inner.spool()
    }
    fn put(&self, key: BlobKey, spool: Spool) -> BoxFuture<'_, Result<(), StoreError>> {
        let root = matches!(key, BlobKey::Root(_));
        if self.breaks == if root { Breaks::InRoot } else { Breaks::InPack } {
            self.announce(key);
            return Box::pin(async { Err(StoreError::new(ErrorKind::Unavailable, "the machine died")) });
        }
        self.sent.lock().unwrap().push(key);
        Box::pin(async move {
            self.inner.put(key, spool).await?;
            self.stored.lock().unwrap().insert(key);
            self.stop.fetch_or(self.breaks == Breaks::AfterPack, Ordering::SeqCst);
            Ok(())
        })
    }
}

impl LedgerReader for Watched {
    fn vault(&self) -> BoxFuture<'_, Result<VaultId, StoreError>> {
        self.inner.vault()
    }
    fn version(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.inner.version()
    }
    fn snapshots(&self) -> BoxFuture<'_, Result<SnapshotList, StoreError>> {
        self.inner.snapshots()
    }
    fn sessions(&self) -> BoxFuture<'_, Result<SessionList, StoreError>> {
        self.inner.sessions()
    }
    fn space(&self) -> BoxFuture<'_, Result<(u64, Option<u64>), StoreError>> {
        self.inner.space()
    }
}

impl LedgerWriter for Watched {
    fn open_session(&self, device: DeviceId, now: Timestamp) -> BoxFuture<'_, Result<Opened, StoreError>> {
        self.inner.open_session(device, now)
    }
    fn commit<'a>(&'a self, device: DeviceId, commit: &'a Commit) -> BoxFuture<'a, Result<(), StoreError>> {
        self.inner.commit(device, commit)
    }

    fn revive<'a>(&'a self, packs: &'a [PackRun]) -> BoxFuture<'a, Result<Counters, StoreError>> {
        self.inner.revive(packs)
    }
}

/// A control plane, an account with a vault, and a folder that follows a tree.
struct Room {
    vault: TestVault,
    pusher: Pusher,
    account: Account,
    tree: Tree,
    folder: TempDir,
    // After what calls it.
    server: Server,
}

impl Room {
    fn new(tree: Tree) -> Self {
        let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
        let (account, key) = {
            let user = server.user("a@example.org");
            let device = user.device(1);
            device.ok(
                "vault-create",
                &json!({"vault": VAULT.to_string(), "root_public": base64(&[7; 32]),
                        "certificate": base64(b"c"), "idem": idem()}),
            );
            (device.account(), device.keys.device_key())
        };
        let store = open(&account, &folder);
        let vault = TestVault::around(Arc::new(store));
        let certificate = vault.root_key.certify(VAULT, key.public(), Role::Owner, 1_600_000_000);
        let mut pusher = vault.pusher("laptop");
        pusher.device = Pushing { key, certificate };
        let room = Self { vault, pusher, account, tree, folder, server };
        std::fs::create_dir(room.folder.path().join("source")).unwrap();
        disk::bring_to(&Tree::new(), &room.tree, &room.source()).unwrap();
        room
    }

    fn source(&self) -> PathBuf {
        self.folder.path().join("source").canonicalize().unwrap()
    }

    /// A store that knows nothing yet, as in a new process.
    fn store(&self, breaks: Breaks) -> Arc<Watched> {
        let inner = open(&self.account, &self.folder);
        let (sent, stored) = (Mutex::default(), Mutex::default());
        Arc::new(Watched {
            inner,
            breaks,
            stop: AtomicBool::new(false),
            asked: Mutex::default(),
            sent,
            stored,
        })
    }

    fn unlocked(&self, store: Arc<dyn Readable>) -> Vault {
        let locked = Locked::open(store).unwrap();
        // Nothing ahead of need: how much that is goes by how fast answers come, and needs are counted here.
        let config = VaultConfig { read_ahead_threads: 0, ..VaultConfig::default() };
        locked.unlock_as(self.vault.keyring.clone(), config).unwrap()
    }

    fn push(&self, store: &Arc<Watched>) -> Result<PushReport, PushError> {
        self.vault.clock.advance(60);
        let vault = self.unlocked(Arc::clone(store) as Arc<dyn Readable>);
        let random = |out: &mut [u8]| self.pusher.random.fill(out);
        let (shared, config) = (Arc::clone(store) as Arc<dyn Writable>, self.pusher.config(&self.source()));
        push(&vault, shared, &self.pusher.device, config, &random, &store.stop, &Unwatched)
    }

    /// A push that comes through; its session.
    fn pushed(&self, store: &Arc<Watched>) -> SessionNo {
        let report = self.push(store).unwrap_or_else(|error| panic!("the push failed: {error:?}"));
        report.snapshot.unwrap().0
    }

    /// Reads all of it back, with a reader that knows nothing, and holds it against the oracle.
    fn check(&self, session: SessionNo) {
        let vault = self.unlocked(Arc::new(open(&self.account, &self.folder)));
        assert_eq!(vault.snapshots().unwrap().iter().map(|it| it.session).collect::<Vec<_>>(), [session]);
        let source = TreePath::from_slashes(self.source().as_os_str().as_bytes()).unwrap();
        let top = source.components().fold(NodeId::root(session), |dir, name| {
            vault.lookup(dir, name).unwrap().expect("it was pushed").id
        });
        let oracle = Oracle::new();
        let theirs = oracle.push(&self.tree, "laptop", Timestamp { secs: 1, nanos: 0 }, &[]);
        let found = differences(&oracle, NodeId::root(theirs), &vault, top, LENIENT);
        assert!(found.is_empty(), "{}", found.join("\n"));
    }

    /// Number and state of all sessions.
    fn sessions(&self) -> Vec<(u32, String)> {
        let asked = ListSessions { vault: VAULT, after: 0, limit: 100 };
        let page = self.account.call::<op::SessionList>(&asked).unwrap();
        page.sessions.into_iter().map(|it| (it.session, it.state)).collect()
    }

    /// Packs and roots that lie in the bucket.
    fn objects(&self) -> usize {
        let mut open = vec![self.server.objects().to_owned()];
        let mut found = 0;
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    open.push(entry.path());
                    continue;
                }
                let path = entry.path();
                found += usize::from(path.iter().any(|part| part == "p" || part == "r"));
            }
        }
        found
    }
}

fn open(account: &Account, folder: &TempDir) -> PresignedStore {
    // As long as a push may take here: what the opening call told is not asked again.
    let config = PresignedConfig {
        fresh: Duration::from_secs(600),
        ..PresignedConfig::new(folder.path().join("spools"))
    };
    PresignedStore::open(account, config).unwrap()
}

/// Some large files of bytes that do not compress, and many small ones.
fn tree(large: &[usize], small: usize) -> Tree {
    let mut tree = Tree::new();
    tree.mkdir(&path("small")).unwrap();
    for (n, len) in large.iter().enumerate() {
        let body = sample::bytes(n as u64 + 1, *len);
        tree.create_file(&path(format!("large {n}")), Content::dense(body)).unwrap();
    }
    for n in 0..small {
        if n % 20 == 0 {
            tree.mkdir(&path(format!("small/{}", n / 20))).unwrap();
        }
        let body = sample::bytes(1000 + n as u64, n * 37 % 5000);
        tree.create_file(&path(format!("small/{}/{n}", n / 20)), Content::dense(body)).unwrap();
    }
    tree
}

#[test]
fn a_broken_push_goes_on_and_sends_nothing_twice() {
    let room = Room::new(tree(&[40 << 20, 24 << 20], 200));
    let broken = room.store(Breaks::AfterPack);
    let error = room.push(&broken).unwrap_err();
    assert!(matches!(error, PushError::Interrupted), "{error:?}");
    let before = broken.stored();
    assert!(!before.is_empty());
    assert_eq!(room.objects(), before.len());
    assert_eq!(room.unlocked(Arc::new(open(&room.account, &room.folder))).snapshots().unwrap().len(), 0);

    let resumed = room.store(Breaks::Never);
    let session = room.pushed(&resumed);
    let (sent, after) = (resumed.sent(), resumed.stored());
    assert!(before.iter().all(|key| matches!(key, BlobKey::Pack(of, _) if *of == session)), "{before:?}");
    assert!(before.is_disjoint(&after) && sent.len() == after.len(), "{before:?} {sent:?}");
    assert_eq!(resumed.inner.requests().1, sent.len() as u64, "each went once");
    assert_eq!(room.objects(), before.len() + after.len());
    room.check(session);
}

#[test]
fn a_pack_that_was_announced_and_never_sent_does_not_stop_the_next_push() {
    let room = Room::new(tree(&[3 << 20], 10));
    room.push(&room.store(Breaks::InPack)).unwrap_err();
    // Twice, so that more than the first number is used up.
    room.push(&room.store(Breaks::InPack)).unwrap_err();
    room.check(room.pushed(&room.store(Breaks::Never)));
    assert_eq!(room.sessions(), [(1, "committed".to_owned())]);
}

#[test]
fn a_root_that_was_announced_and_never_sent_does_not_stop_the_next_push() {
    let room = Room::new(tree(&[3 << 20], 10));
    room.push(&room.store(Breaks::InRoot)).unwrap_err();
    room.check(room.pushed(&room.store(Breaks::Never)));
    // The first one ends by itself when it was silent for long.
    assert_eq!(room.sessions(), [(1, "open".to_owned()), (2, "committed".to_owned())]);
}

/// What a push calls and sends, in a process of its own: calls of the control plane in order, what it reads, PUTs.
fn cost(room: &Room) -> (Vec<&'static str>, HashSet<(BlobKey, Range)>, u64) {
    let before = room.account.calls().len();
    let store = room.store(Breaks::Never);
    room.pushed(&store);
    let (asked, (_, puts)) = (store.asked.lock().unwrap().clone(), store.inner.requests());
    (room.account.calls().split_off(before), asked, puts)
}

#[test]
fn a_push_calls_the_control_plane_a_stated_number_of_times() {
    let room = Room::new(tree(&[3 << 20], 300));
    let (mut calls, asked, puts) = cost(&room);
    // These two go out at the same time.
    calls[1..3].sort_unstable();
    assert_eq!(
        calls,
        ["mount", "session-list", "session-open", "session-urls", "session-urls", "session-commit"]
    );
    assert_eq!((asked.len(), puts), (0, 2), "one pack, the root");
    // Nothing changed: no content is looked up, and no page is new.
    let (calls, asked, puts) = disk::undisturbed(&room.source(), || {
        room.pushed(&room.store(Breaks::Never));
        cost(&room)
    });
    assert_eq!(calls, ["mount", "session-open", "session-urls", "session-commit"]);
    assert_eq!(puts, 1, "the root");
    // The root; of each pack that pages lie in its end and a range. Of these there are two where a folder above the
    // source changed since the first push.
    let packs: BTreeSet<BlobKey> =
        asked.iter().map(|(key, _)| *key).filter(|key| matches!(key, BlobKey::Pack(..))).collect();
    assert!(packs.len() <= 2, "{asked:?}");
    assert!(asked.len() <= 2 + 2 * packs.len(), "of the root and the pages before were read: {asked:?}");
}

#[test]
fn packs_that_end_together_are_announced_by_one_call() {
    // More than one pack holds: when all is read, those that were being filled are put at once.
    let room = Room::new(tree(&[20 << 20, 20 << 20], 400));
    let (calls, _, puts) = cost(&room);
    let announcing = calls.iter().filter(|call| **call == "session-urls").count() as u64;
    assert!(puts >= 5, "{puts} blobs");
    assert!(announcing < puts, "{announcing} calls for {puts} blobs: {calls:?}");
    room.check(SessionNo(1));
}
