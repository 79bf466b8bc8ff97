//! Keeps what is being read from being purged, by a mount, a restore or `cat`, where the vault lies in a folder (format.md 8.3). An account's store
//! renews its lease with the grants it asks for.
//!
//! **What it may not do.** Make a read wait, or end the mount: a vault that cannot be written is purged by nobody here.
//! **What always holds.** What was opened before is in the lease from the beginning, what is opened later seconds after,
//! and stays in it until the end.
//! **Where it is tested.** `tests/cli`.

use crate::error::Failure;
use crate::keychain;
use crate::place::Place;
use crate::wire::Opened;
use backupengine_model::SessionNo;
use backupengine_store::{ErrorKind, FolderStore};
use backupengine_vault::Vault;
use std::collections::BTreeSet;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often is looked whether something was opened.
const LOOK: Duration = Duration::from_secs(2);
/// How often the lease is renewed where nothing was: it lasts three times as long.
const RENEW: Duration = Duration::from_secs(20 * 60);

/// A lease that is renewed until it is dropped.
pub(crate) struct Lease {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Lease {
    /// Leases what `opened` has read from, and looks for more until the lease is dropped. `None` for an account.
    ///
    /// # Errors
    /// Where the folder is no vault any more, or there is no randomness.
    pub(crate) fn of(opened: &Opened) -> Result<Option<Self>, Failure> {
        let Place::Folder(folder) = &opened.place else { return Ok(None) };
        let (store, id) = (FolderStore::open(folder)?, keychain::random()?);
        let mut renewed =
            Renewed { store, vault: opened.vault.clone(), id, held: BTreeSet::new(), at: Instant::now() };
        if !renewed.look() {
            return Ok(None);
        }
        let (stop, stopped) = mpsc::channel();
        let renew = move || {
            while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) && renewed.look() {}
            renewed.give_back();
        };
        let thread = std::thread::Builder::new().name("lease".into()).spawn(renew);
        let thread = thread.inspect_err(|error| tracing::warn!(%error, "no lease is kept")).ok();
        Ok(Some(Self { stop: Some(stop), thread }))
    }
}

/// What is leased, and since when.
struct Renewed {
    store: FolderStore,
    vault: Vault,
    id: [u8; 16],
    held: BTreeSet<SessionNo>,
    at: Instant,
}

impl Renewed {
    /// Leases what was opened since, and everything when it is time; `false` where nobody may.
    fn look(&mut self) -> bool {
        let opened: BTreeSet<SessionNo> = self.vault.opened().into_iter().collect();
        let more = opened.difference(&self.held).next().is_some();
        if more || (!self.held.is_empty() && self.at.elapsed() >= RENEW) {
            self.held.extend(opened);
            self.at = Instant::now();
            let all: Vec<SessionNo> = self.held.iter().copied().collect();
            match self.store.lease(self.id, &all) {
                Err(error) if error.kind == ErrorKind::Denied => {
                    tracing::debug!(%error, "no lease: the vault is only read here");
                    self.held.clear();
                    return false;
                }
                Err(error) => tracing::warn!(%error, "the lease could not be renewed"),
                Ok(()) => {}
            }
        }
        true
    }

    fn give_back(self) {
        if !self.held.is_empty()
            && let Err(error) = self.store.release(self.id)
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
