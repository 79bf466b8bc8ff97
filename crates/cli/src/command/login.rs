//! `login`: logs in, makes this machine a device of the account, and takes the vault's keys over once it was let in.
//!
//! What always holds: the vault's keys are believed only after its fingerprint was compared or its recovery code
//! opened them. Running it again goes on where it stopped.
use crate::account::{
    self, Account, CodeSource, Online, Profile, by_provider, enrol, host, recover, region_of, role, take_over,
};
use crate::args::Login;
use crate::command::signup::{email, first_factor};
use crate::config::Config;
use crate::error::{Failure, Kind, Outcome};
use crate::keychain::Device;
use crate::output::{self, tell};
use crate::place::parse_server;
use crate::secret;
use crate::secrets::Keychain;
use crate::wire::Wire;
use backupengine_api::auth::{Session, User};
use backupengine_api::{Empty, op};
use backupengine_seal::{device_fingerprint, envelope_epoch};
use backupengine_transfer::{Identity, Signer};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

/// Between two looks whether the device was approved.
const POLL: Duration = Duration::from_secs(2);

/// Logs in.
///
/// # Errors
/// A wrong password or code; a device that was not let in; words that differ; a server that is not reached.
pub(crate) fn run(wire: &Wire, args: &Login) -> Result<Outcome, Failure> {
    let known = match &args.server {
        Some(server) => Account::load(&wire.places.state, &parse_server(server)?)?,
        None => Some(known_account(wire)?),
    };
    let codes = CodeSource::new(wire, args.codes.totp_command.as_deref());
    codes.must_give()?;
    let recovery = secret::given_recovery_code(&wire.global)?;
    let mut account = match known {
        Some(account) if !account.profile.region.is_empty() => account,
        other => {
            let asked = match (&args.server, &other) {
                (Some(server), _) => parse_server(server)?,
                (None, Some(account)) => account.profile.base.clone(),
                (None, None) => return Err(nowhere()),
            };
            let (region, base) = region_of(&asked, None)?;
            match Account::load(&wire.places.state, &base)? {
                Some(account) => account,
                None => Account::new(&wire.places.state, &base, &region, Keychain::choose()?),
            }
        }
    };
    let session = log_in(wire, args, &account, &codes)?;
    let email = session.user.email.clone().unwrap_or_default();
    account.profile.email.clone_from(&email);
    account.profile.user.clone_from(&session.user.id);
    let (online, enrolled) = enrol(account, &session)?;
    let device = match (online.account.device()?, enrolled.status.as_str(), recovery) {
        (Some(device), "active", _) => Some(caught_up(wire, args, &online, device)?),
        (_, "pending", Some(code)) => Some(recover(wire, &online, &code)?),
        (None, "active", Some(code)) if has_vault(&online)? => Some(recover(wire, &online, &code)?),
        (None, "active", _) if has_vault(&online)? => {
            Some(take_over(wire, &online, args.vault_fingerprint.as_deref())?)
        }
        (None, "active", _) => None,
        _ => {
            wait_for_approval(wire, args, &online)?;
            Some(take_over(wire, &online, args.vault_fingerprint.as_deref())?)
        }
    };
    if device.is_some() {
        let stored = Config::set_default_vault(&wire.places.config, Path::new(&online.account.profile.base));
        if let Err(failure) = stored {
            tracing::warn!("the vault was not stored as the default: {}", failure.message());
        }
    }
    report(wire, &online, device.as_ref())?;
    Ok(Outcome::Done)
}

/// A device that has keys, with newer ones where the server has some for it: of a rotation, which an owner signed; or of an
/// approval after one, whose words are compared.
fn caught_up(wire: &Wire, args: &Login, online: &Online, device: Device) -> Result<Device, Failure> {
    let Some(own) = device.keyring() else { return Ok(device) };
    // A vault that the server does not know is said by what needs it.
    let Ok(store) = online.store(&wire.places.cache) else { return Ok(device) };
    let epoch = store.mounted().envelope.as_ref().and_then(|envelope| envelope_epoch(&envelope.0).ok());
    if epoch.is_none_or(|epoch| epoch <= own.current_epoch()) {
        return Ok(device);
    }
    if let Some(newer) = account::rotated(wire, online, &store, &own)? {
        let renewed = device.with_keys(&newer)?;
        online.account.keep(&renewed)?;
        return Ok(renewed);
    }
    take_over(wire, online, args.vault_fingerprint.as_deref())
}

fn known_account(wire: &Wire) -> Result<Account, Failure> {
    match wire.known_place(None)? {
        Some(crate::place::Place::Server(base)) => match Account::load(&wire.places.state, &base)? {
            Some(account) => Ok(account),
            // Its region is asked for later.
            None => Ok(Account::new(&wire.places.state, &base, "", Keychain::choose()?)),
        },
        _ => wire.account().map_err(|failure| match failure.kind {
            Kind::Denied => nowhere(),
            _ => failure,
        }),
    }
}

fn nowhere() -> Failure {
    Failure::usage("log in where?").hint("say which server: backupengine login --server URL")
}

/// A login that a one-time code confirmed.
fn log_in(wire: &Wire, args: &Login, account: &Account, codes: &CodeSource<'_>) -> Result<Session, Failure> {
    let identity = Identity::new(&account.profile.base)?;
    let first = match &args.provider {
        Some(provider) => by_provider(wire, &identity, provider, !args.no_browser)?,
        None => {
            let email = email(args.email.as_deref(), Some(&account.profile.email))?;
            identity.password(&email, &secret::account_password()?)?
        }
    };
    let user = identity.user(&first.access_token)?;
    refuse_another(account, &user)?;
    match user.factors.iter().find(|factor| factor.status == "verified") {
        Some(factor) => codes.verify(&identity, &first.access_token, &factor.id, None),
        None => {
            tell("This account has no second factor yet; it needs one.");
            first_factor(&identity, &first.access_token, codes)
        }
    }
}

/// One home is a device of one account of a server. Asked before a second factor is made for somebody else. The same
/// address under another id is the same account, made anew after the server's database was lost: this device's keys
/// open the vault that was registered again for it.
fn refuse_another(account: &Account, user: &User) -> Result<(), Failure> {
    let Profile { user: known, email, .. } = &account.profile;
    let same_address = user.email.as_ref().is_some_and(|said| said.eq_ignore_ascii_case(email));
    if known.is_empty() || *known == user.id || same_address {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "this device is one of another account at {}, of {}",
        account.host(),
        output::shown(email.as_bytes())
    ))
    .hint("leave that one first: backupengine logout --forget-device")
    .hint("or keep the two apart: BACKUPENGINE_HOME"))
}

fn has_vault(online: &Online) -> Result<bool, Failure> {
    Ok(!online.call::<op::VaultList>(&Empty {})?.vaults.is_empty())
}

/// Shows what the approving device has to compare, and waits.
fn wait_for_approval(wire: &Wire, args: &Login, online: &Online) -> Result<(), Failure> {
    let keys = &online.keys;
    let words = account::shown(device_fingerprint(&keys.sign_public(), &keys.seal_public()));
    let id = keys.device();
    tell("This device waits for approval. On a device that is an owner, run:");
    tell(format!("\n    backupengine device approve {id}\n"));
    tell(format!("and compare these six words there:\n\n    {words}\n"));
    tell(
        "Without such a device the recovery code lets this one in: backupengine login --recovery-code-file FILE",
    );
    let until = Instant::now() + Duration::from_secs(args.wait);
    loop {
        let listed = online.devices()?;
        let mine = listed.devices.iter().find(|device| device.device == id);
        match mine.map(|device| device.status.as_str()) {
            Some("active") => return Ok(()),
            Some("pending") => {}
            _ => {
                return Err(Failure::new(
                    Kind::Denied,
                    "this device was refused on another device".to_owned(),
                )
                .hint("if that was a mistake, run it again: it gets new keys"));
            }
        }
        if Instant::now() >= until {
            return Err(Failure::new(Kind::Denied, format!("this device, {id}, still waits for approval"))
                .hint(format!(
                    "on an owner device: backupengine device approve {id}; its six words are: {words}"
                ))
                .hint("then here again: backupengine login"));
        }
        wire.sleep(POLL.min(until.saturating_duration_since(Instant::now())))?;
    }
}

fn report(wire: &Wire, online: &Online, device: Option<&Device>) -> Result<(), Failure> {
    let (profile, id) = (&online.account.profile, online.keys.device());
    if wire.global.json {
        return output::json(&json!({
            "server": profile.base,
            "email": profile.email,
            "region": profile.region,
            "device": id.to_string(),
            "role": device.map(|device| role::word(device.certificate.role)),
            "vault": device.map(|device| device.certificate.vault.to_string()),
            "keychain": online.account.secrets.keychain().as_str(),
        }));
    }
    let email = output::shown(profile.email.as_bytes());
    output::line(format!("Logged in at {} as {email}, with device {id}.", host(&profile.base)))?;
    if !wire.global.quiet {
        match device {
            Some(device) => {
                tell(format!("It may act as {} of the vault.", role::word(device.certificate.role)))
            }
            None => tell("Next: backupengine init makes the account's vault."),
        }
    }
    Ok(())
}
