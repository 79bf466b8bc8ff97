//! The index as a whole: what this push stored, the segments, their coverage and their merging.
//!
//! What always holds: the manifest changes only after a commit or from committed sessions' footers; without
//! the state lock nothing is written. Trouble with local files never ends a push. Which sessions
//! are committed it does not ask before content is first looked up, and not at all where [`Dedup::begin`] was told.
use super::footers;
use super::manifest::{Listed, Manifest};
use super::segment::{Segment, SegmentWriter};
use super::{DedupKey, Place, Seen};
use crate::lost::Lost;
use backupengine_model::ledger::{SessionKind, SessionRecord, SessionState};
use backupengine_model::{SessionNo, VaultId};
use backupengine_seal::ContentIdKey;
use backupengine_store::{ErrorKind, SessionList, StoreError};
use backupengine_vault::Vault;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};

/// Records of this push that are kept in memory before they go to a segment.
const OWN_MAX: usize = 128 << 10;
/// Records that are kept in memory where nothing may be written; what comes after them is stored twice.
const UNWRITTEN_MAX: usize = 4 * OWN_MAX;
/// As many segments of one level become one of the next.
const FAN_OUT: usize = 8;

/// Asks the ledger for all sessions.
pub(crate) type AskSessions<'a> = Box<dyn Fn() -> Result<SessionList, StoreError> + Send + Sync + 'a>;

/// What a push asks and tells the index.
pub(crate) struct Dedup<'a> {
    folder: PathBuf,
    vault: &'a Vault,
    ids: ContentIdKey,
    ask_sessions: AskSessions<'a>,
    /// Committed pushes; `None` where the ledger did not say.
    committed: OnceLock<Option<HashMap<SessionNo, SessionRecord>>>,
    /// This push's session, once it is open.
    own: OnceLock<SessionNo>,
    may_write: bool,
    stop: &'a AtomicBool,
    recent: RwLock<HashMap<DedupKey, Place>>,
    /// Segments of this push, not in the manifest before the commit.
    spilled: RwLock<Vec<(Listed, Segment)>>,
    kept: OnceLock<Kept>,
    damaged: AtomicBool,
    /// What lies in packs that are not whole is not believed.
    lost: Lost,
}

/// What was there before this push.
#[derive(Default)]
struct Kept {
    manifest: Manifest,
    segments: Vec<Segment>,
    /// Of sessions whose footers were read just now but could not be written to a segment.
    loose: HashMap<DedupKey, Place>,
}

impl<'a> Dedup<'a> {
    /// Prepares the index of a vault in `folder`; reads and asks nothing yet, and nothing before [`Dedup::begin`]:
    /// `ask_sessions` is to be asked in the open session alone, what is retired from then on keeps it from being
    /// committed. Without `may_write` (another push of this device is running) the folder is only read.
    pub(crate) fn new(
        folder: PathBuf,
        vault: &'a Vault,
        ask_sessions: AskSessions<'a>,
        may_write: bool,
        stop: &'a AtomicBool,
    ) -> Self {
        Self {
            folder,
            vault,
            ids: vault.keyring().content_ids(),
            ask_sessions,
            committed: OnceLock::new(),
            own: OnceLock::new(),
            may_write,
            stop,
            recent: RwLock::default(),
            spilled: RwLock::default(),
            kept: OnceLock::new(),
            damaged: AtomicBool::new(false),
            lost: Lost::default(),
        }
    }

    /// Takes nothing for stored that lies in a pack of which something is lost.
    #[must_use]
    pub(crate) fn without(self, lost: Lost) -> Self {
        Self { lost, ..self }
    }

    /// The session this push writes in is open, and these are all, where that is known.
    pub(crate) fn begin(&self, session: SessionNo, all: Option<SessionList>) {
        if let Some(all) = all {
            self.committed.get_or_init(|| Some(committed_of(all)));
        }
        self.own.get_or_init(|| session);
    }

    fn is_own(&self, session: SessionNo) -> bool {
        self.own.get() == Some(&session)
    }

    /// Where this content is, as far as that is known without waiting for anybody.
    pub(crate) fn look(&self, key: &DedupKey) -> Seen {
        let found = self.find_own(key).map(Some);
        let found = found.or_else(|| self.kept.get().map(|kept| self.find_kept(kept, key)));
        found.map_or(Seen::Unknown, |found| found.map_or(Seen::Nowhere, Seen::At))
    }

    /// Where this content is, if it is anywhere. Opens the index if need be.
    pub(crate) fn find(&self, key: &DedupKey) -> Option<Place> {
        if let Some(place) = self.find_own(key) {
            return Some(place);
        }
        self.own.get()?;
        self.find_kept(self.kept.get_or_init(|| self.open()), key)
    }

    fn find_kept(&self, kept: &Kept, key: &DedupKey) -> Option<Place> {
        let in_segments = || kept.segments.iter().find_map(|segment| self.ask(segment, key));
        kept.loose.get(key).cloned().or_else(in_segments).filter(|place| self.counts(place))
    }

    /// Like [`Dedup::find`], among what this push stored.
    pub(crate) fn find_own(&self, key: &DedupKey) -> Option<Place> {
        let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = recent.get(key) {
            return Some(place.clone());
        }
        drop(recent);
        let spilled = self.spilled.read().unwrap_or_else(PoisonError::into_inner);
        spilled.iter().find_map(|(_, segment)| self.ask(segment, key))
    }

    fn ask(&self, segment: &Segment, key: &DedupKey) -> Option<Place> {
        segment.get(key).unwrap_or_else(|error| {
            if !self.damaged.swap(true, Ordering::Relaxed) {
                tracing::warn!(%error, "a segment of the dedup index is damaged; it will be rebuilt");
            }
            None
        })
    }

    /// Asked once. Where the ledger does not say, no earlier session counts: content is then stored again.
    fn committed(&self) -> Option<&HashMap<SessionNo, SessionRecord>> {
        let asked = self.committed.get_or_init(|| match (self.ask_sessions)() {
            Ok(list) => Some(committed_of(list)),
            Err(error) => {
                tracing::warn!(%error, "the list of sessions does not read; what earlier ones hold is stored again");
                None
            }
        });
        asked.as_ref()
    }

    fn counts(&self, place: &Place) -> bool {
        let (session, number) = (place.pack.session, place.pack.number);
        let known = |committed: &HashMap<SessionNo, SessionRecord>| {
            committed.get(&session).is_some_and(|record| !record.is_going(number))
        };
        self.is_own(session) || (!self.lost.touches(session, number) && self.committed().is_some_and(known))
    }

    /// Remembers what was stored just now (or in an earlier, broken-off run of the same session).
    pub(crate) fn insert(&self, key: DedupKey, place: Place) {
        let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
        if !self.may_write && recent.len() >= UNWRITTEN_MAX {
            return;
        }
        recent.insert(key, place);
        if recent.len() < OWN_MAX || !self.may_write {
            return;
        }
        let full: BTreeMap<_, _> = recent.drain().collect();
        let mut spilled = self.spilled.write().unwrap_or_else(PoisonError::into_inner);
        // Numbers of this push's segments cannot meet the manifest's: they are renumbered when they join it.
        let number = u64::MAX - spilled.len() as u64;
        match self.write_segment(number, 0, full.iter()) {
            Ok(segment) => spilled.push(segment),
            Err(error) => tracing::warn!(%error, "the dedup index could not be written"),
        }
    }

    fn id(&self) -> VaultId {
        self.vault.keyring().vault()
    }

    fn path(&self, number: u64) -> PathBuf {
        segment_path(&self.folder, number)
    }

    fn manifest_path(&self) -> PathBuf {
        manifest_path(&self.folder)
    }

    fn write_segment<'r>(
        &self,
        number: u64,
        level: u8,
        records: impl ExactSizeIterator<Item = (&'r DedupKey, &'r Place)>,
    ) -> io::Result<(Listed, Segment)> {
        fs::create_dir_all(&self.folder)?;
        let path = self.path(number);
        let mut writer = SegmentWriter::create(&path, records.len() as u64, &self.ids)?;
        for (key, place) in records {
            writer.push(key, place)?;
        }
        let records = writer.finish()?;
        Ok((Listed { number, level, records }, Segment::open(&path, &self.ids)?))
    }

    /// Opens what the manifest names and reads the footers of committed sessions it does not cover.
    fn open(&self) -> Kept {
        let mut kept = self.load().unwrap_or_else(|| {
            self.damaged.store(false, Ordering::Relaxed);
            Kept::default()
        });
        let missing: Vec<SessionNo> = self
            .committed()
            .into_iter()
            .flatten()
            .filter(|(session, record)| record.packs > 0 && !kept.manifest.covered.contains(session))
            .map(|(session, _)| *session)
            .collect();
        let mut covered = Vec::new();
        for session in missing {
            if self.stop.load(Ordering::Relaxed) || kept.loose.len() >= UNWRITTEN_MAX {
                break;
            }
            match self.read_session(session) {
                Ok(places) => {
                    kept.loose.extend(places);
                    covered.push(session);
                }
                // It would be so for every session: a writer is given no packs of others. Asked again next time, in
                // case its role was changed.
                Err(error) if error.kind == ErrorKind::Denied => {
                    tracing::info!(
                        "this device may not read earlier packs: what it did not push itself is stored again"
                    );
                    break;
                }
                Err(error) => {
                    tracing::warn!(%session, %error, "the packs of a session could not be read for the dedup index");
                }
            }
            if kept.loose.len() >= OWN_MAX {
                self.keep_loose(&mut kept, &mut covered);
            }
        }
        self.keep_loose(&mut kept, &mut covered);
        kept
    }

    fn load(&self) -> Option<Kept> {
        let manifest = Manifest::load(&self.manifest_path(), self.id())?;
        let segments = manifest
            .segments
            .iter()
            .map(|listed| Segment::open(&self.path(listed.number), &self.ids))
            .collect::<io::Result<_>>()
            .inspect_err(|error| tracing::warn!(%error, "the dedup index does not read, or is of another version; it is made anew from the packs"))
            .ok()?;
        Some(Kept { manifest, segments, loose: HashMap::new() })
    }

    fn read_session(&self, session: SessionNo) -> Result<Vec<(DedupKey, Place)>, StoreError> {
        let packs: Vec<u32> =
            footers::packs_of(self.vault, session)?.into_iter().map(|pack| pack.number).collect();
        let mut out = Vec::new();
        let whole =
            footers::contents_of(self.vault, session, &packs, self.stop, |places| out.extend(places))?;
        if whole { Ok(out) } else { Err(StoreError::new(ErrorKind::Unavailable, "interrupted")) }
    }

    fn keep_loose(&self, kept: &mut Kept, covered: &mut Vec<SessionNo>) {
        if !self.may_write || covered.is_empty() {
            return;
        }
        let mut manifest = kept.manifest.clone();
        manifest.covered.extend(covered.drain(..));
        let mut written = None;
        if !kept.loose.is_empty() {
            let sorted: BTreeMap<_, _> = kept.loose.iter().map(|(k, p)| (*k, p)).collect();
            let number = next_number(&manifest);
            match self.write_segment(number, 0, sorted.iter().map(|(k, p)| (k, *p))) {
                Ok((listed, segment)) => {
                    manifest.segments.insert(0, listed);
                    written = Some(segment);
                }
                Err(error) => {
                    tracing::warn!(%error, "the dedup index could not be written");
                    return;
                }
            }
        }
        if let Err(error) =
            fs::create_dir_all(&self.folder).and_then(|()| manifest.store(&self.manifest_path(), self.id()))
        {
            tracing::warn!(%error, "the dedup index could not be written");
            return;
        }
        kept.manifest = manifest;
        if let Some(segment) = written {
            kept.segments.insert(0, segment);
            kept.loose.clear();
        }
    }

    /// Takes this push's records over, now that its session is committed, and tidies up.
    pub(crate) fn keep(self) {
        if !self.may_write {
            return;
        }
        if self.damaged.load(Ordering::Relaxed) {
            // Without a manifest the next push rebuilds everything from footers.
            if let Err(error) = fs::remove_file(self.manifest_path()) {
                tracing::warn!(%error, "the damaged dedup index could not be removed");
            }
            return;
        }
        if let Err(error) = self.take_over() {
            tracing::warn!(%error, "the dedup index could not be written; it is completed by the next push");
        }
    }

    fn take_over(&self) -> io::Result<()> {
        let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
        let spilled = self.spilled.read().unwrap_or_else(PoisonError::into_inner);
        if recent.is_empty() && spilled.is_empty() {
            return Ok(());
        }
        let mut manifest = match self.kept.get() {
            Some(kept) => kept.manifest.clone(),
            None => Manifest::load(&self.manifest_path(), self.id()).unwrap_or_default(),
        };
        for (listed, _) in spilled.iter() {
            let number = next_number(&manifest);
            fs::rename(self.path(listed.number), self.path(number))?;
            manifest.segments.insert(0, Listed { number, ..*listed });
        }
        if !recent.is_empty() {
            let sorted: BTreeMap<_, _> = recent.iter().collect();
            let number = next_number(&manifest);
            let records = sorted.into_iter();
            let (listed, _) = self.write_segment(number, 0, records)?;
            manifest.segments.insert(0, listed);
        }
        manifest.covered.extend(self.own.get());
        self.merge(&mut manifest)?;
        manifest.store(&self.manifest_path(), self.id())?;
        sweep(&self.folder, &manifest)
    }

    /// Merges levels that are full; cascades.
    fn merge(&self, manifest: &mut Manifest) -> io::Result<()> {
        // Whose records may be dropped nobody knows then; the next push merges.
        let Some(committed) = self.committed() else { return Ok(()) };
        let lives = |place: &Place| {
            let (session, number) = (place.pack.session, place.pack.number);
            let there = |record: &SessionRecord| !record.deleted.contains(&number);
            self.is_own(session) || committed.get(&session).is_some_and(there)
        };
        for level in 0..u8::MAX {
            let full: Vec<Listed> = manifest.segments.iter().filter(|s| s.level == level).copied().collect();
            if full.len() < FAN_OUT {
                return Ok(());
            }
            let open: Vec<Segment> = full
                .iter()
                .map(|s| Segment::open(&self.path(s.number), &self.ids))
                .collect::<io::Result<_>>()?;
            let number = next_number(manifest);
            let records = full.iter().map(|s| s.records).sum();
            let mut writer = SegmentWriter::create(&self.path(number), records, &self.ids)?;
            let mut cursors: Vec<Cursor<'_>> = open.iter().map(Cursor::new).collect::<io::Result<_>>()?;
            // Newest first: of equal keys the first cursor's place is kept.
            while let Some(key) = cursors.iter().filter_map(Cursor::key).min() {
                let mut taken = false;
                for cursor in &mut cursors {
                    if cursor.key() == Some(key)
                        && let Some((_, place)) = cursor.next()?
                        && lives(&place)
                        && !std::mem::replace(&mut taken, true)
                    {
                        writer.push(&key, &place)?;
                    }
                }
            }
            let records = writer.finish()?;
            let at = manifest.segments.iter().position(|s| s.level == level).unwrap_or(0);
            manifest.segments.retain(|s| s.level != level);
            let at = at.min(manifest.segments.len());
            manifest.segments.insert(at, Listed { number, level: level + 1, records });
        }
        Ok(())
    }
}

/// The file of a segment.
pub(super) fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:016x}.seg"))
}

/// The file of the manifest.
pub(super) fn manifest_path(folder: &Path) -> PathBuf {
    folder.join("index")
}

fn next_number(manifest: &Manifest) -> u64 {
    manifest.segments.iter().map(|s| s.number).max().map_or(0, |n| n + 1)
}

/// Removes segment files that no manifest names: of merges, and of pushes that were broken off.
fn sweep(folder: &Path, manifest: &Manifest) -> io::Result<()> {
    let named: HashSet<String> = manifest.segments.iter().map(|s| format!("{:016x}.seg", s.number)).collect();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".seg") && !named.contains(name.as_ref()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Walks a segment's records in order, a block at a time.
struct Cursor<'s> {
    segment: &'s Segment,
    next_block: usize,
    records: std::iter::Peekable<std::vec::IntoIter<(DedupKey, Place)>>,
    key: Option<DedupKey>,
}

impl<'s> Cursor<'s> {
    fn new(segment: &'s Segment) -> io::Result<Self> {
        let mut cursor =
            Self { segment, next_block: 0, records: Vec::new().into_iter().peekable(), key: None };
        cursor.fill()?;
        Ok(cursor)
    }
    fn fill(&mut self) -> io::Result<()> {
        while self.records.peek().is_none() && self.next_block < self.segment.blocks() {
            self.records = self.segment.block(self.next_block)?.into_iter().peekable();
            self.next_block += 1;
        }
        self.key = self.records.peek().map(|(key, _)| *key);
        Ok(())
    }
    fn key(&self) -> Option<DedupKey> {
        self.key
    }
    fn next(&mut self) -> io::Result<Option<(DedupKey, Place)>> {
        let record = self.records.next();
        self.fill()?;
        Ok(record)
    }
}

/// Sessions whose packs count. Nothing refers to relocation packs: they are places only.
fn committed_of(list: SessionList) -> HashMap<SessionNo, SessionRecord> {
    let counts = |s: &SessionRecord| s.state == SessionState::Committed && s.kind == SessionKind::Push;
    list.sessions.into_iter().filter(counts).map(|s| (s.session, s)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::segment::tests::record;
    use super::*;
    use crate::tests::Bench;
    use backupengine_model::{DeviceId, Timestamp};

    fn sessions(numbers: impl IntoIterator<Item = u32>) -> Vec<SessionRecord> {
        let new = |n| SessionRecord::new(SessionNo(n), DeviceId([1; 16]), Timestamp::default());
        let record = |n| SessionRecord { state: SessionState::Committed, ..new(n) };
        numbers.into_iter().map(record).collect()
    }

    #[test]
    fn more_than_memory_holds_goes_to_segments_and_counts_after_the_commit() {
        let bench = Bench::new();
        let (vault, stop) = (bench.vault(), AtomicBool::new(false));
        let folder = bench.dir.path().join("index");
        let index = |listed: &[u32], may_write| {
            let listed = sessions(listed.iter().copied());
            let ask = Box::new(move || Ok(SessionList { gc_epoch: 0, sessions: listed.clone() }));
            let index = Dedup::new(folder.clone(), &vault, ask, may_write, &stop);
            let seen = index.look(&record(0).0);
            assert_eq!((seen, index.find(&record(0).0)), (Seen::Unknown, None), "no session is open");
            index.begin(SessionNo(9), None);
            index
        };
        let count = OWN_MAX as u32 + 1000;
        let some = || (0..count).step_by(977);
        let all = [1, 2, 3, 4, 5];
        let first = index(&all, true);
        (0..count).map(record).for_each(|(key, place)| first.insert(key, place));
        assert!(some().map(record).all(|(key, place)| first.find_own(&key) == Some(place)));
        // Broken off here, nothing of it is found; what lies around is cleared away later.
        assert!(some().all(|n| index(&all, true).find(&record(n).0).is_none()));
        first.keep();
        let second = index(&all, true);
        assert_eq!(second.look(&record(0).0), Seen::Unknown, "it was not opened yet");
        assert!(some().map(record).all(|(key, place)| second.find(&key) == Some(place)));
        assert_eq!(second.look(&record(0).0), Seen::At(record(0).1));
        assert_eq!(second.look(&record(count).0), Seen::Nowhere);
        assert!(second.find(&record(count).0).is_none());
        let third = index(&[1, 2, 4, 5], false);
        for (key, place) in some().map(record) {
            let found = (place.pack.session != SessionNo(3)).then_some(place);
            assert_eq!(third.find(&key), found, "only of sessions that count");
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 3);
    }
}
