//! The power is cut at every moment of a history of pushes, a removal and a collection: the vault and the device's state
//! lie on a [`disk::Disk`], and what was not synced is gone, in part or whole.

mod disk;

use crate::collect::{by, clock, prune_on};
use crate::fixture::{Source, Tree, assert_same_as_disk};
use crate::killed::Sealed;
use backupengine_maintain::PruneConfig;
use backupengine_model::SessionNo;
use backupengine_model::ledger::Haste;
use backupengine_store::{FolderStore, Maintainable, Writable};
use backupengine_testkit::build::{Pusher, TestVault, VAULT};
use backupengine_testkit::shown::everything;
use backupengine_testkit::{FakeClock, Seeded, now};
use backupengine_tests::fuse_is_wanted;
use disk::{Cut, Disk, Moment};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Parts of what was not synced that are tried at each moment.
const PARTS: u64 = 3;
/// Of so many cuts one is gone on from, with a push and a collection.
const GONE_ON_FROM: usize = 12;

/// A vault in a folder of the disk, and the device that pushes into it.
struct Place {
    vault: TestVault,
    store: Arc<dyn Maintainable>,
    pusher: Pusher,
    state: PathBuf,
}

impl Place {
    fn open(disk: &Path, clock: &Arc<FakeClock>) -> Self {
        let store = FolderStore::open_by(&disk.join("vault"), by(clock)).unwrap();
        let store: Arc<dyn Maintainable> = Arc::new(store);
        let vault = TestVault::around(Arc::clone(&store) as Arc<dyn Writable>);
        let pusher = vault.pusher("laptop");
        Self { vault, store, pusher, state: disk.join("state") }
    }

    fn push(&self, source: &Source) -> SessionNo {
        let mut config = self.pusher.config(source.path());
        config.state.clone_from(&self.state);
        let report = self.pusher.push_with(config).unwrap_or_else(|e| panic!("the push failed: {e:?}"));
        report.snapshot.unwrap().0
    }

    fn prune(&self, random: &Seeded) {
        let config = PruneConfig { haste: Haste::Now, ..PruneConfig::default() };
        let pruned = prune_on(&self.vault, &self.store, &config, random);
        pruned.unwrap_or_else(|e| panic!("the collection failed: {e:?}"));
    }

    fn listed(&self) -> BTreeSet<SessionNo> {
        self.vault.reader().list().unwrap().iter().map(|s| s.session).collect()
    }
}

/// What was done, and what has to be there afterwards.
struct History {
    clock: Arc<FakeClock>,
    source: Source,
    shown: BTreeMap<SessionNo, Tree>,
    /// By how many things were done: the snapshots that are listed then.
    live: Vec<BTreeSet<SessionNo>>,
    moments: Vec<Moment>,
    sealed: Sealed,
}

fn history() -> History {
    let (clock, source, random) = (clock(), Source::small(41), Seeded::new(9));
    let disk = Disk::new();
    let folder = disk.path();
    let (mut shown, mut live, mut sealed) = (BTreeMap::new(), vec![BTreeSet::new()], Sealed::default());
    let mut done = |place: &Place| {
        live.push(place.listed());
        disk.done(live.len() - 1);
        sealed.look(&folder.join("vault"), &place.store);
    };
    FolderStore::create(&folder.join("vault"), VAULT).unwrap();
    let place = Place::open(&folder, &clock);
    done(&place);
    let mut push = |place: &Place| {
        source.change();
        let session = place.push(&source);
        let tree = everything(&place.vault.reader(), session).unwrap();
        assert_same_as_disk(&source.part_of(tree.clone()), source.path());
        shown.insert(session, tree);
        session
    };
    let first = push(&place);
    done(&place);
    for _ in 0..2 {
        push(&place);
        done(&place);
    }
    now(place.store.trash(&[first])).unwrap();
    done(&place);
    place.prune(&random);
    done(&place);
    push(&place);
    done(&place);
    place.prune(&random);
    done(&place);
    History { clock, source, shown, live, moments: disk.moments(), sealed }
}

impl History {
    /// The snapshots that must be there whatever was cut off: those that were told and that nobody removes.
    fn told(&self, done: usize) -> BTreeSet<SessionNo> {
        let next = self.live.get(done + 1).unwrap_or(&self.live[done]);
        self.live[done].intersection(next).copied().collect()
    }

    /// `None` where the power was cut before there was a vault.
    fn back(&self, moment: &Moment, cut: &Cut<'_>, disk: &Path) -> Option<Place> {
        moment.write_to(cut, disk);
        if moment.done == 0 && FolderStore::open(&disk.join("vault")).is_err() {
            return None;
        }
        let place = Place::open(disk, &self.clock);
        let listed = place.listed();
        assert!(
            self.told(moment.done).is_subset(&listed),
            "of {:?} {listed:?} is left",
            self.live[moment.done]
        );
        for session in listed {
            let tree = everything(&place.vault.reader(), session);
            let tree = tree.unwrap_or_else(|e| panic!("snapshot {session}: {e}"));
            assert!(tree == self.shown[&session], "snapshot {session} shows something else");
        }
        Some(place)
    }

    /// Pushes and collects after the cut.
    fn goes_on(&self, place: &Place, disk: &Path, random: &Seeded) {
        let mut sealed = self.sealed.elsewhere();
        self.source.change();
        self.source.move_back();
        let session = place.push(&self.source);
        let tree = everything(&place.vault.reader(), session).unwrap();
        assert_same_as_disk(&self.source.part_of(tree.clone()), self.source.path());
        sealed.look(&disk.join("vault"), &place.store);
        place.prune(random);
        sealed.look(&disk.join("vault"), &place.store);
        let reader = place.vault.reader();
        for left in place.listed() {
            let before = if left == session { &tree } else { &self.shown[&left] };
            assert!(everything(&reader, left).unwrap() == *before, "snapshot {left} changed");
        }
    }
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_that_was_told() {
    if !fuse_is_wanted() {
        return;
    }
    let (mut history, random) = (history(), Seeded::new(17));
    let moments = std::mem::take(&mut history.moments);
    let (mut cuts, mut gone_on) = (0, 0);
    for moment in &moments {
        let parts = (0..PARTS).map(|_| Cut::Some(&random));
        for cut in [Cut::Nothing, Cut::Everything].into_iter().chain(parts) {
            let disk = tempfile::tempdir().unwrap();
            cuts += 1;
            let Some(place) = history.back(moment, &cut, disk.path()) else { continue };
            if cuts % GONE_ON_FROM == 0 {
                history.goes_on(&place, disk.path(), &random);
                gone_on += 1;
            }
        }
    }
    let text = format!("{} moments, {cuts} cuts, gone on from {gone_on}\n", moments.len());
    std::io::stderr().write_all(text.as_bytes()).unwrap();
    assert!(cuts > 200 && gone_on > 10, "{text}");
}

#[test]
fn the_disk_forgets_what_was_not_synced() {
    if !fuse_is_wanted() {
        return;
    }
    let disk = Disk::new();
    let at = |name: &str| disk.path().join(name);
    std::fs::write(at("unsynced"), b"gone").unwrap();
    let synced = std::fs::File::create(at("synced")).unwrap();
    (&synced).write_all(b"stays").unwrap();
    synced.sync_all().unwrap();
    std::fs::File::open(disk.path()).unwrap().sync_all().unwrap();
    (&synced).write_all(b", and this does not").unwrap();
    std::fs::rename(at("synced"), at("renamed")).unwrap();
    disk.done(1);
    let moments = disk.moments();
    let after = |cut: &Cut<'_>| {
        let folder = tempfile::tempdir().unwrap();
        moments.last().unwrap().write_to(cut, folder.path());
        let read = |name: &str| std::fs::read(folder.path().join(name)).ok();
        [read("unsynced"), read("synced"), read("renamed")]
    };
    // The name was synced with the folder, the bytes were not.
    assert_eq!(after(&Cut::Nothing), [Some(Vec::new()), Some(b"stays".to_vec()), None]);
    let all = b"stays, and this does not".to_vec();
    assert_eq!(after(&Cut::Everything), [Some(b"gone".to_vec()), None, Some(all)]);
}
