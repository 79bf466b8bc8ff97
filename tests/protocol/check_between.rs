//! Checks of a vault in use: whatever happens before any call that a check makes, it finds nothing in a sound vault, and
//! what is damaged in one that is not.

use crate::collect::{Ground, by, prune_on};
use crate::collect_stops::with_much_to_do;
use crate::fixture::{Source, copy_folder};
use crate::stepped::{Step, Stepped};
use backupengine_maintain::{
    CheckConfig, CheckError, CheckObserver, CheckReport, Finding, Object, PruneConfig, ReadData, check,
};
use backupengine_model::SessionNo;
use backupengine_model::ledger::{Haste, SessionRecord};
use backupengine_store::{
    BlobKey, BlobKind, EnvelopeChange, EnvelopeId, EnvelopeKeeper, FolderStore, Maintainable, Range,
    Readable, Writable,
};
use backupengine_testkit::build::TestVault;
use backupengine_testkit::{FakeClock, Seeded, now};
use backupengine_vault::{Locked, VaultConfig};
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

struct Quiet;
impl CheckObserver for Quiet {}

/// A copy of a prepared vault, with a clock of its own.
struct Trial {
    store: Arc<dyn Maintainable>,
    folder: FolderStore,
    vault: TestVault,
    temp: TempDir,
}

impl Trial {
    fn new(ground: &Ground) -> Self {
        let temp = tempfile::tempdir().unwrap();
        copy_folder(ground.mounts().folder(), temp.path());
        let clock = Arc::new(FakeClock::at(ground.clock.now().secs));
        let folder = FolderStore::open_by(temp.path(), by(&clock)).unwrap();
        let store: Arc<dyn Maintainable> = Arc::new(folder.clone());
        let vault = TestVault::around(Arc::clone(&store) as Arc<dyn Writable>);
        Self { store, folder, vault, temp }
    }

    fn live(&self) -> Vec<SessionNo> {
        now(self.store.snapshots()).unwrap().snapshots.iter().map(|record| record.session).collect()
    }

    fn prune(&self) {
        let config = PruneConfig { haste: Haste::Now, ..PruneConfig::default() };
        prune_on(&self.vault, &self.store, &config, &Seeded::new(5)).unwrap();
    }

    /// Forgets the oldest snapshot, and gives back what it alone needed.
    fn forget_one(&self) {
        now(self.store.trash(&self.live()[..1])).unwrap();
        self.prune();
    }

    fn look(&self, store: Arc<dyn Readable>) -> Result<CheckReport, CheckError> {
        let reader =
            Locked::open(store)?.unlock_as(self.vault.keyring.clone(), VaultConfig::default()).unwrap();
        let read_data = Some(ReadData { percent: 100, seed: 0 });
        let config = CheckConfig { read_data, threads: 1, passphrase: true };
        check(&reader, &config, &AtomicBool::new(false), &Quiet)
    }

    /// A check of a store on which `then` is done before the calls that `at` chooses, by name and number.
    fn look_beside(
        &self,
        at: impl Fn(Step, u64) -> bool + Send + Sync + 'static,
        then: impl Fn() + Send + Sync + 'static,
    ) -> (Result<CheckReport, CheckError>, u64) {
        let calls = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&calls);
        let store = Stepped::new(&self.store, move |step| {
            if at(step, counted.fetch_add(1, Ordering::Relaxed) + 1) {
                then();
            }
        });
        let done = self.look(Arc::new(store));
        (done, calls.load(Ordering::Relaxed))
    }
}

fn ground() -> Ground {
    let ground = with_much_to_do(Ground::in_folder());
    ground.vault.put_envelopes();
    ground
}

/// Checks of copies of `ground`, with `then` before each of their calls in turn. Gives what each found; says how many there
/// were.
fn at_every_call(
    ground: &Ground,
    then: impl Fn(&Trial) + Send + Sync + 'static,
    found: impl Fn(CheckReport, &str),
) -> u64 {
    let then = Arc::new(then);
    for number in 1.. {
        let trial = Arc::new(Trial::new(ground));
        let (beside, then) = (Arc::clone(&trial), Arc::clone(&then));
        let (done, calls) = trial.look_beside(move |_, call| call == number, move || then(&beside));
        let when = format!("before call {number}");
        found(done.unwrap_or_else(|error| panic!("{when}: {error:?}")), &when);
        if calls < number {
            return number - 1;
        }
    }
    unreachable!("calls are counted in 64 bits")
}

fn nothing(report: CheckReport, when: &str) {
    assert!(report.findings.is_empty(), "{when}: {:#?}", report.findings);
    assert!(report.stats.frames_read > 0 && report.stats.snapshots > 0, "{when}: {:?}", report.stats);
}

#[test]
fn a_snapshot_that_goes_while_a_check_runs_is_no_damage() {
    let calls = at_every_call(&ground(), Trial::forget_one, nothing);
    assert!(calls > 20, "only {calls} calls");
}

#[test]
fn packs_that_move_while_a_check_runs_are_no_damage() {
    let ground = ground();
    let before = Trial::new(&ground);
    let stored = |trial: &Trial| now(trial.store.list(BlobKind::Packs)).unwrap();
    let packs = stored(&before);
    before.prune();
    assert!(stored(&before).iter().any(|pack| !packs.contains(pack)), "nothing was moved");
    at_every_call(&ground, Trial::prune, nothing);
}

/// What the ledger has given up and is still stored is not counted on.
#[test]
fn blobs_that_are_deleted_while_a_check_runs_are_no_damage() {
    let ground = ground();
    let whole = Trial::new(&ground);
    ground.prune_in(Haste::Now);
    // As a collection leaves it that is stopped before it deletes anything.
    let mut left = 0;
    for (key, _) in now(whole.store.list(BlobKind::Packs)).unwrap() {
        let (from, to) = (whole.temp.path(), ground.mounts().folder());
        let (from, to) = (from.join(key.to_string()), to.join(key.to_string()));
        if !to.exists() {
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(from, to).unwrap();
            left += 1;
        }
    }
    let moved = |session: SessionRecord| session.moved.values().filter(|moved| moved.gone).count();
    assert!(left > 0 && ground.sessions().into_iter().map(moved).sum::<usize>() > 0);
    let sweep = |trial: &Trial| assert_eq!(now(trial.store.purge(&[], Haste::Now)).unwrap(), []);
    at_every_call(&ground, sweep, nothing);
}

#[test]
fn a_push_while_a_check_runs_is_no_damage() {
    let push = |trial: &Trial| {
        trial.vault.pusher("laptop").push(Source::small(31).path());
    };
    at_every_call(&ground(), push, nothing);
}

#[test]
fn envelopes_that_are_replaced_while_a_check_runs_are_not_missing() {
    let replace = |trial: &Trial| {
        let bytes = now(trial.store.get(BlobKey::Envelope(EnvelopeId([1; 8])), Range::Whole)).unwrap().bytes;
        let change = EnvelopeChange {
            expected: vec![EnvelopeId([1; 8]), EnvelopeId([2; 8])],
            keep: vec![EnvelopeId([2; 8])],
            add: vec![(EnvelopeId([9; 8]), bytes.to_vec())],
            epoch: 1,
            ..EnvelopeChange::default()
        };
        now(trial.folder.change_envelopes(&change)).unwrap();
    };
    at_every_call(&ground(), replace, nothing);
}

/// A collection that was stopped after it had let a snapshot go: its root is deleted by the next one.
#[test]
fn a_root_that_is_still_to_be_deleted_is_no_damage() {
    let trial = Trial::new(&ground());
    now(trial.store.trash(&trial.live()[..1])).unwrap();
    let roots = now(trial.store.list(BlobKind::Roots)).unwrap().len();
    let left = now(trial.store.begin_collection(Haste::Now)).unwrap().snapshots.len();
    assert_eq!((left, trial.live().len()), (1, 1));
    assert!(left < roots);
    let report = trial.look(Arc::clone(&trial.store) as Arc<dyn Readable>).unwrap();
    assert!(report.stats.unused > 0);
    nothing(report, "stopped");
}

/// What is damaged is found, whatever is given up beside it.
#[test]
fn damage_is_found_while_space_is_given_back() {
    let ground = ground();
    // Of the snapshot that stays, and before anything is moved.
    let last = *ground.live().last().unwrap();
    let file = ground.mounts().folder().join(BlobKey::Pack(last, 0).to_string());
    let mut bytes = fs::read(&file).unwrap();
    bytes[..40].iter_mut().for_each(|byte| *byte ^= 1);
    fs::write(&file, bytes).unwrap();
    let damaged = |findings: &[Finding]| {
        let objects = findings.iter().map(|finding| finding.object);
        objects
            .filter(|object| matches!(object, Object::Frame { session, number: 0, .. } if *session == last))
            .count()
    };
    let alone = Trial::new(&ground);
    let report = alone.look(Arc::clone(&alone.store) as Arc<dyn Readable>).unwrap();
    assert_eq!((damaged(&report.findings), report.findings.len()), (1, 1), "{report:#?}");
    at_every_call(&ground, Trial::forget_one, |report, when| {
        assert_eq!((damaged(&report.findings), report.findings.len()), (1, 1), "{when}: {report:#?}");
    });
}

/// Where it never comes to an end, it says so instead of calling anything damaged.
#[test]
fn a_vault_that_gives_up_all_the_while_is_not_called_damaged() {
    let mut ground = ground();
    let pusher = ground.vault.pusher("tablet");
    for seed in 40..60 {
        ground.push(&pusher, &Source::small(seed));
    }
    let trial = Arc::new(Trial::new(&ground));
    // A pack that is lost, so that there is something to be found each time.
    let last = *trial.live().last().unwrap();
    fs::remove_file(trial.temp.path().join(BlobKey::Pack(last, 0).to_string())).unwrap();
    let (beside, going) = (Arc::clone(&trial), Mutex::new(trial.live()));
    let (done, _) = trial.look_beside(
        |step, _| step == "sessions",
        move || {
            let mut going = going.lock().unwrap();
            assert!(going.len() > 1, "there is none left to be forgotten");
            now(beside.store.trash(&[going.remove(0)])).unwrap();
        },
    );
    let error = done.map(|report| report.findings).unwrap_err();
    assert!(matches!(error, CheckError::Overtaken), "{error:?}");
    let report = trial.look(Arc::clone(&trial.store) as Arc<dyn Readable>).unwrap();
    assert!(!report.findings.is_empty());
}
