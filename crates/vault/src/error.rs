//! The one error of this crate, and how it becomes the error of the read ports.
//!
//! **What it may not do.** Hold key material, or say more than "does not open" of a secret.
//! **What always holds.** Each variant names its object; the cause is its `source`, not part of its text.
//! **Where it is tested.** Below, and through the ports in `tests/damage`.

use backupengine_format::FormatError;
use backupengine_model::{DeviceId, NodeId, ReadError, ReadFailure, RootHash, SessionNo, VaultId};
use backupengine_seal::{CertificateError, EnvelopeKind, WrapError};
use backupengine_store::{BlobKey, ErrorKind, StoreError};
use std::error::Error;
use thiserror::Error;

/// A cause of any type.
pub(crate) type Cause = Box<dyn Error + Send + Sync>;

/// Why a vault did not open or a read did not work.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VaultError {
    /// No envelope opened. The same for every cause.
    #[error("the secret does not open this vault")]
    WrongSecret,
    /// The vault holds no envelope for this kind of secret.
    #[error("the vault has no key envelope for {}", kind_name(*.0))]
    NoEnvelope(EnvelopeKind),
    /// An envelope that could not be tried at all.
    #[error("the key envelope cannot be used")]
    Envelope(#[from] WrapError),
    /// The keys belong to another vault.
    #[error("the keys are those of vault {found}, this is vault {expected}")]
    OtherVault {
        /// What the store says.
        expected: VaultId,
        /// What the keys say.
        found: VaultId,
    },
    /// The store failed.
    #[error("the store could not answer")]
    Store(#[from] StoreError),
    /// Bytes that were opened are not what FORMAT.md asks.
    #[error("a stored object is damaged")]
    Format(#[from] FormatError),
    /// Bytes at this place failed their tag, their place or their length, or are missing.
    #[error("{blob}, at byte {offset}: {what}")]
    Damaged {
        /// The blob they were looked for in.
        blob: BlobKey,
        /// First byte.
        offset: u64,
        /// Which rule failed.
        what: &'static str,
        /// What the store or the decoder said.
        source: Option<Cause>,
    },
    /// The vault's keys were rotated, and whoever reads has the older ones only.
    #[error(
        "{blob} is sealed under key epoch {epoch}, which the keys at hand do not reach: the vault's keys were rotated"
    )]
    UnknownEpoch {
        /// What was to be read.
        blob: BlobKey,
        /// The epoch its trailer names.
        epoch: u16,
    },
    /// Keys were to be changed with keys that are not the vault's newest.
    #[error("the keys at hand reach epoch {found}, the vault's own are of epoch {newest}")]
    OldKeys {
        /// The epoch of the keys at hand.
        found: u16,
        /// The newest that the vault's envelopes name.
        newest: u16,
    },
    /// A change that would leave no way into what is pushed from then on.
    #[error("neither a passphrase nor the recovery code would open what is pushed from now on")]
    NoWayIn,
    /// More ways in than a vault may have.
    #[error("the vault has as many passphrases as it may have")]
    TooManyWays,
    /// The keys cannot be rotated any more.
    #[error("the vault's keys cannot be rotated")]
    Epochs(#[from] backupengine_seal::EpochsUsedUp),
    /// A root that this vault's devices did not sign.
    #[error("the root of session {session} is not to be trusted")]
    Untrusted {
        /// Its session.
        session: SessionNo,
        /// What does not hold.
        source: CertificateError,
    },
    /// The ledger's record of a snapshot says something else than its root.
    #[error("the ledger and the root of session {session} disagree on the {what}")]
    Contradiction {
        /// Its session.
        session: SessionNo,
        /// On what.
        what: &'static str,
    },
    /// No such snapshot (any more).
    #[error("there is no snapshot of session {0}")]
    NoSnapshot(SessionNo),
    /// It was listed earlier and is not any more.
    #[error("the snapshot of session {0} was removed")]
    Removed(SessionNo),
    /// A node beyond the end of its snapshot.
    #[error("there is no node {} in the snapshot of session {}", .0.place, .0.session)]
    NoNode(NodeId),
    /// The node is of another kind than the call needs.
    #[error("it is not a {wanted}")]
    WrongKind {
        /// What the call needs.
        wanted: &'static str,
    },
    /// A file whose leaf holds fewer bytes than its size.
    #[error("its content ends at byte {at} of {size}")]
    ShortContent {
        /// Bytes there are.
        at: u64,
        /// Bytes there should be.
        size: u64,
    },
    /// The vault shows a device's past older than what was seen of it before.
    #[error(
        "rollback: device {device} was seen at session {} with root {}, but the vault now ends at {}",
        .seen.0, .seen.1, .listed.map_or_else(|| "nothing".to_owned(), |s| format!("session {s}"))
    )]
    RolledBack {
        /// Whose snapshots.
        device: DeviceId,
        /// The newest that was seen, here or by another device.
        seen: (SessionNo, RootHash),
        /// The newest that is listed now.
        listed: Option<SessionNo>,
    },
    /// The vault shows another root than the one that was seen in the same place.
    #[error("fork: session {session} of device {device} was seen with root {seen}, now it has root {found}")]
    Forked {
        /// Whose snapshot.
        device: DeviceId,
        /// Its session.
        session: SessionNo,
        /// What was seen.
        seen: RootHash,
        /// What is there now.
        found: RootHash,
    },
}

fn kind_name(kind: EnvelopeKind) -> &'static str {
    match kind {
        EnvelopeKind::Passphrase => "a passphrase",
        EnvelopeKind::Recovery => "a recovery code",
        EnvelopeKind::Device => "this device",
        EnvelopeKind::Enrolment => "a device that is to be approved",
    }
}

impl VaultError {
    /// Damage without a deeper cause.
    pub(crate) fn damaged(blob: BlobKey, offset: u64, what: &'static str) -> Self {
        Self::Damaged { blob, offset, what, source: None }
    }

    /// Damage found by a decoder or the store.
    pub(crate) fn damaged_by(
        blob: BlobKey,
        offset: u64,
        what: &'static str,
        cause: impl Into<Cause>,
    ) -> Self {
        Self::Damaged { blob, offset, what, source: Some(cause.into()) }
    }

    /// Whether a blob that should exist was not there.
    pub(crate) fn is_missing(&self) -> bool {
        let kind = match self {
            Self::Store(error) => Some(error.kind),
            Self::Damaged { source: Some(cause), .. } => cause.downcast_ref::<StoreError>().map(|e| e.kind),
            _ => None,
        };
        kind == Some(ErrorKind::NotFound)
    }

    /// Whether stored bytes are spoilt or gone; what reads and may not be believed is no damage.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. }) || self.is_missing()
    }

    /// What kind of trouble this is for a reader of files.
    pub fn failure(&self) -> ReadFailure {
        match self {
            Self::Store(error) => match error.kind {
                ErrorKind::Denied => ReadFailure::Denied,
                ErrorKind::Unavailable | ErrorKind::TimedOut => ReadFailure::TimedOut,
                _ => ReadFailure::Damaged,
            },
            Self::NoSnapshot(_) | Self::NoNode(_) => ReadFailure::NotFound,
            Self::Removed(_) => ReadFailure::Gone,
            Self::WrongKind { .. } => ReadFailure::WrongKind,
            Self::WrongSecret
            | Self::NoEnvelope(_)
            | Self::Envelope(_)
            | Self::OtherVault { .. }
            | Self::UnknownEpoch { .. }
            | Self::OldKeys { .. }
            | Self::NoWayIn
            | Self::TooManyWays
            | Self::Epochs(_) => ReadFailure::Denied,
            Self::Format(_)
            | Self::Damaged { .. }
            | Self::Untrusted { .. }
            | Self::Contradiction { .. }
            | Self::ShortContent { .. }
            | Self::RolledBack { .. }
            | Self::Forked { .. } => ReadFailure::Damaged,
        }
    }

    /// The error of the read ports, with the causes in its message and `object` before them.
    pub(crate) fn told(&self, object: Option<&str>) -> ReadError {
        let chain = describe(self);
        let message = object.map_or_else(|| chain.clone(), |object| format!("{object}: {chain}"));
        ReadError::new(self.failure(), message)
    }
}

/// An error and its causes, outermost first, in one line.
pub(crate) fn describe(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(kind: ErrorKind) -> VaultError {
        VaultError::Store(StoreError { kind, key: None, message: "the disk is away".into(), source: None })
    }

    #[test]
    fn trouble_keeps_its_kind() {
        assert_eq!(store(ErrorKind::Denied).failure(), ReadFailure::Denied);
        assert_eq!(store(ErrorKind::TimedOut).failure(), ReadFailure::TimedOut);
        assert_eq!(store(ErrorKind::NotFound).failure(), ReadFailure::Damaged);
        assert!(store(ErrorKind::NotFound).is_missing());
        assert_eq!(VaultError::Removed(SessionNo(3)).failure(), ReadFailure::Gone);
    }

    #[test]
    fn messages_hold_the_object_and_every_cause() {
        let VaultError::Store(cause) = store(ErrorKind::NotFound) else { unreachable!() };
        let error =
            VaultError::damaged_by(BlobKey::Pack(SessionNo(7), 2), 4096, "the pack is missing", cause);
        assert!(error.is_missing());
        let told = error.told(Some("/home/x"));
        assert_eq!(
            &*told.message,
            "/home/x: p/00000007/00000002, at byte 4096: the pack is missing: the disk is away"
        );
        assert_eq!(told.failure, ReadFailure::Damaged);
    }
}
