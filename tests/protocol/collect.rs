//! Giving space back, from end to end: what goes, when, and that everything else stays as it was.

use crate::fixture::{Source, Tree, assert_same_as_disk};
use crate::stepped::Stepped;
use backupengine_format::reference::ReferenceSet;
use backupengine_maintain::{PruneConfig, PruneError, PruneReport, prune};
use backupengine_model::ledger::{Haste, PackRun, SessionKind, SessionRecord, SnapshotRecord};
use backupengine_model::{FrameKind, SessionNo, Timestamp};
use backupengine_store::{
    BlobKey, BlobKind, ErrorKind, FolderStore, Maintainable, MemoryStore, Range, Readable, Writable,
};
use backupengine_testkit::build::{Pusher, TestVault, Unwatched, VAULT};
use backupengine_testkit::shown::everything;
use backupengine_testkit::system::Tmpfs;
use backupengine_testkit::{FakeClock, Seeded, now};
use backupengine_vault::{Locked, VaultConfig, VaultError};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;
use tempfile::TempDir;

pub(crate) const HOUR: i64 = 3600;
pub(crate) const DAY: i64 = 24 * HOUR;

/// A vault whose ledger goes by a clock of the test's, and what each of its snapshots showed when it was made.
pub(crate) struct Ground {
    pub(crate) store: Arc<dyn Maintainable>,
    pub(crate) vault: TestVault,
    pub(crate) clock: Arc<FakeClock>,
    pub(crate) shown: BTreeMap<SessionNo, Tree>,
    /// The same store, as what it is.
    kept: Kept,
    random: Seeded,
}

enum Kept {
    Memory(MemoryStore),
    Folder(FolderStore, #[allow(dead_code, reason = "dropped with the vault")] TempDir),
}

/// Begins at the system's time: what is put into a folder carries that.
pub(crate) fn clock() -> Arc<FakeClock> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Arc::new(FakeClock::at(since.as_secs() as i64 + 1))
}

/// For a store.
pub(crate) fn by(clock: &Arc<FakeClock>) -> Arc<dyn Fn() -> Timestamp + Send + Sync> {
    let clock = Arc::clone(clock);
    Arc::new(move || clock.now())
}

/// Collects on a store that may break.
pub(crate) fn prune_on(
    vault: &TestVault,
    store: &Arc<dyn Maintainable>,
    config: &PruneConfig,
    random: &Seeded,
) -> Result<PruneReport, PruneError> {
    let locked = Locked::open(Arc::clone(store) as Arc<dyn Readable>)?;
    let reader = locked.unlock_as(vault.keyring.clone(), VaultConfig::default())?;
    let device = vault.pusher("laptop").device.key.id();
    prune(&reader, &**store, device, config, &|out| random.fill(out))
}

impl Ground {
    pub(crate) fn in_memory() -> Self {
        let clock = clock();
        let store = MemoryStore::new(VAULT).by(by(&clock));
        Self::around(Arc::new(store.clone()), clock, Kept::Memory(store))
    }

    pub(crate) fn in_folder() -> Self {
        let (clock, temp) = (clock(), tempfile::tempdir().unwrap());
        let folder = temp.path().join("vault");
        FolderStore::create(&folder, VAULT).unwrap();
        let store = FolderStore::open_by(&folder, by(&clock)).unwrap();
        Self::around(Arc::new(store.clone()), clock, Kept::Folder(store, temp))
    }

    fn around(store: Arc<dyn Maintainable>, clock: Arc<FakeClock>, kept: Kept) -> Self {
        let vault = TestVault::around(Arc::clone(&store) as Arc<dyn Writable>);
        Self { store, vault, clock, shown: BTreeMap::new(), kept, random: Seeded::new(77) }
    }

    /// The store, which has mounts.
    pub(crate) fn mounts(&self) -> &FolderStore {
        match &self.kept {
            Kept::Folder(store, _) => store,
            Kept::Memory(_) => panic!("no vault in a folder"),
        }
    }

    /// The store, which can be duplicated.
    pub(crate) fn memory(&self) -> &MemoryStore {
        match &self.kept {
            Kept::Memory(store) => store,
            Kept::Folder(..) => panic!("no vault in memory"),
        }
    }

    pub(crate) fn push(&mut self, pusher: &Pusher, source: &Source) -> SessionNo {
        let session = pusher.push(source.path());
        self.note(session);
        session
    }

    /// Remembers what a snapshot shows.
    pub(crate) fn note(&mut self, session: SessionNo) {
        let shown = everything(&self.vault.reader(), session).unwrap();
        self.shown.insert(session, shown);
    }

    pub(crate) fn trash(&self, sessions: &[SessionNo]) {
        now(self.store.trash(sessions)).unwrap();
    }

    pub(crate) fn prune(&self) -> PruneReport {
        self.prune_in(Haste::Wait)
    }

    pub(crate) fn prune_in(&self, haste: Haste) -> PruneReport {
        let config = PruneConfig { haste, ..PruneConfig::default() };
        prune_on(&self.vault, &self.store, &config, &self.random).unwrap()
    }

    pub(crate) fn sessions(&self) -> Vec<SessionRecord> {
        now(self.store.sessions()).unwrap().sessions
    }

    pub(crate) fn stored(&self) -> u64 {
        now(self.store.list(BlobKind::Packs)).unwrap().iter().map(|(_, size)| size).sum()
    }

    pub(crate) fn live(&self) -> BTreeSet<SessionNo> {
        now(self.store.snapshots()).unwrap().snapshots.iter().map(|s| s.session).collect()
    }

    /// Every snapshot that is listed shows what it showed when it was made.
    pub(crate) fn check(&self) {
        for (session, shown) in snapshots_of(&self.vault) {
            assert!(shown == self.shown[&session], "snapshot {session} changed");
        }
    }

    /// Removes every snapshot but the newest, and waits until what they needed is gone.
    fn keep_the_last(&self) {
        let mut live = self.live();
        live.pop_last();
        self.trash(&live.into_iter().collect::<Vec<_>>());
        self.clock.advance(15 * DAY);
        self.prune();
        self.check();
        self.clock.advance(4 * DAY);
        self.prune();
        self.check();
    }

    fn moved(&self) -> Vec<(bool, SessionNo)> {
        self.sessions()
            .iter()
            .flat_map(|s| s.moved.values().map(|m| (m.gone, m.to)).collect::<Vec<_>>())
            .collect()
    }
}

/// What every listed snapshot shows.
pub(crate) fn snapshots_of(vault: &TestVault) -> BTreeMap<SessionNo, Tree> {
    let reader = vault.reader();
    let shown = |session| everything(&reader, session).unwrap_or_else(|e| panic!("snapshot {session}: {e}"));
    reader.list().unwrap().iter().map(|s| (s.session, shown(s.session))).collect()
}

fn numbers(sessions: &[u32]) -> Vec<SessionNo> {
    sessions.iter().map(|n| SessionNo(*n)).collect()
}

fn from_end_to_end(mut ground: Ground) {
    let (pusher, source) = (ground.vault.pusher("laptop"), Source::new(1));
    for round in 0..6 {
        if round > 0 {
            source.change();
        }
        ground.push(&pusher, &source);
    }
    let other = Source::new(2);
    ground.push(&ground.vault.pusher("desktop"), &other);
    now(ground.store.hold(&numbers(&[2]), true)).unwrap();
    let refused = now(ground.store.trash(&numbers(&[2]))).unwrap_err();
    assert!(matches!(refused.kind, ErrorKind::RuleBroken(_)), "{refused:?}");
    ground.trash(&numbers(&[1, 3, 4, 7]));
    let full = ground.stored();

    // The trash is as good as live.
    let report = ground.prune();
    assert_eq!((report.snapshots, report.retired.0, report.moved.0, report.deleted.0), (7, 0, 0, 0));
    now(ground.store.untrash(&numbers(&[4]))).unwrap();
    ground.check();
    ground.trash(&numbers(&[4]));

    ground.clock.advance(15 * DAY);
    let report = ground.prune();
    assert_eq!((report.snapshots, report.deleted.0), (3, 0), "{report:?}");
    assert!(report.retired.0 > 0 && report.moved.0 > 0, "{report:?}");
    assert!(report.waiting.1 > 4 << 20, "{report:?}");
    assert_eq!(ground.live(), numbers(&[2, 5, 6]).into_iter().collect());
    ground.check();
    ground.clock.advance(71 * HOUR);
    assert_eq!(ground.prune().deleted.0, 0, "packs have three days");
    ground.check();

    ground.clock.advance(2 * HOUR);
    let report = ground.prune();
    assert!(report.deleted.1 > 4 << 20, "{report:?}");
    assert!(ground.stored() + (4 << 20) < full, "{} of {full} bytes are left", ground.stored());
    assert!(ground.moved().iter().any(|(gone, _)| *gone), "nothing is read where it was moved to");
    ground.check();
    let taken = now(ground.store.space()).unwrap().0;
    assert!(taken < full, "{taken} of {full}");

    // Nothing is left to do, and pushes go on, on the old index.
    let report = ground.prune();
    assert_eq!((report.retired.0, report.moved.0, report.deleted.0, report.waiting.0), (0, 0, 0, 0));
    source.change();
    ground.push(&pusher, &source);
    ground.push(&ground.vault.pusher("desktop"), &other);
    ground.check();

    // Held no more, it goes like others; `Now` waits for nothing.
    now(ground.store.hold(&numbers(&[2]), false)).unwrap();
    ground.trash(&numbers(&[2, 5, 6]));
    let report = ground.prune_in(Haste::Now);
    assert!(report.deleted.0 > 0 && report.waiting.0 == 0, "{report:?}");
    assert_eq!(ground.live(), ground.shown.keys().rev().take(2).copied().collect());
    ground.check();
    let roots = now(ground.store.list(BlobKind::Roots)).unwrap();
    assert_eq!(roots.len(), 2);
}

#[test]
fn from_end_to_end_in_memory() {
    from_end_to_end(Ground::in_memory());
}

#[test]
fn from_end_to_end_in_a_folder() {
    from_end_to_end(Ground::in_folder());
}

/// Whoever retires has keys and may have been taken over: what snapshots need comes back with the next honest run, and
/// nothing of it is deleted.
fn out_of_spite(mut ground: Ground) {
    let (pusher, source) = (ground.vault.pusher("laptop"), Source::new(3));
    for _ in 0..2 {
        source.change();
        ground.push(&pusher, &source);
    }
    let packs = |ground: &Ground| -> Vec<PackRun> {
        let all = ground.sessions().into_iter().filter(|session| session.packs > 0);
        all.map(|s| PackRun { session: s.session, from: 0, count: s.packs }).collect()
    };
    let everything = packs(&ground);
    let stored = ground.stored();
    let begun = now(ground.store.begin_collection(Haste::Wait)).unwrap();
    now(ground.store.retire(begun.counters, &everything)).unwrap();
    // All their time has passed, and nobody has purged yet.
    ground.clock.advance(4 * DAY);
    let report = ground.prune();
    assert_eq!((report.revived.1, report.retired.0, report.deleted.0), (stored, 0, 0), "{report:?}");
    assert_eq!((report.stored, report.is_mass()), (stored, false));
    assert!(ground.sessions().iter().all(|session| session.retired.is_empty()));
    ground.check();
    // Once is enough.
    assert_eq!(ground.prune().revived, (0, 0));
    ground.clock.advance(4 * DAY);
    ground.prune();
    assert_eq!(ground.stored(), stored);
    ground.check();
}

#[test]
fn what_was_given_up_out_of_spite_comes_back_in_memory() {
    out_of_spite(Ground::in_memory());
}

#[test]
fn what_was_given_up_out_of_spite_comes_back_in_a_folder() {
    out_of_spite(Ground::in_folder());
}

/// Adds files of random bytes, 100 KB each.
pub(crate) fn add(source: &Source, random: &Seeded, names: &[&str]) {
    for name in names {
        let mut bytes = vec![0; 100_000];
        random.fill(&mut bytes);
        fs::write(source.path().join(name), bytes).unwrap();
    }
}

fn remove(source: &Source, names: &[&str]) {
    names.iter().for_each(|name| fs::remove_file(source.path().join(name)).unwrap());
}

/// A snapshot with a pack that was moved and whose old blob is gone, and the only one.
fn moved_for_good(ground: &mut Ground, pusher: &Pusher, source: &Source) {
    let random = Seeded::new(5);
    add(source, &random, &["one", "two", "three", "four"]);
    ground.push(pusher, source);
    source.change();
    ground.push(pusher, source);
    ground.keep_the_last();
    assert!(ground.moved().iter().any(|(gone, _)| *gone), "{:?}", ground.moved());
}

/// What is left of a relocation pack is copied again, and the map has no chains.
#[test]
fn relocation_packs_are_compacted_again() {
    let mut ground = Ground::in_memory();
    let (pusher, source) = (ground.vault.pusher("laptop"), Source::new(2));
    moved_for_good(&mut ground, &pusher, &source);
    let first: BTreeSet<SessionNo> = ground.moved().into_iter().map(|(_, to)| to).collect();
    remove(&source, &["one", "two", "three", "a/deep/er/middle"]);
    ground.push(&pusher, &source);
    ground.keep_the_last();
    let moved = ground.moved();
    assert!(moved.iter().any(|(gone, to)| *gone && !first.contains(to)), "{moved:?} after {first:?}");
    ground.clock.advance(4 * DAY);
    ground.prune();
    ground.check();
    let sessions = ground.sessions();
    let of = |session: &SessionNo| sessions.iter().find(|s| s.session == *session).unwrap();
    assert!(moved.iter().all(|(_, to)| of(to).kind == SessionKind::Compact));
    assert!(
        first.iter().any(|session| of(session).deleted.contains(&0)),
        "no relocation pack went: {first:?}"
    );
}

/// Its places in the relocation pack could not be brought back.
#[test]
fn a_relocation_pack_is_left_alone_while_a_push_is_open() {
    let mut ground = Ground::in_memory();
    let (pusher, source) = (ground.vault.pusher("laptop"), Source::new(2));
    moved_for_good(&mut ground, &pusher, &source);
    let builds_on = *ground.live().last().unwrap();
    // Another device's snapshot needs little of what lies there.
    let gone = ["one", "two", "three", "a/deep/er/middle"];
    let kept: Vec<Vec<u8>> = gone.iter().map(|name| fs::read(source.path().join(name)).unwrap()).collect();
    remove(&source, &gone);
    let other = ground.push(&ground.vault.pusher("desktop"), &source);
    for (name, bytes) in gone.iter().zip(kept) {
        fs::write(source.path().join(name), bytes).unwrap();
    }
    // The push that is open builds on the older one, which goes while it is.
    let (session, before) = pushed_around(&mut ground, &pusher, &source, "commit", move |store| {
        now(store.trash(&[builds_on])).unwrap();
    });
    assert!(before > 0);
    ground.check();
    assert_eq!(ground.live(), [other, session].into_iter().collect());
}

/// Pushes, and right before the first call of this name does something and collects without waiting. Gives the session,
/// and how often that call came.
fn pushed_around(
    ground: &mut Ground,
    pusher: &Pusher,
    source: &Source,
    step: &'static str,
    meanwhile: impl FnOnce(&dyn Maintainable) + Send + 'static,
) -> (SessionNo, usize) {
    let inner = Arc::clone(&ground.store);
    let once = Mutex::new(Some(meanwhile));
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let between = Stepped::new(&ground.store, move |at| {
        if at != step {
            return;
        }
        counted.fetch_add(1, Ordering::SeqCst);
        let Some(meanwhile) = once.lock().unwrap().take() else { return };
        meanwhile(&*inner);
        let vault = TestVault::around(Arc::clone(&inner) as Arc<dyn Writable>);
        let config = PruneConfig { haste: Haste::Now, ..PruneConfig::default() };
        prune_on(&vault, &inner, &config, &Seeded::new(inner_seed())).unwrap();
    });
    let store: Arc<dyn Writable> = Arc::new(between);
    let report = pusher.push_to(&store, pusher.config(source.path()), &Unwatched).unwrap();
    let session = report.snapshot.unwrap().0;
    ground.note(session);
    let shown = source.part_of(ground.shown[&session].clone());
    assert_same_as_disk(&shown, source.path());
    // Whatever may go goes now, and later.
    ground.prune_in(Haste::Now);
    ground.check();
    ground.clock.advance(15 * DAY);
    ground.prune();
    ground.check();
    (session, count.load(Ordering::SeqCst))
}

/// Salts of two collections differ.
fn inner_seed() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1 << 32);
    NEXT.fetch_add(1, Ordering::SeqCst)
}

/// The index of before knows places in packs that were given up since: they are not referred to.
#[test]
fn what_was_given_up_is_stored_again() {
    let mut ground = Ground::in_memory();
    let pusher = ground.vault.pusher("laptop");
    let (source, other) = (Source::small(3), Source::small(4));
    let first = ground.push(&pusher, &source);
    ground.push(&pusher, &other);
    ground.trash(&[first]);
    ground.clock.advance(15 * DAY);
    let report = ground.prune();
    assert!(report.retired.0 > 0 && report.deleted.0 == 0, "{report:?}");
    let before = ground.stored();
    let again = ground.push(&pusher, &source);
    assert!(ground.stored() > before + (300 << 10), "taken for stored, where it goes");
    let retired = ground.sessions().iter().filter(|s| s.retired.iter().next().is_some()).count();
    assert_eq!(retired, 1, "nothing was brought back");
    ground.clock.advance(73 * HOUR);
    assert!(ground.prune().deleted.0 > 0);
    ground.check();
    assert!(ground.live().contains(&again));
}

/// All it builds on is given up under a push: it brings that back, and sends nothing again.
#[test]
fn a_push_brings_back_what_was_retired_under_it() {
    for step in ["put", "commit"] {
        let mut ground = Ground::in_memory();
        let (pusher, source) = (ground.vault.pusher("laptop"), Source::small(3));
        let first = ground.push(&pusher, &source);
        let before = ground.stored();
        fs::write(source.path().join("little"), "more").unwrap();
        let (session, _) = pushed_around(&mut ground, &pusher, &source, step, move |store| {
            now(store.trash(&[first])).unwrap();
        });
        assert_eq!(ground.live(), [session].into_iter().collect());
        let added = ground.stored().saturating_sub(before);
        assert!(added < 100 << 10, "{added} bytes were sent again, {step}");
    }
}

/// A frame is taken for stored that nothing needed when its pack was moved: the move is taken back.
#[test]
fn a_push_brings_back_what_was_moved_under_it() {
    let mut ground = Ground::in_memory();
    let (pusher, source) = (ground.vault.pusher("laptop"), Source::small(3));
    let large = fs::read(source.path().join("large")).unwrap();
    let first = ground.push(&pusher, &source);
    source.change();
    let second = ground.push(&pusher, &source);
    // What only the first snapshot has comes back, found by the index.
    fs::write(source.path().join("large"), large).unwrap();
    let before = ground.stored();
    let (session, commits) = pushed_around(&mut ground, &pusher, &source, "commit", move |store| {
        now(store.trash(&[first])).unwrap();
    });
    assert!(commits > 1, "nothing was given up or moved under the push");
    assert_eq!(ground.live(), [second, session].into_iter().collect());
    assert!(ground.stored() < before + (200 << 10), "sent again");
}

/// A mount keeps what it has open, in the trash and after it, as long as it lives and three days more.
#[test]
fn what_is_mounted_stays() {
    let mut ground = Ground::in_folder();
    let (pusher, source) = (ground.vault.pusher("laptop"), Source::small(6));
    let mounted = ground.push(&pusher, &source);
    source.change();
    ground.push(&pusher, &source);
    ground.trash(&[mounted]);
    let opened = now(ground.store.kept()).unwrap().remove(0).snapshot;
    // Only what the snapshot needs is asked: the list does not have it any more.
    let whole = |ground: &Ground| {
        let needed = needed(ground, &opened);
        needed
            .is_ok_and(|packs| packs.iter().all(|key| now(ground.store.get(*key, Range::Suffix(64))).is_ok()))
    };
    for _ in 0..20 {
        ground.mounts().lease([4; 16], &[mounted]).unwrap();
        ground.clock.advance(DAY);
        ground.prune();
        assert!(whole(&ground));
    }
    // It sleeps.
    ground.clock.advance(2 * DAY);
    assert_eq!(ground.prune().snapshots, 2);
    assert!(whole(&ground));
    ground.mounts().release([4; 16]).unwrap();
    assert_eq!(ground.prune().snapshots, 1);
    ground.clock.advance(73 * HOUR);
    assert!(ground.prune().deleted.0 > 0);
    assert!(!whole(&ground));
    ground.check();
}

/// The packs a snapshot needs, by its reference set.
fn needed(ground: &Ground, snapshot: &SnapshotRecord) -> Result<Vec<BlobKey>, VaultError> {
    let reader = ground.vault.reader();
    let root = reader.root_of(snapshot)?;
    let bytes = reader.frame(FrameKind::ReferenceSet, &root.record.reference_set, None)?;
    let set = ReferenceSet::decode(&bytes).unwrap();
    let packs = set.packs.iter().flat_map(|(s, numbers)| numbers.iter().map(|n| BlobKey::Pack(*s, n)));
    Ok(packs.collect())
}

/// Another collection, in more haste, purges what this one is looking at: that is no damage.
#[test]
fn a_snapshot_that_goes_while_it_is_looked_at_is_no_damage() {
    for at in 1..40 {
        let mut ground = Ground::in_memory();
        let (pusher, source) = (ground.vault.pusher("laptop"), Source::small(3));
        let first = ground.push(&pusher, &source);
        source.change();
        let second = ground.push(&pusher, &source);
        ground.trash(&[first]);
        let (inner, reads) = (Arc::clone(&ground.store), AtomicUsize::new(0));
        let between = Stepped::new(&ground.store, move |step| {
            if step == "get" && reads.fetch_add(1, Ordering::SeqCst) + 1 == at {
                let vault = TestVault::around(Arc::clone(&inner) as Arc<dyn Writable>);
                let config = PruneConfig { haste: Haste::Now, ..PruneConfig::default() };
                prune_on(&vault, &inner, &config, &Seeded::new(inner_seed())).unwrap();
            }
        });
        let store: Arc<dyn Maintainable> = Arc::new(between);
        let salts = Seeded::new(inner_seed());
        let done = prune_on(&ground.vault, &store, &PruneConfig::default(), &salts);
        assert!(done.is_ok(), "before read {at}: {done:?}");
        ground.check();
        assert!(ground.live().contains(&second));
    }
}

#[test]
fn a_collection_without_room_gives_up_nothing_that_is_needed() {
    let (clock, small) = (clock(), Tmpfs::new("size=8m"));
    let folder = small.path().join("vault");
    FolderStore::create(&folder, VAULT).unwrap();
    let store = FolderStore::open_by(&folder, by(&clock)).unwrap();
    let temp = tempfile::tempdir().unwrap();
    let mut ground = Ground::around(Arc::new(store.clone()), clock, Kept::Folder(store, temp));
    let (source, pusher) = (Source::small(51), ground.vault.pusher("laptop"));
    // Of this one nothing stays, of the others a little.
    ground.push(&ground.vault.pusher("desktop"), &Source::small(52));
    for _ in 0..4 {
        source.change();
        ground.push(&pusher, &source);
    }
    let old: Vec<SessionNo> = ground.shown.keys().rev().skip(1).copied().collect();
    ground.trash(&old);
    ground.shown.retain(|session, _| !old.contains(session));
    // Room for the ledger, and for no pack.
    let free = || rustix::fs::statvfs(small.path()).map(|found| found.f_bavail * found.f_frsize).unwrap();
    let ballast = small.path().join("ballast");
    fs::write(&ballast, vec![1; (free() - 32_768) as usize]).unwrap();

    let before = ground.stored();
    let report = ground.prune_in(Haste::Now);
    assert!(report.full && report.moved.0 == 0 && report.deleted.0 > 0, "{report:?}");
    assert!(ground.stored() < before);
    ground.check();
    // Now there is room, by what was deleted or because somebody made some.
    fs::remove_file(ballast).unwrap();
    let report = ground.prune_in(Haste::Now);
    assert!(!report.full && report.moved.0 > 0, "{report:?}");
    ground.check();
    assert_eq!(fs::read_dir(folder.join("tmp")).unwrap().count(), 0, "a spool was left");
}
