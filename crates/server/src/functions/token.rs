//! The bearer token of a call, and what of it SQL is told.
//!
//! May not let a token claim what only the front proves. Tested below and in `tests/server`.

use super::Refused;
use crate::app::App;
use axum::http::{HeaderMap, header};
use backupengine_api::Code;
use serde_json::{Map, Value};

/// Claims that this front makes: never taken from a token.
const PROVEN: [&str; 5] = ["device_key", "nonce", "stored", "root_key", "now"];
/// Longest token that is looked at.
const TOKEN_MAX: usize = 8192;

/// The header as it was sent, which the device signed, and the token in it.
pub(super) fn bearer(headers: &HeaderMap) -> Result<(&str, &str), Refused> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    };
    let found = value.and_then(|value| Some((value, value.strip_prefix("Bearer ")?)));
    found
        .filter(|(_, token)| !token.is_empty() && token.len() <= TOKEN_MAX)
        .ok_or_else(|| Refused::of(Code::NoToken))
}

/// The claims of a token that verifies.
pub(super) fn claims(app: &App, token: &str) -> Result<Map<String, Value>, Refused> {
    app.keys.verify(token).map(without_proven).map_err(Refused::of)
}

fn without_proven(mut claims: Map<String, Value>) -> Map<String, Value> {
    for name in PROVEN {
        claims.remove(name);
    }
    claims
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_token_cannot_claim_what_the_front_proves() {
        let payload = json!({"sub": "u", "aal": "aal2", "device_key": "k", "nonce": "n", "stored": {}, "root_key": "r", "now": 1});
        let Value::Object(payload) = payload else { panic!("an object") };
        let kept = without_proven(payload);
        assert_eq!(Value::Object(kept), json!({"sub": "u", "aal": "aal2"}));
    }

    #[test]
    fn one_bearer_token_in_one_spelling() {
        let headers = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            headers
        };
        assert_eq!(bearer(&headers(&["Bearer a.b.c"])).unwrap(), ("Bearer a.b.c", "a.b.c"));
        for bad in [&[][..], &["Bearer "], &["bearer a"], &["Basic a"], &["Bearer a", "Bearer a"]] {
            assert_eq!(bearer(&headers(bad)).unwrap_err().code, Code::NoToken, "{bad:?}");
        }
    }
}
