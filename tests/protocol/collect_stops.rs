//! Collections that stop after every call of the store.

use crate::collect::{DAY, Ground, HOUR, add, by, prune_on, snapshots_of};
use crate::fixture::{Source, Tree, copy_folder};
use backupengine_maintain::PruneConfig;
use backupengine_model::SessionNo;
use backupengine_store::{BlobKind, ErrorKind, FolderStore, Maintainable, Writable};
use backupengine_testkit::build::TestVault;
use backupengine_testkit::faulty::{Fault, When};
use backupengine_testkit::{FakeClock, Faulty, Seeded, now};
use std::collections::BTreeMap;
use std::sync::Arc;
use tempfile::TempDir;

/// A vault in which a collection has everything to do: purge a snapshot, retire, copy, move, delete.
pub(crate) fn with_much_to_do(mut ground: Ground) -> Ground {
    let (laptop, source) = (ground.vault.pusher("laptop"), Source::small(11));
    let first = ground.push(&laptop, &source);
    source.change();
    add(&source, &Seeded::new(14), &["stays"]);
    let second = ground.push(&laptop, &source);
    let third = ground.push(&ground.vault.pusher("desktop"), &Source::small(12));
    ground.trash(&[first, third]);
    ground.clock.advance(15 * DAY);
    let report = ground.prune();
    assert!(report.retired.0 > 0 && report.moved.0 > 0, "{report:?}");
    source.change();
    ground.push(&laptop, &source);
    ground.push(&ground.vault.pusher("desktop"), &Source::small(13));
    let fourth = ground.push(&ground.vault.pusher("server"), &Source::small(15));
    ground.trash(&[second, fourth]);
    ground.clock.advance(15 * DAY);
    ground.check();
    ground
}

/// A copy of a prepared vault, with a clock of its own.
struct Trial {
    store: Arc<dyn Maintainable>,
    vault: TestVault,
    clock: Arc<FakeClock>,
    _folder: Option<TempDir>,
}

impl Trial {
    fn around(store: Arc<dyn Maintainable>, clock: Arc<FakeClock>, folder: Option<TempDir>) -> Self {
        let vault = TestVault::around(Arc::clone(&store) as Arc<dyn Writable>);
        Self { store, vault, clock, _folder: folder }
    }

    fn prune(&self, random: &Seeded) -> backupengine_maintain::PruneReport {
        prune_on(&self.vault, &self.store, &PruneConfig::default(), random).unwrap()
    }

    fn check(&self, shown: &BTreeMap<SessionNo, Tree>, when: &str) {
        let listed = snapshots_of(&self.vault);
        assert_eq!(listed.len(), 2, "{when}");
        for (session, tree) in listed {
            assert!(tree == shown[&session], "snapshot {session} changed, {when}");
        }
    }

    fn stored(&self) -> u64 {
        now(self.store.list(BlobKind::Packs)).unwrap().iter().map(|(_, size)| size).sum()
    }
}

/// Breaks a collection at call after call, until one comes through unbroken; checks every snapshot, and what the next
/// collections do, after each. Says how many calls there were.
fn at_every_call(
    ground: &Ground,
    trial: impl Fn(Arc<FakeClock>) -> Trial,
    break_at: impl Fn(Faulty, u64) -> Faulty,
) -> u64 {
    let random = Seeded::new(3);
    let at = ground.clock.now().secs;
    let trial = || trial(Arc::new(FakeClock::at(at)));
    let to_the_end = |trial: &Trial| {
        for _ in 0..4 {
            trial.prune(&random);
            trial.clock.advance(73 * HOUR);
        }
        let last = trial.prune(&random);
        assert_eq!((last.retired.0, last.moved.0, last.waiting.0), (0, 0, 0));
        trial.stored()
    };
    let report = trial().prune(&random);
    assert!(report.retired.0 > 0 && report.moved.0 > 0 && report.deleted.0 > 0, "{report:?}");
    let clean = to_the_end(&trial());
    for call in 1.. {
        let trial = trial();
        let broken = break_at(Faulty::maintained(Arc::clone(&trial.store)), call);
        let store: Arc<dyn Maintainable> = Arc::new(broken.clone());
        let outcome = prune_on(&trial.vault, &store, &PruneConfig::default(), &random);
        trial.check(&ground.shown, &format!("broken at call {call}"));
        let unbroken = broken.calls() < call;
        assert!(!unbroken || outcome.is_ok(), "an unbroken collection failed: {outcome:?}");
        let left = to_the_end(&trial);
        assert!(left <= clean + clean / 10, "{left} bytes are left, not {clean}: broken at call {call}");
        trial.check(&ground.shown, &format!("after call {call}"));
        if unbroken {
            return call - 1;
        }
    }
    unreachable!("calls are counted in 64 bits")
}

fn stopped(broken: Faulty, call: u64) -> Faulty {
    broken.with(When::From(call), Fault::Refuse(ErrorKind::Unavailable))
}

/// The call is made, its answer lost, and nothing more can be called.
fn lost(broken: Faulty, call: u64) -> Faulty {
    stopped(broken.with(When::Call(call), Fault::LoseAnswer), call + 1)
}

/// One call fails, the others do not.
fn failed_once(broken: Faulty, call: u64) -> Faulty {
    broken.with(When::Call(call), Fault::Refuse(ErrorKind::Full))
}

fn in_memory(break_at: impl Fn(Faulty, u64) -> Faulty) -> u64 {
    let ground = with_much_to_do(Ground::in_memory());
    let trial = |clock: Arc<FakeClock>| {
        let store = ground.memory().duplicate().by(by(&clock));
        Trial::around(Arc::new(store), clock, None)
    };
    at_every_call(&ground, trial, break_at)
}

fn in_a_folder(break_at: impl Fn(Faulty, u64) -> Faulty) -> u64 {
    let ground = with_much_to_do(Ground::in_folder());
    let trial = |clock: Arc<FakeClock>| {
        let temp = tempfile::tempdir().unwrap();
        copy_folder(ground.mounts().folder(), temp.path());
        let store = FolderStore::open_by(temp.path(), by(&clock)).unwrap();
        Trial::around(Arc::new(store), clock, Some(temp))
    };
    at_every_call(&ground, trial, break_at)
}

#[test]
fn stopping_a_collection_after_every_call_in_memory() {
    let calls = in_memory(stopped);
    assert!(calls > 20, "only {calls} calls were made: the fault was not where the collection is");
}

#[test]
fn stopping_a_collection_after_every_call_in_a_folder() {
    in_a_folder(stopped);
}

#[test]
fn losing_the_answer_of_every_call_of_a_collection() {
    in_memory(lost);
    in_a_folder(lost);
}

#[test]
fn failing_every_call_of_a_collection_once() {
    in_memory(failed_once);
}
