//! The write pipeline: from a walk to a committed snapshot.
//!
//! **What it may not do.** Speak HTTP, delete, decide about retention.
//! **What always holds.** Packs and pages are stored before the root, the root before the commit; a broken-off
//! push leaves at most unused blobs; no (key, nonce) pair is used twice.
#![forbid(unsafe_code)]

use backupengine_model::{SessionNo, SnapshotId, Timestamp};
use backupengine_seal::{Certificate, DeviceKey};
use backupengine_source::{Notice, WalkConfig};
use backupengine_store::Writable;
use backupengine_vault::Vault;
use std::path::PathBuf;
use std::sync::Arc;

/// What to push and how.
pub struct PushConfig {
    pub walk: WalkConfig,
    pub device_name: String,
    pub tags: Vec<String>,
    /// When the push counts as begun (`--time`, else now).
    pub created: Timestamp,
    /// Folder for side files and the dedup index; all of it may be deleted at any time.
    pub state: PathBuf,
    /// Look, count, store nothing.
    pub dry_run: bool,
    /// Threads that read, hash and compress.
    pub threads: usize,
    /// zstd level, 3 by default.
    pub level: i32,
}
/// Who pushes.
pub struct Device {
    pub key: DeviceKey,
    pub certificate: Certificate,
}
/// Figures, current while it runs and final in the report. Field names are those of `--json`.
#[derive(Clone, Debug, Default)]
pub struct PushStats {
    pub files_new: u64,
    pub files_changed: u64,
    pub files_unmodified: u64,
    pub directories: u64,
    pub bytes_read: u64,
    pub bytes_new: u64,
    pub bytes_stored: u64,
    pub chunks_new: u64,
    pub chunks_reused: u64,
    pub errors: u64,
    pub skipped: u64,
    pub excluded: u64,
}
/// Told while it runs, from any thread; must not block.
pub trait Observer: Send + Sync {
    fn progress(&self, stats: &PushStats, current: &std::path::Path);
    fn notice(&self, notice: &Notice);
}
/// What came of it.
#[derive(Debug)]
pub struct PushReport {
    /// `None` after a dry run.
    pub snapshot: Option<(SessionNo, SnapshotId)>,
    pub stats: PushStats,
    /// Unreadable, vanished, torn: each listed.
    pub notices: Vec<Notice>,
}
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    #[error("interrupted; what was stored stays usable, push again to go on")]
    Interrupted,
    #[error("the source could not be walked")]
    Source(#[from] backupengine_source::SourceError),
    #[error("the store refused")]
    Store(#[from] backupengine_store::StoreError),
    #[error("the vault could not be read")]
    Vault(#[from] backupengine_vault::VaultError),
}
/// Pushes. `random` fills buffers with fresh random bytes; `stop` is polled and ends it with `Interrupted`.
pub fn push(
    _vault: &Vault,
    _store: Arc<dyn Writable>,
    _device: &Device,
    _config: PushConfig,
    _random: &(dyn Fn(&mut [u8]) + Sync),
    _stop: &std::sync::atomic::AtomicBool,
    _observer: &dyn Observer,
) -> Result<PushReport, PushError> {
    todo!()
}
