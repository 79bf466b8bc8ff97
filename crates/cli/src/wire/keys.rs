//! Which keys a vault is opened with, and whether they are its newest.
//!
//! **What it may not do.** Take keys over that do not continue those of this device.
//! **What always holds.** What this device keeps is renewed as soon as newer keys were opened, and before anything is
//! sealed with them. Nothing is written with keys older than the newest that the vault names or this device has seen.
//! **Where it is tested.** `tests/cli` (`keys`, `account_keys`).

use super::{How, Opened, Wire};
use crate::account::Online;
use crate::error::{Failure, Kind};
use crate::keychain::{self, Device};
use crate::output::tell;
use crate::{account, floor, secret};
use backupengine_seal::{Keyring, Passphrase, UnlockSecret};
use backupengine_store::Readable;
use backupengine_transfer::PresignedStore;
use backupengine_vault::{Locked, NewerKeys, Unlocked, Vault, VaultConfig, VaultError};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How the keys at hand compare with the newest.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Epochs {
    /// The newest that the vault's envelopes name; 0 where there are none.
    listed: u16,
    /// The newest that this device has seen.
    seen: u16,
    /// Whether a vault that shows older envelopes than it did is accepted.
    accept: bool,
}

impl Wire {
    /// Opens the keys with whatever secret there is.
    pub(super) fn unlock(
        &self,
        locked: Locked,
        store: &Arc<dyn Readable>,
        device: Option<&Device>,
        account: Option<&(Online, PresignedStore)>,
        how: &How,
        config: VaultConfig,
    ) -> Result<Unlocked, Failure> {
        if let Some(code) = &how.code {
            tracing::debug!("unlocking with the recovery code");
            return Ok(locked.unlock(&UnlockSecret::Recovery(code), config)?);
        }
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
            match device.keyring().filter(|keyring| keyring.vault() == locked.vault()) {
                Some(keyring) => return self.with_own(locked, store, keyring, account, how, config),
                None => {
                    tracing::warn!("the key that this device keeps does not open the vault any more");
                    locked = Locked::open(store.clone())?;
                }
            }
        }
        if how.of_account && device.is_none() {
            return Err(Failure::new(
                Kind::Denied,
                "this device does not have the vault's keys yet".to_owned(),
            )
            .hint("if an owner approved it, take them over: backupengine login")
            .hint("or open the vault with its passphrase or recovery code, if you have one"));
        }
        if !how.may_ask {
            return Err(secret::nobody_to_ask());
        }
        let passphrase = secret::ask_passphrase()?;
        Ok(locked.unlock(&UnlockSecret::Passphrase(&passphrase), config)?)
    }

    /// With the keys that this device keeps, or newer ones where the vault has some and they can be had.
    fn with_own(
        &self,
        locked: Locked,
        store: &Arc<dyn Readable>,
        own: Keyring,
        account: Option<&(Online, PresignedStore)>,
        how: &How,
        config: VaultConfig,
    ) -> Result<Unlocked, Failure> {
        let plain = |locked: Locked, keyring: Keyring, config| {
            Ok::<_, Failure>(Unlocked { vault: locked.unlock_as(keyring, config)?, root_key: None })
        };
        if let Some((online, store)) = account
            && let Some(newer) = account::rotated(self, online, store, &own)?
        {
            return plain(locked, newer, config);
        }
        // A list that is not to be had says nothing: whoever only looks goes on with what is here.
        let listed = locked.ways_in().ok().and_then(|ways| ways.newest_epoch()).unwrap_or(0);
        if listed <= own.current_epoch() || !how.may_ask || !secret::can_ask() {
            return plain(locked, own, config);
        }
        tell(
            "The vault's keys were rotated. Its passphrase gives this device the new ones; without it, it sees older snapshots only.",
        );
        let Some(mut text) = secret::ask_or_leave_out("Passphrase (Enter leaves it out): ")? else {
            return plain(locked, own, config);
        };
        let passphrase = Passphrase::new(std::mem::take(&mut text));
        let again = Locked::open(store.clone())?;
        drop(locked);
        Ok(again.unlock(&UnlockSecret::Passphrase(&passphrase), config)?)
    }

    /// Keeps newer keys that were opened, and notes how those at hand compare with the newest there are.
    pub(super) fn settle_keys(&self, opened: &mut Opened) -> Result<(), Failure> {
        let keyring = opened.vault.keyring();
        if let Some(device) = &opened.device
            && let Some(own) = device.keyring()
            && own.current_epoch() < keyring.current_epoch()
        {
            if keyring.extends(&own) {
                let renewed = device.with_keys(keyring)?;
                self.keep_device(opened, &renewed)?;
                tell(format!(
                    "This device keeps the vault's newer keys now, of epoch {}.",
                    keyring.current_epoch()
                ));
                opened.device = Some(renewed);
            } else {
                return Err(Failure::new(
                    Kind::Denied,
                    "the vault's newer keys do not continue those that this device keeps".to_owned(),
                )
                .hint("was another vault put in the place of this one? then do not go on"));
            }
        }
        let path = floor::path(&self.places.state, opened.vault.keyring().vault());
        let (now, accept) = (opened.vault.keyring().current_epoch(), self.global.accept_rollback);
        let seen = if accept { now } else { floor::epoch(&path)? };
        let ways = opened.vault.ways_in().ok();
        let listed = ways.and_then(|ways| ways.newest_epoch()).unwrap_or(0);
        opened.epochs = Epochs { listed, seen, accept };
        if opened.newest_epoch() > now {
            tell(format!(
                "The vault's keys were rotated: those at hand reach epoch {now}, the newest is {}. Newer snapshots do not open.",
                opened.newest_epoch()
            ));
        }
        match floor::save_epoch(&path, now, accept) {
            Err(failure) if failure.kind == Kind::Denied => {
                tracing::warn!("the key epoch cannot be remembered: {}", failure.message());
                Ok(())
            }
            other => other,
        }
    }

    /// Keeps this device's place in the vault, with the keys in it.
    pub(crate) fn keep_device(&self, opened: &Opened, device: &Device) -> Result<(), Failure> {
        match (&opened.online, &opened.place) {
            (Some((online, _)), _) => online.account.keep(device),
            (None, crate::place::Place::Server(base)) => self.account_at(base)?.keep(device),
            (None, _) => device.save(&keychain::path(&self.places.state, device.certificate.vault)),
        }
    }

    /// Has a reader that is held open ask for newer keys when it meets something sealed after a rotation.
    pub(crate) fn renew(&self, vault: &Vault) {
        let mut wire = self.clone();
        // It was read once, and there is nothing behind it any more.
        wire.global.passphrase_file = wire.global.passphrase_file.filter(|path| path != Path::new("-"));
        vault.renew_from(Arc::new(Renewing { wire, last: Mutex::default() }));
    }
}

impl Opened {
    /// The newest key epoch that is known of, those at hand included.
    pub(crate) fn newest_epoch(&self) -> u16 {
        let met = self.vault.unknown_epoch().unwrap_or(0);
        let own = self.vault.keyring().current_epoch();
        own.max(met).max(self.epochs.listed).max(self.epochs.seen)
    }

    /// Refuses to write with keys that are not the newest.
    ///
    /// # Errors
    /// `Denied`.
    pub(crate) fn refuse_older_keys(&self) -> Result<(), Failure> {
        self.refuse_to("nothing is written with older keys")
    }

    /// Refuses to say what is whole with keys that do not open all of it.
    ///
    /// # Errors
    /// `Denied`.
    pub(crate) fn refuse_checking_with_older_keys(&self) -> Result<(), Failure> {
        self.refuse_to("nothing is checked with older keys")
    }

    fn refuse_to(&self, what: &str) -> Result<(), Failure> {
        let (own, newest) = (self.vault.keyring().current_epoch(), self.newest_epoch());
        if own == newest {
            return Ok(());
        }
        let failure = VaultError::OldKeys { found: own, newest };
        let failure = Failure::new(Kind::Denied, failure).while_doing(what);
        Err(if self.online.is_some() {
            failure
                .hint("an owner rotated the vault's keys without this device: let it approve this one again, then here: backupengine login")
                .hint("or let it in by the recovery code: backupengine key recover")
        } else {
            failure.hint(
                "give the vault's passphrase or recovery code once: this device keeps the newer keys then",
            )
        })
    }

    /// The same, and refuses a vault whose own envelopes are older than the keys at hand: what is sealed now would be open
    /// to this device alone.
    ///
    /// # Errors
    /// `Denied` or `Failed`.
    pub(crate) fn refuse_old_keys(&self) -> Result<(), Failure> {
        self.refuse_older_keys()?;
        let (own, Epochs { listed, accept, .. }) = (self.vault.keyring().current_epoch(), self.epochs);
        if listed == 0 || listed >= own || accept {
            return Ok(());
        }
        let text = format!(
            "rollback: the vault shows key envelopes of epoch {listed}, and this device has its keys of epoch {own}"
        );
        Err(Failure::new(Kind::Failed, text)
            .hint("the vault shows another past than this device has seen: was it restored from an older copy?")
            .hint("if you know why, make new envelopes: backupengine key rotate; --accept-rollback goes on without"))
    }
}

/// Opens the vault once more, as a command would that asks nobody.
struct Renewing {
    wire: Wire,
    /// When it was last tried in vain, for which epoch.
    last: Mutex<Option<(u16, Instant)>>,
}

/// As long is not tried again for an epoch that was not reached: a passphrase that was given is hashed each time.
const IN_VAIN: Duration = Duration::from_secs(20);

impl NewerKeys for Renewing {
    fn newer(&self, epoch: u16) -> Option<Keyring> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|(tried, at)| tried <= epoch && at.elapsed() < IN_VAIN) {
            return None;
        }
        let newer = self.open(epoch);
        *last = newer.is_none().then(|| (epoch, Instant::now()));
        newer
    }
}

impl Renewing {
    fn open(&self, epoch: u16) -> Option<Keyring> {
        let how = How { memory: 1 << 20, blocks: super::Blocks::None, may_ask: false, ..How::default() };
        match self.wire.open_how(&how) {
            Ok(opened) => {
                let keyring = opened.vault.keyring();
                (keyring.current_epoch() >= epoch).then(|| keyring.clone())
            }
            Err(failure) => {
                tracing::warn!(epoch, "newer keys are not at hand: {}", failure.message());
                None
            }
        }
    }
}
