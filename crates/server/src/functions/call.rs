//! The calls into SQL, each a transaction of its own as the role `backupengine_front`.
//!
//! Statements carry the types of their parameters and have no names, so a pooler in transaction mode may stand in
//! between. Tested in `tests/server`.

use super::{Refused, answer};
use crate::app::App;
use crate::grants::Grants;
use backupengine_api::{Code, Opaque};
use deadpool_postgres::Object;
use serde_json::{Map, Value};
use tokio_postgres::Error;
use tokio_postgres::types::{Json, Type};

/// How often a call is tried that only stood in another's way.
const TRIES: u32 = 4;
const CALL: &str = "select api.call($1, $2, $3)";

/// `api.call`.
pub(super) async fn call(
    app: &App,
    claims: &Map<String, Value>,
    operation: &str,
    args: &Value,
) -> Result<Value, Refused> {
    let client = connection(app).await?;
    let mut tries = 1;
    loop {
        let params = [
            (&Json(claims) as _, Type::JSONB),
            (&operation as _, Type::TEXT),
            (&Json(args) as _, Type::JSONB),
        ];
        match client.query_typed_one(CALL, &params).await {
            Ok(row) => return row.try_get(0).map_err(|error| Refused::sql(operation, &error)),
            // Nothing of it has happened, the nonce is free again.
            Err(error) if tries < TRIES && stood_in_the_way(&error) => tries += 1,
            Err(error) => return Err(Refused::sql(operation, &error)),
        }
    }
}

fn stood_in_the_way(error: &Error) -> bool {
    error.code().is_some_and(|state| matches!(state.code(), "40001" | "40P01"))
}

/// `vault-create`: the public half of the vault's root key is laid into the bucket before the row is kept, so that a
/// rebuild finds it. SQL says yes first; what it says is stored, not what was asked.
pub(super) async fn create_vault(
    app: &App,
    grants: &Grants,
    claims: &Map<String, Value>,
    args: &Value,
) -> Result<Value, Refused> {
    let name = "vault-create";
    let sql = |error: Error| Refused::sql(name, &error);
    let mut client = connection(app).await?;
    let transaction = client.transaction().await.map_err(sql)?;
    let params =
        [(&Json(claims) as _, Type::JSONB), (&name as _, Type::TEXT), (&Json(args) as _, Type::JSONB)];
    let row = transaction.query_typed_one(CALL, &params).await.map_err(sql)?;
    let answered: Value = row.try_get(0).map_err(sql)?;
    let root =
        answered.get("root_public").and_then(|text| serde_json::from_value::<Opaque>(text.clone()).ok());
    let prefix = answer::vault_prefix(args, &answered);
    let (Some(root), Some(prefix)) = (root, prefix) else {
        tracing::error!("vault-create was answered without a root key");
        return Err(Refused::of(Code::Internal));
    };
    grants.store(&app.http, &format!("{prefix}v/root"), root.0).await.map_err(Refused::server)?;
    transaction.commit().await.map_err(sql)?;
    Ok(answered)
}

/// `api.place`: where the objects of a device's own open session lie.
pub(super) async fn place(
    app: &App,
    claims: &Map<String, Value>,
    vault: &str,
    session: i32,
) -> Result<Value, Refused> {
    let params = [(&Json(claims) as _, Type::JSONB), (&vault as _, Type::TEXT), (&session as _, Type::INT4)];
    let row = connection(app).await?.query_typed_one("select api.place($1, $2, $3)", &params).await;
    row.and_then(|row| row.try_get(0)).map_err(|error| Refused::sql("place", &error))
}

/// `api.device_key`: the public key of this id, hexadecimal.
pub(super) async fn device_key(app: &App, id: &str) -> Result<Option<String>, Refused> {
    let params = [(&id as _, Type::TEXT)];
    let row = connection(app).await?.query_typed_one("select api.device_key($1)", &params).await;
    row.and_then(|row| row.try_get(0)).map_err(|error| Refused::sql("device_key", &error))
}

/// `api.root_key` and `api.device_public`: what a proof of the root key is checked against.
pub(super) async fn approval_keys(
    app: &App,
    claims: &Map<String, Value>,
    vault: &str,
    device: &str,
) -> Result<(Option<String>, Option<Value>), Refused> {
    let params = [(&Json(claims) as _, Type::JSONB), (&vault as _, Type::TEXT), (&device as _, Type::TEXT)];
    let statement = "select api.root_key($1, $2), api.device_public($1, $3)";
    let row = connection(app).await?.query_typed_one(statement, &params).await;
    row.and_then(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .map_err(|error| Refused::sql("device-approve", &error))
}

/// `api.note_refusal`, in a transaction of its own. Where even that fails, the log is what is left.
pub(super) async fn note_refusal(
    app: &App,
    claims: &Map<String, Value>,
    operation: &str,
    code: Code,
    digest: &str,
) {
    let Ok(client) = connection(app).await else { return };
    let code = code.as_str();
    let params = [
        (&Json(claims) as _, Type::JSONB),
        (&operation as _, Type::TEXT),
        (&code as _, Type::TEXT),
        (&digest as _, Type::TEXT),
    ];
    let noted = client.query_typed("select api.note_refusal($1, $2, $3, $4)", &params).await;
    if let Err(error) = noted {
        let sqlstate = error.code().map(|state| state.code());
        tracing::error!(operation, code, sqlstate, "a refusal could not be written to the audit");
    }
}

async fn connection(app: &App) -> Result<Object, Refused> {
    app.db.front.get().await.map_err(|error| Refused::no_database(&error))
}
