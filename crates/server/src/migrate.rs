//! Brings a database to this version: the auth shim where schema auth is nobody else's, then the migrations, under
//! an advisory lock, noted in `supabase_migrations.schema_migrations`.
use crate::ServerError;

/// Runs what is missing. `client` has the rights of a superuser or of Supabase's `postgres`.
///
/// # Errors
/// [`ServerError`].
pub async fn migrate(client: &mut tokio_postgres::Client) -> Result<(), ServerError> {
    let _ = client;
    todo!()
}
