//! What an owner device signs when it rotates the vault's keys, and how another device believes it.
//!
//! An enrolment envelope does not say who sealed it. A device that has the vault's keys already compares no words: it
//! takes newer keys only where they extend its own, which the control plane does not know, and where an owner device
//! signed them, so that a device that could only read or write makes no keys for others.
//!
//! **What it may not do.** Stand outside a seal: what is signed is made of keys.
//! **What always holds.** The signature is over all keys there are after the rotation; the certificate goes along.
//! **Where it is tested.** Below; `tests/cli` (`account_keys`: keys of the server's own are refused).

use crate::cbor::{self, Unexpected};
use crate::certificate::{holds, signature_of};
use crate::{Certificate, CertificateError, DeviceKey, Keyring, Role, context};
use minicbor::Decoder;
use thiserror::Error;

/// Newer keys that are not taken over.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RotationError {
    /// Bytes that are none.
    #[error("what was sealed with the new keys is malformed")]
    Malformed,
    /// They are no continuation of the keys at hand.
    #[error("the new keys do not continue those of this device")]
    NotOurs,
    /// Whoever signed them is no device of this vault, or none that may.
    #[error("the new keys were not made by an owner of this vault")]
    NotAnOwner(#[source] CertificateError),
}

/// Who made a keyring's newest epoch: signature and certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    certificate: Certificate,
    signature: [u8; 64],
}

impl Rotation {
    /// Signs a keyring that this device rotated; `own` is its certificate.
    ///
    /// # Errors
    /// [`CertificateError::OtherDevice`], [`CertificateError::IssuerNotOwner`].
    pub fn sign(keyring: &Keyring, key: &DeviceKey, own: &Certificate) -> Result<Self, CertificateError> {
        if own.device_public != key.public() {
            return Err(CertificateError::OtherDevice);
        }
        if own.role != Role::Owner {
            return Err(CertificateError::IssuerNotOwner);
        }
        Ok(Self { certificate: own.clone(), signature: signature_of(key, &message(keyring)) })
    }

    /// That `newer` continues `ours` and that an owner device of the vault made it.
    ///
    /// # Errors
    /// [`RotationError`].
    pub fn verify(&self, newer: &Keyring, ours: &Keyring) -> Result<(), RotationError> {
        if !newer.extends(ours) {
            return Err(RotationError::NotOurs);
        }
        self.certificate.verify(ours.vault(), ours.root_public()).map_err(RotationError::NotAnOwner)?;
        if self.certificate.role != Role::Owner {
            return Err(RotationError::NotAnOwner(CertificateError::IssuerNotOwner));
        }
        if !holds(&self.certificate.device_public, &message(newer), &self.signature) {
            return Err(RotationError::NotAnOwner(CertificateError::BadSignature));
        }
        Ok(())
    }

    /// CBOR `{1: certificate, 2: signature}`.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        cbor::write(&mut out, |e| {
            e.map(2)?.u8(1)?.bytes(&self.certificate.encode())?.u8(2)?.bytes(&self.signature)?;
            Ok(())
        });
        out
    }

    /// Reads what [`Rotation::encode`] gives, and nothing else.
    ///
    /// # Errors
    /// [`RotationError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RotationError> {
        let rotation = Self::decode_fields(bytes).map_err(|Unexpected| RotationError::Malformed)?;
        if rotation.encode() == bytes { Ok(rotation) } else { Err(RotationError::Malformed) }
    }

    fn decode_fields(bytes: &[u8]) -> Result<Self, Unexpected> {
        let d = &mut Decoder::new(bytes);
        if d.map()? != Some(2) {
            return Err(Unexpected);
        }
        cbor::key(d, 1)?;
        let certificate = Certificate::decode(d.bytes()?).map_err(|_| Unexpected)?;
        cbor::key(d, 2)?;
        Ok(Self { certificate, signature: cbor::bytes(d)? })
    }
}

/// What is signed: the vault, the epoch, and a hash of all keys.
fn message(keyring: &Keyring) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new_derive_key(context::ROTATION);
    hasher.update(&keyring.vault().0).update(keyring.root_public()).update(keyring.dedup().expose());
    for (epoch, master) in keyring.epochs() {
        hasher.update(&epoch.to_le_bytes()).update(master.expose());
    }
    let hash = hasher.finalize();
    let epoch = keyring.current_epoch().to_le_bytes();
    [context::ROTATION_SIGNATURE, &keyring.vault().0, &epoch, hash.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MasterSecret;
    use crate::testing::{keyring, root_key};

    fn owner() -> (DeviceKey, Certificate) {
        let key = DeviceKey::from_seed([0x44; 32]);
        let certificate = root_key().certify(keyring().vault(), key.public(), Role::Owner, 5);
        (key, certificate)
    }

    fn newer() -> Keyring {
        keyring().rotated(MasterSecret::from_bytes([0x12; 32])).unwrap()
    }

    #[test]
    fn an_owners_rotation_is_believed_and_reads_back() {
        let (key, own) = owner();
        let signed = Rotation::sign(&newer(), &key, &own).unwrap();
        assert_eq!(signed.verify(&newer(), &keyring()), Ok(()));
        let bytes = signed.encode();
        assert_eq!(Rotation::decode(&bytes), Ok(signed.clone()));
        for len in 0..bytes.len() {
            assert_eq!(Rotation::decode(&bytes[..len]), Err(RotationError::Malformed));
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Rotation::decode(&longer), Err(RotationError::Malformed));
        for at in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[at / 8] ^= 1 << (at % 8);
            assert!(
                Rotation::decode(&bad).and_then(|bad| bad.verify(&newer(), &keyring())).is_err(),
                "bit {at}"
            );
        }
    }

    #[test]
    fn it_is_of_these_keys_only() {
        let (key, own) = owner();
        let signed = Rotation::sign(&newer(), &key, &own).unwrap();
        let other = keyring().rotated(MasterSecret::from_bytes([0x13; 32])).unwrap();
        let bad = RotationError::NotAnOwner(CertificateError::BadSignature);
        assert_eq!(signed.verify(&other, &keyring()), Err(bad));
        assert_eq!(signed.verify(&newer(), &other), Err(RotationError::NotOurs));
    }

    #[test]
    fn who_is_no_owner_rotates_for_nobody() {
        let (owner_key, owner_certificate) = owner();
        let key = DeviceKey::from_seed([0x45; 32]);
        for role in [Role::Maintainer, Role::Writer, Role::Reader] {
            let own = owner_key.certify(&owner_certificate, key.public(), role, 6).unwrap();
            assert_eq!(Rotation::sign(&newer(), &key, &own), Err(CertificateError::IssuerNotOwner));
            // As a program of its own would sign.
            let forged = Rotation { signature: signature_of(&key, &message(&newer())), certificate: own };
            let refused = RotationError::NotAnOwner(CertificateError::IssuerNotOwner);
            assert_eq!(forged.verify(&newer(), &keyring()), Err(refused));
        }
        assert_eq!(Rotation::sign(&newer(), &key, &owner_certificate), Err(CertificateError::OtherDevice));
        let stranger = crate::RootKey::from_seed([9; 32]);
        let own = stranger.certify(keyring().vault(), key.public(), Role::Owner, 7);
        let forged = Rotation::sign(&newer(), &key, &own).unwrap();
        let refused = RotationError::NotAnOwner(CertificateError::Untrusted);
        assert_eq!(forged.verify(&newer(), &keyring()), Err(refused));
    }
}
