//! Brings a database to this version: the auth shim where schema auth is nobody else's, then the migrations, under
//! an advisory lock, noted in `supabase_migrations.schema_migrations` as Supabase's own tool does.
//!
//! May not change a migration that was released: a new file is added. The list of files is held against the folder
//! below; what the files say is tested in `supabase/tests`.
use crate::ServerError;
use sha2::{Digest, Sha256};
use tokio_postgres::Client;

/// Schema auth for a plain PostgreSQL. May run again.
const SHIM: &str = include_str!("../supabase/shim/0001_auth.sql");
/// Taken by one migrator at a time in one database.
const LOCK: i64 = 0x6261_636b_7570;

macro_rules! migrations {
    ($($file:literal)+) => {
        /// File names and contents, in the order they run.
        const MIGRATIONS: &[(&str, &str)] =
            &[$(($file, include_str!(concat!("../supabase/migrations/", $file, ".sql"))),)+];
    };
}

migrations! {
    "20261124100000_roles"
    "20261124100100_tables"
    "20261124100200_identity"
    "20261124100300_policies"
    "20261124100400_arguments"
    "20261124100450_operations"
    "20261124100500_call"
    "20261124100550_deployment"
    "20261124100600_device_ops"
    "20261124100700_vault_ops"
    "20261124100800_url_ops"
    "20261124100900_session_ops"
    "20261124100950_session_commit"
    "20261124110000_retention"
    "20261124110100_collect"
    "20261124110200_account"
    "20261124110300_sweep"
    "20261129100000_signals"
}

/// Names exactly this set of files, in 64 hexadecimal digits.
pub fn fingerprint() -> String {
    let mut hash = Sha256::new();
    for (name, text) in std::iter::once(&("", SHIM)).chain(MIGRATIONS) {
        for part in [name, text] {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Runs what is missing. `client` has the rights of a superuser or of Supabase's `postgres`.
///
/// # Errors
/// [`ServerError`]; what ran before the file that failed is kept.
pub async fn migrate(client: &mut Client) -> Result<(), ServerError> {
    client.execute("select pg_advisory_lock($1)", &[&LOCK]).await?;
    let done = run(client).await;
    let unlocked = client.execute("select pg_advisory_unlock($1)", &[&LOCK]).await;
    done?;
    unlocked?;
    Ok(())
}

async fn run(client: &mut Client) -> Result<(), ServerError> {
    if !foreign_auth(client).await? {
        let transaction = client.transaction().await?;
        transaction.batch_execute(SHIM).await.map_err(|error| failed("the shim of schema auth", &error))?;
        transaction.commit().await?;
    }
    client
        .batch_execute(
            "create schema if not exists supabase_migrations;
             create table if not exists supabase_migrations.schema_migrations
               (version text primary key, statements text[], name text)",
        )
        .await?;
    let rows = client.query("select version from supabase_migrations.schema_migrations", &[]).await?;
    let done: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    for (file, text) in MIGRATIONS {
        let (version, name) = file.split_once('_').unwrap_or((file, ""));
        if done.iter().any(|known| known == version) {
            continue;
        }
        let transaction = client.transaction().await?;
        transaction.batch_execute(text).await.map_err(|error| failed(file, &error))?;
        let note = "insert into supabase_migrations.schema_migrations (version, name) values ($1, $2)";
        transaction.execute(note, &[&version, &name]).await?;
        transaction.commit().await?;
        tracing::info!(migration = file, "the database moved on");
    }
    Ok(())
}

/// Whether schema auth is another system's: GoTrue's, on Supabase.
async fn foreign_auth(client: &Client) -> Result<bool, ServerError> {
    let found = "select coalesce(obj_description(oid, 'pg_namespace'), '') not like 'backupengine shim %'
                 from pg_namespace where nspname = 'auth'";
    client.query_opt(found, &[]).await?.map_or(Ok(false), |row| Ok(row.try_get(0)?))
}

fn failed(what: &str, error: &tokio_postgres::Error) -> ServerError {
    let said = error.as_db_error().map_or_else(|| error.to_string(), |said| said.message().to_owned());
    ServerError::Other(format!("{what} does not run on this database: {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_the_folder_in_order() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/supabase/migrations");
        let mut found: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .map(|name| name.strip_suffix(".sql").unwrap().to_owned())
            .collect();
        found.sort();
        let listed: Vec<&str> = MIGRATIONS.iter().map(|(file, _)| *file).collect();
        assert_eq!(listed, found);
        let mut versions: Vec<&str> = listed.iter().map(|file| file.split_once('_').unwrap().0).collect();
        versions.dedup();
        assert_eq!(versions.len(), listed.len(), "two files of one version");
        assert!(versions.iter().all(|version| version.len() == 14));
    }
}
