//! Login through a provider: `/authorize`, `/callback`, and the exchange of the code that comes out of it.
//!
//! **What always holds.** PKCE with S256, always. Who comes back goes only to a loopback address or to this server's
//! own. A state and a code are used once and live five minutes. An account is found by the provider's own id of the
//! person, never by a mail address. Such a login ends at aal1 like any other.
//! **Where it is tested.** `tests/server/auth_oauth.rs`.
use super::attempts::audit;
use super::keys::digest;
use super::oidc::{self, Person};
use super::refused::Refused;
use super::request::{Origin, Params, random, random_uuid};
use super::{limit, session, user};
use crate::app::{App, Limit};
use crate::config::Provider;
use axum::Form;
use axum::extract::State;
use axum::extract::rejection::FormRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use backupengine_api::auth::Exchange;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use url::{Host, Url};

/// Seconds that a login begun, and the code at its end, live.
const LIFE: f64 = 300.0;

/// The query of `GET /authorize`.
#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    provider: String,
    redirect_to: Option<String>,
    #[serde(default)]
    scopes: String,
    #[serde(default)]
    code_challenge: String,
    #[serde(default)]
    code_challenge_method: String,
}

/// `GET /authorize`: 302 to the provider.
pub(super) async fn authorize(
    State(app): State<App>,
    origin: Origin,
    Params(asked): Params<Asked>,
) -> Result<Response, Refused> {
    limit(&app, Limit::Authorize, &origin)?;
    let provider = find_provider(&app, &asked.provider)?;
    if !asked.code_challenge_method.eq_ignore_ascii_case("s256") || !is_pkce(&asked.code_challenge) {
        let message = "this login needs code_challenge (43 to 128 characters) and code_challenge_method=s256";
        return Err(Refused::invalid(message));
    }
    let back = asked.redirect_to.as_deref().unwrap_or(&app.config.public_url);
    let back = may_return(back, &app.config.public_url).ok_or_else(|| {
        Refused::invalid("redirect_to has to be http on a loopback address, or on this server")
    })?;
    let discovery = oidc::discover(&app, provider, false).await?;
    let (state, nonce) = (URL_SAFE_NO_PAD.encode(random::<32>()?), URL_SAFE_NO_PAD.encode(random::<32>()?));
    let client = app.db.auth.get().await?;
    client
        .execute(
            "delete from auth.flow_state where created_at < now() - 3 * make_interval(secs => $1)",
            &[&LIFE],
        )
        .await?;
    client
        .execute(
            "insert into auth.flow_state (code_challenge, code_challenge_method, provider_type,
                                          authentication_method, state, nonce, redirect_to)
             values ($1, 's256', $2, 'oauth', $3, $4, $5)",
            &[&asked.code_challenge, &provider.name, &digest(&state), &digest(&nonce), &back.as_str()],
        )
        .await?;
    let mut scopes = vec!["openid", "email"];
    scopes.extend(
        asked
            .scopes
            .split([' ', ','])
            .filter(|scope| !scope.is_empty() && !["openid", "email"].contains(scope)),
    );
    let mut to = discovery.authorization.clone();
    to.query_pairs_mut()
        .append_pair("client_id", &provider.client_id)
        .append_pair("redirect_uri", &callback_url(&app))
        .append_pair("response_type", "code")
        .append_pair("scope", &scopes.join(" "))
        .append_pair("state", &state)
        .append_pair("nonce", &nonce);
    if provider.name == "apple" {
        // Apple insists where scopes are asked for.
        to.query_pairs_mut().append_pair("response_mode", "form_post");
    }
    found(&to)
}

fn find_provider<'a>(app: &'a App, name: &str) -> Result<&'a Provider, Refused> {
    let provider = app.config.auth.providers.iter().find(|provider| provider.name == name);
    provider.ok_or_else(|| Refused::bad("oauth_provider_not_supported", "this server has no such provider"))
}

fn callback_url(app: &App) -> String {
    format!("{}/callback", app.keys.issuer())
}

/// Characters and length of RFC 7636, for challenge and verifier.
fn is_pkce(text: &str) -> bool {
    (43..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

/// Where a login may end: plain http on a loopback address (any port), or this server's own origin.
fn may_return(to: &str, site: &str) -> Option<Url> {
    let to = Url::parse(to)
        .ok()
        .filter(|to| to.username().is_empty() && to.password().is_none() && to.fragment().is_none())?;
    let loopback = match to.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        _ => false,
    };
    let own = Url::parse(site).is_ok_and(|site| site.origin() == to.origin());
    (to.as_str().len() <= 2048 && (own || loopback && to.scheme() == "http")).then_some(to)
}

fn found(to: &Url) -> Result<Response, Refused> {
    let location =
        HeaderValue::from_str(to.as_str()).map_err(|_| Refused::fault("an address does not fit a header"))?;
    let headers = [
        (header::LOCATION, location),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    Ok((StatusCode::FOUND, headers).into_response())
}

/// What a provider sends back, in the query or as a form.
#[derive(Deserialize)]
pub(super) struct Back {
    state: Option<String>,
    code: Option<String>,
    error: Option<String>,
}

/// `GET /callback`.
pub(super) async fn callback(
    State(app): State<App>,
    origin: Origin,
    Params(back): Params<Back>,
) -> Result<Response, Refused> {
    come_back(&app, back, &origin).await
}

/// `POST /callback`: Apple sends a form.
pub(super) async fn callback_form(
    State(app): State<App>,
    origin: Origin,
    form: Result<Form<Back>, FormRejection>,
) -> Result<Response, Refused> {
    let Form(back) =
        form.map_err(|_| Refused::bad("bad_oauth_callback", "the form of the provider does not read"))?;
    come_back(&app, back, &origin).await
}

/// A login under way.
struct Flow {
    id: String,
    provider: String,
    nonce: String,
    back: Url,
}

async fn come_back(app: &App, back: Back, origin: &Origin) -> Result<Response, Refused> {
    limit(app, Limit::Authorize, origin)?;
    let flow = claim(app, back.state.as_deref()).await?;
    let mut to = flow.back.clone();
    match finish(app, &flow, back, origin).await {
        Ok(code) => {
            to.query_pairs_mut().append_pair("code", &code);
        }
        Err(refused) => {
            // As in GoTrue: in the query and in the fragment, since clients look at either.
            let said = [
                ("error", refused.oauth_error()),
                ("error_code", refused.code()),
                ("error_description", refused.message()),
            ];
            to.query_pairs_mut().extend_pairs(said);
            let fragment = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(said).finish();
            to.set_fragment(Some(&fragment));
        }
    }
    found(&to)
}

/// Takes the state: it counts once.
async fn claim(app: &App, state: Option<&str>) -> Result<Flow, Refused> {
    let unknown =
        || Refused::bad("bad_oauth_state", "this login is unknown or was finished before: begin it again");
    let client = app.db.auth.get().await?;
    let row = client
        .query_opt(
            "update auth.flow_state set state = null, updated_at = now() where state = $1
             returning id::text, provider_type, nonce, redirect_to, created_at < now() - make_interval(secs => $2)",
            &[&digest(state.ok_or_else(unknown)?), &LIFE],
        )
        .await?
        .ok_or_else(unknown)?;
    if row.get(4) {
        return Err(Refused::unprocessable("flow_state_expired", "this login took too long: begin it again"));
    }
    let back = may_return(row.get(3), &app.config.public_url).ok_or_else(unknown)?;
    Ok(Flow { id: row.get(0), provider: row.get(1), nonce: row.get(2), back })
}

/// From the provider's answer to the code that the client exchanges.
async fn finish(app: &App, flow: &Flow, back: Back, origin: &Origin) -> Result<String, Refused> {
    let provider = find_provider(app, &flow.provider)?;
    if let Some(error) = back.error {
        return Err(if error == "access_denied" {
            Refused::forbidden("access_denied", "the login was refused at the provider")
        } else {
            Refused::bad("bad_oauth_callback", "the provider reports an error: begin the login again")
        });
    }
    let code = back.code.ok_or_else(|| Refused::bad("bad_oauth_callback", "the provider sent no code"))?;
    let person = oidc::redeem(app, provider, &code, &callback_url(app), &flow.nonce).await?;
    let mut client = app.db.auth.get().await?;
    let tx = client.transaction().await?;
    let user = find_or_make(&tx, provider, &person, origin).await?;
    let code = random_uuid()?;
    tx.execute(
        "update auth.flow_state set user_id = $2::text::uuid, auth_code = $3, auth_code_issued_at = now()
         where id = $1::text::uuid",
        &[&flow.id, &user, &digest(&code)],
    )
    .await?;
    tx.commit().await?;
    Ok(code)
}

async fn find_or_make(
    tx: &deadpool_postgres::Transaction<'_>,
    provider: &Provider,
    person: &Person,
    origin: &Origin,
) -> Result<String, Refused> {
    let data = json!({
        "iss": provider.issuer, "sub": person.subject, "email": person.email,
        "email_verified": person.email_verified == Some(true),
    });
    let known = tx
        .query_opt(
            "update auth.identities set last_sign_in_at = now(), updated_at = now(), identity_data = $3
             where provider = $1 and provider_id = $2 returning user_id::text",
            &[&provider.name, &person.subject, &data],
        )
        .await?;
    if let Some(known) = known {
        return Ok(known.get(0));
    }
    if person.email_verified == Some(false) {
        let message = "the provider has not verified the mail address: do that there first";
        return Err(Refused::unprocessable("provider_email_needs_verification", message));
    }
    let email = person.email.as_deref().and_then(|email| user::check_email(email).ok());
    let email = email.ok_or_else(|| {
        Refused::unprocessable(
            "email_address_not_provided",
            "the provider names no mail address for this account",
        )
    })?;
    let made = tx
        .query_opt(
            "insert into auth.users (email, email_confirmed_at, raw_app_meta_data)
             values (lower($1), case when $2 then now() end,
                     jsonb_build_object('provider', $3::text, 'providers', jsonb_build_array($3::text)))
             on conflict (email) where not is_sso_user do nothing returning id::text",
            &[&email, &(person.email_verified == Some(true)), &provider.name],
        )
        .await?;
    // Never joined by address: whoever registered it first, with a password, would own the account, too.
    let made = made.ok_or_else(|| {
        Refused::unprocessable(
            "email_exists",
            "there is an account with this address: log in to it as it was made",
        )
    })?;
    let id: String = made.get(0);
    let added = tx
        .execute(
            "insert into auth.identities (provider_id, user_id, provider, identity_data, last_sign_in_at)
             values ($1, $2::text::uuid, $3, $4, now()) on conflict (provider_id, provider) do nothing",
            &[&person.subject, &id, &provider.name, &data],
        )
        .await?;
    if added == 0 {
        return Err(Refused::unprocessable("conflict", "two first logins at once: begin this one again"));
    }
    audit(tx, origin, "user_signedup", Some(&id), json!({"provider": provider.name})).await?;
    Ok(id)
}

/// `grant_type=pkce`: the code and its verifier for a session at aal1.
pub(super) async fn exchange(app: &App, asked: Exchange, origin: &Origin) -> Result<Value, Refused> {
    let mut client = app.db.auth.get().await?;
    let tx = client.transaction().await?;
    let row = tx
        .query_opt(
            "select f.id::text, f.user_id::text, f.code_challenge, f.provider_type,
                    f.auth_code_issued_at < now() - make_interval(secs => $2),
                    coalesce(u.banned_until > now(), false)
             from auth.flow_state f join auth.users u on u.id = f.user_id
             where f.auth_code = $1 for update of f",
            &[&digest(&asked.auth_code.0), &LIFE],
        )
        .await?
        .ok_or_else(|| {
            Refused::not_found(
                "flow_state_not_found",
                "this code is unknown or was used: begin the login again",
            )
        })?;
    let (id, user, challenge, provider): (String, String, String, String) =
        (row.get(0), row.get(1), row.get(2), row.get(3));
    if row.get(4) {
        return Err(Refused::unprocessable(
            "flow_state_expired",
            "this code is too old: begin the login again",
        ));
    }
    let proof = URL_SAFE_NO_PAD.encode(Sha256::digest(&asked.code_verifier.0));
    if !is_pkce(&asked.code_verifier.0) || !bool::from(proof.as_bytes().ct_eq(challenge.as_bytes())) {
        return Err(Refused::bad("bad_code_verifier", "code_verifier does not fit the code"));
    }
    if row.get(5) {
        return Err(Refused::bad("user_banned", "this account is locked"));
    }
    tx.execute("delete from auth.flow_state where id = $1::text::uuid", &[&id]).await?;
    audit(&tx, origin, "login", Some(&user), json!({"provider": provider})).await?;
    let answer = session::start(app, &tx, &user, "oauth", origin).await?;
    tx.commit().await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_ends_on_loopback_or_at_home() {
        let site = "https://backup.example";
        for good in [
            "http://127.0.0.1:4711/abc",
            "http://127.9.9.9/",
            "http://[::1]:5/x",
            "https://backup.example/done?a=b",
        ] {
            assert!(may_return(good, site).is_some(), "{good}");
        }
        for bad in [
            "https://evil.example/",
            "http://evil.example:80/127.0.0.1",
            "http://127.0.0.1@evil.example/",
            "http://user@127.0.0.1/",
            "http://127.0.0.1.evil.example/",
            "http://localhost:1/",
            "https://127.0.0.1/",
            "http://0.0.0.0/",
            "http://[::ffff:127.0.0.1]/",
            "http://backup.example/",
            "https://backup.example.evil.example/",
            "https://backup.example:444/",
            "//evil.example",
            "javascript:alert(1)",
            "data:text/html,x",
            "http://127.0.0.1/#fragment",
            "",
        ] {
            assert!(may_return(bad, site).is_none(), "{bad}");
        }
    }

    #[test]
    fn pkce_has_its_length_and_characters() {
        assert!(is_pkce(&"a".repeat(43)) && is_pkce(&"~".repeat(128)));
        for bad in ["a".repeat(42), "a".repeat(129), "a+".repeat(30), "ä".repeat(30)] {
            assert!(!is_pkce(&bad));
        }
    }
}
