//! Repair after a collection, before one, and beside pushes: what was healed stays healed, and what was moved before can
//! be healed, too.

use crate::fixture::{Base, checked};
use crate::matrix::{Action, delete, empty, flip, truncate};
use crate::repair::{assert_whole, lost, no_state, repair, repair_as};
use crate::targets::{Kind, Target};
use backupengine_maintain::{PruneConfig, PruneReport, prune};
use backupengine_model::ledger::{Haste, SessionKind};
use backupengine_model::{DeviceId, SessionNo};
use backupengine_push::{PushError, note_lost};
use backupengine_store::{BlobKey, ErrorKind, FolderStore, Keeper, LedgerReader, Writable};
use backupengine_testkit::build::Unwatched;
use backupengine_testkit::faulty::{Fault, When};
use backupengine_testkit::oracle::sample;
use backupengine_testkit::{Faulty, now};
use std::fs;
use std::path::Path;
use std::sync::Arc;

fn pruned(base: &Base, folder: &Path) -> PruneReport {
    let store = FolderStore::open(folder).unwrap();
    let config = PruneConfig { haste: Haste::Now, ..PruneConfig::default() };
    let random = |out: &mut [u8]| base.pusher.random.fill(out);
    let device = base.pusher.device.key.id();
    prune(&base.reader_on(folder).unwrap(), &store, device, &config, &random).unwrap()
}

/// A vault in which most of the first pack was forgotten, and what is needed of it was copied.
fn compacted() -> Base {
    let mut base = Base::pushed(&[|at| {
        fs::write(at.join("large"), sample::bytes(3, 4 << 20)).unwrap();
        fs::write(at.join("text"), "another text ".repeat(60_000)).unwrap();
    }]);
    let folder = base.vault.folder().unwrap();
    let store = FolderStore::open(&folder).unwrap();
    let first = base.sessions.remove(0);
    now(store.trash(&[first])).unwrap();
    base.shown.remove(&first);
    let report = pruned(&base, &folder);
    assert!(report.moved.0 > 0 && report.deleted.0 > 0, "{report:?}");
    base
}

/// The relocation packs there are.
fn relocations(folder: &Path) -> Vec<BlobKey> {
    let list = now(FolderStore::open(folder).unwrap().sessions()).unwrap();
    let packs = list.iter().filter(|record| record.kind != SessionKind::Push);
    packs.flat_map(|record| (0..record.packs).map(|number| BlobKey::Pack(record.session, number))).collect()
}

#[test]
fn a_relocation_pack_is_healed_as_any_other() {
    let base = compacted();
    let name = relocations(&base.vault.folder().unwrap())[0].to_string();
    let len = fs::metadata(base.vault.folder().unwrap().join(&name)).unwrap().len() as usize;
    // Frames, then footer, forwarding table and trailer at the end.
    let places = [
        ("frames", 0..2000),
        ("ends", len - 700..len),
        ("table", len - 300..len - 64),
        ("trailer", len - 64..len),
    ];
    let actions: [(&str, Action); 4] =
        [("flip", flip), ("truncate", truncate), ("empty", empty), ("delete", delete)];
    for (act, action) in actions {
        for (place, range) in places.clone() {
            let case = format!("{act} {place}");
            let copy = base.copy();
            let target = Target { kind: Kind::Data, name: name.clone(), range, newest: false };
            action(&base, copy.path(), &target);
            let done = repair(&base, copy.path(), base.pusher.state(), &[]);
            assert_whole(&base, copy.path(), &done, &case);
            // A flip may have hit filler.
            assert!(done.stats.packs_healed > 0 || act == "flip", "{case}: {done:#?}");
        }
    }
}

#[test]
fn a_rebuilt_ledger_knows_where_packs_were_moved() {
    let base = compacted();
    let copy = base.copy();
    fs::remove_file(copy.path().join("ledger")).unwrap();
    let done = repair(&base, copy.path(), no_state().path(), &[]);
    assert!(done.ledger.adopted.moved > 0, "{done:#?}");
    assert_whole(&base, copy.path(), &done, "moved");
}

/// What was healed is whole after collections, and the damaged blob goes in its time.
#[test]
fn a_collection_keeps_what_was_healed() {
    let base = Base::growing();
    let copy = base.copy();
    let pack = BlobKey::Pack(base.sessions[0], 0).to_string();
    let path = copy.path().join(&pack);
    let target = Target { kind: Kind::Data, name: pack, range: 0..900, newest: false };
    flip(&base, copy.path(), &target);
    let done = repair(&base, copy.path(), base.pusher.state(), &[]);
    assert_whole(&base, copy.path(), &done, "healed");
    assert!(path.exists(), "a repair deletes nothing");
    for _ in 0..2 {
        pruned(&base, copy.path());
        let lost = lost(&base, copy.path(), "after a collection");
        assert!(lost.values().all(Vec::is_empty), "{lost:?}");
        assert!(checked(&base.reader_on(copy.path()).unwrap()).findings.is_empty());
    }
    assert!(!path.exists(), "nobody needs it any more");
}

/// What could not be healed may come back: the old blob stays.
#[test]
fn a_collection_leaves_what_was_healed_in_part() {
    let base = Base::new();
    let copy = base.copy();
    let pack = BlobKey::Pack(base.sessions[0], 0).to_string();
    let path = copy.path().join(&pack);
    let whole = fs::read(&path).unwrap();
    let target = Target { kind: Kind::Data, name: pack, range: 0..whole.len(), newest: false };
    truncate(&base, copy.path(), &target);
    let done = repair(&base, copy.path(), base.pusher.state(), &[]);
    assert!(done.stats.packs_healed == 1 && done.stats.frames_lost > 0, "{done:#?}");
    pruned(&base, copy.path());
    assert!(path.exists());
    fs::write(&path, whole).unwrap();
    let lost = lost(&base, copy.path(), "it came back");
    assert!(lost.values().all(Vec::is_empty), "{lost:?}");
    pruned(&base, copy.path());
    assert!(path.exists(), "all of it is needed");
}

/// A push that knew the pack before is told, and the next one goes on.
#[test]
fn a_push_that_was_under_way_does_not_undo_it() {
    let base = Base::growing();
    let copy = base.copy();
    let store: Arc<dyn Writable> = Arc::new(FolderStore::open(copy.path()).unwrap());
    fs::remove_file(copy.path().join(BlobKey::Pack(base.sessions[0], 0).to_string())).unwrap();
    fs::write(base.source.path().join("one more"), sample::bytes(9, 50_000)).unwrap();
    let push = |store: &Arc<dyn Writable>| {
        base.pusher.push_to(store, base.pusher.config(base.source.path()), &Unwatched)
    };
    // All of it is stored but its root; then comes the repair.
    let session = SessionNo(now(store.sessions()).unwrap().last().unwrap().session.0 + 1);
    let full = Fault::Refuse(ErrorKind::Full);
    let broken = Faulty::new(Arc::clone(&store)).with(When::Blob(BlobKey::Root(session)), full);
    let broken: Arc<dyn Writable> = Arc::new(broken);
    assert!(push(&broken).is_err());
    // By another device: the push would not go on in a session that is older than one of its own.
    let done = repair_as(&base, DeviceId([7; 16]), copy.path(), base.pusher.state(), &[]);
    assert!(done.after.findings.is_empty() && done.stats.packs_healed == 1, "{done:#?}");
    match push(&store) {
        Err(PushError::Healed { session, number }) => assert_eq!((session, number), (base.sessions[0], 0)),
        other => panic!("{other:?}"),
    }
    let lost = lost(&base, copy.path(), "after the push");
    assert!(lost.values().all(Vec::is_empty), "{lost:?}");
    let again = push(&store).unwrap().snapshot.unwrap();
    assert!(again.0 > session, "it begins anew");
    assert!(checked(&base.reader_on(copy.path()).unwrap()).findings.is_empty());
}

/// A push that is told what is lost stores it again: its own snapshot is whole, whatever becomes of the older ones.
#[test]
fn a_push_takes_nothing_for_stored_that_a_check_found_lost() {
    let base = Base::growing();
    let copy = base.copy();
    let store: Arc<dyn Writable> = Arc::new(FolderStore::open(copy.path()).unwrap());
    fs::remove_file(copy.path().join(BlobKey::Pack(base.sessions[0], 0).to_string())).unwrap();
    let vault = base.vault.keyring.vault();
    note_lost(base.pusher.state(), vault, [(base.sessions[0], 0, None)], true).unwrap();
    let pushed = base.pusher.push_to(&store, base.pusher.config(base.source.path()), &Unwatched).unwrap();
    let (session, _) = pushed.snapshot.unwrap();
    let findings = checked(&base.reader_on(copy.path()).unwrap()).findings;
    assert!(!findings.is_empty());
    let harmed: Vec<SessionNo> =
        findings.iter().flat_map(|finding| &finding.affected).map(|affected| affected.session).collect();
    assert!(harmed.contains(&base.sessions[0]) && !harmed.contains(&session), "{findings:#?}");
}
