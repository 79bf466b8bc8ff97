//! `device approve`: lets a new device in: certifies it, and seals the vault's keys to it.
//!
//! What always holds: nothing is signed before the new device's six words were compared. The server is never asked
//! whether a key is right.
use crate::account::{self, CodeSource, compare, idem, role};
use crate::args::Approve;
use crate::command::device::{find, not_an_account};
use crate::error::{Failure, Kind, Outcome};
use crate::floor;
use crate::keychain::random;
use crate::output::{self, tell};
use crate::wire::{MEMORY, Wire};
use backupengine_api::{ApproveDevice, DeviceRecord, Opaque, op};
use backupengine_model::DeviceId;
use backupengine_seal::{Role, device_fingerprint, seal_for_device, vault_fingerprint};
use serde_json::json;

/// Lets it in.
///
/// # Errors
/// Words that differ; a device of this role that may not; what the server says.
pub(crate) fn run(wire: &Wire, args: &Approve) -> Result<Outcome, Failure> {
    let new_role =
        role::parse(&args.role).ok_or_else(|| Failure::usage(format!("{:?} is no role", args.role)))?;
    let mut opened = wire.open(MEMORY)?;
    opened.refuse_old_keys()?;
    let Some((online, _)) = opened.online.take() else { return Err(not_an_account()) };
    let mut online = online;
    let vault = opened.vault.keyring().vault();
    let own = opened.device.as_ref().filter(|own| own.certificate.role == Role::Owner).ok_or_else(|| {
        Failure::new(Kind::Denied, "this device is no owner of the vault: it cannot let others in".to_owned())
            .hint("approve it on an owner device, or let it in by the recovery code")
    })?;
    let listed = online.devices()?;
    let target = find(&listed.devices, Some(opened.vault.keyring()), &args.device)?;
    if target.device == own.id() {
        return Err(Failure::usage("this device cannot approve itself")
            .hint("name the new one; `backupengine device list` lists them"));
    }
    if target.status == "revoked" {
        return Err(Failure::new(Kind::Denied, format!("{} was revoked", target.device))
            .hint("there: backupengine login, which makes new keys; then approve those"));
    }
    let (sign, seal) = keys(target)?;
    tell(format!("{} asks to be let in as {}: {}.", target.device, args.role, what_it_may(new_role)));
    compare(
        device_fingerprint(&sign, &seal),
        args.fingerprint.as_deref(),
        "Does the new device's own screen show these six words? (yes or no) ",
        "--fingerprint",
        "`backupengine login` shows the new device's words on its own screen",
    )?;
    let certificate = own
        .signing_key()
        .certify(&own.certificate, sign, new_role, crate::time::now().secs)
        .map_err(|e| Failure::new(Kind::Denied, e).hint("let the device in by the recovery code instead"))?;
    let seen = floor::load(&floor::path(&wire.places.state, vault))?.encode();
    let envelope =
        seal_for_device(opened.vault.keyring(), &seen, &seal, target.device, random()?).map_err(|e| {
            Failure::new(Kind::Failed, e).hint("the new device has to log in anew, with new keys")
        })?;
    let request = ApproveDevice {
        vault,
        device: target.device,
        role: args.role.clone(),
        certificate: Opaque(certificate.encode()),
        envelope: Some(Opaque(envelope)),
        root_signature: None,
        idem: idem()?,
    };
    let codes = CodeSource::new(wire, args.codes.totp_command.as_deref());
    online.call_fresh::<op::DeviceApprove>(&codes, &request)?;
    let words = account::shown(vault_fingerprint(opened.vault.keyring()));
    report(wire, target.device, &args.role, &words)
}

fn report(wire: &Wire, device: DeviceId, role: &str, words: &str) -> Result<Outcome, Failure> {
    if wire.global.json {
        let object = json!({"device": device.to_string(), "status": "active", "role": role, "vault_fingerprint": words});
        return output::json(&object).map(|()| Outcome::Done);
    }
    output::line(format!("{device} is in, as {role}."))?;
    output::line(format!("Compare these six words of the vault on its screen:\n\n    {words}\n"))?;
    Ok(Outcome::Done)
}

const fn what_it_may(role: Role) -> &'static str {
    match role {
        Role::Owner => "it may do everything, letting others in included",
        Role::Maintainer => "it may look after the vault's space",
        Role::Writer => "it may push, and cannot look into snapshots of others or restore",
        Role::Reader => "it may look and restore, and cannot push",
    }
}

/// Both public keys.
fn keys(device: &DeviceRecord) -> Result<([u8; 32], [u8; 32]), Failure> {
    let key = |bytes: &Opaque| <[u8; 32]>::try_from(bytes.0.as_slice()).ok();
    key(&device.sign_public).zip(key(&device.seal_public)).ok_or_else(|| {
        Failure::new(Kind::Failed, format!("the server sends keys of {} that are none", device.device))
            .hint("if it stays so, do not trust this server")
    })
}

/// The device's six words.
///
/// # Errors
/// Keys that are none.
pub(crate) fn fingerprint(device: &DeviceRecord) -> Result<String, Failure> {
    let (sign, seal) = keys(device)?;
    Ok(account::shown(device_fingerprint(&sign, &seal)))
}
