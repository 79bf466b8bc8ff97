//! `signup`: makes an account, its second factor, and this machine its first device.
//!
//! What always holds: nothing is made before it is known where password and one-time code come from.
use crate::account::{Account, CodeSource, enrol, host, region_of, show_factor};
use crate::args::Signup;
use crate::error::{Failure, Outcome};
use crate::output::{self, tell};
use crate::place::parse_server;
use crate::secret;
use crate::secrets::Keychain;
use crate::wire::Wire;
use backupengine_api::auth::{Secret, Session};
use backupengine_transfer::{Identity, Login, Signer};
use serde_json::json;

/// What this program's first factor is called.
const FACTOR: &str = "authenticator";

/// Makes the account.
///
/// # Errors
/// A region that is not served, an address that has an account, a wrong code, a server that is not reached.
pub(crate) fn run(wire: &Wire, args: &Signup) -> Result<Outcome, Failure> {
    let asked = parse_server(&args.server)?;
    let codes = CodeSource::new(wire, args.codes.totp_command.as_deref());
    codes.must_give()?;
    let keychain = Keychain::choose()?;
    let (region, base) = region_of(&asked, Some(&args.region))?;
    let email = email(args.email.as_deref(), None)?;
    let mut account = match Account::load(&wire.places.state, &base)? {
        Some(known) if !known.profile.email.is_empty() && known.profile.email != email => {
            return Err(Failure::usage(format!("this device is one of another account at {}", host(&base)))
                .hint("leave that one first: backupengine logout --forget-device")
                .hint("or keep the two apart: BACKUPENGINE_HOME"));
        }
        Some(known) => known,
        None => Account::new(&wire.places.state, &base, &region, keychain),
    };
    let password = secret::new_account_password()?;
    let identity = Identity::new(&base)?;
    let first = match identity.signup(&email, &password)? {
        Login::Session(session) => *session,
        Login::Confirm(_) => {
            output::line(format!(
                "A mail was sent to {}. Follow it, then log in:",
                output::shown(email.as_bytes())
            ))?;
            output::line(format!("    backupengine login --server {base}"))?;
            return Ok(Outcome::Done);
        }
    };
    let session = first_factor(&identity, &first.access_token, &codes)?;
    account.profile.email.clone_from(&email);
    account.profile.user.clone_from(&session.user.id);
    let (online, enrolled) = enrol(account, &session)?;
    if wire.global.json {
        return output::json(&json!({
            "server": base,
            "email": email,
            "region": enrolled.region,
            "device": online.keys.device().to_string(),
            "status": enrolled.status,
            "role": enrolled.role,
            "keychain": online.account.secrets.keychain().as_str(),
        }))
        .map(|()| Outcome::Done);
    }
    output::line(format!(
        "The account of {} lives in region {}.",
        output::shown(email.as_bytes()),
        enrolled.region
    ))?;
    output::line(format!("This device is its first, as {}.", online.keys.device()))?;
    if !wire.global.quiet {
        tell(format!("Its keys rest in {}.", online.account.secrets.keychain().shown()));
        tell(
            "Next: backupengine init makes the account's vault. A spare factor is good to have: backupengine mfa add",
        );
    }
    Ok(Outcome::Done)
}

/// Makes the first second factor and confirms the login with it.
///
/// # Errors
/// A wrong code; what the server says.
pub(crate) fn first_factor(
    identity: &Identity,
    access: &Secret,
    codes: &CodeSource<'_>,
) -> Result<Session, Failure> {
    let factor = identity.enroll_factor(access, FACTOR)?;
    show_factor(&factor);
    codes.verify(identity, access, &factor.id, Some(&factor.totp.uri))
}

/// The address: said, known, or asked for.
///
/// # Errors
/// Bad usage where nobody can say.
pub(crate) fn email(said: Option<&str>, known: Option<&str>) -> Result<String, Failure> {
    let email = match said.or(known).filter(|email| !email.is_empty()) {
        Some(email) => email.to_owned(),
        None if secret::can_ask() => secret::ask_line("E-mail: ")?,
        None => {
            return Err(Failure::usage("whose account? nobody is there to say").hint("give it by --email"));
        }
    };
    if email.contains('@') {
        Ok(email)
    } else {
        Err(Failure::usage(format!("{email:?} is no e-mail address")))
    }
}
