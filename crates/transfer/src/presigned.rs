//! The store port over presigned URLs: blobs straight to and from object storage, the ledger by the control plane.
use crate::{Account, TransferError};
use backupengine_api::MountedVault;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How to work.
#[derive(Clone, Debug)]
pub struct PresignedConfig {
    /// Folder for spools, of this user alone; made if need be.
    pub spools: PathBuf,
    /// Which vault, the account's only one where not said.
    pub vault: Option<backupengine_model::VaultId>,
    /// How long one blob's GET or PUT may make no progress.
    pub timeout: Duration,
    /// Tries of one GET or PUT (5xx, cut connections).
    pub tries: u32,
}

/// An account's vault as a store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PresignedStore {}

#[allow(unused_variables)]
impl PresignedStore {
    /// Opens it: one call (`mount`), which brings all that a first listing needs.
    ///
    /// # Errors
    /// [`TransferError`]; a refusal with code `not_found` where the account has no vault.
    pub fn open(account: &Account, config: PresignedConfig) -> Result<Self, TransferError> {
        todo!()
    }
    /// What the opening call brought.
    pub fn mounted(&self) -> Arc<MountedVault> {
        todo!()
    }
    /// Requests to object storage made so far (GET, PUT): tests count round trips.
    pub fn requests(&self) -> (u64, u64) {
        todo!()
    }
}
