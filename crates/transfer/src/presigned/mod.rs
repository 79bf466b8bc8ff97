//! The store port over presigned URLs: blobs straight to and from object storage, the ledger by the control plane.
//!
//! **What it is.** [`PresignedStore`], opened by one call that brings all a first listing needs; the ports stand in
//! `ports.rs`, `keep.rs` and `upkeep.rs`, grants in `book.rs`, single requests to storage in `get.rs` and `put.rs`.
//! **What it may not do.** Print a grant; look into a blob.
//! **What always holds.** Its futures work under any executor: the work runs on this crate's runtime.
//! **Where it is tested.** The conformance suite in `tests/stores`; `tests/server`.
mod answers;
mod book;
mod envelopes;
mod get;
mod keep;
mod ledger;
mod ports;
mod put;
mod upkeep;
pub(crate) mod warm;

use crate::http::{client, may_speak};
use crate::reach::Reach;
use crate::runtime::{handle, wait};
use crate::{Account, TransferError};
use answers::Answers;
use backupengine_api::{ChangeEnvelopes, DeviceEnvelope, Grant, MountVault, MountedVault, op};
use backupengine_model::{SessionNo, VaultId};
use backupengine_store::{
    BlobKey, EnvelopeChange, EnvelopeId, EnvelopeInfo, ErrorKind, SpoolFolder, StoreError,
};
use book::Book;
use put::Announcements;
use reqwest::Client;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use url::Url;
use warm::Warmth;

/// Records of snapshots that the opening call brings at most.
const SNAPSHOTS: u32 = 1000;

/// How to work.
#[derive(Clone, Debug)]
pub struct PresignedConfig {
    /// Folder for spools, of this user alone; made if need be.
    pub spools: PathBuf,
    /// Which vault, the account's only one where not said.
    pub vault: Option<VaultId>,
    /// How long one blob's GET or PUT may make no progress.
    pub timeout: Duration,
    /// Tries of one GET or PUT (5xx, cut connections).
    pub tries: u32,
    /// For how long an answer about the ledger counts without asking again.
    pub fresh: Duration,
}

impl PresignedConfig {
    /// The usual values, with spools in this folder.
    pub fn new(spools: PathBuf) -> Self {
        Self {
            spools,
            vault: None,
            timeout: Duration::from_secs(30),
            tries: 6,
            fresh: Duration::from_secs(2),
        }
    }
}

/// An account's vault as a store. Cheap to clone.
#[derive(Clone)]
pub struct PresignedStore {
    core: Arc<Core>,
}

/// What all clones share.
pub(crate) struct Core {
    account: Account,
    config: PresignedConfig,
    vault: VaultId,
    opened: Arc<MountedVault>,
    answers: Answers,
    book: Book,
    announcements: Announcements,
    spools: SpoolFolder,
    http: Client,
    runtime: Handle,
    gets: AtomicU64,
    puts: AtomicU64,
    /// Of object storage.
    reach: Reach,
    warmth: Warmth,
}

impl std::fmt::Debug for PresignedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PresignedStore({} at {})", self.core.vault, self.core.account.host())
    }
}

impl PresignedStore {
    /// Opens it: one call (`mount`), which brings all that a first listing needs.
    ///
    /// # Errors
    /// [`TransferError`]; a refusal with code `not_found` where the account has no vault.
    pub fn open(account: &Account, config: PresignedConfig) -> Result<Self, TransferError> {
        let spools = SpoolFolder::open(&config.spools)
            .map_err(|error| TransferError::System(format!("there is no place to prepare blobs: {error}")))?;
        let (asking, wanted) = (account.clone(), config.vault);
        let opened = wait(async move { mount(&asking, wanted, None).await })?;
        let core = Core {
            vault: opened.vault.vault,
            answers: Answers::new(&opened, config.fresh),
            book: Book::new(&opened),
            announcements: Announcements::default(),
            opened: Arc::new(opened),
            account: account.clone(),
            http: client()?,
            runtime: handle()?,
            gets: AtomicU64::new(0),
            puts: AtomicU64::new(0),
            reach: Reach::default(),
            warmth: Warmth::default(),
            spools,
            config,
        };
        Ok(Self { core: Arc::new(core) })
    }

    /// What the opening call brought.
    pub fn mounted(&self) -> Arc<MountedVault> {
        Arc::clone(&self.core.opened)
    }

    /// The account behind it.
    pub fn account(&self) -> &Account {
        &self.core.account
    }

    /// Requests to object storage made so far (GET, PUT), tries included: tests count round trips. What
    /// nobody waits for, because it only makes connections, does not count.
    pub fn requests(&self) -> (u64, u64) {
        (self.core.gets.load(Ordering::Relaxed), self.core.puts.load(Ordering::Relaxed))
    }

    /// When object storage, or the control plane, first did not answer, where it has not answered since.
    pub fn away_since(&self) -> Option<Instant> {
        [self.core.reach.away_since(), self.core.account.away_since()].into_iter().flatten().min()
    }

    /// Keeps what these snapshots need from being purged for another hour (and the days of grace), for as long as it is
    /// asked again. Grants for their roots do so as well; this is for who reads nothing for long.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn renew_lease(&self, opened: &[SessionNo]) -> Result<(), TransferError> {
        let (core, opened) = (Arc::clone(&self.core), opened.to_vec());
        wait(async move { core.renew_lease(&opened).await })
    }

    /// Adds a key envelope: the control plane's row, and the copy in the bucket. Repeating it is harmless.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn put_envelope(
        &self,
        id: EnvelopeId,
        epoch: u32,
        kind: &str,
        sealed: &[u8],
    ) -> Result<(), TransferError> {
        let (core, kind, sealed) = (Arc::clone(&self.core), kind.to_owned(), sealed.to_vec());
        wait(async move {
            core.put_envelope(id, epoch, kind, sealed, true).await.map_err(|error| TransferError::Storage {
                what: BlobKey::Envelope(id).to_string(),
                source: Box::new(error),
            })
        })
    }
}

impl PresignedStore {
    /// Changes which key envelopes there are, and what devices are given, all at once; the copies in the bucket come first. Repeating it is harmless.
    ///
    /// # Errors
    /// [`TransferError`]; a refusal with code `envelopes_moved` where somebody else changed them.
    pub fn change_keys(
        &self,
        change: &EnvelopeChange,
        devices: Vec<DeviceEnvelope>,
    ) -> Result<(), TransferError> {
        let (core, change) = (Arc::clone(&self.core), change.clone());
        wait(async move {
            let done = core.change_keys(&change, devices).await;
            done.map_err(|error| match error.source.as_deref().and_then(|cause| cause.downcast_ref()) {
                Some(TransferError::Refused(refusal)) => TransferError::Refused(refusal.clone()),
                _ => TransferError::Storage { what: "the key envelopes".to_owned(), source: Box::new(error) },
            })
        })
    }

    /// What a change of the key envelopes asks first: whether it may be, and grants for the copies.
    pub fn envelope_request(&self, change: &EnvelopeChange, devices: Vec<DeviceEnvelope>) -> ChangeEnvelopes {
        self.core.envelope_request(change, devices, false)
    }

    /// The key envelopes that count, with the time they were stored.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn envelope_infos(&self) -> Result<Vec<EnvelopeInfo>, TransferError> {
        let core = Arc::clone(&self.core);
        wait(async move {
            core.envelope_infos().await.map_err(|error| TransferError::Storage {
                what: "the key envelopes".to_owned(),
                source: Box::new(error),
            })
        })
    }
}

/// A grant's address, where it may be spoken to: who signs grants does not say that TLS may be left out.
fn address(grant: &Grant) -> Result<Url, StoreError> {
    let bad = |why: &str| StoreError::new(ErrorKind::Denied, format!("the grant is not used: {why}"));
    let url = Url::parse(&grant.0).map_err(|_| bad("it is no address"))?;
    may_speak(&url).map_err(bad)?;
    Ok(url)
}

/// The call that opens.
async fn mount(
    account: &Account,
    vault: Option<VaultId>,
    lease: Option<String>,
) -> Result<MountedVault, TransferError> {
    let request = MountVault { vault: vault.map(|vault| vault.to_string()), lease, snapshots: SNAPSHOTS };
    account.ask::<op::Mount>(&request).await
}

/// What a call that came to nothing means for a store.
fn store_error(error: TransferError) -> StoreError {
    use backupengine_api::Code;
    use backupengine_model::ledger::RuleBroken;
    let code = match &error {
        TransferError::Refused(refusal) => refusal.known(),
        _ => None,
    };
    let rule = match code {
        Some(Code::NumbersUsedUp) => Some(RuleBroken::NumbersUsedUp),
        Some(Code::UnknownSession) => Some(RuleBroken::UnknownSession),
        Some(Code::NotOpen) => Some(RuleBroken::NotOpen),
        Some(Code::WrongSession) => Some(RuleBroken::WrongSession),
        Some(Code::LabelTooLong) => Some(RuleBroken::LabelTooLong),
        Some(Code::RootNotStored) => Some(RuleBroken::RootNotStored),
        Some(Code::Held) => Some(RuleBroken::Held),
        Some(Code::CountersMoved) => Some(RuleBroken::CountersMoved),
        Some(Code::WrongPack) => Some(RuleBroken::WrongPack),
        Some(Code::PackGone) => Some(RuleBroken::PackGone),
        Some(Code::InUse) => Some(RuleBroken::InUse),
        Some(Code::EnvelopesMoved) => Some(RuleBroken::EnvelopesMoved),
        _ => None,
    };
    if let Some(rule) = rule {
        return StoreError::rule(rule).caused_by(error);
    }
    let kind = match (&error, code) {
        (TransferError::Unreachable { .. }, _) => ErrorKind::Unavailable,
        (TransferError::NotLoggedIn { .. }, _) => ErrorKind::Denied,
        (_, Some(Code::QuotaExceeded)) => ErrorKind::Full,
        (_, Some(Code::NotFound)) => ErrorKind::NotFound,
        (_, Some(Code::AlreadyExists | Code::NumberTaken)) => ErrorKind::AlreadyExists,
        (TransferError::Refused(refusal), _) if matches!(refusal.status, 401 | 403) => ErrorKind::Denied,
        (TransferError::Refused(refusal), _) if refusal.status >= 500 || refusal.status == 429 => {
            ErrorKind::Unavailable
        }
        _ => ErrorKind::Io,
    };
    // The cause says it all; the text above it is what is said of the vault.
    StoreError::new(kind, "the control plane did not do it").caused_by(error)
}
