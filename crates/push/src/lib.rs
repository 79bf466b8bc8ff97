//! The write pipeline: from a walk to a committed snapshot.
//!
//! **What it is.** One function, [`push`], and what it leaves on this device for a repair ([`LiveRemains`]). Values move forward through stages on threads of their own:
//! `walk` (holds the source against the parent) → `reader` (reads, cuts, hashes, compresses) → `assemble`
//! (decides what is new) → `packer` (lays out and seals) and `tree` (pages) → `putting` (packs, several at once
//! where the store is far) → `finish` (root, commit).
//!
//! **What it may not do.** Speak HTTP, delete, decide about retention.
//!
//! **What always holds.** Packs and pages are stored before the root, the root before the commit; a broken-off
//! push leaves at most unused blobs; no (key, nonce) pair is used twice. Memory does not grow with the source:
//! 32 MiB of file bytes are in flight, one page per level, one leaf of the parent per class. What does grow is
//! small: about 100 bytes per index page and per inode whose other names are still to come.
//!
//! **Where it is tested.** Beside the code and in `tests/`; `tests/protocol`, `tests/oracle`, `tests/cli`.
//!
//! # Decisions
//! 2026-11-24:
//! - A file with more than one link is stored as the first of its names even if the walk meets no other: the
//!   node is written before the others can be known. Readers treat it as a file of its own.
//! - A push resumes the newest open session of its device, dedups against the footers of the packs that are
//!   there and counts on from their numbers: no journal, the store is the truth. A session whose root is
//!   stored is committed as it is. Only the push that holds the lock in the state folder does either, and only
//!   with sessions whose own lock file is there and free: without it a push beside another one would be taken
//!   for broken off. With the state folder lost, packs of a broken-off session wait for prune.
//! - The lowest index level is built per class, so that the directories' leaves need not be complete before
//!   the others'. Small trees have one lowest page all the same.
//! - Chunks go to the first of up to three open packs with room, so that full packs are exactly 32 MiB with
//!   little filler and no chunk has to wait in memory. Below 8 MiB everything shares one pack.
//! - Change times within 20 ms of now are waited out before a file is read, instead of being distrusted: the
//!   next push then need not read it again, and no change within the same clock tick is missed.
//! - Pieces below 512 bytes stand in the dedup index under a name of their content and place: not to be found by
//!   content, which would scatter them, but for [`LiveSeeds`]. About 40 bytes each on this device, none in the vault.
//! - A file that vanishes between listing and reading is a notice, no error.
//! - Packs go to a store across a network four at a time, each on a thread that waits for its answer: they may be
//!   acknowledged in any order, so a session that broke off can have gaps among its numbers, and going on with it
//!   counts from the largest. A folder gets one at a time. What is far is told by the store's grid, as for reading.
//! - What a push asks before it writes is one call, for a session of its own. The list of sessions is asked for where
//!   this device left a claim behind (else nothing of it broke off), and when the first content is looked up, then as
//!   it is in the open session: packs that are retired after it was opened are noticed at the commit, those before not.
//! - A parent is a snapshot that may hold some of the same paths (2026-11-29): any other was read and compared in vain,
//!   two round trips before the first file. What of its contents is the same, the index knows.
//! - A far vault's newest roots are held against what was seen of it before ([`Observer::believes`]) while a session is
//!   opened and data go out (2026-11-30): they take two round trips. Whether its list is an older one takes none, and the
//!   program looks at that before. A vault that is not believed may then hold sealed packs of a session that nobody
//!   commits, and that the next push goes on with once the vault is accepted. What an earlier push left is not touched
//!   before the answer; near, nothing is.
//! - Across a network the session is opened while the first files are walked, read and compressed, as far as the 32 MiB
//!   reach (2026-11-30): opening it, and the list of sessions, are two round trips that nothing but the places of frames
//!   needs. So a reader no longer waits for the index: what it cannot tell yet it compresses, and the assembler looks it up.
//!   Where there is no parent, the list of sessions is asked for at the same time and believed if nothing was retired
//!   until the session was open. Where the list of snapshots moved until then, the push begins anew in that session.
//!   What broke off is looked at before anything is read.
//! - A pack with less than 64 KiB of room goes out when one of the threads that put has nothing to do (2026-11-30). Before,
//!   the first went out when a fourth was begun: half of a disk image had been compressed by then, and 85 MiB of it were
//!   sent when nothing else was left to do. Nothing is gained by filling the rest of the room: it is in the last pack then.
//! - The root is not announced together with the last packs, which would save a round trip: a session whose root was
//!   announced cannot be gone on with, and a push that breaks off there would store everything again.
#![forbid(unsafe_code)]

mod assemble;
mod beside;
mod budget;
mod bundle;
mod claim;
mod commit;
mod config;
mod dedup;
mod error;
mod extents;
mod finish;
mod flow;
mod kept;
mod lost;
mod mark;
mod packer;
mod pages;
mod parent;
mod plan;
mod putting;
mod reader;
mod remains;
mod run;
mod sealer;
mod seeds;
mod session;
mod shared;
mod side_file;
mod signals;
mod stages;
mod stats;
mod stream;
#[cfg(test)]
mod tests;
mod tree;
mod waiting;
mod walk;

pub use config::{Device, PushConfig};
pub use dedup::{IndexState, mend_index};
pub use error::PushError;
pub use lost::{LostPlace, note_lost};
pub use remains::LiveRemains;
pub use seeds::LiveSeeds;
pub use signals::Signal;
pub use stats::{Observer, PushStats};

use backupengine_model::ledger::SnapshotRecord;
use backupengine_model::{RootHash, SessionNo, SnapshotId};
use backupengine_source::Notice;
use backupengine_store::Writable;
use backupengine_vault::Vault;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Fills a buffer with fresh random bytes of the operating system.
pub type Random<'a> = &'a (dyn Fn(&mut [u8]) + Sync);

/// What came of it.
#[derive(Debug)]
pub struct PushReport {
    /// `None` after a dry run.
    pub snapshot: Option<(SessionNo, SnapshotId)>,
    /// The snapshot as the ledger lists it now.
    pub record: Option<SnapshotRecord>,
    /// Hash of its root: with the session what a device remembers of what it made (a floor).
    pub root: Option<RootHash>,
    /// Final figures.
    pub stats: PushStats,
    /// Unreadable, vanished, torn, skipped: each listed, by path.
    pub notices: Vec<Notice>,
    /// Signs of ransomware. Where there are any, the snapshot was made all the same and has the tag
    /// [`SUSPICIOUS`](backupengine_model::SUSPICIOUS).
    pub signals: Vec<Signal>,
    /// The last snapshot of this device and these sources without that tag: it is held now.
    pub held: Option<SnapshotId>,
}

/// Pushes. `random` fills buffers with fresh random bytes; `stop` is polled and ends it with `Interrupted`.
///
/// # Errors
/// See [`PushError`]. No snapshot exists then; what was stored is reused by the next push.
pub fn push(
    vault: &Vault,
    store: Arc<dyn Writable>,
    device: &Device,
    config: PushConfig,
    random: Random<'_>,
    stop: &AtomicBool,
    observer: &dyn Observer,
) -> Result<PushReport, PushError> {
    let (store, config) = (&*store, &config);
    let run = run::Run { vault, store, device, config, random, stop, observer };
    if config.dry_run { run.dry() } else { run.push() }
}
