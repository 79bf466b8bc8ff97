//! What can go wrong with a store, and whether asking again can help.
//!
//! May not hold grants or keys: every text here is fit for a person and a log. The message names the folder or
//! file and says what could not be done; the cause is the source, not part of the text. Tested below.

use crate::BlobKey;
use backupengine_model::ledger::RuleBroken;
use std::io;
use std::path::Path;
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
    RuleBroken(RuleBroken),
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

impl StoreError {
    /// An error of this kind with this text.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, key: None, message: message.into(), source: None }
    }

    /// The same error, about a blob.
    #[must_use]
    pub fn about(mut self, key: BlobKey) -> Self {
        self.key = Some(key);
        self
    }

    /// The same error, with its cause.
    #[must_use]
    pub fn caused_by(mut self, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(cause));
        self
    }

    /// What it means that the system refused to `verb` ("read", "write", "create", ...) the file at `path`.
    pub fn from_io(verb: &str, path: &Path, cause: io::Error) -> Self {
        use io::ErrorKind as K;
        let at = path.display();
        let (kind, message) = match cause.kind() {
            K::NotFound => (ErrorKind::NotFound, format!("{at} is not there")),
            K::AlreadyExists => (ErrorKind::AlreadyExists, format!("{at} is there already")),
            K::PermissionDenied => (ErrorKind::Denied, format!("not allowed to {verb} {at}")),
            K::ReadOnlyFilesystem => {
                (ErrorKind::Denied, format!("cannot {verb} {at}: its filesystem is read-only"))
            }
            K::StorageFull => (ErrorKind::Full, format!("no room to {verb} {at}: the filesystem is full")),
            K::QuotaExceeded => (ErrorKind::Full, format!("no room to {verb} {at}: the quota is used up")),
            K::FileTooLarge => {
                (ErrorKind::Full, format!("no room to {verb} {at}: files may not grow that large here"))
            }
            K::TimedOut => (ErrorKind::TimedOut, format!("timed out trying to {verb} {at}")),
            K::StaleNetworkFileHandle | K::HostUnreachable | K::NetworkUnreachable | K::NetworkDown => {
                (ErrorKind::Unavailable, format!("could not reach {at}"))
            }
            _ => (ErrorKind::Io, format!("could not {verb} {at}")),
        };
        Self::new(kind, message).caused_by(cause)
    }

    /// A step that the rules of the ledger forbid.
    pub fn rule(rule: RuleBroken) -> Self {
        let text = match rule {
            RuleBroken::NumbersUsedUp => "the vault has used up all its session numbers",
            RuleBroken::UnknownSession => "the vault knows no such session of this device",
            RuleBroken::NotOpen => "the session has ended already",
            RuleBroken::WrongSession => "the snapshot belongs to another device than the one that commits it",
            RuleBroken::LabelTooLong => "the snapshot's label is longer than a list may hold",
            RuleBroken::EnvelopesMoved => {
                "the vault's key envelopes were changed meanwhile, by somebody else"
            }
            RuleBroken::EnvelopesOutOfRange => "a vault has at least one and at most 64 key envelopes",
            RuleBroken::RootNotStored => "the snapshot's root is not stored, or not with the length given",
            RuleBroken::CountersMoved => {
                "packs were retired or moved, or the list changed, since this was begun"
            }
            RuleBroken::UnknownSnapshot => "the vault has no such snapshot, or it is gone",
            RuleBroken::Held => "the snapshot is held against removal",
            RuleBroken::WrongPack => "the vault has no such pack, or not one this can be done to",
            RuleBroken::PackGone => "the pack is gone, or going",
            RuleBroken::InUse => "the pack holds what was moved there, or what a push that is open may need",
            _ => "the rules of the ledger forbid this step",
        };
        Self::new(ErrorKind::RuleBroken(rule), text)
    }
}

/// Back from an error that passed through [`io::Write`]: a [`Spool`](crate::Spool) packs its own so.
impl From<io::Error> for StoreError {
    fn from(cause: io::Error) -> Self {
        match cause.downcast::<Self>() {
            Ok(own) => own,
            Err(cause) => {
                let named = Self::from_io("write", Path::new("the spool"), cause);
                Self { key: None, ..named }
            }
        }
    }
}

/// So that a store's error can pass through [`io::Write`] without losing what it says.
impl From<StoreError> for io::Error {
    fn from(error: StoreError) -> Self {
        let kind = match error.kind {
            ErrorKind::NotFound => io::ErrorKind::NotFound,
            ErrorKind::AlreadyExists => io::ErrorKind::AlreadyExists,
            ErrorKind::Denied => io::ErrorKind::PermissionDenied,
            ErrorKind::Full => io::ErrorKind::StorageFull,
            ErrorKind::TimedOut => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_model::SessionNo;
    use std::error::Error;

    #[test]
    fn errors_of_the_system_get_a_kind_and_a_place() {
        let of =
            |errno| StoreError::from_io("write", Path::new("/v/p/1"), io::Error::from_raw_os_error(errno));
        for (errno, kind) in [
            (rustix::io::Errno::NOSPC, ErrorKind::Full),
            (rustix::io::Errno::DQUOT, ErrorKind::Full),
            (rustix::io::Errno::FBIG, ErrorKind::Full),
            (rustix::io::Errno::ACCESS, ErrorKind::Denied),
            (rustix::io::Errno::PERM, ErrorKind::Denied),
            (rustix::io::Errno::ROFS, ErrorKind::Denied),
            (rustix::io::Errno::NOENT, ErrorKind::NotFound),
            (rustix::io::Errno::EXIST, ErrorKind::AlreadyExists),
            (rustix::io::Errno::TIMEDOUT, ErrorKind::TimedOut),
            (rustix::io::Errno::STALE, ErrorKind::Unavailable),
            (rustix::io::Errno::IO, ErrorKind::Io),
        ] {
            let error = of(errno.raw_os_error());
            assert_eq!(error.kind, kind, "{errno:?}");
            assert!(error.to_string().contains("/v/p/1"), "{error}");
            assert!(error.source().is_some());
            assert!(!error.to_string().contains("os error"), "Display repeats the source: {error}");
        }
        assert!(of(5).kind.is_permanent());
        assert!(!ErrorKind::Unavailable.is_permanent());
    }

    #[test]
    fn the_blob_is_named_in_front() {
        let error = StoreError::new(ErrorKind::NotFound, "not there").about(BlobKey::Root(SessionNo(9)));
        assert_eq!(error.to_string(), "r/00000009: not there");
    }

    #[test]
    fn an_error_survives_the_way_through_io() {
        let io = io::Error::from(StoreError::new(ErrorKind::Full, "no room to write /v/tmp/1"));
        assert_eq!(io.kind(), io::ErrorKind::StorageFull);
        let back = StoreError::from(io);
        assert_eq!((back.kind, back.message.as_str()), (ErrorKind::Full, "no room to write /v/tmp/1"));
        assert_eq!(StoreError::from(io::Error::from_raw_os_error(28)).kind, ErrorKind::Full);
    }
}
