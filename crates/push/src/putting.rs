//! Puts finished packs: several at once where the store is far away.
//!
//! **What it is.** Some threads that take packs from one queue. Each waits for the answer to its own pack, so the
//! way there and back, and what a store does before it answers, are paid once for all that are under way.
//! **What it may not do.** Decide what is stored: it is given packs that are complete.
//! **What always holds.** Packs may be acknowledged in any order; [`Putting::finish`] says that all were only when
//! every one was. After the first trouble no other is begun. On this device's disk lie at most the packs that are
//! under way, one that waits for its turn, and those that are being filled.
//! **Where it is tested.** Below; in `tests/protocol` with answers out of order and pushes that stop between them.
use crate::shared::Shared;
use backupengine_store::{BlobKey, Spool, StoreError, Writable};
use backupengine_vault::Vault;
use crossbeam_channel::Receiver;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Packs on their way at once across a network. A connection carries one window per round trip; four of 32 MiB fill
/// most lines, and are not too much to send again where a line breaks off.
const FAR: usize = 4;
/// Packs made durable at once in a folder. One: a disk is not faster with two, and filling the next pack goes on
/// beside it anyway.
const NEAR: usize = 1;

/// A spool with the name it is to be put under.
pub(crate) type ToPut = (BlobKey, Spool);

/// How many requests to have under way at a store that reads on this grid: above 1 it is across a network.
pub(crate) const fn at_once(grid: u64) -> usize {
    if grid > 1 { FAR } else { NEAR }
}

/// How many of the threads that put have nothing to do.
#[derive(Clone, Default)]
pub(crate) struct Idle(Arc<AtomicUsize>);

impl Idle {
    /// Whether any has.
    pub(crate) fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    #[cfg(test)]
    pub(crate) fn one() -> Self {
        Self(Arc::new(AtomicUsize::new(1)))
    }
}

/// What the threads that put have in common; see the module header.
pub(crate) struct Putting<'a> {
    vault: &'a Vault,
    store: &'a dyn Writable,
    shared: &'a Shared<'a>,
    trouble: Mutex<Option<StoreError>>,
    idle: Idle,
    /// A pack came that was not put.
    left: AtomicBool,
}

impl<'a> Putting<'a> {
    pub(crate) fn new(vault: &'a Vault, store: &'a dyn Writable, shared: &'a Shared<'a>) -> Self {
        let (trouble, idle, left) = (Mutex::default(), Idle::default(), AtomicBool::new(false));
        Self { vault, store, shared, trouble, idle, left }
    }

    /// Tells while it works whether the link could carry another pack. Near it never could: it does not matter there when a
    /// pack is put.
    pub(crate) fn idle(&self) -> Idle {
        if at_once(self.store.grid()) > NEAR { self.idle.clone() } else { Idle::default() }
    }

    /// One thread's work: puts what arrives until nothing more can, or the push ends early.
    pub(crate) fn work(&self, arriving: Receiver<ToPut>) {
        loop {
            self.idle.0.fetch_add(1, Ordering::Relaxed);
            let next = arriving.recv();
            self.idle.0.fetch_sub(1, Ordering::Relaxed);
            let Ok((key, spool)) = next else { return };
            if self.shared.ended() {
                self.left.store(true, Ordering::Relaxed);
                return;
            }
            if let Err(error) = self.vault.ask(self.store.put(key, spool)) {
                self.left.store(true, Ordering::Relaxed);
                // What came first is the reason; the others may be its consequence.
                self.trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                return self.shared.give_up();
            }
        }
    }

    /// Once all threads ended: whether every pack was put.
    ///
    /// # Errors
    /// The first of the store's.
    pub(crate) fn finish(self) -> Result<bool, StoreError> {
        match self.trouble.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(!self.left.into_inner()),
        }
    }
}
