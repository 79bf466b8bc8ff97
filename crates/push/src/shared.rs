//! What all stages of one push look at, from any thread.
//!
//! May not hold anything a stage changes, but counters and two flags. Tested with the stages.
use crate::dedup::Dedup;
use crate::error::PushError;
use crate::lost::Lost;
use crate::signals::Tally;
use crate::stats::Progress;
use backupengine_chunk::Chunker;
use backupengine_model::Kind;
use backupengine_seal::ContentIdKey;
use std::sync::atomic::{AtomicBool, Ordering};

/// See the module header.
pub(crate) struct Shared<'a> {
    pub(crate) ids: ContentIdKey,
    pub(crate) chunker: Chunker,
    pub(crate) dedup: Option<&'a Dedup<'a>>,
    pub(crate) progress: Progress<'a>,
    /// Signs of ransomware.
    pub(crate) tally: Tally,
    /// What a check found to be lost.
    pub(crate) lost: Lost,
    pub(crate) stop: &'a AtomicBool,
    /// A stage gave up: the others need not go on.
    pub(crate) broken: AtomicBool,
}

impl Shared<'_> {
    /// Whether to give up.
    pub(crate) fn ended(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.broken.load(Ordering::Relaxed)
    }

    /// Tells the other stages to give up.
    pub(crate) fn give_up(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    /// # Errors
    /// `Interrupted` once the stop flag is up.
    pub(crate) fn go_on(&self) -> Result<(), PushError> {
        if self.stop.load(Ordering::Relaxed) { Err(PushError::Interrupted) } else { Ok(()) }
    }
}

/// Whether a kind has bytes to read.
pub(crate) fn has_bytes(kind: Kind) -> bool {
    kind == Kind::File
}
