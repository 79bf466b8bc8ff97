//! A vault in a local folder.
use crate::StoreError;
use backupengine_model::VaultId;
use std::path::Path;
/// A vault in a local folder; cheap to clone.
#[derive(Clone)]
pub struct FolderStore {
    _todo: (),
}
impl FolderStore {
    /// Makes an empty vault in `folder`, which must not exist or be empty. Nothing is left behind on failure.
    ///
    /// # Errors
    /// `AlreadyExists` where the folder holds something, `Denied`, `Full`, `Io`.
    pub fn create(_folder: &Path, _vault: VaultId) -> Result<Self, StoreError> {
        todo!()
    }
    /// Opens an existing vault.
    ///
    /// # Errors
    /// `NotAVault`, `TooNew`, `Denied`, `Io`.
    pub fn open(_folder: &Path) -> Result<Self, StoreError> {
        todo!()
    }
    /// The folder.
    pub fn folder(&self) -> &Path {
        todo!()
    }
}
