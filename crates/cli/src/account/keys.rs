//! This device's keys for an account: they sign and receive; tokens of the login are not among them.
//!
//! **What it may not do.** Print a key.
//! **What always holds.** What signs and what opens data rest apart.
//! **Where it is tested.** Below.

use crate::error::{Failure, Kind};
use crate::keychain::{Device, hex, random, unhex};
use crate::secrets::{Name, Secrets};
use backupengine_model::DeviceId;
use backupengine_seal::{Certificate, DeviceKey, DeviceSecret, Keyring, SealKey};
use backupengine_transfer::Signer;
use zeroize::Zeroizing;

/// The keys.
pub(crate) struct Keys {
    sign_seed: Zeroizing<[u8; 32]>,
    seal_seed: Zeroizing<[u8; 32]>,
    /// Opens the keyring that rests on this device.
    secret: DeviceSecret,
    sign: DeviceKey,
    seal: SealKey,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({}, secret)", self.sign.id())
    }
}

impl Keys {
    /// New ones.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub(crate) fn create() -> Result<Self, Failure> {
        Ok(Self::of(
            Zeroizing::new(random()?),
            Zeroizing::new(random()?),
            DeviceSecret::from_bytes(random()?),
        ))
    }

    fn of(sign_seed: Zeroizing<[u8; 32]>, seal_seed: Zeroizing<[u8; 32]>, secret: DeviceSecret) -> Self {
        let (sign, seal) = (DeviceKey::from_seed(*sign_seed), SealKey::from_seed(*seal_seed));
        Self { sign_seed, seal_seed, secret, sign, seal }
    }

    /// Those that are kept.
    ///
    /// # Errors
    /// When they do not read.
    pub(crate) fn load(secrets: &Secrets) -> Result<Option<Self>, Failure> {
        let (Some(sign), Some(data)) = (secrets.load(Name::SigningKey)?, secrets.load(Name::DataKeys)?)
        else {
            return Ok(None);
        };
        let read = || {
            let data = Zeroizing::new(unhex(&data)?);
            let (seal, secret) = data.split_at_checked(32)?;
            Some(Self::of(
                Zeroizing::new(Zeroizing::new(unhex(&sign)?).as_slice().try_into().ok()?),
                Zeroizing::new(seal.try_into().ok()?),
                DeviceSecret::from_bytes(secret.try_into().ok()?),
            ))
        };
        read().map(Some).ok_or_else(|| {
            Failure::new(Kind::Failed, "the keys of this device do not read".to_owned())
                .hint("forget them and log in anew: backupengine logout --forget-device; backupengine login")
        })
    }

    /// Keeps them.
    ///
    /// # Errors
    /// When they cannot be kept.
    pub(crate) fn save(&self, secrets: &Secrets) -> Result<(), Failure> {
        let data = Zeroizing::new([*self.seal_seed, *self.secret.expose()].concat());
        secrets.save(Name::DataKeys, &Zeroizing::new(hex(&data)))?;
        secrets.save(Name::SigningKey, &Zeroizing::new(hex(&*self.sign_seed)))
    }

    /// Opens what others sealed to this device.
    pub(crate) fn seal_key(&self) -> &SealKey {
        &self.seal
    }

    /// This device in a vault, with the keyring under its own secret.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub(crate) fn certified(&self, keyring: &Keyring, certificate: Certificate) -> Result<Device, Failure> {
        Device::with_certificate(keyring, certificate, self.sign_seed.clone(), self.secret.clone())
    }

    /// This device in a vault, from what is kept. `None` where the certificate is another key's.
    pub(crate) fn placed(&self, certificate: Certificate, envelope: Vec<u8>) -> Option<Device> {
        Device::from_parts(certificate, self.secret.clone(), envelope, self.sign_seed.clone())
    }
}

impl Signer for Keys {
    fn sign_public(&self) -> [u8; 32] {
        self.sign.public()
    }
    fn seal_public(&self) -> [u8; 32] {
        self.seal.public()
    }
    fn seal_signature(&self) -> [u8; 64] {
        self.sign.sign_seal_key(&self.seal.public())
    }
    fn device(&self) -> DeviceId {
        self.sign.id()
    }
    fn sign(&self, base: &[u8]) -> [u8; 64] {
        self.sign.sign_request(base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::Keychain;

    #[test]
    fn they_are_kept_apart_and_found() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::new(Keychain::File, folder.path());
        assert!(Keys::load(&secrets).unwrap().is_none());
        let keys = Keys::create().unwrap();
        keys.save(&secrets).unwrap();
        let found = Keys::load(&secrets).unwrap().unwrap();
        assert_eq!((found.sign_public(), found.seal_public()), (keys.sign_public(), keys.seal_public()));
        assert_eq!(found.secret.expose(), keys.secret.expose());
        let signing = secrets.load(Name::SigningKey).unwrap().unwrap();
        assert!(!secrets.load(Name::DataKeys).unwrap().unwrap().contains(signing.as_str()));
        assert!(!format!("{keys:?}").contains(signing.as_str()));
        secrets.save(Name::DataKeys, "00").unwrap();
        assert!(Keys::load(&secrets).is_err());
    }
}
