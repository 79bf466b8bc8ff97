//! The way of a login through a provider, step by step, as browser and client go it.
use crate::auth_world::{Answer, Client, World};
use backupengine_tests::provider::{Idp, Signer};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use serde_json::json;
use sha2::{Digest, Sha256};
use url::Url;

/// Where a client listens. Nobody does: only the address is looked at.
pub(crate) const LISTENER: &str = "http://127.0.0.1:4711/a-random-path";
pub(crate) const VERIFIER: &str = "a-verifier-of-43-characters-or-more-0123456789";

pub(crate) fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

pub(crate) async fn start() -> (World, Idp) {
    let idp = Idp::start(Signer::es256("key-1")).await;
    let provider = idp.settings("google");
    (World::with(|config| config.providers.push(provider)).await, idp)
}

pub(crate) fn path(pairs: &[(&str, &str)]) -> String {
    let all = [
        ("provider", "google"),
        ("redirect_to", LISTENER),
        ("code_challenge", &challenge(VERIFIER)),
        ("code_challenge_method", "s256"),
    ];
    let kept = all.iter().filter(|(name, _)| !pairs.iter().any(|(other, _)| other == name));
    let said = pairs.iter().filter(|(_, value)| *value != "-");
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(kept.chain(said)).finish();
    format!("/authorize?{query}")
}

pub(crate) async fn get(client: &Client, path: &str) -> Answer {
    client.send(client.request(Method::GET, path)).await
}

/// As far as the provider sends the browser back to us.
pub(crate) async fn to_callback(client: &Client, pairs: &[(&str, &str)]) -> Url {
    let to_provider = get(client, &path(pairs)).await.location();
    get(client, to_provider.as_str()).await.location()
}

/// As far as we send the browser back to the client.
pub(crate) async fn to_client(client: &Client) -> Url {
    let callback = to_callback(client, &[]).await;
    get(client, callback.as_str()).await.location()
}

pub(crate) fn param(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

pub(crate) fn code(url: &Url) -> String {
    assert!(url.as_str().starts_with(LISTENER), "{}", url.path());
    param(url, "code").unwrap_or_else(|| panic!("{:?}", param(url, "error_code")))
}

/// The error with which the browser comes back to the client, in query and fragment alike.
#[track_caller]
pub(crate) fn error(url: &Url) -> String {
    assert!(url.as_str().starts_with(LISTENER));
    assert_eq!(param(url, "code"), None);
    let code = param(url, "error_code").unwrap();
    let fragment: Vec<_> = url::form_urlencoded::parse(url.fragment().unwrap().as_bytes()).collect();
    assert!(fragment.iter().any(|(name, value)| name == "error_code" && *value == code));
    assert!(fragment.iter().any(|(name, value)| name == "error_description" && !value.is_empty()));
    assert!(param(url, "error").is_some());
    code
}

pub(crate) async fn exchange(client: &Client, code: &str, verifier: &str) -> Answer {
    client.post("/token?grant_type=pkce", json!({"auth_code": code, "code_verifier": verifier})).await
}
