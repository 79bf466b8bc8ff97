//! The real client on the real control plane, counted and disturbed: how many calls a listing costs, grants and
//! tokens that end in the middle, a server that goes away, several processes with one login.
mod keeper;

use backupengine_api::{OfVault, op};
use backupengine_model::{ContentReader, NodeId, SessionNo, TreeReader};
use backupengine_push::Device as Pushing;
use backupengine_seal::{Passphrase, Role, UnlockSecret};
use backupengine_store::{LedgerReader, Readable};
use backupengine_testkit::build::{PASSPHRASE, Pusher, TestVault, VAULT};
use backupengine_testkit::shown::everything;
use backupengine_testkit::wait;
use backupengine_tests::account::{Device, DeviceKeys, Server, Session, base64, idem};
use backupengine_transfer::{Account, AccountConfig, PresignedConfig, PresignedStore};
use backupengine_vault::{Locked, Vault, VaultConfig};
use keeper::FileKeeper;
use serde_json::json;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

/// A control plane, an account with a vault that was pushed to, and a second device that only reads.
struct Room {
    vault: TestVault,
    pusher: Pusher,
    reader: Account,
    /// The reader's login.
    login: Session,
    source: tempfile::TempDir,
    spools: tempfile::TempDir,
    // After what calls it.
    server: Server,
}

impl Room {
    /// With three snapshots of a folder that holds a file of `large` bytes.
    fn new(server: Server, large: usize) -> Self {
        let (source, spools) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (vault, pusher, reader, login) = {
            let user = server.user("a@example.org");
            let (first, second) = (user.device(1), user.device(2));
            first.ok(
                "vault-create",
                &json!({"vault": VAULT.to_string(), "root_public": base64(&[7; 32]),
                        "certificate": base64(b"c"), "idem": idem()}),
            );
            first.ok("device-approve", &approval(&second, "reader"));
            let vault = TestVault::around(Arc::new(open(&first.account(), spools.path())));
            vault.put_envelopes();
            let pusher = pusher(&vault, &first.keys);
            (vault, pusher, second.account(), second.session.clone())
        };
        std::fs::create_dir(source.path().join("folder")).unwrap();
        std::fs::write(source.path().join("folder/large"), noise(large)).unwrap();
        for number in 0..3 {
            std::fs::write(source.path().join(format!("file {number}")), format!("text {number}")).unwrap();
            pusher.push(source.path());
        }
        Self { vault, pusher, reader, login, source, spools, server }
    }

    /// The reader's store, opened now, and how many calls were made before.
    fn store(&self) -> PresignedStore {
        open(&self.reader, self.spools.path())
    }

    /// Of the large file in the newest snapshot.
    fn large(&self, vault: &Vault) -> NodeId {
        let newest = newest(vault);
        let source = self.source.path().canonicalize().unwrap();
        let names = source.components().skip(1).map(|part| part.as_os_str().to_owned());
        let names = names.chain(["folder".into(), "large".into()]);
        names.fold(NodeId::root(newest), |dir, name| {
            vault.lookup(dir, name.as_encoded_bytes()).unwrap().expect("it was pushed").id
        })
    }
}

/// A device of the vault's with the keys that the account knows.
fn pusher(vault: &TestVault, keys: &DeviceKeys) -> Pusher {
    let mut pusher = vault.pusher("laptop");
    let key = keys.device_key();
    let certificate = vault.root_key.certify(VAULT, key.public(), Role::Owner, 1_600_000_000);
    pusher.device = Pushing { key, certificate };
    pusher
}

fn open(account: &Account, spools: &Path) -> PresignedStore {
    PresignedStore::open(account, PresignedConfig::new(spools.to_owned())).unwrap()
}

fn approval(device: &Device<'_>, role: &str) -> serde_json::Value {
    json!({"vault": VAULT.to_string(), "device": device.keys.device().to_string(), "role": role,
           "certificate": base64(b"c"), "idem": idem()})
}

/// Nothing is opened ahead: what is counted is what a reader waits for.
fn config() -> VaultConfig {
    VaultConfig { read_ahead_threads: 0, ..VaultConfig::default() }
}

fn unlocked(room: &Room, store: &PresignedStore) -> Vault {
    let locked = Locked::open(Arc::new(store.clone()) as Arc<dyn Readable>).unwrap();
    locked.unlock_as(room.vault.keyring.clone(), config()).unwrap()
}

fn newest(vault: &Vault) -> SessionNo {
    vault.snapshots().unwrap().last().unwrap().session
}

/// Bytes that neither compress nor repeat.
fn noise(len: usize) -> Vec<u8> {
    let mut x = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::from_fn(|| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        Some(x as u8)
    })
    .take(len)
    .collect()
}

fn times(calls: &[&'static str], op: &str) -> usize {
    calls.iter().filter(|call| **call == op).count()
}

#[test]
fn a_new_machine_lists_with_one_call_and_one_get() {
    let room = Room::new(Server::start(), 300_000);
    let store = room.store();
    let locked = Locked::open(Arc::new(store.clone()) as Arc<dyn Readable>).unwrap();
    let phrase = Passphrase::new(PASSPHRASE.to_owned());
    let vault = locked.unlock(&UnlockSecret::Passphrase(&phrase), config()).unwrap().vault;
    let page = TreeReader::list(&vault, NodeId::root(newest(&vault)), 0, 100).unwrap().slots;
    assert!(!page.is_empty());
    for slot in page {
        assert_eq!(vault.node(slot.node.id).unwrap(), slot.node);
    }
    assert_eq!(room.reader.calls(), ["mount"]);
    assert_eq!(store.requests(), (1, 0));
}

/// The grants that the opening call brought are enough for what the first steps into the tree read.
#[test]
fn metadata_needs_no_further_grants() {
    let room = Room::new(Server::start(), 300_000);
    let store = room.store();
    let vault = unlocked(&room, &store);
    let large = room.large(&vault);
    assert_eq!(vault.node(large).unwrap().attributes.size, 300_000);
    assert_eq!(times(&room.reader.calls(), "urls"), 0, "{:?}", room.reader.calls());
}

#[test]
fn grants_that_end_in_the_middle_are_renewed() {
    const LARGE: usize = 12 << 20;
    let room = Room::new(Server::with(|config| config.grant_life = Duration::from_secs(2)), LARGE);
    let store = room.store();
    let vault = unlocked(&room, &store);
    let (file, bytes) = (room.large(&vault), noise(LARGE));
    let (mut gets, mut urls) = (store.requests().0, times(&room.reader.calls(), "urls"));
    for at in [0, 6 << 20, (12 << 20) - 5000] {
        let mut out = vec![0; 5000];
        assert_eq!(vault.read_at(file, at as u64, &mut out).unwrap(), 5000);
        assert!(out == bytes[at..][..5000], "other bytes at {at}");
        let (more_gets, more_urls) = (store.requests().0, times(&room.reader.calls(), "urls"));
        assert!(more_gets > gets, "at {at} something is read from storage");
        assert!(more_urls > urls || at == 0, "at {at} the grants at hand have ended");
        (gets, urls) = (more_gets, more_urls);
        std::thread::sleep(Duration::from_millis(2100));
    }
    // They really end: storage refuses one that was good a while ago.
    let mounted = store.mounted();
    let grant = mounted.grants[0].url.as_ref().unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let status = room.server.wait(async { client.get(&grant.0).send().await.unwrap().status().as_u16() });
    assert_eq!(status, 403);
}

#[test]
fn a_server_that_goes_away_and_comes_back_is_waited_for() {
    let mut room = Room::new(Server::start(), 300_000);
    let config =
        PresignedConfig { fresh: Duration::ZERO, ..PresignedConfig::new(room.spools.path().to_owned()) };
    let store = PresignedStore::open(&room.reader, config).unwrap();
    let vault = unlocked(&room, &store);
    let file = room.large(&vault);
    let done = AtomicBool::new(false);
    let bytes = noise(300_000);
    let session = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            // How many come through meanwhile is the machine's matter; one is asked after the last gap.
            loop {
                let over = done.load(Ordering::Relaxed);
                wait(store.version()).unwrap();
                if over {
                    return;
                }
            }
        });
        // A push through the gap as well.
        std::fs::write(room.source.path().join("one more"), b"one more").unwrap();
        let pushing = scope.spawn(|| room.pusher.push(room.source.path()));
        room.server.restart();
        let mut out = vec![0; 300_000];
        assert_eq!(vault.read_at(file, 0, &mut out).unwrap(), 300_000);
        assert!(out == bytes);
        room.server.restart();
        let session = pushing.join().unwrap();
        done.store(true, Ordering::Relaxed);
        asking.join().unwrap();
        session
    });
    assert_eq!(newest(&unlocked(&room, &room.store())), session);
}

#[test]
fn a_token_that_ends_is_renewed_without_a_word() {
    let room = Room::new(Server::with(|config| config.access_life = Duration::from_secs(5)), 1000);
    let version = OfVault { vault: VAULT };
    let count = || -> i64 { room.server.admin().row("select count(*) from auth.refresh_tokens", &[]).get(0) };
    let (before, begun) = (count(), std::time::Instant::now());
    while count() == before {
        assert!(begun.elapsed() < Duration::from_secs(8), "no token was renewed");
        room.reader.call::<op::Version>(&version).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    room.reader.call::<op::Version>(&version).unwrap();
}

/// Tells a process that it is the child of the next test: where the tokens lie, and whom to call.
const CHILD: &str = "TRANSFER_CHILD";

#[test]
fn threads_and_processes_with_one_login_renew_it_once() {
    if let Some(told) = std::env::var_os(CHILD) {
        let told = told.into_string().unwrap();
        let (base, folder) = told.split_once(' ').unwrap();
        return from_eight_threads(base, Path::new(folder));
    }
    let room = Room::new(Server::start(), 1000);
    let folder = tempfile::tempdir().unwrap();
    // A token that is good, and whose keeper says it has ended.
    FileKeeper::new(folder.path()).write(&room.login.access, 0, &room.login.refresh);
    let count = || -> i64 { room.server.admin().row("select count(*) from auth.refresh_tokens", &[]).get(0) };
    let before = count();
    let run = || {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "transfer::threads_and_processes_with_one_login_renew_it_once",
                "--test-threads=1",
            ])
            .env(CHILD, format!("{} {}", room.server.base(), folder.path().display()))
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    for mut child in [run(), run()] {
        assert!(child.wait().unwrap().success(), "a process failed");
    }
    assert_eq!(count(), before + 1, "each renewal is a row");
}

fn from_eight_threads(base: &str, folder: &Path) {
    let config = AccountConfig { base: base.to_owned(), timeout: Duration::from_secs(60) };
    let (signer, keeper) = (Arc::new(DeviceKeys::from_seed(2)), Arc::new(FileKeeper::new(folder)));
    let account = Account::new(config, signer, keeper).unwrap();
    let start = Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                account.call::<op::Version>(&OfVault { vault: VAULT }).unwrap();
            });
        }
    });
    assert_eq!(account.calls(), ["version"; 8], "no call was made twice");
}

/// A mount that reads for weeks from what its device keeps asks for no grants: it renews the lease by itself, with all
/// that it opened.
#[test]
fn a_lease_that_was_forgotten_is_made_again_with_what_was_opened() {
    let room = Room::new(Server::start(), 1000);
    let store = room.store();
    let vault = unlocked(&room, &store);
    for snapshot in vault.snapshots().unwrap().iter() {
        everything(&vault, snapshot.session).unwrap();
    }
    let opened = vault.opened();
    assert_eq!(opened.len(), 3);
    let lease = store.mounted().lease.id.clone();
    let admin = room.server.admin();
    // As after three days of silence.
    admin.execute("delete from app.lease", &[]).unwrap();
    store.renew_lease(&opened).unwrap();
    let row = admin.row(
        "select snapshots, expires_at > now() + interval '50 minutes' from app.lease where id = $1::text::uuid",
        &[&lease],
    );
    let mut held: Vec<i64> = opened.iter().map(|session| i64::from(session.0)).collect();
    let mut leased: Vec<i64> = row.get(0);
    held.sort_unstable();
    leased.sort_unstable();
    assert_eq!(leased, held);
    assert!(row.get::<_, bool>(1));
}
