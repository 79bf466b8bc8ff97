//! A locked vault, and how it becomes an unlocked one.
//!
//! **What it may not do.** Keep a secret; tell why a secret did not open anything.
//! **What always holds.** Envelopes are tried by their key epoch, the newest first, each content once, and no more
//! than a few: a store cannot make the passphrase hash run for ever.
//! **Where it is tested.** In the reader's tests, and `tests/cli` for what a person sees.

use crate::error::VaultError;
use crate::fetch::Fetcher;
use crate::forward::Relocations;
use crate::ways::{WayIn, WaysIn};
use crate::{Vault, VaultConfig};
use backupengine_model::VaultId;
use backupengine_seal::{Keyring, Opened, RootKey, UnlockSecret, WrapError, open_envelope};
use backupengine_store::Readable;
use std::sync::Arc;

/// Envelopes of one kind that are tried.
const ATTEMPTS: usize = 8;

/// A vault whose keys are not known.
pub struct Locked {
    fetcher: Fetcher,
    vault: VaultId,
    moved: Option<Arc<dyn Relocations>>,
}

/// Keys just opened, with the root key where a recovery code did it.
pub struct Unlocked {
    /// The vault, readable.
    pub vault: Vault,
    /// The vault root key: only from an envelope of a recovery code.
    pub root_key: Option<RootKey>,
}

impl Locked {
    /// Reads the vault's id; nothing else.
    ///
    /// # Errors
    /// [`VaultError::Store`].
    pub fn open(store: Arc<dyn Readable>) -> Result<Self, VaultError> {
        let fetcher = Fetcher::new(store)?;
        let vault = fetcher.vault()?;
        Ok(Self { fetcher, vault, moved: None })
    }

    /// The vault's id, as the store says; the keys must agree.
    pub fn vault(&self) -> VaultId {
        self.vault
    }

    /// Asks `moved` where packs went that are missing under their own name.
    #[must_use]
    pub fn with_relocations(self, moved: Arc<dyn Relocations>) -> Self {
        Self { moved: Some(moved), ..self }
    }

    /// The ways into this vault that its store lists.
    ///
    /// # Errors
    /// [`VaultError::Store`].
    pub fn ways_in(&self) -> Result<WaysIn, VaultError> {
        WaysIn::read(&self.fetcher, self.vault)
    }

    /// Tries the vault's envelopes of the secret's kind, those with the newest keys first.
    ///
    /// # Errors
    /// [`VaultError::WrongSecret`], in one way for every cause; [`VaultError::NoEnvelope`].
    pub fn unlock(self, secret: &UnlockSecret<'_>, config: VaultConfig) -> Result<Unlocked, VaultError> {
        let kind = secret.kind();
        let ways = self.ways_in()?;
        let mut envelopes: Vec<&WayIn> = Vec::new();
        for way in ways.newest_first(kind) {
            // Equal envelopes would only hash the passphrase again.
            if envelopes.len() < ATTEMPTS && envelopes.iter().all(|known| known.envelope != way.envelope) {
                envelopes.push(way);
            }
        }
        let mut unusable = ways.unusable.first().map(|(_, error)| error.clone());
        let mut wrong = false;
        for way in envelopes {
            match open_envelope(&way.envelope, secret) {
                Ok(opened) => return self.opened(opened, config),
                Err(WrapError::WrongSecret) => wrong = true,
                Err(error) => unusable = Some(error),
            }
        }
        Err(match unusable {
            _ if wrong => VaultError::WrongSecret,
            Some(error) => error.into(),
            None => VaultError::NoEnvelope(kind),
        })
    }

    /// With an envelope that is kept elsewhere (on this device).
    ///
    /// # Errors
    /// [`VaultError::WrongSecret`], [`VaultError::Envelope`], [`VaultError::OtherVault`].
    pub fn unlock_with(
        self,
        envelope: &[u8],
        secret: &UnlockSecret<'_>,
        config: VaultConfig,
    ) -> Result<Unlocked, VaultError> {
        match open_envelope(envelope, secret) {
            Ok(opened) => self.opened(opened, config),
            Err(WrapError::WrongSecret) => Err(VaultError::WrongSecret),
            Err(error) => Err(error.into()),
        }
    }

    /// With keys that are open already: a vault just made.
    ///
    /// # Errors
    /// [`VaultError::OtherVault`].
    pub fn unlock_as(self, keyring: Keyring, config: VaultConfig) -> Result<Vault, VaultError> {
        let (expected, found) = (self.vault, keyring.vault());
        if expected != found {
            return Err(VaultError::OtherVault { expected, found });
        }
        Ok(Vault::new(self.fetcher, keyring, self.moved, &config))
    }

    fn opened(self, opened: Opened, config: VaultConfig) -> Result<Unlocked, VaultError> {
        Ok(Unlocked { vault: self.unlock_as(opened.keyring, config)?, root_key: opened.root_key })
    }
}
