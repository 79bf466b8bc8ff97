//! Who asks: the device's signature over the request, and the proof of a vault's root key.
//!
//! May not believe a Host header: the authority and what stands before our paths come from the public address in
//! the settings. Tested in `tests/server`, against an independent implementation.

use super::{Refused, call};
use crate::app::App;
use axum::http::HeaderMap;
use backupengine_api::signature::{self, Headers, Message, SignatureError};
use backupengine_api::{ApproveDevice, Code, EnrollDevice, OPERATIONS_PATH, Opaque, OperationInfo};
use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use url::Url;

/// How many keys are remembered; then all are forgotten.
const KEYS_MAX: usize = 16_384;

/// Public keys by their ids. An id is the hash of its key: what is remembered here cannot become wrong, and whether
/// the device may still do anything is SQL's to say.
#[derive(Default)]
pub(super) struct DeviceKeys(Mutex<HashMap<[u8; 32], [u8; 32]>>);

impl DeviceKeys {
    async fn find(&self, app: &App, id: [u8; 32]) -> Result<[u8; 32], Refused> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied();
        if let Some(key) = known {
            return Ok(key);
        }
        let found = call::device_key(app, &super::hex(&id)).await?;
        let key = found.as_deref().and_then(key_of).filter(|key| signature::key_id(key) == id);
        let key = key.ok_or_else(|| Refused::of(Code::UnknownDevice))?;
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= KEYS_MAX {
            keys.clear();
        }
        keys.insert(id, key);
        Ok(key)
    }
}

/// 32 bytes from 64 hexadecimal digits.
fn key_of(text: &str) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    if text.len() != 64 || !text.bytes().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    for (index, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(key)
}

/// What was asked, as it was sent.
pub(super) struct Asked<'a> {
    pub(super) operation: &'a OperationInfo,
    pub(super) query: &'a str,
    pub(super) authorization: &'a str,
    pub(super) body: &'a [u8],
}

/// What a signature proved.
pub(super) struct Proven {
    /// The key's id.
    pub(super) key: [u8; 32],
    pub(super) nonce: [u8; 16],
}

/// Verifies the device's signature over the request.
pub(super) async fn verify(
    app: &App,
    keys: &DeviceKeys,
    headers: &HeaderMap,
    asked: &Asked<'_>,
) -> Result<Proven, Refused> {
    let public = Url::parse(&app.config.public_url).map_err(|_| Refused::of(Code::Internal))?;
    let (authority, path) = place(&public, asked.operation.name);
    let message = Message {
        method: "POST",
        authority: &authority,
        path: &path,
        query: asked.query,
        body: asked.body,
        authorization: asked.authorization,
    };
    let text = |name| single(headers, name).ok_or_else(|| refused(SignatureError::NotTheProfile));
    let sent = Headers {
        content_digest: text("content-digest")?,
        signature_input: text("signature-input")?,
        signature: text("signature")?,
    };
    let claimed = signature::read(&message, &sent).map_err(refused)?;
    claimed.check_time(now()).map_err(refused)?;
    let id = claimed.params.key;
    let key = match asked.operation.name {
        "device-enroll" => enrolling(asked.body, id)?,
        _ => keys.find(app, id).await?,
    };
    if !holds(&key, &claimed.base, &claimed.signature) {
        return Err(Refused::of(Code::BadSignature));
    }
    Ok(Proven { key: id, nonce: claimed.params.nonce })
}

/// Authority and path as clients see them.
fn place(public: &Url, operation: &str) -> (String, String) {
    // `Url` writes hosts in lower case and leaves out the scheme's own port.
    let host = public.host_str().unwrap_or_default();
    let authority = public.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    (authority, format!("{}{OPERATIONS_PATH}{operation}", public.path().trim_end_matches('/')))
}

/// A header that was sent once.
fn single(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok().map(str::to_owned),
        _ => None,
    }
}

fn refused(error: SignatureError) -> Refused {
    match error {
        SignatureError::ClockSkew => Refused::of(Code::ClockSkew),
        other => {
            let text = other.to_string();
            let mut letters = text.chars();
            let first = letters.next().map(|letter| letter.to_ascii_uppercase());
            Refused::new(
                Code::BadSignature,
                first.into_iter().chain(letters).chain(['.']).collect::<String>(),
            )
        }
    }
}

/// The key of a device that is about to become known: it stands in the body that it signed.
fn enrolling(body: &[u8], id: [u8; 32]) -> Result<[u8; 32], Refused> {
    let asked: EnrollDevice = serde_json::from_slice(body)
        .map_err(|_| Refused::new(Code::BadRequest, "The body of the request is no enrolment."))?;
    let key = asked.sign_public.0.try_into().ok().filter(|key| signature::key_id(key) == id);
    key.ok_or_else(|| Refused::new(Code::BadSignature, "The enrolled key is not the one that signed."))
}

/// Strict: no key of small order, one form of a signature.
fn holds(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    let key = VerifyingKey::from_bytes(key);
    key.is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The vault's root key, hexadecimal, where `device-approve` carries a signature of it that holds for exactly this
/// device, these keys and this role. Anything else proves nothing, and SQL goes by the caller's role.
pub(super) async fn proven_root(
    app: &App,
    claims: &Map<String, Value>,
    args: &Value,
) -> Result<Option<String>, Refused> {
    let asked: ApproveDevice =
        serde_json::from_value(args.clone()).map_err(|_| Refused::of(Code::BadRequest))?;
    let Some(signature) = asked.root_signature else { return Ok(None) };
    let Ok(signature) = <[u8; 64]>::try_from(signature.0) else { return Ok(None) };
    let (vault, device) = (asked.vault.to_string(), asked.device.to_string());
    let (root, public) = call::approval_keys(app, claims, &vault, &device).await?;
    let half = |name: &str| public.as_ref().and_then(|public| public_key(public.get(name)?));
    let (Some(text), Some(sign), Some(seal)) = (root, half("sign_public"), half("seal_public")) else {
        return Ok(None);
    };
    let message = signature::approval_message(&asked.vault.0, &sign, &seal, &asked.role);
    let proven = key_of(&text).is_some_and(|root| holds(&root, &message, &signature));
    Ok(proven.then_some(text))
}

fn public_key(value: &Value) -> Option<[u8; 32]> {
    serde_json::from_value::<Opaque>(value.clone()).ok()?.0.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_address_alone_says_where_we_are() {
        let at = |url: &str| place(&Url::parse(url).unwrap(), "mount");
        let path = "/functions/v1/backupengine/mount".to_owned();
        assert_eq!(at("https://Backup.Example.org"), ("backup.example.org".to_owned(), path.clone()));
        assert_eq!(at("https://backup.example.org:443/").0, "backup.example.org");
        assert_eq!(at("http://127.0.0.1:80").0, "127.0.0.1");
        assert_eq!(at("http://127.0.0.1:8443"), ("127.0.0.1:8443".to_owned(), path.clone()));
        assert_eq!(at("https://[::1]:8443").0, "[::1]:8443");
        assert_eq!(at("https://example.org/be/").1, format!("/be{path}"));
    }

    #[test]
    fn keys_of_small_order_sign_nothing() {
        // The neutral element verifies almost anything under the lax rule.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert!(!holds(&neutral, b"anything", &signature));
    }

    #[test]
    fn keys_are_64_hexadecimal_digits() {
        assert_eq!(key_of(&"0a".repeat(32)), Some([10; 32]));
        for bad in ["", "0a", &"zz".repeat(32), &"é".repeat(32), &"+a".repeat(32)] {
            assert_eq!(key_of(bad), None, "{bad}");
        }
    }
}
