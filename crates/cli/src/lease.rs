//! Keeps what a mount has opened from being purged, where the vault lies in a folder (format.md 8.3). An account's store
//! renews its lease with the grants it asks for.
//!
//! **What it may not do.** Make a read wait, or end the mount: a vault that cannot be written is purged by nobody here.
//! **What always holds.** What was opened is in the lease seconds later, and stays in it until the mount ends.
//! **Where it is tested.** `tests/cli`.

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
    /// Begins to look at what `vault` opens; `id` is drawn at random.
    pub(crate) fn keep(store: FolderStore, vault: Vault, id: [u8; 16]) -> Self {
        let (stop, stopped) = mpsc::channel();
        let renew = move || {
            let (mut held, mut at) = (BTreeSet::new(), Instant::now());
            loop {
                let opened: BTreeSet<SessionNo> = vault.opened().into_iter().collect();
                let more = opened.difference(&held).next().is_some();
                if more || (!held.is_empty() && at.elapsed() >= RENEW) {
                    held.extend(opened);
                    at = Instant::now();
                    let all: Vec<SessionNo> = held.iter().copied().collect();
                    match store.lease(id, &all) {
                        Err(error) if error.kind == ErrorKind::Denied => {
                            tracing::debug!(%error, "no lease: the vault is only read here");
                            return;
                        }
                        Err(error) => tracing::warn!(%error, "the lease could not be renewed"),
                        Ok(()) => {}
                    }
                }
                match stopped.recv_timeout(LOOK) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            if !held.is_empty()
                && let Err(error) = store.release(id)
            {
                tracing::debug!(%error, "the lease was not given back; it ends by itself");
            }
        };
        let thread = std::thread::Builder::new().name("lease".into()).spawn(renew);
        let thread = thread.inspect_err(|error| tracing::warn!(%error, "no lease is kept")).ok();
        Self { stop: Some(stop), thread }
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
