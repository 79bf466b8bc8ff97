//! The one error of this crate: what ends a push. A single bad file never does; it becomes a notice.

use backupengine_model::SessionNo;

/// Why a push ended without a snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The stop flag was raised.
    #[error("interrupted; what was stored stays usable, push again to go on")]
    Interrupted,
    /// A root is missing, or a pattern is no pattern.
    #[error("the source could not be walked")]
    Source(#[from] backupengine_source::SourceError),
    /// A blob or the ledger could not be written.
    #[error("the store refused")]
    Store(#[from] backupengine_store::StoreError),
    /// What the new snapshot builds on could not be read.
    #[error("the vault could not be read")]
    Vault(#[from] backupengine_vault::VaultError),
    /// The keyring has no key for new packs.
    #[error("the vault's keys cannot be used for writing")]
    Keys(#[from] backupengine_seal::UnknownEpoch),
    /// A snapshot holds at most 2^32 - 2 nodes, a session at most 2^32 - 1 packs.
    #[error("{0} is more than a snapshot can hold")]
    TooLarge(&'static str),
    /// A pack that the snapshot builds on was given back while it was made, after this device was silent for days.
    #[error(
        "pack {number} of session {session}, which this push builds on, is gone; push again, all of it is read anew"
    )]
    Gone {
        /// Its session.
        session: SessionNo,
        /// Its number.
        number: u32,
    },
    /// A pack that the snapshot builds on was damaged, and healed while it was made.
    #[error(
        "pack {number} of session {session}, which this push builds on, was healed by a repair meanwhile; push again"
    )]
    Healed {
        /// Its session.
        session: SessionNo,
        /// Its number.
        number: u32,
    },
    /// [`Observer::believes`](crate::Observer::believes) said no.
    #[error("the vault does not show what was seen of it before; nothing was committed")]
    NotBelieved,
    /// A thread of this process died.
    #[error("the push broke off inside: {0}")]
    Broken(&'static str),
}
