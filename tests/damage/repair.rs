//! Action × kind of blob, then `repair`: with the source still on disk every snapshot is again what was pushed; without,
//! what is not healed is named, and nothing else is lost.

use crate::fixture::{Base, checked, names, text};
use crate::matrix::{Action, delete, empty, flip, truncate, zero};
use crate::targets::{Kind, Target, targets};
use backupengine_maintain::{
    CheckReport, HealStats, Object, RebuiltLedger, RepairConfig, RepairObserver, heal, rebuild_ledger,
};
use backupengine_model::{DeviceId, SessionNo, TreeReader};
use backupengine_push::{IndexState, LiveRemains, mend_index};
use backupengine_source::WalkConfig;
use backupengine_store::{FolderStore, LedgerReader};
use backupengine_testkit::now;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// What a repair came to.
#[derive(Debug)]
pub(crate) struct Repaired {
    pub(crate) ledger: RebuiltLedger,
    pub(crate) stats: HealStats,
    /// A whole check afterwards.
    pub(crate) after: CheckReport,
}

struct Quiet;
impl RepairObserver for Quiet {}

/// Repairs a copy of the vault from what a state folder has and, where they are given, from these folders.
pub(crate) fn repair(base: &Base, folder: &Path, state: &Path, search: &[&Path]) -> Repaired {
    repair_as(base, base.pusher.device.key.id(), folder, state, search)
}

/// The same, as another device.
pub(crate) fn repair_as(
    base: &Base,
    device: DeviceId,
    folder: &Path,
    state: &Path,
    search: &[&Path],
) -> Repaired {
    let store = FolderStore::open(folder).unwrap();
    let random = |out: &mut [u8]| base.pusher.random.fill(out);
    let ledger = rebuild_ledger(&base.reader_on(folder).unwrap(), &store, &random, false).unwrap();
    let reader = base.reader_on(folder).unwrap();
    let findings = checked(&reader).findings;
    let roots: Vec<PathBuf> = search.iter().map(|path| path.canonicalize().unwrap()).collect();
    let walk = WalkConfig { roots, ..WalkConfig::default() };
    let remains = LiveRemains::open(state, &base.vault.keyring, walk);
    let config = RepairConfig { device, remains: &remains, folder: Some(&store), dry_run: false };
    let stop = AtomicBool::new(false);
    let stats = heal(&reader, &store, &findings, &config, &random, &stop, &Quiet).unwrap();
    let after = checked(&base.reader_on(folder).unwrap());
    Repaired { ledger, stats, after }
}

/// A state folder that no push has used.
pub(crate) fn no_state() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

pub(crate) fn lost(base: &Base, folder: &Path, case: &str) -> BTreeMap<SessionNo, Vec<Vec<u8>>> {
    base.lost(&base.reader_on(folder).unwrap(), case)
}

/// All snapshots are listed, nothing is wrong or lost, and a check finds nothing.
pub(crate) fn assert_whole(base: &Base, folder: &Path, done: &Repaired, case: &str) {
    let listed = base.reader_on(folder).unwrap().snapshots().unwrap();
    let sessions: Vec<SessionNo> = listed.iter().map(|info| info.session).collect();
    assert_eq!(sessions, base.sessions, "{case}");
    let lost = lost(base, folder, case);
    assert!(lost.values().all(Vec::is_empty), "{case}: {done:#?}");
    assert!(done.after.findings.is_empty(), "{case}: {done:#?}");
}

/// What cannot be read is named, what is named cannot be read, and there is no more of it than before.
fn assert_listed(
    base: &Base,
    folder: &Path,
    before: &BTreeMap<SessionNo, Vec<Vec<u8>>>,
    done: &Repaired,
    case: &str,
) {
    let findings = &done.after.findings;
    let after = lost(base, folder, case);
    for (session, paths) in &after {
        for path in paths {
            assert!(names(findings, *session, path), "{case}: {} of {session} is not named", text(path));
            assert!(before[session].contains(path), "{case}: {} of {session} was there before", text(path));
        }
    }
    for affected in findings.iter().flat_map(|finding| &finding.affected).filter(|a| a.to.is_none()) {
        let really = after.get(&affected.session).is_some_and(|paths| paths.contains(&affected.path));
        assert!(really, "{case}: {affected} can be read");
    }
}

/// Of each kind one in the newest session and one that older snapshots share.
fn some(base: &Base) -> Vec<Target> {
    let mut hit = BTreeSet::new();
    let kinds = |target: &Target| !matches!(target.kind, Kind::Marker);
    targets(base)
        .into_iter()
        .filter(kinds)
        .filter(|target| hit.insert((target.kind, target.newest)))
        .collect()
}

/// The source is there, and so is what this device kept: everything comes back, but for secrets.
fn with_everything(name: &str, action: Action) {
    let base = Base::growing();
    let mut healed = 0;
    for target in some(&base) {
        let case = format!("{name} {:?} {}", target.kind, target.name);
        let copy = base.copy();
        action(&base, copy.path(), &target);
        let done = repair(&base, copy.path(), base.pusher.state(), &[]);
        if target.kind == Kind::Envelope {
            let secrets = |object: &Object| matches!(object, Object::Envelope(_) | Object::Envelopes);
            let findings = &done.after.findings;
            assert!(!findings.is_empty() && findings.iter().all(|f| secrets(&f.object)), "{case}: {done:#?}");
            assert!(lost(&base, copy.path(), &case).values().all(Vec::is_empty), "{case}");
            continue;
        }
        assert_whole(&base, copy.path(), &done, &case);
        let what = match target.kind {
            Kind::Ledger => u64::from(done.ledger.was_lost),
            Kind::RootRecord | Kind::RootTrailer | Kind::ReferenceSet => done.stats.roots_restored,
            _ => done.stats.packs_healed,
        };
        assert_eq!(what, 1, "{case}: {done:#?}");
        healed += 1;
        // A second one has nothing to do.
        let again = repair(&base, copy.path(), base.pusher.state(), &[]);
        assert_eq!(again.stats, HealStats::default(), "{case}");
        assert!(again.ledger.is_unchanged(), "{case}");
    }
    assert!(healed >= 12, "only {healed} were healed");
}

/// Another device, or one that lost its state: what is left of the blob and its footer decides, and all else is named.
fn with_the_source_alone(name: &str, action: Action) {
    let base = Base::new();
    for target in some(&base) {
        let case = format!("{name} {:?} {}", target.kind, target.name);
        let copy = base.copy();
        action(&base, copy.path(), &target);
        let before = lost(&base, copy.path(), &case);
        let done = repair(&base, copy.path(), no_state().path(), &[base.source.path()]);
        assert_listed(&base, copy.path(), &before, &done, &case);
        let is_whole = match target.kind {
            Kind::Ledger => true,
            // Nothing but these was hit, and nobody needs them.
            Kind::Footer => matches!(name, "flip"),
            Kind::Trailer => matches!(name, "flip" | "truncate"),
            _ => false,
        };
        if is_whole {
            assert_whole(&base, copy.path(), &done, &case);
        }
    }
}

#[test]
fn a_flipped_bit() {
    with_everything("flip", flip);
    with_the_source_alone("flip", flip);
}

#[test]
fn a_truncated_blob() {
    with_everything("truncate", truncate);
    with_the_source_alone("truncate", truncate);
}

#[test]
fn an_emptied_blob() {
    with_everything("empty", empty);
    with_the_source_alone("empty", empty);
}

#[test]
fn four_kibibytes_of_zeros() {
    with_everything("zero", zero);
    with_the_source_alone("zero", zero);
}

#[test]
fn a_deleted_blob() {
    with_everything("delete", delete);
    with_the_source_alone("delete", delete);
}

/// All packs of all sessions at once, and the ledger.
#[test]
fn everything_but_the_roots_is_lost() {
    let base = Base::growing();
    let copy = base.copy();
    fs::remove_dir_all(copy.path().join("p")).unwrap();
    fs::create_dir(copy.path().join("p")).unwrap();
    fs::remove_file(copy.path().join("ledger")).unwrap();
    let done = repair(&base, copy.path(), base.pusher.state(), &[]);
    assert!(done.ledger.was_lost && done.stats.packs_healed >= 3, "{done:#?}");
    assert_whole(&base, copy.path(), &done, "all packs");
}

/// Files that changed since are not healed, and not taken for what they were.
#[test]
fn what_changed_since_is_named_and_the_rest_is_healed() {
    let base = Base::new();
    let copy = base.copy();
    let first = base.sessions[0];
    fs::remove_dir_all(copy.path().join("p").join(first.to_string())).unwrap();
    let before = lost(&base, copy.path(), "before");
    let done = repair(&base, copy.path(), base.pusher.state(), &[]);
    assert_listed(&base, copy.path(), &before, &done, "a pack");
    let after = lost(&base, copy.path(), "after");
    let path = |name: &str| base.source.path().join(name).into_os_string().into_encoded_bytes();
    for gone in ["large", "notes/same", "notes/5"] {
        assert!(after[&first].contains(&path(gone)), "{gone} is not there any more: {after:?}");
    }
    // What shares a frame with a file that is gone goes with it; no more does.
    for there in ["text", "sparse", "link", "notes/400"] {
        assert!(!after[&first].contains(&path(there)), "{there}: {done:#?}");
    }
    assert!(
        after[&first].len() * 4 < before[&first].len(),
        "{} of {}",
        after[&first].len(),
        before[&first].len()
    );
    assert!(done.stats.frames_lost > 0 && done.stats.frames_from_files > 0 && done.stats.frames_kept > 0);
    // The file comes back: the next repair finds it.
    let backup = tempfile::tempdir().unwrap();
    let large = backupengine_testkit::oracle::sample::bytes(1, 1_500_000);
    fs::write(backup.path().join("an old copy"), large).unwrap();
    let done = repair(&base, copy.path(), base.pusher.state(), &[backup.path()]);
    let now = lost(&base, copy.path(), "with an old copy");
    assert!(done.stats.frames_from_files > 0, "{done:#?}");
    assert!(now[&first].len() < after[&first].len());
    assert_listed(&base, copy.path(), &after, &done, "with an old copy");
}

/// The folder was moved: found by content, wherever it is.
#[test]
fn files_that_moved_are_found_in_the_folders_that_are_named() {
    let base = Base::growing();
    let copy = base.copy();
    fs::remove_dir_all(copy.path().join("p")).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let moved = elsewhere.path().join("moved");
    fs::create_dir(&moved).unwrap();
    for entry in fs::read_dir(base.source.path()).unwrap().map(Result::unwrap) {
        fs::rename(entry.path(), moved.join(entry.file_name())).unwrap();
    }
    let done = repair(&base, copy.path(), base.pusher.state(), &[]);
    assert!(!done.after.findings.is_empty() && done.stats.frames_from_files == 0, "{done:#?}");
    let done = repair(&base, copy.path(), base.pusher.state(), &[elsewhere.path()]);
    assert!(done.stats.frames_from_files > 0);
    assert_whole(&base, copy.path(), &done, "moved");
}

/// Same name, size and time, other bytes: never what the snapshot held.
#[test]
fn a_file_that_only_looks_the_same_is_not_believed() {
    let base = Base::growing();
    let copy = base.copy();
    fs::remove_dir_all(copy.path().join("p")).unwrap();
    let mut files = 0;
    for name in ["large", "text", "notes/400", "notes/12", "notes/7"] {
        let path = base.source.path().join(name);
        let modified = path.metadata().unwrap().modified().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, bytes).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        files += 1;
    }
    // The base holds what was pushed; a reader may not show what is there now.
    let done = repair(&base, copy.path(), base.pusher.state(), &[base.source.path()]);
    let after = lost(&base, copy.path(), "looks the same");
    let first = &after[&base.sessions[0]];
    assert!(first.len() >= files, "{first:?}");
    for name in ["large", "text", "notes/400", "notes/12", "notes/7"] {
        let path = base.source.path().join(name).into_os_string().into_encoded_bytes();
        assert!(first.contains(&path), "{name}");
        assert!(names(&done.after.findings, base.sessions[0], &path), "{name}");
    }
}

/// A dedup index that is damaged gives what still reads; a damaged one is dropped, and the next push makes it anew.
#[test]
fn the_index_of_this_device_is_damaged_too() {
    let base = Base::growing();
    let index = fs::read_dir(base.pusher.state()).unwrap().map(|entry| entry.unwrap().path());
    let index = index.into_iter().find(|path| path.to_string_lossy().contains("dedup-")).unwrap();
    assert_eq!(mend_index(base.pusher.state(), &base.vault.keyring), IndexState::Whole);
    for entry in fs::read_dir(&index).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.extension().is_some_and(|end| end == "seg") {
            let mut bytes = fs::read(&entry).unwrap();
            bytes[40] ^= 1;
            fs::write(&entry, bytes).unwrap();
        }
    }
    let copy = base.copy();
    let target = some(&base).into_iter().find(|target| target.kind == Kind::Data).unwrap();
    flip(&base, copy.path(), &target);
    let before = lost(&base, copy.path(), "index");
    let done = repair(&base, copy.path(), base.pusher.state(), &[]);
    assert_listed(&base, copy.path(), &before, &done, "index");
    assert_eq!(mend_index(base.pusher.state(), &base.vault.keyring), IndexState::Dropped);
    fs::write(base.source.path().join("another"), [7; 9000]).unwrap();
    base.pusher.push(base.source.path());
    assert_eq!(mend_index(base.pusher.state(), &base.vault.keyring), IndexState::Whole);
}

/// What the ledger alone knew is gone; what it still knows when an older one is put back stays.
#[test]
fn a_ledger_is_rebuilt_from_the_roots() {
    let base = Base::growing();
    let folder = base.copy();
    fs::write(folder.path().join("ledger"), &base.old_ledger).unwrap();
    let done = repair(&base, folder.path(), no_state().path(), &[]);
    assert!(!done.ledger.was_lost && done.ledger.adopted.snapshots == 1, "{done:#?}");
    assert_whole(&base, folder.path(), &done, "an old ledger");

    let folder = base.copy();
    let mut bytes = fs::read(folder.path().join("ledger")).unwrap();
    bytes[30] ^= 1;
    fs::write(folder.path().join("ledger"), &bytes).unwrap();
    let done = repair(&base, folder.path(), no_state().path(), &[]);
    assert!(done.ledger.was_lost && done.ledger.adopted.snapshots == 3, "{done:#?}");
    assert_whole(&base, folder.path(), &done, "a damaged ledger");
    assert_eq!(fs::read(folder.path().join("ledger.damaged")).unwrap(), bytes, "it is put aside");
    // Lists say all they said, and pushes go on.
    let before = base.vault.reader().snapshots().unwrap();
    assert_eq!(base.reader_on(folder.path()).unwrap().snapshots().unwrap(), before);
    let store = FolderStore::open(folder.path()).unwrap();
    let last = now(store.sessions()).unwrap().last().unwrap().session;
    let shared: std::sync::Arc<dyn backupengine_store::Writable> = std::sync::Arc::new(store);
    let config = base.pusher.config(base.source.path());
    let pushed = base.pusher.push_to(&shared, config, &backupengine_testkit::build::Unwatched).unwrap();
    assert!(pushed.snapshot.unwrap().0 > last, "numbers are not given twice");
    assert!(checked(&base.reader_on(folder.path()).unwrap()).findings.is_empty());
}
