//! What a client is told where a call is refused, and how a refusal of SQL becomes one.
//!
//! May not carry what a database or a store said in its own words: those may quote what was asked. Tested below.

use crate::ServerError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use backupengine_api::{ApiError, Code};
use std::time::Duration;

/// A refused call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub code: Code,
    /// What happened, for a person.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// When to try again.
    pub retry_after: Option<Duration>,
}

impl Refused {
    /// With the code's own sentence.
    pub fn of(code: Code) -> Self {
        let (message, hint) = sentence(code);
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        Self { code, message: message.to_owned(), hint, retry_after: None }
    }

    /// With a sentence of the case.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::of(code) }
    }

    /// For who comes too often.
    pub fn too_many(wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..Self::of(Code::TooManyRequests) }
    }

    /// For a fault of ours, or of what stands behind us.
    pub(super) fn server(error: ServerError) -> Self {
        match error {
            ServerError::Storage(problem) => {
                tracing::warn!(%problem, "object storage");
                Self::new(Code::Unavailable, "The server's object storage does not answer as it should.")
            }
            other => {
                tracing::error!(problem = %other, "a call failed");
                Self::of(Code::Internal)
            }
        }
    }

    /// For a call that found no connection.
    pub(super) fn no_database(error: &impl std::fmt::Display) -> Self {
        tracing::warn!(problem = %error, "no connection to the database");
        Self::new(Code::Unavailable, "The server's database cannot be reached now.")
    }

    /// For what the database answered.
    pub(super) fn sql(operation: &str, error: &tokio_postgres::Error) -> Self {
        let Some(said) = error.as_db_error() else {
            tracing::warn!(operation, closed = error.is_closed(), "the connection to the database broke");
            return Self::new(Code::Unavailable, "The server's database cannot be reached now.");
        };
        let state = said.code().code();
        let refused = from_state(state, said.message(), said.detail(), said.hint());
        if matches!(refused.code, Code::Internal | Code::Unavailable) {
            // The text of a failure may quote rows; its state does not.
            tracing::error!(operation, sqlstate = state, "the database failed");
        }
        refused
    }
}

/// The map of SQLSTATEs: `PTxyz` says HTTP status xyz and names a code, some standard states speak for themselves.
fn from_state(state: &str, message: &str, detail: Option<&str>, hint: Option<&str>) -> Refused {
    if let Some(status) = state.strip_prefix("PT") {
        let named = Code::parse(message).filter(|code| status.parse() == Ok(code.status()));
        return named.map_or_else(
            || Refused::of(Code::Internal),
            |code| {
                let own = Refused::of(code);
                let message = detail.map_or(own.message, str::to_owned);
                Refused { message, hint: hint.map(str::to_owned).or(own.hint), ..own }
            },
        );
    }
    let code = match state {
        "42501" => Code::RoleDenied,
        "23505" | "23503" => Code::AlreadyExists,
        // The database is stopping, starting, full, or two calls stood in each other's way to the end.
        "57P01" | "57P02" | "57P03" | "57014" | "40001" | "40P01" | "55P03" => Code::Unavailable,
        other => match other.get(..2) {
            // A value that the types of the contract allow and the database does not: U+0000, 2^63.
            Some("22") => Code::BadRequest,
            Some("08" | "53") => Code::Unavailable,
            _ => Code::Internal,
        },
    };
    Refused::of(code)
}

/// A code's sentence and what to do next, where SQL says nothing of its own.
const fn sentence(code: Code) -> (&'static str, &'static str) {
    match code {
        Code::NoToken => ("The call carries no bearer token.", "Log in."),
        Code::BadToken => ("The token is not one of this server's.", "Log in again."),
        Code::TokenExpired => ("The token is too old.", "Refresh the login."),
        Code::SessionEnded => ("The login has ended.", "Log in again."),
        Code::Aal2Required => {
            ("The login was not confirmed with a one-time code.", "Confirm it, then repeat.")
        }
        Code::FreshTotpRequired => (
            "This step needs a one-time code that was given in the last 10 minutes.",
            "Give one, then repeat.",
        ),
        Code::BadSignature => ("The request carries no signature of a device that holds.", ""),
        Code::ClockSkew => (
            "The request was signed at another time by this server's clock.",
            "Date says this server's time.",
        ),
        Code::Replayed => ("The same signed request was seen before.", "Sign it anew."),
        Code::UnknownDevice => ("The signing key is no device's of this account.", "Enrol this device."),
        Code::RoleDenied => ("The role of this device does not allow this.", ""),
        Code::AlreadyExists => ("Something of this name is there already.", ""),
        Code::BadRequest => ("A value in the request is out of range.", ""),
        Code::TooLarge => ("The request is larger than 1 MiB.", "Ask for less at a time."),
        Code::NoSuchOperation => {
            ("This server knows no such operation.", "Operations are asked by POST; see API.md.")
        }
        Code::TooManyRequests => ("There were too many calls.", "Wait as long as Retry-After says."),
        Code::Unavailable => ("The server cannot reach what it needs now.", "Try again a little later."),
        Code::Internal => ("The server failed; this was not the client's fault.", "Its log says more."),
        _ => ("The call was refused.", ""),
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = ApiError {
            code: self.code.as_str().to_owned(),
            message: self.message,
            details: None,
            hint: self.hint,
        };
        let mut response = (status, [(header::CACHE_CONTROL, "no-store")], axum::Json(body)).into_response();
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_names_codes_and_its_status_must_agree() {
        let refused = from_state("PT403", "role_denied", Some("Readers do not push."), Some("Ask an owner."));
        assert_eq!((refused.code, refused.message.as_str()), (Code::RoleDenied, "Readers do not push."));
        assert_eq!(refused.hint.as_deref(), Some("Ask an owner."));
        assert_eq!(from_state("PT404", "role_denied", None, None).code, Code::Internal);
        assert_eq!(from_state("PT403", "a row's text", Some("x"), None), Refused::of(Code::Internal));
    }

    #[test]
    fn states_without_a_code_never_bring_their_text_along() {
        for (state, code) in [
            ("42501", Code::RoleDenied),
            ("23505", Code::AlreadyExists),
            ("23503", Code::AlreadyExists),
            ("22P05", Code::BadRequest),
            ("22003", Code::BadRequest),
            ("57P01", Code::Unavailable),
            ("53300", Code::Unavailable),
            ("40P01", Code::Unavailable),
            ("P0001", Code::Internal),
            ("XX000", Code::Internal),
            ("", Code::Internal),
        ] {
            let refused = from_state(state, "secret", Some("secret"), Some("secret"));
            assert_eq!(refused, Refused::of(code), "{state}");
        }
    }
}
