//! A storage and control plane in the middle: it holds the real vault and answers as it likes.
//!
//! May not do what a server could not: it has bytes and records, no key. What always holds: what it is not told to
//! lie about is answered as it is.
use backupengine_model::ledger::{Commit, Counters, PackRun, SessionRecord};
use backupengine_model::{DeviceId, SessionNo, Timestamp, VaultId};
use backupengine_store::{
    BlobKey, BlobKind, BlobReader, BlobWriter, BoxFuture, ErrorKind, Got, LedgerReader, LedgerWriter, Opened,
    Range, SessionList, SnapshotList, Spool, StoreError, Writable,
};
use backupengine_testkit::now;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

type ListLie = Box<dyn Fn(&mut SnapshotList) + Send + Sync>;

/// What is answered instead of a blob.
pub(crate) enum Lie {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Nothing there.
    Missing,
    /// Not allowed.
    Denied,
}

/// See the module header. Clones are one server.
#[derive(Clone)]
pub(crate) struct Liar {
    inner: Arc<dyn Writable>,
    lies: Arc<Lies>,
}

#[derive(Default)]
struct Lies {
    blobs: Mutex<BTreeMap<BlobKey, Lie>>,
    list: Mutex<Option<ListLie>>,
    sessions: Mutex<Option<Vec<SessionRecord>>>,
    id: Mutex<Option<VaultId>>,
    /// Who is given no data packs, and what it was given all the same.
    writer: Mutex<Option<DeviceId>>,
    metadata: Mutex<BTreeSet<(SessionNo, u32)>>,
    commits: Mutex<Vec<Commit>>,
    denied: Mutex<Vec<BlobKey>>,
}

impl Liar {
    pub(crate) fn around(inner: Arc<dyn Writable>) -> Self {
        Self { inner, lies: Arc::default() }
    }

    pub(crate) fn writable(&self) -> Arc<dyn Writable> {
        Arc::new(self.clone())
    }

    /// Answers `lie` for a blob from now on.
    pub(crate) fn says(&self, key: BlobKey, lie: Lie) {
        self.lies.blobs.lock().unwrap().insert(key, lie);
    }

    /// Answers one blob for another.
    pub(crate) fn swaps(&self, asked: BlobKey, answered: BlobKey) {
        self.says(asked, Lie::Bytes(self.blob(answered)));
    }

    /// Changes every list from now on.
    pub(crate) fn lists(&self, lie: impl Fn(&mut SnapshotList) + Send + Sync + 'static) {
        *self.lies.list.lock().unwrap() = Some(Box::new(lie));
    }

    pub(crate) fn says_sessions(&self, sessions: Vec<SessionRecord>) {
        *self.lies.sessions.lock().unwrap() = Some(sessions);
    }

    pub(crate) fn says_it_is(&self, vault: VaultId) {
        *self.lies.id.lock().unwrap() = Some(vault);
    }

    /// Keeps a device to the role of a writer, as the control plane does: roots, its own open session, and the
    /// packs its own snapshots name as metadata.
    pub(crate) fn keeps_to_writer(&self, device: DeviceId) {
        *self.lies.writer.lock().unwrap() = Some(device);
    }

    /// What was committed since the beginning.
    pub(crate) fn commits(&self) -> Vec<Commit> {
        self.lies.commits.lock().unwrap().clone()
    }

    /// Packs that were asked for and not given.
    pub(crate) fn denied(&self) -> Vec<BlobKey> {
        self.lies.denied.lock().unwrap().clone()
    }

    /// The true bytes.
    pub(crate) fn blob(&self, key: BlobKey) -> Vec<u8> {
        now(self.inner.get(key, Range::Whole)).unwrap().bytes.to_vec()
    }

    /// All true blobs of a family.
    pub(crate) fn names(&self, kind: BlobKind) -> Vec<BlobKey> {
        now(self.inner.list(kind)).unwrap().into_iter().map(|(key, _)| key).collect()
    }

    fn allows(&self, key: BlobKey) -> bool {
        let Some(writer) = *self.lies.writer.lock().unwrap() else { return true };
        let BlobKey::Pack(session, number) = key else { return true };
        let sessions = now(self.inner.sessions()).unwrap();
        let own = |s: &SessionRecord| {
            use backupengine_model::ledger::SessionState::Open;
            s.session == session && s.device == writer && s.state == Open
        };
        sessions.iter().any(own) || self.lies.metadata.lock().unwrap().contains(&(session, number))
    }
}

impl BlobReader for Liar {
    fn get(&self, key: BlobKey, range: Range) -> BoxFuture<'_, Result<Got, StoreError>> {
        if !self.allows(key) {
            self.lies.denied.lock().unwrap().push(key);
            return Box::pin(async { Err(StoreError::new(ErrorKind::Denied, "role_denied")) });
        }
        let answer = match self.lies.blobs.lock().unwrap().get(&key) {
            None => return self.inner.get(key, range),
            Some(Lie::Missing) => Err(StoreError::new(ErrorKind::NotFound, "no such blob")),
            Some(Lie::Denied) => Err(StoreError::new(ErrorKind::Denied, "not allowed")),
            Some(Lie::Bytes(bytes)) => {
                let total = bytes.len() as u64;
                match range.resolve(total) {
                    None => Err(StoreError::new(ErrorKind::BadRange, "outside")),
                    Some((offset, len)) => {
                        let part = &bytes[offset as usize..(offset + len) as usize];
                        Ok(Got { bytes: Bytes::copy_from_slice(part), offset, total })
                    }
                }
            }
        };
        Box::pin(async { answer })
    }

    fn list(&self, kind: BlobKind) -> BoxFuture<'_, Result<Vec<(BlobKey, u64)>, StoreError>> {
        let blobs = self.lies.blobs.lock().unwrap();
        let listed = now(self.inner.list(kind)).map(|mut listed| {
            // An envelope of its own, which it stored beside the others.
            let added = blobs.iter().filter_map(|(key, lie)| match (kind, key, lie) {
                (BlobKind::Envelopes, BlobKey::Envelope(_), Lie::Bytes(bytes)) => {
                    Some((*key, bytes.len() as u64))
                }
                _ => None,
            });
            listed.extend(added);
            listed.sort_unstable();
            listed.dedup_by_key(|(key, _)| *key);
            listed.retain(|(key, _)| !matches!(blobs.get(key), Some(Lie::Missing)));
            listed
        });
        Box::pin(async { listed })
    }

    fn grid(&self) -> u64 {
        self.inner.grid()
    }
}

impl BlobWriter for Liar {
    fn spool(&self) -> Result<Spool, StoreError> {
        self.inner.spool()
    }

    fn put(&self, key: BlobKey, spool: Spool) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.put(key, spool)
    }
}

impl LedgerReader for Liar {
    fn vault(&self) -> BoxFuture<'_, Result<VaultId, StoreError>> {
        match *self.lies.id.lock().unwrap() {
            Some(id) => Box::pin(async move { Ok(id) }),
            None => self.inner.vault(),
        }
    }

    fn version(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        let version = now(self.snapshots()).map(|list| list.version);
        Box::pin(async { version })
    }

    fn snapshots(&self) -> BoxFuture<'_, Result<SnapshotList, StoreError>> {
        let list = now(self.inner.snapshots()).map(|mut list| {
            if let Some(lie) = &*self.lies.list.lock().unwrap() {
                lie(&mut list);
            }
            list
        });
        Box::pin(async { list })
    }

    fn sessions(&self) -> BoxFuture<'_, Result<SessionList, StoreError>> {
        match self.lies.sessions.lock().unwrap().clone() {
            Some(sessions) => Box::pin(async { Ok(SessionList { gc_epoch: 0, sessions }) }),
            None => self.inner.sessions(),
        }
    }

    fn space(&self) -> BoxFuture<'_, Result<(u64, Option<u64>), StoreError>> {
        self.inner.space()
    }
}

impl LedgerWriter for Liar {
    fn open_session(&self, device: DeviceId, now: Timestamp) -> BoxFuture<'_, Result<Opened, StoreError>> {
        self.inner.open_session(device, now)
    }

    fn commit<'a>(&'a self, device: DeviceId, commit: &'a Commit) -> BoxFuture<'a, Result<(), StoreError>> {
        let own = commit.snapshot.session;
        let runs = commit.meta_packs.iter().filter(|run| run.session == own);
        let packs = runs.flat_map(|run| (run.from..run.from + run.count).map(move |number| (own, number)));
        self.lies.metadata.lock().unwrap().extend(packs);
        self.lies.commits.lock().unwrap().push(commit.clone());
        self.inner.commit(device, commit)
    }

    fn revive<'a>(&'a self, packs: &'a [PackRun]) -> BoxFuture<'a, Result<Counters, StoreError>> {
        self.inner.revive(packs)
    }
}
