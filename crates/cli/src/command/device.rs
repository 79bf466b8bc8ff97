//! `device`: the account's devices: list, let in, end, rename.
//!
//! What always holds: a device is let in only after its six words were compared by somebody or by what was given.
use crate::account::{CodeSource, Online, idem, name_of, seal_name};
use crate::args::Device;
use crate::command::approve;
use crate::error::{Failure, Kind, Outcome};
use crate::output::{self, tell};
use crate::secret;
use crate::time;
use crate::wire::{MEMORY, Wire};
use backupengine_api::{DeviceRecord, RenameDevice, RevokeDevice, op};
use backupengine_model::Timestamp;
use backupengine_seal::Keyring;
use backupengine_transfer::Signer;
use serde_json::{Value, json};

/// Does what was asked.
///
/// # Errors
/// No such device; what the server says; words that differ.
pub(crate) fn run(wire: &Wire, args: &Device) -> Result<Outcome, Failure> {
    match args {
        Device::List => list(wire),
        Device::Approve(args) => approve::run(wire, args),
        Device::Revoke { device, yes, codes } => {
            let codes = CodeSource::new(wire, codes.totp_command.as_deref());
            revoke(wire, device, *yes, &codes)
        }
        Device::Rename { device, name } => rename(wire, device, name),
    }
}

/// The vault's keys, for names; none where this device has none, waits, or nothing was made yet.
fn keyring(online: &Online) -> Result<Option<Keyring>, Failure> {
    let Some(device) = online.account.device()? else { return Ok(None) };
    Ok(device.keyring())
}

/// A device by id, the beginning of its id, or its name.
///
/// # Errors
/// None or several.
pub(crate) fn find<'a>(
    devices: &'a [DeviceRecord],
    names: Option<&Keyring>,
    what: &str,
) -> Result<&'a DeviceRecord, Failure> {
    let named = |d: &DeviceRecord| {
        let name =
            names.zip(d.name_sealed.as_ref()).and_then(|(keys, sealed)| name_of(keys, d.device, sealed));
        name.as_deref() == Some(what)
    };
    let lower = what.to_lowercase();
    let by_id = |d: &DeviceRecord| lower.len() >= 4 && d.device.to_string().starts_with(&lower);
    let mut fitting: Vec<&DeviceRecord> = devices.iter().filter(|d| by_id(d)).collect();
    if fitting.is_empty() {
        fitting = devices.iter().filter(|d| named(d) && d.status != "revoked").collect();
    }
    match fitting.as_slice() {
        [one] => Ok(one),
        [] => Err(Failure::new(Kind::Failed, format!("the account has no device {what:?}")).hint(
            "`backupengine device list` lists them; give its id, at least four digits of it, or its name",
        )),
        _ => {
            Err(Failure::new(Kind::Failed, format!("several devices fit {what:?}"))
                .hint("give more of the id"))
        }
    }
}

fn list(wire: &Wire) -> Result<Outcome, Failure> {
    let online = Online::open(wire.account()?)?;
    let listed = online.devices()?;
    let keyring = keyring(&online)?;
    let name =
        |d: &DeviceRecord| keyring.as_ref().and_then(|keys| name_of(keys, d.device, d.name_sealed.as_ref()?));
    if wire.global.json {
        let all: Vec<Value> = listed
            .devices
            .iter()
            .map(|d| {
                json!({
                    "id": d.device.to_string(),
                    "name": name(d),
                    "status": d.status,
                    "role": d.role,
                    "created": utc(d.created),
                    "last_seen": d.last_seen.map(utc),
                    "current": d.current,
                    "fingerprint": approve::fingerprint(d).ok(),
                })
            })
            .collect();
        return output::json(&all.into()).map(|()| Outcome::Done);
    }
    for device in &listed.devices {
        let role = device.role.as_deref().unwrap_or("-");
        let seen = device.last_seen.map_or_else(|| "never".to_owned(), |s| time::local(at(s)));
        let name = name(device).unwrap_or_default();
        let here = if device.current { "  (this one)" } else { "" };
        output::line(format!(
            "{}  {:7}  {role:10}  {seen:19}  {}{here}",
            device.device,
            device.status,
            output::shown(name.as_bytes())
        ))?;
    }
    Ok(Outcome::Done)
}

fn at(secs: i64) -> Timestamp {
    Timestamp { secs, nanos: 0 }
}

fn utc(secs: i64) -> String {
    time::rfc3339(at(secs))
}

fn revoke(wire: &Wire, what: &str, yes: bool, codes: &CodeSource<'_>) -> Result<Outcome, Failure> {
    let mut online = Online::open(wire.account()?)?;
    let listed = online.devices()?;
    let device = find(&listed.devices, keyring(&online)?.as_ref(), what)?.clone();
    let own = device.device == online.keys.device();
    if !wire.global.quiet {
        tell(format!("Revoking {}: its next call is refused, and its login ends.", device.device));
        tell(
            "What it read before stays with whoever holds it: its keys open what was pushed until now, wherever a copy of it lies.",
        );
        tell("URLs it was given last up to a quarter of an hour longer.");
    }
    if own {
        tell("It is this device.");
    }
    if !yes {
        if !secret::can_ask() {
            return Err(Failure::usage("nobody is there to be asked").hint("--yes revokes without asking"));
        }
        if !secret::ask_yes("Revoke it? (yes or no) ")? {
            return Err(Failure::usage("nothing was changed").hint("only yes revokes"));
        }
    }
    let request = RevokeDevice { device: device.device, idem: idem()? };
    online.call_fresh::<op::DeviceRevoke>(codes, &request)?;
    if own {
        online.account.forget_login()?;
        online.account.forget_keys()?;
    }
    if wire.global.json {
        return output::json(&json!({"device": device.device.to_string(), "status": "revoked"}))
            .map(|()| Outcome::Done);
    }
    output::line(format!("Revoked {}.", device.device))?;
    Ok(Outcome::Done)
}

fn rename(wire: &Wire, what: &str, name: &str) -> Result<Outcome, Failure> {
    let opened = wire.open(MEMORY)?;
    let Some((online, _)) = &opened.online else { return Err(not_an_account()) };
    let keyring = opened.vault.keyring();
    let listed = online.devices()?;
    let device = find(&listed.devices, Some(keyring), what)?.device;
    let request = RenameDevice { device, name_sealed: seal_name(keyring, device, name)?, idem: idem()? };
    online.call::<op::DeviceRename>(&request)?;
    if wire.global.json {
        return output::json(&json!({"device": device.to_string(), "name": name})).map(|()| Outcome::Done);
    }
    output::line(format!("{device} is called {}.", output::shown(name.as_bytes())))?;
    Ok(Outcome::Done)
}

/// What to say where the vault is a folder's.
pub(crate) fn not_an_account() -> Failure {
    Failure::usage("the vault in a folder has no list of devices")
        .hint("devices of an account: --vault URL; a folder's new device needs the recovery code once")
}
