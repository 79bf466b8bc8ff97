//! Puts the parts together: which vault, which secret, which device, and the memory of what was seen.
//!
//! **What it may not do.** Hold logic of its own about formats or keys.
//! **What always holds.** A secret that was given explicitly is the one that is tried. Nothing is read from a
//! vault's snapshots before the floor was checked.
//! **Where it is tested.** `tests/cli`.

use crate::args::Global;
use crate::config::{Config, Places};
use crate::error::{Failure, Kind};
use crate::keychain::{self, Device};
use crate::output::tell;
use crate::{floor, secret};
use backupengine_seal::{Passphrase, RootKey, UnlockSecret};
use backupengine_store::{FolderStore, Readable, Writable};
use backupengine_vault::{Floor, Locked, Unlocked, Vault, VaultConfig, VaultError};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

/// Bytes for opened pages and frames where no flag says otherwise.
pub(crate) const MEMORY: u64 = 96 << 20;

/// What every command is given.
pub(crate) struct Wire {
    pub(crate) global: Global,
    pub(crate) places: Places,
    pub(crate) config: Config,
    /// Raised by SIGINT and SIGTERM.
    pub(crate) stop: Arc<AtomicBool>,
}

/// An open vault.
pub(crate) struct Opened {
    pub(crate) vault: Vault,
    pub(crate) store: FolderStore,
    /// This device, where it is one of the vault's.
    pub(crate) device: Option<Device>,
    /// Only after unlocking with the recovery code.
    root_key: Option<RootKey>,
}

impl Wire {
    /// Whether a signal asked to stop.
    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The folder of the vault, as it was said. `given` is the command's own argument.
    ///
    /// # Errors
    /// Bad usage where nothing says which vault, or it is not a folder's path.
    pub(crate) fn vault_folder(&self, given: Option<&Path>) -> Result<PathBuf, Failure> {
        let variable = || std::env::var_os("BACKUPENGINE_VAULT").filter(|v| !v.is_empty()).map(PathBuf::from);
        let folder = given
            .map(Path::to_owned)
            .or_else(|| self.global.vault.clone())
            .or_else(variable)
            .or_else(|| self.config.vault.clone())
            .ok_or_else(|| {
                Failure::usage("no vault is known")
                    .hint("make one: backupengine init FOLDER")
                    .hint("or say where one is: --vault FOLDER or BACKUPENGINE_VAULT")
            })?;
        if folder.to_str().is_some_and(|text| text.contains("://")) {
            return Err(Failure::usage(format!("{} is no folder", folder.display()))
                .hint("vaults of an account come with a later version; give the path of a folder"));
        }
        std::path::absolute(&folder).map_err(|e| Failure::io("resolve", &folder, e))
    }

    /// Opens the store of the vault, without its keys.
    ///
    /// # Errors
    /// Where there is no vault this program can read.
    pub(crate) fn open_store(&self) -> Result<FolderStore, Failure> {
        Ok(FolderStore::open(&self.vault_folder(None)?)?)
    }

    /// Opens the vault with whatever secret there is, and checks it against what was seen before.
    ///
    /// # Errors
    /// No vault, no or a wrong secret, a vault that shows another past.
    pub(crate) fn open(&self, memory: u64) -> Result<Opened, Failure> {
        let store = self.open_store()?;
        let readable: Arc<dyn Readable> = Arc::new(store.clone());
        let locked = Locked::open(readable.clone())?;
        let device = Device::load(&keychain::path(&self.places.state, locked.vault()))?;
        let unlocked = self.unlock(locked, &readable, device.as_ref(), memory)?;
        let opened = Opened { vault: unlocked.vault, store, device, root_key: unlocked.root_key };
        self.hold_against_floor(&opened.vault)?;
        tracing::info!(
            folder = ?opened.store.folder(),
            vault = %opened.vault.keyring().vault(),
            device = opened.device.as_ref().map(|d| d.id().to_string()),
            "the vault is open"
        );
        Ok(opened)
    }

    fn unlock(
        &self,
        locked: Locked,
        store: &Arc<dyn Readable>,
        device: Option<&Device>,
        memory: u64,
    ) -> Result<Unlocked, Failure> {
        let config = VaultConfig { memory, read_ahead_threads: read_ahead_threads() };
        if let Some(mut text) = secret::given_passphrase(&self.global)? {
            tracing::debug!("unlocking with the passphrase that was given");
            let passphrase = Passphrase::new(std::mem::take(&mut text));
            return Ok(locked.unlock(&UnlockSecret::Passphrase(&passphrase), config)?);
        }
        if let Some(code) = secret::given_recovery_code(&self.global)? {
            tracing::debug!("unlocking with the recovery code that was given");
            return Ok(locked.unlock(&UnlockSecret::Recovery(&code), config)?);
        }
        let mut locked = locked;
        if let Some(device) = device {
            tracing::debug!("unlocking with the key that this device keeps");
            match locked.unlock_with(&device.envelope, &device.unlock_secret(), config.clone()) {
                Err(VaultError::WrongSecret | VaultError::OtherVault { .. }) => {
                    tracing::warn!("the key that this device keeps does not open the vault any more");
                    locked = Locked::open(store.clone())?;
                }
                other => return Ok(other?),
            }
        }
        let passphrase = secret::ask_passphrase()?;
        Ok(locked.unlock(&UnlockSecret::Passphrase(&passphrase), config)?)
    }

    /// Refuses a vault that shows an older or another past than this device has seen; remembers what it shows.
    fn hold_against_floor(&self, vault: &Vault) -> Result<(), Failure> {
        let path = floor::path(&self.places.state, vault.keyring().vault());
        let accept = self.global.accept_rollback;
        let seen = if accept { Floor::default() } else { floor::load(&path)? };
        let shown = vault.check_floor(&seen)?;
        if shown == seen && !accept {
            return Ok(());
        }
        match floor::save(&path, &shown, accept) {
            // A reader that cannot keep a memory still may read; it only cannot check the next time.
            Err(failure) if failure.kind == Kind::Denied => {
                tracing::warn!("what was seen of the vault cannot be remembered: {}", failure.message());
                Ok(())
            }
            other => other,
        }
    }

    /// Remembers what the vault shows now, after this device added to it.
    ///
    /// # Errors
    /// See [`Wire::open`].
    pub(crate) fn raise_floor(&self, vault: &Vault) -> Result<(), Failure> {
        let path = floor::path(&self.places.state, vault.keyring().vault());
        let shown = vault.check_floor(&floor::load(&path)?)?;
        floor::save(&path, &shown, false)
    }

    /// This device, certified for the vault: the one it is, or a new one by the recovery code.
    ///
    /// # Errors
    /// Where the recovery code is needed and not there, or wrong.
    pub(crate) fn device(&self, opened: &mut Opened) -> Result<(), Failure> {
        if opened.device.is_some() {
            return Ok(());
        }
        let root_key = match opened.root_key.take() {
            Some(key) => key,
            None => self.root_key(&opened.store)?,
        };
        let keyring = opened.vault.keyring();
        let device = Device::create(keyring, &root_key, crate::time::now().secs)?;
        device.save(&keychain::path(&self.places.state, keyring.vault()))?;
        tell(format!(
            "This device is now one of the vault's, as {}; it needs no passphrase any more.",
            device.id()
        ));
        opened.device = Some(device);
        Ok(())
    }

    fn root_key(&self, store: &FolderStore) -> Result<RootKey, Failure> {
        let code = match secret::given_recovery_code(&self.global)? {
            Some(code) => code,
            None => {
                if secret::can_ask() {
                    tell(
                        "This device has not pushed into this vault yet. To let it, its recovery code is needed once.",
                    );
                }
                let text = secret::ask("Recovery code (24 words): ", || {
                    Failure::new(Kind::Denied, "this device is not one of the vault's yet".to_owned()).hint(
                        "its first push needs the recovery code once: --recovery-code-file or BACKUPENGINE_RECOVERY_CODE",
                    )
                })?;
                secret::parse_code(&text)?
            }
        };
        let locked = Locked::open(Arc::new(store.clone()))?;
        let config = VaultConfig { memory: 1 << 20, read_ahead_threads: 1 };
        let unlocked =
            locked.unlock(&UnlockSecret::Recovery(&code), config).map_err(|error| match error {
                VaultError::WrongSecret => {
                    Failure::new(Kind::Denied, "the recovery code does not open this vault".to_owned())
                        .hint("it is the 24 words that `init` showed when this vault was made")
                }
                other => other.into(),
            })?;
        unlocked
            .root_key
            .ok_or_else(|| Failure::new(Kind::Failed, "the recovery envelope holds no root key".to_owned()))
    }

    /// The name of this device: said, configured, or the host's.
    pub(crate) fn device_name(&self, given: Option<&str>) -> String {
        given.map(str::to_owned).or_else(|| self.config.device_name.clone()).unwrap_or_else(host_name)
    }
}

impl Opened {
    /// The store, for writing.
    pub(crate) fn writable(&self) -> Arc<dyn Writable> {
        Arc::new(self.store.clone())
    }
}

fn read_ahead_threads() -> usize {
    std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8))
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "this-device".to_owned() } else { name.to_owned() }
}

/// The answer of a folder's store: it is there at the first poll.
///
/// # Errors
/// What the store says; `Failed` if it were a store that has to be waited for.
pub(crate) fn answer<T, E: Into<Failure>>(future: impl Future<Output = Result<T, E>>) -> Result<T, Failure> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer.map_err(Into::into),
        Poll::Pending => Err(Failure::new(Kind::Failed, "the store did not answer at once".to_owned())),
    }
}
