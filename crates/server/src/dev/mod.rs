//! `--dev`: the whole control plane on one machine without configuration: PostgreSQL as a child on a Unix socket,
//! an S3-compatible store in this process, plain HTTP on loopback.
use crate::ServerError;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What may be said about it.
#[derive(Clone, Debug)]
pub struct DevConfig {
    /// Everything it keeps. Made if need be.
    pub data: PathBuf,
    /// Loopback only; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Of the deployment and its bucket.
    pub region: String,
    /// A data folder of PostgreSQL to copy instead of running initdb and all migrations.
    pub template: Option<PathBuf>,
    /// Lives of access tokens and grants.
    pub access_life: Duration,
    /// See above.
    pub grant_life: Duration,
    /// OpenID providers.
    pub providers: Vec<crate::config::Provider>,
    /// Rate limits as in production.
    pub rate_limits: bool,
    /// Cost of password hashes: memory in KiB, passes.
    pub password_cost: (u32, u32),
    /// fsync of PostgreSQL; off in tests.
    pub durable: bool,
}

/// A control plane that runs until it is stopped or dropped.
pub struct Dev {
    /// Its address, `http://127.0.0.1:PORT`.
    pub base: String,
    /// Rights of a superuser over its database, for tests and for looking inside.
    pub admin_database_url: String,
    /// As `backupengine_front`.
    pub front_database_url: String,
    /// Folder that holds the bucket's objects as files.
    pub objects: PathBuf,
    /// Where the in-process store listens.
    pub storage: crate::config::Storage,
}

#[allow(unused_variables)]
impl Dev {
    /// Starts all of it.
    ///
    /// # Errors
    /// [`ServerError`]; where no PostgreSQL is found, with a line that installs it.
    pub async fn start(config: DevConfig) -> Result<Self, ServerError> {
        todo!()
    }
    /// The server alone anew, on the same port: what clients see when it is restarted.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        todo!()
    }
    /// Stops the server and the database; leaves the data.
    pub async fn stop(self) {
        todo!()
    }
}
