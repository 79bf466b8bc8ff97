//! Keys of an account's vault after a change: put by an owner device, and sealed to the others.
//!
//! **What it may not do.** Believe the server whose key is whose: it could name one of its own.
//! **What always holds.** Something is sealed only to a key that its device signed, whose certificate leads to the vault's
//! root key. Whoever is left out is named.
//! **Where it is tested.** `tests/cli` (`account_keys`).

use crate::account::{CodeSource, Online};
use crate::error::{Failure, Kind};
use crate::keychain::random;
use crate::wire::{Opened, Wire};
use backupengine_api::{Code, DeviceEnvelope, DeviceRecord, Opaque, op};
use backupengine_model::DeviceId;
use backupengine_seal::{Certificate, Keyring, Role, Rotation, seal_rotated_for_device};
use backupengine_store::EnvelopeChange;
use backupengine_transfer::{PresignedStore, TransferError};

/// Active devices of an account, and what they are sealed to.
#[derive(Default)]
pub(crate) struct DeviceKeys {
    to: Vec<(DeviceId, [u8; 32])>,
    /// Those that nothing is sealed to, and why.
    pub(crate) left_out: Vec<(DeviceId, &'static str)>,
}

/// Who the vault's new keys are sealed to: active devices that vouch for their key.
///
/// # Errors
/// `Denied` where this device is no owner; what the server says.
pub(crate) fn sealed_for(online: &Online, opened: &Opened) -> Result<DeviceKeys, Failure> {
    if !opened.device.as_ref().is_some_and(|own| own.certificate.role == Role::Owner) {
        return Err(Failure::new(
            Kind::Denied,
            "this device is no owner of the vault: it makes no keys for others".to_owned(),
        )
        .hint("rotate on an owner device; `backupengine whoami` shows this one's role"));
    }
    let mut keys = DeviceKeys::default();
    for device in online.devices()?.devices.iter().filter(|device| device.status == "active") {
        match seal_key(opened.vault.keyring(), device) {
            Ok(key) => keys.to.push((device.device, key)),
            Err(why) => keys.left_out.push((device.device, why)),
        }
    }
    Ok(keys)
}

/// A device's X25519 key, by the device's own word.
fn seal_key(keyring: &Keyring, device: &DeviceRecord) -> Result<[u8; 32], &'static str> {
    let certificate = device.certificate.as_ref().ok_or("it has no certificate of the vault")?;
    let certificate = Certificate::decode(&certificate.0).map_err(|_| "its certificate does not read")?;
    certificate
        .verify(keyring.vault(), keyring.root_public())
        .map_err(|_| "its certificate is not of this vault")?;
    if certificate.device() != device.device {
        return Err("its certificate is another device's");
    }
    let key = <[u8; 32]>::try_from(device.seal_public.0.as_slice()).map_err(|_| "its key is none")?;
    let signature = device.seal_signature.as_ref().and_then(|s| <[u8; 64]>::try_from(s.0.as_slice()).ok());
    let signature = signature.ok_or("it does not vouch for its key yet (`backupengine login` there does)")?;
    certificate
        .verify_seal_key(&key, &signature)
        .map_err(|_| "the server names a key that is not its own")?;
    Ok(key)
}

impl DeviceKeys {
    /// Those that it is sealed to.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.to.iter().map(|(id, _)| id.to_string()).collect()
    }

    /// The rotated keys for each; `seen` goes along.
    ///
    /// # Errors
    /// When this device may not sign for the vault, or one of the keys is none.
    pub(crate) fn seal(
        &self,
        opened: &Opened,
        new: &Keyring,
        seen: &[u8],
    ) -> Result<Vec<DeviceEnvelope>, Failure> {
        let Some(own) = &opened.device else { return Ok(Vec::new()) };
        let rotation = Rotation::sign(new, &own.signing_key(), &own.certificate)
            .map_err(|e| Failure::new(Kind::Denied, e).hint("rotate on an owner device"))?;
        let sealed = self.to.iter().map(|(device, key)| {
            let sealed =
                seal_rotated_for_device(new, seen, &rotation, key, *device, random()?).map_err(|e| {
                    Failure::new(Kind::Failed, e).while_doing(format!("the keys were not sealed to {device}"))
                })?;
            Ok(DeviceEnvelope { device: *device, sealed: Opaque(sealed) })
        });
        sealed.collect()
    }
}

/// Makes a change of the ways in the account's own. A fresh one-time code is asked for before anything is stored.
///
/// # Errors
/// What the server says; `InUse` where somebody else changed them.
pub(crate) fn change_keys(
    wire: &Wire,
    online: &mut Online,
    store: &PresignedStore,
    codes: &CodeSource<'_>,
    change: &EnvelopeChange,
    devices: Vec<DeviceEnvelope>,
) -> Result<(), Failure> {
    let moved = |failure: Failure| {
        failure.hint("nothing was changed; look with `backupengine key list`, and run it again")
    };
    let asked = store.envelope_request(change, devices.clone());
    match online.call_fresh::<op::EnvelopeChange>(codes, &asked) {
        Err(failure) if is_moved(&failure) => return Err(moved(failure)),
        other => drop(other?),
    }
    // With the login that was confirmed.
    match online.store(&wire.places.cache)?.change_keys(change, devices) {
        Err(TransferError::Refused(refusal)) if refusal.known() == Some(Code::EnvelopesMoved) => {
            Err(moved(TransferError::Refused(refusal).into()))
        }
        other => Ok(other?),
    }
}

fn is_moved(failure: &Failure) -> bool {
    let refused = failure.error.downcast_ref::<TransferError>();
    matches!(refused, Some(TransferError::Refused(refusal)) if refusal.known() == Some(Code::EnvelopesMoved))
}
