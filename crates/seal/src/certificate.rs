//! Device keys, the vault root key, certificates and signatures of roots (security.md 6).
//!
//! **What it may not do.** Know what a root record says: whoever decodes it compares its device and vault with
//! what [`verify_root_signature`] returned and was given.
//! **What always holds.** Ed25519 (RFC 8032), verified strictly; each kind of message has its own first bytes,
//! so that no signature passes for one of the other kind.
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
        let mut certificate = Certificate { vault, device_public, role, issued_secs, signature: [0; 64] };
        certificate.signature = self.key.sign(&certificate.signed_message()).to_bytes();
        certificate
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
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceKey(secret)")
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

/// Version of the certificate's form.
const VERSION: u8 = 1;

impl Certificate {
    /// Deterministic CBOR.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_fields(true)
    }

    fn encode_fields(&self, signed: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(160);
        cbor::write(&mut out, |e| {
            e.map(if signed { 6 } else { 5 })?;
            e.u8(1)?.u8(VERSION)?;
            e.u8(2)?.bytes(&self.vault.0)?;
            e.u8(3)?.bytes(&self.device_public)?;
            e.u8(4)?.u8(self.role as u8)?;
            e.u8(5)?.i64(self.issued_secs)?;
            if signed {
                e.u8(6)?.bytes(&self.signature)?;
            }
            Ok(())
        });
        out
    }

    fn signed_message(&self) -> Vec<u8> {
        [context::CERTIFICATE_SIGNATURE, &self.encode_fields(false)].concat()
    }

    /// Strict: anything but the bytes `encode` gives is refused.
    ///
    /// # Errors
    /// [`CertificateError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CertificateError> {
        let certificate = Self::decode_fields(bytes).map_err(|Unexpected| CertificateError::Malformed)?;
        if certificate.encode() == bytes { Ok(certificate) } else { Err(CertificateError::Malformed) }
    }

    fn decode_fields(bytes: &[u8]) -> Result<Self, Unexpected> {
        let d = &mut Decoder::new(bytes);
        cbor::map(d, 6)?;
        cbor::key(d, 1)?;
        cbor::key(d, VERSION)?;
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
        Ok(Self { vault, device_public, role, issued_secs, signature })
    }

    /// See [`DeviceKey::id`].
    pub fn device(&self) -> DeviceId {
        device_id(&self.device_public)
    }

    /// That the vault's root key signed this, for this vault.
    ///
    /// # Errors
    /// [`CertificateError::Untrusted`].
    pub fn verify(&self, vault: VaultId, root_public: &[u8; 32]) -> Result<(), CertificateError> {
        if self.vault == vault && holds(root_public, &self.signed_message(), &self.signature) {
            Ok(())
        } else {
            Err(CertificateError::Untrusted)
        }
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

fn device_id(public: &[u8; 32]) -> DeviceId {
    let mut id = [0; DeviceId::LEN];
    id.copy_from_slice(&blake3::hash(public).as_bytes()[..DeviceId::LEN]);
    DeviceId(id)
}

/// Strict verification: no small-order keys, canonical scalars and points only.
fn holds(public: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(public)
        .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::root_key;

    const VAULT: VaultId = VaultId([0xaa; 16]);

    fn device() -> DeviceKey {
        DeviceKey::from_seed([0x44; 32])
    }

    #[test]
    fn a_certified_device_signs_roots() {
        let certificate = root_key().certify(VAULT, device().public(), Role::Writer, 1_800_000_000);
        assert_eq!(certificate.verify(VAULT, &root_key().public()), Ok(()));
        assert_eq!(Certificate::decode(&certificate.encode()), Ok(certificate.clone()));
        assert_eq!(certificate.device(), device().id());
        let signature = device().sign_root(b"record");
        let verify = |vault, root: &RootKey, signature, record| {
            verify_root_signature(vault, &root.public(), &certificate.encode(), signature, record)
        };
        assert_eq!(verify(VAULT, &root_key(), &signature, b"record"), Ok(device().id()));
        assert_eq!(verify(VAULT, &root_key(), &signature, b"recorD"), Err(CertificateError::BadSignature));
        let other = VaultId([1; 16]);
        assert_eq!(verify(other, &root_key(), &signature, b"record"), Err(CertificateError::Untrusted));
        let stranger = RootKey::from_seed([1; 32]);
        assert_eq!(verify(VAULT, &stranger, &signature, b"record"), Err(CertificateError::Untrusted));
        let foreign = DeviceKey::from_seed([1; 32]).sign_root(b"record");
        assert_eq!(verify(VAULT, &root_key(), &foreign, b"record"), Err(CertificateError::BadSignature));
    }

    #[test]
    fn readers_sign_nothing_and_roles_cannot_be_raised() {
        let reader = root_key().certify(VAULT, device().public(), Role::Reader, 0);
        let signature = device().sign_root(b"record");
        let verify = |certificate: &Certificate| {
            verify_root_signature(VAULT, &root_key().public(), &certificate.encode(), &signature, b"record")
        };
        assert_eq!(verify(&reader), Err(CertificateError::RoleMayNotWrite));
        let raised = Certificate { role: Role::Owner, ..reader };
        assert_eq!(verify(&raised), Err(CertificateError::Untrusted));
    }

    #[test]
    fn a_signature_of_one_kind_is_none_of_the_other() {
        let unsigned = root_key().certify(VAULT, device().public(), Role::Owner, 0);
        // The root key tricked into signing a root record whose bytes are a certificate's.
        let as_device = DeviceKey::from_seed([0x33; 32]);
        let forged =
            Certificate { signature: as_device.sign_root(&unsigned.encode_fields(false)), ..unsigned };
        assert_eq!(forged.verify(VAULT, &root_key().public()), Err(CertificateError::Untrusted));
    }

    #[test]
    fn every_changed_bit_of_a_certificate_is_refused() {
        let good = root_key().certify(VAULT, device().public(), Role::Owner, -5).encode();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let verdict = Certificate::decode(&bad).and_then(|c| c.verify(VAULT, &root_key().public()));
            assert!(verdict.is_err(), "bit {bit}");
        }
        for len in 0..good.len() {
            assert_eq!(Certificate::decode(&good[..len]), Err(CertificateError::Malformed));
        }
        let longer = [&good[..], &[0]].concat();
        assert_eq!(Certificate::decode(&longer), Err(CertificateError::Malformed));
    }

    #[test]
    fn weak_keys_verify_nothing() {
        // The neutral element as public key: a lax verification accepts one signature for every message.
        let mut weak = [0; 32];
        weak[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert!(!holds(&weak, b"anything", &signature));
    }

    #[test]
    fn keys_print_one_word() {
        assert_eq!(format!("{:?} {:?}", root_key(), device()), "RootKey(secret) DeviceKey(secret)");
    }
}
