//! `/auth/v1`: the subset of GoTrue that clients of this product use (control-plane.md 3).
//!
//! **What it may not do.** Decide over vaults and devices; send mail; keep a secret in clear or in a log.
//! **What always holds.** Fields, codes and statuses are GoTrue's, so that a real GoTrue may stand in this place. All
//! of it works as the database role `backupengine_auth`, which reaches schema auth and nothing else.
//! **Where it is tested.** `tests/server/auth*.rs`, against real PostgreSQL.
mod attempts;
mod factor;
mod keys;
mod oauth;
mod oidc;
mod password;
mod refused;
mod request;
mod session;
mod token;
mod user;

use crate::app::{App, Limit};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
pub use keys::Keys;
use refused::Refused;
use request::Origin;
use serde_json::{Map, Value, json};

/// The routes, to be nested under `/auth/v1`.
pub fn router() -> axum::Router<App> {
    axum::Router::new()
        .route("/signup", post(token::signup))
        .route("/token", post(token::token))
        .route("/logout", post(token::logout))
        .route("/user", get(user::show).put(user::update))
        .route("/authorize", get(oauth::authorize))
        .route("/callback", get(oauth::callback).post(oauth::callback_form))
        .route("/factors", post(factor::enroll))
        .route("/factors/{id}", delete(factor::remove))
        .route("/factors/{id}/challenge", post(factor::challenge))
        .route("/factors/{id}/verify", post(factor::verify))
        .route("/.well-known/jwks.json", get(jwks))
        .route("/settings", get(settings))
        .route("/health", get(health))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(axum::middleware::map_response(no_store))
}

/// Whether this address may call now.
fn limit(app: &App, what: Limit, origin: &Origin) -> Result<(), Refused> {
    app.limits.check(what, origin.ip).map_err(|wait| {
        Refused::too_many("too many calls from this address: wait as long as Retry-After says", wait)
    })
}

/// Answers carry tokens: no cache keeps them.
async fn no_store(mut response: Response) -> Response {
    let headers = response.headers_mut();
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    }
    response
}

async fn no_route() -> Refused {
    Refused::not_found("not_found", "this server has no such call of identity")
}

async fn no_method() -> Response {
    let mut response =
        Refused::not_found("not_found", "this call of identity takes another method").into_response();
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

async fn jwks(State(app): State<App>) -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "public, max-age=600")], Json(app.keys.jwks()))
}

async fn settings(State(app): State<App>) -> Json<Value> {
    let mut external = Map::new();
    external.insert("email".into(), json!(true));
    external.insert("phone".into(), json!(false));
    external.extend(app.config.auth.providers.iter().map(|provider| (provider.name.clone(), json!(true))));
    Json(json!({
        "external": external, "disable_signup": false, "mailer_autoconfirm": true, "phone_autoconfirm": false,
        "sms_provider": "", "saml_enabled": false, "mfa_enabled": true,
    }))
}

async fn health() -> Json<Value> {
    Json(json!({
        "name": "backupengine-server", "version": env!("CARGO_PKG_VERSION"),
        "description": "identity, in the shapes of GoTrue",
    }))
}
