//! What lies in the bucket of a session that is about to be committed: SQL is told by us, not by the client.

use super::{Refused, call};
use crate::app::App;
use crate::grants::Grants;
use backupengine_api::Code;
use serde::Deserialize;
use serde_json::{Map, Value, json};

#[derive(Deserialize)]
struct Place {
    bucket: String,
    prefix: String,
}

/// `{"root": bytes, "packs": [[number, size], ...]}`; `None` where the session is open no more: then SQL compares
/// with what was committed, and nothing that is stored can matter.
pub(super) async fn stored(
    app: &App,
    grants: &Grants,
    claims: &Map<String, Value>,
    args: &Value,
) -> Result<Option<Value>, Refused> {
    let vault = args.get("vault").and_then(Value::as_str).unwrap_or_default();
    let session = args.get("session").and_then(Value::as_i64).unwrap_or_default();
    // Beyond what a session number can be in SQL, which refuses it in its own words.
    let Ok(number) = i32::try_from(session) else { return Ok(None) };
    let place = match call::place(app, claims, vault, number).await {
        Ok(place) => place,
        Err(refused) if refused.code == Code::NotOpen => return Ok(None),
        Err(refused) => return Err(refused),
    };
    let place: Place = serde_json::from_value(place).map_err(|_| Refused::of(Code::Internal))?;
    if place.bucket != grants.bucket() || place.prefix != format!("{vault}/") {
        tracing::error!("a session lies in another bucket or vault than it should");
        return Err(Refused::of(Code::Internal));
    }
    let under = format!("{}p/{session:08x}/", place.prefix);
    let root = format!("{}r/{session:08x}", place.prefix);
    let (listed, root) = tokio::join!(grants.list_all(&app.http, &under), grants.size(&app.http, &root));
    let listed = listed.map_err(Refused::server)?;
    let packs: Option<Vec<(u32, u64)>> = listed
        .iter()
        .map(|found| {
            let number = found.key.strip_prefix(&under).filter(|name| name.len() == 8)?;
            Some((u32::from_str_radix(number, 16).ok()?, found.size))
        })
        .collect();
    // Nobody was given a grant for any other name.
    let packs = packs.ok_or_else(|| {
        Refused::new(Code::ObjectsDiffer, "Among the packs of the session lies an object that is none.")
    })?;
    Ok(Some(json!({"root": root.map_err(Refused::server)?, "packs": packs})))
}
