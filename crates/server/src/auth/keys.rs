//! Keys of identity: the one that signs access tokens, and the ones that guard what the database keeps.
//!
//! **What always holds.** A token is accepted only if it names our key, is signed with ES256 by it, comes from this
//! issuer, is for this audience and is in time. No other algorithm is ever tried. No key is printed.
//! **Where it is tested.** Below and in `tests/server/auth_jwt.rs`.
use super::oidc::Discoveries;
use crate::ServerError;
use crate::config::{Auth, Secret};
use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use backupengine_api::Code;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use p256::elliptic_curve::sec1::ToSec1Point;
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::time::Duration;
use zeroize::Zeroizing;

/// Who access tokens are for.
pub(super) const AUDIENCE: &str = "authenticated";
/// How far clocks may be apart.
const LEEWAY: Duration = Duration::from_secs(30);

/// Signs and verifies access tokens; seals what the database keeps of second factors.
pub struct Keys {
    signing: EncodingKey,
    verifying: DecodingKey,
    key_id: String,
    jwks: Value,
    issuer: String,
    totp: Aes256Gcm,
    refresh: Zeroizing<[u8; 32]>,
    /// What providers said about themselves, for a while.
    pub(super) discoveries: Discoveries,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(secret)")
    }
}

impl Keys {
    /// From the settings; `public_url` is the issuer's base (`<public_url>/auth/v1`).
    ///
    /// # Errors
    /// [`ServerError::Setting`].
    pub fn new(auth: &Auth, public_url: &str) -> Result<Self, ServerError> {
        if auth.confirm_mail {
            return Err(setting("confirm_mail", "this server sends no mail: it has to be off"));
        }
        let key = p256::SecretKey::from_pkcs8_pem(auth.jwt_key.expose())
            .map_err(|_| setting("jwt_key", "it is no P-256 private key in PKCS#8 PEM"))?;
        let signing = EncodingKey::from_ec_pem(auth.jwt_key.expose().as_bytes())
            .map_err(|_| setting("jwt_key", "it is no P-256 private key in PKCS#8 PEM"))?;
        let point = key.public_key().to_sec1_point(false);
        let (Some(x), Some(y)) = (point.x(), point.y()) else {
            return Err(setting("jwt_key", "its public half is no point"));
        };
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let verifying = DecodingKey::from_ec_components(&x, &y)
            .map_err(|_| setting("jwt_key", "its public half does not read"))?;
        // RFC 7638: the required members in order, without blanks.
        let thumbprint = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let key_id = URL_SAFE_NO_PAD.encode(Sha256::digest(thumbprint));
        let jwks = json!({"keys": [{
            "kty": "EC", "crv": "P-256", "x": x, "y": y, "alg": "ES256", "use": "sig", "key_ops": ["verify"],
            "kid": key_id,
        }]});
        let mut master = Zeroizing::new([0; 32]);
        if !read_hex(auth.totp_key.expose(), &mut *master) {
            return Err(setting("totp_key", "it is not 32 bytes as 64 hexadecimal digits"));
        }
        for provider in &auth.providers {
            super::oidc::check_provider(provider)?;
        }
        Ok(Self {
            signing,
            verifying,
            key_id,
            jwks,
            issuer: format!("{public_url}/auth/v1"),
            totp: Aes256Gcm::new(&(*master).into()),
            refresh: Zeroizing::new(blake3::derive_key("backupengine-server 2026 refresh tokens", &*master)),
            discoveries: Discoveries::default(),
        })
    }

    /// A new key for tokens, as the setting `jwt_key` wants it.
    ///
    /// # Errors
    /// Where the system gives no random bytes.
    pub fn generate() -> Result<Secret, ServerError> {
        let no_random = |_| ServerError::Other("the system gives no random bytes".into());
        let mut bytes = Zeroizing::new([0; 32]);
        loop {
            getrandom::fill(&mut *bytes).map_err(no_random)?;
            // Zero and what exceeds the order are no keys; one in 2^32 at most.
            let Ok(key) = p256::SecretKey::from_slice(&*bytes) else { continue };
            let pem = key
                .to_pkcs8_pem(LineEnding::LF)
                .map_err(|_| ServerError::Other("the new key does not encode".into()))?;
            return Ok(Secret::new(pem.as_str().to_owned()));
        }
    }

    /// Verifies a token: ES256 by key id, issuer, audience, time. Never `none`, never HS256.
    ///
    /// # Errors
    /// [`Code::BadToken`], [`Code::TokenExpired`].
    pub fn verify(&self, token: &str) -> Result<Map<String, Value>, Code> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| Code::BadToken)?;
        if header.alg != Algorithm::ES256 || header.kid.as_deref() != Some(self.key_id.as_str()) {
            return Err(Code::BadToken);
        }
        let mut rules = Validation::new(Algorithm::ES256);
        rules.leeway = LEEWAY.as_secs();
        rules.validate_nbf = true;
        rules.set_issuer(&[&self.issuer]);
        rules.set_audience(&[AUDIENCE]);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        match jsonwebtoken::decode::<Map<String, Value>>(token, &self.verifying, &rules) {
            Ok(data) => Ok(data.claims),
            Err(error) if matches!(error.kind(), ErrorKind::ExpiredSignature) => Err(Code::TokenExpired),
            Err(_) => Err(Code::BadToken),
        }
    }

    /// The public keys, as `/.well-known/jwks.json` serves them.
    pub fn jwks(&self) -> Value {
        self.jwks.clone()
    }

    /// Who issues: `<public_url>/auth/v1`.
    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Signs an access token.
    pub(super) fn sign(&self, claims: &Value) -> Option<String> {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.key_id.clone());
        jsonwebtoken::encode(&header, claims, &self.signing).ok()
    }

    /// The refresh token of a row with this salt: 256 bits that nobody can compute from the database alone.
    pub(super) fn refresh_token(&self, session: &str, salt: &[u8]) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.refresh);
        hasher.update(session.as_bytes()).update(&[0]).update(salt);
        URL_SAFE_NO_PAD.encode(hasher.finalize().as_bytes())
    }

    /// Seals the secret of a factor for the database.
    pub(super) fn seal_totp(&self, factor: &str, secret: &[u8]) -> Option<String> {
        let mut nonce = [0; 12];
        getrandom::fill(&mut nonce).ok()?;
        let payload = Payload { msg: secret, aad: factor.as_bytes() };
        let sealed = self.totp.encrypt(&nonce.into(), payload).ok()?;
        Some(URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat()))
    }

    /// Opens it again; `None` where it was sealed under another key or for another factor.
    pub(super) fn open_totp(&self, factor: &str, sealed: &str) -> Option<Zeroizing<Vec<u8>>> {
        let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<12>()?;
        let payload = Payload { msg: sealed, aad: factor.as_bytes() };
        self.totp.decrypt(&(*nonce).into(), payload).ok().map(Zeroizing::new)
    }
}

/// SHA-256 of a token, as the database keeps it.
pub(super) fn digest(secret: &str) -> String {
    Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads exactly as many bytes as fit; `false` where the text is anything else.
fn read_hex(text: &str, into: &mut [u8]) -> bool {
    let digits = text.as_bytes();
    let value = |digit: u8| char::from(digit).to_digit(16);
    digits.len() == 2 * into.len()
        && into.iter_mut().zip(digits.chunks_exact(2)).all(|(byte, pair)| {
            match (value(pair[0]), value(pair[1])) {
                (Some(high), Some(low)) => {
                    *byte = (high << 4 | low) as u8;
                    true
                }
                _ => false,
            }
        })
}

fn setting(name: &str, problem: &str) -> ServerError {
    ServerError::Setting { setting: name.to_owned(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(totp_key: &str) -> Auth {
        Auth {
            jwt_key: Keys::generate().unwrap(),
            totp_key: Secret::new(totp_key.to_owned()),
            access_life: Duration::from_secs(3600),
            reuse_window: Duration::from_secs(10),
            confirm_mail: false,
            password_cost: (8, 1),
            providers: Vec::new(),
        }
    }

    fn keys() -> Keys {
        Keys::new(&auth(&"5a".repeat(32)), "http://127.0.0.1:1").unwrap()
    }

    fn claims() -> Value {
        json!({"iss": "http://127.0.0.1:1/auth/v1", "aud": "authenticated", "sub": "s", "exp": 4_000_000_000_i64})
    }

    #[test]
    fn a_token_of_ours_verifies_and_another_servers_does_not() {
        let (ours, other) = (keys(), keys());
        let token = ours.sign(&claims()).unwrap();
        assert_eq!(ours.verify(&token).unwrap()["sub"], "s");
        assert_eq!(other.verify(&token), Err(Code::BadToken));
    }

    #[test]
    fn every_claim_that_is_pinned_is_checked() {
        let keys = keys();
        for (name, value) in [
            ("iss", json!("http://127.0.0.1:2/auth/v1")),
            ("aud", json!("anon")),
            ("nbf", json!(3_999_999_999_i64)),
            ("iss", Value::Null),
            ("aud", Value::Null),
            ("sub", Value::Null),
            ("exp", Value::Null),
        ] {
            let mut claims = claims();
            match &value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value.clone(),
            }
            assert_eq!(keys.verify(&keys.sign(&claims).unwrap()), Err(Code::BadToken), "{name} {value}");
        }
    }

    #[test]
    fn a_token_ends_half_a_minute_after_its_time() {
        let keys = keys();
        let now = super::super::session::now();
        let at = |exp: i64| {
            let mut claims = claims();
            claims["exp"] = json!(exp);
            keys.verify(&keys.sign(&claims).unwrap()).map(|_| ())
        };
        assert_eq!(at(now - 20), Ok(()));
        assert_eq!(at(now - 40), Err(Code::TokenExpired));
    }

    #[test]
    fn a_sealed_secret_opens_only_for_its_factor_and_key() {
        let (ours, other) = (keys(), Keys::new(&auth(&"5b".repeat(32)), "http://127.0.0.1:1").unwrap());
        let sealed = ours.seal_totp("factor", b"secret").unwrap();
        assert_eq!(ours.open_totp("factor", &sealed).unwrap().as_slice(), b"secret");
        assert_ne!(sealed, ours.seal_totp("factor", b"secret").unwrap(), "the nonce is random");
        assert!(ours.open_totp("another", &sealed).is_none());
        assert!(other.open_totp("factor", &sealed).is_none());
        assert!(ours.open_totp("factor", "AAAA").is_none());
    }

    #[test]
    fn settings_that_do_not_read_are_named_and_not_shown() {
        for (mut auth, name) in [(auth("5a"), "totp_key"), (auth(&"zz".repeat(32)), "totp_key")]
            .into_iter()
            .chain([(auth(&"5a".repeat(32)), "jwt_key"), (auth(&"5a".repeat(32)), "confirm_mail")])
        {
            match name {
                "jwt_key" => auth.jwt_key = Secret::new("-----BEGIN hunter2".into()),
                "confirm_mail" => auth.confirm_mail = true,
                _ => {}
            }
            let error = Keys::new(&auth, "http://127.0.0.1:1").unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
            assert!(!error.contains("hunter2") && !error.contains("5a") && !error.contains("zz"), "{error}");
        }
        assert_eq!(format!("{:?}", keys()), "Keys(secret)");
    }
}
