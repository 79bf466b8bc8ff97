//! Talking to OpenID providers: what they say about themselves, the exchange of a code, the proof of who logged in.
//!
//! **What always holds.** Everything goes over TLS; plain HTTP is allowed on loopback only. An id_token counts only
//! if the provider's own key signed it with RS256 or ES256, for this client, in time, and for this very login (nonce).
//! Nothing a provider sends is repeated in a log.
//! **Where it is tested.** `tests/server/auth_oauth.rs`, against a provider on loopback.
use super::keys::digest;
use super::refused::Refused;
use crate::ServerError;
use crate::app::App;
use crate::config::Provider;
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;
use url::{Host, Url};

/// For how long what a provider said is believed.
const KEPT: Duration = Duration::from_secs(600);
/// How soon it is asked again when a key is unknown: forged tokens must not make us ask each time.
const ASK_AGAIN: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_MAX: usize = 1 << 20;

/// What providers said, by name.
#[derive(Default)]
pub(super) struct Discoveries(Mutex<HashMap<String, Arc<Discovery>>>);

/// What one said.
pub(super) struct Discovery {
    at: Instant,
    pub(super) authorization: Url,
    token: Url,
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct Keyring {
    keys: Vec<Value>,
}

/// Whether a provider in the settings can be used.
pub(super) fn check_provider(provider: &Provider) -> Result<(), ServerError> {
    let problem = |text: &str| ServerError::Setting {
        setting: format!("provider {}", provider.name),
        problem: text.to_owned(),
    };
    if provider.name.is_empty()
        || !provider.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    {
        return Err(problem("its name has to be of small letters and digits"));
    }
    if provider.name == "email" {
        return Err(problem("this name is taken by accounts with a password"));
    }
    let issuer = Url::parse(&provider.issuer).map_err(|_| problem("its issuer is no address"))?;
    if !is_safe(&issuer, &issuer) {
        return Err(problem("its issuer has to be https; plain http is for loopback only"));
    }
    if provider.client_id.is_empty() {
        return Err(problem("its client id is empty"));
    }
    Ok(())
}

/// Whether the address is https, or plain http to loopback for an issuer that is there, too.
fn is_safe(url: &Url, issuer: &Url) -> bool {
    url.scheme() == "https"
        || url.scheme() == "http" && is_loopback(url) && issuer.scheme() == "http" && is_loopback(issuer)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn unreachable(provider: &Provider, step: &'static str) -> Refused {
    tracing::warn!(provider = provider.name, step, "a provider cannot be used");
    Refused::unavailable(format!("the provider {} cannot be used now: try again later", provider.name))
}

/// What the provider says about itself; `again` where its keys may have changed.
pub(super) async fn discover(app: &App, provider: &Provider, again: bool) -> Result<Arc<Discovery>, Refused> {
    let kept = app.keys.discoveries.0.lock().ok().and_then(|known| known.get(&provider.name).cloned());
    let longest = if again { ASK_AGAIN } else { KEPT };
    if let Some(kept) = kept.filter(|kept| kept.at.elapsed() < longest) {
        return Ok(kept);
    }
    let failed = |step| move || unreachable(provider, step);
    let issuer = Url::parse(&provider.issuer).map_err(|_| failed("issuer")())?;
    let place = format!("{}/.well-known/openid-configuration", provider.issuer.trim_end_matches('/'));
    let document: Document = get(app, &place).await.ok_or_else(failed("discovery"))?;
    if document.issuer != provider.issuer {
        return Err(unreachable(provider, "discovery names another issuer"));
    }
    let place = |text: &str| Url::parse(text).ok().filter(|url| is_safe(url, &issuer));
    let (Some(authorization), Some(token), Some(keys)) =
        (place(&document.authorization_endpoint), place(&document.token_endpoint), place(&document.jwks_uri))
    else {
        return Err(unreachable(provider, "discovery names an unsafe address"));
    };
    let keyring: Keyring = get(app, keys.as_str()).await.ok_or_else(failed("keys"))?;
    let found = Arc::new(Discovery {
        at: Instant::now(),
        authorization,
        token,
        // Kinds of keys that we do not know are not for us.
        keys: keyring.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).collect(),
    });
    if let Ok(mut known) = app.keys.discoveries.0.lock() {
        known.insert(provider.name.clone(), Arc::clone(&found));
    }
    Ok(found)
}

async fn get<T: DeserializeOwned>(app: &App, place: &str) -> Option<T> {
    read(app.http.get(place).timeout(TIMEOUT).send().await.ok()?).await
}

async fn read<T: DeserializeOwned>(mut response: reqwest::Response) -> Option<T> {
    if !response.status().is_success() {
        return None;
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_MAX {
            return None;
        }
    }
    serde_json::from_slice(&body).ok()
}

#[derive(Serialize)]
struct CodeGrant<'a> {
    grant_type: &'static str,
    code: &'a str,
    redirect_uri: &'a str,
    client_id: &'a str,
    client_secret: &'a str,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: String,
}

/// Who logged in, as the provider swears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    /// The provider's own id of the person.
    pub(super) subject: String,
    /// Where mail goes, if it says so.
    pub(super) email: Option<String>,
    /// Whether the provider has checked that; `None` where it does not say.
    pub(super) email_verified: Option<bool>,
}

/// Exchanges the code for an id_token and verifies it. `nonce`: the digest of what the provider was sent.
pub(super) async fn redeem(
    app: &App,
    provider: &Provider,
    code: &str,
    redirect_uri: &str,
    nonce: &str,
) -> Result<Person, Refused> {
    let mut discovery = discover(app, provider, false).await?;
    let form = CodeGrant {
        grant_type: "authorization_code",
        code,
        redirect_uri,
        client_id: &provider.client_id,
        client_secret: provider.client_secret.expose(),
    };
    let request = app.http.post(discovery.token.clone()).timeout(TIMEOUT).form(&form);
    let response = request.send().await.map_err(|_| unreachable(provider, "token"))?;
    if response.status().is_client_error() {
        tracing::warn!(
            provider = provider.name,
            status = response.status().as_u16(),
            "a provider refused a code"
        );
        return Err(Refused::bad(
            "bad_oauth_callback",
            "the provider refused its own code: begin the login again",
        ));
    }
    let Some(Tokens { id_token }) = read(response).await else {
        return Err(unreachable(provider, "token answer"));
    };
    if key_of(&discovery, &id_token).is_none() {
        discovery = discover(app, provider, true).await?;
    }
    verify(&discovery, provider, &id_token, nonce).ok_or_else(|| {
        tracing::warn!(provider = provider.name, "an id_token does not verify");
        Refused::forbidden(
            "bad_oauth_callback",
            "what the provider swears does not verify: begin the login again",
        )
    })
}

/// The key that a token names, and how it is signed.
fn key_of<'a>(discovery: &'a Discovery, token: &str) -> Option<(&'a Jwk, Algorithm)> {
    let header = jsonwebtoken::decode_header(token).ok()?;
    if !matches!(header.alg, Algorithm::RS256 | Algorithm::ES256) {
        return None;
    }
    let key = match &header.kid {
        Some(kid) => discovery.keys.iter().find(|key| key.common.key_id.as_ref() == Some(kid)),
        // Without a name it has to be the only one.
        None => discovery.keys.first().filter(|_| discovery.keys.len() == 1),
    }?;
    let signs = key.common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
    signs.then_some((key, header.alg))
}

fn verify(discovery: &Discovery, provider: &Provider, token: &str, nonce: &str) -> Option<Person> {
    let (key, algorithm) = key_of(discovery, token)?;
    let mut rules = Validation::new(algorithm);
    rules.leeway = 30;
    rules.set_issuer(&[&provider.issuer]);
    rules.set_audience(&[&provider.client_id]);
    rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    let key = DecodingKey::from_jwk(key).ok()?;
    let claims = jsonwebtoken::decode::<Map<String, Value>>(token, &key, &rules).ok()?.claims;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let several = claims.get("aud").and_then(Value::as_array).is_some_and(|all| all.len() > 1);
    let party = text("azp");
    if several && party.is_none() || party.is_some_and(|party| party != provider.client_id) {
        return None;
    }
    let sent = digest(text("nonce")?);
    if !bool::from(sent.as_bytes().ct_eq(nonce.as_bytes())) {
        return None;
    }
    let subject = text("sub")
        .filter(|subject| !subject.is_empty() && subject.len() <= 255 && !subject.contains('\0'))?;
    // Apple says "true", others true.
    let email_verified = claims.get("email_verified").and_then(|said| match said {
        Value::Bool(said) => Some(*said),
        Value::String(said) => Some(said == "true"),
        _ => None,
    });
    Some(Person { subject: subject.to_owned(), email: text("email").map(str::to_owned), email_verified })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn plain_http_is_for_loopback_only() {
        for (issuer, ok) in [
            ("https://accounts.example", true),
            ("http://127.0.0.1:9", true),
            ("http://localhost:9", true),
            ("http://[::1]:9", true),
            ("http://accounts.example", false),
            ("http://127.0.0.1.example", false),
            ("http://127.0.0.1@accounts.example", false),
            ("ftp://127.0.0.1", false),
            ("accounts.example", false),
        ] {
            let provider = Provider {
                name: "google".into(),
                issuer: issuer.into(),
                client_id: "id".into(),
                client_secret: Secret::new("hunter2".into()),
            };
            let checked = check_provider(&provider);
            assert_eq!(checked.is_ok(), ok, "{issuer}");
            assert!(!format!("{checked:?}").contains("hunter2"));
        }
    }

    #[test]
    fn a_provider_on_the_net_cannot_send_us_to_loopback() {
        let (far, near) =
            (Url::parse("https://a.example").unwrap(), Url::parse("http://127.0.0.1:1").unwrap());
        assert!(!is_safe(&near, &far));
        assert!(is_safe(&far, &near));
    }
}
