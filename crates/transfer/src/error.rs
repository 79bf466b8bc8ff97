//! What can go wrong between a device and the control plane, for a person.
use backupengine_api::Code;
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
        source: Box<backupengine_store::StoreError>,
    },
    /// The system gives no threads, no randomness, no certificates.
    #[error("{0}")]
    System(String),
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
