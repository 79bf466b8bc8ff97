//! The control plane as one device of an account sees it: every call signed, tokens kept fresh.
use crate::{Identity, Keeper, Signer, TransferError};
use backupengine_api::Operation;
use std::sync::Arc;
use std::time::Duration;

/// How to reach it.
#[derive(Clone, Debug)]
pub struct AccountConfig {
    /// The deployment's address: https, or http on loopback.
    pub base: String,
    /// How long a call may take, tries included.
    pub timeout: Duration,
}

/// The control plane, called by one device. Cheap to clone; blocking calls from any thread.
#[derive(Clone, Debug)]
pub struct Account {}

#[allow(unused_variables)]
impl Account {
    /// Calls nobody yet.
    ///
    /// # Errors
    /// [`TransferError::BadAddress`], [`TransferError::System`].
    pub fn new(
        config: AccountConfig,
        signer: Arc<dyn Signer>,
        keeper: Arc<dyn Keeper>,
    ) -> Result<Self, TransferError> {
        todo!()
    }
    /// The client of `/auth/v1` beside it.
    pub fn identity(&self) -> Identity {
        todo!()
    }
    /// One operation, waited for on the calling thread.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn call<O: Operation>(&self, request: &O::Request) -> Result<O::Answer, TransferError> {
        todo!()
    }
    /// A token that is good for a minute at least; refreshed if need be.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn access_token(&self) -> Result<backupengine_api::auth::Secret, TransferError> {
        todo!()
    }
    /// Calls of operations made so far, by name: tests count round trips.
    pub fn calls(&self) -> Vec<&'static str> {
        todo!()
    }
}
