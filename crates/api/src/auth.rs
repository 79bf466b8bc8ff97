//! Identity: the shapes of GoTrue's interface that client and server use (control-plane.md 3).
//!
//! **What always holds.** Tokens and codes print one fixed word. Unknown fields of answers are skipped: a hosted
//! GoTrue sends more than stands here.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A token, password, code or secret: prints as one word.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(secret)")
    }
}

/// `POST /signup` and `POST /token?grant_type=password`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Credentials {
    /// Where mail goes.
    pub email: String,
    /// 12 to 72 characters at signup.
    pub password: Secret,
    /// Of the PKCE flow, where signup asks for confirmation by mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_challenge: Option<String>,
    /// `s256`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_challenge_method: Option<String>,
    /// Anything; nothing is ever authorised on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

/// `POST /token?grant_type=refresh_token`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refresh {
    /// The newest one.
    pub refresh_token: Secret,
}

/// `POST /token?grant_type=pkce`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Exchange {
    /// What came back to the listener.
    pub auth_code: Secret,
    /// 43 to 128 characters.
    pub code_verifier: Secret,
}

/// `PUT /user`: what is to change; answered by the user.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct UpdateUser {
    /// New address; needs the current password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// New password; needs the current one, and ends all other sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The current password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_password: Option<Secret>,
    /// Merged into what is there; null takes a key away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

/// A session: what every login ends in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Session {
    /// JWT.
    pub access_token: Secret,
    /// `bearer`
    pub token_type: String,
    /// Seconds.
    pub expires_in: i64,
    /// Seconds since 1970.
    pub expires_at: i64,
    /// Used once.
    pub refresh_token: Secret,
    /// Whose.
    pub user: User,
}

/// A user.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct User {
    /// UUID.
    pub id: String,
    /// `authenticated`
    #[serde(default)]
    pub aud: String,
    /// Its role in the database.
    #[serde(default)]
    pub role: String,
    /// Where mail goes.
    #[serde(default)]
    pub email: Option<String>,
    /// When the address was confirmed, RFC 3339.
    #[serde(default)]
    pub email_confirmed_at: Option<String>,
    /// Written by the server only.
    #[serde(default)]
    pub app_metadata: Value,
    /// Written by the user: nothing is authorised on it.
    #[serde(default)]
    pub user_metadata: Value,
    /// Second factors.
    #[serde(default)]
    pub factors: Vec<Factor>,
    /// Logins by others.
    #[serde(default)]
    pub identities: Vec<Value>,
    /// RFC 3339.
    #[serde(default)]
    pub created_at: String,
    /// RFC 3339.
    #[serde(default)]
    pub updated_at: String,
}

/// A second factor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Factor {
    /// UUID.
    pub id: String,
    /// What the user calls it.
    #[serde(default)]
    pub friendly_name: Option<String>,
    /// `totp`
    pub factor_type: String,
    /// `unverified` or `verified`
    pub status: String,
    /// RFC 3339.
    #[serde(default)]
    pub created_at: String,
    /// RFC 3339.
    #[serde(default)]
    pub updated_at: String,
}

/// `POST /factors`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EnrollFactor {
    /// `totp`
    pub factor_type: String,
    /// What the user calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub friendly_name: Option<String>,
    /// What the authenticator shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
}

/// Its answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EnrolledFactor {
    /// UUID.
    pub id: String,
    /// `totp`
    #[serde(rename = "type")]
    pub factor_type: String,
    /// What to put into an authenticator.
    pub totp: Totp,
}

/// What to put into an authenticator: SHA-1, 6 digits, 30 s.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Totp {
    /// SVG.
    pub qr_code: Secret,
    /// Base32.
    pub secret: Secret,
    /// `otpauth://`
    pub uri: Secret,
}

/// `POST /factors/{id}/challenge`, answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Challenge {
    /// UUID.
    pub id: String,
    /// Seconds since 1970.
    pub expires_at: i64,
}

/// `POST /factors/{id}/verify`; answered by a new session at aal2.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VerifyFactor {
    /// Of the challenge.
    pub challenge_id: String,
    /// Six digits.
    pub code: Secret,
}

/// A refusal in any of the three shapes that GoTrue has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthError {
    /// The stable word (`error_code`, `code` or `error`).
    pub code: String,
    /// For a person (`msg`, `message` or `error_description`).
    pub message: String,
    /// Why a password is weak.
    #[serde(default)]
    pub reasons: Vec<String>,
}

impl AuthError {
    /// Reads whichever shape a body has; `None` where it has none of them.
    pub fn read(body: &Value) -> Option<Self> {
        let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        let code = text("error_code").or_else(|| text("code")).or_else(|| text("error"))?;
        let message = text("msg").or_else(|| text("message")).or_else(|| text("error_description"));
        let reasons = body.pointer("/weak_password/reasons").and_then(Value::as_array);
        let reasons = reasons.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        Some(Self { code, message: message.unwrap_or_default(), reasons })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn all_three_shapes_of_a_refusal_are_read() {
        let old = json!({"code": 422, "error_code": "weak_password", "msg": "too short", "weak_password": {"reasons": ["length"]}});
        let new = json!({"code": "mfa_ip_address_mismatch", "message": "m"});
        let oauth = json!({"error": "invalid_grant", "error_description": "d"});
        let read = |body| AuthError::read(&body).unwrap();
        assert_eq!(
            read(old),
            AuthError {
                code: "weak_password".into(),
                message: "too short".into(),
                reasons: vec!["length".into()]
            }
        );
        assert_eq!(read(new).code, "mfa_ip_address_mismatch");
        assert_eq!(read(oauth).message, "d");
        assert_eq!(AuthError::read(&json!({"a": 1})), None);
    }

    #[test]
    fn nothing_secret_is_printed() {
        let refresh = Refresh { refresh_token: Secret("hunter2".into()) };
        assert!(!format!("{refresh:?}").contains("hunter2"));
    }
}
