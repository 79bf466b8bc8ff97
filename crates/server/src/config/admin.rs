//! What the commands of an operator are told: rights of the migrator, and the deployment's own facts.
use super::environment::Environment;
use super::{Profile, Secret, Storage, Sweep};
use crate::{ServerError, db};
use std::path::PathBuf;
use tokio_postgres::Client;

/// For `migrate`, `check-storage` and `rebuild`.
pub struct Admin {
    environment: Environment,
    url: Secret,
    ca: Option<PathBuf>,
}

const URL: &str = "BACKUPENGINE_ADMIN_DATABASE_URL";
/// What an account may take where nothing is said.
const QUOTA: i64 = 1 << 40;

impl Admin {
    /// From the environment.
    ///
    /// # Errors
    /// [`ServerError::Setting`].
    pub fn from_environment() -> Result<Self, ServerError> {
        let environment = Environment::of_this_process()?;
        let (url, ca) = (environment.secret(URL)?, environment.path("BACKUPENGINE_DATABASE_CA"));
        Ok(Self { environment, url, ca })
    }

    /// A connection as the migrator.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn connect(&self) -> Result<Client, ServerError> {
        db::connect_once(URL, &self.url, self.ca.as_deref()).await
    }

    /// Object storage.
    ///
    /// # Errors
    /// [`ServerError::Setting`].
    pub fn storage(&self) -> Result<Storage, ServerError> {
        self.environment.storage()
    }

    /// Who deletes from it, if anybody does.
    ///
    /// # Errors
    /// [`ServerError::Setting`].
    pub fn sweep(&self) -> Result<Option<Sweep>, ServerError> {
        self.environment.sweep()
    }

    /// Tells the database which deployment it belongs to, and what `check-storage` found where it has just run.
    ///
    /// # Errors
    /// [`ServerError`]; a region with accounts in it stays what it is.
    pub async fn configure(&self, client: &Client, profile: Option<Profile>) -> Result<(), ServerError> {
        let region = self.environment.region()?;
        let bucket = self.environment.text("BACKUPENGINE_S3_BUCKET")?;
        let quota = self.environment.quota()?.unwrap_or(QUOTA);
        db::configure(client, &region, bucket, quota, profile).await
    }
}
