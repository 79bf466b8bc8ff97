//! Puts the parts together: which vault, which secret, which device, and the memory of what was seen.
//!
//! **What it may not do.** Hold logic of its own about formats or keys.
//! **What always holds.** A secret that was given explicitly is the one that is tried. Nothing is read from a
//! vault's snapshots before the floor was checked.
//! **Where it is tested.** `tests/cli`.

mod away;
mod keys;

use crate::account::{self, Account, Online};
use crate::args::Global;
use crate::config::{Config, Places};
use crate::error::{Failure, Kind};
use crate::keychain::{self, Device};
use crate::output::tell;
use crate::place::Place;
use crate::{cache, floor, pace, secret};
use backupengine_model::{DeviceId, RootHash, SessionNo, VaultId};
use backupengine_push::LiveSeeds;
use backupengine_seal::{RecoveryCode, RootKey, UnlockSecret};
use backupengine_store::{
    BlockCache, DiskCache, EnvelopeKeeper, FolderStore, Maintainable, Readable, Writable,
};
use backupengine_transfer::PresignedStore;
use backupengine_vault::{Floor, Locked, Vault, VaultConfig, VaultError};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

pub(crate) use away::{Away, away_text};

/// Bytes for opened pages and frames where no flag says otherwise.
pub(crate) const MEMORY: u64 = 96 << 20;

/// What every command is given.
#[derive(Clone)]
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
    pub(crate) store: Arc<dyn Writable>,
    /// Decides which snapshots stay and gives space back, where it is reached.
    pub(crate) keeper: Option<Arc<dyn Maintainable>>,
    /// Where it lies.
    pub(crate) place: Place,
    /// The account it belongs to, where it does.
    pub(crate) online: Option<(Online, PresignedStore)>,
    /// Where its server is not reached.
    pub(crate) away: Option<Away>,
    /// This device, where it is one of the vault's.
    pub(crate) device: Option<Device>,
    /// Who changes its ways in, where that needs no account.
    pub(crate) ways: Option<Arc<dyn EnvelopeKeeper>>,
    /// Only after unlocking with the recovery code.
    pub(crate) root_key: Option<RootKey>,
    /// How its keys compare with the newest.
    epochs: keys::Epochs,
}

/// In which way a vault is opened.
#[derive(Clone)]
pub(crate) struct How {
    /// Bytes for opened pages and frames.
    pub(crate) memory: u64,
    /// Bytes the disk cache may take from now on, where that was said.
    pub(crate) cache_size: Option<u64>,
    /// What is kept on this device's disk, of an account's vault.
    pub(crate) blocks: Blocks,
    /// How long a read waits for the store, where it does not wait until the store gives up.
    pub(crate) timeout: Option<Duration>,
    /// Whether [`Wire::believe`] is left to who opens it: the newest roots are then asked for beside something else. That
    /// the list is no older one is seen at once all the same.
    pub(crate) believe_later: bool,
    /// Whether damage to a newest root is told and no reason to stop.
    pub(crate) past_damage: bool,
    /// The recovery code to open it with, whatever else there is.
    pub(crate) code: Option<RecoveryCode>,
    /// Whether somebody may be asked for a secret.
    pub(crate) may_ask: bool,
    /// Whether it is an account's, whose devices are let in and not asked for a passphrase.
    pub(crate) of_account: bool,
}

/// What is kept on this device's disk.
#[derive(Clone)]
pub(crate) enum Blocks {
    /// What there is room for, put behind the readers' back.
    Behind,
    /// Everything, and what was asked for is noted: for what is pinned.
    Kept(Arc<DiskCache>),
    /// Nothing.
    None,
}

impl Default for How {
    fn default() -> Self {
        Self {
            memory: MEMORY,
            cache_size: None,
            blocks: Blocks::Behind,
            timeout: None,
            believe_later: false,
            past_damage: false,
            code: None,
            may_ask: true,
            of_account: false,
        }
    }
}

/// The store of a vault that is still locked.
struct Found {
    store: Arc<dyn Writable>,
    keeper: Arc<dyn Maintainable>,
    ways: Option<Arc<dyn EnvelopeKeeper>>,
    online: Option<(Online, PresignedStore)>,
}

impl Wire {
    /// Whether a signal asked to stop.
    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits, unless a signal asks to stop.
    ///
    /// # Errors
    /// `Interrupted`.
    pub(crate) fn sleep(&self, how_long: Duration) -> Result<(), Failure> {
        let until = Instant::now() + how_long;
        loop {
            if self.stopped() {
                return Err(Failure::interrupted());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(Duration::from_millis(100)));
        }
    }

    /// Where the vault lies, where anything says so. `given` is the command's own argument.
    ///
    /// # Errors
    /// An address that may not be used; an account that does not read.
    pub(crate) fn known_place(&self, given: Option<&Path>) -> Result<Option<Place>, Failure> {
        let variable = || std::env::var_os("BACKUPENGINE_VAULT").filter(|v| !v.is_empty()).map(PathBuf::from);
        let said = given
            .map(Path::to_owned)
            .or_else(|| self.global.vault.clone())
            .or_else(variable)
            .or_else(|| self.config.vault.clone());
        if let Some(said) = said {
            return Place::parse(&said).map(Some);
        }
        // Whoever is logged in and said nothing means the account.
        let mut accounts = Account::all(&self.places.state)?;
        Ok(if accounts.len() == 1 { accounts.pop().map(|a| Place::Server(a.profile.base)) } else { None })
    }

    /// Where the vault lies.
    ///
    /// # Errors
    /// Bad usage where nothing says which vault.
    pub(crate) fn place(&self, given: Option<&Path>) -> Result<Place, Failure> {
        self.known_place(given)?.ok_or_else(|| {
            Failure::usage("no vault is known")
                .hint("make one: backupengine init FOLDER")
                .hint("or say where one is: --vault FOLDER or BACKUPENGINE_VAULT")
                .hint("or have one with a server: backupengine signup --server URL")
        })
    }

    /// Where a vault is to be made: what was said; without a word the account's, for whoever has one.
    ///
    /// # Errors
    /// Bad usage where nothing says where.
    pub(crate) fn place_to_make(&self, given: Option<&Path>) -> Result<Place, Failure> {
        let said = given.is_some()
            || self.global.vault.is_some()
            || std::env::var_os("BACKUPENGINE_VAULT").is_some_and(|v| !v.is_empty());
        if !said {
            let accounts = Account::all(&self.places.state)?;
            if let [one] = accounts.as_slice() {
                return Ok(Place::Server(one.profile.base.clone()));
            }
        }
        self.place(given)
    }

    /// The account that is meant, where its server is known.
    ///
    /// # Errors
    /// Bad usage where none or several are there; `Denied` where nobody is logged in there.
    pub(crate) fn account(&self) -> Result<Account, Failure> {
        let base = match self.known_place(None)? {
            Some(Place::Server(base)) => base,
            _ => {
                let mut accounts = Account::all(&self.places.state)?;
                match (accounts.pop(), accounts.is_empty()) {
                    (Some(one), true) => return Ok(one),
                    (Some(_), false) => {
                        return Err(Failure::usage("there are several accounts on this device")
                            .hint("say which is meant: --vault URL"));
                    }
                    (None, _) => {
                        return Err(Failure::new(
                            Kind::Denied,
                            "nobody is logged in on this device".to_owned(),
                        )
                        .hint("log in: backupengine login --server URL")
                        .hint("or make an account: backupengine signup --server URL"));
                    }
                }
            }
        };
        self.account_at(&base)
    }

    /// The account at an address.
    ///
    /// # Errors
    /// `Denied` where nobody is logged in there.
    pub(crate) fn account_at(&self, base: &str) -> Result<Account, Failure> {
        Account::load(&self.places.state, base)?.ok_or_else(|| {
            Failure::new(Kind::Denied, format!("nobody is logged in at {}", account::host(base)))
                .hint(format!("log in: backupengine login --server {base}"))
        })
    }

    fn find(&self, place: &Place) -> Result<Found, Failure> {
        match place {
            Place::Folder(folder) => {
                let store = Arc::new(FolderStore::open(folder)?);
                Ok(Found { keeper: store.clone(), ways: Some(store.clone()), store, online: None })
            }
            Place::Server(base) => {
                let online = Online::open(self.account_at(base)?)?;
                let store = online.store(&self.places.cache)?;
                let shared = Arc::new(store.clone());
                Ok(Found { keeper: shared.clone(), ways: None, store: shared, online: Some((online, store)) })
            }
        }
    }

    /// Opens the vault with whatever secret there is, and checks it against what was seen before.
    ///
    /// # Errors
    /// No vault, no or a wrong secret, a vault that shows another past; a server that is not reached or refuses.
    pub(crate) fn open(&self, memory: u64) -> Result<Opened, Failure> {
        self.open_how(&How { memory, ..How::default() })
    }

    /// The same, in another way than most.
    ///
    /// # Errors
    /// See [`Wire::open`]; a size of the cache that cannot be set.
    pub(crate) fn open_how(&self, how: &How) -> Result<Opened, Failure> {
        let place = self.place(None)?;
        let of_account = matches!(place, Place::Server(_));
        let how = &How { of_account, ..how.clone() };
        let Found { store, keeper, ways, online } = self.find(&place)?;
        let readable: Arc<dyn Readable> = store.clone();
        let locked = Locked::open(readable.clone())?;
        let vault = locked.vault();
        let mut device = match &online {
            None => Device::load(&keychain::path(&self.places.state, vault))?,
            Some((online, _)) => online.account.device()?.filter(|d| d.certificate.vault == vault),
        };
        let config = self.config_of(how, online.as_ref().map(|_| vault))?;
        let mut unlocked =
            self.unlock(locked, &readable, device.as_ref(), online.as_ref(), how, config.clone())?;
        // The secret that was given may open an older envelope only; this device has the keys that follow on it.
        let opened = unlocked.vault.keyring();
        let own = device.as_ref().and_then(Device::keyring);
        if let Some(own) =
            own.filter(|own| own.current_epoch() > opened.current_epoch() && own.extends(opened))
        {
            unlocked.vault = Locked::open(readable.clone())?.unlock_as(own, config)?;
        }
        if let (Some((online, store)), Some(old)) = (&online, &device) {
            device = account::renewed(online, store, unlocked.vault.keyring(), old)?.or(device);
        }
        let mut opened = Opened {
            vault: unlocked.vault,
            store,
            keeper: Some(keeper),
            place,
            online,
            away: None,
            device,
            ways,
            root_key: unlocked.root_key,
            epochs: keys::Epochs::default(),
        };
        if how.believe_later {
            self.hold_list_against_floor(&opened.vault)?;
            self.settle_keys(&mut opened)?;
        } else {
            self.hold_against_floor(&opened.vault, false, how.past_damage)?;
            self.settle_keys(&mut opened)?;
            self.remember_list(&opened);
        }
        tracing::info!(
            place = ?opened.place,
            vault = %opened.vault.keyring().vault(),
            device = opened.device.as_ref().map(|d| d.id().to_string()),
            "the vault is open"
        );
        Ok(opened)
    }

    /// Holds a vault that was opened with [`How::believe_later`] against what was seen of it before.
    ///
    /// # Errors
    /// As [`Wire::open`]: it shows another past.
    pub(crate) fn believe(&self, opened: &Opened) -> Result<(), Failure> {
        self.hold_against_floor(&opened.vault, false, false)?;
        self.remember_list(opened);
        Ok(())
    }

    fn remember_list(&self, opened: &Opened) {
        if let Some((_, store)) = &opened.online {
            self.remember(&opened.vault, store);
        }
    }

    /// `cached` is the vault of an account.
    fn config_of(&self, how: &How, cached: Option<VaultId>) -> Result<VaultConfig, Failure> {
        let blocks = match (cached, &how.blocks) {
            (Some(vault), Blocks::Behind) => {
                cache::for_reading(&self.places.cache, vault, how.cache_size, how.memory)?
            }
            (Some(_), Blocks::Kept(cache)) => Some(cache.clone() as Arc<dyn BlockCache>),
            _ => None,
        };
        let note_touched = matches!(how.blocks, Blocks::Kept(_));
        let read_ahead_threads = read_ahead_threads();
        let pace = cached.and_then(|vault| pace::load(&pace::path(&self.places.state, vault)));
        let (memory, timeout) = (how.memory, how.timeout);
        Ok(VaultConfig { memory, read_ahead_threads, blocks, note_touched, timeout, pace })
    }

    /// Refuses a list that shows less than this device has seen. Asks for no root.
    fn hold_list_against_floor(&self, vault: &Vault) -> Result<(), Failure> {
        if self.global.accept_rollback {
            return Ok(());
        }
        let seen = floor::load(&floor::path(&self.places.state, vault.keyring().vault()))?;
        vault.check_floor_list(&seen).map_err(|error| not_believed(vault, error))
    }

    /// Refuses a vault that shows an older or another past than this device has seen; remembers what it shows. A newest
    /// root that is damaged could hide such a past: who goes on all the same says so, or only looks for damage.
    fn hold_against_floor(&self, vault: &Vault, away: bool, past_damage: bool) -> Result<(), Failure> {
        let path = floor::path(&self.places.state, vault.keyring().vault());
        let accept = self.global.accept_rollback;
        let seen = if accept { Floor::default() } else { floor::load(&path)? };
        let (shown, damaged) = match (accept, away) {
            (true, _) => vault.accept_floor()?,
            (false, true) => {
                (vault.check_floor_away(&seen).map_err(|error| not_believed(vault, error))?, Vec::new())
            }
            (false, false) if past_damage => {
                vault.check_floor_past_damage(&seen).map_err(|error| not_believed(vault, error))?
            }
            (false, false) => {
                (vault.check_floor(&seen).map_err(|error| not_believed(vault, error))?, Vec::new())
            }
        };
        for error in &damaged {
            tracing::warn!("a newest snapshot cannot be read and is passed over: {error}");
        }
        // Of the devices whose newest root nobody can look at, what was seen before stays.
        let mut unseen = if damaged.is_empty() { Floor::default() } else { floor::load(&path)? };
        unseen.seen.retain(|(device, ..)| !shown.seen.iter().any(|(known, ..)| known == device));
        let shown = shown.merged(&unseen);
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

    /// Remembers the root of a snapshot that this device just made. Nothing is asked: what it wrote it knows.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn raise_floor(
        &self,
        vault: VaultId,
        device: DeviceId,
        session: SessionNo,
        root: RootHash,
    ) -> Result<(), Failure> {
        let path = floor::path(&self.places.state, vault);
        floor::save(&path, &Floor { seen: vec![(device, session, root)] }, false)
    }

    /// This device, certified for the vault: the one it is, or a new one by the recovery code.
    ///
    /// # Errors
    /// Where the recovery code is needed and not there, or wrong.
    pub(crate) fn device(&self, opened: &mut Opened) -> Result<(), Failure> {
        if opened.device.is_some() {
            return Ok(());
        }
        if let Some((online, _)) = &opened.online {
            return Err(Failure::new(Kind::Denied, "this device is not one of the vault's yet".to_owned())
                .hint(format!("let it in: backupengine login --server {}", online.account.profile.base)));
        }
        let root_key = match opened.root_key.take() {
            Some(key) => key,
            None => self.root_key(opened.store.clone())?,
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

    fn root_key(&self, store: Arc<dyn Readable>) -> Result<RootKey, Failure> {
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
        let locked = Locked::open(store)?;
        let config = VaultConfig { memory: 1 << 20, read_ahead_threads: 1, ..VaultConfig::default() };
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

    /// Where pushes of this device keep what they know of a vault; all of it may be deleted at any time.
    pub(crate) fn push_state(&self, vault: VaultId) -> PathBuf {
        self.places.cache.join(vault.to_string()).join("push")
    }

    /// Has a reader take from live files what they still hold of the vault's snapshots, where the store is farther away
    /// than they are. `memory` bytes may be taken for knowing what that is.
    pub(crate) fn seed(&self, opened: &Opened, memory: u64) {
        if opened.online.is_some() {
            let keyring = opened.vault.keyring();
            let seeds = LiveSeeds::open(&self.push_state(keyring.vault()), keyring, memory);
            opened.vault.seed_from(Arc::new(seeds));
        }
    }

    /// The name of this device: said, configured, or the host's.
    pub(crate) fn device_name(&self, given: Option<&str>) -> String {
        given.map(str::to_owned).or_else(|| self.config.device_name.clone()).unwrap_or_else(host_name)
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

/// Waits for a store's answer on this thread. A folder has it at the first poll; what goes over a network wakes it.
///
/// # Errors
/// What the store says.
pub(crate) fn answer<T, E: Into<Failure>>(future: impl Future<Output = Result<T, E>>) -> Result<T, Failure> {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(answer) => return answer.map_err(Into::into),
            Poll::Pending => thread::park(),
        }
    }
}

/// Damage to a newest root keeps everything from being believed; there is a way to what is left. With keys from before a
/// rotation nobody can read whether an owner forgot what is missing.
fn not_believed(vault: &Vault, error: VaultError) -> Failure {
    let (damaged, rolled_back) = (error.is_damage(), matches!(error, VaultError::RolledBack { .. }));
    let failure = Failure::from(error);
    if damaged {
        return failure.hint("to read the other snapshots all the same: --accept-rollback");
    }
    let newest = || vault.ways_in().ok().and_then(|ways| ways.newest_epoch());
    if rolled_back && newest().is_some_and(|newest| newest > vault.keyring().current_epoch()) {
        return failure
            .hint("the vault's keys were rotated, and these older ones do not show whether an owner forgot that snapshot")
            .hint("give the vault's passphrase or recovery code once, and the newer keys tell");
    }
    failure
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_from_another_thread_is_waited_for() {
        let mut asked = false;
        let late = std::future::poll_fn(|context| {
            if asked {
                return Poll::Ready(Ok::<_, Failure>(7));
            }
            asked = true;
            let waker = context.waker().clone();
            drop(thread::spawn(move || {
                thread::sleep(Duration::from_millis(20));
                waker.wake();
            }));
            Poll::Pending
        });
        assert_eq!(answer(late).unwrap(), 7);
        assert_eq!(answer(std::future::ready(Ok::<_, Failure>(1))).unwrap(), 1);
    }
}
