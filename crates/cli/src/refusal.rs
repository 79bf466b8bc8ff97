//! What a server or object storage said, as the user meets it.
//!
//! **What it may not do.** Print a token or a grant: the errors it reads hold none.
//! **What always holds.** A server that is not there is `Unreachable`, a no is `Denied`; every one has a hint.
//! **Where it is tested.** Below, and case by case in `tests/cli`.

use crate::error::{Failure, Kind};
use backupengine_api::Code;
use backupengine_store::StoreError;
use backupengine_transfer::{Refusal, StorageError, TransferError};

const LOGIN: &str = "log in again: backupengine login";

impl From<TransferError> for Failure {
    fn from(error: TransferError) -> Self {
        let (kind, hints) = advice(&error);
        hints.into_iter().fold(Self::new(kind, error), Self::hint)
    }
}

/// Kind and hints for what came of a call.
pub(crate) fn advice(error: &TransferError) -> (Kind, Vec<String>) {
    let (kind, hint) = match error {
        TransferError::Refused(refusal) => return refused(refusal),
        TransferError::Unreachable { .. } => {
            (Kind::Unreachable, "check the network and the address, and run it again; nothing was lost")
        }
        TransferError::BadAnswer { .. } => (
            Kind::Unreachable,
            "is the address right? something between may have answered instead of the server",
        ),
        TransferError::Storage { source, .. } => match of_store(source) {
            Some(advice) => return advice,
            None => (Kind::Failed, "run it again; nothing that was stored is lost"),
        },
        TransferError::NotLoggedIn { .. } => (Kind::Denied, LOGIN),
        TransferError::BadAddress(_) => (Kind::Usage, "write it like https://backup.example.org"),
        TransferError::Keeper(_) => (
            Kind::Failed,
            "`backupengine status -v` says where keys and login rest; check owner, permissions and room",
        ),
        _ => (Kind::Failed, "run it again with -v -v to see what happens inside"),
    };
    (kind, vec![hint.to_owned()])
}

/// Kind and hints for an error of a store, where a server or object storage is its cause: not a folder of this machine.
pub(crate) fn of_store(error: &StoreError) -> Option<(Kind, Vec<String>)> {
    let cause = error.source.as_ref()?;
    if let Some(error) = cause.downcast_ref::<TransferError>() {
        return Some(advice(error));
    }
    cause.downcast_ref::<StorageError>().map(storage)
}

fn storage(error: &StorageError) -> (Kind, Vec<String>) {
    let (kind, hint) = match error {
        StorageError::Refused(_) => (
            Kind::Denied,
            "object storage does not take what the server signs: check this machine's clock, then tell whoever runs \
             the server (`backupengine-server check-storage` says why)",
        ),
        StorageError::Status(409 | 429 | 500..) => (
            Kind::Unreachable,
            "object storage is in trouble, not this machine: run it again later; nothing that was stored is lost",
        ),
        StorageError::Unreachable(_) | StorageError::Silent(_) => (
            Kind::Unreachable,
            "the server is there, but not its object storage: check that the network lets this machine reach it, \
             and run it again",
        ),
        StorageError::Untrue(_) => {
            (Kind::Unreachable, "something between may have answered instead of object storage: run it again")
        }
        _ => (
            Kind::Failed,
            "tell whoever runs the server: `backupengine-server check-storage` says what its object storage honours",
        ),
    };
    (kind, vec![hint.to_owned()])
}

fn refused(refusal: &Refusal) -> (Kind, Vec<String>) {
    let known = refusal.known().and_then(operation).or_else(|| identity(&refusal.code));
    let (kind, hint) = known.unwrap_or_else(|| {
        let kind = match refusal.status {
            401 | 403 => Kind::Denied,
            502..=504 => Kind::Unreachable,
            _ => Kind::Failed,
        };
        (kind, None)
    });
    let said = refusal.hint.clone().filter(|text| hint.is_none_or(|own| own != text));
    let mut hints: Vec<String> = hint.map(str::to_owned).into_iter().chain(said).collect();
    if hints.is_empty() {
        hints.push("run it again with -v -v to see what happens inside".to_owned());
    }
    (kind, hints)
}

/// A kind, and what to do.
type Known = (Kind, Option<&'static str>);

fn operation(code: Code) -> Option<Known> {
    Some(match code {
        Code::NoToken | Code::BadToken | Code::TokenExpired | Code::SessionEnded | Code::Aal2Required => {
            (Kind::Denied, Some(LOGIN))
        }
        Code::UnknownDevice => (Kind::Denied, Some("make it a device of the account: backupengine login")),
        Code::DevicePending => (
            Kind::Denied,
            Some(
                "approve it on an owner device (backupengine device approve), then here: backupengine login",
            ),
        ),
        Code::DeviceRevoked => (
            Kind::Denied,
            Some("an owner ended this device; to let it in again it gets new keys: backupengine login"),
        ),
        Code::FreshTotpRequired => (Kind::Denied, Some("give a new one-time code: backupengine login")),
        Code::RoleDenied => (
            Kind::Denied,
            Some("`backupengine whoami` shows this device's role; an owner device can change it"),
        ),
        Code::EnvelopesMoved => (Kind::InUse, None),
        Code::ClockSkew => (Kind::Failed, Some("set this machine's clock")),
        Code::QuotaExceeded => (
            Kind::Failed,
            Some("make room in the account or have its quota raised; finished snapshots are not touched"),
        ),
        Code::RegionMismatch => {
            (Kind::Denied, Some("the account lives in another region: log in at that one's address"))
        }
        Code::Unavailable => {
            (Kind::Unreachable, Some("the server is there, but not what is behind it: try again later"))
        }
        Code::TooManyRequests => (Kind::Failed, Some("wait a little and run it again")),
        Code::Held => (Kind::Failed, Some("let it go first, if it really is to go: backupengine unhold S")),
        Code::Internal => (Kind::Failed, Some("run it again; if it stays so, tell whoever runs the server")),
        _ => return None,
    })
}

/// Words of `/auth/v1`.
fn identity(code: &str) -> Option<Known> {
    Some(match code {
        "invalid_credentials" => (Kind::Denied, Some("check e-mail and password")),
        "mfa_verification_failed" => (
            Kind::Denied,
            Some("each code counts once: wait for the next one; and check this machine's clock"),
        ),
        "mfa_challenge_expired" => (Kind::Denied, Some("run it again and type the code at once")),
        "user_already_exists" | "email_exists" => {
            (Kind::Failed, Some("log in instead: backupengine login --server URL"))
        }
        "weak_password" => (Kind::Usage, Some("several random words make a good one")),
        "session_not_found"
        | "bad_jwt"
        | "no_authorization"
        | "refresh_token_not_found"
        | "refresh_token_already_used"
        | "session_expired"
        | "insufficient_aal" => (Kind::Denied, Some(LOGIN)),
        "flow_state_not_found" | "flow_state_expired" | "bad_code_verifier" => {
            (Kind::Denied, Some("begin the login again, and finish it in the browser within five minutes"))
        }
        "over_request_rate_limit" => (Kind::Failed, Some("too many tries: wait some minutes")),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, code: &str, hint: Option<&str>) -> Failure {
        let hint = hint.map(str::to_owned);
        TransferError::Refused(Refusal { status, code: code.to_owned(), message: "No.".to_owned(), hint })
            .into()
    }

    #[test]
    fn the_code_decides_the_exit_status() {
        for (status, code, kind) in [
            (403, "device_pending", Kind::Denied),
            (403, "device_revoked", Kind::Denied),
            (401, "session_ended", Kind::Denied),
            (503, "unavailable", Kind::Unreachable),
            (403, "quota_exceeded", Kind::Failed),
            (400, "invalid_credentials", Kind::Denied),
            (502, "something_new", Kind::Unreachable),
            (403, "something_new", Kind::Denied),
            (418, "something_new", Kind::Failed),
        ] {
            let failure = refusal(status, code, None);
            assert_eq!(failure.kind, kind, "{code}");
            assert!(!failure.hints.is_empty());
        }
        let away = TransferError::Unreachable { host: "b.example".to_owned(), source: None };
        assert_eq!(Failure::from(away).kind, Kind::Unreachable);
    }

    #[test]
    fn object_storage_is_no_folder_of_this_machine() {
        for (error, kind) in [
            (StorageError::Refused(403), Kind::Denied),
            (StorageError::Status(503), Kind::Unreachable),
            (StorageError::Status(409), Kind::Unreachable),
            (StorageError::Status(413), Kind::Failed),
            (StorageError::Silent(std::time::Duration::from_secs(30)), Kind::Unreachable),
            (StorageError::Unreachable("no route".into()), Kind::Unreachable),
            (StorageError::Untrue("it is another part"), Kind::Unreachable),
        ] {
            let said = error.to_string();
            let store = StoreError::new(backupengine_store::ErrorKind::Denied, "no").caused_by(error);
            let alone = Failure::from(store.clone());
            let put = TransferError::Storage { what: "k/1".to_owned(), source: Box::new(store) };
            for failure in [alone, put.into()] {
                assert_eq!(failure.kind, kind, "{said}");
                let hint = failure.hints.concat();
                assert!(hint.contains("object storage") && !hint.contains("owner"), "{said}: {hint}");
                assert!(failure.message().ends_with(&said), "{}", failure.message());
            }
        }
    }

    #[test]
    fn what_the_server_hints_is_kept() {
        assert_eq!(refusal(409, "something_new", Some("Do that.")).hints, ["Do that."]);
        assert_eq!(refusal(403, "role_denied", Some("Ask.")).hints.len(), 2);
    }
}
