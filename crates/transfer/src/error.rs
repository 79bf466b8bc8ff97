//! What can go wrong between a device and the control plane, for a person.
use backupengine_api::Code;
use backupengine_store::{ErrorKind, StoreError};
use std::time::Duration;
use thiserror::Error;

/// A call that came to nothing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The server said no.
    #[error("{0}")]
    Refused(Refusal),
    /// The server was not reached, or the connection broke, after all tries.
    #[error("{host} cannot be reached")]
    Unreachable {
        /// Host and port.
        host: String,
        /// Cause, without addresses that hold secrets.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The server answered something that is no answer.
    #[error("{host} gave an answer that does not read: {what}")]
    BadAnswer {
        /// Host and port.
        host: String,
        /// What was wrong with it.
        what: String,
    },
    /// There is no login, or it has ended.
    #[error("not logged in at {host}")]
    NotLoggedIn {
        /// Host and port.
        host: String,
    },
    /// The keeper of the tokens failed.
    #[error("the login cannot be kept: {0}")]
    Keeper(String),
    /// An address that is no base address, or plain HTTP off loopback.
    #[error("{0}")]
    BadAddress(String),
    /// A blob could not be stored.
    #[error("{what} was not stored")]
    Storage {
        /// Name of the blob.
        what: String,
        /// Cause.
        #[source]
        source: Box<StoreError>,
    },
    /// The system gives no threads, no randomness, no certificates.
    #[error("{0}")]
    System(String),
}

/// What object storage did instead: the cause of a store's error, so that a face can tell it from a refusal of the
/// control plane's and from trouble with a local folder.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StorageError {
    /// It did not take a grant, nor the one that was asked for anew.
    #[error("status {0}, with a new grant as well")]
    Refused(u16),
    /// It answered with this HTTP status, after all tries where more could help.
    #[error("it answered with status {0}")]
    Status(u16),
    /// It was not reached, or the connection broke.
    #[error(transparent)]
    Unreachable(Box<dyn std::error::Error + Send + Sync>),
    /// Nothing moved for so long.
    #[error("nothing moved for {} s", .0.as_secs())]
    Silent(Duration),
    /// It sent what it did not announce, or not what was asked for.
    #[error("{0}")]
    Untrue(&'static str),
}

impl StorageError {
    /// As an error of the store.
    pub(crate) fn told(self) -> StoreError {
        let (kind, text) = match &self {
            Self::Refused(_) => (ErrorKind::Denied, "object storage refused it"),
            // A conflict: somebody puts the same name this moment.
            Self::Status(409 | 429 | 500..) => (ErrorKind::Unavailable, "object storage did not do it"),
            Self::Status(_) => (ErrorKind::Io, "object storage did not do it"),
            Self::Unreachable(_) => (ErrorKind::Unavailable, "object storage could not be reached"),
            Self::Silent(_) => (ErrorKind::TimedOut, "object storage did not answer in time"),
            Self::Untrue(_) => (ErrorKind::Unavailable, "object storage gave an answer that does not hold"),
        };
        StoreError::new(kind, text).caused_by(self)
    }
}

/// Without its address, which is a grant.
impl From<reqwest::Error> for StorageError {
    fn from(error: reqwest::Error) -> Self {
        Self::Unreachable(error.without_url().into())
    }
}

/// What a server answered instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// The stable word, as sent.
    pub code: String,
    /// For a person.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl Refusal {
    /// The code, where this program knows it.
    pub fn known(&self) -> Option<Code> {
        Code::parse(&self.code)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}
