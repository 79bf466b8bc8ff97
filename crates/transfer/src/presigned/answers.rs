//! What the control plane said of the ledger, kept for a moment: a listing asks the same thing several times.
use backupengine_api::{EnvelopeRecord, MountedVault, SnapshotPage};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Answers with the time they came.
pub(crate) struct Answers {
    fresh: Duration,
    version: Kept<u64>,
    snapshots: Kept<SnapshotPage>,
    envelopes: Kept<Vec<EnvelopeRecord>>,
}

struct Kept<T>(Mutex<Option<(Instant, T)>>);

impl<T: Clone> Kept<T> {
    fn new(value: T) -> Self {
        Self(Mutex::new(Some((Instant::now(), value))))
    }
    fn get(&self, fresh: Duration) -> Option<T> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().filter(|(when, _)| when.elapsed() < fresh).map(|(_, value)| value.clone())
    }
    fn set(&self, value: Option<T>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = value.map(|value| (Instant::now(), value));
    }
}

impl Answers {
    pub(crate) fn new(opened: &MountedVault, fresh: Duration) -> Self {
        Self {
            fresh,
            version: Kept::new(opened.snapshots.version),
            snapshots: Kept::new(opened.snapshots.clone()),
            envelopes: Kept::new(opened.envelopes.clone()),
        }
    }

    pub(crate) fn version(&self) -> Option<u64> {
        self.version.get(self.fresh)
    }

    pub(crate) fn set_version(&self, version: u64) {
        self.version.set(Some(version));
    }

    /// The whole list, if it came whole.
    pub(crate) fn snapshots(&self) -> Option<SnapshotPage> {
        self.snapshots.get(self.fresh).filter(|page| !page.more)
    }

    pub(crate) fn envelopes(&self) -> Option<Vec<EnvelopeRecord>> {
        self.envelopes.get(self.fresh)
    }

    pub(crate) fn set_envelopes(&self, envelopes: Vec<EnvelopeRecord>) {
        self.envelopes.set(Some(envelopes));
    }

    /// Something was changed from here.
    pub(crate) fn forget(&self) {
        self.version.set(None);
        self.snapshots.set(None);
        self.envelopes.set(None);
    }
}
