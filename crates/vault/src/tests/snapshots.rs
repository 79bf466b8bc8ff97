//! The list of snapshots, and what it is rebuilt from.

use crate::fixture::{Counting, TreeWriter, World, file, now};
use backupengine_format::label;
use backupengine_format::root::RootRecord;
use backupengine_model::{DeviceId, NodeId, ReadFailure, SnapshotId, SnapshotInfo, Timestamp, TreeReader};
use backupengine_store::BlobKey;
use std::sync::Arc;

#[test]
fn a_list_is_one_call_and_then_answered_from_memory() {
    let mut world = World::new();
    for _ in 0..5 {
        world.push(TreeWriter::new([file("f", b"1")]));
    }
    let store = Arc::new(Counting::new(&world));
    let vault = world.open(store.clone());
    let before = store.count();
    let list = vault.snapshots().unwrap();
    assert_eq!((list.len(), store.count() - before), (5, 1));
    assert!(list.is_sorted_by_key(|snapshot| snapshot.created));
    assert_eq!((list[0].device_name.as_str(), list[0].tags[0].as_str()), ("laptop", "daily"));
    // While the version stands only the version is asked.
    assert!(Arc::ptr_eq(&vault.snapshots().unwrap(), &list));
    assert_eq!(store.calls.lock().unwrap().last().unwrap(), "version");
    let version = vault.version().unwrap();
    let session = world.push(TreeWriter::new([file("g", b"2")]));
    assert_ne!(vault.version().unwrap(), version);
    assert_eq!(vault.snapshots().unwrap().last().unwrap().session, session);
    // A new snapshot is also found by its number, before the list was asked again.
    let newer = world.push(TreeWriter::new([file("h", b"3")]));
    assert!(vault.lookup(NodeId::root(newer), b"h").unwrap().is_some());
}

#[test]
fn a_label_that_does_not_open_or_was_cut_is_taken_from_the_root() {
    let mut world = World::new();
    let mut draft = world.draft(TreeWriter::new([file("f", b"1")]));
    draft.label = Some(vec![7; 40]);
    world.commit(draft);
    let mut draft = world.draft(TreeWriter::new([file("f", b"1")]));
    draft.record.sources = (0..99).map(|n| format!("/a/long/path/of/a/source/{n}").into_bytes()).collect();
    world.commit(draft);
    let list = world.vault().snapshots().unwrap();
    assert_eq!(list[0].device_name, "laptop");
    assert_eq!(list[1].sources.len(), 99);
}

#[test]
fn an_owners_tags_count_whatever_the_root_says() {
    let mut world = World::new();
    let retagged = |world: &World, record: &RootRecord, tags: &[&str]| {
        let info = SnapshotInfo {
            session: record.session,
            id: SnapshotId([0; 8]),
            created: record.created,
            device: record.device,
            device_name: record.device_name.clone(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            sources: record.sources.clone(),
        };
        Some(world.keyring.seal_label(record.session, [3; 8], &label::encode(&info)))
    };
    let mut draft = world.draft(TreeWriter::new([file("f", b"1")]));
    draft.label = retagged(&world, &draft.record, &["other"]);
    world.commit(draft);
    // A label that was cut says it for all that; the sources are the root's.
    let mut draft = world.draft(TreeWriter::new([file("f", b"1")]));
    draft.record.sources = (0..99).map(|n| format!("/a/long/path/of/a/source/{n}").into_bytes()).collect();
    draft.label = retagged(&world, &draft.record, &[]);
    let session = world.commit(draft);
    let list = world.vault().snapshots().unwrap();
    assert_eq!((list[0].tags.as_slice(), list[1].tags.len()), (&["other".to_owned()][..], 0));
    assert_eq!(list[1].sources.len(), 99);
    // So it does where the ledger was rebuilt and got its label since.
    let mut store = Counting::new(&world);
    store.rewrite = Some(|list| {
        for record in list {
            record.device = DeviceId([0; 16]);
            record.created = Timestamp::default();
        }
    });
    let vault = world.open(Arc::new(store));
    let again = vault.snapshots().unwrap();
    assert_eq!((again.as_slice(), again[0].device), (list.as_slice(), world.device.id()));
    let listed = vault.listed().unwrap().snapshots;
    assert!(listed.iter().any(|record| record.session == session && !record.label.is_empty()));
}

#[test]
fn a_ledger_that_does_not_read_is_replaced_by_the_roots() {
    let mut world = World::new();
    let sessions: Vec<_> = (0..3).map(|_| world.push(TreeWriter::new([file("f", b"1")]))).collect();
    // A root that does not open is left out, and the others stay.
    let mut broken = world.blob(BlobKey::Root(sessions[1]));
    let at = broken.len() - 100;
    broken[at] ^= 1;
    let copy = world.copy();
    copy.replace(BlobKey::Root(sessions[1]), broken);
    let mut store = Counting::new(&copy);
    store.ledger_damaged = true;
    let vault = copy.open(Arc::new(store));
    let list = vault.snapshots().unwrap();
    let found: Vec<_> = list.iter().map(|snapshot| snapshot.session).collect();
    assert_eq!(found, [sessions[0], sessions[2]]);
    assert_eq!(list[0].sources, [b"/home/me"]);
    assert!(vault.lookup(NodeId::root(sessions[2]), b"f").unwrap().is_some());
    assert_eq!(vault.version().unwrap(), vault.version().unwrap());
    assert!(Arc::ptr_eq(&vault.snapshots().unwrap(), &list));
}

#[test]
fn a_rebuilt_ledger_is_filled_in_from_the_roots_once() {
    let mut world = World::new();
    let sessions: Vec<_> = (0..3).map(|_| world.push(TreeWriter::new([file("f", b"1")]))).collect();
    let floor = world.vault().check_floor(&crate::Floor::default()).unwrap();
    let mut store = Counting::new(&world);
    store.rewrite = Some(forget);
    let store = Arc::new(store);
    let vault = world.open(store.clone());
    let list = vault.snapshots().unwrap();
    assert_eq!(store.gets.lock().unwrap().len(), 3, "one call for each root");
    assert_eq!(*list, *world.vault().snapshots().unwrap());
    assert!(vault.lookup(NodeId::root(sessions[1]), b"f").unwrap().is_some());
    assert_eq!(vault.check_floor(&floor).unwrap(), floor);
    // The version moves: only the new root is fetched.
    let newer = world.push(TreeWriter::new([file("g", b"2")]));
    let before = store.gets.lock().unwrap().len();
    assert_eq!(vault.snapshots().unwrap().last().unwrap().session, newer);
    assert_eq!(store.gets.lock().unwrap().len() - before, 1);
}

#[test]
fn a_rebuilt_ledger_may_not_lie_about_ids_and_lists_what_does_not_read() {
    let mut world = World::new();
    let sessions: Vec<_> = (0..3).map(|_| world.push(TreeWriter::new([file("f", b"1")]))).collect();
    let mut store = Counting::new(&world);
    store.rewrite = Some(|list| {
        forget(list);
        list[0].id.0[0] ^= 1;
    });
    let vault = world.open(Arc::new(store));
    assert!(matches!(vault.root(sessions[0]), Err(crate::VaultError::Contradiction { .. })));
    assert!(vault.root(sessions[1]).is_ok());
    // A root that does not open keeps its line, hides no other and is nobody's in the check of the floor.
    let mut broken = world.blob(BlobKey::Root(sessions[0]));
    let at = broken.len() - 100;
    broken[at] ^= 1;
    let copy = world.copy();
    copy.replace(BlobKey::Root(sessions[0]), broken);
    let mut store = Counting::new(&copy);
    store.rewrite = Some(forget);
    let vault = copy.open(Arc::new(store));
    assert_eq!(vault.snapshots().unwrap().len(), 3);
    assert!(matches!(vault.root(sessions[0]), Err(crate::VaultError::Damaged { .. })));
    assert_eq!(vault.check_floor(&crate::Floor::default()).unwrap().seen.len(), 1);
}

fn forget(list: &mut Vec<backupengine_model::ledger::SnapshotRecord>) {
    for record in list {
        record.device = backupengine_model::DeviceId([0; 16]);
        record.created = backupengine_model::Timestamp::default();
        record.label.clear();
    }
}

#[test]
fn a_snapshot_that_was_removed_is_told_apart_from_a_damaged_one() {
    let mut world = World::new();
    let first = world.push(TreeWriter::new([file("f", b"1")]));
    let second = world.push(TreeWriter::new([file("f", b"1")]));
    let mut store = Counting::new(&world);
    store.rewrite = Some(|list| {
        // What a later answer of the ledger leaves out; see below.
        list.retain(|record| record.session.0 != 2 || list_is_young());
    });
    let vault = world.open(Arc::new(store));
    YOUNG.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(vault.snapshots().unwrap().len(), 2);
    YOUNG.store(false, std::sync::atomic::Ordering::Relaxed);
    let third = world.push(TreeWriter::new([file("f", b"1")]));
    assert_eq!(vault.snapshots().unwrap().len(), 2);
    assert_eq!(vault.node(NodeId::root(second)).unwrap_err().failure, ReadFailure::Gone);
    assert!(vault.node(NodeId::root(first)).is_ok() && vault.node(NodeId::root(third)).is_ok());
}

static YOUNG: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(true);

fn list_is_young() -> bool {
    YOUNG.load(std::sync::atomic::Ordering::Relaxed)
}

#[test]
fn the_size_of_a_vault_is_the_stores_word() {
    let mut world = World::new();
    world.push(TreeWriter::new([file("f", b"1")]));
    let size = world.vault().vault_size().unwrap();
    assert_eq!(size, now(backupengine_store::LedgerReader::space(&world.store)).unwrap().0);
    assert!(size > 0);
}
