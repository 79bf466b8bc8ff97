//! What stops the server from starting or a command from ending well. (What a client is told is `app::Refused`.)
use thiserror::Error;

/// A failure for whoever runs the server.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServerError {
    /// A setting is missing or does not read.
    #[error("{setting}: {problem}")]
    Setting {
        /// Its name.
        setting: String,
        /// What is wrong, without its value.
        problem: String,
    },
    /// No PostgreSQL on this machine, or it does not start.
    #[error("{0}")]
    Postgres(String),
    /// The database refused something.
    #[error("the database: {0}")]
    Database(#[from] tokio_postgres::Error),
    /// No connection to be had.
    #[error("no connection to the database: {0}")]
    Pool(String),
    /// Object storage refused or cannot be reached.
    #[error("object storage: {0}")]
    Storage(String),
    /// A file or socket.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// Something else, said in full.
    #[error("{0}")]
    Other(String),
}
