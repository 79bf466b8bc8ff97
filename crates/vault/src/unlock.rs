//! A locked vault, and how it becomes an unlocked one.
//!
//! **What it may not do.** Keep a secret; tell why a secret did not open anything.
//! **What always holds.** Envelopes are tried in the order the store lists them, each content once, and no
//! more than a few: a store cannot make the passphrase hash run for ever.
//! **Where it is tested.** In the reader's tests, and `tests/cli` for what a person sees.

use crate::error::VaultError;
use crate::fetch::Fetcher;
use crate::forward::Relocations;
use crate::{Vault, VaultConfig};
use backupengine_model::VaultId;
use backupengine_seal::{Keyring, Opened, RootKey, UnlockSecret, WrapError, envelope_kind, open_envelope};
use backupengine_store::{BlobKind, Readable};
use bytes::Bytes;
use std::sync::Arc;

/// Largest envelope that is looked at, in bytes.
const ENVELOPE_MAX: u64 = 64 << 10;
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

    /// Tries the vault's envelopes of the secret's kind.
    ///
    /// # Errors
    /// [`VaultError::WrongSecret`], in one way for every cause; [`VaultError::NoEnvelope`].
    pub fn unlock(self, secret: &UnlockSecret<'_>, config: VaultConfig) -> Result<Unlocked, VaultError> {
        let kind = secret.kind();
        let mut envelopes: Vec<Bytes> = Vec::new();
        let mut unusable = None;
        for (key, size) in self.fetcher.list(BlobKind::Envelopes)? {
            if size > ENVELOPE_MAX || envelopes.len() == ATTEMPTS {
                continue;
            }
            let envelope = self.fetcher.whole(key)?;
            match envelope_kind(&envelope) {
                // Equal envelopes would only hash the passphrase again.
                Ok(found) if found == kind && !envelopes.contains(&envelope) => envelopes.push(envelope),
                Ok(_) => {}
                Err(error) => unusable = Some(error),
            }
        }
        let mut wrong = false;
        for envelope in &envelopes {
            match open_envelope(envelope, secret) {
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
