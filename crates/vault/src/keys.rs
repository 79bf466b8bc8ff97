//! The keys a vault is read with, and newer ones where something was sealed after a rotation.
//!
//! **What it may not do.** Unlock anything: whoever holds the unlocking secret gives the newer keys.
//! **What always holds.** Keys only grow: newer ones that do not continue those at hand are refused. One asks at a time,
//! and nobody asks while the keys at hand reach far enough.
//! **Where it is tested.** In the reader's tests.

use crate::VaultError;
use backupengine_model::{PackRef, SessionNo};
use backupengine_seal::{Keyring, PackKey};
use backupengine_store::BlobKey;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

/// Gives newer keys, where the secret that opens them is still at hand.
pub trait NewerKeys: Send + Sync {
    /// Keys that reach `epoch`, if they can be had without asking anybody. Called from threads that read.
    fn newer(&self, epoch: u16) -> Option<Keyring>;
}

/// All keys at hand.
pub(crate) struct Keys {
    first: Keyring,
    newest: RwLock<Option<Arc<Keyring>>>,
    source: OnceLock<Arc<dyn NewerKeys>>,
    asking: Mutex<()>,
    /// Highest epoch that was not reached; 0 for none.
    unknown: AtomicU16,
}

impl Keys {
    pub(crate) fn new(first: Keyring) -> Self {
        let (newest, source, asking) = (RwLock::default(), OnceLock::new(), Mutex::default());
        Self { first, newest, source, asking, unknown: AtomicU16::new(0) }
    }

    pub(crate) fn renew_from(&self, source: Arc<dyn NewerKeys>) {
        // Given twice: the first stands.
        drop(self.source.set(source));
    }

    pub(crate) fn first(&self) -> &Keyring {
        &self.first
    }

    /// How far the keys reach now.
    pub(crate) fn epoch(&self) -> u16 {
        self.with(Keyring::current_epoch)
    }

    pub(crate) fn unknown_epoch(&self) -> Option<u16> {
        let epoch = self.unknown.load(Ordering::Relaxed);
        (epoch > self.epoch()).then_some(epoch)
    }

    fn with<T>(&self, look: impl FnOnce(&Keyring) -> T) -> T {
        let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner).clone();
        look(newest.as_deref().unwrap_or(&self.first))
    }

    /// The key of a pack, whose trailer was read at `at` in `blob`. `rotated` is asked where the keys do not reach it:
    /// whether there may be such an epoch at all.
    pub(crate) fn pack_key(
        &self,
        blob: BlobKey,
        at: u64,
        pack: &PackRef,
        rotated: impl FnOnce() -> bool,
    ) -> Result<PackKey, VaultError> {
        if let Ok(key) = self.with(|keys| keys.pack_key(pack)) {
            return Ok(key);
        }
        let one_asks = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        // Another one may have asked meanwhile.
        let is_newer = pack.epoch > self.epoch() && rotated();
        if is_newer {
            self.renew(pack.epoch);
        }
        drop(one_asks);
        self.with(|keys| keys.pack_key(pack)).map_err(|error| {
            if !is_newer {
                return VaultError::damaged_by(
                    blob,
                    at,
                    "the trailer names a key epoch that the vault's envelopes do not reach",
                    error,
                );
            }
            self.unknown.fetch_max(pack.epoch, Ordering::Relaxed);
            VaultError::UnknownEpoch { blob, epoch: pack.epoch }
        })
    }

    fn renew(&self, epoch: u16) {
        let Some(newer) = self.source.get().and_then(|source| source.newer(epoch)) else { return };
        if self.with(|keys| newer.current_epoch() > keys.current_epoch() && newer.extends(keys)) {
            tracing::info!(
                epoch = newer.current_epoch(),
                "the vault's keys were rotated: going on with the newer ones"
            );
            *self.newest.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(newer));
        } else {
            tracing::warn!("keys that are no continuation of those at hand are not taken");
        }
    }

    /// Opens a label. One does not say its epoch: an owner may have sealed it anew after a rotation, whatever the root is
    /// sealed under. So newer keys are asked for where those at hand do not open it.
    pub(crate) fn open_label(&self, session: SessionNo, sealed: &[u8]) -> Option<Vec<u8>> {
        let open = || self.with(|keys| keys.open_label(session, sealed)).ok();
        let before = self.epoch();
        if let Some(plain) = open() {
            return Some(plain);
        }
        if sealed.is_empty() || self.source.get().is_none() {
            return None;
        }
        let one_asks = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if self.epoch() == before {
            self.renew(before.saturating_add(1));
        }
        drop(one_asks);
        open()
    }
}
