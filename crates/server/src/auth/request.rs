//! What comes in: bodies, the caller behind a bearer token, where a call comes from.
//!
//! **What always holds.** A caller has a token that verifies and a session that is still there; how sure the login
//! is, is the lower of what the two say. A body that does not read is refused without repeating any of it.
//! **Where it is tested.** `tests/server/auth*.rs`.
use super::refused::Refused;
use crate::app::{App, ClientIp};
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::{header, request::Parts};
use backupengine_api::Code;
use serde::de::DeserializeOwned;
use std::net::IpAddr;
use std::time::SystemTime;

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, app: &App) -> Result<Self, Refused> {
        let bytes = Bytes::from_request(request, app)
            .await
            .map_err(|_| Refused::bad("bad_json", "the body is too large or broke off"))?;
        // What serde says repeats values, and they are passwords here.
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            Refused::bad(
                "bad_json",
                format!(
                    "the body does not read as JSON with the fields of this call (line {}, column {})",
                    error.line(),
                    error.column()
                ),
            )
        })
    }
}

/// The query of a call.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Params<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Refused> {
        let query = Query::<T>::try_from_uri(&parts.uri);
        query
            .map(|Query(params)| Self(params))
            .map_err(|_| Refused::invalid("the query of the address does not read"))
    }
}

/// Where a call comes from.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// Its address; of the client where a configured proxy says so.
    pub(super) ip: IpAddr,
    /// What it calls itself, shortened.
    pub(super) agent: String,
}

impl FromRequestParts<App> for Origin {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refused> {
        let Ok(ClientIp(ip)) = ClientIp::from_request_parts(parts, app).await;
        let agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or("");
        Ok(Self { ip, agent: agent.chars().take(200).collect() })
    }
}

/// Who calls.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// UUID.
    pub(super) user: String,
    /// UUID.
    pub(super) session: String,
    /// Where mail goes.
    pub(super) email: Option<String>,
    /// Whether token and session both were confirmed with a one-time code.
    pub(super) aal2: bool,
    /// Whether the account has a verified factor.
    pub(super) has_factor: bool,
}

impl FromRequestParts<App> for Caller {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refused> {
        let token = bearer(parts).ok_or_else(|| {
            Refused::unauthorized("no_authorization", "this call needs a bearer token: log in first")
        })?;
        let claims = app.keys.verify(token).map_err(|code| match code {
            Code::TokenExpired => Refused::forbidden("bad_jwt", "the token is expired: refresh it"),
            _ => Refused::forbidden("bad_jwt", "the token does not verify: log in again"),
        })?;
        let text = |name: &str| claims.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
        let (user, session) = (text("sub").to_owned(), text("session_id").to_owned());
        let client = app.db.auth.get().await?;
        let row = client
            .query_opt(
                "select u.email, s.aal::text, s.not_after, u.banned_until,
                        exists (select from auth.mfa_factors f where f.user_id = u.id and f.status = 'verified')
                 from auth.sessions s join auth.users u on u.id = s.user_id
                 where s.id::text = $1 and u.id::text = $2 and u.deleted_at is null",
                &[&session, &user],
            )
            .await?;
        let Some(row) = row else {
            return Err(Refused::forbidden(
                "session_not_found",
                "the login behind this token has ended: log in again",
            ));
        };
        let now = SystemTime::now();
        if row.get::<_, Option<SystemTime>>(2).is_some_and(|end| end <= now) {
            return Err(Refused::forbidden(
                "session_expired",
                "the login behind this token has ended: log in again",
            ));
        }
        if row.get::<_, Option<SystemTime>>(3).is_some_and(|end| end > now) {
            return Err(Refused::forbidden("user_banned", "this account is locked"));
        }
        let aal2 = text("aal") == "aal2" && row.get::<_, String>(1) == "aal2";
        Ok(Self { user, session, email: row.get(0), aal2, has_factor: row.get(4) })
    }
}

fn bearer(parts: &Parts) -> Option<&str> {
    let value = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// A UUID from a path or a body, in small letters.
pub(super) fn uuid(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let fits = |(at, byte): (usize, &u8)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    (bytes.len() == 36 && bytes.iter().enumerate().all(fits)).then(|| text.to_ascii_lowercase())
}

/// Random bytes from the system.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Refused> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| Refused::fault("the system gives no random bytes"))?;
    Ok(bytes)
}

/// A new UUID of version 4: what GoTrue's codes look like.
pub(super) fn random_uuid() -> Result<String, Refused> {
    let mut bytes = random::<16>()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok([&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_uuid_is_a_uuid() {
        let (one, two) = (random_uuid().unwrap(), random_uuid().unwrap());
        assert_eq!(uuid(&one).as_ref(), Some(&one));
        assert_ne!(one, two);
        let good = "4fCD0a52-7a1a-4e52-8f0e-3d2f9d0c1b2a";
        assert_eq!(uuid(good), Some(good.to_ascii_lowercase()));
        for bad in
            ["", "4fcd0a527a1a4e528f0e3d2f9d0c1b2a", "4fcd0a52-7a1a-4e52-8f0e-3d2f9d0c1b2g", "' or 1=1 --"]
        {
            assert_eq!(uuid(bad), None, "{bad}");
        }
    }
}
