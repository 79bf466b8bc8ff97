//! Connections: two pools, each as a role that row-level security binds.
use crate::ServerError;
use crate::config::Config;

/// The two pools.
#[derive(Clone)]
pub struct Database {
    /// As `backupengine_front`: may run `api.call` and what stands beside it, nothing else.
    pub front: deadpool_postgres::Pool,
    /// As `backupengine_auth`: schema auth only.
    pub auth: deadpool_postgres::Pool,
}

impl Database {
    /// Opens the pools (verify-full TLS, or a Unix socket) and makes one connection of each.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn connect(config: &Config) -> Result<Self, ServerError> {
        let _ = config;
        todo!()
    }
}
