//! Device keys, the vault root key, certificates and signatures of roots (security.md 6).
use backupengine_model::{DeviceId, VaultId};
use thiserror::Error;
/// What a device may do; bound into its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// Everything.
    Owner = 1,
    /// Push and collect.
    Maintainer = 2,
    /// Push only.
    Writer = 3,
    /// Read only.
    Reader = 4,
}
impl Role {
    /// Whether roots signed by such a device count.
    pub const fn may_write(self) -> bool {
        !matches!(self, Self::Reader)
    }
}
/// A certificate or signature that does not hold.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateError {
    /// Bytes that are no certificate.
    #[error("the certificate is malformed")]
    Malformed,
    /// Not signed by this vault's root key, or for another vault.
    #[error("the certificate was not signed by this vault's root key")]
    Untrusted,
    /// The signature over the root record is wrong.
    #[error("the signature of the root record does not hold")]
    BadSignature,
    /// The certificate's role may not write.
    #[error("the device's role may not write snapshots")]
    RoleMayNotWrite,
}
/// The vault's root key pair (Ed25519); its secret rests only under the recovery code.
pub struct RootKey {
    pub(crate) _todo: (),
}
impl RootKey {
    /// From 32 random bytes or an opened envelope.
    pub fn from_seed(_seed: [u8; 32]) -> Self {
        todo!()
    }
    /// The public half, pinned in every keyring.
    pub fn public(&self) -> [u8; 32] {
        todo!()
    }
    /// Certifies a device for a vault.
    pub fn certify(
        &self,
        _vault: VaultId,
        _device_public: [u8; 32],
        _role: Role,
        _issued_secs: i64,
    ) -> Certificate {
        todo!()
    }
}
/// A device's signing key pair.
pub struct DeviceKey {
    pub(crate) _todo: (),
}
impl DeviceKey {
    /// From 32 random bytes or the device's key file.
    pub fn from_seed(_seed: [u8; 32]) -> Self {
        todo!()
    }
    /// The public half.
    pub fn public(&self) -> [u8; 32] {
        todo!()
    }
    /// First 16 bytes of BLAKE3 of the public half.
    pub fn id(&self) -> DeviceId {
        todo!()
    }
    /// Signs an encoded root record without its signature field.
    pub fn sign_root(&self, _record: &[u8]) -> [u8; 64] {
        todo!()
    }
}
/// A device, certified by the vault root key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The vault it counts in.
    pub vault: VaultId,
    /// The device's public key.
    pub device_public: [u8; 32],
    /// What it may do.
    pub role: Role,
    /// When it was issued, seconds since 1970.
    pub issued_secs: i64,
    /// Ed25519 signature of the root key over the fields above.
    pub signature: [u8; 64],
}
impl Certificate {
    /// Deterministic CBOR.
    pub fn encode(&self) -> Vec<u8> {
        todo!()
    }
    /// Strict: anything but the bytes `encode` gives is refused.
    ///
    /// # Errors
    /// [`CertificateError::Malformed`].
    pub fn decode(_bytes: &[u8]) -> Result<Self, CertificateError> {
        todo!()
    }
    /// See [`DeviceKey::id`].
    pub fn device(&self) -> DeviceId {
        todo!()
    }
    /// # Errors
    /// [`CertificateError::Untrusted`].
    pub fn verify(&self, _vault: VaultId, _root_public: &[u8; 32]) -> Result<(), CertificateError> {
        todo!()
    }
}
/// Verifies certificate, role and signature of a root record in one go and says whose it is.
///
/// # Errors
/// [`CertificateError`].
pub fn verify_root_signature(
    _vault: VaultId,
    _root_public: &[u8; 32],
    _certificate: &[u8],
    _signature: &[u8; 64],
    _record: &[u8],
) -> Result<DeviceId, CertificateError> {
    todo!()
}
