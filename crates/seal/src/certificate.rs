//! Device keys, the vault root key, certificates and signatures of roots (security.md 6).
//!
//! **What it may not do.** Know what a root record says: whoever decodes it compares its device and vault with
//! what [`verify_root_signature`] returned and was given.
//! **What always holds.** Ed25519 (RFC 8032), verified strictly; each kind of message has its own first bytes,
//! so that no signature passes for one of another kind. Only owners issue, and every chain ends at the root key.
//! **Where it is tested.** Below, and `tests/formats` (frozen vectors).

use crate::cbor::{self, Unexpected};
use crate::context;
use backupengine_model::{DeviceId, VaultId};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use minicbor::Decoder;
use std::fmt;
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

    const fn from_u8(role: u8) -> Option<Self> {
        Some(match role {
            1 => Self::Owner,
            2 => Self::Maintainer,
            3 => Self::Writer,
            4 => Self::Reader,
            _ => return None,
        })
    }
}

/// A certificate or signature that does not hold.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateError {
    /// Bytes that are no certificate.
    #[error("the certificate is malformed")]
    Malformed,
    /// Its chain does not lead to this vault's root key, or it is for another vault.
    #[error("the certificate does not lead to this vault's root key")]
    Untrusted,
    /// Issued by a device that may not issue.
    #[error("the certificate was issued by a device that is no owner")]
    IssuerNotOwner,
    /// Issued with a certificate that is not the issuing device's.
    #[error("the certificate at hand is another device's: this device cannot issue with it")]
    OtherDevice,
    /// More devices in a row than a chain may have.
    #[error(
        "the certificate's chain is longer than {CHAIN_MAX} devices: let an owner nearer to the root key, or the recovery code, approve this device"
    )]
    ChainTooLong,
    /// The signature over a root record, a device's key or rotated keys is wrong.
    #[error("the signature does not hold")]
    BadSignature,
    /// The certificate's role may not write.
    #[error("the device's role may not write snapshots")]
    RoleMayNotWrite,
}

/// The vault's root key pair (Ed25519); its secret rests only under the recovery code.
pub struct RootKey {
    key: SigningKey,
}

impl RootKey {
    /// From 32 random bytes or an opened envelope.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self { key: SigningKey::from_bytes(&seed) }
    }

    /// The public half, pinned in every keyring.
    pub fn public(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    pub(crate) fn seed(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Certifies a device for a vault.
    pub fn certify(
        &self,
        vault: VaultId,
        device_public: [u8; 32],
        role: Role,
        issued_secs: i64,
    ) -> Certificate {
        Certificate { vault, device_public, role, issued_secs, issuer: None, signature: [0; 64] }
            .signed(&self.key)
    }

    /// Signs `backupengine_api::signature::approval_message`, by which a device that holds the recovery code
    /// approves itself. Anything else gets a signature that counts for nothing.
    pub fn sign_approval(&self, message: &[u8]) -> [u8; 64] {
        sign_of(&self.key, context::APPROVAL, message)
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKey(secret)")
    }
}

/// A device's signing key pair.
pub struct DeviceKey {
    key: SigningKey,
}

impl DeviceKey {
    /// From 32 random bytes or the device's key file.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self { key: SigningKey::from_bytes(&seed) }
    }

    /// The public half.
    pub fn public(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// First 16 bytes of BLAKE3 of the public half.
    pub fn id(&self) -> DeviceId {
        device_id(&self.public())
    }

    /// Signs an encoded root record without its signature field.
    pub fn sign_root(&self, record: &[u8]) -> [u8; 64] {
        self.key.sign(&root_message(record)).to_bytes()
    }

    /// Signs this device's own X25519 key: whoever knows the device by its certificate knows then what to seal to.
    pub fn sign_seal_key(&self, seal_public: &[u8; 32]) -> [u8; 64] {
        self.key.sign(&[context::SEAL_KEY_SIGNATURE, seal_public].concat()).to_bytes()
    }

    /// Signs the signature base of a request (RFC 9421) as it is: others verify it, so nothing may stand before
    /// it. It cannot pass for a root record or a certificate: a base begins with `"@method": `, those begin
    /// with `bke1 `. What does not begin so is no base and gets a signature that counts for nothing.
    pub fn sign_request(&self, base: &[u8]) -> [u8; 64] {
        sign_of(&self.key, context::REQUEST, base)
    }

    /// Certifies another device as an owner: `own` is this device's certificate and goes along in the new one.
    ///
    /// # Errors
    /// [`CertificateError::OtherDevice`], [`CertificateError::IssuerNotOwner`],
    /// [`CertificateError::ChainTooLong`].
    pub fn certify(
        &self,
        own: &Certificate,
        device_public: [u8; 32],
        role: Role,
        issued_secs: i64,
    ) -> Result<Certificate, CertificateError> {
        if own.device_public != self.public() {
            return Err(CertificateError::OtherDevice);
        }
        if own.role != Role::Owner {
            return Err(CertificateError::IssuerNotOwner);
        }
        if own.chain().count() >= CHAIN_MAX {
            return Err(CertificateError::ChainTooLong);
        }
        let issuer = Some(Box::new(own.clone()));
        let unsigned =
            Certificate { vault: own.vault, device_public, role, issued_secs, issuer, signature: [0; 64] };
        Ok(unsigned.signed(&self.key))
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceKey(secret)")
    }
}

/// A device, certified by the vault root key, or by an owner device whose certificate goes along.
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
    /// The owner device that issued it; `None` where the root key did.
    pub issuer: Option<Box<Certificate>>,
    /// Ed25519 signature of the root key or the issuer over the fields above.
    pub signature: [u8; 64],
}

/// Version of the form that the root key issues.
const BY_ROOT: u8 = 1;
/// Version of the form that a device issues: its certificate stands inside.
const BY_DEVICE: u8 = 2;
/// Most certificates of a chain, the device's own included.
const CHAIN_MAX: usize = 4;
/// Most bytes of an encoded chain. A chain of four takes less than 800; the limit is what the control plane takes.
const ENCODED_MAX: usize = 4096;

impl Certificate {
    /// Deterministic CBOR.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_fields(true)
    }

    fn encode_fields(&self, signed: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        cbor::write(&mut out, |e| {
            e.map(5 + u64::from(signed) + u64::from(self.issuer.is_some()))?;
            e.u8(1)?.u8(if self.issuer.is_some() { BY_DEVICE } else { BY_ROOT })?;
            e.u8(2)?.bytes(&self.vault.0)?;
            e.u8(3)?.bytes(&self.device_public)?;
            e.u8(4)?.u8(self.role as u8)?;
            e.u8(5)?.i64(self.issued_secs)?;
            if signed {
                e.u8(6)?.bytes(&self.signature)?;
            }
            if let Some(issuer) = &self.issuer {
                e.u8(7)?.bytes(&issuer.encode())?;
            }
            Ok(())
        });
        out
    }

    fn signed_message(&self) -> Vec<u8> {
        [context::CERTIFICATE_SIGNATURE, &self.encode_fields(false)].concat()
    }

    fn signed(mut self, key: &SigningKey) -> Self {
        self.signature = key.sign(&self.signed_message()).to_bytes();
        self
    }

    /// Strict: anything but the bytes `encode` gives is refused.
    ///
    /// # Errors
    /// [`CertificateError::Malformed`], [`CertificateError::ChainTooLong`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CertificateError> {
        if bytes.len() > ENCODED_MAX {
            return Err(CertificateError::ChainTooLong);
        }
        let certificate = Self::decode_chain(bytes, CHAIN_MAX)?;
        if certificate.encode() == bytes { Ok(certificate) } else { Err(CertificateError::Malformed) }
    }

    /// At most `left` certificates inside one another.
    fn decode_chain(bytes: &[u8], left: usize) -> Result<Self, CertificateError> {
        if left == 0 {
            return Err(CertificateError::ChainTooLong);
        }
        let (mut certificate, issuer) =
            Self::decode_fields(bytes).map_err(|Unexpected| CertificateError::Malformed)?;
        certificate.issuer =
            issuer.map(|bytes| Self::decode_chain(bytes, left - 1)).transpose()?.map(Box::new);
        Ok(certificate)
    }

    /// The certificate without its issuer, and the issuer's bytes.
    fn decode_fields(bytes: &[u8]) -> Result<(Self, Option<&[u8]>), Unexpected> {
        let d = &mut Decoder::new(bytes);
        let fields = d.map()?;
        cbor::key(d, 1)?;
        let by_device = match (d.u8()?, fields) {
            (BY_ROOT, Some(6)) => false,
            (BY_DEVICE, Some(7)) => true,
            _ => return Err(Unexpected),
        };
        cbor::key(d, 2)?;
        let vault = VaultId(cbor::bytes(d)?);
        cbor::key(d, 3)?;
        let device_public = cbor::bytes(d)?;
        cbor::key(d, 4)?;
        let role = Role::from_u8(d.u8()?).ok_or(Unexpected)?;
        cbor::key(d, 5)?;
        let issued_secs = d.i64()?;
        cbor::key(d, 6)?;
        let signature = cbor::bytes(d)?;
        let issuer = if by_device {
            cbor::key(d, 7)?;
            Some(d.bytes()?)
        } else {
            None
        };
        Ok((Self { vault, device_public, role, issued_secs, issuer: None, signature }, issuer))
    }

    /// This certificate, its issuer, the issuer's issuer: up to the one the root key signed.
    fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |certificate| certificate.issuer.as_deref())
    }

    /// See [`DeviceKey::id`].
    pub fn device(&self) -> DeviceId {
        device_id(&self.device_public)
    }

    /// That this device signed this X25519 key as its own: what a control plane says to seal to is no device's otherwise.
    ///
    /// # Errors
    /// [`CertificateError::BadSignature`].
    pub fn verify_seal_key(
        &self,
        seal_public: &[u8; 32],
        signature: &[u8; 64],
    ) -> Result<(), CertificateError> {
        let message = [context::SEAL_KEY_SIGNATURE, seal_public].concat();
        if holds(&self.device_public, &message, signature) {
            Ok(())
        } else {
            Err(CertificateError::BadSignature)
        }
    }

    /// That the vault's root key signed this for this vault, or an owner device did that it certified itself.
    ///
    /// # Errors
    /// [`CertificateError::Untrusted`], [`CertificateError::IssuerNotOwner`],
    /// [`CertificateError::ChainTooLong`].
    pub fn verify(&self, vault: VaultId, root_public: &[u8; 32]) -> Result<(), CertificateError> {
        if self.chain().count() > CHAIN_MAX {
            return Err(CertificateError::ChainTooLong);
        }
        for certificate in self.chain() {
            let issuer = certificate.issuer.as_deref();
            let signer = issuer.map_or(root_public, |issuer| &issuer.device_public);
            let signed = holds(signer, &certificate.signed_message(), &certificate.signature);
            if certificate.vault != vault || !signed {
                return Err(CertificateError::Untrusted);
            }
            // Told only of a signature that holds: a made-up one says nothing of any device.
            if issuer.is_some_and(|issuer| issuer.role != Role::Owner) {
                return Err(CertificateError::IssuerNotOwner);
            }
        }
        Ok(())
    }
}

/// Verifies certificate, role and signature of a root record in one go and says whose it is.
///
/// # Errors
/// [`CertificateError`].
pub fn verify_root_signature(
    vault: VaultId,
    root_public: &[u8; 32],
    certificate: &[u8],
    signature: &[u8; 64],
    record: &[u8],
) -> Result<DeviceId, CertificateError> {
    let certificate = Certificate::decode(certificate)?;
    certificate.verify(vault, root_public)?;
    if !certificate.role.may_write() {
        return Err(CertificateError::RoleMayNotWrite);
    }
    if !holds(&certificate.device_public, &root_message(record), signature) {
        return Err(CertificateError::BadSignature);
    }
    Ok(certificate.device())
}

fn root_message(record: &[u8]) -> Vec<u8> {
    [context::ROOT_SIGNATURE, record].concat()
}

/// Signs `message` as it is where it begins as its kind does; else under a prefix that nothing verifies.
fn sign_of(key: &SigningKey, begins: &[u8], message: &[u8]) -> [u8; 64] {
    if message.starts_with(begins) {
        key.sign(message).to_bytes()
    } else {
        key.sign(&[context::NOTHING, message].concat()).to_bytes()
    }
}

/// A device's signature over a message of this crate's own making.
pub(crate) fn signature_of(key: &DeviceKey, message: &[u8]) -> [u8; 64] {
    key.key.sign(message).to_bytes()
}

fn device_id(public: &[u8; 32]) -> DeviceId {
    let mut id = [0; DeviceId::LEN];
    id.copy_from_slice(&blake3::hash(public).as_bytes()[..DeviceId::LEN]);
    DeviceId(id)
}

/// Strict verification: no small-order keys, canonical scalars and points only.
pub(crate) fn holds(public: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(public)
        .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
}

#[cfg(test)]
mod tests;
