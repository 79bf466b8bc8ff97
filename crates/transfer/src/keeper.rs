//! What the caller hands in: who signs, and where tokens rest.
use crate::TransferError;
use backupengine_api::auth::Secret;
use backupengine_model::DeviceId;
use std::any::Any;

/// The device's keys, seen from here: they sign, and never leave.
pub trait Signer: Send + Sync {
    /// Ed25519 public half.
    fn sign_public(&self) -> [u8; 32];
    /// X25519 public half.
    fn seal_public(&self) -> [u8; 32];
    /// Ed25519 of the device over its X25519 key.
    fn seal_signature(&self) -> [u8; 64];
    /// The device's id.
    fn device(&self) -> DeviceId;
    /// Ed25519 over a request's signature base.
    fn sign(&self, base: &[u8]) -> [u8; 64];
}

/// Tokens of one login.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// JWT.
    pub access: Secret,
    /// Seconds since 1970 by the server's clock.
    pub expires_at: i64,
    /// Used once.
    pub refresh: Secret,
}

/// Where the tokens of one account rest, shared by all processes of one user.
pub trait Keeper: Send + Sync {
    /// The newest tokens, `None` where nobody is logged in.
    ///
    /// # Errors
    /// [`TransferError::Keeper`].
    fn load(&self) -> Result<Option<Tokens>, TransferError>;
    /// Keeps them: durable and whole when this returns, or unchanged.
    ///
    /// # Errors
    /// [`TransferError::Keeper`].
    fn save(&self, tokens: &Tokens) -> Result<(), TransferError>;
    /// Forgets them.
    ///
    /// # Errors
    /// [`TransferError::Keeper`].
    fn clear(&self) -> Result<(), TransferError>;
    /// Held while one process refreshes: blocks until it is free; released on drop.
    ///
    /// # Errors
    /// [`TransferError::Keeper`].
    fn lock(&self) -> Result<Box<dyn Any + Send>, TransferError>;
}
