//! `/functions/v1/backupengine/<op>`: token, device signature, `api.call`, grants; in this order.
//!
//! May not decide who may do what: it proves who asks, and SQL decides. Claims that only this module may make
//! (`device_key`, `nonce`, `stored`, `root_key`) are taken out of every token first. Whatever is refused is written
//! to the audit before it is answered. Tested in `tests/server`.

mod answer;
mod body;
mod call;
mod device;
mod refused;
mod stored;
mod token;

pub use refused::Refused;

use crate::app::{App, ClientIp, Limit};
use crate::grants::Grants;
use axum::Extension;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use backupengine_api::{Code, OPERATIONS, OperationInfo};
use device::DeviceKeys;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a waiting `events` looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long `events` waits at most, in seconds.
const WAIT_MAX: u64 = 50;

/// The routes, to be nested under `/functions/v1/backupengine`.
pub fn router() -> Router<App> {
    let keys = Arc::new(DeviceKeys::default());
    Router::new().route("/{op}", any(operate)).fallback(operate).layer(Extension(keys))
}

/// What is known of a call so far: what the audit is told where it is refused.
#[derive(Default)]
struct Seen {
    operation: Option<&'static str>,
    claims: Map<String, Value>,
    digest: String,
}

async fn operate(
    State(app): State<App>,
    Extension(keys): Extension<Arc<DeviceKeys>>,
    ClientIp(address): ClientIp,
    request: Request,
) -> Response {
    // Not written to the audit: a limit keeps floods away from the database.
    if let Err(wait) = app.limits.check(Limit::Call, address) {
        return Refused::too_many(wait).into_response();
    }
    let mut seen = Seen::default();
    match answer(&app, &keys, request, &mut seen).await {
        // Answers hold grants.
        Ok(answer) => ([(header::CACHE_CONTROL, "no-store")], axum::Json(answer)).into_response(),
        Err(refused) if refused.code == Code::TooManyRequests => refused.into_response(),
        Err(refused) => {
            let operation = seen.operation.unwrap_or("unknown");
            tracing::info!(operation, code = refused.code.as_str(), "refused");
            let code = refused.code;
            // Apart from this call, so that whoever hangs up is written down all the same.
            let noted = tokio::spawn(async move {
                call::note_refusal(&app, &seen.claims, operation, code, &seen.digest).await;
            });
            drop(noted.await);
            refused.into_response()
        }
    }
}

async fn answer(app: &App, keys: &DeviceKeys, request: Request, seen: &mut Seen) -> Result<Value, Refused> {
    let (head, body) = request.into_parts();
    let operation = known(&head.method, head.uri.path());
    seen.operation = operation.map(|found| found.name);
    let body = body::read(&head.headers, body).await;
    // The token first, so that the audit knows whose body was too large.
    let (authorization, token) = token::bearer(&head.headers)?;
    seen.claims = token::claims(app, token)?;
    let body = body?;
    seen.digest = hex(&Sha256::digest(&body));
    let operation = operation.ok_or_else(|| Refused::of(Code::NoSuchOperation))?;

    let asked =
        device::Asked { operation, query: head.uri.query().unwrap_or(""), authorization, body: &body };
    let proven = device::verify(app, keys, &head.headers, &asked).await?;
    app.limits.check_device(&proven.key).map_err(Refused::too_many)?;
    seen.claims.insert("device_key".to_owned(), hex(&proven.key).into());
    if operation.mutates {
        seen.claims.insert("nonce".to_owned(), hex(&proven.nonce).into());
    }
    let args = body::check(operation, &body)?;
    perform(app, operation.name, args, seen).await
}

/// What is asked for; the path is taken as it was sent, in one spelling only.
fn known(method: &Method, path: &str) -> Option<&'static OperationInfo> {
    let name = path.strip_prefix('/').filter(|_| method == Method::POST)?;
    OPERATIONS.iter().find(|operation| operation.name == name)
}

async fn perform(app: &App, name: &'static str, args: Value, seen: &mut Seen) -> Result<Value, Refused> {
    let grants = Grants::new(&app.config.storage).map_err(Refused::server)?;
    let claims = &mut seen.claims;
    let answered = match name {
        "vault-create" => call::create_vault(app, &grants, claims, &args).await?,
        "events" => wait(app, claims, &args).await?,
        "session-commit" => {
            if let Some(found) = stored::stored(app, &grants, claims, &args).await? {
                claims.insert("stored".to_owned(), found);
            }
            let answered = call::call(app, claims, name, &args).await;
            // As long as the session has packs, and nothing the audit keeps.
            claims.remove("stored");
            answered?
        }
        "device-approve" => {
            if let Some(root) = device::proven_root(app, claims, &args).await? {
                claims.insert("root_key".to_owned(), root.into());
            }
            call::call(app, claims, name, &args).await?
        }
        _ => call::call(app, claims, name, &args).await?,
    };
    answer::finish(app, &grants, name, &args, answered).await
}

/// Waits without a connection in hand; every look is a call of its own, so that a revocation ends the waiting.
async fn wait(app: &App, claims: &Map<String, Value>, args: &Value) -> Result<Value, Refused> {
    let seconds = args.get("seconds").and_then(Value::as_u64).unwrap_or_default().min(WAIT_MAX);
    let until = Instant::now() + Duration::from_secs(seconds);
    loop {
        let answered = call::call(app, claims, "events", args).await?;
        let same = ["version", "gc_epoch"].iter().all(|name| answered.get(name) == args.get(name));
        let left = until.saturating_duration_since(Instant::now());
        if !same || left.is_zero() {
            return Ok(answered);
        }
        tokio::time::sleep(left.min(LOOK_EVERY)).await;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_has_one_spelling() {
        let name = |method, path| known(&method, path).map(|operation| operation.name);
        assert_eq!(name(Method::POST, "/mount"), Some("mount"));
        for path in ["/m%6Funt", "/Mount", "//mount", "/mount/", "mount", "/", "/nothing"] {
            assert_eq!(name(Method::POST, path), None, "{path}");
        }
        assert_eq!(name(Method::GET, "/mount"), None);
    }
}
