//! The body of a call: its size, and that it reads as what the operation asks for.
//!
//! May not quote a value of a body in a refusal: it may be a secret that went astray. Tested below.

use super::Refused;
use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, header};
use backupengine_api::{BODY_MAX, Code, OperationInfo};
use serde_json::Value;
use std::pin::Pin;
use std::time::Duration;

/// How much of a body that is too large is still taken, so that the sender gets to read the answer.
const DRAIN_MAX: usize = 32 << 20;
/// How long a body may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads at most [`BODY_MAX`] bytes.
pub(super) async fn read(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Refused> {
    let read = tokio::time::timeout(PATIENCE, read_all(headers, body)).await;
    read.unwrap_or_else(|_| {
        Err(Refused::new(Code::BadRequest, "The body of the request did not come in time."))
    })
}

async fn read_all(headers: &HeaderMap, mut body: Body) -> Result<Vec<u8>, Refused> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let mut too_large = announced.is_some_and(|length: usize| length > BODY_MAX);
    if announced.is_some_and(|length| length > DRAIN_MAX) {
        return Err(Refused::of(Code::TooLarge));
    }
    let (mut bytes, mut taken) = (Vec::new(), 0_usize);
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame =
            frame.map_err(|_| Refused::new(Code::BadRequest, "The body of the request broke off."))?;
        let Ok(data) = frame.into_data() else { continue };
        taken += data.len();
        too_large |= taken > BODY_MAX;
        if taken > DRAIN_MAX {
            break;
        }
        if !too_large {
            bytes.extend_from_slice(&data);
        }
    }
    if too_large { Err(Refused::of(Code::TooLarge)) } else { Ok(bytes) }
}

/// The body as the operation's typed request, written again: no unknown field, no wrong type passes.
pub(super) fn check(operation: &OperationInfo, body: &[u8]) -> Result<Value, Refused> {
    (operation.check)(body).map_err(|error| Refused::new(Code::BadRequest, problem(&error)))
}

fn problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!("line {}, column {}", error.line(), error.column());
    // These two texts hold a name of the contract and nothing of the body.
    let ours = |start: &str| text.strip_prefix(start).and_then(|rest| rest.split('`').next());
    if let Some(field) = ours("missing field `") {
        format!("The body of the request has no field {field}.")
    } else if text.starts_with("unknown field") {
        format!("The body of the request has a field that this operation does not know ({place}).")
    } else if error.is_data() {
        format!("A value in the body of the request is not of the type the operation asks for ({place}).")
    } else {
        format!("The body of the request is not JSON ({place}).")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_api::OPERATIONS;

    fn refusal(operation: &str, body: &str) -> String {
        let operation = OPERATIONS.iter().find(|found| found.name == operation).unwrap();
        let refused = check(operation, body.as_bytes()).unwrap_err();
        assert_eq!(refused.code, Code::BadRequest);
        refused.message
    }

    #[test]
    fn a_refusal_says_where_and_quotes_nothing() {
        let vault = "00".repeat(16);
        assert!(refusal("version", "{}").contains("no field vault"));
        assert!(
            refusal("version", &format!("{{\"vault\":\"{vault}\",\"hunter2\":1}}"))
                .contains("does not know (line 1, column")
        );
        assert!(refusal("version", "{\"vault\":\"hunter2\"}").contains("not of the type"));
        assert!(refusal("version", "{\"vault\":7}").contains("not of the type"));
        for body in ["", "hunter2", "{\"vault\":\"hunter2", "[", "\u{0}"] {
            let message = refusal("version", body);
            assert!(message.contains("not JSON"), "{message}");
            assert!(!message.contains("hunter2"));
        }
        let twice = format!("{{\"vault\":\"{vault}\",\"vault\":\"{vault}\"}}");
        assert!(refusal("version", &twice).contains("not of the type"));
    }
}
