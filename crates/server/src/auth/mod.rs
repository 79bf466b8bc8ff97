//! `/auth/v1`: the subset of GoTrue that clients of this product use (control-plane.md 3).
use crate::ServerError;
use crate::app::App;
use crate::config::Auth;
use backupengine_api::Code;
use serde_json::{Map, Value};

/// Signs and verifies access tokens.
pub struct Keys {}

#[allow(unused_variables)]
impl Keys {
    /// From the settings; `public_url` is the issuer's base (`<public_url>/auth/v1`).
    ///
    /// # Errors
    /// [`ServerError::Setting`].
    pub fn new(auth: &Auth, public_url: &str) -> Result<Self, ServerError> {
        todo!()
    }
    /// Verifies a token: ES256 by key id, issuer, audience, time. Never `none`, never HS256.
    ///
    /// # Errors
    /// [`Code::BadToken`], [`Code::TokenExpired`].
    pub fn verify(&self, token: &str) -> Result<Map<String, Value>, Code> {
        todo!()
    }
    /// The public keys, as `/.well-known/jwks.json` serves them.
    pub fn jwks(&self) -> Value {
        todo!()
    }
}

/// The routes, to be nested under `/auth/v1`.
pub fn router() -> axum::Router<App> {
    todo!()
}
