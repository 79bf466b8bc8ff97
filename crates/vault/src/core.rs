//! The unlocked vault: what it is made of, and what it answers besides the read ports.
//!
//! **What it may not do.** Hold logic: each question goes to its module. **What always holds.** All caches
//! together stay within [`VaultConfig::memory`]. **Where it is tested.** In the reader's tests.

use crate::cache::{Frames, Pages, Weighed, loaded, weighed};
use crate::codec;
use crate::content::{LONG, Next, Reading, Starts, starts_of};
use crate::error::VaultError;
use crate::fetch::ahead::ReadAhead;
use crate::fetch::plan::{Cursors, FETCHED, OPENED};
use crate::fetch::{Activity, Fetcher, Place, blob_of};
use crate::floor::Pins;
use crate::forward::Relocations;
use crate::keys::NewerKeys;
use crate::open::Opener;
use crate::seeds::{Seedbed, Seeds};
use crate::snapshots::Snapshots;
use crate::tree::{Found, Runs, Tree};
use crate::ways::WaysIn;
use crate::{Leaves, Root, VaultStats, root};
use backupengine_format::page::{Content, LeafEntry};
use backupengine_model::ledger::SnapshotRecord;
use backupengine_model::{
    Forgotten, FrameKind, FrameRef, NodeId, NodeKey, SessionNo, SnapshotInfo, TreePath,
};
use backupengine_seal::Keyring;
use backupengine_store::{BlobKey, BlockCache, BoxFuture, END_BLOCK, Readable, SnapshotList, StoreError};
use bytes::Bytes;
use quick_cache::Weighter;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// Budgets.
#[derive(Clone)]
pub struct VaultConfig {
    /// Bytes for opened data frames and pages, and sealed blocks across a network, together.
    pub memory: u64,
    /// Threads that fetch and open ahead of need; 0 for none.
    pub read_ahead_threads: usize,
    /// Sealed blocks on this device's disk, for stores across a network.
    pub blocks: Option<Arc<dyn BlockCache>>,
    /// Whether [`Vault::touched`] is to be told, for what is to be kept on this device.
    pub note_touched: bool,
    /// How long a question to the read ports waits for a store across a network; then it fails as
    /// `ReadFailure::TimedOut`. What is on its way comes nevertheless. `None`: until the store gives up.
    pub timeout: Option<Duration>,
    /// What the way to a store across a network carried last time ([`Vault::pace`]), in bytes a second: believed until
    /// something says better. `None`: a household's line.
    pub pace: Option<u64>,
}

impl Default for VaultConfig {
    fn default() -> Self {
        let (memory, read_ahead_threads) = (96 << 20, 2);
        Self { memory, read_ahead_threads, blocks: None, note_touched: false, timeout: None, pace: None }
    }
}

impl std::fmt::Debug for VaultConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { memory, read_ahead_threads, blocks, note_touched, timeout, pace } = self;
        let mut shown = f.debug_struct("VaultConfig");
        shown.field("memory", memory).field("read_ahead_threads", read_ahead_threads);
        shown.field("blocks", &blocks.is_some()).field("note_touched", note_touched);
        shown.field("timeout", timeout).field("pace", pace).finish()
    }
}

/// An unlocked vault; cheap to clone, used from many threads. Fills `TreeReader` and `ContentReader`.
#[derive(Clone)]
pub struct Vault {
    pub(crate) core: Arc<Core>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("vault", &self.keyring().vault()).finish_non_exhaustive()
    }
}

/// The parts of an unlocked vault.
pub(crate) struct Core {
    pub(crate) opener: Arc<Opener>,
    pub(crate) pages: Pages,
    pub(crate) frames: Arc<Frames>,
    pub(crate) snapshots: Snapshots,
    pub(crate) trees: Weighed<SessionNo, Arc<Tree>, TreeWeight>,
    pub(crate) pins: Pins,
    runs: Weighed<NodeId, Arc<Runs>, RunsWeight>,
    starts: Weighed<NodeId, Starts, StartsWeight>,
    /// What is opened ahead of readers, and what is fetched ahead of that.
    cursors: Mutex<Cursors>,
    fetched: Mutex<Cursors>,
    ahead: ReadAhead,
    seeds: OnceLock<Seedbed>,
    /// See [`VaultConfig::timeout`].
    pub(crate) timeout: Option<Duration>,
}

#[derive(Clone)]
pub(crate) struct TreeWeight;
impl Weighter<SessionNo, Arc<Tree>> for TreeWeight {
    fn weight(&self, _: &SessionNo, tree: &Arc<Tree>) -> u64 {
        tree.weight()
    }
}

#[derive(Clone)]
struct RunsWeight;
impl Weighter<NodeId, Arc<Runs>> for RunsWeight {
    fn weight(&self, _: &NodeId, runs: &Arc<Runs>) -> u64 {
        runs.weight()
    }
}

#[derive(Clone)]
struct StartsWeight;
impl Weighter<NodeId, Starts> for StartsWeight {
    fn weight(&self, _: &NodeId, starts: &Starts) -> u64 {
        starts.len() as u64 * 8 + 96
    }
}

/// Most of one file that [`Core::will_read`] asks for, in bytes: the rest follows as it is read.
const WILL_READ: u64 = 8 << 20;

impl Vault {
    pub(crate) fn new(
        fetcher: Fetcher,
        keyring: Keyring,
        moved: Option<Arc<dyn Relocations>>,
        config: &VaultConfig,
    ) -> Self {
        // Sixteenths of the budget: frames 8 (6 where 2 go to sealed blocks), pages 4, read ahead 2, roots 1,
        // places in lists 1.
        let part = (config.memory / 16).max(64 << 10);
        let sealed = if fetcher.is_far() { 2 } else { 0 };
        let plans = config.read_ahead_threads > 0;
        fetcher.keep(sealed * part, config.blocks.clone(), plans, config.note_touched);
        fetcher.expect_pace(config.pace);
        let fetched = fetcher.stay();
        let opener = Arc::new(Opener::new(fetcher, keyring, moved));
        let frames = Arc::new(Frames::new(Arc::clone(&opener), (8 - sealed) * part));
        let core = Core {
            pages: Pages::new(Arc::clone(&opener), 4 * part),
            snapshots: Snapshots::new(Arc::clone(&opener)),
            trees: weighed(part, 64 << 10, TreeWeight),
            pins: Pins::default(),
            runs: weighed(part / 2, 256, RunsWeight),
            starts: weighed(part / 2, 8 << 10, StartsWeight),
            // A quarter of the frames that are kept: what was opened ahead is still there when it is read.
            cursors: Mutex::new(Cursors::new(OPENED, 2 * part)),
            fetched: Mutex::new(Cursors::new(FETCHED, fetched)),
            ahead: ReadAhead::new(Arc::clone(&frames), config.read_ahead_threads, 2 * part),
            frames,
            opener,
            seeds: OnceLock::new(),
            timeout: config.timeout,
        };
        Self { core: Arc::new(core) }
    }

    /// Asks `source` for newer keys when something is met that was sealed after a rotation. The first that is given
    /// stays.
    pub fn renew_from(&self, source: Arc<dyn NewerKeys>) {
        self.core.opener.keys().renew_from(source);
    }

    /// The newest key epoch that was met and could not be opened, if any was.
    pub fn unknown_epoch(&self) -> Option<u16> {
        self.core.opener.keys().unknown_epoch()
    }

    /// The ways into this vault that its store lists.
    ///
    /// # Errors
    /// [`VaultError::Store`].
    pub fn ways_in(&self) -> Result<WaysIn, VaultError> {
        WaysIn::read(self.core.opener.fetcher(), self.keyring().vault())
    }

    /// The keys it was opened with.
    pub fn keyring(&self) -> &Keyring {
        self.core.opener.keyring()
    }

    /// Takes files' bytes from live files of this device from now on, where their content ids say that they are the
    /// same. For stores that are farther away than this device's disk. The first seeds that are given stay.
    pub fn seed_from(&self, seeds: Arc<dyn Seeds>) {
        let counters = Arc::clone(self.core.opener.fetcher().counters());
        // Given twice: the first stands.
        drop(self.core.seeds.set(Seedbed::new(seeds, self.keyring().content_ids(), counters)));
    }

    /// The store it reads.
    pub fn store(&self) -> &Arc<dyn Readable> {
        self.core.opener.fetcher().store()
    }

    /// Waits for an answer of the store on the calling thread, as this vault's own reads do: for what looks at
    /// blobs themselves.
    ///
    /// # Errors
    /// The store's.
    pub fn ask<T>(&self, answer: BoxFuture<'_, Result<T, StoreError>>) -> Result<T, StoreError> {
        self.core.opener.fetcher().ask(answer)
    }

    /// What reading cost so far.
    pub fn stats(&self) -> VaultStats {
        self.core.opener.fetcher().counters().read()
    }

    /// What the way to the store carries, in bytes a second, where enough came this time to say so.
    pub fn pace(&self) -> Option<u64> {
        self.core.opener.fetcher().pace()
    }

    /// Who waits for the store now, and what is on its way.
    pub fn activity(&self) -> Activity {
        self.core.opener.fetcher().activity()
    }

    /// The path of a node, for a person. Asks as any question about it does: whoever reads the node has what says it.
    ///
    /// # Errors
    /// As of [`TreeReader::node`](backupengine_model::TreeReader::node).
    pub fn path(&self, id: NodeId) -> Result<TreePath, VaultError> {
        let tree = self.core.tree(id.session)?;
        self.core.path(&tree, id)
    }

    /// Blocks of blobs that were asked for so far, wherever they came from; what was only fetched ahead is not among
    /// them. Under [`END_BLOCK`](backupengine_store::END_BLOCK) stand the ends of blobs. Empty without
    /// [`VaultConfig::note_touched`], and for a store that is near.
    pub fn touched(&self) -> Vec<(BlobKey, u32)> {
        self.core.opener.fetcher().touched()
    }

    /// All snapshots, oldest first: from memory while the ledger's version stands, else one call. Where the
    /// ledger does not read, the list is rebuilt from the roots.
    ///
    /// # Errors
    /// [`VaultError::Store`].
    pub fn list(&self) -> Result<Arc<Vec<SnapshotInfo>>, VaultError> {
        Ok(self.core.snapshots.list()?.infos)
    }

    /// The list as the ledger has it, with its version: what may be remembered of it. Asks as [`Vault::list`] does.
    ///
    /// # Errors
    /// [`VaultError::Store`].
    pub fn listed(&self) -> Result<SnapshotList, VaultError> {
        let listed = self.core.snapshots.list()?;
        Ok(SnapshotList { version: listed.version, snapshots: listed.records.to_vec() })
    }

    /// Snapshots whose trees are kept open.
    pub fn opened(&self) -> Vec<SessionNo> {
        self.core.trees.iter().map(|(session, _)| session).collect()
    }

    /// What a record of the ledger says, whether it is listed or in the trash. Asks nobody, except for a root where the
    /// label does not say it all.
    ///
    /// # Errors
    /// [`VaultError::Store`].
    pub fn describe(&self, record: &SnapshotRecord) -> Result<SnapshotInfo, VaultError> {
        self.core.snapshots.describe(record.clone())
    }

    /// What the sealed label of a record says was forgotten.
    pub fn forgotten(&self, record: &SnapshotRecord) -> Vec<Forgotten> {
        self.core.snapshots.forgotten(record)
    }

    /// Version of the list that was read last; asks nobody. `None` before the first.
    pub fn list_version(&self) -> Option<u64> {
        self.core.snapshots.last_version()
    }

    /// Blocks that reading a file whole needs, with the ends of the packs they lie in, in order and once each; none
    /// where the store is near. Fetches as [`ContentReader::nearness`](backupengine_model::ContentReader::nearness)
    /// does.
    ///
    /// # Errors
    /// [`VaultError::WrongKind`] where it is no file.
    pub fn blocks_of(&self, id: NodeId) -> Result<BTreeSet<(BlobKey, u32)>, VaultError> {
        let places = self.core.places(id)?;
        let mut blocks = BTreeSet::new();
        for (blob, range, _) in &places.ranges {
            blocks.extend(self.core.opener.fetcher().blocks_of(*blob, range).map(|block| (*blob, block)));
            blocks.insert((*blob, END_BLOCK));
        }
        Ok(if self.core.opener.fetcher().is_far() { blocks } else { BTreeSet::new() })
    }

    /// Brings a block into the disk cache, or the end of a blob under [`END_BLOCK`], from wherever it is; whether it is
    /// there now. Nothing is opened: what does not authenticate is found when it is read.
    ///
    /// # Errors
    /// [`VaultError::Store`].
    pub fn bring(&self, blob: BlobKey, block: u32) -> Result<bool, VaultError> {
        self.core.opener.fetcher().bring(blob, block)
    }

    /// Fetches (once) and verifies a root: seal, signature, certificate chain, role.
    ///
    /// # Errors
    /// [`VaultError::NoSnapshot`], [`VaultError::Untrusted`], [`VaultError::Forked`], damage.
    pub fn root(&self, session: SessionNo) -> Result<Arc<Root>, VaultError> {
        Ok(Arc::clone(&self.core.tree(session)?.root))
    }

    /// Fetches and verifies a root that need not be listed: one in the trash counts for a collection.
    ///
    /// # Errors
    /// As [`Vault::root`].
    pub fn root_of(&self, record: &SnapshotRecord) -> Result<Root, VaultError> {
        let root = root::load(&self.core.opener, record.session, Some(record.head_len))?;
        root.agrees_with(record)?;
        Ok(root)
    }

    /// Where a frame lies in a relocation pack; `None` where that has it not.
    ///
    /// # Errors
    /// [`VaultError::Damaged`] where it is no relocation pack that reads; [`VaultError::Store`].
    pub fn place_in(
        &self,
        at: &FrameRef,
        (session, number): (SessionNo, u32),
    ) -> Result<Option<FrameRef>, VaultError> {
        let relocation = self.core.opener.relocation(session, number)?;
        let found = relocation.table.find(at.pack.session, at.pack.number, at.offset);
        let pack = *relocation.key.pack();
        Ok(found.map(|(offset, stored_len)| FrameRef { pack, offset, stored_len }))
    }

    /// Which frames a relocation pack has: by pack, how many.
    ///
    /// # Errors
    /// As [`Vault::place_in`].
    pub fn held_in(
        &self,
        (session, number): (SessionNo, u32),
    ) -> Result<BTreeMap<(SessionNo, u32), u64>, VaultError> {
        let relocation = self.core.opener.relocation(session, number)?;
        let mut held = BTreeMap::new();
        for entry in &relocation.table.entries {
            *held.entry((entry.session, entry.number)).or_default() += 1;
        }
        Ok(held)
    }

    /// Codec and body, and plaintext, of a frame whose pack's end does not read, or of `sealed` bytes that were kept of it:
    /// by its reference alone. Only for a reference that stands in a sealed page.
    ///
    /// # Errors
    /// As [`Vault::frame`].
    pub fn bare_frame(
        &self,
        kind: FrameKind,
        at: &FrameRef,
        sealed: Option<Vec<u8>>,
    ) -> Result<(Bytes, Bytes), VaultError> {
        match sealed {
            Some(sealed) => self.core.opener.bare_of(kind, at, sealed.into()),
            None => self.core.opener.bare(kind, at),
        }
    }

    /// What was sealed of a frame, codec and body, and the length of its plaintext in bytes: for copying it as it is.
    ///
    /// # Errors
    /// As [`Vault::frame`].
    pub fn frame_body(&self, kind: FrameKind, at: &FrameRef) -> Result<(Bytes, u32), VaultError> {
        self.core.opener.body(kind, at)
    }

    /// Opens one frame: fetch, forward if moved, commitment, seal, codec, length. Past the caches.
    /// `plain_len` where the reference implies the exact length.
    ///
    /// # Errors
    /// [`VaultError::Damaged`] naming blob and place; [`VaultError::Store`].
    pub fn frame(
        &self,
        kind: FrameKind,
        at: &FrameRef,
        plain_len: Option<usize>,
    ) -> Result<Bytes, VaultError> {
        self.core.opener.open(kind, at, plain_len)
    }

    /// All leaves of a snapshot in key order, streaming, without filling the cache.
    ///
    /// # Errors
    /// As [`Vault::root`]; the iterator's own errors name the page.
    pub fn leaves(&self, session: SessionNo) -> Result<Leaves, VaultError> {
        Ok(Leaves::new(Arc::clone(&self.core.opener), &*self.core.tree(session)?))
    }

    /// As [`Vault::leaves`], beginning with the leaf that holds `key`, or would.
    ///
    /// # Errors
    /// As [`Vault::leaves`].
    pub fn leaves_from(&self, session: SessionNo, key: &NodeKey) -> Result<Leaves, VaultError> {
        Ok(Leaves::from(Arc::clone(&self.core.opener), &*self.core.tree(session)?, key))
    }
}

impl Core {
    /// An opened snapshot, loaded once while it stays in the cache.
    pub(crate) fn tree(&self, session: SessionNo) -> Result<Arc<Tree>, VaultError> {
        loaded(&self.trees, &session, || {
            let listed = self.snapshots.record(session)?;
            let root = root::load(&self.opener, session, Some(listed.head_len))?;
            root.agrees_with(&listed)?;
            self.pins.check(&root)?;
            self.expect_packs(&root);
            Ok(Arc::new(Tree::new(Arc::new(root))?))
        })
    }

    /// Tells the store which packs are read next by whoever has just come to this snapshot: those of its pages, and the
    /// first of its data.
    fn expect_packs(&self, root: &Root) {
        let pages = root.record.page_packs.iter().map(|pack| blob_of(pack.session, pack.number));
        let mut packs: Vec<BlobKey> = pages.collect();
        packs.push(BlobKey::Pack(root.record.session, 0));
        packs.sort_unstable();
        packs.dedup();
        self.opener.fetcher().store().expect(&packs);
    }

    /// Begins to fetch the leaves that lie apart, when somebody comes below "/": who looks there soon looks further, and
    /// each of them would cost a round trip of its own.
    pub(crate) fn gather(&self, tree: &Tree, dir: NodeId) {
        if dir.place != 0 && self.opener.fetcher().is_far() {
            let mut apart = Vec::new();
            tree.strays().iter().for_each(|frame| push_range(&mut apart, frame));
            self.opener.fetcher().ahead(&apart);
        }
    }

    /// Where the children of a directory stand.
    pub(crate) fn runs(&self, tree: &Tree, dir: NodeId) -> Result<Arc<Runs>, VaultError> {
        self.gather(tree, dir);
        loaded(&self.runs, &dir, || {
            let path = self.directory(tree, dir)?;
            Ok(Arc::new(tree.runs(&self.pages, path)?))
        })
    }

    /// A file, ready to be read.
    pub(crate) fn reading<'a>(&'a self, id: NodeId, found: &'a Found) -> Reading<'a> {
        let entry = found.entry();
        let starts = if is_long(entry) { self.starts(id, &entry.content) } else { None };
        let seed = self.seeds.get().and_then(|bed| bed.seed(id, || found.path(), &entry.attributes));
        Reading { entry, starts, pages: &self.pages, frames: &self.frames, seed }
    }

    fn starts(&self, id: NodeId, content: &Content) -> Option<Starts> {
        let made = self.starts.get_or_insert_with(&id, || starts_of(content).ok_or(()));
        made.ok()
    }

    /// Notes a read; fetches and opens ahead what is likely to follow.
    pub(crate) fn note_read(&self, id: NodeId, reading: &Reading<'_>, offset: u64, len: u64) {
        if !self.ahead.is_on() || !has_runs(reading.entry) || reading.is_seeded() {
            return;
        }
        let size = reading.entry.attributes.size;
        if self.opener.fetcher().is_far() {
            // All of this read at once, before anything that comes later.
            self.opener.fetcher().want(&self.ranges(reading, offset, offset.saturating_add(len)));
            // Not in one statement with what follows: the lock would be held meanwhile.
            let ahead = locked(&self.fetched).read(id, offset, len, size);
            if let Some(ahead) = ahead {
                let fetcher = self.opener.fetcher();
                let to = ahead.to.min(offset.saturating_add(len).saturating_add(fetcher.moment()));
                if !fetcher.ahead(&self.ranges(reading, ahead.from, to)) {
                    locked(&self.fetched).fell_short(&ahead, ahead.from);
                } else if to < ahead.to {
                    locked(&self.fetched).fell_short(&ahead, to.max(ahead.from));
                }
            }
        }
        let ahead = locked(&self.cursors).read(id, offset, len, size);
        let Some(ahead) = ahead else { return };
        if let Some(short) = self.open_ahead(reading, ahead.from, ahead.to) {
            locked(&self.cursors).fell_short(&ahead, short);
        }
    }

    /// Where the frames of a part of a file lie that are not opened yet.
    fn ranges(&self, reading: &Reading<'_>, from: u64, to: u64) -> Vec<Place> {
        let mut ranges = Vec::new();
        let visited = reading.visit(from, &mut |run| {
            if run.start >= to {
                return Ok(Next::Enough);
            }
            if let Some(frame) = run.frame.filter(|frame| !self.frames.holds(frame)) {
                push_range(&mut ranges, &frame);
            }
            Ok(Next::More)
        });
        if let Err(error) = visited {
            // The read that needs this page will say what is wrong with it.
            tracing::debug!(error = crate::error::describe(&error), "reading ahead stopped");
        }
        ranges
    }

    /// Queues the frames of a part of a file; where it stopped, if it did.
    fn open_ahead(&self, reading: &Reading<'_>, from: u64, to: u64) -> Option<u64> {
        let mut stopped = None;
        let visited = reading.visit(from, &mut |run| {
            if run.start >= to {
                return Ok(Next::Enough);
            }
            let queued = run.frame.is_none_or(|frame| self.ahead.push(frame, usize::try_from(run.len).ok()));
            if !queued {
                stopped = Some(run.start.max(from));
            }
            Ok(if queued { Next::More } else { Next::Enough })
        });
        if let Err(error) = visited {
            // The read that needs this page will say what is wrong with it.
            tracing::debug!(error = crate::error::describe(&error), "read ahead stopped");
        }
        stopped
    }

    /// Has the first part of these files fetched, in this order, as far as the budget goes, where that takes time.
    pub(crate) fn will_need(&self, ids: &[NodeId]) -> Result<(), VaultError> {
        if !self.ahead.is_on() || !self.opener.fetcher().is_far() {
            return Ok(());
        }
        let mut ranges = Vec::new();
        for &id in ids.iter().filter(|id| id.place != 0) {
            let tree = self.tree(id.session)?;
            let found = tree.found(&self.pages, id)?;
            let reading = self.reading(id, &found);
            match &found.entry().content {
                Content::Bundle { .. } | Content::Extents(_) | Content::Pages(_) if reading.is_seeded() => {}
                Content::Bundle { frame, .. } if !self.frames.holds(frame) => push_range(&mut ranges, frame),
                Content::Extents(_) | Content::Pages(_) => {
                    for (blob, range) in self.ranges(&reading, 0, WILL_READ) {
                        push_place(&mut ranges, blob, range);
                    }
                }
                Content::Bundle { .. } | Content::None | Content::Inline(_) => {}
            }
        }
        self.opener.fetcher().ahead(&ranges);
        Ok(())
    }

    /// Queues the first frames of these files, in this order, as far as the budget goes.
    pub(crate) fn will_read(&self, ids: &[NodeId]) -> Result<(), VaultError> {
        self.will_need(ids)?;
        let mut bundle_before = None;
        for &id in ids.iter().filter(|id| id.place != 0 && self.ahead.is_on()) {
            let tree = self.tree(id.session)?;
            let found = tree.found(&self.pages, id)?;
            let entry = found.entry();
            if self.reading(id, &found).is_seeded() {
                continue;
            }
            let queued = match &entry.content {
                Content::Bundle { frame, .. } => {
                    bundle_before.replace(*frame) == Some(*frame) || self.ahead.push(*frame, None)
                }
                Content::Extents(_) | Content::Pages(_) => {
                    self.open_ahead(&self.reading(id, &found), 0, WILL_READ).is_none()
                }
                Content::None | Content::Inline(_) => true,
            };
            if !queued {
                break;
            }
        }
        Ok(())
    }
}

fn locked(cursors: &Mutex<Cursors>) -> MutexGuard<'_, Cursors> {
    cursors.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds a frame to ranges; not one longer than frames are, which whoever reads it will refuse.
fn push_range(ranges: &mut Vec<Place>, frame: &FrameRef) {
    if frame.stored_len as usize > codec::plain_max(FrameKind::Data) + codec::SEALED_SLACK {
        return;
    }
    let blob = blob_of(frame.pack.session, frame.pack.number);
    let from = u64::from(frame.offset);
    let to = from + u64::from(frame.stored_len);
    push_place(ranges, blob, from..to);
}

/// Adds a range to ranges, joined with the one before it where it follows.
fn push_place(ranges: &mut Vec<Place>, blob: BlobKey, range: std::ops::Range<u64>) {
    match ranges.last_mut() {
        Some((last, before)) if *last == blob && (before.start..=before.end).contains(&range.start) => {
            before.end = before.end.max(range.end);
        }
        _ => ranges.push((blob, range)),
    }
}

fn has_runs(entry: &LeafEntry) -> bool {
    matches!(entry.content, Content::Extents(_) | Content::Pages(_))
}

fn is_long(entry: &LeafEntry) -> bool {
    match &entry.content {
        Content::Extents(rows) => rows.len() >= LONG,
        Content::Pages(rows) => rows.len() >= LONG,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_model::PackRef;

    #[test]
    fn a_frame_longer_than_frames_are_is_not_fetched_ahead() {
        let pack = PackRef { session: SessionNo(1), number: 0, salt: [0; 8], epoch: 1 };
        let most = (codec::plain_max(FrameKind::Data) + codec::SEALED_SLACK) as u32;
        let mut ranges = Vec::new();
        for (offset, stored_len) in [(0, u32::MAX), (7, most + 1), (u32::MAX, 5), (100, most)] {
            push_range(&mut ranges, &FrameRef { pack, offset, stored_len });
        }
        let (blob, far) = (BlobKey::Pack(SessionNo(1), 0), u64::from(u32::MAX));
        assert_eq!(ranges, [(blob, far..far + 5), (blob, 100..100 + u64::from(most))]);
    }
}
