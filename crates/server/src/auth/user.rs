//! `GET /user`, `PUT /user`.
//!
//! **What always holds.** A new password or address needs the current password and, where there is a second factor,
//! a login confirmed with it; a new password ends every other session.
//! **Where it is tested.** `tests/server/auth_user.rs`.
use super::attempts::{self, Tried, audit};
use super::refused::Refused;
use super::request::{Body, Caller, Origin};
use super::{limit, password, session};
use crate::app::{App, Limit};
use axum::Json;
use axum::extract::State;
use backupengine_api::auth::UpdateUser;
use serde_json::{Map, Value, json};

/// It stands in every access token, and headers are short.
const DATA_MAX: usize = 2048;

/// `GET /user`.
pub(super) async fn show(State(app): State<App>, caller: Caller) -> Result<Json<Value>, Refused> {
    let client = app.db.auth.get().await?;
    Ok(Json(session::user(&client, &caller.user).await?))
}

/// `PUT /user`.
pub(super) async fn update(
    State(app): State<App>,
    origin: Origin,
    caller: Caller,
    Body(asked): Body<UpdateUser>,
) -> Result<Json<Value>, Refused> {
    limit(&app, Limit::UserUpdate, &origin)?;
    let email = asked.email.as_deref().map(check_email).transpose()?;
    let email = email.filter(|email| caller.email.as_ref() != Some(email));
    asked.password.as_ref().map(password::check_strength).transpose()?;
    let data = asked.data.map(|data| check_data(Some(data))).transpose()?;
    if email.is_some() || asked.password.is_some() {
        prove(&app, &caller, &origin, asked.current_password, asked.password.as_ref()).await?;
    }
    let cost = app.config.auth.password_cost;
    let hash = match asked.password {
        Some(new) => Some(password::hash(new, cost).await?),
        None => None,
    };
    let mut client = app.db.auth.get().await?;
    let tx = client.transaction().await?;
    if let Some(hash) = hash {
        tx.execute(
            "update auth.users set encrypted_password = $2, updated_at = now() where id = $1::text::uuid",
            &[&caller.user, &hash],
        )
        .await?;
        session::end_all(&tx, &caller.user, Some(&caller.session)).await?;
        audit(&tx, &origin, "user_updated_password", Some(&caller.user), json!({})).await?;
    }
    if let Some(email) = email {
        change_email(&tx, &caller.user, &email).await?;
        audit(&tx, &origin, "user_updated_email", Some(&caller.user), json!({})).await?;
    }
    if let Some(data) = data {
        // As in GoTrue: merged, and null takes a key away.
        let row = tx
            .query_one(
                "update auth.users set updated_at = now(),
                   raw_user_meta_data = jsonb_strip_nulls(raw_user_meta_data || $2)
                 where id = $1::text::uuid returning octet_length(raw_user_meta_data::text)",
                &[&caller.user, &data],
            )
            .await?;
        if row.get::<_, i32>(0) as usize > DATA_MAX {
            return Err(too_much_data());
        }
        audit(&tx, &origin, "user_modified", Some(&caller.user), json!({})).await?;
    }
    let answer = session::user(&tx, &caller.user).await?;
    tx.commit().await?;
    Ok(Json(answer))
}

/// Whether the caller may change what the account stands on.
async fn prove(
    app: &App,
    caller: &Caller,
    origin: &Origin,
    current: Option<backupengine_api::auth::Secret>,
    new: Option<&backupengine_api::auth::Secret>,
) -> Result<(), Refused> {
    if caller.has_factor && !caller.aal2 {
        let message = "changing address or password needs a login confirmed with the one-time code";
        return Err(Refused::unauthorized("insufficient_aal", message));
    }
    let client = app.db.auth.get().await?;
    let row = client
        .query_one("select encrypted_password from auth.users where id = $1::text::uuid", &[&caller.user])
        .await?;
    let Some(hash) = row.get::<_, Option<String>>(0) else {
        // An account of a provider has no password to show: the second factor stands for it.
        return if caller.aal2 {
            Ok(())
        } else {
            let message = "an account without a password needs a second factor for this step";
            Err(Refused::unauthorized("insufficient_aal", message))
        };
    };
    let Some(current) = current else {
        let message = "changing address or password needs the current password: send it as current_password";
        return Err(Refused::bad("reauthentication_needed", message));
    };
    let subject = caller.email.as_deref().unwrap_or(&caller.user);
    attempts::begin(&client, Tried::Password, subject).await?;
    drop(client);
    let same = new.is_some_and(|new| new.0 == current.0);
    if !password::verify(current, Some(hash), app.config.auth.password_cost).await? {
        let client = app.db.auth.get().await?;
        let traits = json!({"reason": "current_password"});
        audit(&client, origin, "user_update_refused", Some(&caller.user), traits).await?;
        return Err(Refused::bad("invalid_credentials", "the current password is wrong"));
    }
    let client = app.db.auth.get().await?;
    attempts::succeeded(&client, Tried::Password, subject).await?;
    if same {
        return Err(Refused::unprocessable("same_password", "the new password is the current one"));
    }
    Ok(())
}

async fn change_email(
    tx: &deadpool_postgres::Transaction<'_>,
    user: &str,
    email: &str,
) -> Result<(), Refused> {
    let changed = tx
        .execute(
            "update auth.users set email = lower($2), updated_at = now() where id = $1::text::uuid
             and not exists (select from auth.users o where o.email = lower($2) and not o.is_sso_user)",
            &[&user, &email],
        )
        .await;
    let taken = match changed {
        Ok(rows) => rows == 0,
        // Two at once: the index decides.
        Err(error) if error.code() == Some(&tokio_postgres::error::SqlState::UNIQUE_VIOLATION) => true,
        Err(error) => return Err(error.into()),
    };
    if taken {
        return Err(Refused::unprocessable("email_exists", "another account has this address"));
    }
    tx.execute(
        "update auth.identities set updated_at = now(),
           identity_data = identity_data || jsonb_build_object('email', lower($2))
         where user_id = $1::text::uuid and provider = 'email'",
        &[&user, &email],
    )
    .await?;
    Ok(())
}

/// An address as it is kept: trimmed and in lower case.
pub(super) fn check_email(text: &str) -> Result<String, Refused> {
    let email = text.trim().to_lowercase();
    let plain = email.len() <= 254 && !email.chars().any(|c| c.is_whitespace() || c.is_control());
    let (name, host) = email.rsplit_once('@').unwrap_or_default();
    if !plain || name.is_empty() || host.is_empty() || host.starts_with('.') || host.ends_with('.') {
        return Err(Refused::invalid("this is no mail address"));
    }
    Ok(email)
}

/// `data`: an object of bounded size.
pub(super) fn check_data(data: Option<Value>) -> Result<Value, Refused> {
    match data {
        None | Some(Value::Null) => Ok(Value::Object(Map::new())),
        Some(data @ Value::Object(_))
            if data.to_string().len() <= DATA_MAX && !data.to_string().contains("\\u0000") =>
        {
            Ok(data)
        }
        Some(Value::Object(_)) => Err(too_much_data()),
        Some(_) => Err(Refused::invalid("data has to be an object")),
    }
}

fn too_much_data() -> Refused {
    Refused::invalid(format!("data can have at most {DATA_MAX} bytes and no zero characters"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_kept_in_one_spelling() {
        assert_eq!(check_email(" Ada@Example.ORG ").unwrap(), "ada@example.org");
        for bad in ["", "@", "a@", "@b", "a b@c", "a@.b", "a@b.", "plain"] {
            assert_eq!(check_email(bad).unwrap_err().code(), "validation_failed", "{bad}");
        }
        assert!(check_email(&format!("{}@b.example", "a".repeat(250))).is_err());
    }

    #[test]
    fn data_is_a_small_object() {
        assert_eq!(check_data(None).unwrap(), json!({}));
        assert_eq!(check_data(Some(json!({"a": 1}))).unwrap(), json!({"a": 1}));
        for bad in [json!([1]), json!("text"), json!({"a": "x".repeat(DATA_MAX)}), json!({"a": "\u{0}"})] {
            assert!(check_data(Some(bad)).is_err());
        }
    }
}
