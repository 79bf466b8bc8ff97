//! `whoami`: who is logged in where, with which device, and what it may do.
use crate::account::Online;
use crate::error::{Failure, Outcome};
use crate::output;
use crate::wire::Wire;
use backupengine_transfer::Signer;
use serde_json::json;

/// Asks the server and prints it.
///
/// # Errors
/// Where nobody is logged in; what the server says.
pub(crate) fn run(wire: &Wire) -> Result<Outcome, Failure> {
    let online = Online::open(wire.account()?)?;
    let (profile, id) = (&online.account.profile, online.keys.device());
    let listed = online.devices()?;
    let mine = listed.devices.iter().find(|device| device.device == id);
    let status = mine.map_or("unknown", |device| device.status.as_str());
    let role = mine.and_then(|device| device.role.as_deref());
    if wire.global.json {
        return output::json(&json!({
            "server": profile.base,
            "email": profile.email,
            "user": profile.user,
            "region": profile.region,
            "device": id.to_string(),
            "status": status,
            "role": role,
            "keychain": online.account.secrets.keychain().as_str(),
        }))
        .map(|()| Outcome::Done);
    }
    output::line(format!("account    {}", output::shown(profile.email.as_bytes())))?;
    output::line(format!("server     {}, region {}", profile.base, profile.region))?;
    let role = role.map_or_else(String::new, |role| format!(", {role}"));
    output::line(format!("device     {id}, {status}{role}"))?;
    output::line(format!("keys       in {}", online.account.secrets.keychain().shown()))?;
    Ok(Outcome::Done)
}
