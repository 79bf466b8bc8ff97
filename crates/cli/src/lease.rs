//! Keeps what is being read from being purged, by a mount, a restore or `cat` (format.md 8.3).
//!
//! **What it may not do.** Make a read wait, or end the mount: a vault that cannot be written is purged by nobody here.
//! **What always holds.** Where the vault lies in a folder, what was opened before is in the lease from the beginning, what
//! is opened later seconds after. An account's store leases what it gets a root's grant for; here a mount renews that lease
//! although it asks for nothing, since everything it shows is kept on this device. What was opened stays in a lease until
//! the end.
//! **Where it is tested.** `tests/cli`; an account's by `tests/server` and `scripts/year`.

use crate::error::Failure;
use crate::keychain;
use crate::place::Place;
use crate::wire::Opened;
use backupengine_model::SessionNo;
use backupengine_store::{ErrorKind, FolderStore, StoreError};
use backupengine_transfer::PresignedStore;
use backupengine_vault::Vault;
use std::collections::BTreeSet;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// How often is looked whether something was opened.
const LOOK: Duration = Duration::from_secs(2);
/// How often the lease is renewed where nothing was: it lasts three times as long.
const RENEW: Duration = Duration::from_secs(20 * 60);

/// A lease that is renewed until it is dropped.
pub(crate) struct Lease {
    stop: Option<Sender<()>>,
    /// Waited for in the end, where it gives the lease back.
    thread: Option<JoinHandle<()>>,
}

impl Lease {
    /// Leases what `opened` has read from, and looks for more until the lease is dropped. `None` for an account.
    ///
    /// # Errors
    /// Where the folder is no vault any more, or there is no randomness.
    pub(crate) fn of(opened: &Opened) -> Result<Option<Self>, Failure> {
        let Place::Folder(folder) = &opened.place else { return Ok(None) };
        let held = Held::Folder { store: FolderStore::open(folder)?, id: keychain::random()? };
        let mut renewed = Renewed::new(held, &opened.vault);
        if !renewed.look() {
            return Ok(None);
        }
        Ok(Some(renewed.go_on()))
    }

    /// The same for what may stay for weeks; of an account from when its server is reached, by `store`.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn of_mount(
        opened: &Opened,
        store: &Arc<OnceLock<PresignedStore>>,
    ) -> Result<Option<Self>, Failure> {
        if matches!(opened.place, Place::Folder(_)) {
            return Self::of(opened);
        }
        let mut lease = Renewed::new(Held::Account(Arc::clone(store)), &opened.vault).go_on();
        // An account's ends by itself, and its server may not answer: nobody waits for that.
        lease.thread = None;
        Ok(Some(lease))
    }
}

/// Where it is held.
enum Held {
    Folder {
        store: FolderStore,
        id: [u8; 16],
    },
    /// Empty while its server was not reached.
    Account(Arc<OnceLock<PresignedStore>>),
}

impl Held {
    fn renew(&self, all: &[SessionNo]) -> Result<(), StoreError> {
        match self {
            Self::Folder { store, id } => store.lease(*id, all),
            Self::Account(store) => store.get().map_or(Ok(()), |store| {
                store.renew_lease(all).map_err(|error| {
                    StoreError::new(ErrorKind::Unavailable, "the server did not do it").caused_by(error)
                })
            }),
        }
    }
}

/// What is leased, and since when.
struct Renewed {
    held: Held,
    vault: Vault,
    sessions: BTreeSet<SessionNo>,
    /// By both clocks: the first stands still while the system sleeps and the lease runs out; the second may be set.
    at: (Instant, SystemTime),
}

impl Renewed {
    fn new(held: Held, vault: &Vault) -> Self {
        let at = (Instant::now(), SystemTime::now());
        Self { held, vault: vault.clone(), sessions: BTreeSet::new(), at }
    }

    /// Looks again and again in a thread of its own.
    fn go_on(mut self) -> Lease {
        let (stop, stopped) = mpsc::channel();
        let renew = move || {
            while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) && self.look() {}
            self.give_back();
        };
        let thread = std::thread::Builder::new().name("lease".into()).spawn(renew);
        let thread = thread.inspect_err(|error| tracing::warn!(%error, "no lease is kept")).ok();
        Lease { stop: Some(stop), thread }
    }

    fn is_due(&self) -> bool {
        let (awake, wall) = self.at;
        awake.elapsed() >= RENEW || wall.elapsed().is_ok_and(|passed| passed >= RENEW)
    }

    /// Leases what was opened since, and everything when it is time; `false` where nobody may.
    fn look(&mut self) -> bool {
        let before = self.sessions.len();
        self.sessions.extend(self.vault.opened());
        // With an account, what is opened is in the lease by the grant of its root, or was in one that lasts.
        let more = self.sessions.len() > before && matches!(self.held, Held::Folder { .. });
        if more || (!self.sessions.is_empty() && self.is_due()) {
            self.at = (Instant::now(), SystemTime::now());
            let all: Vec<SessionNo> = self.sessions.iter().copied().collect();
            match self.held.renew(&all) {
                Err(error) if error.kind == ErrorKind::Denied && matches!(self.held, Held::Folder { .. }) => {
                    tracing::debug!(%error, "no lease: the vault is only read here");
                    self.sessions.clear();
                    return false;
                }
                Err(error) => tracing::warn!(%error, "the lease could not be renewed"),
                Ok(()) => tracing::debug!(snapshots = all.len(), "the lease was renewed"),
            }
        }
        true
    }

    fn give_back(self) {
        if let Held::Folder { store, id } = &self.held
            && !self.sessions.is_empty()
            && let Err(error) = store.release(*id)
        {
            tracing::debug!(%error, "the lease was not given back; it ends by itself");
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has said what went wrong.
            drop(thread.join());
        }
    }
}
