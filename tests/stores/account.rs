//! An account's store over the real control plane: the suite's two handles, and what only this store does.

use backupengine_api::{Code, op};
use backupengine_model::ledger::{Commit, Counters, Haste, Kept, Move, PackRun, SessionKind};
use backupengine_model::{DeviceId, SessionNo, Timestamp, VaultId};
use backupengine_store::{
    BlobKey, BlobKind, BlobReader, BlobWriter, BoxFuture, Collection, Collector, EnvelopeChange, EnvelopeId,
    ErrorKind, Got, Keeper, LedgerReader, LedgerWriter, Maintainable, Opened, Range, SessionList,
    SnapshotList, Spool, StoreError, Writable,
};
use backupengine_testkit::conformance::upkeep::Upkept;
use backupengine_testkit::conformance::{Handles, VAULT, envelopes_change_all_at_once};
use backupengine_testkit::wait;
use backupengine_tests::account::{Device, Server, base64, idem};
use backupengine_transfer::{Account, PresignedConfig, PresignedStore, TransferError};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Who opened which session.
type Owners = Arc<Mutex<BTreeMap<SessionNo, DeviceId>>>;

/// One handle for two devices: each device's steps go through its own client, as they do on two machines.
#[derive(Clone)]
struct Routed {
    me: PresignedStore,
    other: PresignedStore,
    owners: Owners,
}

impl Routed {
    fn of(&self, device: DeviceId) -> &PresignedStore {
        if device == self.other.account().device() { &self.other } else { &self.me }
    }

    /// Through whom a blob is put: whoever opened its session.
    fn writer(&self, key: BlobKey) -> &PresignedStore {
        let (BlobKey::Pack(session, _) | BlobKey::Root(session)) = key else { return &self.me };
        match self.owners.lock().unwrap().get(&session) {
            Some(device) => self.of(*device),
            None => &self.me,
        }
    }
}

impl BlobReader for Routed {
    fn get(&self, key: BlobKey, range: Range) -> BoxFuture<'_, Result<Got, StoreError>> {
        self.me.get(key, range)
    }
    fn list(&self, kind: BlobKind) -> BoxFuture<'_, Result<Vec<(BlobKey, u64)>, StoreError>> {
        self.me.list(kind)
    }
    fn grid(&self) -> u64 {
        self.me.grid()
    }
}

impl BlobWriter for Routed {
    fn spool(&self) -> Result<Spool, StoreError> {
        self.me.spool()
    }
    fn put(&self, key: BlobKey, spool: Spool) -> BoxFuture<'_, Result<(), StoreError>> {
        self.writer(key).put(key, spool)
    }
}

impl LedgerReader for Routed {
    fn vault(&self) -> BoxFuture<'_, Result<VaultId, StoreError>> {
        self.me.vault()
    }
    fn version(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.me.version()
    }
    fn snapshots(&self) -> BoxFuture<'_, Result<SnapshotList, StoreError>> {
        self.me.snapshots()
    }
    fn sessions(&self) -> BoxFuture<'_, Result<SessionList, StoreError>> {
        self.me.sessions()
    }
    fn space(&self) -> BoxFuture<'_, Result<(u64, Option<u64>), StoreError>> {
        self.me.space()
    }
}

impl LedgerWriter for Routed {
    fn open_session(&self, device: DeviceId, now: Timestamp) -> BoxFuture<'_, Result<Opened, StoreError>> {
        Box::pin(async move {
            let opened = self.of(device).open_session(device, now).await?;
            self.owners.lock().unwrap().insert(opened.session, device);
            Ok(opened)
        })
    }
    fn commit<'a>(&'a self, device: DeviceId, commit: &'a Commit) -> BoxFuture<'a, Result<(), StoreError>> {
        self.of(device).commit(device, commit)
    }

    fn revive<'a>(&'a self, packs: &'a [PackRun]) -> BoxFuture<'a, Result<Counters, StoreError>> {
        self.me.revive(packs)
    }
}

impl Keeper for Routed {
    fn trash<'a>(&'a self, sessions: &'a [SessionNo]) -> BoxFuture<'a, Result<(), StoreError>> {
        self.me.trash(sessions)
    }
    fn untrash<'a>(&'a self, sessions: &'a [SessionNo]) -> BoxFuture<'a, Result<(), StoreError>> {
        self.me.untrash(sessions)
    }
    fn hold<'a>(&'a self, sessions: &'a [SessionNo], hold: bool) -> BoxFuture<'a, Result<(), StoreError>> {
        self.me.hold(sessions, hold)
    }
    fn relabel<'a>(&'a self, session: SessionNo, label: &'a [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        self.me.relabel(session, label)
    }
    fn kept(&self) -> BoxFuture<'_, Result<Vec<Kept>, StoreError>> {
        self.me.kept()
    }
}

impl Collector for Routed {
    fn begin_collection(&self, haste: Haste) -> BoxFuture<'_, Result<Collection, StoreError>> {
        self.me.begin_collection(haste)
    }
    fn retire<'a>(
        &'a self,
        at: Counters,
        packs: &'a [PackRun],
    ) -> BoxFuture<'a, Result<Counters, StoreError>> {
        self.me.retire(at, packs)
    }
    fn relocate<'a>(
        &'a self,
        at: Counters,
        moves: &'a [Move],
    ) -> BoxFuture<'a, Result<Counters, StoreError>> {
        self.me.relocate(at, moves)
    }
    fn purge<'a>(
        &'a self,
        packs: &'a [PackRun],
        haste: Haste,
    ) -> BoxFuture<'a, Result<Vec<PackRun>, StoreError>> {
        self.me.purge(packs, haste)
    }
    fn open_relocation(
        &self,
        device: DeviceId,
        kind: SessionKind,
    ) -> BoxFuture<'_, Result<SessionNo, StoreError>> {
        Box::pin(async move {
            let session = self.of(device).open_relocation(device, kind).await?;
            self.owners.lock().unwrap().insert(session, device);
            Ok(session)
        })
    }
    fn end_relocation(
        &self,
        device: DeviceId,
        session: SessionNo,
        packs: u32,
        bytes: u64,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.of(device).end_relocation(device, session, packs, bytes)
    }
}

/// A control plane with an account of two owner devices and an empty vault.
struct Room {
    // Dropped before the folder its spools lie in.
    accounts: [Account; 2],
    server: Server,
    spools: tempfile::TempDir,
}

impl Room {
    fn new() -> Self {
        let server = Server::start();
        let accounts = {
            let user = server.user("a@example.org");
            let (me, other) = (user.device(1), user.device(2));
            let made = json!({"vault": VAULT.to_string(), "root_public": base64(&[7; 32]), "certificate": base64(b"c"),
                              "idem": idem()});
            me.ok("vault-create", &made);
            me.ok("device-approve", &approval(&other, "owner"));
            [me.account(), other.account()]
        };
        Self { accounts, server, spools: tempfile::tempdir().unwrap() }
    }

    fn store(&self, which: usize, fresh: Duration) -> PresignedStore {
        open(&self.accounts[which], self.spools.path(), fresh)
    }
}

fn open(account: &Account, spools: &Path, fresh: Duration) -> PresignedStore {
    let config = PresignedConfig { fresh, ..PresignedConfig::new(spools.to_owned()) };
    PresignedStore::open(account, config).unwrap()
}

fn approval(device: &Device<'_>, role: &str) -> serde_json::Value {
    json!({"vault": VAULT.to_string(), "device": device.keys.device().to_string(), "role": role,
           "certificate": base64(b"c"), "idem": idem()})
}

/// For the suite. Nothing is answered from memory: it asks for what the other handle has done this moment.
pub(crate) fn handles() -> Handles {
    let room = Room::new();
    let owners = Owners::default();
    let handle = || Routed {
        me: room.store(0, Duration::ZERO),
        other: room.store(1, Duration::ZERO),
        owners: Arc::clone(&owners),
    };
    let (one, two): (Arc<dyn Writable>, Arc<dyn Writable>) = (Arc::new(handle()), Arc::new(handle()));
    let [me, other] = [0, 1].map(|which: usize| room.accounts[which].device());
    Handles { one, two, me, other, keep: Box::new(room) }
}

/// Everything the ledger says a time of, as if it had been said so many seconds earlier.
const LATER: [&str; 4] = [
    "update app.gc_log set at = at - make_interval(secs => $1)",
    "update app.moved set moved_at = moved_at - make_interval(secs => $1)",
    "update app.snapshot set purge_after = purge_after - make_interval(secs => $1)",
    "update app.lease set expires_at = expires_at - make_interval(secs => $1)",
];
/// When something was last heard of a session.
const SILENCE: &str = "update app.session set last_seen = last_seen - make_interval(secs => $1)";

/// For the suite of upkeep: the server's clock is the database's, so it is the times in it that move.
pub(crate) fn upkept() -> Upkept {
    let room = Room::new();
    let owners = Owners::default();
    let handle = || -> Arc<dyn Maintainable> {
        Arc::new(Routed {
            me: room.store(0, Duration::ZERO),
            other: room.store(1, Duration::ZERO),
            owners: Arc::clone(&owners),
        })
    };
    let (one, two) = (handle(), handle());
    let [me, other] = [0, 1].map(|which: usize| room.accounts[which].device());
    let moving = |statements: Vec<&'static str>| {
        let admin = room.server.admin();
        move |secs: i64| {
            for statement in &statements {
                admin.execute(statement, &[&(secs as f64)]).unwrap();
            }
        }
    };
    let later = Box::new(moving(LATER.to_vec()));
    let silence = Box::new(moving([&LATER[..], &[SILENCE]].concat()));
    Upkept { one, two, me, other, later, silence, at_once: false, keep: Box::new(room) }
}

fn put(store: &dyn Writable, key: BlobKey, bytes: &[u8]) -> Result<(), StoreError> {
    let mut spool = store.spool()?;
    std::io::Write::write_all(&mut spool, bytes)?;
    wait(store.put(key, spool))
}

fn session(store: &PresignedStore) -> SessionNo {
    wait(store.open_session(store.account().device(), Timestamp::default())).unwrap().session
}

fn times<'c>(calls: &'c [&'static str], op: &str) -> Vec<&'c &'static str> {
    calls.iter().filter(|call| **call == op).collect()
}

/// Not readable, not listed; the suite shows that it is both once committed.
#[test]
fn what_another_device_is_writing_is_not_there() {
    let room = Room::new();
    let (mine, others) = (room.store(0, Duration::ZERO), room.store(1, Duration::ZERO));
    let session = session(&others);
    let key = BlobKey::Pack(session, 0);
    put(&others, key, b"of another device").unwrap();
    assert_eq!(wait(others.get(key, Range::Whole)).unwrap().bytes[..], b"of another device"[..]);
    assert_eq!(wait(mine.get(key, Range::Whole)).unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(wait(mine.list(BlobKind::PacksOf(session))).unwrap(), []);
    assert_eq!(wait(mine.list(BlobKind::Packs)).unwrap(), []);
    // Nor may anything be put beside it.
    put(&mine, BlobKey::Pack(session, 1), b"from outside").unwrap_err();
    assert_eq!(wait(others.list(BlobKind::Packs)).unwrap(), [(key, 17)]);
}

#[test]
fn a_login_speaks_for_its_own_device_only() {
    let room = Room::new();
    let store = room.store(0, Duration::ZERO);
    let other = room.accounts[1].device();
    let error = wait(store.open_session(other, Timestamp::default())).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied);
    assert_eq!(times(&store.account().calls(), "session-open"), [&""; 0], "the server is not even asked");
}

#[test]
fn answers_are_kept_for_a_moment_and_no_longer() {
    let room = Room::new();
    let (writing, reading) = (room.store(0, Duration::ZERO), room.store(1, Duration::from_millis(400)));
    let before = wait(reading.version()).unwrap();
    assert!(wait(reading.snapshots()).unwrap().snapshots.is_empty());
    assert_eq!(reading.account().calls(), ["mount"], "the opening call brought both");
    let session = session(&writing);
    put(&writing, BlobKey::Root(session), &[1; 64]).unwrap();
    let commit = commit_of(session, &writing);
    wait(writing.commit(writing.account().device(), &commit)).unwrap();
    std::thread::sleep(Duration::from_millis(450));
    assert_ne!(wait(reading.version()).unwrap(), before);
    assert_eq!(wait(reading.snapshots()).unwrap().snapshots, std::slice::from_ref(&commit.snapshot));
    assert_eq!(reading.account().calls(), ["mount", "version", "snapshot-list"]);
    // One's own changes are seen at once.
    let own = room.store(0, Duration::from_secs(60));
    let session = self::session(&own);
    put(&own, BlobKey::Root(session), &[1; 64]).unwrap();
    wait(own.commit(own.account().device(), &commit_of(session, &own))).unwrap();
    assert_eq!(wait(own.snapshots()).unwrap().snapshots.len(), 2);
}

fn commit_of(session: SessionNo, store: &PresignedStore) -> Commit {
    let snapshot = backupengine_model::ledger::SnapshotRecord {
        session,
        id: backupengine_model::SnapshotId([session.0 as u8; 8]),
        device: store.account().device(),
        created: Timestamp::default(),
        root_size: 64,
        head_len: 10,
        label: Vec::new(),
    };
    Commit { snapshot, packs: 0, bytes: 64, meta_packs: Vec::new(), gc_epoch: None, hold: None }
}

/// Sixteen at once; two were refused by storage or the ledger without harm to the others.
#[test]
fn blobs_put_at_once_are_announced_together() {
    let room = Room::new();
    let store = room.store(0, Duration::ZERO);
    let session = session(&store);
    put(&store, BlobKey::Pack(session, 3), b"was here before").unwrap();
    let calls = || times(&store.account().calls(), "session-urls").len();
    let before = calls();
    let start = std::sync::Barrier::new(16);
    std::thread::scope(|scope| {
        for number in 0..16 {
            let (store, start) = (&store, &start);
            scope.spawn(move || {
                let mut spool = store.spool().unwrap();
                std::io::Write::write_all(&mut spool, &vec![number as u8; 1000]).unwrap();
                start.wait();
                let done = wait(store.put(BlobKey::Pack(session, number), spool));
                match number {
                    3 => assert_eq!(done.unwrap_err().kind, ErrorKind::AlreadyExists),
                    _ => done.unwrap(),
                }
            });
        }
    });
    assert_eq!(wait(store.list(BlobKind::PacksOf(session))).unwrap().len(), 16);
    // One call for all, and one each because one of them was refused; more only if threads came late.
    assert!(calls() - before <= 32, "{} calls", calls() - before);
    let left: usize = std::fs::read_dir(room.spools.path().join("tmp")).unwrap().count();
    assert_eq!(left, 0, "spools are gone when their blobs are put");
}

#[test]
fn an_envelope_is_put_once_and_may_be_put_again() {
    let room = Room::new();
    let store = room.store(0, Duration::ZERO);
    let id = EnvelopeId([3; 8]);
    let key = BlobKey::Envelope(id);
    for _ in 0..2 {
        store.put_envelope(id, 0, "recovery", b"sealed").unwrap();
    }
    let got = wait(store.get(key, Range::Whole)).unwrap();
    assert_eq!(got.bytes[..], b"sealed"[..]);
    let other = store.put_envelope(id, 0, "recovery", b"other bytes").unwrap_err();
    let TransferError::Storage { source, .. } = &other else { panic!("{other}") };
    assert_eq!(source.kind, ErrorKind::AlreadyExists);
    // The copy in the bucket is the same, and of no use to whoever takes the row alone.
    let copy = room.server.objects().join(VAULT.to_string()).join(key.to_string());
    assert_eq!(std::fs::read(copy).unwrap(), b"sealed");
    assert_eq!(store.mounted().role, "owner");
}

/// What was said of a grant or a token never leaves in an error's text.
#[test]
fn errors_name_the_blob_and_no_address() {
    let room = Room::new();
    let store = room.store(0, Duration::ZERO);
    let session = session(&store);
    let key = BlobKey::Pack(session, 0);
    put(&store, key, b"bytes").unwrap();
    drop(wait(store.get(key, Range::Whole)).unwrap());
    let object = room.server.objects().join(VAULT.to_string()).join(key.to_string());
    std::fs::remove_file(&object).unwrap();
    let error = wait(store.get(key, Range::Whole)).unwrap_err();
    assert_eq!((error.kind, error.key), (ErrorKind::NotFound, Some(key)));
    let mut text = format!("{error} {error:?}");
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text += &format!("{error} {error:?}");
        cause = error.source();
    }
    assert!(!text.contains("X-Amz") && !text.contains("http://"), "{text}");
    assert!(!format!("{store:?} {:?}", store.mounted()).contains("X-Amz"));
}

/// The rest of the account's calls by the same client.
#[test]
fn refusals_keep_their_code() {
    let room = Room::new();
    let unknown = VaultId([1; 16]);
    let request = backupengine_api::OfVault { vault: unknown };
    match room.accounts[0].call::<op::Version>(&request) {
        Err(TransferError::Refused(refusal)) => assert_eq!(refusal.known(), Some(Code::NotFound)),
        other => panic!("{other:?}"),
    }
    let config =
        PresignedConfig { vault: Some(unknown), ..PresignedConfig::new(room.spools.path().to_owned()) };
    let error = PresignedStore::open(&room.accounts[0], config).unwrap_err();
    assert!(
        matches!(&error, TransferError::Refused(refusal) if refusal.known() == Some(Code::NotFound)),
        "{error}"
    );
}

#[test]
fn envelopes_change_all_at_once_at_a_control_plane() {
    let room = Room::new();
    let (one, two) = (room.store(0, Duration::ZERO), room.store(1, Duration::ZERO));
    envelopes_change_all_at_once((&one, &one), (&two, &two));
}

/// A change is asked for twice, first for the copies in the bucket: whatever ends it before the second call, nothing changed.
#[test]
fn a_change_of_envelopes_that_was_broken_off_has_not_happened() {
    let room = Room::new();
    let store = room.store(0, Duration::ZERO);
    let (old, new) = (EnvelopeId([1; 8]), EnvelopeId([2; 8]));
    store.put_envelope(old, 1, "recovery", b"of before").unwrap();
    let change = EnvelopeChange {
        expected: vec![old],
        add: vec![(new, b"of after".to_vec())],
        recovery: vec![new],
        epoch: 2,
        ..EnvelopeChange::default()
    };
    let listed = || {
        let fresh = room.store(1, Duration::ZERO);
        let keys = wait(fresh.list(BlobKind::Envelopes)).unwrap().into_iter();
        keys.map(|(key, _)| wait(fresh.get(key, Range::Whole)).unwrap().bytes).collect::<Vec<_>>()
    };
    let copies = || {
        let folder = room.server.objects().join(VAULT.to_string()).join("k");
        std::fs::read_dir(folder).unwrap().count()
    };
    // Asked, and not gone on.
    let asked = store.envelope_request(&change, Vec::new());
    let answer = room.accounts[0].call::<op::EnvelopeChange>(&asked).unwrap();
    assert_eq!(answer.grants.len(), 1);
    assert_eq!((listed(), copies()), (vec![b"of before".to_vec().into()], 1));
    // Refused for the sake of one device: nothing of it.
    let device = backupengine_api::DeviceEnvelope {
        device: DeviceId([9; 16]),
        sealed: backupengine_api::Opaque(b"keys".to_vec()),
    };
    let refused = store.change_keys(&change, vec![device]).unwrap_err();
    assert!(matches!(&refused, TransferError::Storage { .. } | TransferError::Refused(_)), "{refused}");
    assert_eq!((listed(), copies()), (vec![b"of before".to_vec().into()], 1));
    // Then it comes through, and again is no other change.
    store.change_keys(&change, Vec::new()).unwrap();
    assert_eq!((listed(), copies()), (vec![b"of after".to_vec().into()], 2));
    store.change_keys(&change, Vec::new()).unwrap();
    assert_eq!(listed(), [&b"of after"[..]]);
}
