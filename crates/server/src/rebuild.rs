//! `rebuild`: registers again what a bucket holds, after the database was lost.
use crate::ServerError;
use crate::config::Storage;

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
/// [`ServerError`].
pub async fn rebuild(
    admin: &mut tokio_postgres::Client,
    storage: &Storage,
    vault: &str,
    email: &str,
) -> Result<Rebuilt, ServerError> {
    let _ = (admin, storage, vault, email);
    todo!()
}
