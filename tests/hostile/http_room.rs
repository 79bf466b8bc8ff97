//! What the cases over HTTP begin with: the real client, the real control plane and object storage, and somebody
//! between them on either way.
//!
//! May not do what a server could not: it has bytes, records and grants, no key. What always holds: the room was
//! pushed to and read through the same relays before the first lie.
use crate::world::{Tree, noise};
use backupengine_api::{GetGrant, MountedVault, SnapshotListed, SnapshotPage, Urls};
use backupengine_model::{ReadError, SessionNo};
use backupengine_push::Device;
use backupengine_seal::Role;
use backupengine_store::{BlobKey, BlobKind, BlobReader, Range, Readable};
use backupengine_testkit::build::{Pusher, TestVault, VAULT};
use backupengine_testkit::shown;
use backupengine_testkit::wait;
use backupengine_tests::account::{DeviceKeys, MemoryKeeper, Server, base64, idem};
use backupengine_tests::relay::{Asked, Relay, Reply};
use backupengine_transfer::{Account, PresignedConfig, PresignedStore, TransferError};
use backupengine_vault::Vault;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A vault of an account with some history.
pub(crate) struct Room {
    pub(crate) vault: TestVault,
    pub(crate) device: Pusher,
    /// Each pushed a new small file; a large one is in all of them.
    pub(crate) sessions: Vec<SessionNo>,
    pub(crate) account: Account,
    /// The same device's, for cases in which the control plane stays away: its calls end soon.
    pub(crate) hurried: Account,
    /// A second device that the server let in: nobody certified its key.
    pub(crate) stranger: (Account, DeviceKeys),
    /// Before the control plane.
    pub(crate) control: Relay,
    /// Before object storage.
    pub(crate) storage: Relay,
    pub(crate) server: Server,
    folder: tempfile::TempDir,
    spools: tempfile::TempDir,
}

impl Room {
    /// With `pushes` snapshots.
    pub(crate) fn with(pushes: u32) -> Self {
        let (control, storage) = (Relay::start(), Relay::start());
        let server = Server::behind(&control, &storage, |_| {}, |_| {});
        let (folder, spools) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (account, hurried, keys, stranger) = {
            let user = server.user("a@example.org");
            let (first, second) = (user.device(1), user.device(2));
            let made = json!({"vault": VAULT.to_string(), "root_public": base64(&[7; 32]),
                              "certificate": base64(b"c"), "idem": idem()});
            first.ok("vault-create", &made);
            let id = second.keys.device().to_string();
            let approved = json!({"vault": VAULT.to_string(), "device": id, "role": "owner",
                                  "certificate": base64(b"c"), "idem": idem()});
            first.ok("device-approve", &approved);
            let hurried = first.account_within(MemoryKeeper::new(&first.session), Duration::from_secs(1));
            (first.account(), hurried, first.keys.clone(), (second.account(), second.keys.clone()))
        };
        let vault = TestVault::around(Arc::new(open(&account, spools.path(), Duration::from_secs(2))));
        vault.put_envelopes();
        let device = pusher(&vault, &keys);
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        std::fs::write(folder.path().join("folder/large"), noise(1, 300_000)).unwrap();
        let sessions = Vec::new();
        let mut room = Self {
            vault,
            device,
            sessions,
            account,
            hurried,
            stranger,
            control,
            storage,
            server,
            folder,
            spools,
        };
        for _ in 0..pushes {
            room.grow();
        }
        room
    }

    /// A new file, pushed.
    pub(crate) fn grow(&mut self) -> SessionNo {
        let n = self.sessions.len();
        let path = self.source().join(format!("file {n}"));
        std::fs::write(path, format!("the text of file {n}")).unwrap();
        let session = self.device.push(self.source());
        self.sessions.push(session);
        session
    }

    pub(crate) fn source(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn newest(&self) -> SessionNo {
        *self.sessions.last().unwrap()
    }

    /// A store that has only what is answered from now on; two tries, so that no case waits long.
    pub(crate) fn store(&self) -> PresignedStore {
        open(&self.account, self.spools.path(), Duration::from_secs(2))
    }

    /// One that asks for the list each time.
    pub(crate) fn asking_store(&self) -> PresignedStore {
        open(&self.account, self.spools.path(), Duration::ZERO)
    }

    /// One whose calls end soon, and that asks for the list each time.
    pub(crate) fn hurried_store(&self) -> Result<PresignedStore, TransferError> {
        let config = PresignedConfig {
            fresh: Duration::ZERO,
            tries: 2,
            timeout: Duration::from_secs(1),
            ..PresignedConfig::new(self.spools.path().to_owned())
        };
        PresignedStore::open(&self.hurried, config)
    }

    /// A client that has only the server's word.
    pub(crate) fn client(&self) -> Vault {
        self.client_on(&self.store())
    }

    pub(crate) fn client_on(&self, store: &PresignedStore) -> Vault {
        self.vault.reader_on(Arc::new(store.clone()) as Arc<dyn Readable>)
    }

    /// What a snapshot really shows: read while nobody lies.
    pub(crate) fn truth(&self, session: SessionNo) -> Tree {
        shown::everything(&self.client(), session).unwrap()
    }

    /// Reads a snapshot to the last byte: the truth or an error, never anything else.
    pub(crate) fn reads(&self, session: SessionNo, truth: &Tree) -> Result<(), ReadError> {
        let tree = shown::everything(&self.client(), session)?;
        assert!(tree == *truth, "other bytes were shown than were pushed");
        Ok(())
    }

    /// The true bytes of a blob, as they lie in the bucket.
    pub(crate) fn blob(&self, key: BlobKey) -> Vec<u8> {
        std::fs::read(self.server.objects().join(VAULT.to_string()).join(key.to_string())).unwrap()
    }

    /// All packs and roots.
    pub(crate) fn names(&self) -> Vec<BlobKey> {
        let store = self.store();
        let of = |kind| wait(store.list(kind)).unwrap().into_iter().map(|(key, _)| key);
        of(BlobKind::Packs).chain(of(BlobKind::Roots)).collect()
    }

    /// Object storage answers `reply` for this blob, everything else as it is.
    pub(crate) fn says(
        &self,
        key: BlobKey,
        reply: impl Fn(&Asked, &dyn Fn() -> Reply) -> Reply + Send + Sync + 'static,
    ) {
        self.storage.lies(move |asked, pass| if is(asked, key) { reply(asked, pass) } else { pass() });
    }

    /// Object storage has these bytes under this name.
    pub(crate) fn has(&self, key: BlobKey, bytes: Vec<u8>) {
        self.says(key, move |asked, _| Reply::part(&bytes, asked.header("range")));
    }

    /// The control plane's answer to an operation, as it is now.
    pub(crate) fn answer_to(&self, op: &'static str, ask: impl FnOnce(&PresignedStore)) -> Reply {
        let kept = Arc::new(Mutex::new(None));
        let keep = Arc::clone(&kept);
        self.control.lies(move |asked, pass| {
            let reply = pass();
            if asked.op() == op {
                *keep.lock().unwrap() = Some(reply.clone());
            }
            reply
        });
        ask(&self.asking_store());
        self.control.is_honest();
        kept.lock().unwrap().take().unwrap()
    }

    /// The control plane changes every list of snapshots, also the one that the opening call brings.
    pub(crate) fn lists(&self, change: impl Fn(&mut Vec<SnapshotListed>) + Send + Sync + 'static) {
        self.control.lies(move |asked, pass| {
            let mut reply = pass();
            match asked.op() {
                "mount" => {
                    changed::<MountedVault>(&mut reply, |answer| change(&mut answer.snapshots.snapshots))
                }
                "snapshot-list" => changed::<SnapshotPage>(&mut reply, |page| change(&mut page.snapshots)),
                _ => {}
            }
            reply
        });
    }

    /// The control plane changes every answer to the opening call.
    pub(crate) fn mounts(&self, change: impl Fn(&mut MountedVault) + Send + Sync + 'static) {
        self.control.lies(move |asked, pass| {
            let mut reply = pass();
            if asked.op() == "mount" {
                changed(&mut reply, &change);
            }
            reply
        });
    }

    /// The control plane changes all grants to read.
    pub(crate) fn grants(&self, change: impl Fn(&mut Vec<GetGrant>) + Send + Sync + 'static) {
        self.control.lies(move |asked, pass| {
            let mut reply = pass();
            match asked.op() {
                "mount" => changed::<MountedVault>(&mut reply, |answer| change(&mut answer.grants)),
                "urls" => changed::<Urls>(&mut reply, |answer| change(&mut answer.grants)),
                _ => {}
            }
            reply
        });
    }
}

/// An answer, changed; a refusal stays as it is.
pub(crate) fn changed<T: DeserializeOwned + Serialize>(reply: &mut Reply, change: impl FnOnce(&mut T)) {
    if reply.status == 200 {
        let mut answer = serde_json::from_slice(&reply.body).unwrap();
        change(&mut answer);
        reply.body = serde_json::to_vec(&answer).unwrap();
    }
}

/// Whether this is asked of object storage.
pub(crate) fn is(asked: &Asked, key: BlobKey) -> bool {
    asked.path.ends_with(&format!("/{VAULT}/{key}"))
}

/// A device of the vault's with keys that the account knows, certified by the vault's root key.
pub(crate) fn pusher(vault: &TestVault, keys: &DeviceKeys) -> Pusher {
    let mut pusher = vault.pusher("laptop");
    let key = keys.device_key();
    let certificate = vault.root_key.certify(VAULT, key.public(), Role::Owner, 1_600_000_000);
    pusher.device = Device { key, certificate };
    pusher
}

/// The real store.
pub(crate) fn open(account: &Account, spools: &Path, fresh: Duration) -> PresignedStore {
    let config = PresignedConfig {
        fresh,
        tries: 2,
        timeout: Duration::from_secs(5),
        ..PresignedConfig::new(spools.to_owned())
    };
    PresignedStore::open(account, config).unwrap()
}

/// A read of the first bytes of a blob.
pub(crate) fn first_bytes(
    store: &PresignedStore,
    key: BlobKey,
) -> Result<Vec<u8>, backupengine_store::StoreError> {
    wait(store.get(key, Range::At { offset: 0, len: 16 })).map(|got| got.bytes.to_vec())
}
