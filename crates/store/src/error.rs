//! What can go wrong with a store, and whether asking again can help.
use crate::BlobKey;
use std::sync::Arc;
use thiserror::Error;
/// Kinds of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No such blob.
    NotFound,
    /// The blob is there already; it was not touched.
    AlreadyExists,
    /// Not allowed.
    Denied,
    /// No room.
    Full,
    /// The range lies outside the blob.
    BadRange,
    /// Not a vault, or not of a version this program knows.
    NotAVault,
    /// A vault of a newer version.
    TooNew,
    /// The ledger does not read.
    LedgerDamaged,
    /// A rule of the ledger forbids it.
    RuleBroken(backupengine_model::ledger::RuleBroken),
    /// Could not be reached, or I/O trouble that may pass.
    Unavailable,
    /// Timed out.
    TimedOut,
    /// Other I/O trouble.
    Io,
}
impl ErrorKind {
    /// Whether asking again cannot help.
    pub const fn is_permanent(self) -> bool {
        !matches!(self, Self::Unavailable | Self::TimedOut)
    }
}
/// An error of a store.
#[derive(Clone, Debug, Error)]
#[error("{}{message}", .key.as_ref().map_or_else(String::new, |k| format!("{k}: ")))]
pub struct StoreError {
    /// Kind.
    pub kind: ErrorKind,
    /// The blob it happened to.
    pub key: Option<BlobKey>,
    /// What happened, for a person; names the folder or file where there is one.
    pub message: String,
    /// Cause.
    #[source]
    pub source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}
