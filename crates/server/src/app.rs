//! The server as a whole: state, routes, listening, health and metrics.
use crate::ServerError;
use crate::auth::Keys;
use crate::config::Config;
use crate::db::Database;
use std::net::SocketAddr;
use std::sync::Arc;

/// What every route is given.
#[derive(Clone)]
pub struct App {
    /// Settings.
    pub config: Arc<Config>,
    /// Connections.
    pub db: Database,
    /// Keys of tokens.
    pub keys: Arc<Keys>,
    /// For LIST, HEAD and providers.
    pub http: reqwest::Client,
}

/// A server that runs until it is stopped.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
}

#[allow(unused_variables)]
impl App {
    /// Opens the database and reads the keys.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn new(config: Config) -> Result<Self, ServerError> {
        todo!()
    }
    /// All routes.
    pub fn router(self) -> axum::Router {
        todo!()
    }
    /// Listens and serves; returns when the socket is bound.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn serve(self) -> Result<Running, ServerError> {
        todo!()
    }
}

impl Running {
    /// Stops taking calls, ends those under way within a few seconds.
    pub async fn stop(self) {
        todo!()
    }
}
