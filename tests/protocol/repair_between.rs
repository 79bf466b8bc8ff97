//! A repair and a collection at once: each in the middle of the other, before every call that the other makes. What was
//! lost comes back, nothing else is lost, and what space there is to give back comes back.

use crate::collect::{DAY, Ground, HOUR, by, prune_on, snapshots_of};
use crate::collect_stops::with_much_to_do;
use crate::fixture::{Source, Tree, copy_folder};
use crate::stepped::Stepped;
use backupengine_maintain::{
    CheckConfig, CheckObserver, Finding, PruneConfig, ReadData, RepairConfig, RepairObserver, check, heal,
    rebuild_ledger,
};
use backupengine_model::SessionNo;
use backupengine_model::ledger::Haste;
use backupengine_push::LiveRemains;
use backupengine_source::WalkConfig;
use backupengine_store::{BlobKey, BlobKind, FolderStore, Maintainable, Readable, Writable};
use backupengine_testkit::build::{Pusher, TestVault};
use backupengine_testkit::{FakeClock, now};
use backupengine_vault::{Locked, VaultConfig};
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

struct Quiet;
impl CheckObserver for Quiet {}
impl RepairObserver for Quiet {}

/// A vault in which a collection has everything to do, and a repair too: frames are damaged in two packs, of snapshots that
/// stay.
struct Both {
    ground: Ground,
    pusher: Pusher,
    _source: Source,
}

impl Both {
    fn new() -> Self {
        let mut ground = with_much_to_do(Ground::in_folder());
        ground.vault.put_envelopes();
        let (pusher, source) = (ground.vault.pusher("tablet"), Source::small(21));
        let mut sessions = Vec::new();
        for name in ["first", "second", "third"] {
            fs::write(source.path().join(name), name.repeat(50_000)).unwrap();
            sessions.push(ground.push(&pusher, &source));
        }
        // So that packs of the damaged snapshots are mostly waste, and a collection wants to move the rest of them.
        ground.trash(&sessions[..1]);
        ground.clock.advance(15 * DAY);
        let both = Self { ground, pusher, _source: source };
        for session in [sessions[0], sessions[2]] {
            both.damage(session);
        }
        both
    }

    /// Flips bits in the first frame of a pack that holds files' bytes. What a collection has to read stays whole: it gives
    /// up nothing where it cannot read what a snapshot needs.
    fn damage(&self, session: SessionNo) {
        let file = self.ground.mounts().folder().join(BlobKey::Pack(session, 0).to_string());
        let whole = fs::read(&file).unwrap();
        let (store, vault) = (&self.ground.store, &self.ground.vault);
        let before = (found(store, vault, false).len(), found(store, vault, true).len());
        for at in (0..whole.len() - 20).step_by(100) {
            let mut bytes = whole.clone();
            bytes[at..at + 20].iter_mut().for_each(|byte| *byte ^= 1);
            fs::write(&file, bytes).unwrap();
            if found(store, vault, false).len() == before.0 && found(store, vault, true).len() > before.1 {
                return;
            }
        }
        panic!("{} holds no frame of files", file.display());
    }
}

/// What `check` finds, reading all data or only metadata.
fn found(store: &Arc<dyn Maintainable>, vault: &TestVault, data: bool) -> Vec<Finding> {
    let read_data = data.then_some(ReadData { percent: 100, seed: 0 });
    let config = CheckConfig { read_data, threads: 1, passphrase: true };
    let locked = Locked::open(Arc::clone(store) as Arc<dyn Readable>).unwrap();
    let reader = locked.unlock_as(vault.keyring.clone(), VaultConfig::default()).unwrap();
    check(&reader, &config, &AtomicBool::new(false), &Quiet).unwrap().findings
}

/// A copy of it, with a clock of its own.
struct Trial {
    store: Arc<dyn Maintainable>,
    vault: TestVault,
    clock: Arc<FakeClock>,
    state: TempDir,
    pusher: Pusher,
    folder: TempDir,
}

impl Trial {
    fn new(both: &Both) -> Self {
        let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        copy_folder(both.ground.mounts().folder(), folder.path());
        copy_folder(both.pusher.state(), state.path());
        let clock = Arc::new(FakeClock::at(both.ground.clock.now().secs));
        let store: Arc<dyn Maintainable> = Arc::new(FolderStore::open_by(folder.path(), by(&clock)).unwrap());
        let vault = TestVault::around(Arc::clone(&store) as Arc<dyn Writable>);
        let pusher = vault.pusher("tablet");
        Self { store, vault, clock, state, pusher, folder }
    }

    /// Looks for what is damaged and heals it, as `repair` does.
    fn repair(&self, store: &Arc<dyn Maintainable>) -> Result<(), String> {
        let findings = found(store, &self.vault, true);
        let remains = LiveRemains::open(self.state.path(), &self.vault.keyring, WalkConfig::default());
        let config = RepairConfig {
            device: self.pusher.device.key.id(),
            remains: &remains,
            folder: None,
            dry_run: false,
        };
        let random = |out: &mut [u8]| self.pusher.random.fill(out);
        let locked = Locked::open(Arc::clone(store) as Arc<dyn Readable>).unwrap();
        let reader = locked.unlock_as(self.vault.keyring.clone(), VaultConfig::default()).unwrap();
        let done = heal(&reader, &**store, &findings, &config, &random, &AtomicBool::new(false), &Quiet);
        done.map(drop).map_err(|error| error.to_string())
    }

    fn collect(&self, store: &Arc<dyn Maintainable>, haste: Haste) -> Result<(), String> {
        let config = PruneConfig { haste, ..PruneConfig::default() };
        prune_on(&self.vault, store, &config, &self.pusher.random)
            .map(drop)
            .map_err(|error| error.to_string())
    }

    /// Whatever was broken off is done again; then all is whole, and nothing is left that nobody needs.
    fn check(&self, shown: &BTreeMap<SessionNo, Tree>, when: &str) -> u64 {
        for _ in 0..4 {
            self.repair(&self.store).unwrap_or_else(|error| panic!("{when}: {error}"));
            self.collect(&self.store, Haste::Wait).unwrap_or_else(|error| panic!("{when}: {error}"));
            self.clock.advance(73 * HOUR);
        }
        let left = found(&self.store, &self.vault, true);
        assert!(left.is_empty(), "{when}: {left:#?}");
        let listed = snapshots_of(&self.vault);
        assert_eq!(listed.len(), 4, "{when}");
        for (session, tree) in listed {
            assert!(tree == shown[&session], "snapshot {session} changed, {when}");
        }
        now(self.store.list(BlobKind::Packs)).unwrap().iter().map(|(_, size)| size).sum()
    }
}

/// A store that does `then` once, before the call of that number; reading does not count.
fn before_call(
    store: &Arc<dyn Maintainable>,
    number: u64,
    then: impl FnOnce() + Send + 'static,
) -> (Arc<dyn Maintainable>, Arc<AtomicU64>) {
    let (calls, once) = (Arc::new(AtomicU64::new(0)), Mutex::new(Some(then)));
    let counted = Arc::clone(&calls);
    let stepped = Stepped::new(store, move |step| {
        if step == "get" || counted.fetch_add(1, Ordering::Relaxed) + 1 != number {
            return;
        }
        if let Some(then) = once.lock().unwrap().take() {
            then();
        }
    });
    (Arc::new(stepped), calls)
}

/// What `outer` does on a store, in whose middle `inner` happens, before call after call. Says how many calls that were,
/// and how often `outer` was refused.
fn at_every_call(
    outer: impl Fn(&Trial, &Arc<dyn Maintainable>) -> Result<(), String>,
    inner: impl Fn(&Trial) -> Result<(), String> + Send + Sync + 'static,
) -> (u64, u64) {
    let both = Both::new();
    let clean = Trial::new(&both).check(&both.ground.shown, "one after the other");
    let (inner, mut refused) = (Arc::new(inner), 0);
    for number in 1.. {
        let trial = Arc::new(Trial::new(&both));
        let (beside, inner) = (Arc::clone(&trial), Arc::clone(&inner));
        let failed = Arc::new(Mutex::new(None));
        let told = Arc::clone(&failed);
        let (store, calls) = before_call(&trial.store, number, move || {
            *told.lock().unwrap() = inner(&beside).err();
        });
        let outcome = outer(&trial, &store);
        let when = format!("before call {number}");
        assert_eq!(*failed.lock().unwrap(), None, "{when}: who comes in between is not refused");
        let over = calls.load(Ordering::Relaxed) < number;
        assert!(!over || outcome.is_ok(), "alone it failed: {outcome:?}");
        refused += u64::from(outcome.is_err());
        let left = trial.check(&both.ground.shown, &when);
        assert!(left <= clean + clean / 10, "{left} bytes are left, not {clean}: {when}");
        if over {
            return (number - 1, refused);
        }
    }
    unreachable!("calls are counted in 64 bits")
}

#[test]
fn a_repair_in_the_middle_of_a_collection() {
    let (calls, refused) = at_every_call(
        |trial, store| trial.collect(store, Haste::Wait),
        |trial| trial.repair(&Arc::clone(&trial.store)),
    );
    assert!(calls > 10, "only {calls} calls");
    assert!(refused < calls, "no collection came through beside a repair: {refused} of {calls}");
}

#[test]
fn a_collection_in_the_middle_of_a_repair() {
    for haste in [Haste::Wait, Haste::Now] {
        let (calls, refused) = at_every_call(
            |trial, store| trial.repair(store),
            move |trial| trial.collect(&Arc::clone(&trial.store), haste),
        );
        assert!(calls > 10, "only {calls} calls");
        assert!(refused < calls, "no repair came through beside a collection: {refused} of {calls}");
    }
}

/// Blobs of a push that goes on are not those of a session the ledger has lost.
#[test]
fn a_push_while_a_ledger_is_looked_at_is_not_taken_in() {
    let both = Both::new();
    for list in 1..=2 {
        let trial = Trial::new(&both);
        let (vault, lists) =
            (TestVault::around(Arc::clone(&trial.store) as Arc<dyn Writable>), AtomicU64::new(0));
        let store = Stepped::new(&trial.store, move |step| {
            if step == "list" && lists.fetch_add(1, Ordering::Relaxed) + 1 == list {
                vault.pusher("laptop").push(Source::small(22).path());
            }
        });
        let locked = Locked::open(Arc::new(store) as Arc<dyn Readable>).unwrap();
        let reader = locked.unlock_as(trial.vault.keyring.clone(), VaultConfig::default()).unwrap();
        let folder = FolderStore::open_by(trial.folder.path(), by(&trial.clock)).unwrap();
        let random = |out: &mut [u8]| trial.pusher.random.fill(out);
        let looked = rebuild_ledger(&reader, &folder, &random, true).unwrap();
        assert!(looked.is_unchanged(), "before list {list}: {looked:?}");
    }
}
