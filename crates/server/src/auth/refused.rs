//! What `/auth/v1` answers when it refuses: GoTrue's newer shape, `{"code", "message"}`, and the code as a header.
//!
//! **What always holds.** Codes and statuses are GoTrue's, so that one client reads both. No text repeats a password,
//! token or code. A fault of the server says nothing of its cause; the log does, without values.
//! **Where it is tested.** `tests/server/auth*.rs`.
use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::time::Duration;

/// A refusal.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    status: StatusCode,
    code: &'static str,
    message: String,
    reasons: &'static [&'static str],
    retry_after: Option<Duration>,
}

impl Refused {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), reasons: &[], retry_after: None }
    }

    /// 400.
    pub(super) fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 401.
    pub(super) fn unauthorized(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, message)
    }

    /// 403.
    pub(super) fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    /// 404.
    pub(super) fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    /// 422.
    pub(super) fn unprocessable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message)
    }

    /// A field is missing or out of range.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::bad("validation_failed", message)
    }

    /// 422 with the reasons why a password is weak.
    pub(super) fn weak_password(message: impl Into<String>, reasons: &'static [&'static str]) -> Self {
        Self { reasons, ..Self::unprocessable("weak_password", message) }
    }

    /// 429.
    pub(super) fn too_many(message: impl Into<String>, wait: Duration) -> Self {
        let refused = Self::new(StatusCode::TOO_MANY_REQUESTS, "over_request_rate_limit", message);
        Self { retry_after: Some(wait), ..refused }
    }

    /// 503.
    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unexpected_failure", message)
    }

    /// 500: `what` was being done and goes to the log, not to the client.
    pub(super) fn fault(what: &'static str) -> Self {
        tracing::error!(what, "a fault in identity");
        let message = "the server has a fault; it is in its log. Try again later";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "unexpected_failure", message)
    }

    /// The code.
    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    /// For a person.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// RFC 6749's word for the same, as GoTrue puts it into a redirect.
    pub(super) fn oauth_error(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "unauthorized_client",
            403 => "access_denied",
            503 => "temporarily_unavailable",
            500.. => "server_error",
            _ => "invalid_request",
        }
    }
}

impl From<tokio_postgres::Error> for Refused {
    fn from(error: tokio_postgres::Error) -> Self {
        // Only the code: the message of a constraint can repeat values.
        let state = error.code().map_or("none", tokio_postgres::error::SqlState::code).to_owned();
        tracing::error!(state, closed = error.is_closed(), "the database refused a step of identity");
        Self::fault("database")
    }
}

impl From<deadpool_postgres::PoolError> for Refused {
    fn from(_: deadpool_postgres::PoolError) -> Self {
        tracing::error!("no connection to the database for identity");
        Self::unavailable("the server cannot reach its database now. Try again in a minute")
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut body = json!({"code": self.code, "message": self.message});
        if !self.reasons.is_empty() {
            body["weak_password"] = json!({"reasons": self.reasons});
        }
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(HeaderName::from_static("x-sb-error-code"), HeaderValue::from_static(self.code));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(wait) = self.retry_after {
            // Rounded up: a client that waits as told is not refused again.
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
        }
        response
    }
}
