//! `POST /signup`, `POST /token`, `POST /logout`.
//!
//! **What always holds.** A wrong password and an unknown address are answered alike and after the same work.
//! **Where it is tested.** `tests/server/auth.rs`, `auth_refresh.rs`, `auth_limits.rs`.
use super::attempts::{self, Tried, audit};
use super::refused::Refused;
use super::request::{Body, Caller, Origin, Params};
use super::{limit, oauth, password, session, user};
use crate::app::{App, Limit};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use backupengine_api::auth::{Credentials, Exchange, Refresh};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::SystemTime;

/// `POST /signup`: an account, confirmed at once (this server sends no mail), and its first session.
pub(super) async fn signup(
    State(app): State<App>,
    origin: Origin,
    Body(asked): Body<Credentials>,
) -> Result<Json<Value>, Refused> {
    limit(&app, Limit::Signup, &origin)?;
    let email = user::check_email(&asked.email)?;
    password::check_strength(&asked.password)?;
    let data = user::check_data(asked.data)?;
    // Hashed before it is known whether the address is free: both answers take as long.
    let hash = password::hash(asked.password, app.config.auth.password_cost).await?;
    let mut client = app.db.auth.get().await?;
    let tx = client.transaction().await?;
    let made = tx
        .query_opt(
            "insert into auth.users (email, encrypted_password, email_confirmed_at, raw_app_meta_data, raw_user_meta_data)
             values (lower($1), $2, now(), '{\"provider\": \"email\", \"providers\": [\"email\"]}', $3)
             on conflict (email) where not is_sso_user do nothing returning id::text",
            &[&email, &hash, &data],
        )
        .await?;
    let Some(made) = made else {
        audit(&tx, &origin, "user_repeated_signup", None, json!({})).await?;
        tx.commit().await?;
        return Err(Refused::unprocessable(
            "user_already_exists",
            "there is an account with this address: log in",
        ));
    };
    let id: String = made.get(0);
    tx.execute(
        "insert into auth.identities (provider_id, user_id, provider, identity_data)
         values ($1, $1::text::uuid, 'email', jsonb_build_object('sub', $1::text, 'email', lower($2), 'email_verified', false))",
        &[&id, &email],
    )
    .await?;
    audit(&tx, &origin, "user_signedup", Some(&id), json!({"provider": "email"})).await?;
    let answer = session::start(&app, &tx, &id, "password", &origin).await?;
    tx.commit().await?;
    Ok(Json(answer))
}

/// `?grant_type=`.
#[derive(Deserialize)]
pub(super) struct Grant {
    #[serde(default)]
    grant_type: String,
}

/// `POST /token`.
pub(super) async fn token(
    State(app): State<App>,
    Params(grant): Params<Grant>,
    origin: Origin,
    Body(asked): Body<Value>,
) -> Result<Json<Value>, Refused> {
    limit(&app, Limit::Token, &origin)?;
    let answer = match grant.grant_type.as_str() {
        "password" => login(&app, read(asked)?, &origin).await?,
        "refresh_token" => {
            let Refresh { refresh_token } = read(asked)?;
            session::refresh(&app, &refresh_token.0, &origin).await?
        }
        "pkce" => oauth::exchange(&app, read::<Exchange>(asked)?, &origin).await?,
        _ => return Err(Refused::invalid("grant_type has to be password, refresh_token or pkce")),
    };
    Ok(Json(answer))
}

fn read<T: serde::de::DeserializeOwned>(body: Value) -> Result<T, Refused> {
    // What serde says repeats values, and they are passwords here.
    serde_json::from_value(body).map_err(|_| Refused::invalid("the body lacks a field of this grant"))
}

async fn login(app: &App, asked: Credentials, origin: &Origin) -> Result<Value, Refused> {
    let email = asked.email.trim().to_lowercase();
    let mut client = app.db.auth.get().await?;
    attempts::begin(&client, Tried::Password, &email).await?;
    let found = client
        .query_opt(
            "select id::text, encrypted_password, banned_until from auth.users
             where email = lower($1) and not is_sso_user and deleted_at is null",
            &[&email],
        )
        .await?;
    let (id, hash, banned) = found
        .map(|row| {
            (row.get::<_, String>(0), row.get::<_, Option<String>>(1), row.get::<_, Option<SystemTime>>(2))
        })
        .map_or((None, None, None), |(id, hash, banned)| (Some(id), hash, banned));
    // Hashing takes its time: it holds no connection.
    drop(client);
    let right = password::verify(asked.password, hash, app.config.auth.password_cost).await?;
    client = app.db.auth.get().await?;
    let Some(id) = id.clone().filter(|_| right) else {
        let traits = json!({"provider": "email", "reason": "invalid_credentials"});
        audit(&client, origin, "login_refused", id.as_deref(), traits).await?;
        return Err(Refused::bad("invalid_credentials", "wrong address or password"));
    };
    if banned.is_some_and(|end| end > SystemTime::now()) {
        audit(&client, origin, "login_refused", Some(&id), json!({"reason": "user_banned"})).await?;
        return Err(Refused::bad("user_banned", "this account is locked"));
    }
    let tx = client.transaction().await?;
    attempts::succeeded(&tx, Tried::Password, &email).await?;
    audit(&tx, origin, "login", Some(&id), json!({"provider": "email"})).await?;
    let answer = session::start(app, &tx, &id, "password", origin).await?;
    tx.commit().await?;
    Ok(answer)
}

/// `?scope=`.
#[derive(Deserialize)]
pub(super) struct Scope {
    scope: Option<String>,
}

/// `POST /logout`: 204. Without a scope it is `global`, as in GoTrue.
pub(super) async fn logout(
    State(app): State<App>,
    Params(Scope { scope }): Params<Scope>,
    origin: Origin,
    caller: Caller,
) -> Result<StatusCode, Refused> {
    let scope = scope.unwrap_or_else(|| "global".to_owned());
    let mut client = app.db.auth.get().await?;
    let tx = client.transaction().await?;
    match scope.as_str() {
        "local" => session::end(&tx, &caller.session).await?,
        "global" => session::end_all(&tx, &caller.user, None).await?,
        "others" => session::end_all(&tx, &caller.user, Some(&caller.session)).await?,
        _ => return Err(Refused::invalid("scope has to be local, global or others")),
    }
    audit(&tx, &origin, "logout", Some(&caller.user), json!({"scope": scope})).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
