//! Whole vaults for tests: made, keyed, with devices that push.
//!
//! May not take a shortcut a real face does not have: keys are derived and certified as `init` does it, pushes
//! go through `push`, reads through `vault`. Only the passphrase hash is left out unless asked for, because it is
//! slow on purpose. Used by `tests/protocol`, `tests/limits`, `tests/damage` and `tests/oracle`.

use crate::{FakeClock, Seeded, wait};
use backupengine_model::{SessionNo, VaultId};
use backupengine_push::{Device, Observer, PushConfig, PushError, PushReport, PushStats, push};
use backupengine_seal::{
    DedupSecret, DeviceKey, KdfParams, Keyring, MasterSecret, Passphrase, RecoveryCode, Role, RootKey,
    UnlockSecret, seal_envelope,
};
use backupengine_source::{Notice, WalkConfig};
use backupengine_store::{BlobKey, EnvelopeId, FolderStore, MemoryStore, Readable, Writable};
use backupengine_vault::{Locked, Vault, VaultConfig};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tempfile::TempDir;

/// The id every vault made here has.
pub const VAULT: VaultId = VaultId([0xb7; 16]);
/// What [`TestVault::put_envelopes`] seals under.
pub const PASSPHRASE: &str = "correct horse battery staple";
/// The entropy of the recovery code it seals under.
pub const RECOVERY: [u8; 32] = [0x4c; 32];

/// A vault with its keys. Dropped, it takes its folder with it.
pub struct TestVault {
    /// Where it lies.
    pub store: Arc<dyn Writable>,
    /// The opened keys.
    pub keyring: Keyring,
    /// Certifies devices.
    pub root_key: RootKey,
    /// Time for pushes: 2023-11-14, a minute later after each push.
    pub clock: Arc<FakeClock>,
    folder: Option<TempDir>,
}

/// A device of a [`TestVault`]: keys, certificate and a state folder of its own.
pub struct Pusher {
    /// Signs and is certified.
    pub device: Device,
    /// Where its random bytes come from; different for every device and every [`Pusher`].
    pub random: Arc<Seeded>,
    name: String,
    state: TempDir,
    store: Arc<dyn Writable>,
    keyring: Keyring,
    clock: Arc<FakeClock>,
}

impl TestVault {
    /// In memory.
    pub fn in_memory() -> Self {
        Self::around(Arc::new(MemoryStore::new(VAULT)))
    }

    /// In a temporary folder.
    ///
    /// # Panics
    /// Where the folder cannot be made.
    pub fn in_folder() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let store = FolderStore::create(&folder.path().join("vault"), VAULT).expect("a vault can be made");
        Self { folder: Some(folder), ..Self::around(Arc::new(store)) }
    }

    /// On a store that is there already: the same keys on every call.
    pub fn around(store: Arc<dyn Writable>) -> Self {
        let root_key = RootKey::from_seed([0x0c; 32]);
        let (master, dedup) = (MasterSecret::from_bytes([0xa3; 32]), DedupSecret::from_bytes([0xd5; 32]));
        let keyring = Keyring::new(VAULT, master, dedup, root_key.public());
        Self { store, keyring, root_key, clock: Arc::new(FakeClock::at(1_700_000_000)), folder: None }
    }

    /// The vault's folder, where it has one.
    pub fn folder(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.path().join("vault"))
    }

    /// Puts an envelope of the keys there are now under [`PASSPHRASE`] (at the least cost that is allowed) and one under
    /// [`RECOVERY`]. Once for each key epoch.
    ///
    /// # Panics
    /// Where they cannot be put.
    pub fn put_envelopes(&self) {
        let (passphrase, code) =
            (Passphrase::new(PASSPHRASE.to_owned()), RecoveryCode::from_entropy(RECOVERY));
        let secrets = [UnlockSecret::Passphrase(&passphrase), UnlockSecret::Recovery(&code)];
        let first = u8::try_from(2 * self.keyring.current_epoch() - 1).expect("few rotations");
        for (number, secret) in (first..).zip(secrets) {
            let envelope =
                seal_envelope(&self.keyring, Some(&self.root_key), &secret, KdfParams::FLOOR, [number; 44])
                    .expect("an envelope can be sealed");
            let mut spool = self.store.spool().expect("a spool begins");
            spool.write_all(&envelope).expect("an envelope is written");
            wait(self.store.put(BlobKey::Envelope(EnvelopeId([number; 8])), spool))
                .expect("an envelope is put");
        }
    }

    /// A fresh reader, with nothing cached.
    pub fn reader(&self) -> Vault {
        self.reader_on(Arc::clone(&self.store) as Arc<dyn Readable>)
    }

    /// A fresh reader on another store that holds the same vault, such as a wrapper.
    ///
    /// # Panics
    /// Where the store does not say which vault it is.
    pub fn reader_on(&self, store: Arc<dyn Readable>) -> Vault {
        let locked = Locked::open(store).expect("the vault says its id");
        locked.unlock_as(self.keyring.clone(), VaultConfig::default()).expect("the keys are this vault's")
    }

    /// A device that may push. The same name has the same key; its state folder is fresh.
    ///
    /// # Panics
    /// Where the state folder cannot be made.
    pub fn pusher(&self, name: &str) -> Pusher {
        let mut seed = [0x1d; 32];
        for (at, byte) in name.bytes().enumerate() {
            seed[at % 32] ^= byte.rotate_left(at as u32 / 32);
        }
        let key = DeviceKey::from_seed(seed);
        let certificate = self.root_key.certify(VAULT, key.public(), Role::Owner, 1_600_000_000);
        let state = tempfile::tempdir().expect("a temporary folder can be made");
        Pusher {
            device: Device { key, certificate },
            random: Arc::new(Seeded::new(unlike_any_before())),
            name: name.to_owned(),
            state,
            store: Arc::clone(&self.store),
            keyring: self.keyring.clone(),
            clock: Arc::clone(&self.clock),
        }
    }
}

/// Two pushers must not draw the same salts: over processes, too.
fn unlike_any_before() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    u64::from(std::process::id()) << 32 | NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Pusher {
    /// What it pushes `source` with, unless changed.
    pub fn config(&self, source: &Path) -> PushConfig {
        let walk = WalkConfig { roots: vec![source.to_owned()], threads: 2, ..WalkConfig::default() };
        PushConfig {
            walk,
            device_name: self.name.clone(),
            tags: Vec::new(),
            canaries: Vec::new(),
            created: self.clock.now(),
            state: self.state.path().to_owned(),
            dry_run: false,
            threads: 2,
        }
    }

    /// Goes on with the keys that `vault` has now.
    pub fn rekey(&mut self, vault: &TestVault) {
        self.keyring = vault.keyring.clone();
    }

    /// Its side files and dedup index.
    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// Pushes a folder and says which session made the snapshot.
    ///
    /// # Panics
    /// Where the push fails.
    pub fn push(&self, source: &Path) -> SessionNo {
        let report = self.push_with(self.config(source)).unwrap_or_else(|e| panic!("the push failed: {e:?}"));
        report.snapshot.expect("a push that is not dry makes a snapshot").0
    }

    /// Pushes as configured.
    ///
    /// # Errors
    /// Those of [`push`].
    pub fn push_with(&self, config: PushConfig) -> Result<PushReport, PushError> {
        self.push_to(&self.store, config, &Unwatched)
    }

    /// Pushes as configured, to a wrapper of the vault's store, watched.
    ///
    /// # Errors
    /// Those of [`push`].
    pub fn push_to(
        &self,
        store: &Arc<dyn Writable>,
        config: PushConfig,
        observer: &dyn Observer,
    ) -> Result<PushReport, PushError> {
        self.clock.advance(60);
        let locked = Locked::open(Arc::clone(store) as Arc<dyn Readable>)?;
        let vault = locked.unlock_as(self.keyring.clone(), VaultConfig::default())?;
        let random = |out: &mut [u8]| self.random.fill(out);
        let stop = AtomicBool::new(false);
        push(&vault, Arc::clone(store), &self.device, config, &random, &stop, observer)
    }
}

/// An observer that does not look.
pub struct Unwatched;

impl Observer for Unwatched {
    fn progress(&self, _stats: &PushStats, _current: &Path) {}
    fn notice(&self, _notice: &Notice) {}
}
