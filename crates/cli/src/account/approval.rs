//! How a new device comes to the vault's keys: from one that has them, or by the recovery code.
//!
//! **What it may not do.** Believe the server: it can seal keys of its own to any device.
//! **What always holds.** Nothing is kept before a person, or a script that was given the words, compared the vault's
//! fingerprint; the certificate leads to the root key of those very keys.
//! **Where it is tested.** `tests/cli`.

use crate::account::{Online, compare, idem, seal_name};
use crate::error::{Failure, Kind};
use crate::floor;
use crate::keychain::Device;
use crate::output::tell;
use crate::wire::Wire;
use backupengine_api::signature::approval_message;
use backupengine_api::{ApproveDevice, Empty, Opaque, RenameDevice, op};
use backupengine_seal::{
    Certificate, Keyring, RecoveryCode, Role, UnlockSecret, envelope_epoch, open_envelope, open_for_device,
    vault_fingerprint,
};
use backupengine_transfer::{PresignedStore, Signer};
use backupengine_vault::Floor;

/// Takes what an owner device sealed to this one, after its words were compared.
///
/// # Errors
/// `Denied` where the words differ or what came does not hold; bad usage where nobody can compare.
pub(crate) fn take_over(wire: &Wire, online: &Online, words: Option<&str>) -> Result<Device, Failure> {
    let store = online.store(&wire.places.cache)?;
    let mounted = store.mounted();
    let missing = |what: &str| {
        Failure::new(Kind::Denied, format!("this device is active, but the server has no {what} for it"))
            .hint("approve it once more on an owner device, or use the recovery code: --recovery-code-file")
    };
    let envelope = mounted.envelope.as_ref().ok_or_else(|| missing("keys"))?;
    let certificate = mounted.certificate.as_ref().ok_or_else(|| missing("certificate"))?;
    let opened = open_for_device(&envelope.0, online.keys.seal_key(), online.keys.device())
        .map_err(|e| lie(e, "the keys that were sealed to this device do not open"))?;
    let keyring = &opened.keyring;
    let own = online.account.device()?.and_then(|device| device.keyring());
    if own.is_some_and(|own| own.vault() == keyring.vault() && !keyring.extends(&own)) {
        return Err(lie(
            "they do not continue the keys that it has".to_owned(),
            "the keys that were sealed to this device are refused",
        ));
    }
    let certificate = believed(online, keyring, &certificate.0)?;
    compare(
        vault_fingerprint(keyring),
        words,
        "Does the device that approved this one show these six words for the vault? (yes or no) ",
        "--vault-fingerprint",
        "`backupengine device approve` and `backupengine status` show the vault's words on the other device",
    )?;
    let vault = keyring.vault();
    let seen = Floor::decode(&opened.floor)
        .map_err(|e| lie(e, "what the approving device has seen does not read"))?;
    floor::save(&floor::path(&wire.places.state, vault), &seen, false)?;
    let device = online.keys.certified(keyring, certificate)?;
    online.account.keep(&device)?;
    tell_name(wire, online, keyring);
    Ok(device)
}

/// Lets this device in by the recovery code: the root key in its envelope certifies it.
///
/// # Errors
/// `Denied` where the code does not open the vault.
pub(crate) fn recover(wire: &Wire, online: &Online, code: &RecoveryCode) -> Result<Device, Failure> {
    let listed = online.call::<op::VaultList>(&Empty {})?;
    let vault = listed.vaults.first().ok_or_else(|| {
        Failure::new(Kind::Failed, format!("the account at {} has no vault yet", online.account.host()))
            .hint("make it on the account's first device: backupengine init")
    })?;
    let opened = vault
        .recovery
        .iter()
        .filter_map(|sealed| open_envelope(&sealed.0, &UnlockSecret::Recovery(code)).ok())
        .filter(|opened| opened.keyring.vault() == vault.vault)
        // Of several the one with the newest keys: an old one may lie there still, or be shown again.
        .max_by_key(|opened| opened.keyring.current_epoch());
    let Some((keyring, root)) = opened.and_then(|opened| Some((opened.keyring, opened.root_key?))) else {
        return Err(Failure::new(Kind::Denied, "the recovery code does not open this vault".to_owned())
            .hint("it is the 24 words that `init` showed when this vault was made"));
    };
    let (role, word) = (Role::Owner, "owner");
    let keys = &online.keys;
    let certificate = root.certify(keyring.vault(), keys.sign_public(), role, crate::time::now().secs);
    let message = approval_message(&keyring.vault().0, &keys.sign_public(), &keys.seal_public(), word);
    let device = keys.certified(&keyring, certificate.clone())?;
    online.call::<op::DeviceApprove>(&ApproveDevice {
        vault: keyring.vault(),
        device: keys.device(),
        role: word.to_owned(),
        certificate: Opaque(certificate.encode()),
        envelope: None,
        root_signature: Some(Opaque(root.sign_approval(&message).to_vec())),
        idem: idem()?,
    })?;
    online.account.keep(&device)?;
    tell_name(wire, online, &keyring);
    tell(
        "This device knows the vault from the recovery code alone: whether the newest snapshots are shown, only a device that was there before can tell.",
    );
    Ok(device)
}

/// This device with the certificate the server has for it now, where that is another one: an owner may have given it
/// another role. Only one that leads to the vault's root key counts.
///
/// # Errors
/// When the new one cannot be kept.
pub(crate) fn renewed(
    online: &Online,
    store: &PresignedStore,
    keyring: &Keyring,
    device: &Device,
) -> Result<Option<Device>, Failure> {
    let mounted = store.mounted();
    let Some(bytes) = &mounted.certificate else { return Ok(None) };
    if bytes.0 == device.certificate.encode() {
        return Ok(None);
    }
    let certificate = match believed(online, keyring, &bytes.0) {
        Ok(certificate) if certificate.issued_secs >= device.certificate.issued_secs => certificate,
        Ok(_) => return Ok(None),
        Err(failure) => {
            tracing::warn!("the server sends a certificate that does not hold: {}", failure.message());
            return Ok(None);
        }
    };
    let renewed = online.keys.certified(keyring, certificate)?;
    online.account.keep(&renewed)?;
    Ok(Some(renewed))
}

/// Newer keys that an owner device sealed to this one when it rotated them. The server could have sealed some: they count
/// where they continue the keys of this device, which it does not know, and an owner of the vault signed them.
///
/// # Errors
/// When what the owner device had seen cannot be kept.
pub(crate) fn rotated(
    wire: &Wire,
    online: &Online,
    store: &PresignedStore,
    own: &Keyring,
) -> Result<Option<Keyring>, Failure> {
    let mounted = store.mounted();
    let Some(envelope) = &mounted.envelope else { return Ok(None) };
    if !envelope_epoch(&envelope.0).is_ok_and(|epoch| epoch > own.current_epoch()) {
        return Ok(None);
    }
    let opened = match open_for_device(&envelope.0, online.keys.seal_key(), online.keys.device()) {
        Ok(opened) => opened,
        Err(error) => {
            tracing::warn!(%error, "the newer keys that the server sends do not open");
            return Ok(None);
        }
    };
    // Without a signature it is that of an approval: `login` has the words compared.
    let Some(rotation) = &opened.rotation else { return Ok(None) };
    if let Err(error) = rotation.verify(&opened.keyring, own) {
        tell(
            "The server sends newer keys for this device that no owner of the vault made: they are not taken.",
        );
        tracing::warn!(error = ?error, "newer keys are refused");
        return Ok(None);
    }
    if let Ok(seen) = Floor::decode(&opened.floor) {
        floor::save(&floor::path(&wire.places.state, own.vault()), &seen, false)?;
    }
    Ok(Some(opened.keyring))
}

/// A certificate as the server sent it, held against the keys.
fn believed(online: &Online, keyring: &Keyring, bytes: &[u8]) -> Result<Certificate, Failure> {
    let certificate =
        Certificate::decode(bytes).map_err(|e| lie(e, "the certificate of this device does not hold"))?;
    certificate
        .verify(keyring.vault(), keyring.root_public())
        .map_err(|e| lie(e, "the certificate of this device does not hold"))?;
    if certificate.device_public != online.keys.sign_public() {
        return Err(lie("it is another device's".to_owned(), "the certificate of this device does not hold"));
    }
    Ok(certificate)
}

fn lie(error: impl Into<Box<dyn std::error::Error + Send + Sync>>, what: &str) -> Failure {
    Failure::new(Kind::Denied, error)
        .while_doing(what)
        .hint("approve this device once more on an owner device; if it stays so, do not trust this server")
}

/// Tells the others what this device is called. It works without a name as well.
fn tell_name(wire: &Wire, online: &Online, keyring: &Keyring) {
    let device = online.keys.device();
    let done = seal_name(keyring, device, &wire.device_name(None)).and_then(|name_sealed| {
        Ok(online.call::<op::DeviceRename>(&RenameDevice { device, name_sealed, idem: idem()? })?)
    });
    if let Err(failure) = done {
        tracing::warn!("the name of this device was not stored: {}", failure.message());
    }
}
