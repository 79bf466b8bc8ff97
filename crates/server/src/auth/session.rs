//! Sessions: what a login starts, how its tokens are renewed, how it ends.
//!
//! **What always holds.** A refresh token is kept as a digest and used once. Its direct parent, or any within the
//! reuse window, gives the current one again, so that a lost answer costs nothing; one older than that ends the
//! session. All of it happens under a lock on the session's row: many at once leave one line of tokens.
//! **Where it is tested.** `tests/server/auth_refresh.rs`.
use super::keys::{AUDIENCE, digest};
use super::refused::Refused;
use super::request::{Origin, random};
use crate::app::App;
use deadpool_postgres::GenericClient;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How a user is shown, from a row `u` of auth.users.
const USER: &str = "jsonb_build_object(
    'id', u.id, 'aud', u.aud, 'role', u.role, 'email', u.email, 'phone', '',
    'email_confirmed_at', u.email_confirmed_at, 'confirmed_at', u.email_confirmed_at,
    'last_sign_in_at', u.last_sign_in_at,
    'app_metadata', u.raw_app_meta_data, 'user_metadata', u.raw_user_meta_data,
    'created_at', u.created_at, 'updated_at', u.updated_at, 'is_anonymous', false,
    'factors', coalesce((select jsonb_agg(jsonb_build_object(
        'id', f.id, 'friendly_name', f.friendly_name, 'factor_type', f.factor_type, 'status', f.status,
        'created_at', f.created_at, 'updated_at', f.updated_at) order by f.created_at, f.id)
      from auth.mfa_factors f where f.user_id = u.id), '[]'),
    'identities', coalesce((select jsonb_agg(jsonb_build_object(
        'identity_id', i.id, 'id', i.provider_id, 'user_id', i.user_id, 'identity_data', i.identity_data,
        'provider', i.provider, 'email', i.email, 'last_sign_in_at', i.last_sign_in_at,
        'created_at', i.created_at, 'updated_at', i.updated_at) order by i.created_at, i.id)
      from auth.identities i where i.user_id = u.id), '[]'))";

/// For how long used refresh tokens are remembered: one older than this is unknown, and as useless.
const REMEMBERED_DAYS: i32 = 30;

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs() as i64)
}

/// The user object.
pub(super) async fn user(client: &impl GenericClient, user: &str) -> Result<Value, Refused> {
    let query = format!("select {USER} from auth.users u where u.id = $1::text::uuid");
    let row = client.query_opt(&query, &[&user]).await?;
    row.map(|row| row.get(0)).ok_or_else(|| Refused::forbidden("user_not_found", "this account is gone"))
}

/// Starts a session at aal1 for who proved himself by `method`, and gives its tokens.
pub(super) async fn start(
    app: &App,
    client: &impl GenericClient,
    user: &str,
    method: &str,
    origin: &Origin,
) -> Result<Value, Refused> {
    let row = client
        .query_one(
            "insert into auth.sessions (user_id, user_agent, ip) values ($1::text::uuid, $2, $3) returning id::text",
            &[&user, &origin.agent, &origin.ip],
        )
        .await?;
    let session: String = row.get(0);
    claim(client, &session, method).await?;
    client
        .execute("update auth.users set last_sign_in_at = now() where id = $1::text::uuid", &[&user])
        .await?;
    let refresh = add_token(app, client, user, &session, None).await?;
    tokens(app, client, &session, refresh).await
}

/// Notes by what means a session was confirmed, and when.
pub(super) async fn claim(client: &impl GenericClient, session: &str, method: &str) -> Result<(), Refused> {
    client
        .execute(
            "insert into auth.mfa_amr_claims (session_id, authentication_method) values ($1::text::uuid, $2)
             on conflict (session_id, authentication_method) do update set updated_at = now()",
            &[&session, &method],
        )
        .await?;
    Ok(())
}

/// Adds a refresh token to a session; `parent` is the digest of the one it replaces.
async fn add_token(
    app: &App,
    client: &impl GenericClient,
    user: &str,
    session: &str,
    parent: Option<&str>,
) -> Result<String, Refused> {
    let salt = random::<16>()?;
    let token = app.keys.refresh_token(session, &salt);
    client
        .execute(
            "insert into auth.refresh_tokens (token, salt, user_id, session_id, parent)
             values ($1, $2, $3::text::uuid, $4::text::uuid, $5)",
            &[&digest(&token), &salt.as_slice(), &user, &session, &parent],
        )
        .await?;
    Ok(token)
}

/// New tokens for a session that was just confirmed further. One that was at aal1 keeps no way back: who holds its
/// old refresh token must not rise with it.
pub(super) async fn renew(
    app: &App,
    client: &impl GenericClient,
    user: &str,
    session: &str,
    rises: bool,
) -> Result<Value, Refused> {
    let parent = if rises {
        client
            .execute("delete from auth.refresh_tokens where session_id = $1::text::uuid", &[&session])
            .await?;
        None
    } else {
        revoke_current(client, session).await?
    };
    let refresh = add_token(app, client, user, session, parent.as_deref()).await?;
    tokens(app, client, session, refresh).await
}

async fn revoke_current(client: &impl GenericClient, session: &str) -> Result<Option<String>, Refused> {
    let row = client
        .query_opt(
            "update auth.refresh_tokens set revoked = true, updated_at = clock_timestamp()
             where session_id = $1::text::uuid and not revoked returning token",
            &[&session],
        )
        .await?;
    Ok(row.map(|row| row.get(0)))
}

/// `grant_type=refresh_token`.
pub(super) async fn refresh(app: &App, token: &str, origin: &Origin) -> Result<Value, Refused> {
    let unknown = || {
        Refused::bad(
            "refresh_token_not_found",
            "this refresh token is unknown or its login has ended: log in again",
        )
    };
    let mut client = app.db.auth.get().await?;
    let tx = client.transaction().await?;
    let key = digest(token);
    let found =
        tx.query_opt("select session_id::text from auth.refresh_tokens where token = $1", &[&key]).await?;
    let session: String = found.ok_or_else(unknown)?.get(0);
    // The lock: from here on this session's tokens stand still.
    let locked = tx
        .query_opt(
            "select s.user_id::text, s.not_after, u.banned_until from auth.sessions s
             join auth.users u on u.id = s.user_id and u.deleted_at is null
             where s.id = $1::text::uuid for update of s",
            &[&session],
        )
        .await?
        .ok_or_else(unknown)?;
    let user: String = locked.get(0);
    let now = SystemTime::now();
    if locked.get::<_, Option<SystemTime>>(1).is_some_and(|end| end <= now) {
        return Err(Refused::bad("session_expired", "this login has ended: log in again"));
    }
    if locked.get::<_, Option<SystemTime>>(2).is_some_and(|end| end > now) {
        return Err(Refused::bad("user_banned", "this account is locked"));
    }
    let ours = tx
        .query_opt("select revoked, updated_at from auth.refresh_tokens where token = $1", &[&key])
        .await?
        .ok_or_else(unknown)?;
    let fresh = if !ours.get::<_, bool>(0) {
        revoke_current(&tx, &session).await?;
        add_token(app, &tx, &user, &session, Some(&key)).await?
    } else {
        let used: SystemTime = ours.get(1);
        match again(app, &tx, &session, &key, used).await? {
            Some(token) => token,
            None => {
                end(&tx, &session).await?;
                let traits = json!({"session_id": session, "reason": "refresh_token_already_used"});
                super::attempts::audit(&tx, origin, "token_revoked", Some(&user), traits).await?;
                tx.commit().await?;
                let message = "this refresh token was used before: its login has ended. Log in again";
                return Err(Refused::bad("refresh_token_already_used", message));
            }
        }
    };
    tx.execute(
        "update auth.sessions set refreshed_at = now(), updated_at = now(), user_agent = $2, ip = $3
         where id = $1::text::uuid",
        &[&session, &origin.agent, &origin.ip],
    )
    .await?;
    tx.execute(
        "delete from auth.refresh_tokens
         where session_id = $1::text::uuid and revoked and updated_at < now() - make_interval(days => $2)",
        &[&session, &REMEMBERED_DAYS],
    )
    .await?;
    let answer = tokens(app, &tx, &session, fresh).await?;
    tx.commit().await?;
    Ok(answer)
}

/// The current token again, for who comes with its parent or within the reuse window.
async fn again(
    app: &App,
    client: &impl GenericClient,
    session: &str,
    key: &str,
    used: SystemTime,
) -> Result<Option<String>, Refused> {
    let current = client
        .query_opt(
            "select token, salt, parent from auth.refresh_tokens where session_id = $1::text::uuid and not revoked",
            &[&session],
        )
        .await?;
    let Some(current) = current else { return Ok(None) };
    let age = SystemTime::now().duration_since(used).unwrap_or(Duration::ZERO);
    if current.get::<_, Option<String>>(2).as_deref() != Some(key) && age > app.config.auth.reuse_window {
        return Ok(None);
    }
    let token = app.keys.refresh_token(session, current.get(1));
    // Another master key than when it was made: it cannot be told again.
    Ok((digest(&token) == current.get::<_, String>(0)).then_some(token))
}

/// The session object of GoTrue, with a new access token.
async fn tokens(
    app: &App,
    client: &impl GenericClient,
    session: &str,
    refresh_token: String,
) -> Result<Value, Refused> {
    let query = format!(
        "select {USER}, s.aal::text, coalesce((select jsonb_agg(jsonb_build_object(
             'method', a.authentication_method, 'timestamp', floor(extract(epoch from a.updated_at))::bigint)
             order by a.updated_at desc) from auth.mfa_amr_claims a where a.session_id = s.id), '[]')
         from auth.sessions s join auth.users u on u.id = s.user_id where s.id = $1::text::uuid"
    );
    let row = client.query_one(&query, &[&session]).await?;
    let (user, aal, amr): (Value, String, Value) = (row.get(0), row.get(1), row.get(2));
    let life = app.config.auth.access_life.as_secs() as i64;
    let now = now();
    let claims = json!({
        "iss": app.keys.issuer(), "sub": user["id"], "aud": AUDIENCE, "iat": now, "exp": now + life,
        "email": user["email"], "phone": "", "role": user["role"], "aal": aal, "amr": amr, "session_id": session,
        "app_metadata": user["app_metadata"], "user_metadata": user["user_metadata"], "is_anonymous": false,
    });
    let access_token =
        app.keys.sign(&claims).ok_or_else(|| Refused::fault("an access token could not be signed"))?;
    Ok(json!({
        "access_token": access_token, "token_type": "bearer", "expires_in": life, "expires_at": now + life,
        "refresh_token": refresh_token, "user": user,
    }))
}

/// Ends one session: its tokens stop working at once, wherever the database is asked.
pub(super) async fn end(client: &impl GenericClient, session: &str) -> Result<(), Refused> {
    client.execute("delete from auth.sessions where id = $1::text::uuid", &[&session]).await?;
    Ok(())
}

/// Ends all sessions of a user but, where said, one.
pub(super) async fn end_all(
    client: &impl GenericClient,
    user: &str,
    but: Option<&str>,
) -> Result<(), Refused> {
    client
        .execute(
            "delete from auth.sessions where user_id = $1::text::uuid and id is distinct from $2::text::uuid",
            &[&user, &but],
        )
        .await?;
    Ok(())
}
