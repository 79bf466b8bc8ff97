//! `rebuild`: registers again what a bucket holds, after the database was lost.
//!
//! May not change a row that is there, or an object. It reads names, sizes, the trailers of roots and the heads of
//! envelopes: no key is needed, and what was sealed stays unknown (who pushed, when, labels, what was in the trash).
//! Every pack counts as one of a committed session, so that nothing a snapshot may refer to is called gone. Tested
//! below and in `tests/server`.

mod bucket;
mod plain;

use crate::ServerError;
use crate::config::Storage;
use crate::grants::Grants;
use bucket::Found;
use serde_json::{Value, json};
use tokio_postgres::Transaction;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Rebuilt {
    /// Sessions registered.
    pub sessions: u32,
    /// Snapshots registered.
    pub snapshots: u32,
    /// Blobs that were left out, each with the reason.
    pub left_out: Vec<String>,
}

/// Registers the vault under `prefix` for the user of this e-mail address, who has signed up anew. `admin` has the
/// rights of the migrator.
///
/// # Errors
/// [`ServerError`]: the vault is registered already, nothing of it lies in the bucket, nobody has this address.
pub async fn rebuild(
    admin: &mut tokio_postgres::Client,
    storage: &Storage,
    vault: &str,
    email: &str,
) -> Result<Rebuilt, ServerError> {
    let digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
    if vault.len() != 32 || !digits(vault) {
        return Err(ServerError::Other(
            "a vault is named by 32 hexadecimal digits: the first part of its objects' names".to_owned(),
        ));
    }
    let transaction = admin.transaction().await?;
    let user = user_of(&transaction, email).await?;
    transaction.batch_execute("set local role backupengine_owner").await?;
    ready(&transaction, storage, vault).await?;
    let found = bucket::look(&Grants::new(storage)?, vault).await?;
    if found.sessions.is_empty() && found.envelopes.is_empty() {
        return Err(ServerError::Other(format!(
            "the bucket {} holds nothing of the vault {vault}: check the id and the bucket",
            storage.bucket
        )));
    }
    register(&transaction, storage, vault, &user, &found).await?;
    transaction.commit().await?;
    let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    Ok(Rebuilt {
        sessions: count(found.sessions.len()),
        snapshots: count(found.snapshots.len()),
        left_out: found.left_out,
    })
}

async fn user_of(transaction: &Transaction<'_>, email: &str) -> Result<String, ServerError> {
    let statement = "select id::text from auth.users where lower(email) = lower($1)";
    let rows = transaction.query(statement, &[&email]).await?;
    match rows.as_slice() {
        [row] => Ok(row.try_get(0)?),
        [] => {
            Err(ServerError::Other("no user has this address: sign up first, then run this again".to_owned()))
        }
        _ => Err(ServerError::Other("more than one user has this address".to_owned())),
    }
}

/// That the deployment is the bucket's, and that nothing would be written over.
async fn ready(transaction: &Transaction<'_>, storage: &Storage, vault: &str) -> Result<(), ServerError> {
    let row = transaction.query_opt("select bucket from app.deployment", &[]).await?;
    let bucket: Option<String> = row.map(|row| row.try_get(0)).transpose()?;
    if bucket.as_ref() != Some(&storage.bucket) {
        return Err(ServerError::Other(format!(
            "this database is set up for another bucket than {}: run migrate with the settings of this deployment",
            storage.bucket
        )));
    }
    let statement = "select exists (select from app.vault where id = decode($1, 'hex'))";
    if transaction.query_one(statement, &[&vault]).await?.try_get(0)? {
        return Err(ServerError::Other(format!(
            "the vault {vault} is registered: there is nothing to rebuild"
        )));
    }
    Ok(())
}

/// The user's account, made as the first enrolment of a device makes it.
const TENANT: &str = "
with known as (select tenant from app.member where user_id = $1::text::uuid),
made as (insert into app.tenant (region, quota_bytes) select region, quota_bytes from app.deployment
         where not exists (select from known) returning id),
joined as (insert into app.member (tenant, user_id, role) select id, $1::text::uuid, 'owner' from made returning tenant)
select coalesce((select tenant from known), (select tenant from joined))::text";

// Both counters go on from the time of day: larger than any that was counted up, so that every device that remembers
// the old ones sees that they moved.
const VAULT: &str = "
insert into app.vault (id, tenant, bucket, root_public, created_at, next_session, snap_version, gc_epoch, used_bytes)
select decode($1, 'hex'), $2::text::uuid, bucket, decode($3::jsonb ->> 'root_public', 'hex'),
  coalesce(($3 ->> 'created')::timestamptz, now()), ($3 ->> 'next_session')::bigint,
  extract(epoch from now())::bigint, extract(epoch from now())::bigint, ($3 ->> 'used')::bigint
from app.deployment";

const SESSIONS: &str = "
insert into app.session (tenant, vault, s, kind, state, acked_epoch, opened_at, last_seen, packs, bytes, deleted)
select $2::text::uuid, decode($1, 'hex'), s, 'push', 'committed', 0, coalesce(seen, now()), coalesce(seen, now()), packs, bytes,
  missing::int8multirange
from jsonb_to_recordset($3::jsonb) as found(s bigint, seen timestamptz, packs bigint, bytes bigint, missing text)";

const SNAPSHOTS: &str = "
insert into app.snapshot (tenant, vault, s, id, committed_at, root_size, head_len)
select $2::text::uuid, decode($1, 'hex'), s, decode(id, 'hex'), coalesce(committed, now()), root_size, head_len
from jsonb_to_recordset($3::jsonb) as found(s bigint, id text, committed timestamptz, root_size bigint, head_len bigint)";

const ENVELOPES: &str = "
insert into app.envelope (tenant, vault, id, epoch, kind, sealed, created_at)
select $2::text::uuid, decode($1, 'hex'), decode(id, 'hex'), epoch, kind, decode(sealed, 'hex'), coalesce(created, now())
from jsonb_to_recordset($3::jsonb) as found(id text, epoch bigint, kind text, sealed text, created timestamptz)";

const AUDIT: &str = "
select app.append_audit($2::text::uuid, null, null, null, 'rebuild', sha256(convert_to($1 || $3::jsonb::text, 'UTF8')), 'ok')";

async fn register(
    transaction: &Transaction<'_>,
    storage: &Storage,
    vault: &str,
    user: &str,
    found: &Found,
) -> Result<(), ServerError> {
    let lock = "select pg_advisory_xact_lock(hashtextextended($1, 0))";
    transaction.query(lock, &[&user]).await?;
    let tenant: String = transaction.query_one(TENANT, &[&user]).await?.try_get(0)?;
    let used: u64 = found.sessions.iter().map(|session| session.bytes).sum();
    let last = found.sessions.iter().map(|session| session.number).max().unwrap_or_default();
    let home = json!({
        "root_public": found.root_public, "created": found.first_seen, "next_session": u64::from(last) + 1, "used": used,
    });
    let sessions: Vec<Value> = found
        .sessions
        .iter()
        .map(|one| {
            json!({"s": one.number, "seen": one.seen, "packs": one.packs, "bytes": one.bytes, "missing": one.missing})
        })
        .collect();
    let parts = [
        (VAULT, home),
        (SESSIONS, Value::Array(sessions)),
        (SNAPSHOTS, json!(found.snapshots)),
        (ENVELOPES, json!(found.envelopes)),
        (AUDIT, json!({"bucket": storage.bucket})),
    ];
    for (statement, values) in parts {
        transaction.query(statement, &[&vault, &tenant, &values]).await?;
    }
    let statement = "update app.tenant set used_bytes = used_bytes + $2 where id = $1::text::uuid";
    let used = i64::try_from(used).unwrap_or(i64::MAX);
    transaction.query(statement, &[&tenant, &used]).await?;
    Ok(())
}
