//! How a device signs a request: RFC 9421 (HTTP message signatures) with RFC 9530 (content digest), one fixed
//! profile; anything else is refused.
//!
//! **What it is.** Ed25519 under the label `dev` over method, authority, path, query, content digest and
//! authorization, in this order, with created, expires, nonce, alg, keyid and tag. Covering `authorization` ties
//! the bearer token to the device.
//! **What it may not do.** Hold a key or know a clock: both are handed in.
//! **What always holds.** What [`read`] accepts is, byte for byte, what [`sign`] would have written.
//! **Where it is tested.** Below; `tests/server` against an independent implementation.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Value of the `tag` parameter.
pub const TAG: &str = "backupengine-device-v1";
/// How long a signature may say it lives, in seconds.
pub const LIFE_SECONDS: i64 = 60;
/// How far in the past `created` may lie, in seconds.
pub const PAST_SECONDS: i64 = 120;
/// How far in the future `created` may lie, in seconds.
pub const FUTURE_SECONDS: i64 = 60;

const COMPONENTS: &str = r#"("@method" "@authority" "@path" "@query" "content-digest" "authorization")"#;

/// What is signed of a request.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    /// In capitals.
    pub method: &'a str,
    /// Host of the public base address, in lower case, with the port where it is not the scheme's own.
    pub authority: &'a str,
    /// Absolute path.
    pub path: &'a str,
    /// Query without its question mark; empty where there is none.
    pub query: &'a str,
    /// The body; may be empty.
    pub body: &'a [u8],
    /// Value of the `Authorization` header.
    pub authorization: &'a str,
}

impl std::fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message({} {})", self.method, self.path)
    }
}

/// Parameters of a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// When it was made, seconds since 1970 by the server's clock as the client knows it.
    pub created: i64,
    /// When it ends: at most [`LIFE_SECONDS`] later.
    pub expires: i64,
    /// Random.
    pub nonce: [u8; 16],
    /// See [`key_id`].
    pub key: [u8; 32],
}

/// The headers of a signed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    /// `Content-Digest`
    pub content_digest: String,
    /// `Signature-Input`
    pub signature_input: String,
    /// `Signature`
    pub signature: String,
}

/// A signature as it was sent: well formed, not yet verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// What it says of itself.
    pub params: Params,
    /// What the key must have signed.
    pub base: Vec<u8>,
    /// Ed25519.
    pub signature: [u8; 64],
}

/// A signature that is refused before any key is looked up.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignatureError {
    /// A header is missing or not of the profile.
    #[error("the request's signature is not of the profile {TAG}")]
    NotTheProfile,
    /// The body is not the one that was digested.
    #[error("the body is not the one that was signed")]
    OtherBody,
    /// Made too long ago, in the future, or for too long.
    #[error("the request was signed at another time by the server's clock")]
    ClockSkew,
}

/// SHA-256 of a public key: how it is named in requests.
pub fn key_id(public: &[u8; 32]) -> [u8; 32] {
    Sha256::digest(public).into()
}

/// What the vault's root key signs so that a pending device may approve itself.
pub fn approval_message(
    vault: &[u8; 16],
    sign_public: &[u8; 32],
    seal_public: &[u8; 32],
    role: &str,
) -> Vec<u8> {
    [b"backupengine approval v1\0".as_slice(), vault, sign_public, seal_public, role.as_bytes()].concat()
}

/// Signs. `signer` is Ed25519 by the key that `params` names.
pub fn sign(message: &Message<'_>, params: &Params, signer: impl FnOnce(&[u8]) -> [u8; 64]) -> Headers {
    let content_digest = content_digest(message.body);
    let described = describe(params);
    let signature = signer(&base(message, &content_digest, &described));
    Headers {
        content_digest,
        signature_input: format!("dev={described}"),
        signature: format!("dev=:{}:", STANDARD.encode(signature)),
    }
}

/// Takes the headers of a request apart.
///
/// # Errors
/// [`SignatureError`]; the time is not looked at here.
pub fn read(message: &Message<'_>, headers: &Headers) -> Result<Claimed, SignatureError> {
    let params = parse(&headers.signature_input).ok_or(SignatureError::NotTheProfile)?;
    let described = describe(&params);
    let signature = headers.signature.strip_prefix("dev=:").and_then(|text| text.strip_suffix(':'));
    let signature = signature.and_then(decode::<64>).ok_or(SignatureError::NotTheProfile)?;
    // One spelling only.
    if headers.signature_input.strip_prefix("dev=") != Some(&described) {
        return Err(SignatureError::NotTheProfile);
    }
    if headers.content_digest != content_digest(message.body) {
        return Err(SignatureError::OtherBody);
    }
    Ok(Claimed { base: base(message, &headers.content_digest, &described), params, signature })
}

impl Claimed {
    /// That it was made about now.
    ///
    /// # Errors
    /// [`SignatureError::ClockSkew`].
    pub fn check_time(&self, now: i64) -> Result<(), SignatureError> {
        let Params { created, expires, .. } = self.params;
        let in_time = created >= now.saturating_sub(PAST_SECONDS)
            && created <= now.saturating_add(FUTURE_SECONDS)
            && now <= expires
            && expires <= created.saturating_add(LIFE_SECONDS);
        if in_time { Ok(()) } else { Err(SignatureError::ClockSkew) }
    }
}

/// The `Content-Digest` of a body (RFC 9530).
pub fn content_digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(body)))
}

fn describe(params: &Params) -> String {
    let Params { created, expires, nonce, key } = params;
    let (nonce, key) = (STANDARD.encode(nonce), STANDARD.encode(key));
    format!(
        "{COMPONENTS};created={created};expires={expires};nonce=\"{nonce}\";alg=\"ed25519\";keyid=\"{key}\";tag=\"{TAG}\""
    )
}

fn base(message: &Message<'_>, digest: &str, described: &str) -> Vec<u8> {
    let Message { method, authority, path, query, authorization, .. } = message;
    format!(
        "\"@method\": {method}\n\"@authority\": {authority}\n\"@path\": {path}\n\"@query\": ?{query}\n\
         \"content-digest\": {digest}\n\"authorization\": {authorization}\n\"@signature-params\": {described}"
    )
    .into_bytes()
}

fn parse(input: &str) -> Option<Params> {
    let rest = input.strip_prefix("dev=")?.strip_prefix(COMPONENTS)?.strip_prefix(";created=")?;
    let (created, rest) = rest.split_once(";expires=")?;
    let (expires, rest) = rest.split_once(";nonce=\"")?;
    let (nonce, rest) = rest.split_once("\";alg=\"ed25519\";keyid=\"")?;
    let (key, _) = rest.split_once('"')?;
    Some(Params {
        created: created.parse().ok()?,
        expires: expires.parse().ok()?,
        nonce: decode(nonce)?,
        key: decode(key)?,
    })
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: Message<'_> = Message {
        method: "POST",
        authority: "backup.example.org",
        path: "/functions/v1/backupengine/mount",
        query: "",
        body: b"{}",
        authorization: "Bearer abc",
    };

    fn params() -> Params {
        Params { created: 1000, expires: 1060, nonce: [1; 16], key: [2; 32] }
    }

    fn signed() -> Headers {
        sign(&MESSAGE, &params(), |_| [3; 64])
    }

    #[test]
    fn what_is_signed_is_read() {
        let claimed = read(&MESSAGE, &signed()).unwrap();
        assert_eq!((claimed.params, claimed.signature), (params(), [3; 64]));
        let text = String::from_utf8(claimed.base).unwrap();
        assert!(text.starts_with("\"@method\": POST\n\"@authority\": backup.example.org\n"), "{text}");
        assert!(text.contains("\n\"@query\": ?\n"), "an empty query still has its question mark: {text}");
    }

    #[test]
    fn every_part_of_the_request_is_in_the_base() {
        let base = read(&MESSAGE, &signed()).unwrap().base;
        for other in [
            Message { method: "PUT", ..MESSAGE },
            Message { authority: "other.example.org", ..MESSAGE },
            Message { path: "/functions/v1/backupengine/urls", ..MESSAGE },
            Message { query: "a=b", ..MESSAGE },
            Message { authorization: "Bearer abd", ..MESSAGE },
        ] {
            assert_ne!(read(&other, &signed()).unwrap().base, base, "{other:?}");
        }
        let other = Message { body: b"{ }", ..MESSAGE };
        assert_eq!(read(&other, &signed()), Err(SignatureError::OtherBody));
    }

    #[test]
    fn one_spelling_only() {
        let good = signed();
        for (from, to) in [
            ("dev=(", "sig=("),
            ("created=1000", "created=+1000"),
            ("created=1000", "created=01000"),
            (";alg=\"ed25519\"", ""),
            ("\"@query\" ", ""),
            ("device-v1", "device-v2"),
            ("ed25519", "hmac-sha256"),
        ] {
            let input = good.signature_input.replacen(from, to, 1);
            assert_ne!(input, good.signature_input);
            let bad = Headers { signature_input: input, ..good.clone() };
            assert_eq!(read(&MESSAGE, &bad), Err(SignatureError::NotTheProfile), "{from} -> {to}");
        }
        let longer = Headers { signature_input: format!("{};x=1", good.signature_input), ..good.clone() };
        assert_eq!(read(&MESSAGE, &longer), Err(SignatureError::NotTheProfile));
        let second = Headers { signature: format!("{}, b=:AA==:", good.signature), ..good };
        assert_eq!(read(&MESSAGE, &second), Err(SignatureError::NotTheProfile));
    }

    #[test]
    fn the_window_is_kept() {
        let claimed = |created, expires| Claimed {
            params: Params { created, expires, ..params() },
            base: Vec::new(),
            signature: [0; 64],
        };
        assert!(claimed(1000, 1060).check_time(1000).is_ok());
        assert!(claimed(1000, 1060).check_time(1060).is_ok());
        assert!(claimed(1060, 1120).check_time(1000).is_ok());
        for (created, expires, now) in [
            (1000, 1060, 1061),
            (1000, 1060, 1121),
            (1061, 1121, 1000),
            (1000, 1061, 1000),
            (1000, 999, 1000),
        ] {
            let verdict = claimed(created, expires).check_time(now);
            assert_eq!(verdict, Err(SignatureError::ClockSkew), "{created} {expires} {now}");
        }
        assert!(claimed(i64::MAX, i64::MAX).check_time(i64::MIN).is_err());
    }
}
