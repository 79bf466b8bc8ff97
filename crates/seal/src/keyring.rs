//! The opened keys of a vault, and everything derived from them.
use crate::{ContentIdKey, DedupSecret, MasterSecret, PackKey};
use backupengine_model::{PackRef, SessionNo, VaultId};
use std::collections::BTreeMap;
use thiserror::Error;

/// The vault has no master key of this epoch (yet): the keyring at hand is older than the pack.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the keys at hand do not reach key epoch {0}")]
pub struct UnknownEpoch(pub u16);

/// The opened keys of a vault.
#[derive(Clone, Debug)]
pub struct Keyring {
    pub(crate) vault: VaultId,
    pub(crate) epochs: BTreeMap<u16, MasterSecret>,
    pub(crate) dedup: DedupSecret,
    pub(crate) root_public: [u8; 32],
}
impl Keyring {
    /// A new vault's keys, epoch 1, from random secrets.
    pub fn new(vault: VaultId, master: MasterSecret, dedup: DedupSecret, root_public: [u8; 32]) -> Self {
        Self { vault, epochs: BTreeMap::from([(1, master)]), dedup, root_public }
    }
    /// The vault these keys are for.
    pub fn vault(&self) -> VaultId {
        self.vault
    }
    /// The epoch new packs use: the largest.
    pub fn current_epoch(&self) -> u16 {
        todo!()
    }
    /// Public half of the vault root key (Ed25519).
    pub fn root_public(&self) -> &[u8; 32] {
        &self.root_public
    }
    /// The key of one pack.
    ///
    /// # Errors
    /// [`UnknownEpoch`].
    pub fn pack_key(&self, _pack: &PackRef) -> Result<PackKey, UnknownEpoch> {
        todo!()
    }
    /// K_cid: content ids.
    pub fn content_ids(&self) -> ContentIdKey {
        todo!()
    }
    /// K_gear: 256 keyed values for the chunker, one table.
    pub fn gear(&self) -> Box<[u64; 256]> {
        todo!()
    }
    /// Seals a label for the ledger's list; `salt` is 8 fresh random bytes that choose its key.
    pub fn seal_label(&self, _session: SessionNo, _salt: [u8; 8], _plain: &[u8]) -> Vec<u8> {
        todo!()
    }
    /// Opens what [`Keyring::seal_label`] made.
    ///
    /// # Errors
    /// `OpenFailed`, in one way for every cause.
    pub fn open_label(&self, _session: SessionNo, _sealed: &[u8]) -> Result<Vec<u8>, crate::OpenFailed> {
        todo!()
    }
}
