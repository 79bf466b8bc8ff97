//! Restore gives back what was pushed, and what is on the disk already does no harm.

use crate::change::history;
use crate::world::{LENIENT, World, disk_differences, odd_tree};
use backupengine_model::SessionNo;
use backupengine_restore::{
    Destination, Failure, Observer, Overwrite, RestoreConfig, RestoreReport, RestoreStats, Selection, restore,
};
use backupengine_testkit::build::TestVault;
use backupengine_testkit::oracle::{Leniency, sample::path};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngSeed, TestRunner};
use std::path::Path;
use std::sync::atomic::AtomicBool;

struct Unwatched;

impl Observer for Unwatched {
    fn progress(&self, _stats: &RestoreStats, _current: &Path) {}
    fn failure(&self, _failure: &Failure) {}
}

/// Restores the pushed folder of one snapshot into `target`.
fn bring_back(world: &World, session: SessionNo, target: &Path, config: &RestoreConfig) -> RestoreReport {
    let vault = world.vault.reader();
    let selection = Selection { session, path: world.source_path() };
    let destination = Destination::Into(target.to_owned());
    let stop = AtomicBool::new(false);
    let report = restore(&vault, &vault, &[selection], &destination, config, &stop, &Unwatched).unwrap();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    report
}

/// Restored folders have the times they had; only their sizes are the disk's own.
const RESTORED: Leniency = LENIENT;

#[test]
fn every_oddity_is_restored_and_restoring_again_changes_nothing() {
    let mut world = World::new(TestVault::in_folder());
    world.tree = odd_tree();
    let session = world.push();
    let target = world.scratch("target");
    let verify = RestoreConfig { verify: true, ..RestoreConfig::default() };
    bring_back(&world, session, &target, &verify);
    let at = target.join("source");
    assert_eq!(disk_differences(&world.tree, &at, RESTORED), [""; 0]);
    times_of_folders_agree(&world.source(), &at);
    let again = bring_back(&world, session, &target, &RestoreConfig::default());
    assert_eq!(disk_differences(&world.tree, &at, RESTORED), [""; 0]);
    assert_eq!(again.stats.bytes_written, 0, "{:?}", again.stats);
}

/// Every folder below `a` has the same time of modification in `b`.
fn times_of_folders_agree(a: &Path, b: &Path) {
    use std::os::unix::fs::MetadataExt;
    let mut open = vec![std::path::PathBuf::new()];
    while let Some(at) = open.pop() {
        let (x, y) = (std::fs::metadata(a.join(&at)).unwrap(), std::fs::metadata(b.join(&at)).unwrap());
        assert_eq!((x.mtime(), x.mtime_nsec()), (y.mtime(), y.mtime_nsec()), "{}", at.display());
        for entry in std::fs::read_dir(a.join(&at)).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                open.push(at.join(entry.file_name()));
            }
        }
    }
}

#[test]
fn random_histories_are_restored() {
    let config =
        Config { rng_seed: RngSeed::Fixed(0x0e57_04ed), failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    for _ in 0..4 {
        let rounds = history().new_tree(&mut runner).unwrap().current();
        let mut world = World::new(TestVault::in_memory());
        let mut trees = Vec::new();
        for round in &rounds {
            round.iter().for_each(|change| change.apply(&mut world.tree));
            trees.push((world.push(), world.tree.clone()));
        }
        for (n, (session, tree)) in trees.iter().enumerate() {
            let target = world.scratch(&format!("target {n}"));
            bring_back(&world, *session, &target, &RestoreConfig::default());
            assert_eq!(disk_differences(tree, &target.join("source"), RESTORED), [""; 0]);
        }
    }
}

#[test]
fn what_is_on_the_disk_already_is_brought_to_the_snapshot() {
    let mut world = World::new(TestVault::in_memory());
    world.tree = odd_tree();
    let session = world.push();
    let target = world.scratch("target");
    bring_back(&world, session, &target, &RestoreConfig::default());
    let at = target.join("source");
    // Changed, gone, of another kind.
    std::fs::write(at.join("sizes/4096"), b"other").unwrap();
    std::fs::remove_file(at.join("links/below/third")).unwrap();
    std::fs::remove_file(at.join("kinds/fifo")).unwrap();
    std::fs::create_dir(at.join("kinds/fifo")).unwrap();
    std::fs::remove_dir(at.join("times/directory")).unwrap();
    std::os::unix::fs::symlink("/nowhere", at.join("times/directory")).unwrap();
    let keep = RestoreConfig { overwrite: Overwrite::Never, ..RestoreConfig::default() };
    let vault = world.vault.reader();
    let selection = Selection { session, path: world.source_path() };
    let stop = AtomicBool::new(false);
    let into = Destination::Into(target.clone());
    restore(&vault, &vault, &[selection], &into, &keep, &stop, &Unwatched).unwrap();
    assert_eq!(std::fs::read(at.join("sizes/4096")).unwrap(), b"other");
    assert!(at.join("links/below/third").exists());
    bring_back(&world, session, &target, &RestoreConfig::default());
    assert_eq!(disk_differences(&world.tree, &at, RESTORED), [""; 0]);
}

#[test]
fn one_file_and_one_folder_can_be_chosen() {
    let mut world = World::new(TestVault::in_memory());
    world.tree = odd_tree();
    let session = world.push();
    let target = world.scratch("target");
    let below = |name: &str| {
        let mut at = world.source_path();
        path(name).components().for_each(|part| at.push(part));
        Selection { session, path: at }
    };
    let vault = world.vault.reader();
    let (stop, into) = (AtomicBool::new(false), Destination::Into(target.clone()));
    let chosen = [below("sizes/131072"), below("order")];
    restore(&vault, &vault, &chosen, &into, &RestoreConfig::default(), &stop, &Unwatched).unwrap();
    assert_eq!(
        std::fs::read(target.join("131072")).unwrap(),
        std::fs::read(world.source().join("sizes/131072")).unwrap()
    );
    let order = backupengine_testkit::oracle::disk::differences(
        &world.tree,
        &path("order"),
        &target.join("order"),
        RESTORED,
    );
    assert_eq!(order, [""; 0]);
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 2);
}
