//! Connections to object storage that are there before a reader needs them.
//!
//! **What it is.** Who comes to a snapshot soon reads from it, and then wants much at once: each connection that has to be
//! made first costs round trips (TCP, TLS) before the first byte is asked for. So, when blobs are expected, one byte of one
//! of them is asked for so many times at once; the client keeps the connections for what is asked next.
//! **What it may not do.** Hold up a reader, fail, or say anything of whether storage answers. **What always holds.** It is
//! done once a minute at most, however many snapshots somebody comes to. **Where it is tested.** `tests/get.rs`.
//!
//! *Decision.* 2026-11-30: a file of 128 MiB over 40 ms, read right after the mount came up, came at 372 instead of
//! 347 MiB/s (medians of nine in turn).
use super::Core;
use backupengine_store::{BlobKey, Range};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Connections that are made: as many as ranges are asked for at once at first.
pub(crate) const CONNECTIONS: usize = 16;
/// Not again before: the client drops a connection that lay idle for a minute and a half.
const AGAIN: Duration = Duration::from_secs(60);

/// When it was done last.
#[derive(Debug, Default)]
pub(super) struct Warmth(Mutex<Option<Instant>>);

impl Warmth {
    /// Whether it is to be done now.
    fn begin(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| last.elapsed() >= AGAIN);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

impl Core {
    /// Has connections made, with a request for the first of these blobs that there is a grant for.
    pub(super) fn warm(self: &Arc<Self>, keys: &[BlobKey]) {
        if keys.is_empty() || !self.warmth.begin() {
            return;
        }
        let (core, keys) = (Arc::clone(self), keys.to_vec());
        self.runtime.spawn(async move {
            for key in keys {
                let Ok(grant) = core.grant(key).await else { continue };
                for _ in 0..CONNECTIONS {
                    let (core, grant) = (Arc::clone(&core), grant.clone());
                    core.runtime.clone().spawn(async move {
                        // Whatever it says: who reads asks again.
                        drop(core.get_once(key, Range::At { offset: 0, len: 1 }, &grant).await);
                    });
                }
                return;
            }
        });
    }
}
