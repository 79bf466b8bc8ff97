//! `logout`: ends this machine's login. Its keys stay, so that the next login needs no approval.
use crate::account::Online;
use crate::args::Logout;
use crate::error::{Failure, Kind, Outcome};
use crate::output::{self, tell};
use crate::wire::Wire;
use backupengine_transfer::Signer;
use serde_json::json;

/// Logs out: here in any case, and at the server where it can be reached.
///
/// # Errors
/// Where nobody is logged in; when something cannot be forgotten.
pub(crate) fn run(wire: &Wire, args: &Logout) -> Result<Outcome, Failure> {
    let account = wire.account()?;
    let device = crate::account::Keys::load(&account.secrets)?.map(|keys| keys.device().to_string());
    let ended = match Online::open(account.clone()) {
        Ok(online) => online.access().and_then(|access| Ok(online.identity().logout(&access)?)),
        Err(failure) => Err(failure),
    };
    if args.forget_device {
        account.forget()?;
    } else {
        account.forget_login()?;
    }
    let ended = match ended {
        Ok(()) => true,
        Err(failure) => {
            // A login that has ended already is no trouble; one that may go on is worth a word.
            if failure.kind == Kind::Unreachable {
                tell(format!(
                    "The server was not told: {}. Its side of the login ends by itself.",
                    failure.message()
                ));
            }
            tracing::info!("the login did not end at the server: {}", failure.message());
            false
        }
    };
    if wire.global.json {
        let object = json!({
            "server": account.profile.base,
            "ended": ended,
            "forgotten": args.forget_device,
        });
        return output::json(&object).map(|()| Outcome::Done);
    }
    output::line(format!("Logged out at {}.", account.host()))?;
    if args.forget_device
        && !wire.global.quiet
        && let Some(device) = device
    {
        tell(format!("Its keys are gone. On another device, end it: backupengine device revoke {device}"));
    }
    Ok(Outcome::Done)
}
